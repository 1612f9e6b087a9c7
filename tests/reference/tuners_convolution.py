"""Residual blocks as torchvision and CLIP have them, and what convolution adapters do to them, written out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


class Basic(nn.Module):
    """Two 3x3 convolutions, the stride at the first."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = _shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the stride at the second, or as an average pool behind it (CLIP)."""

    def __init__(self, channels: int, inner: int, stride: int = 1, *, pooled: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=1 if pooled else stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.avgpool = nn.AvgPool2d(stride) if pooled else nn.Identity()
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * inner)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, 4 * inner, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.avgpool(self.relu(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """A network of either; with three convolutions at its beginning it is CLIP's."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        if kind == "clip":
            self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
            self.conv3, self.bn3 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        if kind == "basic":
            self.layer1 = nn.Sequential(Basic(8, 8), Basic(8, 8))
            self.layer2 = nn.Sequential(Basic(8, 12, 2))
        else:
            self.layer1 = nn.Sequential(Bottleneck(8, 4, pooled=kind == "clip"), Bottleneck(16, 4))
            self.layer2 = nn.Sequential(Bottleneck(16, 6, 2, pooled=kind == "clip"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        if hasattr(self, "conv2"):
            x = self.relu(self.bn3(self.conv3(self.relu(self.bn2(self.conv2(x))))))
        return self.layer2(self.layer1(x))


def pointwise(x: Tensor, state: Mapping[str, Tensor], stride: int) -> Tensor:
    """Return what an adapter's convolutions give, with the running statistics of their norms."""
    x = functional.conv2d(x, state["down.weight"], stride=stride)
    if "down_norm.weight" in state:
        x = _norm(x, state, "down_norm")
    if "up.weight" in state:
        x = functional.conv2d(x.clamp(min=0), state["up.weight"])
        if "up_norm.weight" in state:
            x = _norm(x, state, "up_norm")
    return x


def adapted(block: nn.Module, x: Tensor, adapters: Mapping[str, Mapping[str, Tensor]], *, before_norm: bool) -> Tensor:
    """Return what a block in eval mode gives with adapters: their weights by position."""
    count = 3 if hasattr(block, "conv3") else 2
    names = {1: "front", count: "back", **({2: "middle"} if count == 3 else {})}
    hidden = x
    for number in range(1, count + 1):
        convolution, norm = getattr(block, f"conv{number}"), getattr(block, f"bn{number}")
        found = convolution(hidden)
        state = adapters.get(names[number])
        more = 0 if state is None else pointwise(hidden, state, convolution.stride[0])
        hidden = norm(found + more) if before_norm else norm(found) + more
        if number < count:
            hidden = hidden.clamp(min=0)
        if number == 2 and count == 3:
            hidden = block.avgpool(hidden)
    hidden = (hidden + (x if block.downsample is None else block.downsample(x))).clamp(min=0)
    if "transition" in adapters:
        hidden = (hidden + pointwise(hidden, adapters["transition"], 1)).clamp(min=0)
    return hidden


def _norm(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{what}"].view(-1, 1, 1) for what in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def _shortcut(channels: int, out: int, stride: int) -> nn.Module | None:
    if channels == out and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
