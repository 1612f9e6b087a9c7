"""Small collections and a tokenizer of letters, on which batches of queries and documents are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from quincunx.recipes.retrieval.data.collection import Collection, Relations
from quincunx.recipes.retrieval.data.sampling import TrainingSet, TrainingSource
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.recipes.retrieval.data.tokenised import LazyTokens

START, END = 1, 2


class Letters:
    """One token a character, between a start and an end token; what a text gets can be read off it."""

    padding = 0

    def __init__(self, max_length: int = 12, prompt: str = "", truncate: Any = "right") -> None:
        self.max_length, self.prompt, self.truncate = max_length, prompt, truncate
        self.calls: list[int] = []

    @property
    def request(self) -> Mapping[str, Any]:
        return {"letters": 1, "max_length": self.max_length, "prompt": self.prompt, "truncate": self.truncate}

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.calls.append(len(texts))
        room = self.max_length - 2
        cut = [(self.prompt + text)[:room] for text in texts]
        return [np.array([START, *map(ord, text), END], np.int32) for text in cut]


def collection(
    queries: Sequence[str],
    documents: Sequence[str],
    relevant: Sequence[tuple[int, int, int]],
    negatives: Sequence[tuple[int, int]] = (),
    *,
    scores: Sequence[float] | None = None,
    negative_scores: Sequence[float] | None = None,
    name: str = "made",
) -> Collection:
    """Return a collection; `relevant` are (query, document, grade), `negatives` (query, document)."""
    judged = np.array(relevant, np.int64).reshape(-1, 3)
    return Collection(
        name,
        Texts.of([f"d{i}" for i in range(len(documents))], documents),
        Texts.of([f"q{i}" for i in range(len(queries))], queries),
        Relations.build(
            judged[:, :2],
            len(queries),
            grades=judged[:, 2].astype(np.int32),
            scores=None if scores is None else np.array(scores, np.float32),
        ),
        Relations.build(
            np.array(negatives, np.int64).reshape(-1, 2),
            len(queries),
            scores=None if negative_scores is None else np.array(negative_scores, np.float32),
        ),
        fingerprint=name,
    )


def training_set(made: Collection, tokenize: Letters | None = None) -> TrainingSet:
    """Return a collection with lazily made tokens."""
    tokenize = tokenize or Letters()
    assert isinstance(made.queries, Texts)
    assert isinstance(made.documents, Texts)
    return TrainingSet(made, LazyTokens(made.queries, tokenize), LazyTokens(made.documents, tokenize))


def source(*made: Collection, **settings: Any) -> TrainingSource:
    """Return the training source of some collections."""
    return TrainingSource([training_set(one) for one in made], **settings)


@st.composite
def collections(draw: st.DrawFn) -> Collection:
    """Return a collection with few different texts, so that many are equal, and at least one relevant pair."""
    words = st.text("abc", min_size=1, max_size=2)
    queries = draw(st.lists(words, min_size=1, max_size=6))
    documents = draw(st.lists(words, min_size=1, max_size=8))
    pair = st.tuples(st.integers(0, len(queries) - 1), st.integers(0, len(documents) - 1))
    judged = draw(st.dictionaries(pair, st.integers(-1, 3), max_size=15))
    judged.setdefault((0, 0), 2)
    judged[0, 0] = max(judged[0, 0], 2)
    relevant = {key for key, grade in judged.items() if grade > 0}
    negatives = draw(st.lists(pair, max_size=12, unique=True))
    return collection(
        queries,
        documents,
        [(query, document, grade) for (query, document), grade in judged.items()],
        [found for found in negatives if found not in relevant],
        name=draw(st.sampled_from(["one", "two"])),
    )
