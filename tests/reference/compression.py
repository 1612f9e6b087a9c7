"""Plain loops for the compressing model: who sees whom, numbering, pooling, and passes by the library's own means."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sees(query: dict[str, Any], key: dict[str, Any], *, mutual: bool, join: str, segments: int, causal: bool) -> bool:
    """Tell whether one token sees another, padding aside.

    A token has `part` (context, separator, slot, whole, or a branch's name), `segment`, `place` within its part, and a
    branch's `kind`: forward, reconstruction, without, full or plain.
    """
    if query == key:
        return True
    trunk = ("context", "separator", "slot")
    if query["part"] in trunk:
        if key["part"] not in trunk:
            return False
        if key["segment"] != query["segment"]:
            if key["part"] != "slot" or key["segment"] > query["segment"] or join == "concatenate":
                return False
            return join == "accumulate" or key["segment"] == query["segment"] - 1
        if trunk.index(key["part"]) != trunk.index(query["part"]):
            return trunk.index(key["part"]) < trunk.index(query["part"])
        if query["part"] == "slot" and not mutual:
            return False
        return key["place"] <= query["place"] or not causal
    if query["part"] == key["part"]:
        both_ways = not causal and (query["part"] == "whole" or query["kind"] == "plain")
        return key["place"] <= query["place"] or both_ways
    if query["part"] == "whole":
        return False
    if query["kind"] in ("forward", "reconstruction"):
        return key["part"] == "slot" and (join != "recurrent" or key["segment"] == segments - 1)
    if query["kind"] == "full":
        return key["part"] == ("context" if segments == 1 else "whole")
    return False


def numbers(
    sizes: list[int], slots: int, separator: bool, style: str
) -> tuple[list[int], list[int], list[int], int, int]:
    """Return one row's ranks by counting: context, separators, slots; the branch's first; all that the trunk takes."""
    context: list[int] = []
    separators: list[int] = []
    placed: list[int] = []
    at = 0
    for size in sizes:
        begin = at
        for _ in range(size):
            context.append(at)
            at += 1
        if style == "uniform":
            placed += [begin + size * (2 * slot + 1) // (2 * slots) for slot in range(slots)]
        if separator:
            separators.append(at)
            at += 1
        if style != "uniform":
            for _ in range(slots):
                placed.append(at)
                at += 1
    first = len(sizes) * slots if style == "restart" else at
    return context, separators, placed, first, at


def pooled(states: list[list[float]], count: int) -> tuple[list[list[float]], list[bool]]:
    """Return the mean of each of `count` windows of a row's tokens, and whether it has any."""
    width = len(states[0]) if states else 1
    windows: list[list[list[float]]] = [[] for _ in range(count)]
    for rank, state in enumerate(states):
        windows[rank * count // len(states)].append(state)
    means = [
        [sum(column) / len(each) for column in zip(*each, strict=True)] if each else [0.0] * width for each in windows
    ]
    return means, [bool(each) for each in windows]


def branch_states(model: Any, row: dict[str, Tensor], name: str) -> Tensor:
    """Return a branch's states of one row without padding, read-out kv, one segment: by the library's own masks.

    The trunk is read as an ordinary text of embeddings; then all but the slots (or, for the full branch, the context)
    is struck out of the cache, and the branch is read as its continuation.
    """
    from transformers import DynamicCache

    embed = model.backbone.get_input_embeddings()
    base = model.backbone.base_model
    text = embed(row[f"{name}_tokens"])
    if name != "plain":
        text = torch.cat([model.new.starts[1 if name == "reconstruction" else 0][None, None], text], 1)
    kept = DynamicCache()
    if name in ("forward", "reconstruction", "full"):
        trunk = [embed(row["context"])]
        places = [row["context_positions"]]
        if name != "full":
            if model.new.separator is not None:
                trunk.append(model.new.separator[None])
                places.append(row["separator_positions"])
            count = row["slot_positions"].shape[1]
            trunk.append(model.new.slots[:count][None])
            places.append(row["slot_positions"])
        cache = DynamicCache()
        whole = torch.cat(trunk, 1)
        # a mask of ones, so that the library looks for no borders between texts in the positions
        base(
            inputs_embeds=whole,
            position_ids=torch.cat(places, 1),
            attention_mask=torch.ones(whole.shape[:2], dtype=torch.int64),
            past_key_values=cache,
            use_cache=True,
        )
        first = 0 if name == "full" else whole.shape[1] - row["slot_positions"].shape[1]
        for number, layer in enumerate(cache.layers):
            kept.update(layer.keys[:, :, first:], layer.values[:, :, first:], number)
    length = kept.get_seq_length() + text.shape[1]
    return base(
        inputs_embeds=text,
        position_ids=row[f"{name}_positions"],
        attention_mask=torch.ones(1, length, dtype=torch.int64),
        past_key_values=kept,
        use_cache=True,
    ).last_hidden_state
