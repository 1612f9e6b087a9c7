"""Trackers: where metrics go besides the terminal. A config word leads to its class in one jump, through `TRACKERS`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from quincunx.errors import RunError, UsageError

if TYPE_CHECKING:
    from quincunx.config.sections.run import Log

TRACKERS: dict[str, str] = {
    "jsonl": "quincunx.track.jsonl:JsonLines",
    "tensorboard": "quincunx.track.tensorboard:TensorBoard",
}
"""The words of `log.trackers`; `log.wandb`, a section of its own, leads to `quincunx.track.wandb:open_wandb`."""


class Tracker(Protocol):
    """Where metrics go. Nothing a tracker does may change training."""

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Begin, or go on, in a run folder; `config` is the resolved config as plain containers."""
        ...

    def log(self, update: int, split: str, values: Mapping[str, float]) -> None:
        """Record values by name, as they are after `update` updates."""
        ...

    def position(self) -> dict[str, Any]:
        """Return what a checkpoint stores (plain values), everything logged so far being safe on the disk."""
        ...

    def resume(self, position: Mapping[str, Any]) -> None:
        """Take back all that was logged after a position (empty: everything), right after `start`."""
        ...

    def flush(self) -> None:
        """Bring everything logged so far to the disk."""
        ...

    def finish(self, exit_code: int = 0) -> None:
        """Flush and close; 0 says that the run came to its end, anything else that it was stopped or broke off."""
        ...


class Trackers:
    """Several trackers as one; what one of them raises is raised on with its name.

    `jsonl` is the first, so that the run's own file is whole whatever another one does.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self.trackers = dict(trackers)

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Begin, or go on, in a run folder."""
        for name, tracker in self.trackers.items():
            with _named(name, "start"):
                tracker.start(folder, config)

    def log(self, update: int, split: str, values: Mapping[str, float]) -> None:
        """Record values by name, as they are after `update` updates.

        Raises:
            RunError: A tracker could not; the text says which and why.
        """
        for name, tracker in self.trackers.items():
            with _named(name, "log"):
                tracker.log(update, split, values)

    def position(self) -> dict[str, Any]:
        """Return the positions of all trackers by name, for a checkpoint."""
        found: dict[str, Any] = {}
        for name, tracker in self.trackers.items():
            with _named(name, "flush"):
                found[name] = tracker.position()
        return found

    def resume(self, positions: Mapping[str, Any]) -> None:
        """Take every tracker back to its position in a checkpoint, to its beginning where there is no checkpoint yet.

        A tracker that the checkpoint does not know, because it was asked for later, leaves what is there and begins.

        Raises:
            RunError: What was tracked up to there is lost, or the checkpoint lacks the position of `jsonl`.
        """
        if positions and "jsonl" in self.trackers and "jsonl" not in positions:
            raise RunError(
                f"the checkpoint has positions of {', '.join(positions)}, but not of jsonl: it does not say where "
                "metrics.jsonl goes on. Resume from another checkpoint, or begin a new run with init_from."
            )
        for name, tracker in self.trackers.items():
            if name in positions or not positions:
                with _named(name, "resume"):
                    tracker.resume(positions.get(name, {}))

    def flush(self) -> None:
        """Bring everything logged so far to the disk."""
        for name, tracker in self.trackers.items():
            with _named(name, "flush"):
                tracker.flush()

    def finish(self, exit_code: int = 0) -> None:
        """Flush and close all, also when one of them fails; the first failure is raised."""
        failed: RunError | None = None
        for name, tracker in self.trackers.items():
            try:
                with _named(name, "finish"):
                    tracker.finish(exit_code)
            except RunError as error:
                failed = failed or error
        if failed is not None:
            raise failed


def open_trackers(names: Sequence[str]) -> Trackers:
    """Return the trackers of these names, not started yet; `jsonl` is always among them, and first.

    Raises:
        UsageError: There is no tracker of that name.
        MissingExtra: A tracker's package is not installed.
    """
    found: dict[str, Tracker] = {}
    for name in dict.fromkeys(["jsonl", *names]):
        if name not in TRACKERS:
            raise UsageError(f"there is no tracker {name!r}; log.trackers knows {', '.join(TRACKERS)}.")
        module, attribute = TRACKERS[name].split(":")
        found[name] = getattr(import_module(module), attribute)()
    return Trackers(found)


def trackers_of(config: Log) -> Trackers:
    """Return the trackers that the section `log` asks for, not started yet.

    Raises:
        UsageError: A tracker lacks what it needs, such as a key.
        MissingExtra: A tracker's package is not installed.
    """
    opened = open_trackers(config.trackers)
    if config.wandb.use:
        found = import_module("quincunx.track.wandb").open_wandb(config.wandb)
        if found is not None:
            opened.trackers["wandb"] = found
    return opened


@contextmanager
def _named(name: str, act: str) -> Iterator[None]:
    try:
        yield
    except (RunError, OSError) as error:
        raise RunError(f"tracker {name} could not {act}: {error}") from error
