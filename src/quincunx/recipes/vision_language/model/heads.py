"""Heads beside the one that writes: one chooses among known answers, one points at a visual token.

Both read the decoder's state at its first step, as VL-T5's classifying form does (Cho et al., ICML 2021); the second is
a pointer in the sense of Vinyals et al. (NeurIPS 2015).
B examples, L encoder tokens, V visual tokens, A answers, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.recipes.vision_language.model.joint import Encoded


class AnswerHead(nn.Sequential):
    """Scores of answers: two linear maps with GELU and a norm between them.

    Args:
        width: D.
        answers: A.
    """

    def __init__(self, width: int, answers: int) -> None:
        super().__init__(nn.Linear(width, 2 * width), nn.GELU(), nn.LayerNorm(2 * width), nn.Linear(2 * width, answers))


class PointerHead(nn.Module):
    """Scores of visual tokens: the scaled product of a map of the state and a map of each token.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)

    def forward(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Return the scores `[B, V]` of tokens `[B, V, D]` for states `[B, D]`."""
        found = torch.einsum("bd,bvd->bv", self.query(state), self.key(tokens))
        return found / math.sqrt(state.shape[-1])


@contextmanager
def head_inputs(model: Any) -> Iterator[list[Tensor]]:
    """Collect what the head that writes is given inside, `[B, T, D]` of each pass."""
    found: list[Tensor] = []

    def catch(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        found.append(arguments[0])

    handle = model.get_output_embeddings().register_forward_pre_hook(catch)
    try:
        yield found
    finally:
        handle.remove()


def first_state(model: Any, encoded: Encoded, words: Tensor) -> Tensor:
    """Return the decoder's state after its start `[B, D]`, as the head that writes is given it.

    Args:
        model: A `VisionLanguageModel`.
        encoded: What its encoder gave.
        words: `[B, S]`, what that had read.
    """
    start = int(model.config.decoder_start_token_id)
    given = torch.full_like(words[:, :1], start)
    with head_inputs(model) as found, model.telling(torch.ones_like(given)):
        model(words, encoded=encoded, decoder_input_ids=given)
    return found[-1][:, -1]


def visual_states(model: Any, encoded: Encoded, words: Tensor, count: int) -> Tensor:
    """Return the encoder's states of an example's visual tokens `[B, V, D]`, where none were made fewer.

    Args:
        model: A `VisionLanguageModel`.
        encoded: What its encoder gave, of length L; what is longer than words and tokens stands before them.
        words: The mask of words `[B, S]` that the encoder was given.
        count: V.
    """
    length = encoded.states.shape[1]
    before = length - words.shape[1] - count
    begins = words.sum(1) if model.joint.packs else torch.full_like(words[:, 0], words.shape[1])
    places = before + begins[:, None] + torch.arange(count, device=words.device)
    places = places.clamp(max=length - 1)
    return encoded.states.gather(1, places[..., None].expand(-1, -1, encoded.states.shape[-1]))
