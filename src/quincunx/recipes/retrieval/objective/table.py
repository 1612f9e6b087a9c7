"""The matrix of scores between the texts of a batch, with those of a memory as further columns.

Q queries, N documents, M entries of a memory, A anchors, C columns, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quincunx.recipes.retrieval.objective.counts import DIRECTIONS
from quincunx.recipes.retrieval.objective.options import Options
from quincunx.recipes.retrieval.objective.scores import Temperature, prepare


class Table:
    """The scores of one batch at one width.

    Args:
        options: Of the objective.
        temperature: Of the objective.
        model: A poly-encoder scores by itself.
        queries: `vector [Q, D]`, or of a poly-encoder `codes [Q, M, D]` and `mask [Q, M]`.
        documents: `[N, D]`.
        stored: By side, the vectors of a memory `[m, D]`.
        width: Leading dimensions; None: all.
    """

    def __init__(
        self,
        options: Options,
        temperature: Temperature,
        model: nn.Module,
        queries: Mapping[str, Tensor],
        documents: Tensor,
        stored: Mapping[str, Tensor],
        width: int | None,
    ) -> None:
        self._temperature = temperature
        self.documents = prepare(documents, width, options.similarity)
        # stored vectors are put beside the batch's: further columns of the same product
        self._stored = {
            side: prepare(vectors.to(self.documents.dtype), width, options.similarity)
            for side, vectors in stored.items()
        }
        columns = self._with_stored("document", self.documents)
        if options.poly:
            self.queries = None
            codes = prepare(queries["codes"], width, None)
            similarities = model.score(codes, queries["mask"], columns)  # pyright: ignore[reportCallIssue]
            self._scores: Tensor = temperature(similarities)
        else:
            self.queries = prepare(queries["vector"], width, options.similarity)
            # the temperature goes to the vectors: at large batches they are far fewer numbers than the scores
            self._scores = temperature(self.queries) @ columns.mT
        self.between = self._scores[:, : len(documents)]
        """`[Q, N]`."""

    def towards(self, direction: str, anchors: Tensor) -> Tensor:
        """Return the scores of anchors `[A]` with all candidates, those of the memory last, `[A, C]`."""
        rows, columns = DIRECTIONS[direction]
        if direction == "query_to_document":
            return self._scores if len(anchors) == len(self._scores) else self._scores[anchors]
        if direction == "document_to_query":
            scores = self.between.mT if len(anchors) == len(self.documents) else self.between.mT[anchors]
            if "query" in self._stored:
                far = self._temperature(self.documents[anchors]) @ self._stored["query"].mT
                scores = torch.cat([scores, far], dim=1)
            return scores
        assert self.queries is not None
        vectors = self.queries if rows == "query" else self.documents
        return self._temperature(vectors[anchors]) @ self._with_stored(columns, vectors).mT

    def _with_stored(self, side: str, vectors: Tensor) -> Tensor:
        return torch.cat([vectors, self._stored[side]]) if side in self._stored else vectors
