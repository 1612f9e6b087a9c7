"""Adapters in a compressor's language model: LoRA, this package's or peft's, with a prefix; resumed and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx import Run, evaluate, train
from quincunx.config.document import ConfigError
from recipes.compression.runs_made import config_of, metrics

pytest.importorskip("peft")

SEVERAL: dict[str, Any] = {
    "method": "composite",
    "options": {"parts": [{"method": "task_lora", "rank": 2}, {"method": "prefix", "prefix_len": 2}]},
}


OF_PEFT: dict[str, Any] = {
    "method": "composite",
    "options": {
        "parts": [
            {"method": "lora", "r": 2, "target_modules": ["q_proj", "v_proj"]},
            {"method": "prefix", "prefix_len": 2},
        ],
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def start(home: Path) -> Path:
    return train(config_of(home, "start")).path


def adapted(home: Path, name: str, start: Path, **changes: Any) -> dict[str, Any]:
    return config_of(home, name, {"init_from": str(start), "model.train": ["adapters"], "peft": SEVERAL, **changes})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(Run(run).model("last").state_dict())


@pytest.mark.parametrize(
    ("peft", "ends"),
    [(SEVERAL, "task_lora.up.weight"), (OF_PEFT, "lora_B.default.weight")],
    ids=["ours", "of peft"],
)
def test_adapters_and_slots_are_trained_and_the_language_model_stays(
    home: Path, start: Path, peft: dict[str, Any], ends: str
) -> None:
    run = train(adapted(home, f"several {ends}", start, peft=peft)).path
    before, after = weights(start), weights(run)
    for name, value in after.items():
        plain = name.replace("base_layer.", "")
        if "quincunx_" not in name and "lora_" not in name and plain.startswith("backbone."):
            assert torch.equal(value, before[plain]), name
    gates = [value for name, value in after.items() if name.endswith("prefix.gate")]
    ups = [value for name, value in after.items() if name.endswith(ends)]
    assert gates and ups and all(bool(value.any()) for value in (*gates, *ups)), "all begin at nought"
    found = evaluate(run, split="test").scalars
    assert found["loss"] == metrics(run)["test/loss"][-1]


@pytest.mark.parametrize("peft", [SEVERAL, OF_PEFT], ids=["ours", "of peft"])
def test_it_stops_and_goes_on_bit_for_bit(home: Path, start: Path, peft: dict[str, Any]) -> None:
    method = peft["options"]["parts"][0]["method"]
    whole = weights(train(adapted(home, f"whole {method}", start, peft=peft)).path)
    config = adapted(home, f"parts {method}", start, peft=peft)
    train(config, "budget.stop_at=2")
    parts = weights(train(config, resume=True).path)
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.train": ["adapters"]}, "model.train has adapters, and peft.method says none"),
        ({"peft": SEVERAL}, "model.train has no adapters"),
    ],
)
def test_half_of_it_is_refused(home: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train(config_of(home, "never", changes))
