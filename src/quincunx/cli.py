"""The command line: its verbs, and how their results and errors are shown.

Only what a verb needs is imported, inside the verb: `--help`, `check` and `explain` never load torch. Exit codes: 0
done, 1 failed run, 2 wrong usage or config.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quincunx.config.document import Problem
    from quincunx.config.load import Loaded
    from quincunx.config.schema import RecipeSchema
    from quincunx.runs import RunFolder

Verb = Callable[[argparse.Namespace], int]

OVERRIDES = "changes: path=value, path+=item, ~path, path=@file"


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options, rest = _parser().parse_known_args(list(arguments))
    try:
        _settle(options, rest)
        return options.verb(options)
    except KeyboardInterrupt:
        _say_error("stopped")
        return 1
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except Exception as error:
        return _failed(error, options)


def _failed(error: Exception, options: argparse.Namespace) -> int:
    from quincunx.errors import QuincunxError

    if options.traceback:
        traceback.print_exception(error)
        return error.exit_code if isinstance(error, QuincunxError) else 1
    if isinstance(error, QuincunxError):
        _say_error(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.strerror is not None:
        _say_error(f"{error.filename or 'the output'}: {error.strerror}")
        return 1
    _say_error(
        f"unexpected {type(error).__name__}: {error}\n"
        "This is a fault of quincunx or of the surroundings; --traceback shows where."
    )
    return 1


def _parser() -> argparse.ArgumentParser:  # noqa: PLR0915 - a table of verbs and their options
    parser = argparse.ArgumentParser(
        prog="quincunx",
        description="Transformer experiments, each described by one explained config file, on one exact engine.",
        epilog="quincunx explain shows every setting; quincunx init long_range writes a first config.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"quincunx {_version()}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: Verb, text: str, *, config: bool = False) -> argparse.ArgumentParser:
        # an abbreviation that works today would be another option's name tomorrow
        made = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        made.set_defaults(verb=verb, takes_overrides=config, refuse=made.error)
        made.add_argument("--traceback", action="store_true", help="show where an error arose")
        if config:
            # not required here: `train --resume RUN` needs none, and argparse would call the changes required too
            made.add_argument("config", nargs="?", help="config file (.yaml, .json, .py) or run folder")
            made.add_argument("changes", nargs="*", metavar="CHANGE", help=OVERRIDES)
            made.add_argument("--task", help="which block of a file with several tasks")
            made.add_argument("--strict", action="store_true", help="take warnings for errors")
        return made

    made = add("init", _init, "write a small commented config to start from")
    made.add_argument("recipe", help="for example long_range")
    made.add_argument("--out", metavar="FILE", help="where to write it; default: the terminal")

    add("check", _check, "say everything that is wrong with a config; compute and write nothing", config=True)

    made = add("explain", _explain, "say what a setting means, or list all of them")
    made.add_argument("path", nargs="?", help="a setting or section, also under a guide's name")
    made.add_argument("--recipe", help="only this recipe's settings")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the reference page")
    form.add_argument("--schema", action="store_true", help="JSON Schema for editors")
    form.add_argument("--json", action="store_true", help="all settings as a list of objects")

    made = add("plan", _plan, "say what training would do, without training", config=True)
    made.add_argument("--allow-target", action="append", default=[], metavar="PATH", help="let _target_ name this too")
    made.add_argument("--json", action="store_true", help="as JSON")

    made = add("convert", _convert, "print a config in canonical form", config=True)
    made.add_argument("--origin", action="store_true", help="also where each value came from and what it overrode")
    made.add_argument("--full", action="store_true", help="also the settings left at their defaults")

    made = add("train", _train, "train what a config describes", config=True)
    made.add_argument(
        "--resume", nargs="?", const=True, default=False, metavar="RUN", help="go on with the newest run, or with RUN"
    )
    made.add_argument("--from", dest="checkpoint", metavar="CHECKPOINT", help="with --resume: from this checkpoint")
    made.add_argument("--limit", type=int, metavar="N", help="use only the first N examples of every split")
    made.add_argument("--overfit-batch", action="store_true", help="train on the first logical batch again and again")
    made.add_argument("--profile", action="store_true", help="record updates 5 to 10 with torch.profiler")
    made.add_argument("--allow-target", action="append", default=[], metavar="PATH", help="let _target_ name this too")

    made = add("evaluate", _evaluate, "evaluate a run's checkpoint on a split")
    made.add_argument("run", help="run folder")
    made.add_argument("--split", default="test")
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")
    made.add_argument("--json", action="store_true", help="as JSON")

    made = add("predict", _predict, "predict for rows of a JSON-lines file")
    made.add_argument("run", help="run folder")
    made.add_argument("rows", help='JSON lines, for ListOps {"source": "[MAX 1 2 ]"}; - reads stdin')
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")

    made = add("report", _report, "write a run's report.html anew")
    made.add_argument("run", help="run folder")

    made = add("runs", _runs, "list runs with their state")
    made.add_argument("what", choices=["list"])
    made.add_argument("root", nargs="?", help="folder that holds them; default: runs")

    made = add("data", _data, "generate a data set")
    made.add_argument("dataset", choices=["listops"])
    made.add_argument("--out", required=True, metavar="DIR")
    counts = {"train": 96_000, "dev": 2_000, "test": 2_000}
    lengths = {"min-length": 500, "max-length": 2000, "max-depth": 10, "max-arguments": 10, "seed": 0}
    for name, value in {**counts, **lengths}.items():
        what = "examples; " if name in counts else ""
        made.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{what}default: {value}")
    return parser


def _settle(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Gather the overrides: positional ones, those after options, and one that `--resume` took for its run."""
    unknown = [text for text in rest if not options.takes_overrides or text.startswith("-")]
    if unknown:
        options.refuse(f"unrecognized arguments: {' '.join(unknown)}")  # argparse's own wording and exit code
    if not options.takes_overrides:
        return
    options.overrides = [*options.changes, *rest]
    resume = getattr(options, "resume", False)
    if isinstance(resume, str) and _is_change(resume):
        options.resume = True
        options.overrides.insert(0, resume)
    elif isinstance(resume, str) and (options.config is None or _is_change(options.config)):
        # `train --resume RUN [CHANGE ...]`: the run's own config
        options.overrides[:0] = [] if options.config is None else [options.config]
        options.config, options.resume = resume, True
    if options.config is None or _is_change(options.config):
        options.refuse("a config file or a run folder is needed before the changes")


def _is_change(text: str) -> bool:
    """Tell an override from the path of a file or folder."""
    return ("=" in text or (text.startswith("~") and "/" not in text)) and not Path(text).exists()


def _load(options: argparse.Namespace, extra: Sequence[str] = ()) -> Loaded:
    from quincunx.config.load import load
    from quincunx.recipes import schemas

    source = _run_folder(options.config).config if Path(options.config).is_dir() else options.config
    changes = [*options.overrides, *extra]
    loaded = load(source, changes, schemas=schemas(), task=options.task, strict=options.strict)
    if os.environ.get("RANK", "0") == "0":  # once, where torchrun has started several of us
        for problem in loaded.warnings:
            _say_error(problem.render())
    return loaded


def _init(options: argparse.Namespace) -> int:
    from quincunx.errors import UsageError
    from quincunx.recipes import RECIPES, schema_of

    if options.recipe not in RECIPES:
        raise UsageError(f"there is no recipe {options.recipe!r}; there are: {', '.join(RECIPES)}")
    text = schema_of(options.recipe).starter
    if options.out is None:
        _say(text.rstrip("\n"))
        return 0
    path = Path(options.out)
    if path.exists():
        raise UsageError(f"{path} exists already and is left as it is; give another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(" FILE", f" {shlex.quote(str(path))}"), encoding="utf-8")
    _say(f"wrote {path}; train it with: quincunx train {shlex.quote(str(path))}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from quincunx.config.check import check_sizes
    from quincunx.config.document import ConfigError

    loaded = _load(options)
    sized: list[Problem] = []
    if loaded.schema.sizes:
        sized = check_sizes(loaded.config, loaded.schema, loaded.schema.sizes(loaded.config), loaded.document)
    if any(problem.severity == "error" for problem in sized):
        raise ConfigError([*loaded.warnings, *sized])
    for problem in sized:
        _say_error(problem.render())
    for note in loaded.notes:
        _say(f"note: {note}")
    warnings = len(loaded.warnings) + len(sized)
    _say(f"{options.config}: a good {loaded.schema.name} config" + (f", {warnings} warning(s)" if warnings else ""))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from quincunx.config import explain
    from quincunx.errors import UsageError
    from quincunx.recipes import RECIPES, schema_of, schemas

    if options.recipe is not None and options.recipe not in RECIPES:
        raise UsageError(f"there is no recipe {options.recipe!r}; there are: {', '.join(RECIPES)}")
    chosen = schemas() if options.recipe is None else [schema_of(options.recipe)]
    if options.markdown:
        _say(explain.markdown(chosen).rstrip("\n"))
    elif options.schema:
        _say(json.dumps(explain.json_schema(chosen), indent=2, ensure_ascii=False))
    elif options.json:
        _say(json.dumps(explain.as_json(chosen), indent=1, ensure_ascii=False))
    else:
        _say(_explained(chosen, options.path))
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


def _plan(options: argparse.Namespace) -> int:
    from quincunx.config.plan import describe
    from quincunx.preview import preview

    loaded = _load(options)
    plan, notes = preview(loaded, options.allow_target)
    if options.json:
        _say(json.dumps(plan.to_json(), indent=1))
        return 0
    for note in notes:
        _say(f"note: {note}")
    _say(_aligned(describe(plan, loaded.config)))
    return 0


def _convert(options: argparse.Namespace) -> int:
    from quincunx.config.load import explicit_paths, origins, to_yaml

    loaded = _load(options)
    kept = explicit_paths(loaded)
    _say(to_yaml(loaded.config, full=options.full, comments=False, keep=kept).rstrip("\n"))
    if options.origin:
        _say("\n# where each value came from")
        for entry in origins(loaded):
            if entry["from"] == "default" and not options.full:
                continue
            before = "".join(f", over {old['value']!r} from {old['from']}" for old in entry.get("overrode", ()))
            _say(f"# {entry['path']} = {entry['value']!r}: {entry['from']}{before}")
    return 0


def _train(options: argparse.Namespace) -> int:
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
    wish = Wish(
        resume, options.checkpoint, tuple(options.allow_target), (ConsoleCallback(console),), progress_of(console)
    )
    ended = launch(loaded, wish)
    if ended.main:
        folder = reopen(str(ended.path))
        text = f"{folder.path}: {read_summary(folder).get('reason', '')}; report: {folder.report}"
        console.print(text, markup=False, highlight=False)  # as all of a run's lines: output that fails fails nothing
    return 0 if ended.done else 1


def _evaluate(options: argparse.Namespace) -> int:
    from quincunx.api import evaluate

    evaluation = evaluate(_run_folder(options.run).path, options.split, options.checkpoint)
    if options.json:
        _say(json.dumps(evaluation.to_json(), indent=1, ensure_ascii=False))
        return 0
    for note in evaluation.notes:
        _say(note)
    for name, value in evaluation.scalars.items():
        _say(f"{name}: {value:.6g}")
    for table in evaluation.tables:
        _say(f"\n{table.title}\n{_aligned([table.columns, *table.rows])}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from quincunx.api import Run
    from quincunx.errors import DataError

    folder = _run_folder(options.run)
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
        _say(json.dumps(prediction, ensure_ascii=False))
    return 0


def _report(options: argparse.Namespace) -> int:
    from quincunx.report import write_report

    _say(str(write_report(_run_folder(options.run).path)))
    return 0


def _runs(options: argparse.Namespace) -> int:
    from quincunx.errors import UsageError
    from quincunx.runs import as_table, list_runs

    root = Path("runs" if options.root is None else options.root)
    if options.root is not None and not root.is_dir():
        raise UsageError(f"{root} is no folder: give the one that holds the run folders")
    _say(as_table(list_runs(root)))
    return 0


def _data(options: argparse.Namespace) -> int:
    from quincunx.console import Terminal, progress_of
    from quincunx.recipes.long_range.data import Parameters, generate

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
        _say(f"{Path(options.out) / name}  sha256 {facts['sha256']}")
    return 0


def _run_folder(path: str) -> RunFolder:
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


def _aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as text, its columns under one another."""
    texts = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in texts)
    return "\n".join(line.rstrip() for line in lines)


def _version() -> str:
    from quincunx import __version__

    return __version__


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _say_error(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
