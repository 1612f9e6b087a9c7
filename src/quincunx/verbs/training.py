"""The verbs of runs: train, predict, report, and the list and comparison of runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from quincunx.verbs.common import Adder, add_skips, group, read_text, run_folder, say
from quincunx.verbs.configs import load_named
from quincunx.verbs.processes import start_several

ROWS = (
    'long_range {"source": "[MAX 1 2 ]"} for ListOps, {"text"}, {"text1", "text2"} or {"pixels"}; '
    'retrieval {"query", "documents": [...]} or {"text"}; '
    'compression {"context", "prompt"}, one or both, or what a generated task asks; '
    'vision_language {"picture", "text"}, and "task" where there are several'
)
"""What rows hold that are predicted for, by recipe."""


def add_to(add: Adder) -> None:
    """Add the verbs."""
    made = add("train", train, "train what a config describes", config=True)
    made.add_argument(
        "--resume", nargs="?", const=True, default=False, metavar="RUN", help="go on with the newest run, or with RUN"
    )
    made.add_argument("--from", dest="checkpoint", metavar="CHECKPOINT", help="with --resume: from this checkpoint")
    made.add_argument("--limit", type=int, metavar="N", help="use only the first N examples of every split")
    made.add_argument("--overfit-batch", action="store_true", help="train on the first logical batch again and again")
    made.add_argument("--profile", action="store_true", help="record updates 5 to 10 with torch.profiler")
    add_skips(made)
    made.add_argument("--allow-target", action="append", default=[], metavar="PATH", help="let _target_ name this too")

    made = add("predict", predict, "predict for rows of a JSON-lines file")
    made.add_argument("run", help="run folder")
    made.add_argument("rows", help=f"JSON lines, one row each: {ROWS}; - reads stdin")
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")

    made = add("report", report, "write a run's report.html anew")
    made.add_argument("run", help="run folder")

    _add_runs(group(add, "runs", "list runs, or compare them"))


def _add_runs(add: Adder) -> None:
    made = add("list", list_runs, "list runs with their state")
    made.add_argument("root", nargs="?", help="folder that holds them; default: runs")

    made = add("compare", compare, "compare finished runs: means over seeds, intervals, paired differences")
    made.add_argument("paths", nargs="+", metavar="RUN", help="run folders, or folders that hold them")
    made.add_argument("--metric", default="test/accuracy", help="split/name; default: test/accuracy")
    made.add_argument("--by", metavar="PATHS", help="settings that make the groups, for example attention.kind")
    made.add_argument("--against", metavar="GROUP", help="group that the others are compared with; default: the first")
    made.add_argument("--tables", action="store_true", help="also the evaluations' tables, averaged over seeds")
    made.add_argument("--any-data", action="store_true", help="also runs on different data")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as Markdown")
    form.add_argument("--json", action="store_true", help="as JSON")


def train(options: argparse.Namespace) -> int:
    """Train."""
    from quincunx.errors import UsageError

    extra: list[str] = []
    if options.limit is not None:
        extra.append(f"debug.limit={options.limit}")
    if options.overfit_batch:
        extra.append("debug.overfit_batch=true")
    if options.profile:
        extra.append("debug.profile=true")
    loaded = load_named(options, extra)
    start_several(loaded.config.compute, options.arguments)
    resume = options.resume
    if options.checkpoint is not None and not resume:
        raise UsageError(f"--from {options.checkpoint} says from where to go on: give --resume as well")
    if resume is True and Path(options.config).is_dir():
        resume = options.config

    from quincunx.console import ConsoleCallback, Terminal, progress_of
    from quincunx.launch import Wish, launch
    from quincunx.runs import read_summary, reopen

    console = Terminal(soft_wrap=True)
    shown = (ConsoleCallback(console),) if loaded.config.log.console else ()
    wish = Wish(resume, options.checkpoint, tuple(options.allow_target), shown, progress_of(console))
    ended = launch(loaded, wish)
    if ended.main:
        folder = reopen(str(ended.path))
        text = f"{folder.path}: {read_summary(folder).get('reason', '')}; report: {folder.report}"
        console.print(text, markup=False, highlight=False)  # as all of a run's lines: output that fails fails nothing
    return 0 if ended.done else 1


def predict(options: argparse.Namespace) -> int:
    """Predict for rows."""
    from quincunx.api import Run
    from quincunx.errors import DataError, UsageError

    folder = run_folder(options.run)
    if options.rows != "-" and Path(options.rows).is_dir():
        raise UsageError(f"{options.rows} is a folder; expected a file of JSON lines, or - for the standard input")
    text = read_text(options.rows)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{options.rows}:{number}: not a JSON object: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{options.rows}:{number}: expected a JSON object, found {type(row).__name__}")
            rows.append(row)
    for prediction in Run(folder.path).predict(rows, options.checkpoint):
        say(json.dumps(prediction, ensure_ascii=False))
    return 0


def report(options: argparse.Namespace) -> int:
    """Write a run's report."""
    from quincunx.report import write_report

    say(str(write_report(run_folder(options.run).path)))
    return 0


def list_runs(options: argparse.Namespace) -> int:
    """List runs."""
    from quincunx.errors import UsageError
    from quincunx.runs import as_table
    from quincunx.runs import list_runs as find_runs

    root = Path("runs" if options.root is None else options.root)
    if options.root is not None and not root.is_dir():
        raise UsageError(f"{root} is no folder: give the one that holds the run folders")
    say(as_table(find_runs(root)))
    return 0


def compare(options: argparse.Namespace) -> int:
    """Show a comparison of runs."""
    from quincunx.report.compare import compare, render, run_folders

    by = None if options.by is None else options.by.split(",")
    found = compare(
        run_folders([Path(path) for path in options.paths]),
        options.metric,
        by,
        against=options.against,
        any_data=options.any_data,
        tables=options.tables,
    )
    say(render(found, "markdown" if options.markdown else "json" if options.json else "text").rstrip("\n"))
    return 0
