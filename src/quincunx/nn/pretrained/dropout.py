"""Dropout of the transformers library's encoders as we compute it: by address, and not drawn.

Their masks come from torch's generator and so change with the chunk. Those here are functions of row and token, the
same in every chunk, with padding and without. B batch, S sequence, D width, T tokens of all texts together.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from quincunx.nn.dropout import CounterDropout, row_words
from quincunx.nn.rows import RowContext, context_of, scramble

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TokenDropout(CounterDropout):
    """Dropout on the states of tokens `[B, S, D]`, or `[1, T, D]` of texts that lie behind one another: the same mask.

    Args:
        p: Probability to be dropped, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__(p, leading=2)

    def _rows(self, context: RowContext, shape: tuple[int, ...], device: torch.device, salt: int) -> Tensor:
        tokens = context.tokens
        if tokens is None:
            return super()._rows(context, shape, device, salt)
        if tuple(shape[:2]) != (1, len(tokens.rows)):
            raise RuntimeError(
                f"{len(tokens.rows)} tokens lie behind one another, the dropout got states of shape {tuple(shape)}"
            )
        words = row_words(context.known().to(device), self.layer, salt)
        places = context.positions(int(tokens.positions.max()) + 1, device)
        return scramble(words[tokens.rows] ^ places[tokens.positions])


def address(model: PreTrainedModel) -> None:
    """Give an encoder's layers our dropout in place of torch's, of the same probabilities.

    On attention weights it is `CounterDropout` with three leading dimensions, which `quincunx.nn.pretrained.packed`
    applies; everywhere else `TokenDropout`. Adapters that come later keep the dropout that they bring.
    """
    for parent in [*model.modules()]:
        of_weights = hasattr(parent, "query") or hasattr(parent, "q_lin")
        for name, child in parent.named_children():
            if type(child) is nn.Dropout and child.p > 0:
                setattr(parent, name, CounterDropout(child.p, leading=3) if of_weights else TokenDropout(child.p))


def recomputing(model: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a layer's pass and of its recomputation in the backward pass, as torch's checkpoint asks
    for them: by then other rows may be set."""
    context = context_of(model)
    return nullcontext(), nullcontext() if context is None else context.as_it_is()
