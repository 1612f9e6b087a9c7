"""A second file, which holds ranges and perhaps the section `sweep`, beside a config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from quincunx.config import beside
from quincunx.config.document import ConfigError, Document, Problem
from quincunx.config.layers import read_source
from quincunx.config.paths import KeyPath
from quincunx.sweep.reading.laying import AT


def read_ranges_file(
    source: str | os.PathLike[str] | Mapping[str, Any] | None,
) -> tuple[list[Document], list[Problem]]:
    """Return the layers of a file of ranges, each with the root keys `ranges` and `sweep`, and what is wrong."""
    if source is None:
        return [], []
    problems: list[Problem] = []
    try:
        layers = read_source(source)
    except ConfigError as error:
        problems, layers = list(error.problems), list(error.salvaged)
    found: list[Document] = []
    for layer in layers:
        own = beside.take_out(layer)
        if not own.tree:
            own.graft(AT, layer)
        elif strangers := [key for key in layer.tree if not str(key).startswith("_")]:
            first: KeyPath = (strangers[0],)
            message = f"`{strangers[0]}` stands beside `{next(iter(own.tree))}` in a file of ranges"
            remedy = "a range goes below `ranges`, a setting of the sweep below `sweep`, all others into the config"
            problems.append(Problem("error", first, layer.mark(first), message, remedy))
        found.append(own)
    return found, problems
