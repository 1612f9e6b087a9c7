"""The verbs that make data, and those that measure what a method can do."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from quincunx.verbs.common import Adder, aligned, group, say


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

    what = "mine Python's standard library: docstrings as queries, functions as documents, as a BEIR folder"
    made = add("stdlib-code-search", stdlib_code_search, what)
    made.add_argument("--out", required=True, metavar="DIR")
    made.add_argument("--packages", default="", metavar="NAMES", help="installed packages to mine too: numpy,torch")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the split by modules; default: 0")
    made.add_argument("--limit", type=int, metavar="N", help="at most so many pairs, chosen at random")


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


def capacity(options: argparse.Namespace) -> int:
    """Show how much superposed memories hold."""
    from quincunx.nn.attention.capacity import COLUMNS, capacity_table

    rows = capacity_table(options.widths, options.pairs, options.repetitions, options.seed)
    if options.json:
        say(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        say(aligned([[column.replace("_", " ") for column in COLUMNS], *rows]))
    return 0
