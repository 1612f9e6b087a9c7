"""Expressions that mean one thing: RefCOCO, RefCOCO+ and RefCOCOg in the files of REFER (Kazemzadeh et al. 2014)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from quincunx.data.plain_pickle import read_plain_pickle
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.importers.pictures import Missing
from quincunx.recipes.vision_language.data.importers.reading import Row, corners, listed, rows_of, split_word
from quincunx.recipes.vision_language.data.importers.request import Made, Placed, Request
from quincunx.recipes.vision_language.data.lines import shown
from quincunx.recipes.vision_language.data.record import Box, Example, Region


class _Instances(NamedTuple):
    """What COCO's file says, by id."""

    pictures: Mapping[str, tuple[str, int, int]]
    """File, width, height."""
    boxes: Mapping[str, Box]
    regions: Mapping[str, list[Region]]
    """Of each picture, in the file's order."""


def refcoco(request: Request) -> Made:
    """REFER's `refs(...).p`, a pickle of plain values, and COCO's `instances.json`.

    One example a sentence; the boxes of all of a picture's instances are its regions, and the candidates. Splits are
    called as there, `val` is dev. Without a folder of pictures they are kept without files.
    """
    if len(request.files) != 2:
        raise UsageError(f"refcoco takes refs(...).p and instances.json, found {len(request.files)} files")
    path, instances_path = request.files
    refs = _references(path)
    instances = _instances(instances_path)
    splits = dict.fromkeys(split_word(ref.need("split", str)) for ref in refs)
    return {
        ("refcoco", split): lambda split=split: _refcoco(request, refs, instances, split)
        for split in splits
        if request.wants(split)
    }


def referred_boxes(refs: Path, instances: Path, split: str | None = None) -> dict[str, Box]:
    """Return {sentence: box} of `refs(...).p` and `instances.json`: x1, y1, x2, y2 in pixels, cut to the picture.

    Args:
        refs: REFER's file of references.
        instances: COCO's file of what they refer to.
        split: Only those of a split, as the file or as a collection calls it; None: all.

    Raises:
        DataError: A file that cannot be read, a value in it, or no sentence of that split; the text says where.
    """
    known, found = _instances(instances), dict[str, Box]()
    splits = dict[str, None]()
    for ref in _references(refs):
        word = split_word(ref.need("split", str))
        splits[word] = None
        if split is not None and word != split_word(split):
            continue
        picture, box = ref.name("image_id"), ref.name("ann_id")
        if box not in known.boxes:
            raise ref.wrong("ann_id", f"{box} of picture {picture} is not in {instances}")
        for sentence in listed(ref.need("sentences", list), f"{ref.where}: sentences"):
            found[sentence.name("sent_id")] = known.boxes[box]
    if not found:
        raise DataError(f"{refs}: no sentences of {split or 'any split'}; its splits are {', '.join(splits) or 'none'}")
    return found


def _refcoco(request: Request, refs: list[Row], instances: _Instances, split: str) -> Iterator[Placed]:
    for ref in refs:
        if split_word(ref.need("split", str)) != split:
            continue
        picture, box = ref.name("image_id"), ref.name("ann_id")
        if picture not in instances.pictures or box not in instances.boxes:
            raise ref.wrong("ann_id", f"{box} of picture {picture} is not in {request.files[1]}")
        file, width, height = instances.pictures[picture]
        try:
            found = request.pictures.describe(file, ref.where, (width, height), instances.regions.get(picture, ()))
        except Missing:
            continue
        for sentence in listed(ref.need("sentences", list), f"{ref.where}: sentences"):
            more = {"box": list(instances.boxes[box]), "ref": ref.name("ref_id")}
            uid, words = sentence.name("sent_id"), sentence.get("raw", str) or sentence.need("sent", str)
            yield sentence.where, Example(uid, "refcoco", (found,), words, (), more)


def _instances(path: Path) -> _Instances:
    names = {row.name("id"): row.need("name", str) for row in rows_of(path, "categories")}
    pictures = {
        row.name("id"): (row.need("file_name", str), row.need("width", int), row.need("height", int))
        for row in rows_of(path, "images")
    }
    boxes: dict[str, Box] = {}
    regions: dict[str, list[Region]] = {}
    for row in rows_of(path, "annotations"):
        picture, category = row.name("image_id"), row.name("category_id")
        if picture not in pictures:
            raise row.wrong("image_id", f"{picture} is none of the images")
        if category not in names:
            raise row.wrong("category_id", f"{category} is none of the categories")
        box = corners(row, "bbox", *pictures[picture][1:])
        boxes[row.name("id")] = box
        regions.setdefault(picture, []).append(Region(box, names[category]))
    return _Instances(pictures, boxes, regions)


def _references(path: Path) -> list[Row]:
    return list(listed(_plain(read_plain_pickle(path), path), str(path)))


def _plain(value: Any, path: Path) -> list[Any]:
    """Return a list with all bytes as text: strings of Python 2 come back as bytes."""
    if not isinstance(value, list):
        raise DataError(f"{path}: {shown(value)}; expected a list of references")
    return [_text(each, path) for each in value]


def _text(value: Any, path: Path) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise DataError(f"{path}: {shown(value)} is not UTF-8") from None
    if isinstance(value, dict):
        return {_text(key, path): _text(each, path) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_text(each, path) for each in value]
    return value
