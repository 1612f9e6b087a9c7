"""The verb `sweep`: many runs over ranges of settings, work on one that was begun, and what came out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.verbs.common import Adder, aligned, group, run_folder, say, say_error

if TYPE_CHECKING:
    from quincunx.sweep.folder import Opened
    from quincunx.sweep.forecast import Expected
    from quincunx.sweep.reading.spec import Spec
    from quincunx.sweep.records import RunRecord, SweepRecord

WORDS = ("run", "work", "report", "-h", "--help")

QUIET = frozenset({"repeats"})
"""Events that are not worth a line."""


def add_to(add: Adder) -> None:
    """Add the verbs."""
    below = group(
        add, "sweep", "train a config over ranges of its settings: quincunx sweep CONFIG [RANGES] [CHANGE ...]"
    )
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
    spec = open_sweep(_source(options.config), ranges, changes, task=options.task, strict=options.strict)
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
    _say_standing(spec, record)
    paths = write(spec, record)
    say("\n".join(map(str, paths)))
    return 0


def _source(path: str) -> str | Path:
    """Return the config that the command names: a file, or that of a run folder."""
    import shlex

    from quincunx.errors import UsageError
    from quincunx.sweep.folder import SWEEP

    if Path(path, SWEEP).is_file():
        raise UsageError(
            f"{path} holds a sweep that was begun: quincunx sweep work {shlex.quote(path)} goes on with it"
        )
    return run_folder(path).config if Path(path).is_dir() else path


def _apart(texts: list[str]) -> tuple[str | None, list[str]]:
    """Return the file of ranges among what stands behind the config, if there is one, and the changes."""
    from quincunx.errors import UsageError

    files = [text for text in texts if "=" not in text and not text.startswith("~")]
    if len(files) > 1:
        raise UsageError(f"one file of ranges at most, found {' and '.join(files)}; a change is path=value")
    return (files[0] if files else None), [text for text in texts if text not in files]


def _dry_run(spec: Spec) -> int:
    from quincunx.console import duration
    from quincunx.sweep.folder import known
    from quincunx.sweep.forecast import MEASURED, costs, measured_by, to_come
    from quincunx.sweep.records import FINAL, SweepRecord

    record, notes = known(spec) or (SweepRecord([]), [])
    _say_changes(notes)
    if record.runs:
        say(aligned([[each.number, each.state, spec.dir / each.folder] for each in record.runs]))
    expected = to_come(spec, record)
    if expected:
        expected = costs(expected, measured_by(spec))
        rows = [_expected_row(spec, each) for each in expected]
        say(aligned(rows))
        if not all(each.measured or each.refused for each in expected):
            say(f"~: as of the most similar of the {MEASURED} configurations, at most, that were measured")
    elif told := _cannot_be_listed(spec, record):
        say(f"{told}; nothing was run")
        return 0
    begun = sum(each.state not in FINAL for each in record.runs)
    count = sum(not each.refused for each in expected)
    said = f"{count} {'new ' if record.runs else ''}run{'s' * (count != 1)}"
    said += f", {begun} begun before to go on with" if begun else ""
    known_costs = [each.seconds for each in expected if each.seconds is not None]
    if known_costs:
        at_once = f", {spec.settings.workers} at once" if spec.settings.workers > 1 else ""
        said += f", {duration(sum(known_costs) / spec.settings.workers)} of training on this machine{at_once}"
    pruned = ", at most: the pruner ends most of them early" if expected and spec.settings.pruner != "none" else ""
    say(f"{said}{pruned}; nothing was run")
    return 0


def _expected_row(spec: Spec, run: Expected) -> list[Any]:
    from quincunx.console import duration

    about = "" if run.measured else "~"
    of = f"seed {run.replicate + 1} of {spec.settings.n_seeds}" if spec.settings.n_seeds > 1 else ""
    if run.refused:
        return [run.number, spec.dir / run.folder, of, f"refused: {run.refused}", "", ""]
    costs = [f"{about}{run.parameters:,} parameters", f"{run.updates:,} updates"]
    return [
        run.number,
        spec.dir / run.folder,
        of,
        *costs,
        "" if run.seconds is None else f"{about}{duration(run.seconds)}",
    ]


def _cannot_be_listed(spec: Spec, record: SweepRecord) -> str | None:
    """Return why runs that are to come are not listed, None where none are to come."""
    from quincunx.sweep.settings import ADAPTIVE

    trials = spec.settings.trials
    if spec.sampler == "grid" or (trials is not None and trials <= len(record.trials)):
        return None
    if spec.sampler in ADAPTIVE:
        most = "" if trials is None else f"{trials - len(record.trials):,} "
        return f"{spec.sampler} chooses {most}configurations by what the ones before show: none can be told before"
    return f"{spec.sampler} draws configurations until sweep.updates or sweep.hours end it; sweep.trials=N lists N"


def _say_changes(notes: list[str]) -> None:
    for note in notes:
        say(f"note: changed since it was begun: {note}")


def _work(opened: Opened, allowed: list[str]) -> int:
    from quincunx.sweep.folder import report as write
    from quincunx.sweep.report.values import gist
    from quincunx.sweep.running.worker import run as work_on

    spec, store = opened.spec, opened.store
    _say_changes(opened.notes)
    arguments = [word for path in allowed for word in ("--allow-target", path)]
    say(f"sweep in {spec.dir}: {spec.sampler}, {spec.metric or 'no metric'} to {spec.goal}imise")
    try:
        outcome = work_on(spec, store, arguments=arguments, on_event=lambda kind, run: _tell(spec, kind, run))
        record = store.read()
    finally:
        store.shut()
    _say_standing(spec, record)
    for each in record.runs:
        if each.state in ("failed", "refused"):
            log = spec.dir / "logs" / f"{each.folder}.txt"
            say_error(f"{each.state}: {each.folder}: {gist(each.reason)}" + (f"; log: {log}" if log.is_file() else ""))
    paths = write(spec, record)
    say(f"{spec.dir}: {outcome.reason}; report: {paths[0]}")
    if outcome.stopped:
        say("the same command goes on")
    return outcome.exit_code


def _tell(spec: Spec, kind: str, run: RunRecord) -> None:
    from quincunx.console import duration
    from quincunx.sweep.report.values import gist

    if kind in QUIET:
        return
    if kind == "stopping":
        say(f"{kind:<11} {run.folder}: it saves first; once more ends it at once")
        return
    if kind == "started":
        till = "" if run.target is None else f" to update {run.target:,}"
        say(f"{kind:<11} {run.folder}{till}")
        return
    value = "" if run.value is None else f": {spec.metric or 'value'} {run.value:.6g} after {run.update:,} updates"
    reason = f" ({gist(run.reason)})" if run.reason and kind not in ("done", "paused") else ""
    say(f"{kind:<11} {run.folder}{value}, {duration(run.seconds)}{reason}")


def _say_standing(spec: Spec, record: SweepRecord) -> None:
    from quincunx.sweep.report.results import again, table
    from quincunx.sweep.report.texts import standing, verdict
    from quincunx.sweep.report.values import label

    results = table(record, spec.goal)
    say(standing(record, results))
    if results.best is not None:
        best = ", ".join(f"{key}={label(value)}" for key, value in results.best.settings.items())
        say(f"best: {best}, {spec.metric or 'value'} {results.best.value:.6g}. {verdict(results)}")
        say(f"train it again: {again(spec.dir, results.best)}")
