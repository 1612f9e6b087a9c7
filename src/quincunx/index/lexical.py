"""BM25 over words, for prose and for code: the baseline of every dense model, and the first stage of a reranker.

N documents, Q queries, k results a query.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from quincunx.errors import MissingExtra
from quincunx.index.exact import NOTHING, Found

WORD = re.compile(r"[^\W_]+", re.UNICODE)
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def words(text: str) -> list[str]:
    """Return the words of a text, lowered; a name such as readFileName or read_file_name gives its parts as well.

    Nothing is stemmed and no word is left out: BM25's weights take care of frequent ones.
    """
    found: list[str] = []
    for word in WORD.findall(text):
        parts = PART.findall(word) if word.isascii() else []
        found.append(word.lower())
        if len(parts) > 1:
            found += [part.lower() for part in parts]
    return found


class Lexical:
    """An index of words.

    Scores are those of Lucene's BM25 (Robertson and Zaragoza 2009; Kamphuis et al. 2020, "accurate" form).
    """

    def __init__(self, texts: Iterable[str], *, k1: float = 0.9, b: float = 0.4) -> None:
        """Index documents.

        Args:
            texts: The documents, in order.
            k1: How soon further mentions of a word stop counting.
            b: How much a document's length counts, from 0 to 1.

        Raises:
            MissingExtra: The package bm25s is not installed.
        """
        try:
            import bm25s
        except ImportError:
            raise MissingExtra("bm25s", "retrieval", "BM25") from None
        tokens = [words(text) for text in texts]
        self.count = len(tokens)
        self._index = None
        if any(tokens):
            self._index = bm25s.BM25(k1=k1, b=b, method="lucene")
            self._index.index(tokens, show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> Found:
        """Return the k best documents of each query that share a word with it, equal scores in their order."""
        found = np.full((len(queries), k), NOTHING, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for row, query in enumerate(queries):
            values = self._scores(query)
            best = np.argsort(-values, kind="stable")[:k]
            best = best[values[best] > 0]
            found[row, : len(best)] = best
            scores[row, : len(best)] = values[best]
        return Found(found, scores)

    def _scores(self, query: str) -> np.ndarray:
        asked = [word for word in words(query) if self._index is not None and word in self._index.vocab_dict]
        if self._index is None or not asked:
            return np.zeros(self.count, np.float32)
        return np.asarray(self._index.get_scores(asked), np.float32)
