"""Runs as graphs: ONNX and OpenVINO folders that give what the run gives, at any number and length of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quincunx import Run, train
from quincunx.errors import DataError, UsageError
from quincunx.exporting import export_run
from quincunx.recipes.retrieval.encode import Encoder
from quincunx.recipes.retrieval.written import ExportError, check_near, new_folder
from recipes.retrieval.collections_made import config_of, write_collection

pytest.importorskip("onnxruntime")
TEXTS = ["tell7y1 tell7y2 tell7y3 n3", "ask1x1 " * 60, "x"]
SMALL = {"budget__epochs": 1, "encoder__tokenizer": {"vocabulary": 400}}
RUNS: dict[str, dict[str, object]] = {
    "bi": {"document__prompt": "text: ", "query__max_length": 9},
    "poly": {"mode": "poly-encoder", "poly__codes": 3, "encoder__projection": 8},
    "cross": {"mode": "cross-encoder"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    data = write_collection(folder / "data", train=48, test=12)
    for name, more in RUNS.items():
        train(config_of(data, folder / name, folder / "cache", **SMALL, **more))
        export_run(folder / name, folder / f"{name}-onnx", format="onnx")
    return folder


def graph(folder: Path, side: str, texts: list[str]) -> np.ndarray:
    """What onnxruntime makes of texts, by nothing but the folder."""
    import onnxruntime
    from transformers import AutoTokenizer

    facts = json.loads((folder / "export.json").read_text())["sides"][side]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder / facts["tokenizer"])
    prompted = [facts["prompt"] + text for text in texts]
    tokens = tokenizer(prompted, truncation=True, max_length=facts["max_length"], padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(str(folder / facts["file"]))
    return np.asarray(session.run(None, {name: tokens[name] for name in facts["inputs"]})[0])


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_bi_encoder(made: Path, side: str, count: int) -> None:
    wanted = Encoder.load(made / "bi", precision="float32").encode(TEXTS[:count], side=side)
    np.testing.assert_allclose(graph(made / "bi-onnx", side, TEXTS[:count]), wanted, atol=1e-5)


@pytest.mark.parametrize("side", ["query", "document"])
def test_a_poly_encoder(made: Path, side: str) -> None:
    wanted = Encoder.load(made / "poly", precision="float32").encode(TEXTS, side=side)
    found = graph(made / "poly-onnx", side, TEXTS)
    assert found.shape == ((3, 3, 8) if side == "query" else (3, 8))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_cross_encoder(made: Path) -> None:
    import onnxruntime
    from transformers import AutoTokenizer

    wanted = Run(made / "cross").predict([{"query": "ask1x1", "documents": TEXTS}])[0]["scores"]
    facts = json.loads((made / "cross-onnx" / "export.json").read_text())
    tokenizer: Any = AutoTokenizer.from_pretrained(made / "cross-onnx")
    tokens = tokenizer(
        ["ask1x1"] * 3, TEXTS, truncation=True, max_length=facts["max_length"], padding=True, return_tensors="np"
    )
    session = onnxruntime.InferenceSession(str(made / "cross-onnx" / facts["file"]))
    np.testing.assert_allclose(
        session.run(None, {name: tokens[name] for name in facts["inputs"]})[0], wanted, atol=1e-5
    )


def test_openvino(made: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    from transformers import AutoTokenizer

    (note, _) = export_run(made / "bi", tmp_path / "out", format="openvino")
    assert note.startswith("query: by openvino vectors lie within")
    facts = json.loads((tmp_path / "out" / "export.json").read_text())["sides"]["document"]
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out" / facts["tokenizer"])
    prompted = [facts["prompt"] + text for text in TEXTS]
    tokens = tokenizer(prompted, truncation=True, max_length=facts["max_length"], padding=True, return_tensors="np")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(tmp_path / "out" / facts["file"]), "CPU", exact)
    found = model({name: tokens[name] for name in facts["inputs"]})[0]
    wanted = Encoder.load(made / "bi", precision="float32").encode(TEXTS)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_graph_that_gives_something_else_is_not_kept(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The tolerance acts: no graph adds in torch's order to the last digit."""
    from quincunx.recipes.retrieval.export import graphs

    monkeypatch.setattr(graphs, "TOLERANCE", 1e-12)
    with pytest.raises(ExportError, match=r"more than 1e-12; nothing was kept"):
        export_run(made / "bi", tmp_path / "out", format="onnx")
    assert not list(tmp_path.iterdir())


def test_8_bits_say_what_they_change(made: Path, tmp_path: Path) -> None:
    notes = export_run(
        made / "bi", tmp_path / "out", format="onnx", int8=True, corpus=str(made / "data" / "corpus.jsonl")
    )
    facts = json.loads((tmp_path / "out" / "export.json").read_text())["sides"]["document"]
    assert facts["int8"] is True
    assert 0.95 < facts["drop"]["mean_cosine"] < 0.9999999
    assert f"cosine {facts['drop']['mean_cosine']:.4f}" in notes[1]
    wanted = Encoder.load(made / "bi", precision="float32").encode(TEXTS)
    found = graph(tmp_path / "out", "document", TEXTS)
    assert (found * wanted).sum(axis=1).min() > 0.9
    assert (tmp_path / "out" / "document" / "model.onnx").stat().st_size < (
        made / "bi-onnx" / "document" / "model.onnx"
    ).stat().st_size
    assert not list((tmp_path / "out").rglob("exact-*"))


def test_bad_requests_write_nothing(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, message in (
        ({"format": "gguf"}, "no format 'gguf'"),
        ({"format": "onnx", "int8": True}, "--corpus"),
        ({"format": "onnx", "corpus": "x"}, "--int8"),
        ({"int8": True, "corpus": "x"}, "8 bits are for"),
        ({"checkpoint": "update-3"}, "no checkpoint update-3"),
    ):
        with pytest.raises(UsageError, match=message):
            export_run(made / "bi", out, **options)  # type: ignore[arg-type]
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises((UsageError, DataError)):
        export_run(made / "bi", out, format="onnx", int8=True, corpus=str(empty))
    with pytest.raises(UsageError, match="8 bits"):
        export_run(made / "cross", out, format="onnx", int8=True, corpus=str(made / "data" / "corpus.jsonl"))
    assert [file.name for file in tmp_path.iterdir()] == ["empty.jsonl"]


def test_a_folder_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"up to 5\.0e-01"), new_folder(tmp_path / "out") as folder:
        (folder / "weights").write_text("half")
        check_near(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0]), "texts")
    with pytest.raises(ExportError, match="texts"):
        check_near(torch.tensor([float("nan")]), torch.tensor([1.0]), "texts")
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "weights").write_text("whole")
    assert (tmp_path / "deep" / "out" / "weights").read_text() == "whole"
