from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quincunx.errors import UsageError
from quincunx.index.exact import NOTHING, Found
from quincunx.metrics.ranking import score
from quincunx.metrics.significance import paired
from quincunx.recipes.retrieval.data.texts import TokenTexts
from quincunx.recipes.retrieval.evaluate.beside import Beside, FirstStage, comparison
from retrieval_sets import collection

QUERIES = ["red apple", "blue sky", "green grass"]
DOCUMENTS = ["an apple, red", "the sky is blue", "grass and more grass", "nothing of it"]
RELEVANT = [(0, 0, 1), (1, 1, 1), (2, 3, 1)]


def found(*rows: tuple[int, ...]) -> Found:
    documents = np.array(rows, np.int64)
    scores = np.where(documents == NOTHING, -np.inf, -np.arange(documents.shape[1], dtype=np.float32)).astype(
        np.float32
    )
    return Found(documents, scores)


def first_stage() -> FirstStage:
    return FirstStage(collection(QUERIES, DOCUMENTS, RELEVANT))


def test_words_and_both_fusions_stand_beside_a_ranking():
    # the model knows the third query, which shares no word with its document; words know the others
    model = found((1, 2, 0), (2, 0, 1), (3, 1, 0))
    ranked = Beside(["bm25", "rrf", "weighted"], first_stage())(np.arange(3), model)
    assert list(ranked) == ["bm25", "rrf", "weighted"]
    assert ranked["bm25"].documents.tolist() == [[0, -1, -1], [1, -1, -1], [2, -1, -1]]
    # 0: 1/63 + 1/61; 1: 1/61; so what words found goes first, and what only the model found comes after
    assert ranked["rrf"].documents[0].tolist() == [0, 1, 2]
    assert ranked["rrf"].scores[0].tolist() == pytest.approx([1 / 63 + 1 / 61, 1 / 61, 1 / 62], rel=1e-6)
    # min-max: 0 has 0 + 1, 1 has 1 + 0, 2 has 0.5: equal ones in their order
    assert ranked["weighted"].documents[0].tolist() == [0, 1, 2]
    assert ranked["weighted"].scores[0].tolist() == [1, 1, 0.5]


def test_the_words_are_asked_once_for_the_same_queries(monkeypatch):
    first = first_stage()
    asked: list[int] = []
    search = first.lexical.search
    monkeypatch.setattr(first.lexical, "search", lambda texts, k: asked.append(len(texts)) or search(texts, k))
    once, again = first.rank(np.arange(3), 2), first.rank(np.arange(3), 2)
    assert once is again and asked == [3]
    assert first.rank(np.arange(2), 2).documents.tolist() == once.documents[:2].tolist()
    assert first.rank(np.arange(2), 4).documents.shape == (2, 4) and asked == [3, 2, 2]


def test_texts_known_as_tokens_alone_are_refused():
    made = collection(QUERIES, DOCUMENTS, RELEVANT, name="numbers")
    tokens = replace(made, documents=TokenTexts.of(made.documents.ids, [np.array([1, 2], np.int32)] * 4))
    with pytest.raises(UsageError, match="numbers holds token ids, and BM25 reads words"):
        FirstStage(tokens)


def test_the_table_says_what_is_above_the_model_and_how_surely():
    asked = {"a": {"0": 1}, "b": {"1": 1}, "c": {"3": 1}}
    right, wrong = (
        {"a": {"0": 1.0}, "b": {"1": 1.0}, "c": {"2": 1.0}},
        {"a": {"0": 1.0}, "b": {"0": 1.0}, "c": {"2": 1.0}},
    )
    model, words = (score(asked, run, ["recip_rank", "num_rel_ret"]) for run in (right, wrong))
    table, scalars, said = comparison(model, {"bm25": words})
    difference = paired([1, 0, 0], [1, 1, 0])
    low, high = difference.difference.low, difference.difference.high
    assert table.rows == [
        ["model", "0.6667", "2.0000", "", ""],
        ["bm25", "0.3333", "1.0000", f"-0.3333 [{low:+.4f}, {high:+.4f}]", f"{difference.p:.2g}"],
    ]
    assert scalars == {"bm25_recip_rank": pytest.approx(1 / 3), "bm25_num_rel_ret": 1}
    assert said == "bm25 0.3333"
