"""Measures from dictionaries: equal to pytrec_eval digit by digit, to every order of ties, and defined at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.metrics.ranking import DEFAULT, MEASURES, TIES, parse_measures, score
from reference import ranking as reference

SHARED = [
    "num_q", "num_ret", "num_rel", "num_rel_ret", "map", "map_cut_1", "map_cut_3", "recip_rank", "Rprec", "P_1", "P_5",
    "P_30", "recall_1", "recall_4", "success_1", "success_3", "ndcg", "ndcg_cut_1", "ndcg_cut_4", "ndcg_cut_100",
    "set_P", "set_recall", "set_F", "set_map",
]  # fmt: skip
"""Those that trec_eval has too."""
OURS = ["map_at_R", "recip_rank_cut_2", "recip_rank_cut_50", "first_rank"]

DOCUMENTS = ["1", "10", "007", "7", "A", "a", "é", "中", "\uffee", "😀", "d\u00a0x", "#d"]
QUERIES = ["1", "007", "q"]
NEAR = [0.0, -0.0, 1.0, 1.0 + 1e-9, 16777216.0, 16777217.0, -2.5, 1e300, 2e300]
"""Scores of which some are equal as float32 only."""


def judgements(least: int = 0) -> st.SearchStrategy[dict[str, dict[str, int]]]:
    # trec_eval itself fails on a query whose every grade is negative
    grades = st.sampled_from([-2, -1, 0, 1, 1, 2, 3])
    judged = st.dictionaries(st.sampled_from(DOCUMENTS), grades, min_size=1)
    return st.dictionaries(st.sampled_from(QUERIES), judged.map(lambda some: {"judged": least, **some}), min_size=1)


def runs() -> st.SearchStrategy[dict[str, dict[str, float]]]:
    scores = st.sampled_from(NEAR) | st.floats(-1, 1, width=32)
    ranking = st.dictionaries(st.sampled_from([*DOCUMENTS, "judged"]), scores, min_size=1)
    return st.dictionaries(st.sampled_from([*QUERIES, "nobody judged this"]), ranking)


def tied_rankings() -> st.SearchStrategy[dict[str, float]]:
    scores = st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-9])
    return st.dictionaries(st.sampled_from(DOCUMENTS[:5]), scores, min_size=1)


@settings(max_examples=120, deadline=None)
@given(judgements(), runs())
def test_every_digit_is_trec_evals(qrels, run):
    trec_eval = pytest.importorskip("pytrec_eval")
    theirs = trec_eval.RelevanceEvaluator(qrels, SHARED).evaluate(run)
    found = score(qrels, run, SHARED)
    assert list(found.queries) == sorted(qrels)
    for query, values in found.queries.items():
        absent = dict.fromkeys(SHARED, 0.0) | {"num_q": 1.0, "num_rel": values["num_rel"]}
        assert values == theirs.get(query, absent)
    for name in SHARED:
        total = 0.0
        for query in sorted(qrels):
            total += found.queries[query][name]
        assert found.mean[name] == (total if name.startswith("num_") else total / len(qrels))
    if theirs:
        both = score(qrels, run, SHARED, intersection=True)
        assert both.queries == {query: theirs[query] for query in sorted(theirs)}
        assert both.mean["num_q"] == len(theirs)
        assert both.mean["map"] == pytest.approx(sum(v["map"] for v in theirs.values()) / len(theirs), abs=1e-15)


@pytest.mark.parametrize("ties", sorted(TIES))
@settings(max_examples=25, deadline=None)
@given(qrels=judgements(), run=st.dictionaries(st.sampled_from(QUERIES), tied_rankings()))
def test_ties_are_those_of_all_orders_enumerated(ties, qrels, run):
    agrees_with_the_reference(qrels, run, ties)


@pytest.mark.parametrize("ties", sorted(TIES))
def test_two_ties_with_several_relevant_documents_each(ties):
    qrels = {"q": {"e": 2, "a": 1, "c": 0, "g": 1, "b": 3, "f": 1, "never found": 2}}
    run = {"q": {"a": 2.0, "b": 2.0, "c": 2.0, "d": 1.0, "e": 1.0, "f": 1.0, "g": 1.0, "h": 1.0, "i": 0.0}}
    agrees_with_the_reference(qrels, run, ties)


def agrees_with_the_reference(qrels, run, ties):
    names = [*SHARED, *OURS]
    found = score(qrels, run, names, ties=ties)
    for query, values in found.queries.items():
        expected = {name: reference.value(name, run.get(query, {}), qrels[query], ties) for name in names}
        assert values == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_constant_scorer_is_worth_what_chance_is_worth():
    qrels = {"q": {"d3": 1}}
    run = {"q": {f"d{number}": 1.0 for number in range(5)}}
    by_ties = {ties: score(qrels, run, "recip_rank,P_1,first_rank", ties=ties).queries["q"] for ties in TIES}
    assert by_ties["expected"] == pytest.approx(
        {"recip_rank": (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5, "P_1": 0.2, "first_rank": 3.0}
    )
    assert by_ties["optimistic"] == {"recip_rank": 1.0, "P_1": 1.0, "first_rank": 1.0}
    assert by_ties["pessimistic"] == {"recip_rank": 0.2, "P_1": 0.0, "first_rank": 5.0}
    assert by_ties["trec"] == {"recip_rank": 0.5, "P_1": 0.0, "first_rank": 2.0}  # d4 comes before d3


def test_large_ties_neither_overflow_nor_lose_mass():
    documents = {f"d{number}": 0.0 for number in range(3000)}
    qrels = {"q": {f"d{number}": 1 for number in range(0, 3000, 2)}}
    names = "success_1000,P_1000,first_rank,map"
    found = score(qrels, {"q": documents}, names, ties="expected").queries["q"]
    assert found["success_1000"] == pytest.approx(1.0, abs=1e-12)
    assert found["P_1000"] == pytest.approx(0.5, abs=1e-12)
    assert found["first_rank"] == pytest.approx(3001 / 1501, abs=1e-9)
    expected = sum((1 + (rank - 1) * 1499 / 2999) / rank for rank in range(1, 3001)) / 3000
    assert found["map"] == pytest.approx(expected, abs=1e-12)


def test_graded_ndcg_by_hand():
    qrels = {"q": {"a": 3, "b": 1, "c": 2, "d": 0, "e": -1}}
    run = {"q": {"d": 9.0, "a": 8.0, "x": 7.0, "b": 6.0, "e": 5.0}}
    gain = 3 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert score(qrels, run, "ndcg").mean["ndcg"] == pytest.approx(gain / ideal)
    assert score(qrels, run, "ndcg_cut_2").mean["ndcg_cut_2"] == pytest.approx(
        3 / math.log2(3) / (3 + 2 / math.log2(3))
    )
    assert score(qrels, run, "ndcg_cut_7").mean["ndcg_cut_7"] == pytest.approx(gain / ideal)


def test_queries_that_the_run_lacks_count_nothing_unless_asked_otherwise():
    qrels = {"a": {"d": 1}, "b": {"d": 1}, "c": {"d": 1, "e": 1}}
    run = {"a": {"d": 1.0}, "b": {}, "z": {"d": 1.0}}
    names = "map,P_1,num_q,num_ret,num_rel,num_rel_ret,first_rank"
    found = score(qrels, run, names)
    assert found.mean == {
        "map": 1 / 3, "P_1": 1 / 3, "num_q": 3, "num_ret": 1, "num_rel": 4, "num_rel_ret": 1, "first_rank": 1
    }  # fmt: skip
    assert math.isnan(found.queries["c"]["first_rank"])
    both = score(qrels, run, names, intersection=True)
    assert both.names == ["a"]
    assert both.mean["map"] == both.mean["num_q"] == both.mean["num_rel"] == 1
    nothing = score(qrels, {}, "map,first_rank")
    assert nothing.mean["map"] == 0 and math.isnan(nothing.mean["first_rank"])
    with pytest.raises(DataError, match="do the query ids of the two match"):
        score(qrels, {"A": {"d": 1.0}}, intersection=True)
    with pytest.raises(DataError, match="no query is judged"):
        score({"a": {}}, run)


def test_queries_without_relevant_documents_count_nothing_but_count():
    qrels = {"a": {"d": 1}, "none": {"d": 0}, "negative": {"d": -3}}
    run = {query: {"d": 1.0, "e": 0.5} for query in qrels}
    found = score(qrels, run, [*SHARED, *OURS])
    assert found.mean["num_q"] == 3
    assert found.mean["ndcg"] == found.mean["recip_rank"] == found.mean["P_1"] == 1 / 3
    assert found.mean["first_rank"] == 1
    assert found.queries["negative"] == pytest.approx(found.queries["none"], nan_ok=True)


def test_a_query_without_judgements_is_not_a_judged_query():
    assert score({"a": {"d": 1}, "b": {}}, {"b": {"d": 1.0}}, "num_q").mean["num_q"] == 1


def test_ids_are_strings_and_nothing_but_their_bytes():
    qrels = {"007": {"7": 1}, "7": {"007": 1}, "\u00b2": {"2": 1}}
    run = {"007": {"007": 2.0, "7": 1.0}, "7": {"007": 1.0}}
    assert score(qrels, run, "recip_rank").queries == {
        "007": {"recip_rank": 0.5}, "7": {"recip_rank": 1.0}, "\u00b2": {"recip_rank": 0.0}
    }  # fmt: skip
    large = {"q": {str(2**24 + number): float(2 - number) for number in range(2)}}
    assert score({"q": {str(2**24 + 1): 1}}, large, "P_1").mean["P_1"] == 0.0


@pytest.mark.parametrize(
    ("qrels", "run", "said"),
    [
        ({1: {"d": 1}}, {}, "qrels: an id is of type int"),
        ({"q": {"d": 1}}, {7: {"d": 1.0}}, "run: an id is of type int"),
        ({"q": {3: 1}}, {}, "qrels, query q: an id is of type int"),
        ({"q": {"d": 1}}, {"q": {3: 1.0}}, "run, query q: an id is of type int"),
        ({"q": {"d": 0.5}}, {}, "qrels, query q: grades are whole numbers"),
        ({"q": {"d": 1}}, {"q": {"a": 1.0, "d": math.nan}}, "run, query q, document d: the score is nan"),
        ({"q": {"d": 1}}, {"q": {"d": -math.inf}}, "document d: the score is -inf"),
        ({"q": {"d": 1}}, {"q": {"d": "high"}}, "run, query q: scores are numbers"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(qrels, run, said):
    with pytest.raises(DataError, match=said):
        score(qrels, run)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ndcg@10", "ndcg_cut_10"), ("ndcg_10", "ndcg_cut_10"), ("NDCG_cut_10", "ndcg_cut_10"), ("mrr", "recip_rank"),
        ("MRR@10", "recip_rank_cut_10"), ("p@5", "P_5"), ("P.5", "P_5"), ("R@100", "recall_100"), ("MAP@R", "map_at_R"),
        ("precision@1", "P_1"), ("map@100", "map_cut_100"), ("hits@3", "success_3"), ("avg_rank_first", "first_rank"),
        ("rprec", "Rprec"), ("P_05", "P_5"), ("map_10", "map_cut_10"), ("recip_rnk", "recip_rank"),
        ("recal_3", "recall_3"),
    ],
)  # fmt: skip
def test_unknown_measures_are_refused_with_the_nearest(name, near):
    with pytest.raises(UsageError, match="unknown measure") as caught:
        score({"q": {"d": 1}}, {}, ["map", name])
    assert f"did you mean {near}?" in str(caught.value)
    assert "ndcg_cut_k" in str(caught.value)
    assert parse_measures(near)[0].name == near  # what is suggested is accepted


@pytest.mark.parametrize("name", ["bpref", "infAP", "P_0", "P_-1", "", "ndcg_cut_", "num_q_3", "map_10.5"])
def test_other_names_are_refused(name):
    with pytest.raises(UsageError, match=r"There are: num_q, .*ndcg_cut_k"):
        parse_measures([name])


def test_names_stand_for_what_trec_eval_has_them_stand_for():
    names = [one.name for one in parse_measures("success, P_7,success_5")]
    assert names == ["success_1", "success_5", "success_10", "P_7"]
    assert [one.name for one in parse_measures(["ndcg_cut"])][-1] == "ndcg_cut_1000"
    assert [one.name for one in parse_measures(DEFAULT)] == list(DEFAULT)
    assert all(measure.says for measure in MEASURES.values())
    with pytest.raises(UsageError, match="no measures are asked for"):
        parse_measures([])


def test_an_unknown_way_to_treat_ties_is_refused():
    with pytest.raises(UsageError, match=r"found 'best'.*optimistic: the most relevant first"):
        score({"q": {"d": 1}}, {}, ties="best")


def test_values_of_one_measure_stand_in_order_of_the_queries():
    found = score({"b": {"d": 1}, "a": {"d": 1, "e": 1}}, {"a": {"d": 1.0}, "b": {"d": 1.0}}, "num_rel,recall_1")
    np.testing.assert_array_equal(found.of("recall_1"), [0.5, 1.0])
    with pytest.raises(UsageError, match="map was not measured; there are: num_rel, recall_1"):
        found.of("map")


def test_many_queries_are_those_one_by_one():
    qrels = {str(number): {"d": 1, "e": number % 3} for number in range(1203)}
    run = {str(number): {"x": 1.0, "d": number % 2, "e": 0.5} for number in range(1203)}
    found = score(qrels, run, [*SHARED, *OURS], ties="expected")
    for query in ("0", "999", "1000", "1001", "1202"):
        alone = score({query: qrels[query]}, run, [*SHARED, *OURS], ties="expected")
        assert found.queries[query] == alone.queries[query]
    total = 0.0
    for value in found.of("ndcg").tolist():  # one by one, as trec_eval adds; in another order the last digits differ
        total += value
    assert found.mean["ndcg"] == total / 1203 != found.of("ndcg").mean()
