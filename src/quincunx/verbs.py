"""What each verb of the command line does: it gets the parsed options, shows its result, returns the exit code.

Only what a verb needs is imported, inside the verb: those that need no torch never load it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quincunx.config.document import Problem
    from quincunx.config.load import Loaded
    from quincunx.config.schema import RecipeSchema
    from quincunx.runs import RunFolder


def _load(options: argparse.Namespace, extra: Sequence[str] = ()) -> Loaded:
    from quincunx.config.load import load
    from quincunx.recipes import schemas

    source = run_folder(options.config).config if Path(options.config).is_dir() else options.config
    changes = [*options.overrides, *extra]
    loaded = load(source, changes, schemas=schemas(), task=options.task, strict=options.strict)
    if getattr(options, "skip_bad_rows", False):
        _check_skips(loaded)
        changes.append("data.skip_bad_rows=true")
        loaded = load(source, changes, schemas=schemas(), task=options.task, strict=options.strict)
    if os.environ.get("RANK", "0") == "0":  # once, where torchrun has started several of us
        for problem in loaded.warnings:
            say_error(problem.render())
    return loaded


def _check_skips(loaded: Loaded) -> None:
    """Raise UsageError where --skip-bad-rows, short for a setting, is asked of a recipe that has no such setting."""
    from quincunx.config.schema import lookup
    from quincunx.errors import UsageError

    if lookup(loaded.config, "data.skip_bad_rows") is None:
        raise UsageError(
            f"--skip-bad-rows: the recipe {loaded.schema.name} has no data.skip_bad_rows, for which it is short; "
            "leave it out"
        )


def init(options: argparse.Namespace) -> int:
    """Write a first config."""
    from quincunx.errors import UsageError
    from quincunx.recipes import RECIPES, schema_of

    if options.recipe not in RECIPES:
        raise UsageError(f"there is no recipe {options.recipe!r}; there are: {', '.join(RECIPES)}")
    schema = schema_of(options.recipe)
    if options.preset is not None and schema.preset is None:
        raise UsageError(f"recipe {options.recipe} has no presets")
    if options.preset is None and options.task is not None:
        raise UsageError(f"--task {options.task} chooses a preset's task: give --preset as well")
    text = schema.starter
    if options.preset is not None and schema.preset is not None:
        text = schema.preset(options.preset, options.task)
    if options.out is None:
        say(text.rstrip("\n"))
        return 0
    path = Path(options.out)
    if path.exists():
        raise UsageError(f"{path} exists already and is left as it is; give another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(" FILE", f" {shlex.quote(str(path))}"), encoding="utf-8")
    say(f"wrote {path}; train it with: quincunx train {shlex.quote(str(path))}")
    return 0


def check(options: argparse.Namespace) -> int:
    """Say what is wrong with a config."""
    from quincunx.config.check import check_sizes
    from quincunx.config.document import ConfigError

    loaded = _load(options)
    sized: list[Problem] = []
    if loaded.schema.sizes:
        sized = check_sizes(loaded.config, loaded.schema, loaded.schema.sizes(loaded.config), loaded.document)
    if any(problem.severity == "error" for problem in sized):
        raise ConfigError([*loaded.warnings, *sized])
    for problem in sized:
        say_error(problem.render())
    for note in loaded.notes:
        say(f"note: {note}")
    warnings = len(loaded.warnings) + len(sized)
    say(f"{options.config}: a good {loaded.schema.name} config" + (f", {warnings} warning(s)" if warnings else ""))
    return 0


def explain(options: argparse.Namespace) -> int:
    """Say what settings mean."""
    from quincunx.config import explain
    from quincunx.errors import UsageError
    from quincunx.recipes import RECIPES, schema_of, schemas

    if options.recipe is not None and options.recipe not in RECIPES:
        raise UsageError(f"there is no recipe {options.recipe!r}; there are: {', '.join(RECIPES)}")
    chosen = schemas() if options.recipe is None else [schema_of(options.recipe)]
    if options.markdown:
        say(explain.markdown(chosen).rstrip("\n"))
    elif options.schema:
        say(json.dumps(explain.json_schema(chosen), indent=2, ensure_ascii=False))
    elif options.json:
        say(json.dumps(explain.as_json(chosen), indent=1, ensure_ascii=False))
    else:
        say(_explained(chosen, options.path))
    return 0


def _explained(chosen: Sequence[RecipeSchema], path: str | None) -> str:
    """Return what the recipes that know a path say of it; UsageError when none does."""
    from quincunx.config.explain import explain_text
    from quincunx.errors import UsageError

    texts: list[str] = []
    unknown: list[UsageError] = []
    for schema in chosen:
        try:
            texts.append(explain_text(schema, path))
        except UsageError as error:
            unknown.append(error)
    if not texts:
        raise UsageError("\n".join(map(str, unknown)))
    return "\n\n".join(texts)


def plan(options: argparse.Namespace) -> int:
    """Say what training would do."""
    from quincunx.config.plan import describe
    from quincunx.preview import preview

    loaded = _load(options)
    plan, notes = preview(loaded, options.allow_target)
    if options.json:
        say(json.dumps(plan.to_json(), indent=1))
        return 0
    for note in notes:
        say(f"note: {note}")
    say(aligned(describe(plan, loaded.config)))
    return 0


def convert(options: argparse.Namespace) -> int:
    """Print a config in canonical form."""
    from quincunx.config.load import explicit_paths, origins, to_yaml

    loaded = _load(options)
    kept = explicit_paths(loaded)
    say(to_yaml(loaded.config, full=options.full, comments=False, keep=kept).rstrip("\n"))
    if options.origin:
        say("\n# where each value came from")
        for entry in origins(loaded):
            if entry["from"] == "default" and not options.full:
                continue
            before = "".join(f", over {old['value']!r} from {old['from']}" for old in entry.get("overrode", ()))
            say(f"# {entry['path']} = {entry['value']!r}: {entry['from']}{before}")
    return 0


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
    loaded = _load(options, extra)
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
    from quincunx.errors import DataError

    folder = run_folder(options.run)
    text = _read_text(options.rows)
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


def data_listops(options: argparse.Namespace) -> int:
    """Generate ListOps files."""
    from quincunx.console import Terminal, progress_of
    from quincunx.recipes.long_range.data.listops import Parameters, generate

    parameters = Parameters(
        min_length=options.min_length,
        max_length=options.max_length,
        max_depth=options.max_depth,
        max_arguments=options.max_arguments,
        seed=options.seed,
    )
    counts = {"train": options.train, "dev": options.dev, "test": options.test}
    manifest = generate(Path(options.out), counts, parameters, progress_of(Terminal(soft_wrap=True)))
    for name, facts in manifest.files.items():
        say(f"{Path(options.out) / name}  sha256 {facts['sha256']}")
    return 0


def data_pathfinder(options: argparse.Namespace) -> int:
    """Draw Pathfinder images into files."""
    from quincunx.console import Terminal, progress_of
    from quincunx.recipes.long_range.data.pathfinder import generate, preset

    parameters = preset(
        options.resolution,
        contour_length=options.contour_length,
        distractors=options.distractors,
        seed=options.seed,
    )
    counts = {"train": options.train, "dev": options.dev, "test": options.test}
    manifest = generate(Path(options.out), counts, parameters, progress_of(Terminal(soft_wrap=True)))
    say(f"{options.out}  sha256 of the images {manifest.sha256}")
    return 0


def data_stdlib_code_search(options: argparse.Namespace) -> int:
    """Mine pairs of docstring and function into a BEIR folder."""
    from quincunx.console import duration
    from quincunx.recipes.retrieval.data.code_search import generate

    start = time.perf_counter()
    packages = [name.strip() for name in options.packages.split(",") if name.strip()]
    manifest = generate(options.out, packages=packages, seed=options.seed, limit=options.limit)
    mined = ", ".join(["the standard library", *manifest.packages])
    for reason, count in manifest.skipped.items():
        say(f"left out: {count:,} {reason}")
    counts = ", ".join(f"{split} {count:,}" for split, count in manifest.counts.items())
    took = duration(time.perf_counter() - start)
    say(f"{options.out}: {manifest.pairs:,} pairs ({counts}) from {manifest.modules:,} modules of {mined}, {took}")
    return 0


def bench_capacity(options: argparse.Namespace) -> int:
    """Show how much superposed memories hold."""
    from quincunx.nn.attention.capacity import COLUMNS, capacity_table

    rows = capacity_table(options.widths, options.pairs, options.repetitions, options.seed)
    if options.json:
        say(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        say(aligned([[column.replace("_", " ") for column in COLUMNS], *rows]))
    return 0


def run_folder(path: str) -> RunFolder:
    """Return the run folder that the command names; UsageError where there is none."""
    from quincunx.errors import RunError, UsageError
    from quincunx.runs import reopen

    try:
        return reopen(path)
    except RunError as error:
        raise UsageError(str(error)) from error


def _read_text(path: str) -> str:
    """Return the text of a file, of the standard input for `-`."""
    from quincunx.errors import UsageError

    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error


def aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as text, its columns under one another."""
    texts = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in texts)
    return "\n".join(line.rstrip() for line in lines)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_error(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
