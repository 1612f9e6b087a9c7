"""What a model of the transformers library has to be asked before it is fed: padding id, positions, token types."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def padding_id(model: PreTrainedModel) -> int:
    """Return the id that the model takes for padding; 0 where it knows none."""
    value = model.config.pad_token_id
    return value if isinstance(value, int) and value >= 0 else 0


def position_table(model: PreTrainedModel) -> nn.Embedding | None:
    """Return the learned embeddings of positions, None where there are none."""
    for module in model.modules():
        for name in ("position_embeddings", "wpe"):
            table = getattr(module, name, None)
            if isinstance(table, nn.Embedding):
                return table
    return None


def position_limit(model: PreTrainedModel) -> int | None:
    """Return how many tokens the model has learned positions for, None when it has no table of them."""
    table = position_table(model)
    if table is None:
        return None
    # with a row for padding, positions are numbered from the one after it
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def is_causal(model: PreTrainedModel) -> bool:
    """Return whether a token sees none of those after it."""
    return any(getattr(module, "is_causal", False) is True for module in model.modules())


def takes_types(model: PreTrainedModel) -> bool:
    """Return whether the model tells texts of a pair apart by embeddings of type ids."""
    kinds = getattr(model.config, "type_vocab_size", 0) or 0
    return kinds > 1 and "token_type_ids" in inspect.signature(model.forward).parameters
