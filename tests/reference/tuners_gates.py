"""VL-PET's gates (figure 3 of the paper), number by number, with the constants at which each begins at 1."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _gelu(value: float) -> float:
    return 0.5 * value * (1 + math.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)))


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def gate(word: str, x: Tensor, h: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Return G `[B, S, D]` for the input `x [B, S, E]` and the output `h [B, S, D]` of a module."""
    found = torch.empty_like(h)
    w = {name: value.tolist() for name, value in weights.items()}
    for b in range(len(h)):
        rows, outs = x[b].tolist(), h[b].tolist()
        pooled = 0.0
        if word == "small":
            scores = [
                _sigmoid(_dot(w["score.weight"][0], [*row, *out]) + w["score.bias"][0])
                for row, out in zip(rows, outs, strict=True)
            ]
            pooled = 2 * sum(scores) / len(scores)
        for s, (row, out) in enumerate(zip(rows, outs, strict=True)):
            inner: list[float] = []
            if word == "large":
                inner = [
                    _gelu(_dot(line, row) + bias) for line, bias in zip(w["down.weight"], w["down.bias"], strict=True)
                ]
            for d in range(len(out)):
                if word == "small":
                    found[b, s, d] = pooled
                elif word == "middle_x":
                    total = [p + q for p, q in zip(row, out, strict=True)]
                    found[b, s, d] = 2 * _sigmoid(_dot(w["score.weight"][0], total) + w["score.bias"][0])
                elif word == "middle_y":
                    found[b, s, d] = 2 / 3 * (1 + _sigmoid(w["z"][d]))
                else:
                    found[b, s, d] = 2 * _sigmoid(_dot(w["up.weight"][d], inner) + w["up.bias"][d])
    return found
