"""Where a side network keeps the keys and values of tokens before: in the cache of the model that it stands beside."""

from __future__ import annotations

from typing import Any

from quincunx.errors import UsageError


def grown(past: Any, owner: str, count: int, length: int) -> tuple[list[Any] | None, int]:
    """Return the keys and values that a side network keeps in a model's own cache, and for how many tokens so far.

    They are layers behind those of the model, so that beams reorder, crops and resets reach them.

    Args:
        past: transformers' cache that the frozen layers have updated already, or None.
        owner: Tells several side networks in one cache apart.
        count: Blocks of the side network.
        length: Tokens of this pass.

    Raises:
        UsageError: A cache of a fixed length, or one that was begun without this side network.
    """
    if past is None:
        return None, 0
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    past = getattr(past, "self_attention_cache", past)
    first = past.layers[0]
    if not isinstance(first, DynamicLayer) or isinstance(first, DynamicSlidingWindowLayer):
        raise UsageError(
            f"a ladder cannot keep its own past beside a {type(first).__name__}: leave cache_implementation at its "
            "default, or generate with use_cache=False"
        )
    own = [layer for layer in past.layers if getattr(layer, "quincunx_ladder", None) == owner]
    if not own:
        for _ in range(count):
            layer = DynamicLayer()
            layer.quincunx_ladder = owner  # pyright: ignore[reportAttributeAccessIssue]
            own.append(layer)
        past.layers.extend(own)
    known = own[0].get_seq_length()
    if known + length != first.get_seq_length():
        raise UsageError(
            f"past_key_values hold {first.get_seq_length() - length} tokens before these {length}, the ladder has seen "
            f"{known} of them: begin the cache anew with the ladder active, or call with use_cache=False"
        )
    return own, known
