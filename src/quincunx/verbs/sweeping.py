"""The verb `sweep`: many runs over ranges of settings, work on one that was begun, and what came out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.verbs.common import Adder, aligned, group, say, say_error

if TYPE_CHECKING:
    from quincunx.sweep.folder import Opened
    from quincunx.sweep.reading.spec import Spec
    from quincunx.sweep.records import RunRecord, SweepRecord

WORDS = ("run", "work", "report", "-h", "--help")

QUIET = frozenset({"repeats"})
"""Events that are not worth a line."""


def add_to(add: Adder) -> None:
    """Add the verbs."""
    below = group(add, "sweep", "train a config over ranges of its settings: quincunx sweep CONFIG [RANGES]")
    what = "run a sweep, or go on with it; the word run may be left out. RANGES, a second file, comes before changes"
    made = below("run", run, what, config=True)
    made.add_argument("--dry-run", action="store_true", help="list the runs, with parameters and times; run nothing")
    made.add_argument("--allow-target", action="append", default=[], metavar="PATH", help="let _target_ name this too")

    made = below("work", work, "join a sweep that was begun, by its folder")
    made.add_argument("folder", help="the sweep's folder")
    made.add_argument("--workers", type=int, metavar="N", help="runs at once; default: as the sweep says")
    made.add_argument("--storage", metavar="URL", help="where its trials are kept, with a password if it needs one")
    made.add_argument("--allow-target", action="append", default=[], metavar="PATH", help="let _target_ name this too")

    made = below("report", report, "write the report of a sweep, finished or not")
    made.add_argument("folder", help="the sweep's folder")
    made.add_argument("--storage", metavar="URL", help="where its trials are kept, with a password if it needs one")


def with_run(arguments: list[str]) -> list[str]:
    """Return arguments in which `sweep CONFIG` says `sweep run CONFIG`."""
    if arguments[:1] == ["sweep"] and arguments[1:2] and arguments[1] not in WORDS:
        return ["sweep", "run", *arguments[1:]]
    return arguments


def run(options: argparse.Namespace) -> int:
    """Run a sweep, or say what would be run."""
    from quincunx.sweep.folder import begin
    from quincunx.sweep.reading.spec import open_sweep

    ranges, changes = _apart(options.overrides)
    spec = open_sweep(options.config, ranges, changes, task=options.task, strict=options.strict)
    for problem in spec.warnings:
        say_error(problem.render())
    for note in spec.notes:
        say(f"note: {note}")
    if options.dry_run:
        return _dry_run(spec)
    return _work(begin(spec), options.allow_target)


def work(options: argparse.Namespace) -> int:
    """Join a sweep by its folder."""
    from quincunx.errors import UsageError
    from quincunx.sweep.folder import Opened, reopen
    from quincunx.sweep.storage.store import Store

    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers is {options.workers}: runs at once, 1 or more")
    more: dict[str, Any] = {"workers": options.workers, "storage": options.storage}
    spec = reopen(Path(options.folder), **{name: value for name, value in more.items() if value is not None})
    return _work(Opened(spec, Store.open(spec), []), options.allow_target)


def report(options: argparse.Namespace) -> int:
    """Write a sweep's report."""
    from quincunx.sweep.folder import reopen
    from quincunx.sweep.folder import report as write
    from quincunx.sweep.storage.store import Store

    spec = reopen(Path(options.folder), **({} if options.storage is None else {"storage": options.storage}))
    store = Store.open(spec, begin=False)
    try:
        record = store.read()
    finally:
        store.shut()
    paths = write(spec, record)
    _say_standing(spec, record)
    say("\n".join(map(str, paths)))
    return 0


def _apart(texts: list[str]) -> tuple[str | None, list[str]]:
    """Return the file of ranges among what stands behind the config, if there is one, and the changes."""
    from quincunx.errors import UsageError

    files = [text for text in texts if "=" not in text and not text.startswith("~")]
    if len(files) > 1:
        raise UsageError(f"one file of ranges at most, found {' and '.join(files)}; a change is path=value")
    return (files[0] if files else None), [text for text in texts if text not in files]


def _dry_run(spec: Spec) -> int:
    from quincunx.console import duration
    from quincunx.sweep.forecast import MEASURED, costs, measured_by, to_come
    from quincunx.sweep.records import SweepRecord

    record = _known(spec) or SweepRecord([])
    for each in record.runs:
        say(f"{each.number}  {each.state}  {spec.dir / each.folder}")
    expected = to_come(spec, record)
    if not expected and spec.sampler not in ("grid", "random", "qmc"):
        say(f"{spec.sampler} chooses configurations by what the ones before show: none can be told before")
    if expected:
        expected = costs(expected, measured_by(spec))
        rows = [
            [
                each.number,
                spec.dir / each.folder,
                f"seed {each.replicate + 1} of {spec.settings.n_seeds}" if spec.settings.n_seeds > 1 else "",
                f"{'' if each.measured else '~'}{each.parameters:,} parameters",
                f"{each.updates:,} updates",
                "" if each.seconds is None else f"{'' if each.measured else '~'}{duration(each.seconds)}",
            ]
            for each in expected
        ]
        say(aligned(rows))
        if not all(each.measured for each in expected):
            say(f"~: as of the most similar of the {MEASURED} configurations, at most, that were measured")
    known = [each.seconds for each in expected if each.seconds is not None]
    pruned = ", at most: the pruner ends most of them early" if spec.settings.pruner != "none" else ""
    if known:
        total = sum(known) / spec.settings.workers
        at_once = f", {spec.settings.workers} at once" if spec.settings.workers > 1 else ""
        say(f"{len(expected)} runs, {duration(total)} of training on this machine{at_once}{pruned}; nothing was run")
    else:
        say(f"{len(expected)} runs{pruned}; nothing was run")
    return 0


def _known(spec: Spec) -> SweepRecord | None:
    """Return what is known of a sweep that was begun, None where none was."""
    from quincunx.sweep.folder import SWEEP
    from quincunx.sweep.storage.store import Store

    if not (spec.dir / SWEEP).is_file():
        return None
    store = Store.open(spec, begin=False)
    try:
        return store.read()
    finally:
        store.shut()


def _work(opened: Opened, allowed: list[str]) -> int:
    from quincunx.sweep.folder import report as write
    from quincunx.sweep.running.worker import run as work_on

    spec, store = opened.spec, opened.store
    for note in opened.notes:
        say(f"note: changed since it was begun: {note}")
    arguments = [word for path in allowed for word in ("--allow-target", path)]
    say(f"sweep in {spec.dir}: {spec.sampler}, {spec.metric or 'no metric'} to {spec.goal}imise")
    try:
        outcome = work_on(spec, store, arguments=arguments, on_event=lambda kind, run: _tell(spec, kind, run))
        record = store.read()
    finally:
        store.shut()
    paths = write(spec, record)
    _say_standing(spec, record)
    for each in record.runs:
        if each.state in ("failed", "refused"):
            say_error(f"{each.state}: {each.folder}: {each.reason}; log: {spec.dir / 'logs' / each.folder}.txt")
    say(f"{spec.dir}: {outcome.reason}; report: {paths[0]}")
    if outcome.stopped:
        say("the same command goes on")
    return outcome.exit_code


def _tell(spec: Spec, kind: str, run: RunRecord) -> None:
    from quincunx.console import duration

    if kind in QUIET:
        return
    if kind == "started":
        till = "" if run.target is None else f" to update {run.target:,}"
        say(f"{kind:<11} {run.folder}{till}")
        return
    value = "" if run.value is None else f": {spec.metric or 'value'} {run.value:.6g} after {run.update:,} updates"
    reason = f" ({run.reason.splitlines()[0]})" if run.reason and kind not in ("done", "paused") else ""
    say(f"{kind:<11} {run.folder}{value}, {duration(run.seconds)}{reason}")


def _say_standing(spec: Spec, record: SweepRecord) -> None:
    from quincunx.sweep.report.results import again, table
    from quincunx.sweep.report.texts import standing, verdict

    results = table(record, spec.goal)
    say(standing(record, results))
    if results.best is not None:
        best = ", ".join(f"{key}={value}" for key, value in results.best.settings.items())
        say(f"best: {best}, {spec.metric or 'value'} {results.best.value:.6g}. {verdict(results)}")
        say(f"train it again: {again(spec.dir, results.best)}")
