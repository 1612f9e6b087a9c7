"""From rows of pretraining to a batch: texts and pictures as for tasks, and which regions are hidden.

B rows, N rows of features, K hidden regions of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from quincunx.data.batch import Batch, pad
from quincunx.recipes.vision_language.asked_rows import Item
from quincunx.recipes.vision_language.collate import UNTRAINED, Asking
from quincunx.recipes.vision_language.pretraining.measured import REGIONS
from quincunx.recipes.vision_language.pretraining.regions import UNKNOWN, RegionWords, hidden_regions
from quincunx.seeds import address

PADDING = {"region_places": -1, "region_names": UNKNOWN, "region_attributes": UNKNOWN, "region_confidence": 0}
"""Tensor of a batch -> what stands in it where a row has no more hidden regions."""


@dataclass(frozen=True)
class PretrainingAsking:
    """A `Collate`: items in, tensors for the model and the losses out.

    Every choice is drawn by the batch's seed and the row's place, so a row is asked the same way whatever is beside it.

    Args:
        asking: Makes texts and pictures; it must make the random choices of training.
        words: Classes and attributes of regions; None: no loss is about hidden regions.
        rate: Share of a picture's regions that is hidden, at least one.
    """

    asking: Asking
    words: RegionWords | None = None
    rate: float = 0.15

    @property
    def still(self) -> PretrainingAsking:
        """The same for evaluation: pictures stay as they are; what is hidden or swapped is drawn all the same."""
        return replace(self, asking=replace(self.asking, augmentation=None))

    def __call__(self, examples: Sequence[Item], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        """Return a batch of rows, with `region_*` tensors `[B, K]` where regions may be hidden."""
        batch = self.asking(examples, ids, rows, seed)
        tensors, extents = dict(batch.tensors), dict(batch.extents)
        # one place at least, so that the decoder has something to read in a batch of which nothing is said
        labels = tensors["labels"]
        tensors["labels"] = functional.pad(labels, (0, 1 if labels.shape[1] == 0 else 0), value=UNTRAINED)
        extents["labels"] = extents["labels"].clamp(min=1)
        if self.words is not None:
            hidden = [
                hidden_regions(
                    item.pictures if item.task.name == REGIONS else (),
                    [len(features) for features in item.features] if item.task.name == REGIONS else (),
                    self.words,
                    self.rate,
                    np.random.Generator(np.random.Philox(address(seed, "regions", row))),
                )
                for item, row in zip(examples, rows, strict=True)
            ]
            counts = torch.tensor([len(one["region_places"]) for one in hidden])
            for name, value in PADDING.items():
                tensors[name] = pad([one[name] for one in hidden], value)
                extents[name] = counts
        return replace(batch, tensors=tensors, extents=extents)
