"""A sweep's folder: begun or gone on with, opened again from itself alone, and reported on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from quincunx.errors import RunError
from quincunx.runs import read_json
from quincunx.runs.files import to_json, write_atomically
from quincunx.sweep.choosing.space import Listed
from quincunx.sweep.reading.continuing import compatible
from quincunx.sweep.reading.spec import Spec, restore
from quincunx.sweep.records import SweepRecord
from quincunx.sweep.report import Facts, RangeFact, write_sweep_report
from quincunx.sweep.storage.store import Store

SWEEP = "sweep.json"
BASE = "base.yaml"
"""Not `config.yaml`: whatever has that is a run to all other commands."""


@dataclass(frozen=True)
class Opened:
    """A sweep that can be worked on."""

    spec: Spec
    store: Store
    notes: list[str]
    """What changed since it was begun, in sentences."""


def begin(spec: Spec) -> Opened:
    """Make the folder of a sweep, or go on in it; `sweep.json`, `base.yaml` and `ranges.yaml` are in it afterwards.

    Raises:
        RunError: The folder is something else, was begun as another sweep, or cannot be written; or the storage cannot
            be used.
    """
    _check_free(spec.dir)
    store = Store.open(spec)
    try:
        with store.lock():
            before = store.snapshot or _kept(spec.dir)
            # one without a trial, and without anybody at work who might make one, may still become another
            begun = before is not None and (store.is_begun() or before["goal"] != spec.goal)
            notes = compatible(before, spec) if before and begun else []
            store.beat()
            snapshot = spec.snapshot()
            store.keep(snapshot)
            write_atomically(spec.dir / SWEEP, to_json(snapshot, indent=1) + b"\n")
            write_atomically(spec.dir / BASE, spec.config_text().encode())
            write_atomically(spec.dir / "ranges.yaml", spec.ranges_text().encode())
    except BaseException:
        store.shut()
        raise
    return Opened(spec, store, notes)


def reopen(folder: Path, **settings: Any) -> Spec:
    """Return the sweep that a folder holds, with other settings of `sweep` where these are given.

    Raises:
        RunError: It holds none, or one that cannot be read.
    """
    before = _kept(folder)
    if before is None:
        what = "does not exist" if not folder.exists() else f"holds no sweep: there is no {SWEEP} in it"
        raise RunError(f"{folder} {what}; quincunx sweep CONFIG begins one")
    spec = restore({**before, "dir": str(folder)})
    return replace(spec, settings=spec.settings.model_copy(update=settings))


def known(spec: Spec) -> tuple[SweepRecord, list[str]] | None:
    """Return what is known of a sweep that was begun, and what changed since; None where none was begun.

    Raises:
        RunError: As of `begin`.
    """
    before = _kept(spec.dir)
    if before is None:
        return None
    store = Store.open(spec, begin=False)
    try:
        return store.read(), compatible(before, spec) if store.is_begun() else []
    finally:
        store.shut()


def report(spec: Spec, record: SweepRecord) -> list[Path]:
    """Write the sweep's report, and return the paths of its files: the page first."""
    from importlib.metadata import version

    settings = spec.settings
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    ranges = [RangeFact(one.name, one.keys, None if isinstance(one, Listed) else one.log) for one in spec.space.ranges]
    facts = Facts(
        name=spec.name,
        dir=spec.dir,
        metric=spec.metric or "value",
        goal=spec.goal,
        sampler=spec.sampler,
        pruner=settings.pruner,
        n_seeds=settings.n_seeds,
        ranges=tuple(ranges),
        command=shlex.join(["quincunx", "sweep", "work", str(spec.dir)]),
        written=f"Written {now} by quincunx {version('quincunx')}.",
        value=settings.value,
        notes=tuple(spec.notes),
    )
    return write_sweep_report(spec.dir, record, facts)


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"sweep.dir {folder} is a file; a sweep needs a folder of its own: give another sweep.dir")
    if (folder / "checkpoints").exists() or (folder / "config.yaml").exists():
        raise RunError(f"sweep.dir {folder} is the folder of a run; give another sweep.dir")


def _kept(folder: Path) -> Mapping[str, Any] | None:
    path = folder / SWEEP
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or "layers" not in found:
        raise RunError(f"{path} is no description of a sweep: {json.dumps(found)[:80]}")
    return found
