"""The verbs `inspect` and `params`: a batch of a config's data in words, and its model's parameters in numbers."""

from __future__ import annotations

import argparse

from quincunx.verbs.common import Adder
from quincunx.verbs.configs import load_named

STYLES = {"plain": "", "head": "bold", "dropped": "red", "note": "dim"}
"""How a terminal shows each kind of line."""


def add_to(add: Adder) -> None:
    """Add the verbs."""
    what = "show a batch as training draws it: what is left out, targets, positions, who sees whom; compute nothing"
    made = add("inspect", inspect, what, config=True)
    made.add_argument("--batch", type=int, default=0, metavar="N", help="logical batch, from 0; default: 0")
    made.add_argument("--rows", type=int, default=2, metavar="R", help="examples of it; default: 2")
    made.add_argument("--split", default="train", help="train (default), or one that is measured: dev, test ...")
    made.add_argument("--no-colour", action="store_true", help="plain text on a terminal too")

    made = add(
        "params", params, "count a config's parameters, trained and all; read no weights and no data", config=True
    )
    made.add_argument("--json", action="store_true", help="as JSON: trainable, total, percent, groups")


def params(options: argparse.Namespace) -> int:
    """Show how many parameters there are, and how many are trained."""
    import json

    from quincunx.preview import count
    from quincunx.verbs.common import aligned, say

    loaded = load_named(options)
    found, notes = count(loaded)
    if options.json:
        groups = {name: {"trainable": trained, "total": total} for name, (trained, total) in found.groups.items()}
        whole = {"trainable": found.trainable, "total": found.total, "percent": found.percent, "groups": groups}
        say(json.dumps(whole, indent=1))
        return 0
    rows = [(name, f"{trained:,}", f"{total:,}") for name, (trained, total) in found.groups.items()]
    say(aligned([("", "trained", "of"), *rows, ("all", f"{found.trainable:,}", f"{found.total:,}")]))
    say(f"{found.percent:.4g} % of the parameters are trained")
    for note in notes:
        say(f"note: {note}")
    return 0


def inspect(options: argparse.Namespace) -> int:
    """Show a batch."""
    from rich.text import Text

    from quincunx.console import Terminal
    from quincunx.errors import UsageError
    from quincunx.recipes import RECIPES, recipe_of

    loaded = load_named(options)
    recipe = recipe_of(loaded.schema.name)
    if not hasattr(recipe, "inspect"):
        able = ", ".join(name for name in RECIPES if hasattr(recipe_of(name), "inspect"))
        raise UsageError(
            f"{options.config} is of the recipe {loaded.schema.name}, whose batches cannot be shown; those of {able} "
            "can"
        )
    found = recipe.inspect(loaded.config, options.batch, options.rows, options.split)
    console = Terminal(soft_wrap=True, highlight=False, no_color=options.no_colour or None)
    for line in found.lines:
        console.print(Text(line.text, style="" if options.no_colour else STYLES[line.style]))
    return 0
