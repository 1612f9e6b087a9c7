"""What finds class, attribute and features of hidden regions, from the encoder's states at their visual tokens.

B rows, N rows of features, F their width, K hidden regions of a row, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.heads import visual_states
from quincunx.recipes.vision_language.model.joint import Encoded
from quincunx.recipes.vision_language.model.visual import start
from quincunx.recipes.vision_language.pretraining.measured import OF_REGIONS
from quincunx.recipes.vision_language.pretraining.regions import UNKNOWN, RegionWords

NAME = "region_heads"
"""What a model has them as."""


class RegionHeads(nn.Module):
    """A layer for all, and a linear map for each of what is to be found.

    Args:
        width: D.
        classes: Of regions; 0: none are to be found.
        attributes: Likewise.
        feature_width: F.
        features: Whether features are to be found.
    """

    def __init__(self, width: int, classes: int, attributes: int, feature_width: int, *, features: bool = True) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        outputs = {"obj": classes, "attr": attributes, "feat": feature_width if features else 0}
        self.outputs = nn.ModuleDict({name: nn.Linear(width, count) for name, count in outputs.items() if count})
        # trained, and nought at first: hidden features are zeros until something better is found
        self.blank = nn.Parameter(torch.zeros(feature_width))

    def forward(self, states: Tensor) -> dict[str, Tensor]:
        """Return what is found of regions from their states `[..., D]`: scores of classes, of attributes, features."""
        found = self.transform(states)
        return {name: head(found) for name, head in self.outputs.items()}

    def hide(self, features: Tensor, places: Tensor) -> Tensor:
        """Return features `[B, N, F]` without those at places `[B, K]`; -1 is no place."""
        numbers = torch.arange(features.shape[1], device=features.device)
        hidden = (places[..., None] == numbers).any(1)
        return torch.where(hidden[..., None], self.blank.to(features.dtype), features)


def add_region_heads(model: Any, words: RegionWords, losses: Sequence[str]) -> RegionHeads | None:
    """Put heads for the losses about hidden regions into a `VisionLanguageModel`, trained whatever else is frozen.

    Weights begin as the backbone's do, from torch's generator.

    Args:
        model: With adapters in it already; changed in place.
        words: Classes and attributes.
        losses: `obj`, `attr` and `feat` among them count.

    Returns:
        The heads; None where no loss needs any.

    Raises:
        UsageError: The model's visual tokens are not its rows of features one by one; or there are no classes, or no
            attributes, to find.
    """
    wanted = [loss for loss in OF_REGIONS if loss in losses]
    if not wanted:
        return None
    visual = model.visual_embedding
    if (
        visual is None
        or visual.pools
        or visual.tokens > 1
        or model.downsample is not None
        or model.vision_tower is not None
    ):
        raise UsageError(
            f"{', '.join(wanted)} of pretraining.losses look at the token of each region, and this model has no such "
            "tokens: take stored features of regions (butd), and leave pictures.grid, line, sparse and expand out"
        )
    for loss, found, what in (("obj", words.names, "a name"), ("attr", words.attributes, "an attribute")):
        if loss in wanted and not found:
            raise UsageError(
                f"no region of the training pictures has {what}, which the loss {loss} is to find: give it in "
                f"pictures.jsonl, or leave {loss} out of pretraining.losses"
            )
    heads = RegionHeads(
        visual.width,
        len(words.names) if "obj" in wanted else 0,
        len(words.attributes) if "attr" in wanted else 0,
        visual.feature_width,
        features="feat" in wanted,
    )
    start(heads, model.config)
    model.add_module(NAME, heads)
    return heads


def region_states(model: Any, encoded: Encoded, batch: Batch) -> Tensor:
    """Return the encoder's states at hidden regions `[B, K, D]`; anything where there is none."""
    places = batch["region_places"].clamp(min=0)
    states = visual_states(model, encoded, batch["attention_mask"], batch["visual_mask"].shape[1])
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[2]))


def region_losses(found: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Return the loss of each hidden region `[B, K]` by name, nought where it does not count.

    `obj` and `attr` are cross-entropies times the detector's confidence, `feat` is the mean over F of the smooth L1
    distance (Huber's, of 1) to the features that were hidden.
    """
    losses: dict[str, Tensor] = {}
    for name, key in (("obj", "region_names"), ("attr", "region_attributes")):
        if name in found:
            each = functional.cross_entropy(
                wide(found[name]).flatten(0, 1), batch[key].flatten(), ignore_index=UNKNOWN, reduction="none"
            )
            losses[name] = each.view(batch[key].shape) * batch["region_confidence"].to(each.dtype)
    if "feat" in found:
        predicted = wide(found["feat"])
        index = batch["region_places"].clamp(min=0)[..., None].expand(-1, -1, predicted.shape[2])
        originals = batch["features"].to(predicted.dtype).gather(1, index)
        distance = functional.smooth_l1_loss(predicted, originals, reduction="none").mean(2)
        losses["feat"] = torch.where(batch["region_places"] >= 0, distance, 0.0)
    return losses


def region_counts(batch: Batch) -> dict[str, Tensor]:
    """Return how many hidden regions count for each loss, by name: from the data alone."""
    return {
        "obj": (batch["region_names"] != UNKNOWN).sum(),
        "attr": (batch["region_attributes"] != UNKNOWN).sum(),
        "feat": (batch["region_places"] >= 0).sum(),
    }


def wide(values: Tensor) -> Tensor:
    """Return numbers in float32, or in float64 where they are."""
    return values if values.dtype == torch.float64 else values.float()
