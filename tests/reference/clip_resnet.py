"""The ResNets of CLIP from a table of weights, written out: convolutions as sums over shifted pictures, norms and
attention by their formulas. B pictures, C channels, H and W height and width, N cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def convolution(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Return a convolution `[B, C', H', W']` with as many zeros round the picture as keep its size."""
    size = kernel.shape[2]
    pad = size // 2
    batch, channels, height, width = x.shape
    wide = x.new_zeros(batch, channels, height + 2 * pad, width + 2 * pad)
    wide[:, :, pad : pad + height, pad : pad + width] = x
    found = 0
    for row in range(size):
        for column in range(size):
            seen = wide[:, :, row : row + height : stride, column : column + width : stride]
            found = found + torch.einsum("bchw,dc->bdhw", seen, kernel[:, :, row, column])
    assert isinstance(found, Tensor)
    return found


def norm(x: Tensor, state: State, name: str) -> Tensor:
    """Return a batch norm by its running statistics."""
    mean, variance, weight, bias = (
        state[f"{name}.{what}"].view(-1, 1, 1) for what in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def averaged(x: Tensor, size: int) -> Tensor:
    """Return means over squares."""
    batch, channels, height, width = x.shape
    return x.view(batch, channels, height // size, size, width // size, size).mean((3, 5))


def block(x: Tensor, state: State, name: str, stride: int) -> Tensor:
    """Return what a residual block makes."""
    hidden = norm(convolution(x, state[f"{name}.conv1.weight"]), state, f"{name}.bn1").clamp(min=0)
    hidden = norm(convolution(hidden, state[f"{name}.conv2.weight"]), state, f"{name}.bn2").clamp(min=0)
    hidden = averaged(hidden, stride)
    hidden = norm(convolution(hidden, state[f"{name}.conv3.weight"]), state, f"{name}.bn3")
    if f"{name}.downsample.0.weight" in state:
        x = convolution(averaged(x, stride), state[f"{name}.downsample.0.weight"])
        x = norm(x, state, f"{name}.downsample.1")
    return (hidden + x).clamp(min=0)


def grid(pixels: Tensor, state: State, layers: Sequence[int]) -> Tensor:
    """Return the grid `[B, C, h, w]` of pictures `[B, 3, H, W]`."""
    x = pixels
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = norm(convolution(x, state[f"conv{number}.weight"], stride), state, f"bn{number}").clamp(min=0)
    x = averaged(x, 2)
    for stage, blocks in enumerate(layers, start=1):
        for number in range(blocks):
            x = block(x, state, f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1)
    return x


def pooled(cells: Tensor, state: State, heads: int) -> Tensor:
    """Return what the attention of the mean over mean and cells gives `[B, out]`."""
    found = []
    for each in cells:  # [C, h, w]
        flat = each.flatten(1).T
        rows = torch.cat([flat.mean(0, keepdim=True), flat]) + state["attnpool.positional_embedding"]
        parts = {
            name: rows @ state[f"attnpool.{name}_proj.weight"].T + state[f"attnpool.{name}_proj.bias"]
            for name in ("q", "k", "v")
        }
        size = rows.shape[1] // heads
        out = []
        for head in range(heads):
            at = slice(head * size, (head + 1) * size)
            scores = parts["k"][:, at] @ parts["q"][0, at] / math.sqrt(size)
            weights = torch.exp(scores - scores.max())
            out.append((weights / weights.sum()) @ parts["v"][:, at])
        found.append(torch.cat(out) @ state["attnpool.c_proj.weight"].T + state["attnpool.c_proj.bias"])
    return torch.stack(found)


def parameters(layers: Sequence[int], stem: int, output: int, cells: int) -> int:
    """Return how many parameters such a network has, by arithmetic."""
    half = stem // 2
    count = 27 * half + 9 * half * half + 9 * half * stem + 2 * (half + half + stem)
    channels = stem
    for stage, blocks in enumerate(layers):
        inner = stem * 2**stage
        for number in range(blocks):
            count += channels * inner + 9 * inner * inner + 4 * inner * inner + 2 * (inner + inner + 4 * inner)
            if number == 0:
                count += channels * 4 * inner + 2 * 4 * inner
            channels = 4 * inner
    return count + 3 * (channels * channels + channels) + channels * output + output + (cells + 1) * channels
