"""What costs no training, measured on the same queries: BM25, and its ranking fused with the model's.

Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.index.exact import Found
from quincunx.index.fusion import reciprocal_rank, weighted
from quincunx.index.lexical import Lexical
from quincunx.metrics.ranking import Scores
from quincunx.metrics.record import Table
from quincunx.metrics.significance import paired
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.texts import Texts

FUSIONS = {"rrf": reciprocal_rank, "weighted": weighted}
"""Name -> what makes one ranking of several."""


class FirstStage:
    """BM25 over a collection's documents.

    Raises:
        UsageError: Queries or documents of which only token ids are known.
    """

    def __init__(self, collection: Collection) -> None:
        queries, documents = collection.queries, collection.documents
        if not (isinstance(queries, Texts) and isinstance(documents, Texts)):
            raise UsageError(f"{collection.name} holds token ids, and BM25 reads words: give the texts")
        self._queries, self._documents = queries, documents
        self._kept: tuple[NDArray[np.int64], Found] | None = None

    @cached_property
    def lexical(self) -> Lexical:
        """The index of words, made when the first query comes."""
        return Lexical(self._documents.text(number) for number in range(len(self._documents)))

    def rank(self, queries: NDArray[np.int64], depth: int) -> Found:
        """Return the best documents of queries [Q], `depth` of each; the latest answer is kept."""
        kept = self._kept
        if kept is None or not np.array_equal(kept[0], queries) or kept[1].documents.shape[1] != depth:
            texts = [self._queries.text(query) for query in queries.tolist()]
            self._kept = kept = queries, self.lexical.search(texts, depth)
        return kept[1]


@dataclass(frozen=True)
class Beside:
    """Rankings that are measured beside a model's."""

    names: Sequence[str]
    """`bm25`, or of `FUSIONS`."""
    first: FirstStage

    def __call__(self, queries: NDArray[np.int64], found: Found) -> dict[str, Found]:
        """Return them by name, each as deep as the model's."""
        depth = found.documents.shape[1]
        words = self.first.rank(queries, depth)
        return {name: FUSIONS[name]([found, words], depth) if name in FUSIONS else words for name in self.names}


def comparison(model: Scores, others: Mapping[str, Scores]) -> tuple[Table, dict[str, float], str]:
    """Return a table of the model beside others, their scalars (`bm25_ndcg_cut_10`), and a sentence.

    The difference is of the first measure, with its bootstrap interval over queries and the p-value of a randomisation
    test; the measures that are sums have none.
    """
    first, *_ = model.wanted
    wanted = [one.name for one in model.wanted]
    rows: list[list[Any]] = [["model", *(f"{model.mean[name]:.4f}" for name in wanted), "", ""]]
    scalars: dict[str, float] = {}
    said: list[str] = []
    for name, scores in others.items():
        scalars |= {f"{name}_{measure}": scores.mean[measure] for measure in wanted}
        row = [name, *(f"{scores.mean[measure]:.4f}" for measure in wanted)]
        mine, its = model.of(first.name), scores.of(first.name)
        both = ~(np.isnan(mine) | np.isnan(its))
        if first.measure.summed or both.sum() < 2:
            row += ["", ""]
        else:
            found = paired(its[both], mine[both])
            gain = found.difference
            row += [f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]", f"{found.p:.2g}"]
        rows.append(row)
        said.append(f"{name} {scores.mean[first.name]:.4f}")
    columns = ["ranking", *wanted, f"{first.name} above the model, 95 %", "p"]
    return Table("Beside what costs no training", columns, rows), scalars, ", ".join(said)
