"""The csv module's limit on the length of a field, which is one for the whole process."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 2**31 - 1
_LOCK = threading.Lock()


@contextmanager
def long_fields() -> Iterator[None]:
    """Let the csv module read fields of any length within, and put its limit, which all its users share, back.

    One thread at a time: a generator must not hold it over a `yield`, since whoever stops reading half-way would leave
    it locked.
    """
    with _LOCK:
        before = csv.field_size_limit(_LONGEST)
        try:
            yield
        finally:
            csv.field_size_limit(before)
