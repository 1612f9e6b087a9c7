"""From questions to documents: dense search, BM25, both fused, and a cross-encoder's order of what they find.

```python
from quincunx.recipes.retrieval.search import Searcher, Way

searcher = Searcher.open("index", run="runs/scifact-1")
for hit in searcher.ask("what makes a cell old?", Way("rrf"), k=5):
    print(hit.rank, hit.id, hit.passage.text)
```

Q queries, N documents, D width, m codes of a poly-encoder's query, k results a query.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.errors import RunError, UsageError
from quincunx.index.certified import Certified, Corpus, Vectors, search_certified, search_named
from quincunx.index.exact import NOTHING, Found, search_by
from quincunx.index.fusion import RANK_CONSTANT, Normalisation, reciprocal_rank, weighted
from quincunx.index.indexed import Index
from quincunx.index.lexical import Lexical
from quincunx.index.stored_texts import StoredTexts
from quincunx.nn.poly import poly_scores
from quincunx.recipes.retrieval.encode import Encoder
from quincunx.recipes.retrieval.passages import Passage, best_passage
from quincunx.recipes.retrieval.reranker import Reranker

By = Literal["dense", "bm25", "rrf", "weighted"]
WORDS = Path("lexical") / "words.safetensors"
"""Where in an index's folder BM25's own index is kept."""
PASSAGES = 64
"""Passages of a text that are compared with the query where no word of it is in the text."""


@dataclass(frozen=True)
class Way:
    """How to search.

    Raises:
        UsageError: Values without meaning, when it is made.
    """

    by: By = "dense"
    """`dense` vectors, `bm25`, or both, fused by reciprocal ranks (`rrf`) or `weighted` scores."""
    candidates: int = 100
    """Documents of each ranking that are fused, and that are reranked."""
    weights: tuple[float, float] | None = None
    """Of dense and BM25 in a fusion; None: 1 each."""
    normalisation: Normalisation = "min-max"
    """Of `weighted` fusion; see `quincunx.index.fusion.weighted`."""
    rank_constant: float = RANK_CONSTANT
    """Of `rrf`."""
    exact: bool = False
    """Compare with every document, whatever the index's kind."""
    options: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of the index's kind, for this search: `nprobe`, `ef_search`, `oversample`."""

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise UsageError(f"there is no search by {self.by!r}; there are: {', '.join(get_args(By))}")
        if self.candidates < 1:
            raise UsageError(f"candidates is {self.candidates}; expected 1 or more")

    @property
    def fused(self) -> bool:
        """Whether two rankings are made one."""
        return self.by in ("rrf", "weighted")


@dataclass(frozen=True)
class Ranked:
    """What was found for some queries."""

    found: Found
    """Numbers of the index's documents."""
    rankings: Mapping[str, Found]
    """The rankings that it was made of, by name: `dense`, `bm25`, `fused`, `reranked`."""
    certified: Certified | None = None
    """Of a poly-encoder: how its dense ranking was found."""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Hit:
    """A document that was found."""

    rank: int
    id: str
    score: float
    places: Mapping[str, tuple[int, float]]
    """Its rank and score in each of the rankings that this one was made of, where it is in there."""
    text: str | None
    """None where texts were not kept."""
    passage: Passage | None
    """The part of it that is shown for the query."""

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        shown = self.passage
        return {
            "rank": self.rank,
            "id": self.id,
            "score": self.score,
            "rankings": {name: {"rank": rank, "score": score} for name, (rank, score) in self.places.items()},
            "passage": None if shown is None else shown.text,
            "start": None if shown is None else shown.start,
            "marks": None if shown is None else [list(mark) for mark in shown.marks],
        }


class Searcher:
    """An index with what is needed to ask it."""

    def __init__(
        self,
        index: Index,
        encoder: Encoder | None = None,
        reranker: Reranker | None = None,
        *,
        stores: Sequence[str | Path] | None = None,
    ) -> None:
        """Take an index and models.

        Args:
            index: Whose documents are searched.
            encoder: Turns queries into vectors; None: only BM25.
            reranker: Puts what was found in order; None: it stays in its own.
            stores: Where the documents' texts are, unless at the places that the index noted.

        Raises:
            UsageError: The index was made by another encoder.
        """
        if encoder is not None:
            index.check_fits(encoder.made("document"))
        self.index = index
        self.encoder = encoder
        self.reranker = reranker
        self._stores = stores
        self._kept = ""

    @classmethod
    def open(
        cls,
        index: str | os.PathLike[str],
        run: str | os.PathLike[str] | None = None,
        *,
        rerank: str | os.PathLike[str] | None = None,
        checkpoint: str = "best",
        precision: str = "auto",
        device: str = "auto",
        backend: str = "torch",
        stores: Sequence[str | Path] | None = None,
    ) -> Searcher:
        """Return the searcher of an index's folder.

        Args:
            index: The folder.
            run: The bi- or poly-encoder run that encoded the index's documents; None: only BM25.
            rerank: A cross-encoder run.
            checkpoint: Of `run`.
            precision: Of both, as in `Encoder.load`.
            device: Of both, likewise.
            backend: Of `run`, likewise.
            stores: As in `Searcher`.

        Raises:
            UsageError: There is no index, or it was made by another encoder; a run of another kind.
            RunError, DataError: The index, a run or a store is damaged.
        """
        opened = Index.open(Path(index))
        encoder = None
        if run is not None:
            encoder = Encoder.load(run, backend=backend, precision=precision, device=device, checkpoint=checkpoint)
            opened.check_fits(encoder.made("document"))
        reranker = None if rerank is None else Reranker.load(rerank, precision=precision, device=device)
        return cls(opened, encoder, reranker, stores=stores)

    def search(self, queries: Sequence[str], k: int = 10, way: Way | None = None) -> Ranked:
        """Return the k best documents of each query.

        Raises:
            UsageError: A dense search without an encoder, one that needs texts where there are none, k below 1, options
                that the index's kind does not have.
        """
        if k < 1:
            raise UsageError(f"k is {k}; a search returns at least one document")
        way = way or Way("dense" if self.encoder is not None else "bm25")
        if way.by != "bm25" and self.encoder is None:
            raise UsageError(f"a search by {way.by} needs the run that encoded the documents: name it by --run")
        if self.reranker is not None:
            self._texts_needed("reranking")
        deep = max(k, way.candidates) if way.fused or self.reranker is not None else k
        rankings: dict[str, Found] = {}
        certified, notes = None, list[str]()
        if way.by != "bm25":
            rankings["dense"], certified = self._dense(queries, deep, way)
        if way.by != "dense":
            rankings["bm25"] = self._numbered(self.lexical.search(queries, deep))
            notes += [self._kept] if self._kept else []
        found = rankings.get("dense", rankings.get("bm25"))
        if way.fused:
            both = [rankings["dense"], rankings["bm25"]]
            if way.by == "rrf":
                found = reciprocal_rank(both, deep, constant=way.rank_constant, weights=way.weights)
            else:
                found = weighted(both, deep, weights=way.weights, normalisation=way.normalisation)
            rankings["fused"] = found
        assert found is not None
        if self.reranker is not None:
            first = Found(found.documents[:, : way.candidates], found.scores[:, : way.candidates])
            found = self.reranker.rerank(queries, first, self._texts_needed("reranking"), k)
            rankings["reranked"] = found
        return Ranked(Found(found.documents[:, :k], found.scores[:, :k]), rankings, certified, notes)

    def ask(self, query: str, way: Way | None = None, k: int = 10) -> list[Hit]:
        """Return the k best documents of one query, with the passages that are shown for it."""
        return self.hits(query, self.search([query], k, way))

    def hits(self, query: str, ranked: Ranked, row: int = 0) -> list[Hit]:
        """Return what was found for one of the queries that were asked together, with passages."""
        places: dict[int, dict[str, tuple[int, float]]] = {}
        for name, ranking in ranked.rankings.items():
            for rank, (number, score) in enumerate(_row(ranking, row), 1):
                places.setdefault(number, {})[name] = (rank, score)
        found: list[Hit] = []
        for rank, (number, score) in enumerate(_row(ranked.found, row), 1):
            text = None if self.texts is None else self.texts(number)
            shown = None if text is None else self._passage(text, query)
            found.append(Hit(rank, self.index.ids[number], score, places[number], text, shown))
        return found

    @cached_property
    def texts(self) -> StoredTexts | None:
        """The documents' texts; None where they are not to be had, of which `without_texts` says why."""
        try:
            return StoredTexts(self.index, self._stores)
        except UsageError as error:
            if self._stores is not None:  # somebody named them
                raise
            self.without_texts = str(error)
            return None

    without_texts = ""
    """Why there are no texts, once they were looked for."""

    @cached_property
    def lexical(self) -> Lexical:
        """BM25 over the documents that are there: as it was kept in the index's folder, or made anew and kept."""
        texts, path = self._texts_needed("BM25"), self.index.folder / WORDS
        try:
            if path.exists():
                return Lexical.open(path, texts.key)
        except RunError:
            pass  # of the documents before a change, or damaged: what follows replaces it
        made = Lexical(texts)
        try:
            made.save(path, texts.key)
        except RunError as error:
            self._kept = f"BM25 was not kept, and will be made anew next time: {error}"
        return made

    def _dense(self, queries: Sequence[str], k: int, way: Way) -> tuple[Found, Certified | None]:
        assert self.encoder is not None
        vectors = self.encoder.encode(list(queries), side="query")
        if vectors.ndim == 2:
            return self.index.search(np.asarray(vectors), k, compare_all=way.exact, **way.options), None
        return self._poly(np.asarray(vectors), getattr(vectors, "mask", None), k, way)

    def _poly(
        self, codes: NDArray[np.float32], mask: NDArray[np.bool_] | None, k: int, way: Way
    ) -> tuple[Found, Certified | None]:
        """Return a poly-encoder's ranking: certified, of what the index names, or of everything."""
        assert self.encoder is not None
        model, documents = self.encoder.model, self.index.documents
        if not model.bounded:
            found = score_every(model, self.encoder.runtime.device, codes, mask, documents, self.index.vectors, k)
            scored = np.full(len(codes), len(documents), np.int64)
            return found, Certified(found, np.zeros(len(codes), np.bool_), scored, len(documents))
        exact = way.exact or self.index.exact

        def nearest(directions: NDArray[np.float32], depth: int) -> Found:
            return self.index.search(directions, depth, compare_all=exact, **way.options)

        corpus = Corpus(nearest, self.index.vectors, documents, self.index.longest)
        if exact:
            result = search_certified(codes, mask, corpus, k, scale=model.scale)
        else:
            result = search_named(codes, mask, corpus, k, max(k, way.candidates), model.scale)
        return result.found, result

    def said(self, certified: Certified, way: Way) -> str:
        """Return in words how a poly-encoder's ranking was found."""
        model = self.encoder.model if self.encoder is not None else None
        if model is not None and not model.bounded:
            why = "multihead attention" if model.mixer is not None else "a cosine"
            return f"every document was scored: no inner product bounds scores by {why}"
        if self.index.exact or way.exact:
            return certified.note
        return (
            f"not certified: an index of kind {self.index.kind} may miss documents; {certified.share:.1%} of them were "
            "scored (--exact compares every one with the query's codes)"
        )

    def _numbered(self, found: Found) -> Found:
        """Return a ranking with the index's numbers in place of the rows of BM25, which knows no gaps."""
        documents = self.index.documents[np.maximum(found.documents, 0)] if len(self.index) else found.documents
        return Found(np.where(found.documents == NOTHING, NOTHING, documents), found.scores)

    def _texts_needed(self, what: str) -> StoredTexts:
        if self.texts is None:
            raise UsageError(f"{what} needs the documents' texts: {self.without_texts}")
        return self.texts

    def _passage(self, text: str, query: str) -> Passage:
        shown = best_passage(text, query)
        encoder = self.encoder
        if shown.marks or not shown.after or encoder is None or encoder.poly:
            return shown
        asked: NDArray[np.float32] = np.asarray(encoder.encode([query], side="query"))

        def scores(passages: Sequence[str]) -> NDArray[np.float32]:
            values = np.full(len(passages), -np.inf, np.float32)
            some = encoder.encode(list(passages[:PASSAGES]), side="document")
            values[: len(some)] = (np.asarray(some) @ asked.T)[:, 0]
            return values

        return best_passage(text, query, scores=scores)


def score_every(
    model: Any,
    device: torch.device,
    codes: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    documents: NDArray[np.int64],
    vectors: Vectors,
    k: int,
) -> Found:
    """Return the k best documents by a poly-encoder's score, every one scored: what works with any attention.

    Args:
        model: A `PolyEncoder`.
        device: Where to score.
        codes: `[Q, m, D]`.
        mask: `[Q, m]`, False where a code is none; None when all are.
        documents: Numbers `[N]`, ascending.
        vectors: Returns documents' vectors by number.
        k: Results a query.
    """
    asked = torch.from_numpy(np.ascontiguousarray(codes)).to(device)
    there = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask)).to(device)
    mixer = None if model.mixer is None else copy.deepcopy(model.mixer).to(device).float()

    def score(q0: int, q1: int, d0: int, d1: int) -> Tensor:
        some, kept = asked[q0:q1], None if there is None else there[q0:q1]
        block = torch.from_numpy(np.asarray(vectors(documents[d0:d1]), np.float32)).to(device)
        with torch.no_grad():
            if mixer is not None:
                return mixer.scores(some, kept, block, model.similarity)
            return poly_scores(some, kept, block, scale=model.scale, similarity=model.similarity)

    found = search_by(score, len(codes), len(documents), k)
    numbers = documents[np.maximum(found.documents, 0)] if len(documents) else found.documents
    return Found(np.where(found.documents == NOTHING, NOTHING, numbers), found.scores)


def run_of(queries: Sequence[str], found: Found, name: Callable[[int], str]) -> dict[str, dict[str, float]]:
    """Return what was found as `{query id: {document id: score}}`, as TREC's run files hold it."""
    return {query: {name(number): score for number, score in _row(found, row)} for row, query in enumerate(queries)}


def _row(found: Found, row: int) -> list[tuple[int, float]]:
    there = found.documents[row] != NOTHING
    return list(zip(found.documents[row][there].tolist(), found.scores[row][there].tolist(), strict=True))
