"""A trained cross-encoder as what puts documents in order for a query.

Q queries, C candidates, k results a query.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.config.load import load
from quincunx.engine.checkpoint import Checkpoints, load_weights
from quincunx.engine.runtime import Runtime
from quincunx.errors import UsageError
from quincunx.index.exact import NOTHING, Found
from quincunx.recipes import schemas
from quincunx.recipes.retrieval.assemble import make_model
from quincunx.recipes.retrieval.data.cross_source import TokenizePairs
from quincunx.recipes.retrieval.encode import runtime_of
from quincunx.recipes.retrieval.encoders import make_encoders
from quincunx.recipes.retrieval.evaluate.rerank import score_pairs
from quincunx.recipes.retrieval.evaluate.vectors import Limits
from quincunx.recipes.retrieval.recipe import pair_tokenizer
from quincunx.runs import reopen


class Reranker:
    """A cross-encoder run, ready to score."""

    def __init__(self, model: Any, tokenize: TokenizePairs, runtime: Runtime, limits: Limits | None = None) -> None:
        """Take the parts of a reranker; `Reranker.load` makes them."""
        self.model = model.eval()
        self.tokenize = tokenize
        self.runtime = runtime
        self.limits = limits or Limits()

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        precision: str = "auto",
        device: str = "auto",
        checkpoint: str = "best",
    ) -> Reranker:
        """Return the cross-encoder of a run.

        Raises:
            UsageError: The run is no cross-encoder, or has no such checkpoint.
            RunError: There is no run, or it has no checkpoint yet, or that is damaged.
        """
        path = Path(run)
        folder = reopen(path)
        config = load(folder.config, (), schemas=schemas()).config
        if config.recipe != "retrieval" or config.mode != "cross-encoder":
            mode = getattr(config, "mode", None) or f"run of the recipe {config.recipe}"
            raise UsageError(
                f"{path} is a {mode}: documents are reranked by a cross-encoder (mode cross-encoder). A bi- or "
                "poly-encoder searches by itself, with --run"
            )
        found = Checkpoints(folder.checkpoints).named(checkpoint)
        runtime = runtime_of(precision, device)
        encoders = make_encoders(config, home=path)
        model = make_model(config, encoders)
        load_weights(model, Checkpoints(folder.checkpoints).load(found).weights["model"], str(found))
        return cls(model.to(runtime.device), pair_tokenizer(config, encoders), runtime)

    def scores(self, queries: Sequence[str], documents: Sequence[str]) -> NDArray[np.float32]:
        """Return the score of each query with the document beside it."""
        return score_pairs(self.model, self.tokenize, queries, documents, self.runtime, self.limits)

    def rerank(self, queries: Sequence[str], candidates: Found, text: Callable[[int], str], k: int) -> Found:
        """Return the k best of each query's candidates by the cross-encoder, equal scores in the documents' order.

        Args:
            queries: Texts [Q].
            candidates: `[Q, C]`.
            text: Returns a document's text by its number.
            k: Results a query.
        """
        rows, columns = np.nonzero(candidates.documents != NOTHING)
        numbers = candidates.documents[rows, columns]
        known = {number: text(number) for number in np.unique(numbers).tolist()}
        scores = np.full(candidates.documents.shape, -np.inf, np.float32)
        scores[rows, columns] = self.scores(
            [queries[row] for row in rows.tolist()], [known[n] for n in numbers.tolist()]
        )
        order = np.lexsort((candidates.documents, -scores), axis=1)[:, :k]
        found = np.full((len(queries), k), NOTHING, np.int64)
        values = np.full((len(queries), k), -np.inf, np.float32)
        found[:, : order.shape[1]] = np.take_along_axis(candidates.documents, order, 1)
        values[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
        return Found(found, values)
