"""Adapters of this package in a bi-encoder: it begins as the encoder it is put into, learns, resumes and leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from quincunx import Encoder, Run, evaluate, train
from quincunx.config.document import ConfigError
from quincunx.errors import UsageError
from quincunx.exporting import export_run
from recipes.retrieval.collections_made import config_of

pytest.importorskip("peft")

COMPACTER: dict[str, Any] = {
    "method": "compacter",
    "options": {"hypercomplex_division": 2, "reduction_factor": 4, "phm_rank": 2},
}
SEVERAL: dict[str, Any] = {
    "method": "composite",
    "options": {
        "parts": [
            {"method": "bottleneck", "reduction_factor": 4},
            {"method": "task_lora", "rank": 4},
            {"method": "prefix", "prefix_len": 2},
        ],
        "train": ["norms"],
    },
}
LORA: dict[str, Any] = {"method": "task_lora", "options": {"rank": 4, "alpha": 8}}


@pytest.fixture(scope="module")
def start(data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A bi-encoder that has learnt a little."""
    return train(config_of(data, tmp_path_factory.mktemp("start") / "run", cache, budget__epochs=1))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoint("last") / "model.safetensors")


def distance(run: Run, other: Run) -> float:
    first, second = weights(run), weights(other)
    changed = torch.cat([(first[name] - second[name]).flatten().double() for name in second if "quincunx" in name])
    length = torch.cat([value.flatten().double() for name, value in second.items() if "quincunx" in name])
    return float(changed.norm() / length.norm())


@pytest.mark.parametrize("section", [COMPACTER, SEVERAL], ids=["compacter", "composite"])
def test_it_begins_where_the_encoder_stands_and_learns(
    section: dict[str, Any], start: Run, data: Path, cache: Path, tmp_path: Path
) -> None:
    changes = {"init_from": str(start.path), "peft": section, "evaluate__at_start": True}
    run = train(config_of(data, tmp_path / "run", cache, **changes))
    at_start = dict(run.metrics("dev/recip_rank"))[0]
    assert at_start == pytest.approx(dict(start.metrics("dev/recip_rank"))[9], abs=1e-9)
    assert dict(run.metrics("dev/recip_rank"))[18] > at_start
    before = {name.replace(".base_layer", ""): value for name, value in weights(run).items()}
    norms = "norms" in section["options"].get("train", [])
    for name, value in weights(start).items():
        assert torch.equal(before[name], value) or (norms and "LayerNorm" in name), name
    found = dict(run.metrics("test/recip_rank"))
    assert evaluate(run).scalars["recip_rank"] == list(found.values())[-1], "read back, it is the same model"


# plain gradient descent: Adam's first steps are signs, which make whole steps of rounding errors
DESCENT = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}


@pytest.mark.parametrize("section", [COMPACTER, SEVERAL], ids=["compacter", "composite"])
def test_chunks_and_a_stop_leave_the_weights_as_they_are(
    section: dict[str, Any], start: Run, data: Path, cache: Path, tmp_path: Path
) -> None:
    changes = {"init_from": str(start.path), "peft": section, "budget__epochs": 1, **DESCENT}
    whole = train(config_of(data, tmp_path / "whole", cache, **changes))
    for graphs in ("keep", "replay"):
        cut = {"chunking__tokens": 64, "chunking__graphs": graphs}
        assert distance(train(config_of(data, tmp_path / graphs, cache, **changes, **cut)), whole) < 1e-4
    config = config_of(data, tmp_path / "parts", cache, **changes)
    train(config, "budget.stop_at=4")
    parts = weights(train(config, resume=True))
    assert all(torch.equal(parts[name], value) for name, value in weights(whole).items())


def test_what_can_be_merged_leaves_and_what_cannot_says_so(start: Run, data: Path, cache: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    changes: dict[str, Any] = {"init_from": str(start.path), "budget__epochs": 1}
    lora = train(config_of(data, tmp_path / "lora", cache, peft=LORA, **changes))
    export_run(lora.path, tmp_path / "left", format="sentence-transformers")
    texts = ["ask3x1 ask3x2", "tell7y0"]
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "left"), device="cpu").encode(texts)
    ours = Encoder.load(lora.path, precision="float32").encode(texts)
    assert abs(theirs / (theirs**2).sum(1, keepdims=True) ** 0.5 - ours).max() <= 1e-5
    bottleneck = {"method": "bottleneck", "options": {"reduction_factor": 4}}
    stuck = train(config_of(data, tmp_path / "stuck", cache, peft=bottleneck, **changes))
    with pytest.raises(UsageError, match="no change of the weight"):
        export_run(stuck.path, tmp_path / "never", format="sentence-transformers")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"method": "compakter"}, "there is no method compakter, here or in peft"),
        ({"method": "compacter", "options": {"hypercomplex_divison": 2}}, "did you mean hypercomplex_division"),
        ({"method": "composite", "options": {"parts": [{"method": "lorra"}]}}, r"parts\[0\]: there is no method lorra"),
        (
            {"method": "composite", "options": {"parts": [{"method": "bottleneck", "tasks": ["a", "b"]}]}},
            "examples belong to no task here",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    section: dict[str, Any], said: str, start: Run, data: Path, cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(config_of(data, tmp_path / "run", cache, init_from=str(start.path), peft=section))
    assert not (tmp_path / "run").exists()


def test_widths_that_do_not_divide_are_named(start: Run, data: Path, cache: Path, tmp_path: Path) -> None:
    section = {"method": "compacter", "options": {"hypercomplex_division": 3}}
    with pytest.raises(UsageError, match=r"peft\.method compacter: .*32"):
        train(config_of(data, tmp_path / "run", cache, init_from=str(start.path), peft=section))
