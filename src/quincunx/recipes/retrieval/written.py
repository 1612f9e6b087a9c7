"""Folders that come into being whole: written under another name, compared with the run, then put in their place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from quincunx.errors import RunError, UsageError
from quincunx.runs.files import sync

TOLERANCE = 1e-5
"""How far a number may lie from the run's own, as a share of the largest (of 1, where all are smaller)."""


class ExportError(RunError):
    """What was exported does not do what the run does."""


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which takes that name on leaving; on an error nothing of it is left.

    Raises:
        UsageError: Something is there already; it is left as it is.
        RunError: It cannot be written there.
    """
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already, and is left as it is; give another folder by --out")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise _failed(path, error) from error
    try:
        yield unfinished
        for file in sorted(unfinished.rglob("*")):
            if file.is_file():
                sync(file)
        unfinished.rename(path)
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _failed(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be written: {error.strerror or error}; nothing of it was kept")


def check_near(found: Tensor, wanted: Tensor, what: str, tolerance: float = TOLERANCE) -> float:
    """Return the largest difference as a share of the largest number wanted (at least 1).

    Raises:
        ExportError: It is above the tolerance, or what was found has another shape or is not finite.
    """
    if found.shape != wanted.shape:
        raise ExportError(
            f"{what}: found {list(found.shape)} numbers, the run gives {list(wanted.shape)}; nothing was kept"
        )
    worst = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))
    if not worst <= tolerance:
        raise ExportError(
            f"{what}: numbers lie up to {worst:.1e} from the run's, more than {tolerance:.0e}; nothing was kept. This "
            "is a fault of quincunx or of a library's version; please report it with the run's config"
        )
    return worst


def write_json(file: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a file of indented JSON, and the folders on the way to it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
