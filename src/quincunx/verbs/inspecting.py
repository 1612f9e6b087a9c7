"""The verb `inspect`: one batch of a config's data, as training draws it, in words."""

from __future__ import annotations

import argparse

from quincunx.verbs.common import Adder
from quincunx.verbs.configs import load_named

STYLES = {"plain": "", "head": "bold", "dropped": "red", "note": "dim"}
"""How a terminal shows each kind of line."""


def add_to(add: Adder) -> None:
    """Add the verb."""
    what = "show a batch as training draws it: what is left out, targets, positions, who sees whom; compute nothing"
    made = add("inspect", inspect, what, config=True)
    made.add_argument("--batch", type=int, default=0, metavar="N", help="logical batch, from 0; default: 0")
    made.add_argument("--rows", type=int, default=2, metavar="R", help="examples of it; default: 2")
    made.add_argument("--split", default="train", help="train (default), or one that is measured: dev, test ...")
    made.add_argument("--no-colour", action="store_true", help="plain text on a terminal too")


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
