"""The losses of pretraining as one sum: what is said, and what is found of hidden regions.

B rows, T words to say, V vocabulary, K hidden regions of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.engine.objective import Summed
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.collate import UNTRAINED
from quincunx.recipes.vision_language.objective import HOLD, inputs_of
from quincunx.recipes.vision_language.pretraining.heads import (
    NAME,
    region_counts,
    region_losses,
    region_states,
    wide,
)
from quincunx.recipes.vision_language.pretraining.measured import OF_REGIONS, SAID

ANSWERS = "answers"


@dataclass(frozen=True)
class Passed:
    """What a model makes of a batch."""

    logits: Tensor
    """`[B, T, V]`."""
    regions: dict[str, Tensor]
    """Of hidden regions, `[B, K, ...]`, by loss; empty where none are hidden."""


class Pretraining(Summed):
    """What is said, and what is found.

    `answers` are the rows of which a text is said, whatever their loss: of each the mean of its words' cross-entropies,
    times the row's weight, as in VL-T5. `obj`, `attr` and `feat` are means over the hidden regions of which the class,
    the attribute or the features are known; each adds to the loss with weight 1.

    Args:
        losses: As `pretraining.losses` has them.
    """

    statistics_remedy = HOLD

    def __init__(self, losses: Sequence[str]) -> None:
        super().__init__()
        self._regions = tuple(loss for loss in OF_REGIONS if loss in losses)
        said = (ANSWERS,) if any(loss in SAID for loss in losses) else ()
        self.terms = (*said, *self._regions)
        if not self.terms:
            raise UsageError(f"pretraining needs a loss; there are {', '.join((*SAID, *OF_REGIONS))}")

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return the number of rows of which something is said, and of hidden regions for each loss about them."""
        said = (batch["labels"] != UNTRAINED).any(1)
        counts = {ANSWERS: said.sum(), **(region_counts(batch) if self._regions else {})}
        return {term: float(counts[term]) for term in self.terms}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return each term's sum, computed in float32; UsageError where the model has no heads for a loss."""
        passed = pass_through(model, chunk)
        losses, said = word_losses(passed.logits, chunk["labels"])
        means = losses.sum(1) / said.sum(1).clamp(min=1)
        sums = {ANSWERS: (means * chunk["weight"].to(means.dtype)).sum()}
        if self._regions:
            if not passed.regions:
                raise UsageError("the model has no heads that find regions: add_region_heads puts them into it")
            sums |= {name: each.sum() for name, each in region_losses(passed.regions, chunk).items()}
        return {term: sums[term] for term in self.terms}


def pass_through(model: Any, batch: Batch) -> Passed:
    """Return what a `VisionLanguageModel` makes of a batch, hidden regions hidden where it has heads for them."""
    inputs = dict(inputs_of(batch))
    heads = getattr(model, NAME, None) if "region_places" in batch.tensors else None
    if heads is not None:
        inputs["features"] = heads.hide(inputs["features"], batch["region_places"])
    encoded = model.encode(**inputs)
    logits = model(batch["input_ids"], encoded=encoded, labels=batch["labels"])
    return Passed(logits, {} if heads is None else heads(region_states(model, encoded, batch)))


def word_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each word `[B, T]`, nought where nothing is said, and where something is."""
    flat = functional.cross_entropy(
        wide(logits).flatten(0, 1), labels.flatten(), ignore_index=UNTRAINED, reduction="none"
    )
    return flat.view(labels.shape), labels != UNTRAINED


def right_words(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether each word is the likeliest, bool `[B, T]`; False where nothing is said."""
    return (logits.argmax(-1) == labels) & (labels != UNTRAINED)


def right_regions(passed: Passed, batch: Batch) -> dict[str, Tensor]:
    """Return whether class and attribute of hidden regions are the likeliest, bool `[B, K]` by loss."""
    known = {"obj": "region_names", "attr": "region_attributes"}
    return {
        loss: torch.eq(passed.regions[loss].argmax(-1), batch[key])
        for loss, key in known.items()
        if loss in passed.regions
    }
