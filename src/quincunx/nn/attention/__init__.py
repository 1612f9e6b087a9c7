"""The attention kinds, and what each of them promises.

A kind is a module with nothing but the core: how tokens weigh one another. Projections, heads, output dropout and
gradient checkpointing are `AttentionLayer`'s, the same round every kind, so that a comparison of kinds compares cores.

The contract of a kind (base class `quincunx.nn.attention.layer.AttentionCore`):

- `Kind(num_heads, head_dim, causal=False, **options)`: the options are the kind's row of the config's
  `attention.options`, less `grad_checkpointing`, which the layer serves.
- `forward(q, k, v [B, H, S, E], valid [B, S] bool | None, salt=0) -> [B, H, S, E]`: tokens where `valid` is False are
  seen by none; their own outputs are finite and mean nothing. `None` says that every token is valid, and is worth a
  faster way. A row without a valid token gives zeros. Nothing depends on how far the batch is padded.
- `causal=True`: token t sees the tokens up to t. `start` and `step` then give the same outputs token by token.
- Transforms and sums over tokens are computed in float32 or wider, whatever the inputs; the output has their dtype.
- Random masks come from `CounterDropout`, given the `salt`, which tells the passes through tied weights apart.
- `checkpointing_note()` says why recomputing the core would save no memory, where that is so.

A new kind is its file here, its line in KINDS, its word and options in the schema, its rows in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.attention.hrr_bundled import HrrBundledAttention
from quincunx.nn.attention.hrr_cleanup import HrrCleanupAttention
from quincunx.nn.attention.hrr_individual import HrrIndividualAttention
from quincunx.nn.attention.hrr_quadratic import HrrQuadraticAttention
from quincunx.nn.attention.layer import AttentionCore, AttentionLayer
from quincunx.nn.attention.none import NoAttention, NoAttentionLayer
from quincunx.nn.attention.softmax import SoftmaxAttention
from quincunx.nn.attention.tpr import TprAttention

KINDS: Mapping[str, type[AttentionCore]] = {
    "softmax": SoftmaxAttention,
    "hrr-individual": HrrIndividualAttention,
    "hrr-quadratic": HrrQuadraticAttention,
    "hrr-bundled": HrrBundledAttention,
    "hrr-cleanup": HrrCleanupAttention,
    "tpr": TprAttention,
    "none": NoAttention,
}


def attend(
    kind: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False, **options: Any
) -> Tensor:
    """Return what each token takes from the others, without projections and dropout.

    A kind's learned numbers (a scale, the gain of a read-out) have their starting values here.

    Args:
        kind: A word of KINDS.
        q: Queries `[B, H, S, E]`.
        k: Keys `[B, H, S, E]`.
        v: Values `[B, H, S, E]`.
        mask: `[B, S]` bool, True where a token is valid; None when all are.
        causal: Token t sees the tokens up to t only.
        options: The kind's own, as in the config.

    Returns:
        `[B, H, S, E]`; zeros in rows without a valid token.

    Raises:
        UsageError: No such kind or option, or shapes that do not fit one another.
    """
    _check_shapes(q, k, v, mask)
    core = attention_core(kind, q.shape[1], q.shape[3], {"causal": causal, **options}).to(q.device)
    return core.eval()(q, k, v, None if mask is None else mask.bool())


def build(kind: str, embedding_dim: int, num_head: int, head_dim: int, **options: Any) -> nn.Module:
    """Return a new attention layer: `layer(x [B, S, D], valid [B, S] | None) -> [B, S, D]`.

    Args:
        kind: A word of KINDS; `none` gives a layer that returns zeros.
        embedding_dim: Model width D.
        num_head: Number of heads H.
        head_dim: Width of a head E; heads need not divide the model width.
        options: The kind's own; `causal`; and the layer's `dropout` and `grad_checkpointing`.

    Raises:
        UsageError: No such kind or option.
    """
    layer = {name: options.pop(name) for name in ("dropout", "grad_checkpointing") if name in options}
    core = attention_core(kind, num_head, head_dim, options)
    return NoAttentionLayer() if isinstance(core, NoAttention) else AttentionLayer(embedding_dim, core, **layer)


def attention_core(kind: str, num_heads: int, head_dim: int, options: Mapping[str, Any]) -> AttentionCore:
    """Return a new core of this kind; UsageError when there is no such kind, or it has no such option.

    Args:
        kind: A word of KINDS.
        num_heads: Number of heads H.
        head_dim: Width of a head E.
        options: The kind's own options, and `causal`.
    """
    if kind not in KINDS:
        raise UsageError(f"attention kind {kind!r} is not available: choose one of {', '.join(KINDS)}")
    try:
        return KINDS[kind](num_heads, head_dim, **options)
    except TypeError as error:
        raise UsageError(f"attention kind {kind!r}: {error}") from error


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    shapes = [tuple(tensor.shape) for tensor in (q, k, v)]
    if q.ndim != 4 or len(set(shapes)) > 1:
        found = ", ".join(map(str, shapes))
        raise UsageError(f"expected queries, keys and values of one shape [B, H, S, E]; found {found}")
    if mask is not None and (mask.shape != (q.shape[0], q.shape[2]) or mask.dtype.is_floating_point):
        raise UsageError(
            f"expected a mask [B, S] = {(q.shape[0], q.shape[2])} of booleans, True for valid tokens; "
            f"found {tuple(mask.shape)} of {mask.dtype}"
        )
