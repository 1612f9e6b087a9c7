"""Weights of `hrr-bundled` between its forms: the packed real Fourier transform is an orthogonal matrix, so the
projections round the core can hold it.

Plain gradient descent takes the same path in both forms. Adam and its kin do not: they scale each weight by itself, and
a rotated weight is another one. H heads, E head width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.nn.attention.hrr import packed_basis
from quincunx.nn.attention.hrr_bundled import Form, HrrBundledAttention
from quincunx.nn.attention.layer import AttentionLayer


def to_spectral(layer: AttentionLayer, *, compile: bool = False) -> AttentionLayer:
    """Return a new layer in the form `spectral` with the outputs of this one, which is in the form `rfft`.

    Args:
        layer: An attention layer with an `hrr-bundled` core; it stays as it is.
        compile: Whether the new core is to generate machine code.

    Raises:
        UsageError: The core is of another kind, or in the form `spectral` already.
    """
    return _converted(layer, "spectral", compile)


def to_time(layer: AttentionLayer) -> AttentionLayer:
    """Return a new layer in the form `rfft` with the outputs of this one, which is in the form `spectral`.

    Raises:
        UsageError: The core is of another kind, or in the form `rfft` already.
    """
    return _converted(layer, "rfft", compile=False)


def convert_state(
    state: Mapping[str, Tensor], prefix: str, num_heads: int, head_dim: int, to: Literal["spectral", "rfft"]
) -> dict[str, Tensor]:
    """Return a model's weights with those of one attention layer turned to the other form.

    Args:
        state: Weights by name, as `state_dict` gives them.
        prefix: What the names of the layer begin with, such as `encoder.layers.0.attention.`; may be empty.
        num_heads: Heads H of the layer.
        head_dim: Head width E.
        to: The form that the weights are for: `spectral` or `rfft`.

    Returns:
        A new dictionary; tensors that stay as they are are shared.

    Raises:
        UsageError: There is no such layer, or its sizes are others.
    """
    if to not in ("spectral", "rfft"):
        raise UsageError(f"cannot convert to the form {to!r}: choose spectral or rfft")
    converted = dict(state)
    for name in _names(state, prefix, num_heads * head_dim):
        weight = state[prefix + name]
        basis = packed_basis(head_dim, torch.float64, weight.device)
        turned = _turned(name, weight.double(), basis if to == "spectral" else basis.mT)
        converted[prefix + name] = turned.to(weight.dtype)
    return converted


def _names(state: Mapping[str, Tensor], prefix: str, inner: int) -> list[str]:
    """The names, less the prefix, of the weights that differ between the forms."""
    needed = [f"{part}.weight" for part in ("query", "key", "value", "output")]
    missing = [prefix + name for name in needed if prefix + name not in state]
    if missing:
        raise UsageError(f"expected an attention layer's weights under {prefix!r}; there is no {', '.join(missing)}")
    for name in needed:
        shape = tuple(state[prefix + name].shape)
        if shape[name == "output.weight"] != inner:
            raise UsageError(
                f"{prefix}{name} is of shape {shape}; expected heads times head width = {inner} "
                f"{'columns' if name == 'output.weight' else 'rows'}: give the sizes that the model was built with"
            )
    more = ["query.bias", "key.bias", "value.bias", "core.query_maps", "core.key_maps"]
    return needed + [name for name in more if prefix + name in state]


def _turned(name: str, weight: Tensor, basis: Tensor) -> Tensor:
    """The weight in the other basis `[E, E]` of each head's space."""
    width = len(basis)
    if name.startswith("core."):  # maps [R - 1, H, E, E] of row vectors
        return basis @ weight @ basis.mT
    if name == "output.weight":
        return (weight.unflatten(1, (-1, width)) @ basis.mT).flatten(1)
    if name.endswith(".bias"):
        return (weight.unflatten(0, (-1, width)) @ basis.mT).flatten()
    return (basis @ weight.unflatten(0, (-1, width))).flatten(0, 1)


def _converted(layer: AttentionLayer, form: Form, compile: bool) -> AttentionLayer:
    core = layer.core
    if not isinstance(core, HrrBundledAttention):
        raise UsageError(f"only hrr-bundled has two forms; this layer's core is {type(core).__name__}")
    if core.form == form:
        raise UsageError(f"this layer is in the form {form} already")
    new = copy.deepcopy(layer)
    new.core = core.in_form(form, compile=compile)
    # strict: whatever the new core has, the old one gave
    new.load_state_dict(convert_state(layer.state_dict(), "", core.num_heads, core.head_dim, form))
    return new.train(layer.training)
