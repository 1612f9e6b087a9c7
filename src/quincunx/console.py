"""What a run shows: a live bar on a terminal, one plain line per log interval where the output is piped."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from quincunx.config.plan import Plan
from quincunx.engine.events import Callback
from quincunx.engine.events import Progress as Line
from quincunx.metrics.record import Evaluation


class Terminal(Console):
    """The standard output; where it takes no more (a full disk, `train ... | head`), a run goes on in silence."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as any console does, or nothing once that has failed."""
        try:
            super().print(*objects, **options)
        except OSError:
            self.quiet = True

    def on_broken_pipe(self) -> None:
        """Send what is still printed nowhere."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class ConsoleCallback(Callback):
    """Prints progress, evaluations and where the run was saved."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = None

    def start(self, plan: Plan, update: int, notes: Sequence[str]) -> None:
        """Say what was decided, and show the bar on a terminal."""
        for note in notes:
            self._say(f"note: {note}")
        if self._console.is_terminal:
            width = len(str(plan.stop_at))
            # on a narrow terminal the values are wrapped, the count never is cut
            self._bar = Progress(
                TextColumn(
                    "{task.completed}/{task.total}", table_column=Column(min_width=2 * width + 1, justify="right")
                ),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[line]}", markup=False, table_column=Column(no_wrap=False)),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("train", total=plan.stop_at, completed=update, line="")
            self._bar.start()

    def update(self, update: int) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=update)

    def log(self, progress: Line) -> None:
        """Show the means since the last line."""
        text = format_line(progress)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress.update, line=text.split(": ", 1)[1])
        else:
            self._say(text)

    def evaluation(self, update: int, split: str, evaluation: Evaluation) -> None:
        """Show the evaluator's sentences, or its scalars where it has none."""
        notes = evaluation.notes or [f"{split} " + ", ".join(f"{k} {v:.4g}" for k, v in evaluation.scalars.items())]
        for note in notes:
            self._say(f"update {update}: {note}")

    def stopping(self, reason: str) -> None:
        """Say at once that the wish was heard: the update at hand may take a while."""
        # not through the console: a signal may come in the middle of a line that is being written
        os.write(2, f"\n{reason}: saving and stopping after this update; a second Ctrl-C stops at once\n".encode())

    def end(self, update: int, reason: str) -> None:
        """Take the bar away."""
        self._close()

    def error(self, error: BaseException) -> None:
        """Take the bar away."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def format_line(progress: Line) -> str:
    """Return one line of the log: `update 50/200 (epoch 0.25): loss 2.30, rate 0.001, ...`."""
    values, speed = progress.values, progress.speed
    named = {"gradient_norm": "gradient", "learning_rate": "rate"}
    # a name with a slash is a detail of another, such as each adapter's share: metrics.jsonl and trackers have it
    shown = {name: value for name, value in values.items() if name not in named and "/" not in name}
    parts = [f"{name} {value:.3g}" if 0 < abs(value) < 1e-3 else f"{name} {value:.4f}" for name, value in shown.items()]
    # an update that a loss scaler skipped has no gradient, an optimizer without a rate no rate
    parts += [f"{short} {values[name]:.3g}" for name, short in named.items() if name in values]
    parts.append(f"{speed['examples_per_second']:,.0f} examples/s")
    if "tokens_per_second" in speed:
        parts.append(f"{speed['tokens_per_second']:,.0f} tokens/s")
    parts.append(f"{speed['memory_bytes'] / 2**20:,.0f} MiB")
    left = speed["seconds_left"]
    if math.isfinite(left):
        parts.append(f"{duration(left)} left")
    return f"update {progress.update}/{progress.total} (epoch {progress.epoch:.2f}): " + ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration as people say it: `12 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress_of(console: Console) -> Callable[[int, int], None]:
    """Return a callback for the preparation of data that says how far it is: ten lines at the most."""
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        tenth = 10 * done // max(total, 1)
        if tenth > shown:
            shown = tenth
            console.print(f"preparing data: {done:,} of {total:,} examples", markup=False, highlight=False)

    return show
