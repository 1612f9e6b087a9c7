"""The kinds that compare every token with every other, one row, head and token at a time, as they are defined."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bind(a: Tensor, b: Tensor) -> Tensor:
    """Circular convolution of two vectors `[E]`: element n is the sum of a_j b_(n - j)."""
    places = torch.arange(len(a))
    return b[(places[:, None] - places) % len(a)] @ a


def unbind(bound: Tensor, key: Tensor) -> Tensor:
    """Circular correlation of two vectors `[E]`: element n is the sum of key_j bound_(n + j)."""
    places = torch.arange(len(key))
    return bound[(places[:, None] + places) % len(key)] @ key


def unit_spectrum(a: Tensor) -> Tensor:
    """The vector `[E]` with all magnitudes of its spectrum 1."""
    spectrum = torch.fft.fft(a)
    return torch.fft.ifft(spectrum / spectrum.abs()).real


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of two vectors `[E]`."""
    return (a @ b) / (a.norm() * b.norm())


def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """G(t, u, s) = ⟨q_t ⊛ v_u, k_s ⊛ v_s⟩ `[S, S, S]`, of one head's `[S, E]`."""
    asked = torch.stack([torch.stack([bind(query, value) for value in v]) for query in q])
    stored = torch.stack([bind(key, value) for key, value in zip(k, v, strict=True)])
    return torch.einsum("tue,se->tus", asked, stored)


def individual_score(q: Tensor, k: Tensor, v: Tensor, score: str) -> Tensor:
    """How well query q unbinds v from the pair of k and v, all `[E]`."""
    if score == "exact_cosine":
        return cosine(v, unbind(bind(unit_spectrum(k), v), unit_spectrum(q)))
    coloured = bind(k, unbind(v, v))
    return q @ coloured if score == "dot" else cosine(q, coloured)


def individual(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, causal: bool, score: str, scale: float) -> Tensor:
    """hrr-individual `[B, H, S, E]`."""

    def token(q: Tensor, k: Tensor, v: Tensor, t: int, seen: list[int]) -> Tensor:
        scores = torch.stack([individual_score(q[t], k[s], v[s], score) for s in seen])
        return torch.softmax(scale * scores, 0) @ v[seen]

    return every_token(token, q, k, v, valid, causal)


def own_pair(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, causal: bool, score: str, scale: float) -> Tensor:
    """hrr-individual of scope self `[B, H, S, E]`."""

    def agreement(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if score == "exact_cosine":
            q, k = unit_spectrum(q), unit_spectrum(k)
        retrieved = unbind(bind(k, v), q)
        return v @ retrieved if score == "dot" else cosine(v, retrieved)

    def token(q: Tensor, k: Tensor, v: Tensor, t: int, seen: list[int]) -> Tensor:
        if t not in seen:
            return torch.zeros_like(v[t])
        scores = torch.stack([agreement(q[s], k[s], v[s]) for s in seen])
        return torch.softmax(scale * scores, 0)[seen.index(t)] * v[t]

    return every_token(token, q, k, v, valid, causal)


def quadratic(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor | None,
    causal: bool,
    score: str,
    scale: float,
    superposition: int = 1,
) -> Tensor:
    """hrr-quadratic `[B, H, S, E]`."""

    def token(q: Tensor, k: Tensor, v: Tensor, t: int, seen: list[int]) -> Tensor:
        groups = [[s for s in seen if s // superposition == g] for g in range(len(v))]
        groups = [group for group in groups if group]
        stored = [torch.stack([bind(k[s], v[s]) for s in group]).sum(0) for group in groups]
        asked = bind(q[t], v[t])
        scores = torch.stack([asked @ pair if score == "dot" else cosine(asked, pair) for pair in stored])
        return torch.softmax(scale * scores, 0) @ torch.stack([v[group].mean(0) for group in groups])

    return every_token(token, q, k, v, valid, causal)


def cleanup(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, causal: bool, score: str, scale: float) -> Tensor:
    """hrr-cleanup `[B, H, S, E]`."""

    def token(q: Tensor, k: Tensor, v: Tensor, t: int, seen: list[int]) -> Tensor:
        retrieved = unbind(torch.stack([bind(k[s], v[s]) for s in seen]).sum(0), q[t])
        scores = torch.stack([v[s] @ retrieved if score == "dot" else cosine(v[s], retrieved) for s in seen])
        return torch.softmax(scale * scores, 0) @ v[seen]

    return every_token(token, q, k, v, valid, causal)


def softmax(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, causal: bool) -> Tensor:
    """Softmax attention `[B, H, S, E]`."""

    def token(q: Tensor, k: Tensor, v: Tensor, t: int, seen: list[int]) -> Tensor:
        scores = torch.stack([q[t] @ k[s] for s in seen]) / math.sqrt(q.shape[1])
        return torch.softmax(scores, 0) @ v[seen]

    return every_token(token, q, k, v, valid, causal)


def every_token(token, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, causal: bool) -> Tensor:
    """`token(q, k, v, t, seen)` of each row, head and token t, given the places it sees; zeros where it sees none."""
    output = torch.zeros_like(v)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for t in range(q.shape[2]):
                seen = [s for s in range(q.shape[2]) if (valid is None or bool(valid[b, s])) and (s <= t or not causal)]
                if seen:
                    output[b, h, t] = token(q[b, h], k[b, h], v[b, h], t, seen)
    return output
