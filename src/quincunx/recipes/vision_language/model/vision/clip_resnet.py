"""The ResNets of CLIP: three convolutions at the start, average pools in place of strides, attention that pools.

Radford et al., ICML 2021, from ResNet-D of He et al., CVPR 2019. Modules have the names of the published weights, by
which convolution adapters know the blocks. B pictures, H and W height and width, C channels, N cells of the grid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.data.pixels import Size
from quincunx.recipes.vision_language.model.vision.encoder import ImageEncoder, Origin

STRIDE = 32
"""Pixels of a cell's side."""
EXPANSION = 4
"""Channels that a block gives, divided by those within."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of such a network."""

    layers: tuple[int, int, int, int]
    """Blocks of each stage."""
    stem: int
    """Channels after the first three convolutions."""
    pooled: int
    """Width of what is pooled."""
    side: int
    """Height and width of the pictures that it was trained with."""

    @property
    def width(self) -> int:
        """Channels of the grid."""
        return self.stem * 8 * EXPANSION

    @property
    def heads(self) -> int:
        """Of the attention that pools."""
        return self.width // 64


SIZES: Mapping[str, Sizes] = {
    "RN50": Sizes((3, 4, 6, 3), 64, 1024, 224),
    "RN101": Sizes((3, 4, 23, 3), 64, 512, 224),
    "RN50x4": Sizes((4, 6, 10, 6), 80, 640, 288),
}
"""Word -> sizes as published."""


class Bottleneck(nn.Module):
    """A residual block: 1x1, 3x3 and 1x1 convolutions, what is strided elsewhere pooled after the second.

    Args:
        channels: C that come in.
        inner: C of the first two convolutions.
        stride: By which height and width become less.
    """

    def __init__(self, channels: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(inner, inner * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner * EXPANSION)
        self.relu3 = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride > 1 or channels != inner * EXPANSION:
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("-1", nn.AvgPool2d(stride)),
                        ("0", nn.Conv2d(channels, inner * EXPANSION, 1, bias=False)),
                        ("1", nn.BatchNorm2d(inner * EXPANSION)),
                    ]
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, C', H', W']` for `[B, C, H, W]`."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.avgpool(out)))
        return self.relu3(out + (x if self.downsample is None else self.downsample(x)))


class AttentionPool(nn.Module):
    """Attention of the mean of all cells over itself and the cells, their places learned.

    Args:
        grid: Height and width of the grid.
        width: C.
        heads: That divide C.
        output: Width of what comes out.
    """

    def __init__(self, grid: Size, width: int, heads: int, output: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(grid[0] * grid[1] + 1, width) / width**0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, output)
        self.heads = heads
        for each in (self.k_proj, self.q_proj, self.v_proj, self.c_proj):
            nn.init.normal_(each.weight, std=width**-0.5)

    def forward(self, cells: Tensor) -> Tensor:
        """Return `[B, output]` for cells `[B, C, h, w]`."""
        rows = cells.flatten(2).transpose(1, 2)
        rows = torch.cat([rows.mean(1, keepdim=True), rows], 1) + self.positional_embedding
        queries, keys, values = (
            each(part).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for each, part in ((self.q_proj, rows[:, :1]), (self.k_proj, rows), (self.v_proj, rows))
        )
        found = functional.scaled_dot_product_attention(queries, keys, values)
        return self.c_proj(found.transpose(1, 2).flatten(1))


class ResNet(nn.Module):
    """The network.

    Args:
        sizes: Its sizes.
        image_size: Height and width of pictures, multiples of 32.
        pooled: With the attention that pools; without, it has a grid alone.

    Raises:
        UsageError: Another height or width.
    """

    def __init__(self, sizes: Sizes, image_size: Size, *, pooled: bool) -> None:
        super().__init__()
        if any(side % STRIDE or side < STRIDE for side in image_size):
            raise UsageError(
                f"a ResNet of CLIP takes pictures whose height and width are multiples of {STRIDE}, found {image_size}"
            )
        half = sizes.stem // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(half, sizes.stem, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(sizes.stem)
        self.relu3 = nn.ReLU()
        self.avgpool = nn.AvgPool2d(2)
        stages = (_stage(sizes, number) for number in range(4))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.attnpool = None
        if pooled:
            self.attnpool = AttentionPool(grid_of(image_size), sizes.width, sizes.heads, sizes.pooled)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the grid `[B, C, H / 32, W / 32]` of pictures `[B, 3, H, W]`."""
        x = self.relu1(self.bn1(self.conv1(pixels)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.avgpool(self.relu3(self.bn3(self.conv3(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ClipResNet(ImageEncoder):
    """A ResNet of CLIP as an image encoder, with random weights; `clip_weights.load` gives it the published ones.

    Args:
        origin: Where it comes from.
        sizes: Of the network.
        image_size: Height and width of pictures, multiples of 32.
        pooled: As in `ImageEncoder`.
        grid: As in `ImageEncoder.use_grid`.
    """

    def __init__(
        self, origin: Origin, sizes: Sizes, image_size: Size, *, pooled: bool = False, grid: int | None = None
    ) -> None:
        super().__init__(origin, image_size, width=sizes.width, pooled_width=sizes.pooled, pooled=pooled)
        self.sizes = sizes
        self.visual = ResNet(sizes, image_size, pooled=pooled)
        self.use_grid(grid)

    def cells(self, pixels: Tensor) -> Tensor:
        """Return the grid `[B, C, h, w]`."""
        return self.visual(pixels)

    def pool(self, pixels: Tensor) -> Tensor:
        """Return what attention pools `[B, F]`."""
        assert self.visual.attnpool is not None
        return self.visual.attnpool(self.visual(pixels))

    @property
    def grid_size(self) -> Size:
        """h and w."""
        return grid_of(self.image_size)


def grid_of(image_size: Size) -> Size:
    """Return height and width of the grid of pictures of a size."""
    return image_size[0] // STRIDE, image_size[1] // STRIDE


def _stage(sizes: Sizes, number: int) -> nn.Sequential:
    inner = sizes.stem * 2**number
    channels = sizes.stem if number == 0 else inner // 2 * EXPANSION
    blocks = [Bottleneck(channels, inner, 1 if number == 0 else 2)]
    blocks += [Bottleneck(inner * EXPANSION, inner) for _ in range(sizes.layers[number] - 1)]
    return nn.Sequential(*blocks)
