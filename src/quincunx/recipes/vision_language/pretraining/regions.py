"""Hidden regions of pictures, beside a text that is whole: their classes, attributes and features are to be found.

These are the losses of LXMERT (Tan and Bansal, EMNLP 2019) on the encoder of a model that also writes. The classes and
attributes are the words that regions of the training pictures have. K hidden regions of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from quincunx.recipes.vision_language.data.record import Example, Picture, Region
from quincunx.recipes.vision_language.pretraining.masking import picks
from quincunx.recipes.vision_language.pretraining.measured import REGIONS
from quincunx.recipes.vision_language.pretraining.said import Captioned, drawn
from quincunx.recipes.vision_language.tasks.asking import Asked, Wording

UNKNOWN = -100
"""Class or attribute of a region that has none, or one that training does not know."""


@dataclass(frozen=True)
class RegionWords:
    """What regions are called, by number."""

    names: tuple[str, ...] = ()
    """Classes."""
    attributes: tuple[str, ...] = ()

    @classmethod
    def of(cls, regions: Iterable[Region]) -> RegionWords:
        """Return the words that regions have, in alphabetical order."""
        names, attributes = set[str](), set[str]()
        for region in regions:
            names |= {region.name} if region.name else set()
            attributes |= {region.attribute} if region.attribute else set()
        return cls(tuple(sorted(names)), tuple(sorted(attributes)))

    @cached_property
    def numbers(self) -> tuple[dict[str, int], dict[str, int]]:
        """The number of each class, and of each attribute."""
        return {word: i for i, word in enumerate(self.names)}, {word: i for i, word in enumerate(self.attributes)}

    def name(self, region: Region) -> int:
        """Return the number of a region's class; -100 where there is none."""
        return self.numbers[0].get(region.name or "", UNKNOWN)

    def attribute(self, region: Region) -> int:
        """Return the number of a region's attribute; -100 where there is none."""
        return self.numbers[1].get(region.attribute or "", UNKNOWN)


@dataclass(frozen=True)
class Regions(Captioned):
    """A text with its picture, of which regions are hidden; nothing is said."""

    name: ClassVar[str] = REGIONS
    needs: ClassVar[str] = "captions, or other sentences, about pictures with regions"

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return one of the texts, without the names of what was seen: they would give the classes away."""
        return Asked(self.one(example, wording, drawn(draw)))


def hidden_regions(
    pictures: Sequence[Picture], shown: Sequence[int], words: RegionWords, rate: float, draw: np.random.Generator
) -> dict[str, Tensor]:
    """Return which regions of a row are hidden, and what is to be found of them.

    Args:
        pictures: Of the row.
        shown: How many regions of each are among the row's features.
        words: What regions are called.
        rate: Share of the regions that is hidden, at least one.
        draw: Makes the choice.

    Returns:
        Tensors `[K]` by the names that a batch has them by: places among the row's features, classes, attributes
        (-100 where there is none), the detector's confidence.
    """
    regions = [region for picture, count in zip(pictures, shown, strict=True) for region in picture.regions[:count]]
    places = picks(len(regions), rate, draw) if regions else []
    hidden = [regions[place] for place in places]
    return {
        "region_places": torch.tensor(places, dtype=torch.int64),
        "region_names": torch.tensor([words.name(region) for region in hidden], dtype=torch.int64),
        "region_attributes": torch.tensor([words.attribute(region) for region in hidden], dtype=torch.int64),
        "region_confidence": torch.tensor([region.confidence for region in hidden], dtype=torch.float32),
    }
