"""The errors that people see.

Every error of ours says what was found, where, what was expected and what to do; the command line prints its text
without a traceback and leaves with its exit code (0 done, 1 failed run, 2 wrong usage or config).
"""

from __future__ import annotations


class QuincunxError(Exception):
    """Base of every error whose text is meant for the person at the terminal."""

    exit_code = 1


class UsageError(QuincunxError):
    """The command or call itself is wrong: nothing was computed, nothing was written."""

    exit_code = 2


class DataError(QuincunxError):
    """Input data cannot be used; the text names file, line or row, and reason."""


class RunError(QuincunxError):
    """A run folder cannot be used as asked (in use, already there, incompatible, damaged)."""


class CheckpointError(RunError):
    """A checkpoint cannot be restored whole; the text names the file and what is wrong with it."""


class NonFiniteError(QuincunxError):
    """A loss or gradient stopped being finite; raised before the update, so the weights are still good."""


class MissingExtra(QuincunxError):
    """An optional dependency is not installed; the text gives the pip command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'quincunx[{extra}]'")
