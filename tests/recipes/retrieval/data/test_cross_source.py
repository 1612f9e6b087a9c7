"""Queries with their candidates: what is drawn, how it is packed, and that a chunk can be taken apart again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.data.batch import Batch
from quincunx.data.loader import Updates, updates
from quincunx.data.order import Order
from quincunx.engine.chunks import cut
from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data.collection import Collection, Relations
from quincunx.recipes.retrieval.data.cross_source import CrossSource, pairs_of
from quincunx.recipes.retrieval.data.texts import Texts, TokenTexts
from retrieval_sets import collection, collections

START, BETWEEN, END, PADDING = 1, 2, 3, 7


class PairsOfLetters:
    """One token a character, the two texts apart by a token and by type ids."""

    max_length, padding = 99, PADDING

    def __init__(self, typed: bool = True) -> None:
        self.typed = typed

    def __call__(self, queries, documents):
        pairs = list(zip(queries, documents, strict=True))
        tokens = [np.array([START, *map(ord, q), BETWEEN, *map(ord, d), END], np.int32) for q, d in pairs]
        types = [np.array([0] * (len(q) + 2) + [1] * (len(d) + 1), np.int32) for q, d in pairs]
        return tokens, types if self.typed else None


COLOURS = collection(
    ["red", "blue", "green"],
    ["rose", "sky", "leaf", "sea", "grass", "brick", "rose"],
    [(0, 0, 1), (0, 5, 2), (1, 1, 1), (1, 3, 1), (2, 2, 1), (2, 4, 3), (2, 0, 0)],
    [(0, 1), (0, 2), (1, 2), (1, 5), (0, 6)],
)


def cross(*made: Collection, **chosen) -> CrossSource:
    return CrossSource(made, chosen.pop("tokenize", PairsOfLetters()), **chosen)


def drawn(found: CrossSource, numbers=None, seed: int = 5) -> Batch:
    numbers = list(range(len(found))) if numbers is None else list(numbers)
    return found.collate([found[i] for i in numbers], numbers, numbers, seed)


def read(batch: Batch) -> list[list[tuple[str, str, float]]]:
    """Return each example's candidates as they can be read off its tokens: query, document, label."""
    pairs = pairs_of(batch, PADDING)
    examples: list[list[tuple[str, str, float]]] = [[] for _ in range(len(batch))]
    places = batch["mask"].nonzero().tolist()
    for (example, place), tokens, length in zip(places, pairs.tokens.tolist(), pairs.lengths.tolist(), strict=True):
        whole, rest = tokens[:length], tokens[length:]
        assert (whole[0], whole[-1], set(rest) <= {PADDING}) == (START, END, True)
        query, document = "".join(map(chr, whole[1:-1])).split(chr(BETWEEN))
        examples[example].append((query, document, float(batch["labels"][example, place])))
    return examples


def test_positives_first_then_explicit_negatives_and_those_judged_so():
    batch = drawn(cross(COLOURS, positives=None, negatives=None, drawing="first"))
    assert read(batch) == [
        [("red", "rose", 1), ("red", "brick", 2), ("red", "sky", 0), ("red", "leaf", 0)],
        [("blue", "sky", 1), ("blue", "sea", 1), ("blue", "leaf", 0), ("blue", "brick", 0)],
        [("green", "leaf", 1), ("green", "grass", 3), ("green", "rose", 0)],
    ], "a copy of a positive is no negative"
    assert batch["mask"].sum(1).tolist() == [4, 4, 3]
    assert batch["lengths"].tolist()[2] == [3 + 5 + 4, 3 + 5 + 5, 3 + 5 + 4, 0]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == batch["lengths"].sum(1).tolist()
    assert batch["tokens"].shape == (3, int(batch.lengths.max()))
    assert batch.ids == ["q0", "q1", "q2"]
    assert batch.padded == {"tokens", "types"}
    assert "scores" not in batch.tensors


def test_lists_of_one_two_and_many():
    assert [len(found) for found in read(drawn(cross(COLOURS, negatives=0)))] == [1, 1, 1]
    assert [len(found) for found in read(drawn(cross(COLOURS, negatives=1)))] == [2, 2, 2]
    assert [len(found) for found in read(drawn(cross(COLOURS, positives=2, negatives=9)))] == [4, 4, 3]


def test_grades_choose_the_positives():
    found = cross(COLOURS, positives=None, negatives=None, min_grade=2, drawing="first")
    assert read(drawn(found)) == [
        [("red", "brick", 2), ("red", "sky", 0), ("red", "leaf", 0)],
        [("green", "grass", 3), ("green", "rose", 0)],
    ], "rose is relevant to red with a lower grade: neither one nor the other"
    between = collection(["q"], ["good", "fair", "bad"], [(0, 0, 2), (0, 1, 1), (0, 2, 0)])
    one = cross(between, negatives=1, min_grade=2, drawing="first")
    assert read(drawn(one)) == [[("q", "good", 2), ("q", "bad", 0)]], "none is drawn in vain"
    every = cross(COLOURS, positives=None, negatives=0, min_grade=None)
    assert read(drawn(every))[2] == [("green", "leaf", 1), ("green", "grass", 3), ("green", "rose", 0)]


def test_random_negatives_are_of_the_querys_collection_and_never_relevant():
    other = collection(["x"], [f"y{i}" for i in range(9)], [(0, 0, 1)], name="other")
    found = cross(COLOURS, other, negatives=0, random_negatives=3)
    seen: set[tuple[str, str]] = set()
    for seed in range(60):
        examples = read(drawn(found, seed=seed))
        assert all(len({d for _, d, _ in example}) == len(example) for example in examples), "no text twice in a list"
        seen |= {(query, document) for example in examples for query, document, label in example if not label}
    assert {document for query, document in seen if query == "red"} == {"sky", "leaf", "sea", "grass"}
    assert {document for query, document in seen if query == "x"} == {f"y{i}" for i in range(1, 9)}


def test_queries_of_one_collection_draw_different_random_negatives():
    wide = collection(["a", "b"], [f"t{i}" for i in range(50)], [(0, 0, 1), (1, 0, 1)])
    first, second = read(drawn(cross(wide, negatives=0, random_negatives=5)))
    assert {document for _, document, _ in first} != {document for _, document, _ in second}


def test_teachers_scores_stand_beside_their_pairs():
    made = collection(
        ["a", "b"],
        ["t", "u", "v"],
        [(0, 0, 1), (1, 1, 1)],
        [(0, 2), (1, 2)],
        scores=[0.5, 1.5],
        negative_scores=[0.25, -1],
    )
    found = cross(made)
    assert found.scored
    batch = drawn(found)
    assert batch["scores"].tolist() == [[0.5, 0.25], [1.5, -1.0]]
    assert batch["scores"].dtype == batch["labels"].dtype == torch.float32
    more = cross(made, random_negatives=1)
    assert not more.scored
    scores = [drawn(more, seed=seed)["scores"] for seed in range(9)]
    assert any(table.shape[1] == 3 and math.isnan(float(table[0, 2])) for table in scores)
    assert not cross(COLOURS).scored
    mixed = drawn(cross(made, COLOURS))
    assert mixed["scores"].isnan().sum() == mixed["scores"].numel() - 4


@settings(max_examples=60, deadline=None)
@given(st.lists(collections(), min_size=1, max_size=2), st.data())
def test_a_chunk_holds_what_its_examples_held(made, data):
    """However a batch is cut, its pairs are the same, token by token."""
    found = cross(
        *made,
        positives=data.draw(st.one_of(st.none(), st.integers(1, 2))),
        negatives=data.draw(st.integers(0, 2)),
        random_negatives=data.draw(st.integers(0, 2)),
        drawing=data.draw(st.sampled_from(["first", "random", "window"])),
        tokenize=PairsOfLetters(data.draw(st.booleans())),
    )
    numbers = data.draw(st.lists(st.integers(0, len(found) - 1), min_size=1, max_size=5))
    batch = drawn(found, numbers, seed := data.draw(st.integers(0, 5)))
    whole = read(batch)
    relevant = [
        {
            (one.queries.text(int(q)), one.documents.text(int(d)))
            for (q, d), grade in zip(one.relevant.pairs, one.relevant.grades, strict=True)
            if grade > 0
        }
        for one in made
    ]
    for example in whole:
        assert len({document for _, document, _ in example}) == len(example)
        for query, document, label in example:
            assert any((query, document) in pairs for pairs in relevant) == (label > 0)
    for chunk in cut(len(batch), batch.lengths, 2, 12) or [torch.arange(len(batch))]:
        assert read(batch.select(chunk)) == [whole[i] for i in chunk.tolist()]
    for place, number in enumerate(numbers):
        assert read(drawn(found, [number], seed)) == [whole[place]], "what a query gets does not depend on the others"
    pairs = pairs_of(batch, PADDING)
    if pairs.types is not None:
        counted = (pairs.types == 1).sum(1).tolist()
        assert counted == [len(document) + 1 for example in whole for _, document, _ in example]


def test_one_number_a_pair_becomes_a_table():
    batch = drawn(cross(COLOURS, positives=2, negatives=9))
    pairs = pairs_of(batch, PADDING)
    table = pairs.table(torch.arange(1.0, 1 + len(pairs.lengths)), -math.inf)
    assert table.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, -math.inf]]


def test_workers_and_shards_change_nothing():
    found = cross(COLOURS, random_negatives=2)
    order = Order(len(found), 2, 3)
    alone = list(updates(Updates(found, found.collate, order, 9), 0, 4))
    for other in (list(updates(Updates(found, found.collate, order, 9), 0, 4, 2)),):
        for one, two in zip(alone, other, strict=True):
            assert one[0] is not None
            assert two[0] is not None
            assert read(one[0]) == read(two[0])
    halves = [Updates(found, found.collate, order, 9, (rank, 2))[0][0] for rank in range(2)]
    assert alone[0][0] is not None
    assert [read(half)[0] for half in halves if half is not None] == read(alone[0][0])


def test_what_cannot_be_trained_on_is_refused():
    nothing = collection(["a"], ["b"], [(0, 0, 0)])
    with pytest.raises(
        DataError, match=r"made has nothing to train on: none of its 1 queries has a document of grade 1"
    ):
        cross(nothing)
    assert read(drawn(cross(nothing, min_grade=None))) == [[("a", "b", 0.0)]]
    tokens = TokenTexts.of(["d0"], [[1, 2]])
    relations = Relations.build(np.array([[0, 0]]), 1)
    given_tokens = Collection("given", tokens, Texts.of(["q0"], ["a"]), relations, Relations.none(1), "given")
    with pytest.raises(UsageError, match="given was tokenized beforehand"):
        cross(given_tokens)
    for wrong in ({"positives": 0}, {"negatives": -1}, {"random_negatives": -1}):
        with pytest.raises(ValueError, match="at least"):
            cross(COLOURS, **wrong)
