"""Batches of queries and documents: what is drawn, each text once, and every relevant pair known."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.data.loader import Updates, updates
from quincunx.data.order import Order
from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data.arrange import Mixture, NoDuplicates
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from quincunx.recipes.retrieval.data.load import load_collection
from quincunx.recipes.retrieval.data.sampling import TrainingSource
from reference.retrieval_batch import STRIDE, known_pairs, texts_of
from retrieval_sets import Letters, collection, collections, source, training_set

SETTINGS = st.fixed_dictionaries(
    {
        "anchor": st.sampled_from(["query", "document"]),
        "positives": st.one_of(st.none(), st.integers(1, 3)),
        "negatives": st.one_of(st.none(), st.integers(0, 3)),
        "drawing": st.sampled_from(["first", "random", "window"]),
        "min_grade": st.integers(1, 2),
    }
)

COLOURS = collection(
    ["red", "blue", "green"],
    ["rose", "sky", "leaf", "sea", "grass", "brick"],
    [(0, 0, 1), (0, 5, 2), (1, 1, 1), (1, 3, 1), (2, 2, 1), (2, 4, 3), (2, 0, 0)],
    [(0, 1), (0, 2), (1, 2), (1, 5), (1, 4)],
)


def batch_of(made: TrainingSource, numbers=None, seed: int = 5) -> RetrievalBatch:
    numbers = list(range(len(made))) if numbers is None else list(numbers)
    return made.collate([made[i] for i in numbers], numbers, numbers, seed)


def pairs(batch: RetrievalBatch, name: str, made) -> list[tuple[str, str]]:
    texts = {side: texts_of(batch, side, made) for side in ("query", "document")}
    return [(texts["query"][i], texts["document"][j]) for i, j in batch.links[name].tolist()]


def test_the_first_positives_and_negatives_of_each_query():
    made = source(COLOURS, negatives=2, drawing="first")
    assert (len(made), made.counts, made[2]) == (3, (3,), 2)
    batch = batch_of(made)
    assert len(batch) == 3
    assert pairs(batch, "positives", [COLOURS]) == [("red", "rose"), ("blue", "sky"), ("green", "leaf")]
    assert pairs(batch, "negatives", [COLOURS]) == [
        ("red", "sky"),
        ("red", "leaf"),
        ("blue", "leaf"),
        ("blue", "brick"),
    ]
    assert batch.sides["query"].ids == ["q0", "q1", "q2"]
    assert batch.sides["document"].ids == ["d0", "d1", "d2", "d5"], "positives first, each text once"
    assert pairs(batch, "known", [COLOURS]) == [("red", "rose"), ("red", "brick"), ("blue", "sky"), ("green", "leaf")]
    assert batch.sides["document"]["tokens"].tolist() == [
        [1, *map(ord, "rose"), 2, 0],
        [1, *map(ord, "sky"), 2, 0, 0],
        [1, *map(ord, "leaf"), 2, 0],
        [1, *map(ord, "brick"), 2],
    ]
    assert batch.sides["document"]["lengths"].tolist() == [6, 5, 6, 7]
    assert batch.sides["query"].rows.tolist() == [0, 1, 2]
    assert batch.links["document_keys"].tolist() == [0, 1, 2, 5]
    assert batch.links["document_hashes"].tolist() == COLOURS.documents.hashes[[0, 1, 2, 5]].view(np.int64).tolist()
    assert batch.ids == ["q0", "q1", "q2"]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [5 + 6, 6 + 5 + 7, 7 + 6], "a shared row counts for who brought it in"


def test_documents_as_anchors_turn_everything_round():
    made = source(COLOURS, anchor="document", negatives=None, positives=None)
    batch = batch_of(made)
    assert batch.ids == ["d0", "d1", "d2", "d3", "d4", "d5"]
    assert set(pairs(batch, "positives", [COLOURS])) == {
        ("red", "rose"),
        ("red", "brick"),
        ("blue", "sky"),
        ("blue", "sea"),
        ("green", "leaf"),
        ("green", "grass"),
    }
    assert set(pairs(batch, "negatives", [COLOURS])) == {
        ("red", "sky"),
        ("red", "leaf"),
        ("blue", "leaf"),
        ("blue", "brick"),
        ("blue", "grass"),
    }
    assert batch.sides["query"].ids == ["q0", "q1", "q2"]


def test_a_grade_of_zero_is_no_positive_and_a_low_one_neither_positive_nor_negative():
    made = source(COLOURS, positives=None, min_grade=2)
    batch = batch_of(made)
    assert pairs(batch, "positives", [COLOURS]) == [("red", "brick"), ("green", "grass")]
    assert batch.ids == ["q0", "q2"]
    low = source(COLOURS, positives=None, negatives=None)
    assert ("green", "rose") not in pairs(batch_of(low), "known", [COLOURS])
    # rose is relevant to red with grade 1: too low to be drawn, but another anchor may bring it in
    twice = collection(["red", "pink"], ["rose", "brick"], [(0, 0, 1), (0, 1, 2), (1, 0, 2)])
    batch = batch_of(source(twice, min_grade=2))
    assert pairs(batch, "positives", [twice]) == [("red", "brick"), ("pink", "rose")]
    assert ("red", "rose") in pairs(batch, "known", [twice])


def test_equal_texts_are_one_row_and_what_is_judged_of_one_holds_for_all():
    """Two queries of one text, two documents of one text, judged apart."""
    made = collection(["red", "red", "blue"], ["rose", "sky", "rose"], [(0, 0, 1), (1, 1, 1), (2, 2, 1)], [(2, 0)])
    batch = batch_of(source(made, negatives=1))
    assert len(batch) == 3
    assert texts_of(batch, "query", [made]) == ["red", "blue"]
    assert texts_of(batch, "document", [made]) == ["rose", "sky"]
    assert pairs(batch, "known", [made]) == [("red", "rose"), ("red", "sky"), ("blue", "rose")]
    assert batch.links["negatives"].tolist() == [], "a copy of a positive is no negative"


def test_a_text_behind_another_prompt_is_another_row_of_the_same_content():
    one, other = (collection(["red"], ["rose"], [(0, 0, 1)], name=name) for name in ("one", "two"))
    sets = [training_set(one, Letters(prompt="a:")), training_set(other, Letters(prompt="b:"))]
    batch = batch_of(TrainingSource(sets))
    assert batch.links["query_keys"].tolist() == [0, STRIDE]
    assert batch.links["query_hashes"][0] == batch.links["query_hashes"][1]
    assert len(batch.links["known"]) == 4, "either row is relevant to either"
    same = batch_of(TrainingSource([training_set(one), training_set(other)]))
    assert same.links["query_keys"].tolist() == [0]


@settings(max_examples=150, deadline=None)
@given(st.lists(collections(), min_size=1, max_size=2), SETTINGS, st.data())
def test_batches_against_the_plain_reference(made, chosen, data):
    if not all((one.relevant.grades >= chosen["min_grade"]).any() for one in made):
        with pytest.raises(DataError, match="nothing to train on"):
            source(*made, **chosen)
        return
    found = source(*made, **chosen)
    anchors = data.draw(st.lists(st.integers(0, len(found) - 1), min_size=1, max_size=6))
    batch = batch_of(found, anchors, data.draw(st.integers(0, 9)))
    for side in ("query", "document"):
        texts = texts_of(batch, side, made)
        assert len(set(texts)) == len(texts), "a text occurs once"
        read = [
            "".join(map(chr, row[1 : n - 1]))
            for row, n in zip(batch.sides[side]["tokens"].tolist(), batch.sides[side]["lengths"].tolist(), strict=True)
        ]
        assert read == texts, "each row holds the tokens of its text"
    assert batch.links["known"].tolist() == known_pairs(batch, made)
    drawn = {name: [tuple(pair) for pair in batch.links[name].tolist()] for name in ("positives", "negatives", "known")}
    assert set(drawn["positives"]) <= set(drawn["known"])
    assert not set(drawn["negatives"]) & set(drawn["known"])
    for name in ("positives", "negatives"):
        assert len(set(drawn[name])) == len(drawn[name])
    column = 0 if chosen["anchor"] == "query" else 1
    other = "document" if chosen["anchor"] == "query" else "query"
    assert set(batch.ids) >= set(batch.sides[chosen["anchor"]].ids)
    assert {pair[column] for pair in drawn["positives"]} == set(range(len(batch.sides[chosen["anchor"]])))
    linked = {pair[1 - column] for found in drawn.values() for pair in found}
    assert linked == set(range(len(batch.sides[other]))), "no row without a reason"
    assert batch.lengths is not None
    assert int(batch.lengths.sum()) == sum(int(batch.sides[side]["lengths"].sum()) for side in batch.sides)


@settings(max_examples=60, deadline=None)
@given(collections(), SETTINGS, st.integers(0, 5))
def test_each_anchor_gets_as_many_as_asked_or_what_there_is(made, chosen, seed):
    found = source(made, **chosen)
    for number in range(len(found)):
        batch = batch_of(found, [number], seed)
        place = int(batch.links[f"{chosen['anchor']}_keys"][0])
        column = 0 if chosen["anchor"] == "query" else 1
        for name, allowed in (
            ("positives", made.relevant.pairs[made.relevant.grades >= chosen["min_grade"]]),
            ("negatives", made.negatives.pairs),
        ):
            there = [tuple(pair) for pair in allowed.tolist() if pair[column] == place]
            wanted = len(there) if chosen[name] is None else min(chosen[name], len(there))
            keys = [
                (int(batch.links["query_keys"][i]), int(batch.links["document_keys"][j]))
                for i, j in batch.links[name].tolist()
            ]
            # equal texts become one row, and copies of what is relevant are no negatives
            assert len(keys) <= wanted
            texts = {(made.queries.text(q), made.documents.text(d)) for q, d in there}
            assert {(made.queries.text(q), made.documents.text(d)) for q, d in keys} <= texts
            if name == "positives" and len(texts) == len(there):
                assert len(keys) == wanted


def test_draws_change_with_the_seed_and_not_with_the_company():
    wide = collection(
        ["a", "b"],
        [f"t{i}" for i in range(40)],
        [(i % 2, i, 1) for i in range(20)],
        [(i % 2, i) for i in range(20, 40)],
    )
    made = source(wide, positives=3, negatives=4)
    both, alone = batch_of(made, [0, 1], 5), batch_of(made, [1], 5)
    assert [pair for pair in pairs(both, "positives", [wide]) if pair[0] == "b"] == pairs(alone, "positives", [wide])
    assert [pair for pair in pairs(both, "negatives", [wide]) if pair[0] == "b"] == pairs(alone, "negatives", [wide])
    assert pairs(batch_of(made, [1], 6), "negatives", [wide]) != pairs(alone, "negatives", [wide])
    every = {pair for seed in range(40) for pair in pairs(batch_of(made, [1], seed), "negatives", [wide])}
    assert len(every) == 10, "in time every negative comes"


def test_scores_stand_beside_their_pairs():
    made = collection(
        ["a", "b"],
        ["t", "u", "v", "w"],
        [(0, 0, 1), (1, 1, 1)],
        [(0, 2), (0, 3), (1, 3)],
        scores=[0.5, 1.5],
        negative_scores=[0.25, -1, math.nan],
    )
    found = source(made, negatives=2)
    batch = batch_of(found)
    by_pair = dict(zip(pairs(batch, "positives", [made]), batch.links["positive_scores"].tolist(), strict=True))
    assert by_pair == {("a", "t"): 0.5, ("b", "u"): 1.5}
    negatives = dict(zip(pairs(batch, "negatives", [made]), batch.links["negative_scores"].tolist(), strict=True))
    assert {pair: value for pair, value in negatives.items() if pair[0] == "a"} == {("a", "v"): 0.25, ("a", "w"): -1}
    assert math.isnan(negatives["b", "w"])
    assert batch.links["negative_scores"].dtype == torch.float32
    assert found.has_scores == {"positives": True, "negatives": False}
    turned = source(made, anchor="document", negatives=2)
    batch = batch_of(turned)
    assert dict(zip(pairs(batch, "positives", [made]), batch.links["positive_scores"].tolist(), strict=True)) == by_pair
    assert "positive_scores" not in batch_of(source(COLOURS)).links
    assert source(COLOURS).has_scores == {"positives": False, "negatives": False}


def test_what_the_data_cannot_give_is_said():
    assert source(COLOURS, negatives=3, positives=2).notes == [
        "2 of 3 anchors have fewer than 3 explicit negatives: all are taken."
    ]
    assert source(COLOURS, positives=None).notes == []


def test_a_collection_without_positives_is_refused():
    with pytest.raises(DataError, match=r"made has nothing to train on: none of its 1 queries.* grade 1"):
        source(collection(["a"], ["b"], [(0, 0, 0)]))
    with pytest.raises(DataError, match="grade 4"):
        source(COLOURS, min_grade=4)
    for wrong in ({"positives": 0}, {"negatives": -1}, {"min_grade": 0}):
        with pytest.raises(ValueError, match="at least"):
            source(COLOURS, **wrong)


def test_sets_for_different_encoders_are_refused():
    other = Letters()
    other.padding = 9
    with pytest.raises(UsageError, match="padding token"):
        TrainingSource([training_set(COLOURS), training_set(COLOURS, other)])


def test_lengths_are_those_of_anchor_and_longest_positive():
    found = source(COLOURS)
    found.texts["query"].tokenised[0]._lengths = np.array([5, 6, 7])
    found.texts["document"].tokenised[0]._lengths = np.array([6, 5, 6, 5, 7, 7])
    assert found.lengths.tolist() == [5 + 7, 6 + 5, 7 + 7]


def test_contents_name_the_texts_that_no_duplicates_keeps_apart():
    made = collection(["x", "x", "y", "rose"], ["rose", "sky", "rose"], [(0, 0, 1), (1, 1, 1), (2, 2, 1), (3, 1, 1)])
    found = source(made)
    rows = [set(found.contents.row(i).tolist()) for i in range(4)]
    shared = {(i, j) for i in range(4) for j in range(i) if rows[i] & rows[j]}
    assert shared == {(1, 0), (2, 0), (3, 1)}, "a query is no copy of a document"
    assert [len(row) for row in rows] == [2, 2, 2, 2]


WORDS = [f"word {i % 17}" for i in range(40)]
MANY = collection(
    [f"query {i}" for i in range(30)],
    WORDS,
    [(i, (i * 7 + j) % 40, 1) for i in range(30) for j in range(3)],
    [(i, (i * 7 + 3 + j) % 40) for i in range(30) for j in range(5)],
)


def _same(first: RetrievalBatch, second: RetrievalBatch) -> None:
    assert first.ids == second.ids
    assert first.links.keys() == second.links.keys()
    for name, link in first.links.items():
        assert torch.equal(link, second.links[name]), name
    for name, side in first.sides.items():
        assert torch.equal(side["tokens"], second.sides[name]["tokens"])
        assert torch.equal(side["lengths"], second.sides[name]["lengths"])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers):
    found = source(MANY, positives=2, negatives=3)
    mixture = Mixture.of(found.counts)
    arranged = NoDuplicates(mixture, found.contents)
    order = Order(sum(arranged.groups), 8, 11, accumulation=2, arrangement=arranged)
    data = Updates(found, found.collate, order, 11)
    alone = list(updates(data, 1, 5))
    assert sorted(name for found in list(updates(data, 0, 2)) for batch in found for name in batch.ids) == sorted(
        f"q{i}" for i in range(30)
    ), "an epoch has every anchor once"
    together = list(updates(data, 1, 5, workers))
    assert [len(batches) for batches in together] == [len(batches) for batches in alone]
    for one, other in zip(alone, together, strict=True):
        for first, second in zip(one, other, strict=True):
            _same(first, second)


def test_an_epoch_draws_anew():
    found = source(MANY, negatives=2)
    order = Order(len(found), 30, 11)
    data = Updates(found, found.collate, order, 11)
    first, second = (data[epoch][0] for epoch in range(2))
    assert sorted(first.ids) == sorted(second.ids)
    assert set(pairs(first, "positives", [MANY])) != set(pairs(second, "positives", [MANY]))
    assert set(pairs(first, "negatives", [MANY])) != set(pairs(second, "negatives", [MANY]))


@pytest.mark.skipif("QUINCUNX_DATA" not in os.environ, reason="QUINCUNX_DATA names no data folder")
def test_scifact_whole_as_one_batch():
    scifact = load_collection(Path(os.environ["QUINCUNX_DATA"]) / "scifact", split="train")
    found = source(scifact, positives=None)
    batch = batch_of(found)
    relevant = scifact.relevant.pairs[scifact.relevant.grades > 0]
    assert len(batch) == len(np.unique(relevant[:, 0]))
    assert sorted(pairs(batch, "known", [scifact])) == sorted(pairs(batch, "positives", [scifact]))
    texts = {(scifact.queries.text(q), scifact.documents.text(d)) for q, d in relevant.tolist()}
    assert set(pairs(batch, "positives", [scifact])) == texts
