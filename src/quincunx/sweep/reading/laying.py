"""A point of the ranges as changes to a config, each with the place in the ranges file where its value stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from quincunx.config.document import Document, Mark, Place, Source
from quincunx.config.override import Override
from quincunx.config.paths import KeyPath
from quincunx.config.write import scalar
from quincunx.sweep.choosing.space import Point, Space
from quincunx.sweep.reading.ranges import key_path, setting_path, value_path

AT: KeyPath = ("ranges",)
"""Where ranges stand in their document."""

SOURCE = "sweep"
"""Name of the source in problems with what a sweep itself sets."""


def changes_of(ranges: Document, space: Space, point: Point) -> Iterator[Override]:
    """Yield the changes that a point makes, in the order of the file."""
    for one in space.ranges:
        if one.name not in point:
            continue
        position = point[one.name]
        for key, value in one.settings(position).items():
            at = value_path(ranges, AT, one, key, position)
            named = ranges.mark(key_path(ranges, AT, one, key))
            stands = ranges.mark(at, key=False)
            yield _change(setting_path(key), _part(ranges, at, value), named, stands)


def plain_changes(changes: Mapping[str, Any]) -> Iterator[Override]:
    """Yield changes that nobody wrote: dotted path -> value."""
    for name, value in changes.items():
        mark = Mark(Source(SOURCE, (f"{name}={scalar(value)}",)), 1, 1)
        yield _change(setting_path(name), Document(value), mark, mark)


def _change(path: KeyPath, content: Document, key: Mark | None, value: Mark | None) -> Override:
    mark = value or key or Mark(Source(SOURCE, ("",)), 1, 1)
    place = Place(key, mark)
    content.places[()] = place
    return Override("set", path, content, place)


def _part(document: Document, at: KeyPath, value: Any) -> Document:
    """Return a value with the places of what is in it, where the document has it at this path."""
    if not isinstance(value, dict | list):
        return Document(value)
    size = len(at)
    places = {path[size:]: place for path, place in document.places.items() if path[:size] == at}
    return Document(value, places)
