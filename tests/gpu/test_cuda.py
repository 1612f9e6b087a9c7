"""The same properties on a CUDA device: run by hand where there is one (`pytest -m gpu`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from properties.conftest import config_file, final_weights
from quincunx.engine.runtime import Runtime
from quincunx.engine.step import Step
from toys import Contrastive, Encoder, TwoTerms, cpu, labelled, pairs, plan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def gradient(model, objective, batches, runtime, **changes):
    step = Step(model.to(runtime.device), objective.to(runtime.device), runtime, plan(**changes), seed=5)
    step.gradient(3, batches)
    return torch.cat([p.grad.flatten().cpu().double() for p in step.parameters])


@pytest.mark.parametrize("kind", ["summed", "represented"])
def test_the_gradient_is_that_of_the_cpu_whatever_the_chunks(kind):
    """The masks of our dropout are the same on both devices."""
    cuda = Runtime(torch.device("cuda", 0), torch.float32)
    found = []
    for runtime, changes in ((cpu(), {}), (cuda, {}), (cuda, {"chunk_samples": 3})):
        torch.manual_seed(0)
        parts = (Encoder(), TwoTerms(), [labelled(10)]) if kind == "summed" else (Encoder(), Contrastive(), [pairs(10)])
        model, objective, batches = parts
        found.append(gradient(model.double(), objective.double(), batches, runtime, **changes))
    assert all(float((one - found[0]).norm() / found[0].norm()) <= 1e-11 for one in found[1:])


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_a_killed_run_resumes_bit_for_bit_when_deterministic(precision, tmp_path: Path):
    """Stopped at update 10 and resumed, against an undisturbed run, in processes of their own."""
    from runner import quincunx

    changes = {"compute": {"device": "cuda", "precision": precision, "deterministic": True}}
    log = tmp_path / "log"
    whole = config_file(tmp_path / "whole.json", tmp_path / "cache", tmp_path / "whole", changes)
    parts = config_file(tmp_path / "parts.json", tmp_path / "cache", tmp_path / "parts", changes)
    assert quincunx("train", whole, log=log) == 0, log.read_text()
    assert quincunx("train", parts, "budget.stop_at=10", log=log) == 0, log.read_text()
    assert quincunx("train", parts, "--resume", log=log) == 0, log.read_text()
    assert final_weights(tmp_path / "parts") == final_weights(tmp_path / "whole")
