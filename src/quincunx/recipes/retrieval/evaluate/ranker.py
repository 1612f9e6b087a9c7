"""How each kind of model ranks a corpus for queries: by inner product, or by a poly-encoder's own score.

Q queries, N documents, m codes, D width, k results a query.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from quincunx.engine.runtime import Runtime
from quincunx.index.exact import Found, search, search_by
from quincunx.nn.attention.parts import without_autocast
from quincunx.recipes.retrieval.evaluate.vectors import TOKENS, Limits, Sequences, encode_texts
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder


class Encodes(Protocol):
    """Both sides' vectors, and how they are compared."""

    def documents(self, texts: Sequences) -> Tensor:
        """Return the corpus's vectors `[N, D]`."""
        ...

    def queries(self, texts: Sequences) -> Tensor:
        """Return the queries' vectors `[Q, D]`, of a poly-encoder `[Q, m, D]`."""
        ...

    def rank(self, texts: Sequences, documents: Tensor, k: int, device: torch.device | None = None) -> Found:
        """Return the k best of the corpus's vectors for each query."""
        ...

    def scores(self, queries: Sequences, documents: Sequences, device: torch.device | None = None) -> Tensor:
        """Return all scores `[Q, N]` of a small corpus on the CPU, computed on `device` where one is named."""
        ...


PostProcessing = Callable[[Any, Tensor, Tensor], Tensor]
"""`post_processing_fn(encoder, tokens [B, S], lengths [B])` returns vectors `[B, D]`, the encoder a `TextEncoder`."""
BeforeIndexing = Callable[[Sequence[Tensor]], Tensor]
"""`processing_before_indexing_fn(batches of vectors [B, D])` returns all of them as one tensor `[N, D]`."""


def embeddings(encoder: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return what the encoder gives: pooled as it pools."""
    return encoder(tokens, lengths)


def first_token(encoder: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return the state of each text's first token, CLS with most tokenizers, whatever the encoder's pooling."""
    return encoder.states(tokens, lengths)[:, 0]


def normalized(encoder: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return embeddings of length 1."""
    return functional.normalize(encoder(tokens, lengths), dim=-1)


def concatenated(vectors: Sequence[Tensor]) -> Tensor:
    """Return all vectors as one tensor."""
    return torch.cat(list(vectors))


def concatenated_and_normalized(vectors: Sequence[Tensor]) -> Tensor:
    """Return all vectors as one tensor, each of length 1."""
    return functional.normalize(torch.cat(list(vectors)), dim=-1)


POST_PROCESSING: dict[str, PostProcessing] = {
    "default": embeddings,
    "first_token": first_token,
    "normalize": normalized,
}
BEFORE_INDEXING: dict[str, BeforeIndexing] = {
    "concatenate": concatenated,
    "normalize": concatenated_and_normalized,
}


@dataclass(frozen=True)
class Validator:
    """Guide 001's two functions; both defaults together rank by the inner product of the embeddings."""

    post_processing_fn: PostProcessing = embeddings
    processing_before_indexing_fn: BeforeIndexing = concatenated


@dataclass(frozen=True)
class InnerProduct:
    """A bi-encoder: one vector a text."""

    model: BiEncoder
    runtime: Runtime
    cosine: bool
    tokens: int | Limits = TOKENS
    validator: Validator | None = None

    def documents(self, texts: Sequences) -> Tensor:
        """Return the corpus's vectors `[N, D]`, of length 1 where cosines are compared."""
        return self._encode(texts, "document")

    def queries(self, texts: Sequences) -> Tensor:
        """Return the queries' vectors `[Q, D]`, likewise."""
        return self._encode(texts, "query")

    def rank(self, texts: Sequences, documents: Tensor, k: int, device: torch.device | None = None) -> Found:
        """Return the k best of the corpus's vectors for each query."""
        device = device or self.runtime.device
        return search(self.queries(texts).to(device), documents.to(device), k)

    def scores(self, queries: Sequences, documents: Sequences, device: torch.device | None = None) -> Tensor:
        """Return all scores `[Q, N]` of a small corpus on the CPU, computed on `device` where one is named."""
        left, right = self.queries(queries), self.documents(documents)
        device = device or self.runtime.device
        with without_autocast(left.to(device)):
            return (left.to(device) @ right.to(device).T).cpu()

    def _encode(self, texts: Sequences, side: str) -> Tensor:
        validator = self.validator

        def encode(tokens: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
            if validator is not None:
                return (validator.post_processing_fn(self.model.side(side), tokens, lengths),)
            return (self.model.encode(tokens, lengths, side),)

        (vectors,) = encode_texts(encode, texts, self.runtime, tokens=self.tokens)
        if validator is not None:
            return validator.processing_before_indexing_fn([vectors])
        return functional.normalize(vectors, dim=-1) if self.cosine else vectors


@dataclass(frozen=True)
class Poly:
    """A poly-encoder: m codes a query, which each document weighs for itself."""

    model: PolyEncoder
    runtime: Runtime
    tokens: int | Limits = TOKENS

    def documents(self, texts: Sequences) -> Tensor:
        """Return the corpus's vectors `[N, D]`."""

        def encode(tokens: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
            return (self.model.encode_document(tokens, lengths),)

        return encode_texts(encode, texts, self.runtime, tokens=self.tokens)[0]

    def queries(self, texts: Sequences) -> Tensor:
        """Return the queries' codes `[Q, m, D]`, zeros where there is none."""
        return self._codes(texts)[0]

    def rank(self, texts: Sequences, documents: Tensor, k: int, device: torch.device | None = None) -> Found:
        """Return the k best of the corpus's vectors for each query, scored on `device`; None: where the model is."""
        device = device or self.runtime.device
        codes, mask = (part.to(device) for part in self._codes(texts))
        documents, scorer = documents.to(device), self._scorer(device)

        def score(q0: int, q1: int, d0: int, d1: int) -> Tensor:
            with torch.no_grad(), without_autocast(codes):
                return scorer(codes[q0:q1], mask[q0:q1], documents[d0:d1])

        return search_by(score, len(codes), len(documents), k)

    def scores(self, queries: Sequences, documents: Sequences, device: torch.device | None = None) -> Tensor:
        """Return all scores `[Q, N]` of a small corpus on the CPU, computed on `device` where one is named."""
        device = device or self.runtime.device
        codes, mask = self._codes(queries)
        codes, vectors = codes.to(device), self.documents(documents)
        with torch.no_grad(), without_autocast(codes):
            found = self._scorer(device)(codes, mask.to(device), vectors.to(device))
        return found.float().cpu()

    def _scorer(self, device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Return the model's `score` on a device: what it has weights of is copied there if it lies elsewhere."""
        mixer, similarity = self.model.mixer, self.model.similarity
        if mixer is None or device == self.runtime.device:
            return self.model.score
        moved = copy.deepcopy(mixer).to(device)
        return lambda codes, mask, documents: moved.scores(codes, mask, documents, similarity)

    def _codes(self, texts: Sequences) -> tuple[Tensor, Tensor]:
        """Return codes `[Q, m, D]` and where there are any `[Q, m]`."""
        every = self.model.codes.reduction == "all"
        pad_to = max(len(texts.tokens(number)) for number in range(len(texts.lengths))) if every else None

        def encode(tokens: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
            return self.model.encode_query(tokens, lengths, pad_to)

        codes, mask = encode_texts(encode, texts, self.runtime, tokens=self.tokens)
        return codes, mask


def ranker(
    model: Any, runtime: Runtime, *, cosine: bool, tokens: int | Limits = TOKENS, validator: Validator | None = None
) -> Encodes:
    """Return how a model ranks.

    Args:
        model: A bi- or poly-encoder.
        runtime: Where it computes.
        cosine: Bring a bi-encoder's vectors to length 1; not looked at with a validator.
        tokens: What is computed at once.
        validator: Of a bi-encoder: how its output becomes vectors.
    """
    if isinstance(model, PolyEncoder):
        return Poly(model, runtime, tokens)
    return InnerProduct(model, runtime, cosine, tokens, validator)
