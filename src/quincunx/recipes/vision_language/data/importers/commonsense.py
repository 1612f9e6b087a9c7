"""Questions with four answers and four reasons: VCR (Zellers et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.importers.pictures import Missing
from quincunx.recipes.vision_language.data.importers.reading import Row, json_file, rows_of
from quincunx.recipes.vision_language.data.importers.request import Made, Placed, Request, by_split
from quincunx.recipes.vision_language.data.lines import shown
from quincunx.recipes.vision_language.data.record import Example, Region


def vcr(request: Request) -> Made:
    """VCR's JSON lines, with its folder of pictures and their metadata.

    Words that point at objects, `[0, 2]`, become names with numbers, `person0 and dog2`: the numbers are those of the
    picture's regions.
    """
    if request.pictures.folder is None:
        raise UsageError("vcr needs --pictures: boxes lie beside the pictures")
    return by_split(request, "vcr", _vcr)


def _vcr(request: Request) -> Iterator[Placed]:
    folder = request.pictures.folder
    assert folder is not None
    for path in request.files:
        for row in rows_of(path):
            names = row.texts("objects")
            about = Row(_metadata(folder, row), f"{folder / row.need('metadata_fn', str)}")
            size = (about.need("width", int), about.need("height", int))
            try:
                picture = request.pictures.describe(
                    row.need("img_fn", str), row.where, size, _regions(about, names, size)
                )
            except Missing:
                continue
            more: dict[str, Any] = {"choices": [_words(each, names, row) for each in row.need("answer_choices", list)]}
            if (reasons := row.get("rationale_choices", list)) is not None:
                more["rationales"] = [_words(each, names, row) for each in reasons]
            for key, theirs in (("label", "answer_label"), ("rationale_label", "rationale_label")):
                if (number := row.get(theirs, int)) is not None:
                    more[key] = number
            question = _words(row.need("question", list), names, row)
            yield row.where, Example(row.name("annot_id"), "vcr", (picture,), question, (), more)


def _metadata(folder: Path, row: Row) -> dict[str, Any]:
    path = folder / row.need("metadata_fn", str)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise row.wrong("metadata_fn", f"{path} lies outside of {folder}")
    found = json_file(path)
    if not isinstance(found, dict):
        raise DataError(f"{path}: {shown(found)}; expected an object with boxes, width and height")
    return found


def _regions(about: Row, names: Sequence[str], size: tuple[int, int]) -> list[Region]:
    boxes = about.need("boxes", list)
    if len(boxes) != len(names):
        raise about.wrong("boxes", f"{len(boxes)} for {len(names)} objects")
    found: list[Region] = []
    for number, (box, name) in enumerate(zip(boxes, names, strict=True)):
        if not isinstance(box, list) or len(box) not in (4, 5) or not all(isinstance(n, int | float) for n in box):
            raise about.wrong(f"boxes[{number}]", f"{shown(box)}; expected x1, y1, x2, y2 and a score")
        x1, y1, x2, y2 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], size[0]), min(box[3], size[1])
        if not (x1 < x2 and y1 < y2):
            raise about.wrong(f"boxes[{number}]", f"{shown(box)} is empty, or out of {size[0]} x {size[1]} pixels")
        score = float(box[4]) if len(box) == 5 else 1.0
        found.append(Region((float(x1), float(y1), float(x2), float(y2)), name, None, min(max(score, 0.0), 1.0)))
    return found


def _words(tokens: Any, names: Sequence[str], row: Row) -> str:
    """Return a text of tokens, lists of objects' numbers among them."""
    if not isinstance(tokens, list):
        raise row.wrong("question or choices", f"{shown(tokens)}; expected a list of words and of lists of numbers")
    words: list[str] = []
    for token in tokens:
        if isinstance(token, str):
            words.append(token)
        elif isinstance(token, list) and all(type(n) is int and 0 <= n < len(names) for n in token):
            words.append(" and ".join(f"{names[n]}{n}" for n in token))
        else:
            raise row.wrong("question or choices", f"{shown(token)}; expected a word, or numbers below {len(names)}")
    return " ".join(words)
