"""BM25 over words, for prose and for code: the baseline of every dense model, and the first stage of a reranker.

N documents, Q queries, k results a query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import MissingExtra, RunError
from quincunx.index.exact import NOTHING, Found
from quincunx.runs.files import write_atomically

WORD = re.compile(r"[^\W_]+", re.UNICODE)
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
FORMAT = "1"
"""Of saved indexes; another form of words is another format."""
ARRAYS = ("data", "indices", "indptr", "words")
"""Of a saved index: weights by word and document, sparse by columns, and the words, one a line."""


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
        module = _bm25s()
        tokens = [words(text) for text in texts]
        self.count = len(tokens)
        self.k1, self.b = k1, b
        self._index: Any = None
        if any(tokens):
            self._index = module.BM25(k1=k1, b=b, method="lucene")
            self._index.index(tokens, show_progress=False)

    @classmethod
    def open(cls, path: Path, key: str | None = None) -> Lexical:
        """Return an index that was saved.

        Args:
            path: Its file.
            key: What `save` was given.

        Raises:
            MissingExtra: The package bm25s is not installed.
            RunError: The file is missing, damaged, of another format, or of other documents.
        """
        arrays, facts = _read(path)
        if facts.get("format") != FORMAT:
            raise RunError(f"{path} is no index of words of format {FORMAT}: remove it, and it is made anew")
        if key is not None and facts.get("key") != key:
            raise RunError(f"{path} is the index of other documents: remove it, and it is made anew")
        found = cls((), k1=float(facts["k1"]), b=float(facts["b"]))
        found.count = int(facts["count"])
        listed = arrays.pop("words").tobytes().decode().split("\n")
        data, indices, indptr = (arrays[name] for name in ARRAYS[:3])
        if indices.size and not (
            len(data) == len(indices) == indptr[-1]
            and len(indptr) == len(listed) + 1
            and (np.diff(indptr) >= 0).all()
            and 0 <= indices.min() <= indices.max() < found.count
        ):
            raise RunError(f"{path} is damaged: its parts do not fit one another; remove it, and it is made anew")
        if indices.size:
            found._index = _bm25s().BM25(k1=found.k1, b=found.b, method="lucene")
            found._index.scores = {"data": data, "indices": indices, "indptr": indptr, "num_docs": found.count}
            found._index.nonoccurrence_array = None  # other forms of BM25 have one
            found._index.vocab_dict = {word: number for number, word in enumerate(listed)}
        return found

    def save(self, path: Path, key: str = "") -> None:
        """Write the index as one safetensors file, atomically.

        Args:
            path: The file.
            key: What tells these documents from others; `open` compares it.

        Raises:
            RunError: It cannot be written.
        """
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {name: np.empty(0, np.int64) for name in ARRAYS[:3]}
        listed: list[str] = []
        if self._index is not None:
            arrays = {name: np.ascontiguousarray(self._index.scores[name]) for name in ARRAYS[:3]}
            numbered = sorted((number, word) for word, number in self._index.vocab_dict.items() if word)
            listed = [word for _, word in numbered]
        arrays["words"] = np.frombuffer("\n".join(listed).encode(), np.uint8)
        facts = {"format": FORMAT, "key": key, "count": self.count, "k1": self.k1, "b": self.b}
        write_atomically(path, save(arrays, {name: str(value) for name, value in facts.items()}))

    def search(self, queries: Sequence[str], k: int) -> Found:
        """Return the k best documents of each query that share a word with it, equal scores in their order."""
        found = np.full((len(queries), k), NOTHING, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for row, query in enumerate(queries):
            values = self._scores(query)
            hits = np.flatnonzero(values > 0)
            best = hits[np.argsort(-values[hits], kind="stable")[:k]]
            found[row, : len(best)] = best
            scores[row, : len(best)] = values[best]
        return Found(found, scores)

    def _scores(self, query: str) -> NDArray[np.float32]:
        asked = [word for word in words(query) if self._index is not None and word in self._index.vocab_dict]
        if self._index is None or not asked:
            return np.zeros(self.count, np.float32)
        return np.asarray(self._index.get_scores(asked), np.float32)


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError:
        raise MissingExtra("bm25s", "retrieval", "BM25") from None
    return bm25s


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
        for name in ("count", "k1", "b"):
            json.loads(facts[name])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}): remove it, and it is made anew") from error
    return arrays, facts
