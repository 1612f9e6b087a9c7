"""The examples of several tasks as one numbered list of rows, each with what is stored of its pictures.

An example of VCR is several rows, of every other task one. R rows of features, F their width, I pictures of an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.features import Features
from quincunx.recipes.vision_language.data.folder import Collection, Examples
from quincunx.recipes.vision_language.data.pixels import read_picture
from quincunx.recipes.vision_language.data.record import Example, Picture
from quincunx.recipes.vision_language.tasks import Task

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Some examples of one split of one task."""

    task: Task
    number: int
    """The task's, as adapters count them."""
    examples: Examples
    chosen: NDArray[np.int64]
    """Places of the examples that are used."""


@dataclass(frozen=True, slots=True)
class Item:
    """One row to be put into a batch."""

    task: Task
    number: int
    example: Example
    row: int
    pictures: tuple[Picture, ...]
    features: tuple[NDArray[Any], ...] = ()
    """Of each picture `[R, F]`."""
    boxes: tuple[Floats, ...] = ()
    """Of each picture `[R, 4]` in pixels; no rows where features have no boxes."""
    images: tuple[Image.Image, ...] = ()
    """The pictures themselves, where an encoder in the model sees them."""


@dataclass(frozen=True)
class Eyes:
    """What is read of a picture.

    Args:
        collection: Where pictures are.
        features: What is stored of them; None: the pictures themselves are read.
        regions: Whether row i of the features is region i of the picture.
    """

    collection: Collection
    features: Features | None = None
    regions: bool = False

    def of(self, picture: Picture, limit: int | None) -> tuple[NDArray[Any], Floats]:
        """Return the first rows of a picture's features `[R, F]`, at most `limit`, and their boxes; none of a grid.

        Raises:
            DataError: Nothing is stored of it, or not as many rows as it has regions.
        """
        assert self.features is not None
        found = self.features[picture.id]
        if not self.regions:
            return found[:limit], np.zeros((0, 4), np.float32)
        if len(found) != len(picture.regions):
            raise DataError(
                f"picture {picture.id} has {len(picture.regions)} regions in pictures.jsonl and {len(found)} rows of "
                f"features in {self.features.path}: each region needs its row; extract the features anew"
            )
        boxes = np.array([region.box for region in picture.regions[:limit]], np.float32).reshape(-1, 4)
        return found[:limit], boxes

    def image(self, picture: Picture) -> Image.Image:
        """Return a picture itself; DataError where its file is missing, damaged or of another size."""
        return read_picture(self.collection.file_of(picture), (picture.height, picture.width))


@dataclass(frozen=True)
class AskedRows:
    """Rows by number: a `Source`."""

    parts: Sequence[Part]
    eyes: Eyes | None
    """None: texts alone."""
    limits: tuple[int, int] = (36, 36)
    """Rows of features that are taken of a picture, for all tasks but captions, and for captions."""
    _index: NDArray[np.int64] = field(init=False)
    """`[rows, 3]`: part, place of the example, row of it."""

    def __post_init__(self) -> None:
        blocks: list[NDArray[np.int64]] = []
        for number, part in enumerate(self.parts):
            rows = np.ones(len(part.chosen), np.int64)
            if part.task.name == "vcr":  # the only one whose examples are several rows
                rows = np.array([part.task.rows(part.examples[int(place)]) for place in part.chosen], np.int64)
            places = np.repeat(part.chosen, rows)
            within = np.arange(len(places)) - np.repeat(np.cumsum(rows) - rows, rows)
            blocks.append(np.stack([np.full(len(places), number), places, within], 1))
        index = np.concatenate(blocks) if blocks else np.zeros((0, 3), np.int64)
        object.__setattr__(self, "_index", index)

    @property
    def lengths(self) -> None:
        """Texts are short, and pictures have one size: nothing is sorted by length."""
        return None

    @property
    def sizes(self) -> list[int]:
        """How many rows each part has, in their order."""
        return np.bincount(self._index[:, 0], minlength=len(self.parts)).tolist()

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Item:
        """Return a row; DataError where what is stored of its pictures cannot be read."""
        number, place, row = self._index[index].tolist()
        part = self.parts[number]
        example = part.examples[place]
        if self.eyes is None:
            return Item(part.task, part.number, example, row, ())
        pictures = tuple(self.eyes.collection.pictures[name] for name in example.pictures)
        make = partial(Item, part.task, part.number, example, row, pictures)
        if self.eyes.features is None:
            return make(images=tuple(self.eyes.image(picture) for picture in pictures))
        limit = self.limits[part.task.name == "caption"]
        seen = [self.eyes.of(picture, limit) for picture in pictures]
        return make(features=tuple(rows for rows, _ in seen), boxes=tuple(boxes for _, boxes in seen))
