"""Models with prompts by hand: no cache, no parts; every mask written out, every token computed anew at every step.

B examples, S positions, P length of a prompt, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FAR = -1e30


def allowed(mask: Tensor, queries: int, *, causal: bool) -> Tensor:
    """Return what is added to scores `[B, 1, Q, K]` for a mask of keys `[B, K]`, the last of which are the queries."""
    batch, keys = mask.shape
    found = torch.zeros(batch, 1, queries, keys)
    for b in range(batch):
        for i in range(queries):
            for j in range(keys):
                if not mask[b, j] or (causal and j > i + keys - queries):
                    found[b, 0, i, j] = FAR
    return found


def vectors(prompt: Any, task: int) -> Tensor:
    """Return the prompt `[P, D]` of one task from its weights as they are stored."""
    trunk = prompt.trunk
    if trunk is None:
        return prompt.vectors.vectors[task]
    up = prompt.vectors.up

    def of_task(parameter: Tensor, dims: int) -> Tensor:
        return parameter if parameter.ndim == dims else parameter[task]

    hidden = torch.tanh(trunk.vectors[task] @ of_task(trunk.down.weight, 2).T + of_task(trunk.down.bias, 1))
    return hidden @ of_task(up.weight, 2).T + of_task(up.bias, 1)


def bart_encoder(encoder: Any, embeddings: Tensor, mask: Tensor, prompt: Tensor, offset: int = 2) -> Tensor:
    """Return the states `[B, P + S, D]` of an encoder with learned or sinusoidal positions.

    Args:
        encoder: Of BART, mBART, Pegasus or Marian, without parts.
        embeddings: Of the text `[B, S, D]`, scaled already.
        mask: Of the text `[B, S]`.
        prompt: `[B, P, D]`.
        offset: The row of the table that position 0 has.
    """
    text = embeddings + encoder.embed_positions.weight[offset : offset + embeddings.shape[1]]
    if hasattr(encoder, "layernorm_embedding"):
        text = encoder.layernorm_embedding(text)
    states = torch.cat([prompt, text], 1)
    mask = torch.cat([torch.ones(*prompt.shape[:2]), mask], 1)
    for layer in encoder.layers:
        states = layer(states, allowed(mask, states.shape[1], causal=False))
    return encoder.layer_norm(states) if hasattr(encoder, "layer_norm") else states


def bart_decoder(
    decoder: Any, tokens: Tensor, prompt: Tensor | None, states: Tensor, mask: Tensor, own: Tensor | None = None
) -> Tensor:
    """Return the states `[B, S, D]` of BART's decoder for tokens `[B, S]` after a prompt `[B, P, D]`, if any.

    Args:
        decoder: Without parts.
        tokens: `[B, S]`.
        prompt: `[B, P, D]`.
        states: Of the encoder `[B, E, D]`, those of its prompt included.
        mask: Of these `[B, E]`.
        own: Of the tokens `[B, S]`; None: all are there.
    """
    words = decoder.embed_tokens(tokens)
    whole = words if prompt is None else torch.cat([prompt, words], 1)
    length = whole.shape[1] - words.shape[1]
    own = torch.ones(tokens.shape) if own is None else own
    own = torch.cat([torch.ones(len(tokens), length), own], 1)
    hidden = decoder.layernorm_embedding(whole + decoder.embed_positions.weight[2 : 2 + whole.shape[1]])
    cross = allowed(mask, 1, causal=False)
    for layer in decoder.layers:
        hidden = layer(
            hidden, allowed(own, hidden.shape[1], causal=True), states, encoder_attention_mask=cross, use_cache=False
        )
    return hidden[:, length:]


def greedy(next_logits: Callable[[Tensor], Tensor], tokens: Tensor, steps: int) -> Tensor:
    """Return tokens `[B, S + steps]`: the likeliest next one, again and again."""
    for _ in range(steps):
        tokens = torch.cat([tokens, next_logits(tokens).argmax(-1, keepdim=True)], 1)
    return tokens


def beams(next_logits: Callable[[Tensor, int], Tensor], tokens: Tensor, steps: int, width: int) -> Tensor:
    """Return the likeliest of the sequences that a search over `width` beams finds `[B, S + steps]`.

    Args:
        next_logits: Logits `[1, V]` after tokens `[1, S]` of the example with a number.
        tokens: What all begin with `[B, S]`.
        steps: How many tokens are added.
        width: How many sequences are kept.
    """
    best: list[Tensor] = []
    for row in range(len(tokens)):
        kept = [(0.0, tokens[row : row + 1])]
        for _ in range(steps):
            grown: list[tuple[float, Tensor]] = []
            for score, sequence in kept:
                chances = next_logits(sequence, row)[0].log_softmax(-1)
                for token, chance in enumerate(chances.tolist()):
                    grown.append((score + chance, torch.cat([sequence, torch.tensor([[token]])], 1)))
            kept = sorted(grown, key=lambda each: -each[0])[:width]
        best.append(kept[0][1])
    return torch.cat(best)
