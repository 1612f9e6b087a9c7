"""Backends: the same vectors by torch, onnxruntime and OpenVINO; 8 bits that say what they change."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quincunx.errors import MissingExtra, RunError, UsageError
from quincunx.nn.pretrained.packed import PACKABLE
from quincunx.recipes.retrieval.backends import PACKAGES, CompiledBackend, make_backend
from quincunx.recipes.retrieval.backends.calibrate import Sample, drop, stacked
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.text_encoder import Projection, TextEncoder
from small_encoders import backbone


def model_of(kind: str = "bert", pooling: Any = "mean") -> BiEncoder:
    torch.manual_seed(0)
    made = backbone(kind)
    return BiEncoder(TextEncoder(made, pooling, projection=Projection.mlp(16, 12))).eval()


def texts(count: int, longest: int, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(5, 60, size).astype(np.int32) for size in generator.integers(1, longest + 1, count)]


@pytest.mark.parametrize(
    ("name", "kind", "pooling"),
    [
        ("onnxruntime", "bert", "mean"),
        ("onnxruntime", "roberta", "cls"),
        ("onnxruntime", "distilbert", "attention"),
        ("onnxruntime", "modernbert", "mean"),
        ("onnxruntime", "t5", "mean"),
        ("onnxruntime", "gpt2", "last"),
        ("openvino", "bert", "mean"),
    ],
)
def test_vectors_are_those_of_torch(name: str, kind: str, pooling: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    model = model_of(kind, pooling)
    model.train()
    chosen = model.query.backbone.config._attn_implementation
    found, exact = (make_backend(each, model, "document", cache=tmp_path) for each in (name, "torch"))
    assert model.query.backbone.config._attn_implementation == chosen
    assert chosen == "quincunx" or kind not in PACKABLE
    for rows, longest in ((1, 1), (1, 20), (5, 9), (3, 7)):
        for tokens, lengths in stacked(texts(rows, longest, seed=rows), rows):
            padded = np.concatenate([tokens, np.full((len(tokens), 2), 7)], axis=1)  # what padding holds is no matter
            np.testing.assert_allclose(found(padded, lengths), exact(tokens, lengths), atol=2e-6)


def test_a_text_without_tokens_is_what_torch_says(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = model_of()
    tokens, lengths = np.array([[5, 6, 7], [0, 0, 0]]), np.array([3, 0])
    found, exact = (make_backend(name, model, "query", cache=tmp_path) for name in ("onnxruntime", "torch"))
    np.testing.assert_allclose(found(tokens, lengths), exact(tokens, lengths), atol=1e-6)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_8_bits_are_near_and_say_how_near(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    if name == "openvino":
        pytest.importorskip("nncf")
    model, corpus = model_of(), texts(40, 12)
    found = make_backend(name, model, "document", int8=True, calibration=corpus, cache=tmp_path)
    assert isinstance(found, CompiledBackend)
    assert found.drop is not None
    assert found.drop.texts == 20
    exact = make_backend("torch", model, "document", cache=tmp_path)
    sample = Sample.of(corpus)
    said = drop(exact, found, sample.judged)
    assert found.drop.mean_cosine == pytest.approx(said.mean_cosine, abs=1e-4)
    assert 0.97 < said.mean_cosine < 0.9999999, said  # near, and not the same: it is in 8 bits
    assert 0.5 < said.neighbours <= 1


def test_8_bits_of_onnxruntime_leave_what_maps_give_in_float32(tmp_path: Path) -> None:
    """One scale for all of it would be that of its largest numbers."""
    pytest.importorskip("onnxruntime")
    import onnx

    make_backend("onnxruntime", model_of(), "document", int8=True, calibration=texts(16, 9), cache=tmp_path)
    (file,) = tmp_path.rglob("model.onnx")
    graph = onnx.load(str(file)).graph
    maps = {output for node in graph.node if node.op_type in ("MatMul", "Gemm") for output in node.output}
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert rounded
    assert not maps & rounded
    scales = {each.name: list(each.dims) for each in graph.initializer if each.name.endswith("_scale")}
    assert [16] in scales.values() and [24] in scales.values(), "weights have a scale for each column"


def test_openvino_puts_parts_of_a_batch_back_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from quincunx.recipes.retrieval.backends import openvino

    monkeypatch.setattr(openvino, "PART", 20)
    model = model_of()
    found, exact = (make_backend(name, model, "document", cache=tmp_path) for name in ("openvino", "torch"))
    for longest in (9, 24):  # parts of two texts and more, and of one that is longer than a part
        (batch,) = stacked(texts(21, longest, seed=longest), 21)
        np.testing.assert_allclose(found(*batch), exact(*batch), atol=2e-6)


def forms(cache: Path) -> list[Path]:
    return [place for place in cache.iterdir() if place.is_dir()]


def test_forms_are_written_once_for_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = model_of()
    make_backend("onnxruntime", model, "query", cache=tmp_path)
    (place,) = forms(tmp_path)
    before = (place / "model.onnx").stat()
    make_backend("onnxruntime", model, "document", cache=tmp_path)
    assert (place / "model.onnx").stat().st_mtime_ns == before.st_mtime_ns
    with torch.no_grad():
        next(model.query.backbone.parameters()).add_(0.1)
    make_backend("onnxruntime", model, "query", cache=tmp_path)
    assert len(forms(tmp_path)) == 2


def test_of_several_at_once_one_writes_and_the_others_take_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = model_of()
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(make_backend, "onnxruntime", model, "query", cache=tmp_path / "new") for _ in range(3)]
    tokens, lengths = np.array([[5, 6, 7]]), np.array([3])
    one, *others = (job.result()(tokens, lengths) for job in jobs)
    assert all(np.array_equal(one, other) for other in others)
    (place,) = forms(tmp_path / "new")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [place.name, f"{place.name}.json"]


def test_a_form_that_was_left_half_written_is_written_anew(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = model_of()
    tokens, lengths = np.array([[5, 6, 7]]), np.array([3])
    before = make_backend("onnxruntime", model, "query", cache=tmp_path)(tokens, lengths)
    (place,) = forms(tmp_path)
    place.with_name(f"{place.name}.json").unlink()
    (place / "model.onnx").write_bytes(b"half")
    assert np.array_equal(make_backend("onnxruntime", model, "query", cache=tmp_path)(tokens, lengths), before)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/cache, .* cannot be written.*QUINCUNX_CACHE"):
        make_backend("onnxruntime", model_of(), "query", cache=tmp_path / "file" / "cache")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_is_not_there_is_named_with_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, extra = model_of(), "onnx" if name == "onnxruntime" else "openvino"
    for package in PACKAGES[name]:
        with monkeypatch.context() as patch:
            for each in PACKAGES[name]:
                if each == package:
                    patch.setitem(sys.modules, each, None)  # importing it fails as where it is not installed
                else:
                    patch.setitem(sys.modules, each, sys)
            with pytest.raises(MissingExtra, match=rf"package {package}: pip install 'quincunx\[{extra}\]'"):
                make_backend(name, model, "query", int8=True, calibration=texts(9, 5), cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    model = model_of()
    with pytest.raises(UsageError, match="no backend 'jax'"):
        make_backend("jax", model, "query", cache=tmp_path)
    with pytest.raises(UsageError, match="8 bits"):
        make_backend("torch", model, "query", int8=True, cache=tmp_path)
    pytest.importorskip("onnxruntime")
    for few in (None, [], texts(7, 5)):
        with pytest.raises(UsageError, match="at least 8"):
            make_backend("onnxruntime", model, "query", int8=True, calibration=few, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_drop_of_the_same_vectors_is_none_and_of_others_large() -> None:
    generator = np.random.default_rng(0)
    table = generator.standard_normal((60, 8)).astype(np.float32)
    corpus = texts(40, 6)

    def exact(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return table[tokens].sum(axis=1)

    same = drop(exact, lambda tokens, lengths: 3 * exact(tokens, lengths), corpus)
    assert (same.mean_cosine, same.neighbours) == (pytest.approx(1.0, abs=1e-6), 1.0)
    other = drop(exact, lambda tokens, lengths: -exact(tokens, lengths), corpus)
    assert other.mean_cosine == pytest.approx(-1.0, abs=1e-6)
