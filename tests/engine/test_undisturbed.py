"""Whatever happens in an evaluation, training goes on as if it had not been."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from quincunx import Run, train
from quincunx.engine.loop import evaluate
from quincunx.metrics.record import Evaluation
from quincunx.recipes.retrieval.evaluate import ranker as rankers
from recipes.retrieval.collections_made import config_of, write_collection
from toys import cpu


def states() -> list[Any]:
    kind, keys, *rest = np.random.get_state()
    return [random.getstate(), kind, keys.tolist(), rest, torch.get_rng_state().tolist()]


def draw(*_: object) -> Evaluation:
    random.random()
    np.random.rand(3)
    torch.rand(3)
    return Evaluation({})


def test_random_states_are_those_before():
    before = states()
    draw()
    assert states() != before, "the draws must show"
    model, before = nn.Dropout(), states()
    evaluate(model, draw, cpu(), None)  # type: ignore[arg-type]
    assert states() == before


def test_random_states_and_modes_are_put_back_after_a_failure():
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()

    def fail(given: nn.Module, *_: object) -> Evaluation:
        given.eval()
        draw()
        raise ValueError("broken")

    before = states()
    with pytest.raises(ValueError, match="broken"):
        evaluate(model, fail, cpu(), None)  # type: ignore[arg-type]
    assert states() == before
    assert [each.training for each in model.modules()] == [True, True, False]


def test_the_loop_evaluates_in_eval_mode_and_each_module_gets_its_own_mode_back():
    model = nn.Sequential(nn.Dropout(), nn.Dropout(), nn.Linear(2, 2))
    model[1].eval()
    seen: list[list[bool]] = []

    def look(given: nn.Module, *_: object) -> Evaluation:
        seen.append([each.training for each in given.modules()])
        assert not torch.is_grad_enabled()
        return Evaluation({})

    evaluate(model, look, cpu(), None)  # type: ignore[arg-type]
    assert seen == [[False] * 4]
    assert [each.training for each in model.modules()] == [True, True, False, True]


def test_a_run_whose_evaluations_draw_at_random_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Dropout inside encoders of transformers draws from torch's generator, which an evaluation must not move."""

    def noisy(encoder: Any, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        assert not any(module.training for module in encoder.modules())
        draw()
        return encoder(tokens, lengths)

    data = write_collection(tmp_path / "data", train=48, test=12)

    def trained(name: str, **changes: object) -> Run:
        dropout = {"encoder__dropout": 0.2, "evaluate__mode": "validator"}
        return train(config_of(data, tmp_path / name, tmp_path / "cache", **dropout, **changes))

    quiet = trained("quiet", evaluate__every=None)
    monkeypatch.setitem(rankers.POST_PROCESSING, "default", noisy)
    often = trained("often", evaluate__every=1, evaluate__at_start=True)
    one, other = (load_file(run.checkpoint("last") / "model.safetensors") for run in (quiet, often))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(often.metrics("dev/recip_rank")) > 3
