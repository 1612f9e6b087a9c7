"""The training loop, to be read in one sitting: step, log, evaluate, save, and again.

Every update is addressed by its number, so evaluating, logging, saving or beginning in the middle changes nothing that
is computed. Callbacks watch; whatever changes the mathematics is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from quincunx.config.plan import Interval, Plan
from quincunx.data.batch import Batch
from quincunx.data.loader import Updates, updates
from quincunx.engine.checkpoint import Checkpoints
from quincunx.engine.clock import Clock
from quincunx.engine.events import Callback, Progress, Requests
from quincunx.engine.experiment import Evaluator
from quincunx.engine.runtime import Runtime
from quincunx.engine.state import State
from quincunx.engine.step import Outcome, Step
from quincunx.engine.undisturbed import modes_kept, states_kept
from quincunx.errors import NonFiniteError, RunError
from quincunx.metrics.record import Evaluation
from quincunx.track import Trackers


@dataclass
class Loop:
    """One run's training: `State` in, `State` out."""

    plan: Plan
    state: State
    data: Updates
    seed: int
    runtime: Runtime
    checkpoints: Checkpoints
    trackers: Trackers
    requests: Requests
    evaluators: Mapping[str, Evaluator] = field(default_factory=dict)
    callbacks: Sequence[Callback] = ()
    clip_norm: float | None = None
    patience: int | None = None
    keep_best: bool = True
    evaluate_at_start: bool = False
    workers: int = 0

    def run(self) -> str:
        """Train up to the plan's end and return why it ended: `finished`, `stop_at`, `patience`, or who asked.

        Raises NonFiniteError before an update whose loss or gradient is not finite, with the state before it saved.
        """
        plan, state = self.plan, self.state
        step = Step(state.model, state.objective, self.runtime, plan, self.seed, state.scaler)
        state.model.train()
        state.objective.train()
        if self._patience_ended():
            return "patience"  # resumed with nothing changed that would let it go on
        clock = Clock(state.update)
        at_start = self.evaluate_at_start and state.update == 0 and state.best.value is None
        if at_start and self._evaluate() and self.keep_best:
            self._save(best=True)
        for batches in updates(self.data, state.update, plan.stop_at, self.workers):
            self._step(step, batches)
            done = state.update
            clock.count(batches, self.data.shard[1])
            if done % plan.log_every == 0 or done == plan.total_updates:
                self._log(clock)
            improved = False
            if _due(plan.evaluate_every, done) or done == plan.stop_at:
                improved = self._evaluate()
            reason = self._why_stop()
            improved = improved and self.keep_best
            if reason or self._save_asked() or improved or _due(plan.checkpoint_every, done):
                self._save(best=improved)
            if reason:
                return reason
        return "finished" if state.update == plan.total_updates else "stop_at"

    def _step(self, step: Step, batches: Sequence[Batch | None]) -> None:
        """Apply one update, unless its loss or gradient is not finite."""
        state = self.state
        for parameter in step.parameters:
            parameter.grad = None
        state.rates.set(state.update - state.skipped)
        outcome = step.gradient(state.update, batches)
        if state.scaler is not None:
            state.scaler.unscale_(state.optimizer)
        gradients = [p.grad for p in step.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        values = self._checked(outcome, norm, batches)
        if self.clip_norm is not None and values["gradient_norm"] > self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(step.parameters, self.clip_norm, norm)
        if self._apply(values["gradient_norm"]):
            state.objective.after_update()
            state.rates.after_update()
        else:
            state.objective.after_skip()
            state.skipped += 1
            del values["gradient_norm"]  # one overflow would make the mean of the window infinite
        state.update += 1
        state.window.add(values, {**outcome.weights, "gradient_norm": 1.0})
        for callback in self.callbacks:
            callback.update(state.update)

    def _checked(self, outcome: Outcome, norm: torch.Tensor, batches: Sequence[Batch | None]) -> dict[str, float]:
        """Return the update's loss sums and gradient norm, all finite but what a loss scaler takes care of."""
        names = [*outcome.sums, "gradient_norm"]
        totals = [total.to(norm.device).float() for total in outcome.sums.values()]
        # one transfer from the device
        values = torch.stack([*totals, norm.float()]).tolist()
        infinite = [name for name, value in zip(names, values, strict=True) if not math.isfinite(value)]
        if infinite and (self.state.scaler is None or infinite != ["gradient_norm"]):
            self.state.optimizer.zero_grad(set_to_none=True)
            self._save(best=False)
            examples = [str(name) for batch in batches if batch is not None for name in batch.ids]
            shown = ", ".join(examples[:16]) + (f" and {len(examples) - 16} more" if len(examples) > 16 else "")
            raise NonFiniteError(
                f"{' and '.join(infinite)} of update {self.state.update + 1} is not finite; stopped before applying "
                f"it. Examples of the update: {shown}. The state before it is saved: lower optimizer.learning_rate, "
                "set update.clip_norm, or look at these examples, then start anew from it with init_from"
            )
        return dict(zip(names, values, strict=True))

    def _apply(self, norm: float) -> bool:
        """Step the optimizer; False when the loss scaler skipped the step."""
        scaler, optimizer = self.state.scaler, self.state.optimizer
        if scaler is None:
            optimizer.step()
            return True
        scaler.step(optimizer)
        scaler.update()
        if not math.isfinite(norm) and scaler.get_scale() < 2**-14:
            raise NonFiniteError("fp16 gradients overflow at every loss scale: use compute.precision=bf16 or float32")
        return math.isfinite(norm)

    def _log(self, clock: Clock) -> None:
        state = self.state
        means = state.window.means()
        factors = state.objective.coefficients
        total = sum(means[term] * factors.get(term, 1.0) for term in state.objective.terms if term in means)
        values = {"loss": total, **means}
        if rates := state.rates.rates():
            values["learning_rate"] = rates[0]
        state.window.clear()
        self.trackers.log(state.update, "train", values)
        progress = Progress(
            update=state.update,
            total=self.plan.stop_at,
            epoch=float(state.update / self.plan.updates_per_epoch),
            values=values,
            speed=clock.read(state.update, self.plan.stop_at, self.runtime),
        )
        for callback in self.callbacks:
            callback.log(progress)

    def _evaluate(self) -> bool:
        """Evaluate every split; return whether the metric is the best so far."""
        state = self.state
        found: dict[str, float] = {}
        for split, evaluator in self.evaluators.items():
            evaluation = evaluate(state.model, evaluator, self.runtime, self.plan)
            found.update({f"{split}/{name}": value for name, value in evaluation.scalars.items()})
            self.trackers.log(state.update, split, evaluation.scalars)
            for callback in self.callbacks:
                callback.evaluation(state.update, split, evaluation)
        if not found:
            return False
        if state.best.metric not in found:
            raise RunError(f"there is no metric {state.best.metric}; evaluations give {', '.join(sorted(found))}")
        return state.best.see(found[state.best.metric], state.update)

    def _why_stop(self) -> str | None:
        if self._patience_ended():
            return "patience"
        reason = self.requests.stop() if self.runtime.main else None
        if self.runtime.world > 1:
            reason = self.runtime.share(reason)
        return reason if reason else None if self.state.update < self.plan.stop_at else self._end()

    def _patience_ended(self) -> bool:
        return self.patience is not None and self.state.best.since >= self.patience

    def _end(self) -> str:
        return "finished" if self.plan.stop_at == self.plan.total_updates else "stop_at"

    def _save_asked(self) -> bool:
        return self.runtime.any(self.runtime.main and self.requests.save())

    def _save(self, *, best: bool) -> None:
        state = self.state
        if self.runtime.main:
            progress = {**state.progress(), "trackers": self.trackers.position()}
            path = self.checkpoints.save(state.update, state.weights(), state.capture(), progress, best=best)
            for callback in self.callbacks:
                callback.checkpoint(state.update, path, best)
        self.runtime.barrier()


def evaluate(model: nn.Module, evaluator: Evaluator, runtime: Runtime, plan: Plan) -> Evaluation:
    """Return an evaluation made on rank 0, in eval mode and without gradients.

    Modes of modules and random states are afterwards what they were, whatever happens.
    """
    evaluation: Evaluation | None = None
    if runtime.main:
        with states_kept(runtime.device), modes_kept(model), torch.no_grad(), runtime.autocast():
            model.eval()
            evaluation = evaluator(model, runtime, plan)
    return runtime.share(evaluation)


def _due(interval: Interval | None, update: int) -> bool:
    return interval is not None and interval.fires(update)
