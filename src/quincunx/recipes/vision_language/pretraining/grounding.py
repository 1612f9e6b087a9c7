"""Losses about single regions: what is in it (`ground_caption`), and which one a text means (`refer`).

    ground_caption   caption region: <vis_extra_id_2> <vis_extra_id_0>   ->  <extra_id_0> red cube <extra_id_1> ball
    refer            visual grounding: <extra_id_0> red cube <extra_id_1> ball  ->  <vis_extra_id_2> <vis_extra_id_0>

One region alone has no markers. This is the form of VL-T5 (Cho et al., ICML 2021), but that a text which several
regions of a picture share is not asked for by `refer`, since no answer to it is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, overload

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.record import Answer, Example, Picture, Region
from quincunx.recipes.vision_language.pretraining.masking import marker
from quincunx.recipes.vision_language.pretraining.said import Loss, drawn
from quincunx.recipes.vision_language.tasks.asking import Asked, Wording
from quincunx.recipes.vision_language.tasks.expressions import region_word


def region_text(region: Region) -> str:
    """Return what is in a region: its class in words, its attribute before; empty where it has no name."""
    if region.name is None:
        return ""
    return f"{region.attribute} {region.name}" if region.attribute else region.name


@dataclass(frozen=True)
class GroundCaption(Loss):
    """What is in some regions of a picture."""

    name: ClassVar[str] = "ground_caption"
    words: ClassVar[str] = "caption region:"
    reads: ClassVar[int] = 512
    needs: ClassVar[str] = "regions with names, in pictures.jsonl"

    grounded: int = 1
    """Regions that are asked for, as far as there are so many; one has no markers."""
    limit: int = 100
    """Regions of a picture that are shown, at most."""
    weight: float = 1.0
    """Of a row's loss."""

    def fits(self, example: Example) -> bool:
        """Return whether some region has a text that can be asked for (`PictureExamples` has them as answers)."""
        return bool(self.usable([answer.text for answer in example.answers]))

    def usable(self, texts: Sequence[str]) -> list[int]:
        """Return the numbers of the regions that can be asked for, given every region's text."""
        return [number for number, text in enumerate(texts) if text]

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return some regions of the picture, drawn, with what is to be said of them."""
        texts = [region_text(region) for picture in pictures[:1] for region in picture.regions[: self.limit]]
        texts = [text.lower() for text in texts] if wording.lowercase else texts
        usable = self.usable(texts)
        if not usable:
            raise DataError(
                f"picture {example.uid}: the loss {self.name} needs regions with names of their own, and it has none; "
                "give them in pictures.jsonl"
            )
        chosen = drawn(draw).permutation(usable)[: self.grounded].tolist()
        named = [texts[number] for number in chosen]
        if self.grounded > 1:
            named = [f"{marker(number)} {text}" for number, text in enumerate(named)]
        regions = " ".join(map(region_word, chosen))
        source, target = self.turned(regions, " ".join(named))
        return Asked(self.put(source, wording, ()), target, self.weight)

    def turned(self, regions: str, texts: str) -> tuple[str, str]:
        """Return which of the two is read and which is said."""
        return regions, texts


@dataclass(frozen=True)
class Refer(GroundCaption):
    """Which regions of a picture some texts mean."""

    name: ClassVar[str] = "refer"
    words: ClassVar[str] = "visual grounding:"
    needs: ClassVar[str] = "regions with names that no other region of the picture has, in pictures.jsonl"

    def usable(self, texts: Sequence[str]) -> list[int]:
        """Return the numbers of the regions whose text no other has."""
        times = Counter(text.casefold() for text in texts)
        return [number for number, text in enumerate(texts) if text and times[text.casefold()] == 1]

    def turned(self, regions: str, texts: str) -> tuple[str, str]:
        """Return which of the two is read and which is said."""
        return texts, regions


@dataclass(frozen=True)
class PictureExamples(Sequence[Example]):
    """Pictures as examples of their own, what is in their regions as answers; in place of a file's `Examples`."""

    collection: Collection
    picture_places: NDArray[np.int64]
    """Places of the pictures in the collection's file."""
    limit: int = 100
    """Regions of a picture that are shown, at most."""

    @property
    def path(self) -> Path:
        """The file of the pictures."""
        return self.collection.folder / "pictures.jsonl"

    @property
    def picture_offsets(self) -> NDArray[np.int64]:
        """Where each example's pictures begin in `picture_places`, and the end."""
        return np.arange(len(self) + 1)

    def __len__(self) -> int:
        return len(self.picture_places)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        picture = self.picture(index)
        answers = tuple(Answer(region_text(region)) for region in picture.regions[: self.limit])
        return Example(picture.id, "picture", (picture.id,), "", answers)

    def picture(self, index: int) -> Picture:
        """Return a picture itself."""
        return self.collection.pictures.at(int(self.picture_places[index]))

    def all_regions(self) -> Iterator[Region]:
        """Yield the regions of all pictures that are shown."""
        for index in range(len(self)):
            yield from self.picture(index).regions[: self.limit]
