"""A worker: one process that takes runs from the store and trains each in a process of its own, several at once.

It decides nothing by itself (`scheduling`), keeps nothing to itself (`store`) and may be killed at any moment.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from quincunx.errors import RunError
from quincunx.runs import RunFolder
from quincunx.sweep.records import RunRecord
from quincunx.sweep.running.children import Child
from quincunx.sweep.running.outcome import Exit, Outcome, judge, outcome_of
from quincunx.sweep.running.placing import cuda_devices, environment, placement
from quincunx.sweep.running.pruning import hopeless
from quincunx.sweep.running.scheduling import Done, New, Promote, Start, Wait, choose
from quincunx.sweep.running.watching import Curve, look, peak_of_device, uses_gpu
from quincunx.sweep.storage.database import Unreachable
from quincunx.sweep.storage.store import Store, trial_path

if TYPE_CHECKING:
    from quincunx.sweep.reading.spec import Spec

POLL = 0.05
"""Seconds between two looks at the processes."""

WATCH = 0.5
"""Seconds between two looks at what the runs have measured."""

LOOK = 1.0
"""Seconds after which a worker with nothing to do looks whether others have made work."""

BEAT = 5.0
"""Seconds between two signs of life, at most."""

ENOUGH = 60.0
"""Seconds for which a storage that gives no answer is waited for, at least."""

Command = Callable[[RunRecord], Sequence[str]]
"""What trains a run to its target; the config is in its trial file."""

OnEvent = Callable[[str, RunRecord], None]
"""Is told `repeats`, `refused`, `started`, `taken over`, `stopping`, `retried`, `paused`, `interrupted`, `lost`,
`pruned`, `failed` or `done` of a run."""


def run(
    spec: Spec,
    store: Store,
    *,
    command: Command | None = None,
    arguments: Sequence[str] = (),
    on_event: OnEvent | None = None,
) -> Outcome:
    """Work on a sweep until nothing is left to do, or until asked to stop by SIGINT, SIGTERM or SIGHUP.

    The first of them has the runs save and stop; a second one kills them. What was begun goes on at the next start.

    Args:
        spec: The sweep.
        store: Its storage, open for this process.
        command: What trains a run; None: `quincunx train` with the run's trial file.
        arguments: Further ones for `quincunx train`.
        on_event: Observes; what it returns is not read.

    Raises:
        RunError: The storage gave no answer for too long, or a folder cannot be written. Runs were asked to save and
            stop before.
    """
    return _Worker(
        spec, store, command or train_command(spec.dir, arguments), on_event or (lambda kind, run: None)
    ).run()


def train_command(folder: str | Path, arguments: Sequence[str] = ()) -> Command:
    """Return the command `quincunx train` for the runs of a sweep."""

    def command(run: RunRecord) -> list[str]:
        end = [] if run.target is None else [f"budget.stop_at={run.target}"]
        file = str(trial_path(folder, run))
        return [sys.executable, "-m", "quincunx", "train", file, *end, *arguments, "--resume"]

    return command


class _Worker:
    def __init__(self, spec: Spec, store: Store, command: Command, on_event: OnEvent) -> None:
        self._spec = spec
        self._store = store
        self._command = command
        self._tell = on_event
        self._folder = Path(spec.dir)
        self._visible = cuda_devices(os.environ)
        self._places = placement(spec.settings, self._visible)
        self._children: list[Child] = []
        self._ended: list[tuple[Child, str, RunRecord]] = []
        self._asked: list[str] = []
        self._killed = False
        self._done: str | None = None
        self._unreachable: float | None = None
        self._next = {"look": 0.0, "watch": 0.0, "beat": 0.0}

    def run(self) -> Outcome:
        with self._signals():
            try:
                self._begin()
                while self._children or self._ended or not (self._done or self._asked):
                    self._turn()
                    time.sleep(POLL)
            except BaseException:
                self._abandon()
                raise
            with suppress(Unreachable):
                self._store.beat()
                self._store.leave()
        reason = f"stopped by {self._asked[0]}" if self._asked else self._done or ""
        return outcome_of(self._store.read(), reason, stopped=bool(self._asked))

    def _begin(self) -> None:
        self._store.beat()
        with self._store.lock():
            record = self._store.mend(self._store.read())
            self._store.reopen(record)
        for run in record.runs:
            # pruned by a worker that was killed before it could say so to the run
            folder = RunFolder(self._folder / run.folder)
            if run.state == "pruned" and run.owner is not None and folder.holder() is not None:
                folder.stop.touch()

    def _turn(self) -> None:
        """Do whatever is due."""
        if self._asked:
            self._stop()
        for child in list(self._children):
            self._attend(child)
        try:
            self._flush()
            if self._due("watch", WATCH):
                self._watch()
            if self._due("beat", min(BEAT, self._spec.settings.lease / 4)):
                self._beat()
            if (
                not self._asked
                and not self._ended
                and len(self._children) < len(self._places)
                and self._due("look", LOOK)
            ):
                self._look()
            self._unreachable = None
        except Unreachable:
            # runs go on without the storage; what ends in the meantime is kept until it answers
            now = time.monotonic()
            self._unreachable = self._unreachable or now
            if now - self._unreachable > max(ENOUGH, self._spec.settings.lease):
                raise
            time.sleep(LOOK)

    def _due(self, what: str, pause: float) -> bool:
        now = time.monotonic()
        if now < self._next[what]:
            return False
        self._next[what] = now + pause
        return True

    def _look(self) -> None:
        """Fill the free places, until a run turns out to be trained: it is this worker's until that is written down."""
        while len(self._children) < len(self._places) and not self._ended:
            claimed: RunRecord | None = None
            made: list[RunRecord] = []
            with self._store.lock():
                record = self._store.mend(self._store.read())
                facts = self._store.facts(record, {child.run.number for child in self._children})
                choice = choose(record, self._spec.settings, self._spec.goal, facts)
                if isinstance(choice, New):
                    made = self._store.add_trial(record)
                elif isinstance(choice, Promote):
                    self._store.promote(record.trials[choice.trial], choice.target)
                elif isinstance(choice, Start):
                    waiting = next(run for run in record.runs if run.number == choice.run)
                    claimed = self._store.claim(waiting, choice.target, anew=not self._store.reaches(waiting))
                elif isinstance(choice, Done):
                    self._store.close(record)
                    self._store.mend(self._store.read())
                    self._done = choice.reason
            for run in made:
                if run.same_as is not None or run.state == "refused":
                    self._tell("refused" if run.same_as is None else "repeats", run)
            if claimed is not None:
                if claimed.number in facts.orphans:
                    self._tell("taken over", claimed)
                self._take(claimed)
            if isinstance(choice, Wait | Done):
                return

    def _take(self, run: RunRecord) -> None:
        taken = {child.place for child in self._children}
        place = next(place for place in range(len(self._places)) if place not in taken)
        folder = self._folder / run.folder
        child = Child(run, place, folder, self._folder / "logs" / f"{run.folder}.txt", self._curve(folder))
        self._children.append(child)
        self._attend(child)

    def _curve(self, folder: Path, metric: str | None = None) -> Curve:
        metric = self._spec.metric or metric or ""
        best = self._spec.settings.value == "best"
        return Curve(RunFolder(folder).metrics, metric, self._spec.goal, best=best)

    def _attend(self, child: Child) -> None:
        """Start a run as soon as it is free, or see that it has ended."""
        if child.is_started:
            ended = child.poll()
            if ended is not None:
                self._end(child, ended)
        elif self._asked or child.lost:
            self._end(child, None)
        elif child.is_free():
            if look(child.folder, child.run.target, child.run.total).complete:
                self._end(child, None)  # a process that outlived its worker has trained it
            else:
                self._start(child)

    def _start(self, child: Child) -> None:
        run, config = child.run, self._spec.base.config
        child.variables = environment(self._spec.settings, self._places[child.place], config, os.environ)
        child.on_gpu = uses_gpu(config, child.variables, self._visible)
        try:
            self._store.config_file(run)
            child.start(self._command(run))
        except (OSError, RunError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            self._end(child, Exit(1, f"its process cannot be started: {said}", wrote=False))
            return
        self._tell("started", run)

    def _end(self, child: Child, ended: Exit | None) -> None:
        """Work out how a leg ended; `_flush` writes it down."""
        found = look(child.folder, child.run.target, child.run.total)
        best = found.summary.get("best")
        if self._spec.metric is None and best is not None:
            child.curve = self._curve(child.folder, best["metric"])
        self._update(child)
        peak = peak_of_device(child.folder) if child.on_gpu else child.memory
        run = replace(
            child.run,
            update=max(found.summary.get("update", 0), child.curve.update),
            seconds=max(child.run.seconds + child.elapsed, found.summary.get("seconds", 0.0)),
            memory=max(filter(None, (peak, child.run.memory)), default=None),
        )
        names = ", ".join(sorted(name for name in child.curve.names if not name.startswith("train/")))
        problem = f"it never measured {self._spec.metric}; there are: {names or 'no metrics'}"
        run = judge(run, found, ended, self._spec.settings.retries, problem)
        kind = "interrupted" if run.state == "waiting" and (ended is None or ended.asked) else run.state
        self._children.remove(child)
        self._ended.append((child, "retried" if kind == "waiting" else kind, run))

    def _flush(self) -> None:
        """Write down what has ended, then give up its lock."""
        while self._ended:
            child, kind, run = self._ended[0]
            kept = self._store.finish(run)
            self._ended.pop(0)
            child.release()
            pruned = child.run.state == "pruned"
            self._tell("lost" if not kept else "pruned" if pruned else kind, replace(child.run) if pruned else run)
            self._next["look"] = 0.0

    def _update(self, child: Child) -> bool:
        measured = child.curve.poll()
        if child.curve.update != child.run.update or measured:
            curve = child.curve
            child.run = replace(child.run, update=curve.update, value=curve.value, values=curve.values)
        return measured

    def _watch(self) -> None:
        """Follow what the runs measure, and end trials that have become hopeless."""
        measured = [child for child in self._children if child.is_started and self._update(child)]
        if not measured or self._spec.settings.pruner != "median":
            return
        self._beat()
        record = self._store.read()
        for number in {child.run.trial for child in measured if not child.lost}:
            reason = hopeless(record, number, self._spec.settings, self._spec.goal)
            if reason is not None and record.trials[number].state == "open":
                self._store.prune(record.trials[number], reason)
                self._beat()

    def _beat(self) -> None:
        """Give a sign of life, and learn which runs are no longer this worker's, or were pruned."""
        states = self._store.beat([child.run for child in self._children if child.run.state == "running"])
        for child in self._children:
            if child.run.number not in states:
                child.lost = True
                child.stop()
            elif states[child.run.number] == "pruned":
                child.run = replace(child.run, state="pruned")
                child.prune()

    def _stop(self) -> None:
        for child in self._children:
            if not child.asked:
                child.asked = True
                child.stop()
                if child.is_started:
                    self._tell("stopping", child.run)
        if len(self._asked) > 1 and not self._killed:
            self._killed = True
            for child in self._children:
                child.kill()

    def _abandon(self) -> None:
        """Something went wrong: have the runs save and stop before it is told."""
        self._tell = lambda kind, run: None  # it may be this that went wrong
        self._asked = self._asked or ["an error"]
        while self._children:
            self._stop()
            for child in list(self._children):
                with suppress(RunError):
                    self._attend(child)
            time.sleep(POLL)
        with suppress(Exception):
            self._flush()
            self._store.leave()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def receive(number: int, frame: FrameType | None) -> None:
            self._asked.append(signal.Signals(number).name)

        before: dict[signal.Signals, Any] = {}
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            try:
                before[number] = signal.signal(number, receive)
            except ValueError:  # not the main thread: whoever runs us there has the signals
                break
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
