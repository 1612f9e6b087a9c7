"""Losses and gradients that are not finite, and the loss scaler of half precision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from loops import PER_EPOCH, Counting, Recorder, build, logged
from quincunx.engine.runtime import Runtime
from quincunx.errors import CheckpointError, NonFiniteError
from toys import TwoTerms


class Breaking(TwoTerms):
    """Loses its finiteness at the third update: in the loss, or in the gradient alone."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.calls = where, 0

    def loss(self, model, chunk):
        self.calls += 1
        losses = super().loss(model, chunk)
        if self.calls == 3:
            zero = (self.head.bias - self.head.bias.detach()).abs().sum()
            # the root of zero is zero, its derivative infinite
            losses["classes"] = losses["classes"] + (math.inf if self.where == "classes" else zero.sqrt())
        return losses


@pytest.mark.parametrize("where", ["classes", "gradient_norm"])
def test_what_is_not_finite_is_never_applied(tmp_path, where):
    recorder = Recorder()
    loop = build(tmp_path, objective=lambda: Breaking(where), callbacks=[recorder])
    whole = build(tmp_path / "two", objective=lambda: Breaking("never"), total=2 * PER_EPOCH, stop_at=2)
    whole.run()
    with pytest.raises(NonFiniteError) as error:
        loop.run()
    assert where in str(error.value)
    assert "of update 3 is not finite" in str(error.value)
    ids = [f"id-{i}" for i in loop.data.order.update(2)[0]]
    assert ", ".join(ids) in str(error.value)
    for found, wanted in zip(loop.state.model.parameters(), whole.state.model.parameters(), strict=True):
        assert torch.equal(found, wanted)
    saved = loop.checkpoints.load(loop.checkpoints.path(2))
    assert saved.progress["update"] == 2
    for name, tensor in whole.state.model.state_dict().items():
        assert torch.equal(saved.weights["model"][name], tensor)
    assert recorder.of("update") == [1, 2]


def scaler(scale: float) -> Any:
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)


def test_a_loss_scaler_changes_nothing_but_the_range(tmp_path):
    """Powers of two scale exactly."""
    scaled = build(tmp_path / "a", scaler=scaler(2.0**10), log_every=1, clip_norm=0.1)
    scaled.run()
    plain = build(tmp_path / "b", log_every=1, clip_norm=0.1)
    plain.run()
    for found, wanted in zip(scaled.state.model.parameters(), plain.state.model.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    norms = logged(tmp_path / "a", "train/gradient_norm")
    assert norms == pytest.approx(logged(tmp_path / "b", "train/gradient_norm"), rel=1e-5)


class Steep(Counting):
    """Its loss times 2^127 is beyond float32, its gradient too, until the scale has been halved a few times."""

    coefficients = {"classes": 8.0, "size": 0.8}  # noqa: RUF012


def test_updates_that_overflow_are_skipped_and_the_schedule_waits_for_them(tmp_path):
    first = build(tmp_path / "one", scaler=scaler(2.0**127), objective=Steep, stop_at=1)
    before = [p.detach().clone() for p in first.state.model.parameters()]
    first.run()
    assert all(torch.equal(a, b) for a, b in zip(before, first.state.model.parameters(), strict=True))
    loop = build(tmp_path, scaler=scaler(2.0**127), objective=Steep, log_every=1, checkpoint_every=1)
    assert loop.run() == "finished"
    skipped = loop.state.skipped
    assert 1 <= skipped < 5
    assert int(loop.state.objective.updates) == 8 - skipped
    rates = list(logged(tmp_path, "train/learning_rate").values())
    assert rates[: skipped + 1] == [rates[0]] * (skipped + 1)
    assert rates[skipped + 1] < rates[0]
    norms = logged(tmp_path, "train/gradient_norm")
    assert min(norms) == skipped + 1
    assert all(map(math.isfinite, norms.values()))
    # from the middle, scaler and count of skipped updates included
    resumed = build(tmp_path / "again", scaler=scaler(2.0**127), objective=Steep)
    resumed.state.restore(loop.checkpoints.load(loop.checkpoints.path(skipped + 1)))
    assert resumed.state.skipped == skipped
    resumed.run()
    for found, wanted in zip(resumed.state.model.parameters(), loop.state.model.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_gradients_that_overflow_at_every_scale_end_the_run(tmp_path):
    class Never(TwoTerms):
        def loss(self, model, chunk):
            losses = super().loss(model, chunk)
            losses["size"] = losses["size"] + (self.head.bias - self.head.bias.detach()).abs().sum().sqrt()
            return losses

    loop = build(tmp_path, scaler=scaler(2.0**-10), objective=Never)
    with pytest.raises(NonFiniteError, match="overflow at every loss scale"):
        loop.run()


def test_half_precision_on_the_cpu_stays_near_full_precision(tmp_path):
    """The whole fp16 path: autocast forward, scaled loss, unscaled gradients."""
    runtime = Runtime(torch.device("cpu"), torch.float16)
    half = build(tmp_path / "half", runtime=runtime, scaler=runtime.scaler(), log_every=8)
    assert half.run() == "finished"
    assert half.state.skipped == 0
    full = build(tmp_path / "full", log_every=8)
    full.run()
    losses = [logged(tmp_path / name, "train/loss")[8] for name in ("half", "full")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


def test_a_checkpoint_with_another_precision_is_refused(tmp_path):
    loop = build(tmp_path, scaler=scaler(1.0), total=1)
    loop.run()
    other = build(tmp_path)
    with pytest.raises(CheckpointError, match=r"another compute\.precision"):
        other.state.restore(other.checkpoints.load(other.checkpoints.path(1)))
