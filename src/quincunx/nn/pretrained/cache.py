"""Keys and values that a causal model keeps, as plain tensors: the one place that knows the library's cache classes.

B batch, H heads of keys, S tokens kept, E head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

Layers = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values `[B, H, S, E]` of each layer."""


def new_cache(layers: Sequence[tuple[Tensor, Tensor]] = ()) -> Any:
    """Return what a model takes as `past_key_values`: empty, or holding these keys and values.

    It keeps all that a pass adds, whatever windows the model's layers have, because our masks are as wide; and it is
    differentiable in what it was given.
    """
    from transformers import DynamicCache

    cache = DynamicCache()  # without a config no layer cuts anything off
    for number, (keys, values) in enumerate(layers):
        cache.update(keys, values, number)
    return cache


def kept(cache: Any) -> Layers:
    """Return the keys and values of every layer of a cache; ValueError where a layer keeps none."""
    found = tuple((layer.keys, layer.values) for layer in cache.layers)
    if not found or any(keys is None or values is None for keys, values in found):
        raise ValueError("a layer of the model kept no keys and values")
    return found


def cut(layers: Layers, start: int | None, stop: int | None = None) -> Layers:
    """Return the tokens from `start` to `stop` of every layer."""
    return tuple((keys[:, :, start:stop], values[:, :, start:stop]) for keys, values in layers)
