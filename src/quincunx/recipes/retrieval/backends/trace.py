"""A model as a plain function of token ids and mask, which exporters can follow: no packing, no look at values.

B texts, S tokens, D width, M codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.nn.pretrained.packed import NAME
from quincunx.recipes.retrieval.model.cross_encoder import CrossEncoder
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
"""Names of the inputs, which are those of the transformers library; all are int64 `[B, S]`."""


class TracedEncoder(nn.Module):
    """A text encoder.

    Args:
        encoder: What computes.
        scale: Vectors get length 1.
    """

    outputs: Sequence[str] = ("sentence_embedding",)
    typed = False

    def __init__(self, encoder: TextEncoder, *, scale: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.scale = scale

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return `[B, D]`; every text has a token."""
        states = self.encoder.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = self.encoder.head(self.encoder.pooled(states, attention_mask.bool()))
        return functional.normalize(vectors, dim=-1) if self.scale else vectors


class TracedCodes(nn.Module):
    """A poly-encoder's queries, of learned codes."""

    outputs: Sequence[str] = ("codes",)
    typed = False

    def __init__(self, model: PolyEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return `[B, M, D]`; every text has a token, so that every code is there."""
        states = self.model.query.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.model.query.head(self.model.codes(states, attention_mask.bool())[0])


class TracedScorer(nn.Module):
    """A cross-encoder."""

    outputs: Sequence[str] = ("score",)

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model
        self.typed = model.typed

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return `[B]`."""
        types = {} if token_type_ids is None else {TYPES: token_type_ids}
        return self.model.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits.squeeze(-1)


Traced = TracedEncoder | TracedCodes | TracedScorer


def names_of(traced: Traced) -> list[str]:
    """Return the names of the inputs, in order."""
    return [IDS, MASK, *([TYPES] if traced.typed else [])]


def example_of(traced: Traced) -> tuple[Tensor, ...]:
    """Return inputs to follow the model with: texts of several lengths, of ids that any vocabulary has."""
    ids = torch.tensor([[1, 2, 3, 4, 3, 2, 1], [4, 3, 2, 1, 0, 0, 0], [2, 2, 2, 0, 0, 0, 0]])
    mask = (torch.arange(7) < torch.tensor([7, 4, 3])[:, None]).long()
    return (ids, mask, *([torch.zeros_like(ids)] if traced.typed else []))


@contextmanager
def followed(traced: Traced) -> Iterator[Traced]:
    """Yield the model in eval mode and with the library's own attention in place of ours; put back on leaving."""
    training = [(module, module.training) for module in traced.modules()]
    ours: dict[int, Any] = {}
    for module in traced.modules():
        found: Any = module
        chosen = getattr(getattr(found, "config", None), "_attn_implementation", None)
        if hasattr(found, "set_attn_implementation") and chosen == NAME:
            ours[id(found.config)] = found
    for model in ours.values():
        model.set_attn_implementation("sdpa")
    traced.eval()
    try:
        with torch.no_grad():
            yield traced
    finally:
        for model in ours.values():
            model.set_attn_implementation(NAME)
        for module, mode in training:
            module.training = mode
