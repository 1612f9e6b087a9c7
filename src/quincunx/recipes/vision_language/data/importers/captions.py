"""Captions in the splits of Karpathy and Fei-Fei (2015), and sentences to translate (Elliott et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.importers.pictures import Missing
from quincunx.recipes.vision_language.data.importers.reading import listed, rows_of, split_word
from quincunx.recipes.vision_language.data.importers.request import Made, Placed, Request, one_split
from quincunx.recipes.vision_language.data.record import Answer, Example

KARPATHY = {"train": "train", "restval": "train", "val": "dev", "test": "test"}
"""Karpathy's splits -> ours: what COCO's validation set has left goes to training."""


def karpathy(request: Request) -> Made:
    """`dataset_coco.json` and the like: one example a picture, all of its sentences as answers."""
    if len(request.files) != 1:
        raise UsageError(f"karpathy takes one file, found {len(request.files)}")
    splits = dict.fromkeys(KARPATHY.values())
    return {
        ("caption", split): lambda split=split: _karpathy(request, split) for split in splits if request.wants(split)
    }


def _karpathy(request: Request, split: str) -> Iterator[Placed]:
    (path,) = request.files
    for row in rows_of(path, "images"):
        word = row.need("split", str)
        if KARPATHY.get(word, split_word(word)) != split:
            continue
        sentences = [
            sentence.need("raw", str).strip()
            for sentence in listed(row.need("sentences", list), f"{row.where}: sentences")
        ]
        try:
            pictures = request.pictures.ids([row.need("filename", str)], row.where)
        except Missing:
            continue
        said = tuple(map(Answer, sentences))
        uid = row.name("cocoid", "imgid")
        yield row.where, Example(uid, "caption", pictures, "", said, {"references": sentences})


def multi30k(request: Request) -> Made:
    """Multi30k: a file of source sentences, one of their translations, and one of pictures, line by line."""
    if len(request.files) not in (2, 3):
        raise UsageError(
            f"multi30k takes the source, the translation and maybe the pictures, found {len(request.files)} files"
        )
    return {("mmt", one_split(request)): lambda: _multi30k(request)}


def _multi30k(request: Request) -> Iterator[Placed]:
    columns: list[list[str]] = []
    for path in request.files:
        try:
            columns.append(path.read_text("utf-8").removesuffix("\n").split("\n"))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8: byte {error.start:,}") from None
        if len(columns[-1]) != len(columns[0]):
            raise DataError(
                f"{path} has {len(columns[-1]):,} lines, {request.files[0]} {len(columns[0]):,}; expected one for one"
            )
    for number, (source, target, *names) in enumerate(zip(*columns, strict=True), start=1):
        where = f"{request.files[0]}:{number}"
        # names of pictures may have the number of a sentence after a #
        listed_names = [name.split("#")[0].strip() for name in names]
        try:
            pictures = request.pictures.ids(listed_names, where)
        except Missing:
            continue
        yield where, Example(str(number), "mmt", pictures, source.strip(), (Answer(target.strip()),))
