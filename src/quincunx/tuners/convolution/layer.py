"""1x1 convolutions beside a convolution of a residual block, or after the block.

VL-Adapter (Sung et al., CVPR 2022). B images, C channels, Q channels of the bottleneck, H and W height and width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.tuners.adapter import Call, SiteAdapter
from quincunx.tuners.residual import Source


class Pointwise(nn.Module):
    """One 1x1 convolution, or two with a ReLU between; each followed by a batch norm, if any. It begins as nothing.

    Args:
        channels: That come in.
        out_channels: That come out.
        bottleneck: Channels Q between two convolutions; None: there is but one.
        stride: Of the first convolution.
        batch_norm: Whether there are batch norms; then the last one begins at nought, else the last convolution does.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        bottleneck: int | None,
        *,
        stride: tuple[int, ...] = (1, 1),
        batch_norm: bool,
    ) -> None:
        super().__init__()
        first = out_channels if bottleneck is None else bottleneck
        height, width = stride
        self.down = nn.Conv2d(channels, first, 1, stride=(height, width), bias=False)
        self.down_norm = nn.BatchNorm2d(first) if batch_norm else None
        self.up = None if bottleneck is None else nn.Conv2d(bottleneck, out_channels, 1, bias=False)
        self.up_norm = nn.BatchNorm2d(out_channels) if batch_norm and bottleneck is not None else None
        norm = self.down_norm if self.up is None else self.up_norm
        nn.init.zeros_((norm or self.up or self.down).weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, C', H', W']` for `x [B, C, H, W]`."""
        x = self.down(x)
        if self.down_norm is not None:
            x = self.down_norm(x)
        if self.up is None:
            return x
        x = self.up(torch.relu(x))
        return x if self.up_norm is None else self.up_norm(x)


class BesideConvolution(SiteAdapter):
    """Adds what 1x1 convolutions make of a convolution's input to its output, or to that of the batch norm behind it.

    Args:
        path: The convolutions.
        source: Where the input is found, by a part that stands round the batch norm; None: this one stands round the
            convolution.
        kernel: Size of the convolution's kernel, where it can take what is added into itself.
    """

    def __init__(self, path: Pointwise, source: Source | None, kernel: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.path = path
        self.source = source
        self._kernel = kernel

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Tensor:
        """Return the module's output `[B, C', H', W']` with what is added."""
        output = base(*args, **kwargs)
        return output + self.path(args[0] if self.source is None else self.source.take())

    def weight_change(self) -> Tensor:
        """Return the change of the convolution's kernel `[C', C, *kernel]`: one at its centre.

        Raises:
            UsageError: There is a bottleneck, or a batch norm, or the convolution is one of groups of channels.
        """
        if self._kernel is None:
            return super().weight_change()
        height, width = (size // 2 for size in self._kernel)
        return functional.pad(self.path.down.weight, (width, width, height, height))


class AfterBlock(SiteAdapter):
    """Adds what 1x1 convolutions make of a block's output to that output.

    Args:
        path: The convolutions.
        rectified: Whether the block ends with a ReLU, which then follows the sum as well.
    """

    def __init__(self, path: Pointwise, rectified: bool) -> None:
        super().__init__()
        self.path = path
        self._rectified = rectified

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Tensor:
        """Return the block's output `[B, C, H, W]` with what is added."""
        output = base(*args, **kwargs)
        output = output + self.path(output)
        return torch.relu(output) if self._rectified else output
