"""Which tokens a side network lets see which, read from what the layers beside it are given.

B rows, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quincunx.errors import UsageError
from quincunx.nn.pretrained.packed import Packing

Span = tuple[int, Tensor | slice]
"""Where an example's tokens are: its row in the batch, and their places in it."""


@dataclass(frozen=True)
class View:
    """Who sees whom."""

    mask: Tensor | None = None
    """Bool, `[B or 1, 1, Q, K]`, True where a query sees a key; None: everything."""
    packing: Packing | None = None
    """Texts that lie behind one another in a single row, each seeing itself."""


def self_view(
    mask: Any, batch: int, queries: int, keys: int, device: torch.device, *, causal: bool, packing: Packing | None
) -> View:
    """Return who sees whom in a stack.

    Args:
        mask: What its layers are given: None, `[B, K]`, or `[B or 1, 1, Q, K]` (bool, or added to logits).
        batch: Rows B.
        queries: Tokens of this pass Q.
        keys: Those together with the ones before, K; a query sees no key behind it in a causal stack.
        device: Where the mask is to be.
        causal: Whether tokens see their past alone, where the mask does not say it.
        packing: How texts lie in a single row, if they do.

    Raises:
        UsageError: A mask of another kind.
    """
    if packing is not None:
        return View(packing=packing)
    if mask is None and (not causal or queries == 1):
        return View()
    places = torch.arange(keys, device=device)
    own = places[keys - queries :, None]
    seen = None if mask is None else visible(mask, batch, queries, keys)
    if causal and (seen is None or seen.shape[2] == 1):
        past = (places <= own)[None, None]
        seen = past if seen is None else seen & past
    assert seen is not None
    # a token of padding that sees nothing would have no softmax
    return View(seen | (places == own)[None, None])


def visible(mask: Any, batch: int, queries: int, keys: int) -> Tensor:
    """Return a mask as bool `[B or 1, 1, Q or 1, K]`; UsageError for one of another kind."""
    if not isinstance(mask, Tensor):
        raise UsageError(
            f"a ladder's layers got a mask that is a {type(mask).__name__}: load the model with "
            'attn_implementation="sdpa" or "eager"'
        )
    if mask.ndim == 2:
        mask = mask[:, None, None].bool() if not mask.is_floating_point() else mask[:, None, None] > 0.5
    elif mask.is_floating_point():
        mask = mask > torch.finfo(mask.dtype).min / 2
    shape = tuple(mask.shape)
    fits = len(shape) == 4 and shape[0] in (1, batch) and shape[1] == 1 and shape[2] in (1, queries)
    if not fits or shape[3] != keys:
        raise UsageError(
            f"a ladder's layers got a mask of shape {shape}; expected [{batch}, 1, {queries}, {keys}]. A stack that "
            "keeps a window or a fixed length of its past has none of that shape: generate with use_cache=False"
        )
    return mask.bool()


def spans(view: View, mask: Any, batch: int, length: int) -> list[Span]:
    """Return where the tokens of each example are, padding left out; for a stack that was given its texts whole.

    Args:
        view: Who sees whom.
        mask: What the stack's layers are given.
        batch: Rows B.
        length: Tokens of a row.
    """
    if view.packing is not None:
        return packed_spans(view.packing)
    if mask is None:
        return [(row, slice(0, length)) for row in range(batch)]
    seen = visible(mask, batch, length, length)
    # whatever else a token sees, it is no padding if it may be seen by itself
    real = (seen[:, 0, 0] if seen.shape[2] == 1 else seen[:, 0].diagonal(dim1=-2, dim2=-1)).expand(batch, length).cpu()
    counts = real.sum(dim=1).tolist()
    leads = (real[:, :1].all(dim=1) & (real.int().diff(dim=1) <= 0).all(dim=1)).tolist()
    return [
        (row, slice(0, count) if lead else real[row].nonzero()[:, 0])
        for row, (count, lead) in enumerate(zip(counts, leads, strict=True))
    ]


def packed_spans(packing: Packing) -> list[Span]:
    """Return where the texts of a packing are, in the order in which they stood in the batch."""
    bounds: list[tuple[int, int]] = []
    for count, size in packing.groups:
        start = bounds[-1][1] if bounds else 0
        bounds += [(start + number * size, start + (number + 1) * size) for number in range(count)]
    first: Sequence[int] = packing.places.cpu()[[start for start, _ in bounds]].tolist()
    return [(0, slice(*bound)) for _, bound in sorted(zip(first, bounds, strict=True))]
