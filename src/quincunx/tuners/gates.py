"""Gates of four granularities over what a module and its adapter give: VL-PET (Z.-Y. Hu et al., ICCV 2023, figure 3).

The paper has G * (H + change of H), G made of the module's input X, its output H, or of neither, times a constant s
that it leaves open, and G begins near s / 2. Here s lets every gate begin at exactly 1, so that an adapter still begins
as nothing.
B examples, S positions, E width of X, D width of H, R width inside the gate.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError

Granularity = Literal["none", "small", "middle_x", "middle_y", "large"]
GRANULARITIES: tuple[Granularity, ...] = ("none", "small", "middle_x", "middle_y", "large")


class SmallGate(nn.Module):
    """One number for an example: 2 mean over positions of sigmoid(w [X; H] + b).

    The mean takes in padding, as the paper's code does: how far a text is padded then changes its output a little.
    """

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        self.score = _zero(nn.Linear(input_width + width, 1))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return `[B, 1, 1]` for `x [B, S, E]` and `h [B, S, D]`."""
        score = torch.sigmoid(self.score(torch.cat([x, h], -1)))
        positions = tuple(range(1, score.ndim - 1))
        return 2 * (score.mean(positions, keepdim=True) if positions else score)


class MiddleXGate(nn.Module):
    """One number for a position: 2 sigmoid(w (X + H) + b).

    Raises:
        UsageError: X and H have not the same width.
    """

    def __init__(self, input_width: int, width: int) -> None:
        super().__init__()
        if input_width != width:
            raise UsageError(
                f"the gate middle_x adds an input {input_width} wide to an output {width} wide: take large"
            )
        self.score = _zero(nn.Linear(width, 1))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return `[B, S, 1]` for `x [B, S, D]` and `h [B, S, D]`."""
        return 2 * torch.sigmoid(self.score(x + h))


class MiddleYGate(nn.Module):
    """One number for a feature, whatever the input: (1 + sigmoid(z)) / 1.5, so with s = 2/3 and z from 0 on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return `[D]`."""
        return (1 + torch.sigmoid(self.z)) / 1.5


class LargeGate(nn.Module):
    """One number for each feature of each position: 2 sigmoid(up(gelu(down(X))))."""

    def __init__(self, input_width: int, width: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Linear(input_width, inner)
        self.up = _zero(nn.Linear(inner, width))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return `[B, S, D]` for `x [B, S, E]`."""
        return 2 * torch.sigmoid(self.up(functional.gelu(self.down(x), approximate="tanh")))


def make_gate(granularity: Granularity, input_width: int, width: int, inner: int) -> nn.Module | None:
    """Return a gate that begins at 1, called with X and H; None for the word `none`.

    Args:
        granularity: none, small (one number for an example), middle_x (for a position), middle_y (for a feature), or
            large (for each feature of each position).
        input_width: Of X.
        width: Of H.
        inner: Width inside the gate `large`.

    Raises:
        UsageError: The widths do not suit the gate.
    """
    match granularity:
        case "none":
            return None
        case "small":
            return SmallGate(input_width, width)
        case "middle_x":
            return MiddleXGate(input_width, width)
        case "middle_y":
            return MiddleYGate(width)
        case "large":
            return LargeGate(input_width, width, inner)


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
