"""Further names under which shared settings are accepted in every recipe."""

from __future__ import annotations

from quincunx.config.schema import Name

SHARED_NAMES: tuple[Name, ...] = (
    Name("eval_freq", "evaluate.every"),
    Name("evaluate.eval_freq", "evaluate.every"),
    Name("print_freq", "log.every"),
    Name("log.print_freq", "log.every"),
)
