"""Adapters in a trunk that was trained before: what is trained, from where, resumed, evaluated and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx import Run, train
from quincunx.config.document import ConfigError
from quincunx.errors import UsageError
from runner import tiny

pytest.importorskip("peft")

BOTTLENECK = {"method": "bottleneck", "options": {"reduction_factor": 4}}


def config(path: Path, **changes: Any) -> dict[str, Any]:
    return tiny({"run.dir": str(path), "budget.epochs": 1, **changes})


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config(tmp_path_factory.mktemp("trunk") / "run")).path


def weights(run: Path, which: str = "best") -> dict[str, torch.Tensor]:
    return dict(Run(run).model(which).state_dict())


def plain(name: str) -> str:
    return name.replace("base_layer.", "")


def test_the_trunk_stays_and_adapters_and_head_are_trained(trunk: Path, tmp_path: Path) -> None:
    run = train(config(tmp_path / "run", init_from=str(trunk), peft=BOTTLENECK)).path
    before, after = weights(trunk), weights(run)
    assert {plain(name) for name in after if "quincunx_" not in name} == before.keys()
    for name, value in after.items():
        if "quincunx_" not in name:
            moved = not torch.equal(value, before[plain(name)])
            assert moved == plain(name).startswith("classifier."), name
    assert any(bool(value.any()) for name, value in after.items() if name.endswith("up.weight"))


def test_a_killed_run_with_adapters_ends_as_one_that_was_not(trunk: Path, tmp_path: Path) -> None:
    changes = {"init_from": str(trunk), "peft": BOTTLENECK, "checkpoint.every": 2}
    whole = train(config(tmp_path / "whole", **changes)).path
    train(config(tmp_path / "cut", **changes, **{"budget.stop_at": 4}))
    cut = train(config(tmp_path / "cut", **changes), resume=True).path
    first, second = weights(whole, "last"), weights(cut, "last")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()


def test_what_is_pretrained_is_pretrained_whole_and_then_adapted(tmp_path: Path) -> None:
    changes = {"pretraining": {"updates": 6}, "peft": BOTTLENECK}
    run = train(config(tmp_path / "run", **changes)).path
    before, after = weights(run / "pretraining"), weights(run)
    assert not any("quincunx_" in name for name in before) and any("quincunx_" in name for name in after)
    kept = [name for name in after if "encoder" in name and "quincunx_" not in name]
    assert kept and all(torch.equal(after[name], before[plain(name)]) for name in kept)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft": BOTTLENECK}, "random values that it is built with"),
        ({"peft": {"method": "bottelneck"}, "init_from": "run"}, "did you mean bottleneck"),
        ({"peft": {"method": "bottleneck", "options": {"reduction": 4}}, "init_from": "run"}, "reduction_factor"),
        ({"peft": {"method": "bottleneck", "options": {"tasks": ["a", "b"]}}, "init_from": "run"}, "no task here"),
        ({"peft": {"method": "bottleneck", "options": {"scale": "x"}}, "init_from": "run"}, "valid number.*found 'x'"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        train(config(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_site_that_the_trunk_has_not_is_named(trunk: Path, tmp_path: Path) -> None:
    section = {"method": "bottleneck", "options": {"sites": ["cross_attention"]}}
    with pytest.raises(UsageError, match="no module that is known as cross_attention: its maps are named"):
        train(config(tmp_path / "run", init_from=str(trunk), peft=section))
