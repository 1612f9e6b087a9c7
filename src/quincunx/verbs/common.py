"""What all verbs share: how they are added to the command line, what they read and how they speak."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quincunx.runs import RunFolder

Verb = Callable[[argparse.Namespace], int]
Adder = Callable[..., argparse.ArgumentParser]
"""`adder(name, verb, text, config=False)` adds a verb and returns its parser; one with a config takes changes to it."""

OVERRIDES = "changes: path=value, path+=item, ~path, path=@file; or --path value"


def add_verb(
    commands: Any, name: str, verb: Verb | None, text: str, *, config: bool = False
) -> argparse.ArgumentParser:
    # an abbreviation that works today would be another option's name tomorrow
    made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    if verb is None:
        return made
    made.set_defaults(verb=verb, takes_overrides=config, refuse=made.error, usage=made.format_usage)
    made.add_argument("--traceback", action="store_true", help="show where an error arose")
    if config:
        # not required here: `train --resume RUN` needs none, and argparse would call the changes required too
        made.add_argument("config", nargs="?", help="config file (.yaml, .json, .py) or run folder")
        made.add_argument("changes", nargs="*", metavar="CHANGE", help=OVERRIDES)
        made.add_argument("--task", help="which block of a file with several tasks")
        made.add_argument("--strict", action="store_true", help="take warnings for errors")
    return made


def group(add: Adder, name: str, text: str) -> Adder:
    """Return what adds verbs below a verb."""
    return partial(add_verb, add(name, None, text).add_subparsers(dest="what", metavar="WHAT", required=True))


def add_skips(made: argparse.ArgumentParser, what: str = "short for data.skip_bad_rows=true") -> None:
    """Add --skip-bad-rows."""
    made.add_argument("--skip-bad-rows", action="store_true", help=f"leave bad rows of data out; {what}")


def run_folder(path: str) -> RunFolder:
    """Return the run folder that the command names; UsageError where there is none."""
    from quincunx.errors import RunError, UsageError
    from quincunx.runs import reopen

    try:
        return reopen(path)
    except RunError as error:
        raise UsageError(str(error)) from error


def read_text(path: str) -> str:
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


def tenths(what: str) -> Callable[[int, int], None]:
    """Return what is told how many of a total are done, and says so at every tenth."""
    from quincunx.console import Terminal

    console = Terminal(soft_wrap=True, stderr=True)
    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if (tenth := 10 * done // total) > shown:
            shown = tenth
            console.print(f"{done:,} of {total:,} {what}", markup=False, highlight=False)

    return progress


def say(text: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_error(text: str) -> None:
    """Write a line that is no result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
