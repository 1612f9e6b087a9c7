"""The command line: its verbs, and how their results and errors are shown.

`quincunx.verbs` has what each takes and does. Exit codes: 0 done, 1 failed run, 2 wrong usage or config.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from quincunx.verbs import (
    compressing,
    configs,
    data,
    exporting,
    features,
    flags,
    inspecting,
    mining,
    scoring,
    searching,
    sweeping,
    training,
    vectors,
)
from quincunx.verbs.common import add_verb, say_error

FAMILIES = (
    configs,
    inspecting,
    training,
    sweeping,
    scoring,
    vectors,
    searching,
    mining,
    exporting,
    compressing,
    features,
    data,
)
"""In the order in which help shows them."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options, rest = _parsed(sweeping.with_run(vectors.with_build(list(arguments))))
    options.arguments = list(arguments)
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
    add = partial(add_verb, parser.add_subparsers(metavar="VERB", required=True))

    for family in FAMILIES:
        family.add_to(add)
    return parser


def _parsed(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return what the command says, and the words that are left; flags that name settings are overrides."""
    parser = _parser()
    options, rest = parser.parse_known_args(words)
    left = [word for word in rest if word.startswith("--")]
    if not left or not options.takes_overrides:
        return options, rest
    # what argparse left over are no options of the verb: once they are overrides, it can tell the config from values
    return parser.parse_known_args(flags.as_changes(words, left, flags.setting_names()))


def _settle(options: argparse.Namespace, rest: Sequence[str]) -> None:
    """Gather the overrides: positional ones, those after options, and one that `--resume` took for its run."""
    if getattr(options, "takes_words", False):  # argparse leaves out those that stand after an option
        options.words = [*options.words, *(text for text in rest if not text.startswith("-"))]
        rest = [text for text in rest if text.startswith("-")]
    unknown = [text for text in rest if not options.takes_overrides or text.startswith("-")]
    if unknown:
        names = flags.setting_names() if options.takes_overrides else ()
        options.refuse(flags.refusal(unknown, options.usage(), names))  # argparse's own wording and exit code
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
