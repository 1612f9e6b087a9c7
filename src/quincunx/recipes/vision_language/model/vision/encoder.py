"""What every image encoder is: pixels in, rows of features out, cells of a grid or one pooled row.

B pictures, H and W their height and width in pixels, h and w those of the grid, N rows of a picture, F width of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.data.pixels import CLIP_MEAN, CLIP_STD, Size
from quincunx.tuners.sites import ATTENTION, FEEDFORWARD, QUERY, VALUE, find_sites

Colours = tuple[float, float, float]


@dataclass(frozen=True)
class Origin:
    """Where an encoder comes from, for messages and keys."""

    kind: str
    """Its word, or the architecture's name."""
    weights: str | None = None
    """File or folder of its weights; None: they are random."""
    mean: Colours = CLIP_MEAN
    """Of red, green and blue, as it was trained with."""
    std: Colours = CLIP_STD
    """Their deviation, likewise."""
    notes: tuple[str, ...] = field(default=())
    """What is to be said of it, in sentences."""


class ImageEncoder(nn.Module, ABC):
    """Base of image encoders; `forward` is the same for all of them.

    Args:
        origin: Where it comes from.
        image_size: Height and width of pictures.
        width: F of a cell.
        pooled_width: F of what is pooled; None: it cannot be.
        pooled: Give one pooled row in place of the grid.

    Raises:
        UsageError: It cannot pool.
    """

    visual: Any
    """The network itself, a module."""

    def __init__(
        self,
        origin: Origin,
        image_size: Size,
        *,
        width: int,
        pooled_width: int | None,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        if pooled and pooled_width is None:
            raise UsageError(f"{origin.kind} has nothing that pools a picture: leave pooled out")
        self.origin = origin
        self.image_size = image_size
        self.pooled = pooled
        self.grid: int | None = None
        self.cell_width = width
        self.width = pooled_width if pooled and pooled_width is not None else width

    @abstractmethod
    def cells(self, pixels: Tensor) -> Tensor:
        """Return the grid `[B, F, h, w]` of pictures `[B, 3, H, W]`."""

    @abstractmethod
    def pool(self, pixels: Tensor) -> Tensor:
        """Return what is pooled `[B, F]` of pictures `[B, 3, H, W]`."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return rows `[B, N, F]` of pictures `[B, 3, H, W]`: the grid row by row, or the one pooled row.

        Raises:
            UsageError: Pictures of another shape.
        """
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, *self.image_size):
            raise UsageError(
                f"{self.origin.kind} was made for pixels {[3, *self.image_size]}, found {list(pixels.shape[1:])}"
            )
        pixels = pixels.to(next(self.parameters()).dtype)
        if self.pooled:
            return self.pool(pixels)[:, None]
        cells = self.cells(pixels)
        if self.grid is not None:
            cells = functional.adaptive_max_pool2d(cells, self.grid)
        return cells.flatten(2).transpose(1, 2)

    def use_grid(self, cells: int | None) -> None:
        """Make the grid so many cells high and wide, by the maximum over neighbours; None: as it is.

        VL-Adapter stores the 7 by 7 cells of CLIP's ResNets as 6 by 6.

        Raises:
            UsageError: No cells, more than there are, or a pooled row, which has no grid.
        """
        if cells is not None and self.pooled:
            raise UsageError(f"{self.origin.kind} gives a pooled row, and a pooled row has no grid: leave grid out")
        if cells is not None and not 1 <= cells <= min(self.grid_size):
            high, wide = self.grid_size
            raise UsageError(
                f"{self.origin.kind} gives {high} by {wide} cells of pictures of {self.image_size}, and a grid has at "
                f"least one cell and not more than that; found {cells}"
            )
        self.grid = cells

    @property
    def rows(self) -> int:
        """N."""
        if self.pooled:
            return 1
        height, width = self.grid_size
        return self.grid**2 if self.grid is not None else height * width

    @property
    @abstractmethod
    def grid_size(self) -> Size:
        """h and w."""

    def freeze(self) -> None:
        """Train none of its parameters."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; an encoder of which nothing is trained, no adapter either, stays in eval mode.

        Its batch norms then keep their statistics, and it is a function of each picture alone.
        """
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    @property
    def attends(self) -> bool:
        """Whether adapters that are meant for the language model's layers would find some here too."""
        try:
            return bool(find_sites(self, (ATTENTION, FEEDFORWARD, QUERY, VALUE)))
        except UsageError:
            return False

    def described(self) -> Mapping[str, str]:
        """Return what the encoder is, by name, in words."""
        return {
            "encoder": self.origin.kind,
            "weights": self.origin.weights or "random",
            "size": "x".join(map(str, self.image_size)),
            "rows": "pooled" if self.pooled else f"{self.grid or self.grid_size[0]}x{self.grid or self.grid_size[1]}",
        }

    @torch.no_grad()
    def key(self) -> str:
        """Return a hash of all that the rows depend on beside the pixels: settings, colours and every weight."""
        settings = (self.image_size, self.pooled, self.grid, self.origin.mean, self.origin.std, type(self).__name__)
        made = blake2b(repr(settings).encode(), digest_size=16)
        for name, tensor in sorted(self.state_dict().items()):
            content = tensor.detach().cpu().contiguous()
            made.update(repr((name, str(content.dtype), tuple(content.shape))).encode())
            made.update(content.reshape(-1).view(torch.uint8).numpy().data if content.numel() else b"")
        return made.hexdigest()
