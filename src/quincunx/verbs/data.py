"""The verbs that make data, and those that measure what a method can do."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from quincunx.verbs.common import Adder, aligned, group, say

ARITHMETIC: dict[str, tuple[int | float | bool | None, str]] = {
    "train": (20_000, "examples"),
    "dev": (1_000, "examples"),
    "test": (1_000, "examples"),
    "ood": (500, "examples of larger numbers, and as many of more numbers"),
    "max-num": (99, "largest number"),
    "max-entities": (3, "most numbers of a problem"),
    "entity-probability": (0.5, "chance of each number beyond the second"),
    "multiply-probability": (0.0, "chance of a product in place of a sum"),
    "max-factor": (9, "largest number that is multiplied"),
    "space-multiplications": (True, "never multiply more than two numbers"),
    "zipf-order": (0.0, "how much small numbers are preferred"),
    "ood-max-num": (None, "largest number out of distribution; default: one digit more"),
    "ood-max-entities": (None, "most numbers out of distribution; default: two more"),
    "problem-length": (None, "characters that problems are padded to; default: the longest problem's"),
    "seed": (0, "of the problems"),
}
"""Option -> default and what it says; the settings of the section `arithmetic` of a config."""

TASKS: dict[str, tuple[int | float | bool | None, str]] = {
    "train": (100_000, "examples"),
    "dev": (1_000, "examples"),
    "max-length": (40, "longest input of train and dev"),
    "test-min-length": (None, "shortest input of test; default: one more than that"),
    "test-max-length": (100, "longest input of test"),
    "test-per-length": (32, "test examples of each length"),
    "seed": (0, "of the examples"),
}
"""Likewise, of the section `tasks`."""

SHAPEWORLD: dict[str, tuple[int | float | bool | None, str]] = {
    "train": (2000, "pictures; 0 for no such split, else 8 or more"),
    "dev": (200, "pictures"),
    "test": (200, "pictures"),
    "heldout": (200, "pictures with pairs of colour and shape that no other split has"),
    "size": (96, "pixels on a side, 64 to 128"),
    "feature-width": (64, "of the features of regions in features/butd.arrow; 0 for none"),
    "seed": (0, "of everything"),
}
"""Likewise, of a rendered world."""

IMPORTED = (
    "plain",
    "classes",
    "vqa",
    "gqa",
    "nlvr",
    "nlvr2",
    "karpathy",
    "multi30k",
    "refcoco",
    "vcr",
    "lxmert-vqa",
    "lxmert-gqa",
    "lxmert-nlvr",
)
"""Kinds of public data sets that become examples."""
DETECTIONS = "detections"
"""The kind that becomes regions and their features."""


def add_to(add: Adder) -> None:
    """Add the verbs."""
    _add_data(group(add, "data", "generate a data set"))
    _add_bench(group(add, "bench", "measure what a method can do"))


def _add_data(add: Adder) -> None:
    made = add("listops", listops, "generate ListOps by the official rules, as the official files")
    made.add_argument("--out", required=True, metavar="DIR")
    counts = {"train": 96_000, "dev": 2_000, "test": 2_000}
    lengths = {"min-length": 500, "max-length": 2000, "max-depth": 10, "max-arguments": 10, "seed": 0}
    for name, value in {**counts, **lengths}.items():
        what = "examples; " if name in counts else ""
        made.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{what}default: {value}")

    made = add("pathfinder", pathfinder, "draw Pathfinder images, in the official folders' layout")
    made.add_argument("--out", required=True, metavar="DIR")
    counts = {"train": 160_000, "dev": 20_000, "test": 20_000}
    for name, value in {"resolution": 32, **counts, "seed": 0}.items():
        what = "images; " if name in counts else "pixels on a side, 16 to 256; " if name == "resolution" else ""
        made.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{what}default: {value}")
    made.add_argument("--contour-length", type=int, metavar="N", help="dashes of a contour; default: the size's")
    made.add_argument("--distractors", type=int, metavar="N", help="shorter contours; default: the size's")

    made = add("arithmetic", arithmetic, "solve sums and products in small written steps, as JSON Lines")
    made.add_argument("--out", required=True, metavar="DIR")
    for name, (value, what) in ARITHMETIC.items():
        _add_setting(made, name, value, what)

    made = add("tasks", tasks, "draw one of fifteen tasks of formal languages, as JSON Lines")
    made.add_argument("--out", required=True, metavar="DIR")
    made.add_argument("--task", required=True, dest="name", metavar="NAME", help="bucket_sort, reverse_string ...")
    for name, (value, what) in TASKS.items():
        _add_setting(made, name, value, what)

    what = "mine Python's standard library: docstrings as queries, functions as documents, as a BEIR folder"
    made = add("stdlib-code-search", stdlib_code_search, what)
    made.add_argument("--out", required=True, metavar="DIR")
    made.add_argument("--packages", default="", metavar="NAMES", help="installed packages to mine too: numpy,torch")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the split by modules; default: 0")
    made.add_argument("--limit", type=int, metavar="N", help="at most so many pairs, chosen at random")

    made = add("shapeworld", shapeworld, "render a world of shapes, with examples of every vision-language task")
    made.add_argument("--out", required=True, metavar="DIR")
    for name, (value, what) in SHAPEWORLD.items():
        _add_setting(made, name, value, what)
    made.add_argument("--tasks", default="all", metavar="NAMES", help="vqa,gqa,nlvr,refcoco,vcr,caption,mmt,cls")

    made = add("import", import_data, "import a public data set of pictures and texts into a collection folder")
    made.add_argument("kind", metavar="KIND", help=f"{', '.join(IMPORTED)}, {DETECTIONS}")
    made.add_argument("files", nargs="+", metavar="FILE", help="as it is published; of classes, the folder of folders")
    made.add_argument("--out", required=True, metavar="DIR", help="the collection, made or added to")
    made.add_argument("--pictures", metavar="DIR", help="where the files of pictures are, at any depth")
    made.add_argument("--split", metavar="NAME", help="what the split is called; default: by the files' names")
    made.add_argument("--task", metavar="NAME", help="of plain, what the lines are for; default: vqa")
    made.add_argument("--skip-missing", action="store_true", help="leave examples out whose pictures are not there")
    made.add_argument("--text-only", action="store_true", help="import questions or sentences without their pictures")
    for name, what in {"objects": "classes", "attributes": "attributes"}.items():
        made.add_argument(f"--{name}", metavar="FILE", help=f"of {DETECTIONS}, the names of {what}, one a line")
    made.add_argument("--name", default="butd", metavar="NAME", help=f"of {DETECTIONS}, what the features are called")
    what = f"of {DETECTIONS} in LMDB whose values are bare numbers: their type and a row's width, such as float32,2048"
    made.add_argument("--raw", metavar="TYPE,F", help=what)


def _add_setting(made: argparse.ArgumentParser, name: str, value: float | bool | None, what: str) -> None:
    """Add an option of the type of its default; without a default it is a whole number."""
    if isinstance(value, bool):
        made.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=value, help=what)
        return
    text = what if value is None else f"{what}; default: {value}"
    kind = float if isinstance(value, float) else int
    made.add_argument(f"--{name}", type=kind, default=value, metavar="X" if kind is float else "N", help=text)


def _add_bench(add: Adder) -> None:
    made = add("capacity", capacity, "how many pairs a holographic trace or a matrix can hold")
    made.add_argument("--widths", type=int, nargs="+", default=[64, 512], metavar="E", help="default: 64 512")
    pairs = [1, 4, 8, 16, 64, 256, 2000]
    made.add_argument("--pairs", type=int, nargs="+", default=pairs, metavar="N", help="default: 1 4 8 16 64 256 2000")
    made.add_argument("--repetitions", type=int, default=16, metavar="R", help="memories at each point; default: 16")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--json", action="store_true", help="as JSON")


def listops(options: argparse.Namespace) -> int:
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


def pathfinder(options: argparse.Namespace) -> int:
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


def arithmetic(options: argparse.Namespace) -> int:
    """Write arithmetic problems and their solutions into files."""
    from quincunx.console import Terminal, progress_of
    from quincunx.recipes.compression.data.arithmetic import counts_of, generate, parameters_of

    settings: Any = options  # its options are named as the settings are
    manifest = generate(
        options.out,
        counts_of(settings),
        parameters_of(settings),
        problem_length=options.problem_length,
        on_progress=progress_of(Terminal(soft_wrap=True)),
    )
    for name, facts in manifest.files.items():
        say(f"{Path(options.out) / name}  sha256 {facts['sha256']}")
    say(f"problems are padded to {manifest.problem_length} characters")
    return 0


def tasks(options: argparse.Namespace) -> int:
    """Write the examples of a formal-language task into files."""
    from quincunx.console import Terminal, progress_of
    from quincunx.recipes.compression.data.tasks import generate, task_named

    settings: Any = options
    manifest = generate(options.out, settings, progress_of(Terminal(soft_wrap=True)))
    for name, facts in manifest.files.items():
        say(f"{Path(options.out) / name}  sha256 {facts['sha256']}")
    task = task_named(options.name)
    say(f"{task.name} is {task.level}; guessing is right in {task.chance:.0%} of the places of an answer")
    return 0


def stdlib_code_search(options: argparse.Namespace) -> int:
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
    say(
        f"{options.out}: {manifest.pairs:,} pairs ({counts}), {manifest.named:,} more of names for training, from "
        f"{manifest.modules:,} modules of {mined}, {took}"
    )
    return 0


def shapeworld(options: argparse.Namespace) -> int:
    """Render a world of shapes into a collection folder."""
    from quincunx.console import Terminal, progress_of
    from quincunx.recipes.vision_language.data.record import TASKS
    from quincunx.recipes.vision_language.data.world import COUNTS, generate

    tasks = [name.strip() for name in options.tasks.split(",") if name.strip()]
    manifest = generate(
        options.out,
        seed=options.seed,
        counts={split: getattr(options, split) for split in COUNTS},
        size=options.size,
        tasks=TASKS if tasks == ["all"] else tasks,
        feature_width=options.feature_width or None,
        on_progress=progress_of(Terminal(soft_wrap=True)),
    )
    counts = ", ".join(f"{split} {count:,}" for split, count in manifest.counts.items())
    size = f"{manifest.size} x {manifest.size} pixels"
    say(f"{options.out}: {sum(manifest.counts.values()):,} pictures of {size} ({counts})")
    for task, splits in manifest.examples.items():
        say(f"{task}: " + ", ".join(f"{split} {count:,}" for split, count in splits.items()))
    return 0


def import_data(options: argparse.Namespace) -> int:
    """Import a public data set into a collection folder."""
    from quincunx.errors import UsageError
    from quincunx.recipes.vision_language.data import importers

    if options.kind == DETECTIONS:
        return _import_detections(options)
    if options.raw is not None:
        raise UsageError(
            f"--raw {options.raw} says what {DETECTIONS} in LMDB are; {options.kind} has none: leave it out"
        )
    found = importers.import_data(
        options.kind,
        options.files,
        options.out,
        pictures=options.pictures,
        split=options.split,
        task=options.task,
        skip_missing=options.skip_missing,
        text_only=options.text_only,
    )
    for (task, split), count in found.examples.items():
        say(f"{options.out}: {task}/{split}: {count:,} examples")
    left = f"; left out: the examples of {found.missing:,} that are not there" if found.missing else ""
    say(f"{options.out}: {found.pictures:,} pictures{left}")
    return 0


def _import_detections(options: argparse.Namespace) -> int:
    from quincunx.recipes.vision_language.data.importers.detections import import_detections

    names = {"objects": options.objects, "attributes": options.attributes}
    found = import_detections(options.files, options.out, name=options.name, raw=options.raw, **names)
    say(f"{found.path}: features of {found.pictures:,} pictures, {found.width:,} wide")
    return 0


def capacity(options: argparse.Namespace) -> int:
    """Show how much superposed memories hold."""
    from quincunx.nn.attention.capacity import COLUMNS, capacity_table

    rows = capacity_table(options.widths, options.pairs, options.repetitions, options.seed)
    if options.json:
        say(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        say(aligned([[column.replace("_", " ") for column in COLUMNS], *rows]))
    return 0
