"""Statements about pictures: NLVR (Suhr et al. 2017) of drawn boxes, NLVR2 (Suhr et al. 2019) of two photographs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quincunx.recipes.vision_language.data.importers.pictures import Missing
from quincunx.recipes.vision_language.data.importers.reading import Row, listed, rows_of, split_named
from quincunx.recipes.vision_language.data.importers.request import Made, Placed, Request, by_split
from quincunx.recipes.vision_language.data.lines import json_lines, shown
from quincunx.recipes.vision_language.data.record import Answer, Example, Region

COLOURS = {"#0099ff": "blue", "yellow": "yellow", "black": "black"}
"""NLVR's names of colours, in lower case -> words."""
BOX, STRIDE = 100, 150
"""Pixels on a side of each of NLVR's three boxes, and from the beginning of one to that of the next."""

_PAIR = re.compile(r"(.*)-(\d+)-(\d+)-(\d+)")


def nlvr(request: Request) -> Made:
    """NLVR: JSON lines; one picture of three boxes, in its first order (`-0`), the objects in them as regions."""
    return by_split(request, "nlvr", _nlvr)


def _nlvr(request: Request) -> Iterator[Placed]:
    for path in request.files:
        for row in _lines(path):
            uid = row.name("identifier", "id")
            name = row.get("image", str) or f"{split_named(path)}-{uid}-0"
            regions = list(_objects(row))
            size = (2 * STRIDE + BOX, BOX)
            try:
                picture = request.pictures.describe(name, row.where, size, regions)
            except Missing:
                continue
            more = {"identifier": uid.rsplit("-", 1)[0]}
            yield row.where, Example(uid, "nlvr", (picture,), row.need("sentence", str), _label(row), more)


def _objects(row: Row) -> Iterator[Region]:
    boxes = row.get("structured_rep", list) or []
    for place, things in enumerate(boxes):
        where = f"{row.where}: structured_rep[{place}]"
        if not isinstance(things, list):
            raise row.wrong("structured_rep", f"{shown(things)}; expected a list of objects for each box")
        for thing in listed(things, where):
            x, y, side = (thing.need(key, float) for key in ("x_loc", "y_loc", "size"))
            left = place * STRIDE
            box = (left + x, y, min(left + x + side, left + BOX), min(y + side, BOX))
            colour = thing.need("color", str)
            yield Region(
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                thing.need("type", str),
                COLOURS.get(colour.lower(), colour.lower()),
            )


def nlvr2(request: Request) -> Made:
    """NLVR2: JSON lines; the left and the right picture, `-img0` and `-img1`; a sentence's pairs are one group."""
    return by_split(request, "nlvr", _nlvr2)


def _nlvr2(request: Request) -> Iterator[Placed]:
    for path in request.files:
        for row in _lines(path):
            uid = row.name("identifier")
            found = _PAIR.fullmatch(uid)
            if found is None:
                raise row.wrong("identifier", f"{uid}; expected split-set-pair-sentence")
            names = [f"{uid.rsplit('-', 1)[0]}-img{side}" for side in (0, 1)]
            try:
                pictures = request.pictures.ids(names, row.where)
            except Missing:
                continue
            more = {"identifier": f"{found[1]}-{found[2]}-{found[4]}"}
            yield row.where, Example(uid, "nlvr", pictures, row.need("sentence", str), _label(row), more)


def lxmert_nlvr(request: Request) -> Made:
    """LXMERT's lists of NLVR2: `img0`, `img1`, `sent`, `label` 0 or 1."""
    return by_split(request, "nlvr", _lxmert)


def _lxmert(request: Request) -> Iterator[Placed]:
    for path in request.files:
        for row in rows_of(path):
            identifier = row.name("identifier", "uid")
            found = _PAIR.fullmatch(identifier)
            group = f"{found[1]}-{found[2]}-{found[4]}" if found else identifier
            try:
                pictures = request.pictures.ids([row.name("img0"), row.name("img1")], row.where)
            except Missing:
                continue
            more: dict[str, Any] = {"identifier": group}
            uid = row.name("uid", "identifier")
            yield row.where, Example(uid, "nlvr", pictures, row.need("sent", str), _label(row), more)


def _lines(path: Path) -> Iterator[Row]:
    """Yield the rows of JSON lines, whatever the suffix: the data sets call such files `.json`."""
    for number, values in json_lines(path):
        yield Row(values, f"{path}:{number}")


def _label(row: Row) -> tuple[Answer, ...]:
    """Return whether a statement is true, however the data set writes it; none where it is hidden."""
    value = row.values.get("label")
    if value is None:
        return ()
    words = {"true": "true", "false": "false", "1": "true", "0": "false"}
    found = words.get(str(value).lower())
    if found is None:
        raise row.wrong("label", f"{shown(value)}; expected true or false")
    return (Answer(found),)
