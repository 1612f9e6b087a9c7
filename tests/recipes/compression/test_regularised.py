"""The z-regulariser in a language model that compresses: every plan and read-out, texts of many lengths, in chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("peft")

from compression_toys import FORWARD, LENGTHS, batch, compressor
from quincunx import train
from quincunx.config.sections.peft import Peft
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.regularised import regularised
from quincunx.engine.step import Outcome, Step
from quincunx.recipes.compression.blotch import UNTRAINED
from quincunx.recipes.compression.model.trained import choose_trained
from quincunx.recipes.compression.objective import Prediction
from recipes.compression.runs_made import config_of, metrics
from toys import cpu, plan

SECTION = Peft(
    method="bottleneck",
    options={"reduction_factor": 4.0, "sites": ["attention", "feedforward", "query", "value"]},
    z_weight=3.0,
    track_z=True,
)
COLUMNS = {"context": LENGTHS, "reconstruction": LENGTHS, "forward": FORWARD, "without": FORWARD, "full": FORWARD}


def rows(**options: Any) -> Batch:
    """Return texts of many lengths, every column of which is predicted."""
    tensors = batch(**options)
    extents: dict[str, Tensor] = {}
    whole = torch.tensor([a + b for a, b in zip(LENGTHS, FORWARD, strict=True)])
    for name in (*COLUMNS, "plain"):
        size = whole if name == "plain" else torch.tensor(COLUMNS[name])
        start = int(name not in ("context", "plain"))
        for key in [key for key in tensors if key == name or key.startswith(f"{name}_")]:
            extents[key] = size + (start if key.endswith("_positions") else 0)
        if name == "context":
            continue
        words, seen = tensors[f"{name}_tokens"], tensors[f"{name}_seen"]
        targets = words.where(seen, torch.tensor(UNTRAINED))
        ends = torch.full((len(words), start), UNTRAINED)
        tensors[f"{name}_targets"] = torch.cat([targets, ends], 1)
        extents[f"{name}_targets"] = size + start
    return Batch(tensors, torch.arange(3), list(range(3)), whole, frozenset(), extents)


def made(architecture: str, branches: tuple[str, ...], options: dict[str, Any]) -> Parts:
    torch.manual_seed(2)
    model = compressor(architecture, **options)
    choose_trained(model, ["adapters"], SECTION)
    for parameter in model.double().parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn_like(parameter)
    return regularised(Parts(model.train(), Prediction(dict.fromkeys(branches, 1.0))), SECTION)


def stepped(parts: Parts, chunk: Batch, size: int | None) -> tuple[Outcome, Tensor]:
    parts.model.zero_grad(set_to_none=True)
    step = Step(parts.model, parts.objective, cpu(), plan(chunk_samples=size), seed=5)
    outcome = step.gradient(1, [chunk])
    return outcome, torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])


BOTH = ("forward", "reconstruction")


@pytest.mark.parametrize(
    ("architecture", "branches", "options", "given"),
    [
        ("llama", BOTH, {}, {}),
        ("llama", ("forward", "full", "without"), {}, {}),
        ("llama", ("plain",), {"slots": 0, "starts": False}, {"slots": 0}),
        ("llama", BOTH, {"plan": "two_pass"}, {}),
        ("llama", BOTH, {"readout": "tokens"}, {}),
        ("llama", ("forward",), {"readout": "mean_pool"}, {}),
        ("llama", ("forward",), {"segments": 2}, {"segments": 2}),
        ("llama", ("forward",), {"segments": 2, "plan": "two_pass"}, {"segments": 2}),
        ("gpt2", BOTH, {"separator": True}, {"separator": True}),
        ("qwen2", BOTH, {}, {}),
        ("llama", BOTH, {"attention": "eager"}, {}),
    ],
    ids=[
        "one-pass", "controls", "plain", "two-pass", "tokens", "mean-pool", "segments", "segments-apart", "separator",
        "windows", "eager",
    ],
)  # fmt: skip
def test_chunks_of_any_size_give_the_same(
    architecture: str, branches: tuple[str, ...], options: dict[str, Any], given: dict[str, Any]
) -> None:
    near = 1e-6 if "attention" in options else 1e-12  # the library's eager attention has its softmax in float32
    parts, chunk = made(architecture, branches, options), rows(**given)
    whole, expected = stepped(parts, chunk, None)
    assert float(whole.sums["z"]) > 0
    for size in (1, 2):
        outcome, found = stepped(parts, chunk, size)
        assert (found - expected).norm() <= near * expected.norm(), size
        for term, value in whole.sums.items():
            assert abs(float(outcome.sums[term] - value)) <= near * abs(float(value)), (size, term)


def test_layers_that_are_computed_twice_change_nothing() -> None:
    chunk = rows()
    parts = made("llama", BOTH, {})
    whole, expected = stepped(parts, chunk, 2)
    model: Any = parts.model
    model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    outcome, found = stepped(parts, chunk, 2)
    assert (found - expected).norm() <= 1e-12 * expected.norm()
    assert float(outcome.sums["z"]) == pytest.approx(float(whole.sums["z"]), rel=1e-12)


def test_further_columns_of_padding_count_nothing() -> None:
    parts = made("llama", BOTH, {})
    near, _ = stepped(parts, rows(), None)
    tensors = {**batch(wider=3)}
    for name in BOTH:
        seen = tensors[f"{name}_seen"]
        targets = tensors[f"{name}_tokens"].where(seen, torch.tensor(UNTRAINED))
        tensors[f"{name}_targets"] = torch.nn.functional.pad(targets, (0, 1), value=UNTRAINED)
    wide, _ = stepped(parts, Batch(tensors, torch.arange(3), [0, 1, 2]), None)
    for term, value in near.sums.items():
        assert float(wide.sums[term]) == pytest.approx(float(value), rel=1e-10), term


def test_a_run_logs_it(tmp_path: Path) -> None:
    start = train(config_of(tmp_path, "start")).path
    section = {"method": "bottleneck", "options": {"reduction_factor": 4}, "z_weight": 0.5, "track_z": True}
    changes = {"init_from": str(start), "model.train": ["adapters"], "peft": section}
    whole = metrics(train(config_of(tmp_path, "whole", changes)).path)
    cut = metrics(train(config_of(tmp_path, "cut", {**changes, "chunking.samples": 1})).path)
    assert whole["train/z"] == pytest.approx(cut["train/z"], rel=1e-4)
    assert any(name.startswith("train/z/backbone.") for name in whole)
    assert not any(name.startswith(("dev/z", "test/z")) for name in whole)
