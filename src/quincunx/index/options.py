"""The kinds of index and their options, by name. Imports neither torch nor numpy: the command line reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quincunx.errors import UsageError

Settings = Mapping[str, int]
"""Options by name."""
BLOCK = 1 << 14
"""Vectors gone through at a time."""


@dataclass(frozen=True)
class Option:
    """A whole number that decides how an index is made or searched."""

    default: int
    least: int
    search: bool
    """Whether a search may be given another value."""
    text: str


OPTIONS: dict[str, Option] = {
    "nlist": Option(0, 0, False, "lists that the vectors are divided into; 0: 4 times the square root of their number"),
    "nprobe": Option(128, 1, True, "lists that a search looks into"),
    "M": Option(32, 2, False, "links of a vector in the graph; twice as many at its lowest level"),
    "ef_construction": Option(100, 4, False, "candidates kept while a vector's links are chosen"),
    "ef_search": Option(96, 1, True, "candidates kept while the graph is searched"),
    "code_bytes": Option(0, 0, False, "bytes of a vector's product-quantized code; 0: a quarter of the width"),
    "oversample": Option(2, 1, True, "candidates rescored exactly, as a multiple of k"),
}


@dataclass(frozen=True)
class Kind:
    """What there is to know of a kind before one is made."""

    text: str
    defaults: Mapping[str, int]
    """The options it takes."""
    exact: bool = False
    """Whether it finds what comparing with every vector finds."""
    faiss: bool = True
    """Whether it needs faiss."""
    least: int = 1
    """Vectors it takes to train it; fewer are compared one by one."""


def _defaults(*names: str, **others: int) -> dict[str, int]:
    return {**{name: OPTIONS[name].default for name in names}, **others}


KINDS: dict[str, Kind] = {
    "exact": Kind("every vector, by torch", {}, exact=True, faiss=False),
    "flat": Kind("every vector, by faiss; by torch where faiss is absent", {}, exact=True, faiss=False),
    "ivf": Kind("the vectors of the nearest lists (inverted file)", _defaults("nlist", "nprobe")),
    "hnsw": Kind("a graph of neighbours (HNSW)", _defaults("M", "ef_construction", "ef_search")),
    "pq": Kind("product-quantized codes, rescored", _defaults("code_bytes", oversample=4), least=16),
    "ivfpq": Kind(
        "product-quantized codes of the nearest lists, rescored",
        _defaults("nlist", "nprobe", "code_bytes", oversample=4),
        least=16,
    ),
    "int8": Kind("every vector in 8 bits a number, rescored", _defaults("oversample"), faiss=False),
    "binary": Kind("every vector in 1 bit a number, rescored", _defaults(oversample=20), faiss=False),
}


def resolve(kind: str, given: Mapping[str, Any]) -> dict[str, int]:
    """Return all options of a kind, those given and the defaults of the others.

    Raises:
        UsageError: There is no such kind, the kind has no such option, or a value is out of range.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no index kind {kind!r}: choose one of {', '.join(KINDS)}")
    return {**KINDS[kind].defaults, **_checked(kind, given, list(KINDS[kind].defaults))}


def resolve_search(kind: str, given: Mapping[str, Any]) -> dict[str, int]:
    """Return the options of one search, checked likewise; those that only making an index reads are refused."""
    known = [name for name in KINDS[kind].defaults if OPTIONS[name].search]
    return _checked(kind, given, known)


def _checked(kind: str, given: Mapping[str, Any], known: list[str]) -> dict[str, int]:
    for name, value in given.items():
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise UsageError(f"{name} is no option here: an index of kind {kind} {takes}")
        if not isinstance(value, int) or isinstance(value, bool) or value < OPTIONS[name].least:
            raise UsageError(f"{name} is {value!r}: expected a whole number, {OPTIONS[name].least} or more")
    return dict(given)
