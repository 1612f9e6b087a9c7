"""The attention kinds, and what each of them promises.

A kind is a module with nothing but the core: how tokens weigh one another. Projections, heads, output dropout and
gradient checkpointing are `AttentionLayer`'s, the same round every kind, so that a comparison of kinds compares cores.

The contract of a kind (base class `quincunx.nn.attention.layer.AttentionCore`):

- `Kind(num_heads, head_dim, **options)`: the options are the kind's row of the config's `attention.options`, less
  `grad_checkpointing`, which the layer serves.
- `forward(q, k, v [B, H, S, E], valid [B, S] bool | None, salt=0) -> [B, H, S, E]`: tokens where `valid` is False are
  seen by none; their own outputs are finite and mean nothing. `None` says that every token is valid, and is worth a
  faster way. A row without a valid token gives zeros. Nothing depends on how far the batch is padded.
- Random masks come from `CounterDropout`, given the `salt`, which tells the passes through tied weights apart.
- `checkpointing_note()` says why recomputing the core would save no memory, where that is so.

A new kind is its file here, its line in KINDS, its word and options in the schema, its rows in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quincunx.errors import UsageError
from quincunx.nn.attention.layer import AttentionCore
from quincunx.nn.attention.softmax import SoftmaxAttention

KINDS: Mapping[str, type[AttentionCore] | None] = {
    "softmax": SoftmaxAttention,
    # The baseline of every comparison: no attention branch at all, hence no layer, no norm before it, no parameters.
    "none": None,
}


def attention_core(kind: str, num_heads: int, head_dim: int, options: Mapping[str, Any]) -> AttentionCore | None:
    """Return a new core of this kind, or None for `none`; UsageError when there is no such kind.

    Args:
        kind: A word of KINDS.
        num_heads: Number of heads H.
        head_dim: Width of a head E.
        options: The kind's own options.
    """
    if kind not in KINDS:
        raise UsageError(f"attention kind {kind!r} is not available: choose one of {', '.join(KINDS)}")
    cls = KINDS[kind]
    return cls(num_heads, head_dim, **options) if cls is not None else None
