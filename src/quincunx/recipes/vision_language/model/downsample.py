"""Fewer visual tokens: neighbours pooled, in two dimensions or in one, or some rows chosen; each picture by itself.

VL-Adapter (Sung et al., CVPR 2022) has the three. There choosing happens in training alone, so that evaluation sees
another number of tokens, and none of them has masks; here the number is the same, and masks, boxes and ids follow.
B examples, N rows, F numbers in a row, K rows that a picture keeps, R rows of one picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import DataError, UsageError
from quincunx.nn.dropout import row_words
from quincunx.nn.rows import RowAware, position_words, scramble
from quincunx.recipes.vision_language.model.rows import Rows

Reduce = Literal["max", "mean"]


class Downsample(nn.Module):
    """Base of what makes rows fewer, each picture's to K."""

    after_embedding = False
    """Whether it works on visual tokens, not on the features that they are made of."""

    def __init__(self, count: int) -> None:
        super().__init__()
        if count < 1:
            raise UsageError(f"a picture must keep at least one row, found {count}")
        self.count = count

    def forward(self, rows: Rows) -> Rows:
        """Return the fewer rows: those of the first picture, of the second, and so on.

        Raises:
            DataError: A picture has rows that do not suit.
        """
        raise TypeError(f"{type(self).__name__} must define forward(rows)")

    def extra_repr(self) -> str:
        """Return what `print(module)` shows."""
        return f"count={self.count}"


class PoolRows(Downsample):
    """Pools neighbouring rows; where there are fewer than K, some stand for several.

    A pooled row's box is the smallest round the boxes of its rows; its number is its place among the pooled ones.

    Args:
        count: K, rows that a picture has afterwards.
        reduce: What is taken of neighbours.
    """

    def __init__(self, count: int, reduce: Reduce = "max") -> None:
        super().__init__(count)
        if reduce not in ("max", "mean"):
            raise UsageError(f"neighbours are reduced by max or mean, found {reduce!r}")
        self.reduce: Reduce = reduce

    def forward(self, rows: Rows) -> Rows:
        """Return the pooled rows; see `Downsample.forward`."""
        return _side_by_side([self._picture(rows, number) for number in range(rows.pictures)])

    def pooled(self, values: Tensor, reduce: Reduce) -> Tensor:
        """Return `[b, K, F]` of the rows of pictures that have R each, `[b, R, F]`."""
        raise TypeError(f"{type(self).__name__} must define pooled(values, reduce)")

    def _picture(self, rows: Rows, number: int) -> Rows:
        member = rows.of_picture(number)
        order = _first(member)
        sizes = member.sum(1).tolist()
        batch, device = len(sizes), member.device
        features = rows.features.new_zeros(batch, self.count, rows.features.shape[2])
        boxes = rows.boxes.new_zeros(batch, self.count, 4)
        for size in sorted({*sizes} - {0}):  # mostly one: pictures of a collection have grids of one size
            which = torch.tensor([place for place, each in enumerate(sizes) if each == size], device=device)
            index = order[which, :size]
            features = features.index_copy(0, which, self.pooled(rows.features[which[:, None], index], self.reduce))
            near, far = rows.boxes[which[:, None], index].chunk(2, -1)
            hull = torch.cat([-self.pooled(-near, "max"), self.pooled(far, "max")], -1)
            boxes = boxes.index_copy(0, which, hull)
        there = torch.tensor(sizes, device=device)[:, None].expand(-1, self.count) > 0
        objects = torch.arange(self.count, device=device).expand(batch, -1)
        return Rows(features, boxes, there, torch.full_like(objects, number) * there, objects * there)


class GridPool(PoolRows):
    """Pools a square grid to a smaller one (or a larger): its side is the root of `count`, rounded down."""

    def __init__(self, count: int, reduce: Reduce = "max") -> None:
        super().__init__(count, reduce)
        self.side = math.isqrt(count)
        self.count = self.side**2

    def pooled(self, values: Tensor, reduce: Reduce) -> Tensor:
        """Return the pooled grid row by row; DataError where R is no square."""
        side = math.isqrt(values.shape[1])
        if side**2 != values.shape[1]:
            raise DataError(
                f"a picture has {values.shape[1]} rows of features, which are no square grid: pool them in one "
                "dimension, or choose some of them"
            )
        pool = functional.adaptive_max_pool2d if reduce == "max" else functional.adaptive_avg_pool2d
        found = pool(values.transpose(1, 2).unflatten(2, (side, side)), (self.side, self.side))
        return found.flatten(2).transpose(1, 2)


class LinePool(PoolRows):
    """Pools rows in the order in which they stand, as those of a film."""

    def pooled(self, values: Tensor, reduce: Reduce) -> Tensor:
        """Return the pooled rows."""
        pool = functional.adaptive_max_pool1d if reduce == "max" else functional.adaptive_avg_pool1d
        return pool(values.transpose(1, 2), self.count).transpose(1, 2)


class SparseSample(RowAware, Downsample):
    """Keeps K visual tokens of each picture in their order: any of them in training, evenly spaced ones otherwise.

    What is kept of an example depends neither on the batch's other examples nor on padding. A picture with no more
    than K keeps all.
    """

    after_embedding = True

    def forward(self, rows: Rows) -> Rows:
        """Return the rows that are kept; RuntimeError in training where nobody set the batch's rows."""
        if not rows.mask.shape[1]:
            return rows
        words = self.attached().current(len(rows.mask)) if self.training else None
        return _side_by_side([self._picture(rows, number, words) for number in range(rows.pictures)])

    def _picture(self, rows: Rows, number: int, words: Tensor | None) -> Rows:
        member = rows.of_picture(number)
        size = member.sum(1, keepdim=True)
        total = member.shape[1]
        slot = torch.arange(min(self.count, total), device=member.device)
        mask = slot < size
        if words is None:
            spread = (2 * slot + 1) * size // (2 * self.count)
            place = torch.where(size > self.count, spread, slot).clamp(max=total - 1)
            return rows.take(_first(member).gather(1, place), mask)
        own = row_words(words.to(member.device), self.layer, number)
        place = member.cumsum(1) - 1  # within the picture, so that padding before it changes nothing
        lots = scramble(own[:, None] ^ position_words(total, member.device)[place.clamp(min=0)])
        lots = lots.masked_fill(~member, torch.iinfo(torch.int64).max)
        chosen = lots.argsort(dim=1, stable=True)[:, : len(slot)].masked_fill(~mask, total)
        return rows.take(chosen.sort(1).values.clamp(max=total - 1), mask)


DOWNSAMPLERS: Mapping[str, Callable[[int, Reduce], Downsample]] = {
    "grid": GridPool,
    "line": LinePool,
    "sparse": lambda count, reduce: SparseSample(count),
}
"""Word -> what makes a picture's rows so many."""


def pool_pictures(rows: Rows) -> Rows:
    """Return one row for each picture: the mean of its rows' features, the smallest box round theirs."""
    found: list[Rows] = []
    for number in range(rows.pictures):
        member = rows.of_picture(number)
        weights = member.to(rows.features.dtype)[..., None]
        features = (rows.features * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)
        there = member.any(1, keepdim=True)
        far = rows.boxes.masked_fill(~member[..., None], -math.inf).amax(1, keepdim=True)
        near = rows.boxes.masked_fill(~member[..., None], math.inf).amin(1, keepdim=True)
        boxes = torch.cat([near[..., :2], far[..., 2:]], -1).masked_fill(~there[..., None], 0)
        images = torch.full_like(rows.images[:, :1], number) * there
        found.append(Rows(features, boxes, there, images, torch.zeros_like(images)))
    return _side_by_side(found)


def _first(member: Tensor) -> Tensor:
    """Return the positions `[B, N]` of members first, in their order."""
    return (~member).to(torch.uint8).argsort(dim=1, stable=True)


def _side_by_side(parts: list[Rows]) -> Rows:
    return Rows(
        torch.cat([part.features for part in parts], 1),
        torch.cat([part.boxes for part in parts], 1),
        torch.cat([part.mask for part in parts], 1),
        torch.cat([part.images for part in parts], 1),
        torch.cat([part.objects for part in parts], 1),
    )
