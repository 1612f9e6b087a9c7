"""What a model is given of pictures: rows of features, each with its box, its picture and its number in that picture.

B examples, N rows of an example (of all its pictures), F numbers in a row of features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quincunx.errors import DataError, UsageError


@dataclass(frozen=True)
class Rows:
    """Rows of features, or the visual tokens that they became."""

    features: Tensor
    """`[B, N, F]`, zeros where there is no row."""
    boxes: Tensor
    """`[B, N, 4]`: x1, y1, x2, y2 divided by the picture's width and height; zeros where features have no boxes."""
    mask: Tensor
    """`[B, N]` bool, True where there is a row."""
    images: Tensor
    """`[B, N]` int64: which picture of the example the row is of."""
    objects: Tensor
    """`[B, N]` int64: its number in that picture."""

    @property
    def pictures(self) -> int:
        """The largest number of pictures that an example has, at least 1."""
        if not self.images.numel():
            return 1
        return int((self.images * self.mask).max()) + 1

    def of_picture(self, number: int) -> Tensor:
        """Return which rows are of the picture of that number, bool `[B, N]`."""
        return self.mask & (self.images == number)

    def take(self, index: Tensor, mask: Tensor) -> Rows:
        """Return the rows at positions `index [B, M]`, of which only those in `mask [B, M]` count."""
        wide = index[..., None]
        features = self.features.gather(1, wide.expand(-1, -1, self.features.shape[2]))
        return Rows(
            features.masked_fill(~mask[..., None], 0),
            self.boxes.gather(1, wide.expand(-1, -1, 4)).masked_fill(~mask[..., None], 0),
            mask,
            self.images.gather(1, index) * mask,
            self.objects.gather(1, index) * mask,
        )

    def with_features(self, features: Tensor) -> Rows:
        """Return the same rows with other features `[B, N, ...]`."""
        return replace(self, features=features)


def make_rows(
    features: Tensor,
    boxes: Tensor | None = None,
    visual_mask: Tensor | None = None,
    image_ids: Tensor | None = None,
    object_ids: Tensor | None = None,
) -> Rows:
    """Return rows from a batch's tensors; what stands where there is no row counts for nothing, whatever it is.

    Args:
        features: `[B, N, F]`.
        boxes: `[B, N, 4]`; None: zeros.
        visual_mask: `[B, N]`, not zero where there is a row; None: everywhere.
        image_ids: `[B, N]`; None: one picture.
        object_ids: `[B, N]`; None: rows are counted through.

    Raises:
        UsageError: A tensor of another shape.
        DataError: Ids below zero.
    """
    if features.ndim != 3:
        raise UsageError(f"features must be [batch, rows, width], found {tuple(features.shape)}")
    shape, device = features.shape[:2], features.device
    own = {"boxes": boxes, "visual_mask": visual_mask, "image_ids": image_ids, "object_ids": object_ids}
    for name, tensor in own.items():
        expected = (*shape, 4) if name == "boxes" else tuple(shape)
        if tensor is not None and tuple(tensor.shape) != expected:
            raise UsageError(f"{name} must be {list(expected)} beside such features, found {list(tensor.shape)}")
    for name in ("image_ids", "object_ids"):
        ids = own[name]
        if ids is not None and ids.device.type == "cpu" and ids.numel() and int(ids.min()) < 0:
            raise DataError(f"{name} must not be below 0, found {int(ids.min())}")
    if boxes is None:
        boxes = features.new_zeros(*shape, 4)
    if image_ids is None:
        image_ids = torch.zeros(*shape, dtype=torch.int64, device=device)
    if object_ids is None:
        object_ids = torch.arange(shape[1], device=device).expand(*shape)
    if visual_mask is None:
        return Rows(features, boxes, torch.ones(*shape, dtype=torch.bool, device=device), image_ids, object_ids)
    mask = visual_mask.bool()
    return Rows(
        features.masked_fill(~mask[..., None], 0),
        boxes.masked_fill(~mask[..., None], 0),
        mask,
        image_ids * mask,
        object_ids * mask,
    )
