"""With dropout on: chunks of any size, and layers computed again, give the gradient of the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.data.batch import Batch
from quincunx.engine.step import Step
from toys import cpu, plan
from vision_language_runs import batch_of, experiment_of

T5, BART = {"model.build.architecture": "t5"}, {"model.build.architecture": "bart"}
CASES: dict[str, dict[str, Any]] = {
    "t5": T5,
    "bart": BART,
    "bart, a norm over all": {**BART, "pictures.shared_layer_norm": True},
    "t5, layers computed again": {**T5, "model.gradient_checkpointing": True},
    "bart, layers computed again": {**BART, "model.gradient_checkpointing": True},
    "low rank": {"adapt.lora": True},
    "bottleneck": {"peft": {"method": "bottleneck", "options": {"dropout": 0.2, "reduction_factor": 4}}},
    "ladder": {"peft": {"method": "ladder", "options": {"dropout": 0.2, "reduction_factor": 4}}},
    "prefix": {**BART, "adapt.prefix": True, "adapt.prefix_length": 3},
    "prefix that is gated": {"peft": {"method": "prefix", "options": {"prefix_len": 3, "form": "gated"}}},
    "prompts": {"adapt.encoder_prompts": 3, "adapt.decoder_prompts": 2},
}


def gradient(made: Any, key: int, **cut: int) -> Tensor:
    """Return the gradient of a batch in float64, cut or not."""
    model = made.parts.model.double().train()
    model.zero_grad(set_to_none=True)
    batch = batch_of(made)
    double = {name: each.double() if each.is_floating_point() else each for name, each in batch.tensors.items()}
    whole = Batch(double, batch.rows, batch.ids, batch.lengths, batch.padded, batch.extents)
    step = Step(model, made.parts.objective.train(), cpu(), plan(**cut), seed=key)
    step.gradient(0, [whole])
    return torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])


@pytest.mark.parametrize("case", CASES)
def test_chunks_change_nothing(world: Path, case: str) -> None:
    made = experiment_of(world, {"model.dropout": 0.3, **CASES[case]})
    expected = gradient(made, 1)
    for cut in ({"chunk_samples": 1}, {"chunk_samples": 3}, {"chunk_tokens": 60}):
        found = gradient(made, 1, **cut)
        # the library takes softmax in float32 in places
        assert float((found - expected).norm()) <= 1e-6 * float(expected.norm()), cut
    other = gradient(made, 2)
    assert float((other - expected).norm()) > 1e-2 * float(expected.norm())
