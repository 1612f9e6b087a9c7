"""The delta rule (Widrow and Hoff 1960) as a memory's way of writing: M <- M + r k (v - Mᵀ k)ᵀ, by chunks.

What M holds under a key is moved towards the key's new value instead of being added to (Schlag et al. 2021, arXiv
2102.11174). The chunkwise form is that of Yang et al. 2024 (arXiv 2406.06484): within a chunk the writes are the
solution of one triangular system; only the chunks follow one another. The order of the tokens matters.

N tokens, E head width, C chunk; `...` any leading dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 64
"""Tokens of a chunk C: the triangular systems cost C per token, and N / C steps must follow one another."""


def cut(x: Tensor, size: int) -> Tensor:
    """Return x `[..., N, E]` in chunks of this size, `[..., chunks, size, E]`, the last one filled up with zeros."""
    length = x.shape[-2]
    count = (length + size - 1) // size
    if count * size != length:
        x = functional.pad(x, (0, 0, 0, count * size - length))
    return x.unflatten(-2, (count, size))


def delta_write(memory: Tensor, k: Tensor, v: Tensor, rate: float) -> Tensor:
    """Return the memory `[..., E, E]` after one more token, its key (of unit length) and value `[..., 1, E]`."""
    return memory + k.mT @ ((v - k @ memory) * rate)


def delta_reads(q: Tensor, k: Tensor, v: Tensor, rate: float, causal: bool) -> Tensor:
    """Return what each token reads, Mᵀ q, from a memory that began as zeros and was written token by token.

    A token whose key is zero writes nothing. The loop over chunks is Python's: a compiled graph holds for one number
    of chunks.

    Args:
        q: Queries `[..., N, E]`.
        k: Keys `[..., N, E]` of unit length, or zero.
        v: Values `[..., N, E]`.
        rate: Share r of the error that a write corrects, in (0, 2]: beyond 2 a repeated write would let it grow.
        causal: Token t reads the memory right after token t; otherwise every token reads it after the last one.

    Returns:
        `[..., N, E]`.
    """
    length, width = q.shape[-2:]
    keys, values = cut(k, CHUNK), cut(v, CHUNK)
    # Token t of a chunk writes k_t u_tᵀ with u_t = r (v_t - Mᵀ k_t - Σ_{s<t} (k_s · k_t) u_s), M the memory before the
    # chunk: a unit lower triangular system, solved here for V and for K. Then U = (solved V) - (solved K) M.
    # The solver reads the products below the diagonal only.
    right = torch.cat([values, keys], dim=-1) * rate
    solved = torch.linalg.solve_triangular(keys @ keys.mT * rate, right, upper=False, unitriangular=True)
    chunks = [(key, *part.split(width, -1)) for key, part in zip(keys.unbind(-3), solved.unbind(-3), strict=True)]
    memory = q.new_zeros(*q.shape[:-2], width, width)
    if not causal:
        for key, for_values, for_keys in chunks:
            memory = memory + key.mT @ (for_values - for_keys @ memory)
        return q @ memory
    queries = cut(q, CHUNK)
    within = (queries @ keys.mT).tril()
    reads = []
    for (key, for_values, for_keys), query, overlap in zip(chunks, queries.unbind(-3), within.unbind(-3), strict=True):
        writes = for_values - for_keys @ memory
        reads.append(query @ memory + overlap @ writes)
        memory = memory + key.mT @ writes
    return torch.cat(reads, dim=-2)[..., :length, :]
