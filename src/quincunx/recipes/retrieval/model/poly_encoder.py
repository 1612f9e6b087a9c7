"""The poly-encoder (Humeau et al. 2020, arXiv 1905.01969): a query becomes several codes, a document one vector that
attends over them. Document vectors do not depend on the query, so they are encoded once and kept.

B batch, S sequence, M codes, N documents, P width of the vectors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.poly import (
    Attention,
    ContextCodes,
    Similarity,
    attention_mixer,
    attention_scale,
    poly_scores,
)
from quincunx.recipes.retrieval.model.bi_encoder import compile_once
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder


class PolyEncoder(nn.Module):
    """Codes of queries, vectors of documents, and their score.

    With one code, attention `basic` in both stages and similarity `dot` it is the bi-encoder whose queries are pooled
    by attention.

    Args:
        query: Gives the states of queries, and its projection the codes; its pooling is not used, and must be `none`
            unless the same object encodes documents.
        document: Encodes documents; None: the same object.
        codes: Turns states into codes.
        attention: How documents attend over the codes: `basic` (dot products), `sqrt` (over sqrt(P)), `multihead`.
        heads: Of `multihead`; None: 4.
        similarity: Of a document and what it takes from the codes: `dot` or `cosine`.

    Raises:
        UsageError: Parts that do not fit one another.
    """

    def __init__(
        self,
        query: TextEncoder,
        document: TextEncoder | None,
        codes: ContextCodes,
        *,
        attention: Attention = "basic",
        heads: int | None = None,
        similarity: Similarity = "dot",
    ) -> None:
        super().__init__()
        self.query = query
        self.document = query if document is None else document
        if document is not None and query.pooling != "none":
            raise UsageError(
                f"poly: codes replace the queries' pooling {query.pooling!r}; make their encoder without one"
            )
        if query.width != self.document.width:
            raise UsageError(
                f"poly: codes have width {query.width}, documents {self.document.width}: project both to one width"
            )
        if similarity not in ("dot", "cosine"):
            raise UsageError(f"poly: unknown similarity {similarity!r}: dot or cosine")
        self.codes = codes
        self.attention = attention
        self.similarity: Similarity = similarity
        self.scale = attention_scale(attention, query.width)
        self.mixer = attention_mixer(attention, query.width, heads)

    @property
    def width(self) -> int:
        """P."""
        return self.query.width

    @property
    def bounded(self) -> bool:
        """No score exceeds the largest product of a code and the document: `quincunx.nn.poly.upper_bound` holds."""
        return self.mixer is None and self.similarity == "dot"

    def encode_query(self, tokens: Tensor, lengths: Tensor, pad_to: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the codes `[B, M, P]` of queries, and `[B, M]` bool, False where there is none.

        Arguments as in `TextEncoder.forward`; with the reduction `all` M is S, or `pad_to` where given, so that chunks
        of different S give tensors of one shape.
        """
        states, valid = self.query.masked_states(tokens, lengths)
        codes, mask = self.codes(states, valid, pad_to)
        return self.query.head(codes), mask

    def encode_document(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return `[B, P]`, the vectors of documents; arguments as in `TextEncoder.forward`."""
        return self.document(tokens, lengths)

    def score(self, codes: Tensor, mask: Tensor | None, documents: Tensor, part_bytes: int | None = None) -> Tensor:
        """Return the scores `[B, N]` of every query with every document; see `quincunx.nn.poly.poly_scores`.

        Args:
            codes: `[B, M, P]`.
            mask: `[B, M]` bool; None when there are all codes.
            documents: `[N, P]`.
            part_bytes: Changes memory and speed only.
        """
        if self.mixer is not None:
            return self.mixer.scores(codes, mask, documents, self.similarity, part_bytes)
        return poly_scores(codes, mask, documents, scale=self.scale, similarity=self.similarity, part_bytes=part_bytes)

    def forward(
        self, query_tokens: Tensor, query_lengths: Tensor, document_tokens: Tensor, document_lengths: Tensor
    ) -> Tensor:
        """Return the scores `[B, N]` of queries `[B, S]` with documents `[N, S]`."""
        codes, mask = self.encode_query(query_tokens, query_lengths)
        return self.score(codes, mask, self.encode_document(document_tokens, document_lengths))

    @torch.no_grad()
    def rank(self, codes: Tensor, mask: Tensor | None, documents: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return scores and places `[B, count]` of the best documents `[N, P]` for each query, best first."""
        return self.score(codes, mask, documents).topk(min(count, len(documents)), dim=1)

    def pads(self, device: torch.device) -> bool:
        """Return whether padding is computed on the device, on either side."""
        return self.query.pads(device) or self.document.pads(device)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the encoders in place, each once; arguments of torch.compile."""
        compile_once([self.query, self.document], *args, **kwargs)
