"""The observer that keeps a run folder's own record: evaluations, clocks, and a summary that is true at any moment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quincunx.config.plan import Plan
from quincunx.engine.events import Callback, Progress
from quincunx.engine.state import State
from quincunx.metrics.record import Evaluation
from quincunx.runs import RunFolder, Summary, read_summary

REASONS = {
    "finished": "trained to the end",
    "stop_at": "reached budget.stop_at; --resume with a later one goes on",
    "patience": "no better evaluation for evaluate.patience evaluations",
}


class Journal(Callback):
    """Writes `summary.json`, `timings.jsonl` and `evaluations/`."""

    def __init__(self, folder: RunFolder, config: Any, plan: Plan, state: State) -> None:
        self._folder = folder
        self._state = state
        self._plan = plan
        self._config = config
        self._before = 0.0
        self._began = time.monotonic()
        self._timings = None

    def start(self, plan: Plan, update: int, notes: Sequence[str]) -> None:
        """Open the record, going on with the clock of a resumed run."""
        if self._folder.summary.is_file():
            self._before = read_summary(self._folder).get("seconds", 0.0)
        self._timings = self._folder.open_lines("timings.jsonl")
        self._write("running", "")

    def log(self, progress: Progress) -> None:
        """Record the clocks."""
        if self._timings is not None:
            self._timings.append({"update": progress.update, "elapsed": self._seconds(), **progress.speed})

    def evaluation(self, update: int, split: str, evaluation: Evaluation) -> None:
        """Keep the evaluation whole."""
        value = {"split": split, "update": update, **evaluation.to_json()}
        self._folder.write_json(f"evaluations/{split}-{update:08d}.json", value)
        for name, text in evaluation.files.items():
            self._folder.write_text(name, text)
        self._write("running", "")

    def checkpoint(self, update: int, path: Path, best: bool) -> None:
        """Bring the summary up to date."""
        self._write("running", "")

    def end(self, update: int, reason: str) -> None:
        """Close the record."""
        state = "finished" if reason in REASONS else "interrupted"
        self._close(state, REASONS.get(reason, f"saved and stopped by {reason}; --resume goes on"))

    def error(self, error: BaseException) -> None:
        """Close the record with what went wrong."""
        interrupted = isinstance(error, KeyboardInterrupt)
        text = "stopped without saving" if interrupted else f"{type(error).__name__}: {error}"
        self._close("interrupted" if interrupted else "failed", text)

    def _close(self, state: Any, reason: str) -> None:
        timings, self._timings = self._timings, None
        try:
            if timings is not None:
                timings.close()
        finally:
            self._write(state, reason)

    def _seconds(self) -> float:
        return round(self._before + time.monotonic() - self._began, 3)

    def _write(self, state: Any, reason: str) -> None:
        best = self._state.best
        summary: Summary = {
            "recipe": self._config.recipe,
            "task": getattr(self._config, "task", None),
            "state": state,
            "update": self._state.update,
            "updates": self._plan.stop_at,
            "best": None
            if best.value is None or best.update is None
            else {"metric": best.metric, "value": best.value, "update": best.update},
            "reason": reason,
            "seconds": self._seconds(),
        }
        self._folder.write_json("summary.json", summary)
