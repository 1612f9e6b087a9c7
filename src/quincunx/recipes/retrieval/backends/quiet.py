"""Other libraries' progress bars, advice and reports kept from the terminal: we say ourselves what went wrong."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any

from quincunx.errors import MissingExtra


@contextmanager
def quiet() -> Iterator[None]:
    """Let nothing through but exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def package(name: str, extra: str, purpose: str) -> Any:
    """Return an optional package; MissingExtra, with its purpose and how to install it, where it is not there."""
    try:
        return import_module(name)
    except ImportError:
        raise MissingExtra(name, extra, purpose) from None
