"""The tracker that every run has: `metrics.jsonl`, one object a line with `update`, `split`, `name`, `value`.

There are no clocks in it, so a run that repeats another bit by bit repeats the file byte by byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quincunx.errors import RunError
from quincunx.runs import LineFile, RunFolder


class JsonLines:
    """Writes `metrics.jsonl`; its position is the length of the file in bytes."""

    def __init__(self) -> None:
        self._file: LineFile | None = None

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Open the file, or go on at its end."""
        self._file = LineFile(RunFolder(folder).metrics)

    def log(self, update: int, split: str, values: Mapping[str, float]) -> None:
        """Append one line a value: all of them, or none where that fails."""
        self._open().append(
            *(
                {"update": int(update), "split": split, "name": name, "value": float(value)}
                for name, value in values.items()
            )
        )

    def position(self) -> dict[str, Any]:
        """Return the length of the file, all of it being on the disk."""
        self.flush()
        return {"bytes": self._open().length()}

    def resume(self, position: Mapping[str, Any]) -> None:
        """Cut the file back to its length at the checkpoint; RunError where it is shorter than that."""
        length = position.get("bytes", 0)
        if type(length) is not int or length < 0:
            raise RunError(f"a position in metrics.jsonl is a number of bytes, found {length!r}")
        self._open().truncate(length)

    def flush(self) -> None:
        """Bring every line to the disk."""
        self._open().sync()

    def finish(self, exit_code: int = 0) -> None:
        """Flush and close, however the run ended."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> LineFile:
        if self._file is None:
            raise RunError("metrics.jsonl is not open: start comes first, and nothing after finish")
        return self._file
