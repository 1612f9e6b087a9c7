"""The command line: its verbs, and how their results and errors are shown.

`quincunx.verbs` and `quincunx.scoring` have what each does. Exit codes: 0 done, 1 failed run, 2 wrong usage or config.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quincunx import scoring, verbs
from quincunx.verbs import say_error

Verb = Callable[[argparse.Namespace], int]
Adder = Callable[..., argparse.ArgumentParser]

OVERRIDES = "changes: path=value, path+=item, ~path, path=@file"


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options, rest = _parser().parse_known_args(list(arguments))
    try:
        _settle(options, rest)
        return options.verb(options)
    except KeyboardInterrupt:
        say_error("stopped")
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
        say_error(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.strerror is not None:
        say_error(f"{error.filename or 'the output'}: {error.strerror}")
        return 1
    say_error(
        f"unexpected {type(error).__name__}: {error}\n"
        "This is a fault of quincunx or of the surroundings; --traceback shows where."
    )
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quincunx",
        description="Transformer experiments, each described by one explained config file, on one exact engine.",
        epilog="quincunx explain shows every setting; quincunx init long_range writes a first config.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"quincunx {_version()}")
    add = partial(_add, parser.add_subparsers(metavar="VERB", required=True))

    made = add("init", verbs.init, "write a small commented config to start from")
    made.add_argument("recipe", help="for example long_range")
    made.add_argument("--preset", metavar="NAME", help="a published experiment's settings")
    made.add_argument("--task", help="with --preset: the task; default: the preset's first")
    made.add_argument("--out", metavar="FILE", help="where to write it; default: the terminal")

    what = "say everything that is wrong with a config; compute and write nothing"
    _skips(add("check", verbs.check, what, config=True))

    made = add("explain", verbs.explain, "say what a setting means, or list all of them")
    made.add_argument("path", nargs="?", help="a setting or section, also under a guide's name")
    made.add_argument("--recipe", help="only this recipe's settings")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the reference page")
    form.add_argument("--schema", action="store_true", help="JSON Schema for editors")
    form.add_argument("--json", action="store_true", help="all settings as a list of objects")

    made = add("plan", verbs.plan, "say what training would do, without training", config=True)
    made.add_argument("--allow-target", action="append", default=[], metavar="PATH", help="let _target_ name this too")
    made.add_argument("--json", action="store_true", help="as JSON")

    made = add("convert", verbs.convert, "print a config in canonical form", config=True)
    made.add_argument("--origin", action="store_true", help="also where each value came from and what it overrode")
    made.add_argument("--full", action="store_true", help="also the settings left at their defaults")

    made = add("train", verbs.train, "train what a config describes", config=True)
    made.add_argument(
        "--resume", nargs="?", const=True, default=False, metavar="RUN", help="go on with the newest run, or with RUN"
    )
    made.add_argument("--from", dest="checkpoint", metavar="CHECKPOINT", help="with --resume: from this checkpoint")
    made.add_argument("--limit", type=int, metavar="N", help="use only the first N examples of every split")
    made.add_argument("--overfit-batch", action="store_true", help="train on the first logical batch again and again")
    made.add_argument("--profile", action="store_true", help="record updates 5 to 10 with torch.profiler")
    _skips(made)
    made.add_argument("--allow-target", action="append", default=[], metavar="PATH", help="let _target_ name this too")

    _add_evaluate(add)
    _add_compare(add)

    made = add("predict", verbs.predict, "predict for rows of a JSON-lines file")
    made.add_argument("run", help="run folder")
    made.add_argument("rows", help='JSON lines, for ListOps {"source": "[MAX 1 2 ]"}; - reads stdin')
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")

    made = add("report", verbs.report, "write a run's report.html anew")
    made.add_argument("run", help="run folder")

    _add_runs(_group(add, "runs", "list runs, or compare them"))
    _add_score(_group(add, "score", "measure what a system found, from files"))
    _add_data(_group(add, "data", "generate a data set"))
    _add_bench(_group(add, "bench", "measure what a method can do"))
    return parser


def _add(commands: Any, name: str, verb: Verb | None, text: str, *, config: bool = False) -> argparse.ArgumentParser:
    # an abbreviation that works today would be another option's name tomorrow
    made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    if verb is None:
        return made
    made.set_defaults(verb=verb, takes_overrides=config, refuse=made.error)
    made.add_argument("--traceback", action="store_true", help="show where an error arose")
    if config:
        # not required here: `train --resume RUN` needs none, and argparse would call the changes required too
        made.add_argument("config", nargs="?", help="config file (.yaml, .json, .py) or run folder")
        made.add_argument("changes", nargs="*", metavar="CHANGE", help=OVERRIDES)
        made.add_argument("--task", help="which block of a file with several tasks")
        made.add_argument("--strict", action="store_true", help="take warnings for errors")
    return made


def _group(add: Adder, name: str, text: str) -> Adder:
    """Return what adds verbs below a verb."""
    return partial(_add, add(name, None, text).add_subparsers(dest="what", metavar="WHAT", required=True))


def _skips(made: argparse.ArgumentParser, what: str = "short for data.skip_bad_rows=true") -> None:
    made.add_argument("--skip-bad-rows", action="store_true", help=f"leave bad rows of data out; {what}")


def _add_evaluate(add: Adder) -> None:
    made = add("evaluate", scoring.evaluate, "evaluate a run's checkpoint on a split of its own, or on other data")
    made.add_argument("run", help="run folder")
    made.add_argument("--split", help="default: test; of a single file of --data, all of it")
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")
    made.add_argument("--data", metavar="PLACE", help="a collection (folder, file, name) in place of the run's own")
    made.add_argument("--format", help="of --data: beir, tsv, pairs ... as data.test.format; default: auto")
    made.add_argument("--limit", type=int, metavar="N", help="of --data, only the first N queries")
    _skips(made, "of --data")
    where = "where to keep measures, values by query and the ranking; default: with --data, evaluations/ of the run"
    made.add_argument("--out", metavar="DIR", help=where)
    made.add_argument("--json", action="store_true", help="as JSON, with every query's values")


def _add_compare(add: Adder) -> None:
    what = "compare two rankings query by query: differences, intervals, randomisation tests (runs compare: over seeds)"
    made = add("compare", scoring.compare, what)
    made.add_argument("a", metavar="A", help="run folder, folder that evaluate kept, or TREC run file")
    made.add_argument("b", metavar="B", help="likewise")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--split", default="test", help="of run folders; default: test")
    which.add_argument(
        "--data-name", metavar="NAME", help="of run folders: evaluations/NAME, which evaluate --data kept"
    )
    made.add_argument("--qrels", metavar="FILE", help="judgements, for TREC run files")
    made.add_argument("--measures", metavar="NAMES", help="such as ndcg_cut_10,recip_rank; default: all in common")
    made.add_argument("--samples", type=int, default=100_000, metavar="N", help="of a test; default: 100000")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of tests and intervals; default: 0")
    made.add_argument("--json", action="store_true", help="as JSON")


def _add_runs(add: Adder) -> None:
    made = add("list", verbs.list_runs, "list runs with their state")
    made.add_argument("root", nargs="?", help="folder that holds them; default: runs")

    made = add("compare", verbs.compare, "compare finished runs: means over seeds, intervals, paired differences")
    made.add_argument("paths", nargs="+", metavar="RUN", help="run folders, or folders that hold them")
    made.add_argument("--metric", default="test/accuracy", help="split/name; default: test/accuracy")
    made.add_argument("--by", metavar="PATHS", help="settings that make the groups, for example attention.kind")
    made.add_argument("--against", metavar="GROUP", help="group that the others are compared with; default: the first")
    made.add_argument("--tables", action="store_true", help="also the evaluations' tables, averaged over seeds")
    made.add_argument("--any-data", action="store_true", help="also runs on different data")
    form = made.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as Markdown")
    form.add_argument("--json", action="store_true", help="as JSON")


def _add_score(add: Adder) -> None:
    made = add("ranking", scoring.ranking, "measure a run file against a qrels file, as trec_eval -c does")
    made.add_argument("--qrels", required=True, metavar="FILE", help="query, iteration, document, grade; gzip too")
    made.add_argument("--run", required=True, metavar="FILE", help="query, Q0, document, rank, score, tag; gzip too")
    made.add_argument("--measures", metavar="NAMES", help="such as ndcg_cut_10,map,recip_rank,P_5,recall_100")
    made.add_argument("-q", "--queries", action="store_true", help="also every query's values")
    made.add_argument("--json", action="store_true", help='as JSON: {"mean": {...}, "queries": {...}}')
    made.add_argument(
        "--intersection", action="store_true", help="leave judged queries out that the run lacks; else they count 0"
    )
    made.add_argument(
        "--ties", default="trec", metavar="WAY", help="trec (default), expected, optimistic or pessimistic"
    )


def _add_data(add: Adder) -> None:
    made = add("listops", verbs.data_listops, "generate ListOps by the official rules, as the official files")
    made.add_argument("--out", required=True, metavar="DIR")
    counts = {"train": 96_000, "dev": 2_000, "test": 2_000}
    lengths = {"min-length": 500, "max-length": 2000, "max-depth": 10, "max-arguments": 10, "seed": 0}
    for name, value in {**counts, **lengths}.items():
        what = "examples; " if name in counts else ""
        made.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{what}default: {value}")

    made = add("pathfinder", verbs.data_pathfinder, "draw Pathfinder images, in the official folders' layout")
    made.add_argument("--out", required=True, metavar="DIR")
    counts = {"train": 160_000, "dev": 20_000, "test": 20_000}
    for name, value in {"resolution": 32, **counts, "seed": 0}.items():
        what = "images; " if name in counts else "pixels on a side, 16 to 256; " if name == "resolution" else ""
        made.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{what}default: {value}")
    made.add_argument("--contour-length", type=int, metavar="N", help="dashes of a contour; default: the size's")
    made.add_argument("--distractors", type=int, metavar="N", help="shorter contours; default: the size's")

    what = "mine Python's standard library: docstrings as queries, functions as documents, as a BEIR folder"
    made = add("stdlib-code-search", verbs.data_stdlib_code_search, what)
    made.add_argument("--out", required=True, metavar="DIR")
    made.add_argument("--packages", default="", metavar="NAMES", help="installed packages to mine too: numpy,torch")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the split by modules; default: 0")
    made.add_argument("--limit", type=int, metavar="N", help="at most so many pairs, chosen at random")


def _add_bench(add: Adder) -> None:
    made = add("capacity", verbs.bench_capacity, "how many pairs a holographic trace or a matrix can hold")
    made.add_argument("--widths", type=int, nargs="+", default=[64, 512], metavar="E", help="default: 64 512")
    pairs = [1, 4, 8, 16, 64, 256, 2000]
    made.add_argument("--pairs", type=int, nargs="+", default=pairs, metavar="N", help="default: 1 4 8 16 64 256 2000")
    made.add_argument("--repetitions", type=int, default=16, metavar="R", help="memories at each point; default: 16")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--json", action="store_true", help="as JSON")


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


def _version() -> str:
    from quincunx import __version__

    return __version__
