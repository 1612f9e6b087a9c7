"""Scores of the poly-encoder (Humeau et al. 2020, arXiv 1905.01969), without ever building what a document takes from
a query's codes.

A document c attends over the M codes of a query and is scored against the mixture y = sum_j w_j code_j that it takes.
As y · c = sum_j w_j (code_j · c), the logits of the attention are all that the score needs: no tensor `[B, N, D]`.

B queries, M codes, N documents, D width, H heads, E head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from quincunx.errors import UsageError
from quincunx.nn.attention.parts import without_autocast
from quincunx.nn.encoder import initialise_linear
from quincunx.nn.pooling import attend, initial_codes, masked_softmax, valid_keys

Attention = Literal["basic", "sqrt", "multihead"]
Reduction = Literal["codes", "first-m", "all"]
Similarity = Literal["dot", "cosine"]

PART, DEVICE_PART = 1 << 21, 1 << 28
"""Bytes of the logits of a part: on a CPU, where they should stay in its cache; and on other devices."""
KEPT = 1 << 25
"""Bytes of all logits together up to which they are kept for the backward pass; beyond, they are computed again."""
RUN = 256
"""Documents of a part at least, while several queries share it: a matrix product of fewer is slow."""
TINY = 1e-12
"""Vectors shorter than this have cosine 0 with everything."""


def poly_scores(
    codes: Tensor,
    mask: Tensor | None,
    documents: Tensor,
    *,
    scale: float = 1.0,
    similarity: Similarity = "dot",
    part_bytes: int | None = None,
) -> Tensor:
    """Return the score of every query with every document, the documents attending over the codes by dot products.

    With logits l_j = code_j · c and weights w = softmax(scale * l), the score is sum_j w_j l_j; divided, with
    `similarity` cosine, by |c| and by |y|, whose square is w' (C C') w. Forward and backward pass go through the pairs
    in parts; beside arguments and scores the logits are kept for the latter, unless they are more than KEPT.

    Args:
        codes: `[B, M, D]`.
        mask: `[B, M]` bool, False where a code is none; None when all are.
        documents: `[N, D]`.
        scale: Factor of the logits within the softmax: 1 for attention `basic`, 1/sqrt(D) for `sqrt`.
        similarity: Of the mixture and the document.
        part_bytes: Size of the logits of a part; None chooses by device. Changes rounding at most.

    Returns:
        `[B, N]`, float32 (float64 for float64 arguments): half precision is widened part by part. 0 for a query without
        codes.
    """
    limit = part_bytes or (PART if codes.device.type == "cpu" else DEVICE_PART)
    with without_autocast(codes):
        return _PolyScores.apply(codes, mask, documents, scale, similarity == "cosine", limit)  # pyright: ignore[reportReturnType]


def upper_bound(codes: Tensor, mask: Tensor | None, documents: Tensor, *, part_bytes: int | None = None) -> Tensor:
    """Return what no score can exceed: max_j code_j · c, of the codes that are there.

    Holds for attention `basic` or `sqrt` with similarity `dot`, whose score is a weighted mean of these products; not
    for `multihead` or cosine. Of equal products, rounding may set a score above it by some units in the last place. It
    takes no gradient.

    Args:
        codes: `[B, M, D]`.
        mask: `[B, M]` bool, False where a code is none; None when all are.
        documents: `[N, D]`.
        part_bytes: As in `poly_scores`.

    Returns:
        `[B, N]`, of the type of `poly_scores`. 0 for a query without codes.
    """
    limit = part_bytes or (PART if codes.device.type == "cpu" else DEVICE_PART)
    dtype = _wide(codes, documents)
    bounds = torch.empty(codes.shape[0], documents.shape[0], dtype=dtype, device=codes.device)
    with torch.no_grad(), without_autocast(codes):
        for rows, run in _parts(codes.shape[:2], len(documents), dtype.itemsize, limit):
            some = codes[rows].to(dtype)
            logits = _logits(some, documents[run].to(dtype))
            if mask is not None:
                logits = logits.masked_fill(~mask[rows], -torch.inf)
            bounds[rows, run] = logits.amax(dim=2).mT
        return bounds if mask is None else bounds.masked_fill(~mask.any(dim=1)[:, None], 0)


class _PolyScores(torch.autograd.Function):
    """See `poly_scores`. The parts hold logits and weights `[n, b, M]`: sums over codes run along memory, which torch
    adds up pairwise; along the other axis they would lose a digit over hundreds of codes."""

    @staticmethod
    def forward(
        ctx: Any, codes: Tensor, mask: Tensor | None, documents: Tensor, scale: float, cosine: bool, limit: int
    ) -> Tensor:
        dtype = _wide(codes, documents)
        scores = torch.empty(codes.shape[0], documents.shape[0], dtype=dtype, device=codes.device)
        keep = any(ctx.needs_input_grad) and codes[..., 0].numel() * len(documents) * dtype.itemsize <= KEPT
        kept: list[Tensor] = []
        for rows, run in _parts(codes.shape[:2], len(documents), dtype.itemsize, limit):
            some, others = codes[rows].to(dtype), documents[run].to(dtype)
            logits = _logits(some, others)
            weights = _weights(logits, mask if mask is None else mask[rows], scale)
            if keep:
                kept.append(logits)
            found = scores[rows, run].mT
            if cosine:
                square = _through(weights, some @ some.mT).mul_(weights).sum(dim=2)
                length = square.clamp_(min=TINY**2).sqrt_() * others.norm(dim=1).clamp_(min=TINY)[:, None]
                torch.div(weights.mul_(logits).sum(dim=2), length, out=found)
            else:
                torch.sum(weights.mul_(logits), dim=2, out=found)
        ctx.save_for_backward(codes, mask, documents, scores, *kept)
        ctx.options = (scale, cosine, limit)
        return scores

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        codes, mask, documents, scores, *kept = ctx.saved_tensors
        scale, cosine, limit = ctx.options
        dtype = scores.dtype
        of_codes = torch.zeros_like(codes, dtype=dtype)
        of_documents = torch.zeros_like(documents, dtype=dtype)
        for number, (rows, run) in enumerate(_parts(codes.shape[:2], len(documents), dtype.itemsize, limit)):
            some, others = codes[rows].to(dtype), documents[run].to(dtype)
            logits = kept[number] if kept else _logits(some, others)
            weights = _weights(logits, mask if mask is None else mask[rows], scale)
            score, given = scores[rows, run].mT[:, :, None], gradient[rows, run].to(dtype).mT[:, :, None]
            if cosine:
                spread = _through(weights, some @ some.mT)
                square = (spread * weights).sum(dim=2, keepdim=True).clamp_(min=TINY**2)
                norm = others.norm(dim=1).clamp_(min=TINY)[:, None, None]
                factor = 1 / (square.sqrt() * norm)
                # the derivative by each weight; its mean under the weights is 0, as the score has no eye for |y|
                slope = logits * factor - spread * (score / square)
                by_logits = slope.mul_(scale).add_(factor).mul_(weights).mul_(given)
                share = given * score
                by_gram = (weights * (share / square)).permute(1, 2, 0) @ weights.transpose(0, 1)  # minus twice it
                of_codes[rows] -= by_gram @ some
                of_documents[run] -= others * (share / norm**2).sum(dim=1)
            else:
                by_logits = (logits - score).mul_(scale).add_(1).mul_(weights).mul_(given)
            flat = by_logits.flatten(1)
            of_codes[rows] += (flat.mT @ others).view_as(some)
            of_documents[run] += flat @ some.flatten(0, 1)
        return of_codes.to(codes.dtype), None, of_documents.to(documents.dtype), None, None, None


def _weights(logits: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return the weights `[N, B, M]` of logits, new memory; 0 where a code is none."""
    return masked_softmax(logits if scale == 1 else logits * scale, mask)


def _through(weights: Tensor, gram: Tensor) -> Tensor:
    """Return `[N, B, M]`: each row of weights times its query's products of codes `[B, M, M]`."""
    return (weights.transpose(0, 1) @ gram).transpose(0, 1)


def _logits(codes: Tensor, documents: Tensor) -> Tensor:
    """Return the products `[N, B, M]` of documents `[N, D]` and codes `[B, M, D]`."""
    return (documents @ codes.flatten(0, 1).mT).unflatten(1, codes.shape[:2])


def _wide(*tensors: Tensor) -> torch.dtype:
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _parts(codes: torch.Size, documents: int, pair_bytes: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Yield the queries and documents of each part; `pair_bytes` is what one code and one document need.

    As many queries share a part as leave it RUN documents: the documents are then read as seldom as possible.
    """
    queries, count = codes
    row = max(count, 1) * pair_bytes
    group = max(1, min(queries, limit // (row * min(RUN, max(documents, 1)))))
    run = max(1, limit // (row * group))
    for first in range(0, queries, group):
        for start in range(0, documents, run):
            yield slice(first, first + group), slice(start, start + run)


class MultiheadAttention(nn.Module):
    """Attention in several heads with projections of its own (Vaswani et al. 2017), for either stage of a poly-encoder.

    Args:
        width: D.
        heads: H; must divide the width.

    Raises:
        UsageError: It does not.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"poly: {heads} attention heads do not divide the width {width}; choose a divisor of it")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        for linear in (self.query, self.key, self.value, self.output):
            initialise_linear(linear)

    def forward(self, queries: Tensor, states: Tensor, valid: Tensor | None) -> Tensor:
        """Return what queries `[M, D]`, the same for each row, take from states `[B, S, D]`: `[B, M, D]`.

        `valid [B, S]` is False where a token is padding. Zeros for a row without a valid token.
        """
        keys, values = self._split(self.key(states)), self._split(self.value(states))  # [B, H, S, E]
        logits = self._split(self.query(queries)) @ keys.mT / keys.shape[-1] ** 0.5
        allowed = None if valid is None else valid_keys(valid)[:, None]  # pyright: ignore[reportOptionalSubscript]
        mixed = masked_softmax(logits.to(_wide(logits)), allowed).to(values.dtype) @ values
        taken = self.output(mixed.transpose(1, 2).flatten(2))
        return taken if valid is None else taken.masked_fill(~valid.any(dim=1)[:, None, None], 0)

    def scores(
        self,
        codes: Tensor,
        mask: Tensor | None,
        documents: Tensor,
        similarity: Similarity = "dot",
        part_bytes: int | None = None,
    ) -> Tensor:
        """Return the scores `[B, N]` of documents that attend over codes; arguments as in `poly_scores`.

        With `dot` the last projection is applied to the documents instead of each mixture. What the pairs of a part
        take from the codes is built, and built anew in the backward pass.
        """
        limit = part_bytes or (PART if codes.device.type == "cpu" else DEVICE_PART)
        keys, values = self._split(self.key(codes)), self._split(self.value(codes))  # [B, H, M, E]
        queries = self._split(self.query(documents)) / keys.shape[-1] ** 0.5  # [H, N, E]
        pair = (self.heads * codes.shape[1] + 2 * codes.shape[2]) * codes.element_size()
        parts = list(_parts(torch.Size((codes.shape[0], 1)), len(documents), pair, limit))
        again = len(parts) > 1 and torch.is_grad_enabled()
        found: dict[int, list[Tensor]] = {}
        for rows, run in parts:
            some = (queries[:, run], keys[rows], values[rows], None if mask is None else mask[rows], documents[run])
            scores = (
                checkpoint(self._part, *some, similarity, use_reentrant=False, preserve_rng_state=False)
                if again
                else self._part(*some, similarity)
            )
            assert isinstance(scores, Tensor)
            found.setdefault(rows.start, []).append(scores)
        return torch.cat([torch.cat(runs, dim=1) for runs in found.values()])

    def _part(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, documents: Tensor, similarity: str
    ) -> Tensor:
        """Return the scores `[b, n]` of queries `[H, n, E]` with keys and values `[b, H, M, E]`."""
        logits = queries @ keys.mT
        weights = masked_softmax(logits.to(_wide(logits)), None if mask is None else mask[:, None, None])
        mixed = weights.to(values.dtype) @ values  # [b, H, n, E]
        if similarity == "dot":
            turned = self._split(documents @ self.output.weight)  # [H, n, E]
            scores = (mixed * turned).sum(dim=(1, 3)) + documents @ self.output.bias
        else:
            taken = self.output(mixed.transpose(1, 2).flatten(2))
            scores = nn.functional.cosine_similarity(taken, documents, dim=-1, eps=TINY)
        return scores if mask is None else scores.masked_fill(~mask.any(dim=1)[:, None], 0)

    def _split(self, projected: Tensor) -> Tensor:
        """Return `[..., S, D]` as `[..., H, S, E]`."""
        return projected.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


class ContextCodes(nn.Module):
    """Turns the states of a query into its codes.

    `codes`: `count` learned codes attend over the states. `first-m`: the first `count` states. `all`: every state.

    Args:
        width: D.
        reduction: One of these words.
        count: M, of `codes` and `first-m`; None for `all`.
        attention: How the codes attend: dot products `basic`, the same over sqrt(D) `sqrt`, or `multihead`. None means
            `basic` for `codes`, and is all that the others allow.
        heads: Of `multihead`.

    Raises:
        UsageError: A count, attention or number of heads that has no meaning with the other choices, or lacks.
    """

    def __init__(
        self,
        width: int,
        reduction: Reduction = "codes",
        count: int | None = 64,
        attention: Attention | None = None,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        if (count is None) != (reduction == "all"):
            raise UsageError(
                f"poly: the reduction {reduction!r} takes "
                + ("no count of codes: it keeps every state" if reduction == "all" else "a count of codes")
            )
        if reduction != "codes" and attention is not None:
            raise UsageError(f"poly: with the reduction {reduction!r} no code attends, so {attention!r} has no meaning")
        self.reduction = reduction
        self.count = count
        self.scale = attention_scale(attention or "basic", width)
        self.mixer = attention_mixer(attention or "basic", width, heads)
        if reduction == "codes":
            assert count is not None
            self.codes = nn.Parameter(initial_codes(count, width))

    def forward(self, states: Tensor, valid: Tensor | None, pad_to: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the codes `[B, M, D]`, zeros where there is none, and `[B, M]` bool, False there.

        Args:
            states: `[B, S, D]`.
            valid: `[B, S]` bool, False where a token is padding; None when all are valid.
            pad_to: M with `all`, at least S; None: S.

        Raises:
            UsageError: `pad_to` with another reduction, or less than S.
        """
        batch, length, _ = states.shape
        if pad_to is not None and (self.reduction != "all" or pad_to < length):
            raise UsageError(
                f"poly: pad_to={pad_to} with the reduction {self.reduction!r} and {length} states; it is for 'all' and "
                "at least the number of states"
            )
        if valid is None:
            valid = torch.ones(batch, length, dtype=torch.bool, device=states.device)
        if self.reduction == "codes":
            if self.mixer is None:
                codes = attend(self.codes, states, valid, self.scale)
            else:
                codes = self.mixer(self.codes, states, valid)
            return codes, valid.any(dim=1, keepdim=True).expand(batch, codes.shape[1])
        size = pad_to or self.count or length
        missing = max(0, size - length)
        codes = nn.functional.pad(states[:, :size], (0, 0, 0, missing))
        mask = nn.functional.pad(valid[:, :size], (0, missing))
        return codes.masked_fill(~mask[:, :, None], 0), mask


def attention_scale(attention: Attention, width: int) -> float:
    """Return the factor of the dot products in attention `basic` (1) and `sqrt` (1/sqrt(D))."""
    return width**-0.5 if attention == "sqrt" else 1.0


def attention_mixer(attention: Attention, width: int, heads: int | None) -> MultiheadAttention | None:
    """Return the learned part of an attention, None where it has none; UsageError for heads where there are none."""
    if attention != "multihead":
        if heads is not None:
            raise UsageError(f"poly: {heads} heads were asked for, but attention {attention!r} has none")
        return None
    return MultiheadAttention(width, heads or 4)
