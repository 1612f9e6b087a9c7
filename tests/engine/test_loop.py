"""The loop: when what happens, what is logged, what is kept, and what stops it."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from loops import Counting, Recorder, build, logged, scripted
from quincunx.config.sections.training import Schedule
from quincunx.engine.events import Callback
from quincunx.engine.runtime import Runtime
from quincunx.engine.step import Step
from quincunx.errors import RunError
from quincunx.metrics.record import Evaluation
from toys import Contrastive, Encoder, TwoTerms, cpu, labelled, pairs


@pytest.mark.parametrize(
    ("every", "wanted"),
    [
        (1, [1, 2, 3, 4, 5, 6, 7, 8]),
        (1.0, [4, 8]),
        ("epoch", [4, 8]),
        (0.5, [2, 4, 6, 8]),
        (0.3, [2, 3, 4, 5, 6, 8]),  # at or after 1.2, 2.4, 3.6, 4.8, 6, 7.2
        (0.01, [1, 2, 3, 4, 5, 6, 7, 8]),  # at least one update
        (3, [3, 6, 8]),
        (7, [7, 8]),  # longer than an epoch, fires all the same
        (None, [8]),
    ],
)
def test_intervals(tmp_path, every, wanted):
    """Evaluated and saved at the interval, and in any case at the end."""
    recorder = Recorder()
    evaluators = {"dev": scripted([1.0] * 9)}
    loop = build(
        tmp_path, evaluate_every=every, checkpoint_every=every, evaluators=evaluators, callbacks=[recorder],
        keep_best=False,
    )  # fmt: skip
    assert loop.run() == "finished"
    assert recorder.of("evaluation") == wanted
    assert recorder.of("checkpoint") == wanted
    assert list(logged(tmp_path, "dev/score")) == wanted


def test_log_lines_are_means_over_everything_since_the_last(tmp_path):
    """By hand: each term's sums over each term's weights, a short batch weighing what is in it; the rest at the end."""
    seen: list[dict[str, float]] = []

    class Watched(TwoTerms):
        def loss(self, model, chunk):
            losses = super().loss(model, chunk)
            sums = {name: float(total.detach()) for name, total in losses.items()}
            seen.append({**sums, "n": len(chunk), "t": float(chunk["lengths"].sum())})
            return losses

    loop = build(tmp_path, objective=Watched, log_every=3)
    loop.run()
    assert len(seen) == 8
    assert [part["n"] for part in seen].count(2) == 2, "short batches"
    for last, window in ((3, seen[0:3]), (6, seen[3:6]), (8, seen[6:8])):
        classes = sum(part["classes"] for part in window) / sum(part["n"] for part in window)
        size = sum(part["size"] for part in window) / sum(part["t"] for part in window)
        assert logged(tmp_path, "train/classes")[last] == pytest.approx(classes, rel=1e-5)
        assert logged(tmp_path, "train/size")[last] == pytest.approx(size, rel=1e-5)
        assert logged(tmp_path, "train/loss")[last] == pytest.approx(classes + 0.1 * size, rel=1e-5)
    assert list(logged(tmp_path, "train/loss")) == [3, 6, 8]
    # linear from 0.1 to a hundredth of it over updates 0 .. 7; the line tells the rate of its last update
    wanted = {n: 0.1 - 0.099 * (n - 1) / 7 for n in (3, 6, 8)}
    assert logged(tmp_path, "train/learning_rate") == pytest.approx(wanted)


def test_the_loss_of_accumulated_batches_is_logged_over_all_of_them(tmp_path):
    loop = build(tmp_path, accumulation=2, total=2, log_every=1, updates_per_epoch=2)
    torch.manual_seed(0)
    model, objective = Encoder(), TwoTerms()
    step = Step(model, objective, cpu(), loop.plan, 1)
    outcome = step.gradient(0, loop.data[0])
    loop.run()
    mean = float(outcome.sums["classes"]) / 8
    assert logged(tmp_path, "train/classes")[1] == pytest.approx(mean, rel=1e-6)


def test_the_logged_gradient_is_the_mean_norm_before_clipping(tmp_path):
    build(tmp_path / "a", log_every=1).run()
    norms = list(logged(tmp_path / "a", "train/gradient_norm").values())
    build(tmp_path / "b", log_every=8).run()
    assert logged(tmp_path / "b", "train/gradient_norm") == {8: pytest.approx(sum(norms) / 8)}
    build(tmp_path / "c", log_every=1, clip_norm=1e-3, total=1).run()
    assert logged(tmp_path / "c", "train/gradient_norm")[1] == pytest.approx(norms[0])


def test_clipping_is_torchs(tmp_path):
    """One step of plain descent with rate 0.1, beside the same by hand."""
    limit = 0.05
    loop = build(tmp_path, clip_norm=limit, total=1, schedule=Schedule())
    model, objective = copy.deepcopy((loop.state.model, loop.state.objective))
    Step(model, objective, cpu(), loop.plan, 1).gradient(0, loop.data[0])
    parameters = [*model.parameters(), *objective.parameters()]
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    assert float(norm) > limit
    loop.run()
    for found, parameter in zip(loop.state.model.parameters(), model.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(found, parameter - 0.1 * parameter.grad)


def test_the_best_checkpoint_is_kept_besides_the_newest(tmp_path):
    scores = [0.1, 0.5, 0.4, 0.3, 0.2, 0.2, 0.1, 0.0]
    loop = build(tmp_path, evaluate_every=1, checkpoint_every=1, evaluators={"dev": scripted(scores)}, keep=2)
    loop.run()
    assert [path.name[-1] for path in loop.checkpoints.all()] == ["2", "7", "8"]
    assert loop.checkpoints.best() == loop.checkpoints.path(2)
    assert (loop.state.best.value, loop.state.best.update) == (0.5, 2)


def test_the_best_may_be_the_smallest_and_is_never_nan(tmp_path):
    scores = [math.nan, 0.5, 0.4, math.nan, 0.6, 0.4, 0.5, 0.5]
    recorder = Recorder()
    loop = build(
        tmp_path, goal="min", evaluate_every=1, evaluators={"dev": scripted(scores)}, callbacks=[recorder]
    )  # fmt: skip
    loop.run()
    assert (loop.state.best.value, loop.state.best.update) == (0.4, 3)
    assert [event[1] for event in recorder.events if event[0] == "checkpoint" and event[2]] == [2, 3]
    assert loop.checkpoints.best() == loop.checkpoints.path(3)


def test_without_a_wish_for_the_best_nothing_is_marked(tmp_path):
    loop = build(tmp_path, evaluate_every=1, evaluators={"dev": scripted(range(8))}, keep_best=False)
    loop.run()
    assert loop.checkpoints.best() is None
    assert [path.name[-1] for path in loop.checkpoints.all()] == ["8"]


def test_patience_counts_evaluations_without_a_better_one(tmp_path):
    scores = [0.1, 0.2, 0.2, 0.1, 0.3, 0.3, 0.3, 0.9]
    loop = build(tmp_path, evaluate_every=1, evaluators={"dev": scripted(scores)}, patience=2)
    assert loop.run() == "patience"
    assert loop.state.update == 4
    newest = loop.checkpoints.all()[-1]
    assert newest == loop.checkpoints.path(4), "saved as it ended"
    again = build(tmp_path, evaluate_every=1, evaluators={"dev": scripted(scores)}, patience=2)
    again.state.restore(again.checkpoints.load(newest))
    assert again.run() == "patience"
    assert again.state.update == 4, "resumed with the same patience it has nothing to do"
    longer = build(tmp_path, evaluate_every=1, evaluators={"dev": scripted(scores[4:])}, patience=3)
    longer.state.restore(longer.checkpoints.load(newest))
    assert longer.run() == "finished"


def test_a_metric_that_no_evaluator_gives_is_named(tmp_path):
    loop = build(tmp_path, evaluate_every=1, evaluators={"test": scripted([1.0])})
    with pytest.raises(RunError, match="no metric dev/score; evaluations give test/score"):
        loop.run()


def test_evaluated_once_before_the_first_update(tmp_path):
    recorder = Recorder()
    loop = build(
        tmp_path, evaluate_at_start=True, evaluators={"dev": scripted([0.9, 0.1])}, callbacks=[recorder]
    )  # fmt: skip
    loop.run()
    assert recorder.events[:2] == [("evaluation", 0, "dev"), ("checkpoint", 0, True)]
    assert recorder.of("evaluation") == [0, 8]
    assert loop.checkpoints.best() == loop.checkpoints.path(0), "the untrained weights were the best"
    resumed = build(tmp_path, evaluate_at_start=True, evaluators={"dev": scripted([0.2])}, callbacks=[recorder])
    resumed.state.restore(resumed.checkpoints.load(resumed.checkpoints.path(0)))
    recorder.events.clear()
    resumed.run()
    assert recorder.of("evaluation") == [8], "not a second time"


def test_stop_at_ends_this_run_and_not_the_schedule(tmp_path):
    loop = build(tmp_path, stop_at=5, log_every=1)
    assert loop.run() == "stop_at"
    whole = build(tmp_path / "whole", log_every=1)
    assert whole.run() == "finished"
    first = list(logged(tmp_path / "whole", "train/learning_rate").values())[:5]
    assert list(logged(tmp_path, "train/learning_rate").values()) == first
    rest = build(tmp_path)
    rest.state.restore(rest.checkpoints.load(rest.checkpoints.path(5)))
    assert rest.run() == "finished"
    for found, wanted in zip(rest.state.model.parameters(), whole.state.model.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_objectives_hear_of_each_update_once_and_never_of_evaluation(tmp_path):
    objective = Counting()
    seen: list[int] = []

    def evaluator(model: nn.Module, runtime: Runtime, plan: Any) -> Evaluation:
        batch = labelled(6)
        objective.loss(model, batch)
        seen.append(int(objective.updates))
        return Evaluation({"score": 0.0})

    loop = build(tmp_path, objective=lambda: objective, evaluate_every=2, evaluators={"dev": evaluator}, accumulation=2)
    loop.run()
    assert seen == [2, 4, 6, 8]
    saved = loop.checkpoints.load(loop.checkpoints.all()[-1])
    assert int(saved.weights["objective"]["updates"]) == 8


def test_evaluation_leaves_the_modes_of_modules_as_they_were(tmp_path):
    model = Encoder()
    modes: list[tuple[bool, bool, bool]] = []
    during: list[tuple[bool, bool, bool]] = []

    class Frozen(Callback):
        def update(self, update: int) -> None:
            modes.append((model.training, model.drop.training, model.late_drop.training))
            model.late_drop.eval()  # as somebody freezes a part

    def evaluator(given: nn.Module, runtime: Runtime, plan: Any) -> Evaluation:
        during.append((given.training, model.drop.training, torch.is_grad_enabled()))
        return Evaluation({"score": 0.0})

    build(
        tmp_path, model=lambda: model, evaluate_every=1, evaluators={"dev": evaluator}, callbacks=[Frozen()], total=3
    ).run()
    assert during == [(False, False, False)] * 3
    assert modes == [(True, True, True), (True, True, False), (True, True, False)]


def test_events_come_in_order(tmp_path):
    recorder = Recorder()
    loop = build(
        tmp_path, total=4, log_every=2, evaluate_every=2, checkpoint_every=4,
        evaluators={"dev": scripted([0.5, 0.1]), "more": scripted([0.0, 0.0])}, callbacks=[recorder],
    )  # fmt: skip
    loop.run()
    assert recorder.events == [
        ("update", 1),
        ("update", 2),
        ("log", 2),
        ("evaluation", 2, "dev"),
        ("evaluation", 2, "more"),
        ("checkpoint", 2, True),
        ("update", 3),
        ("update", 4),
        ("log", 4),
        ("evaluation", 4, "dev"),
        ("evaluation", 4, "more"),
        ("checkpoint", 4, False),
    ]


def test_observers_change_nothing(tmp_path):
    class Noisy(Recorder):
        def update(self, update: int) -> None:
            torch.rand(3)
            np.random.default_rng().random()
            torch.manual_seed(update)

    watched = build(tmp_path / "a", callbacks=[Noisy()], log_every=1)
    watched.run()
    alone = build(tmp_path / "b", log_every=3)
    alone.run()
    for found, wanted in zip(watched.state.model.parameters(), alone.state.model.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_a_contrastive_run_goes_on_from_the_middle_bit_for_bit(tmp_path):
    """Learned temperature, queue and chunks included; what evaluation encodes never enters the queue."""

    def evaluator(model: nn.Module, runtime: Runtime, plan: Any) -> Evaluation:
        batch = pairs(4, 77)
        return Evaluation({"score": float(model(batch["query_tokens"], batch["query_lengths"]).sum())})

    settings: dict[str, Any] = {"objective": Contrastive, "accumulation": 2, "chunk_samples": 3, "updates_per_epoch": 2}
    whole = build(tmp_path / "whole", **settings)
    whole.run()
    first = build(tmp_path / "a", **settings, stop_at=3, evaluate_every=1, evaluators={"dev": evaluator})
    first.run()
    second = build(tmp_path / "b", **settings, evaluate_every=1, evaluators={"dev": evaluator})
    second.state.restore(first.checkpoints.load(first.checkpoints.path(3)))
    second.run()
    assert first.state.objective.log_temperature != second.state.objective.log_temperature, "it learns"
    for part in ("model", "objective"):
        found, wanted = second.state.weights()[part], whole.state.weights()[part]
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
