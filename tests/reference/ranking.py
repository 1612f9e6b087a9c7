"""Measures of rankings as a textbook has them: one list of grades at a time, ties by trying every order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import groupby, permutations, product

import numpy as np


def single(score: float) -> float:
    """Return a score as float32 has it; what that cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return float(np.float32(score))


def orders(ranking: Mapping[str, float]) -> Iterator[list[str]]:
    """Yield every order of the documents in which none stands before one of higher score; all equally likely."""
    score = {document: single(value) for document, value in ranking.items()}
    groups = [list(tied) for _, tied in groupby(sorted(ranking, key=lambda d: -score[d]), key=score.__getitem__)]
    for parts in product(*(permutations(group) for group in groups)):
        yield [document for part in parts for document in part]


def trec_order(ranking: Mapping[str, float]) -> list[str]:
    """Return the order of trec_eval: by score as float32, then by the bytes of the id, both falling."""
    return sorted(ranking, key=lambda d: (single(ranking[d]), d.encode("utf-8")), reverse=True)


def measure(name: str, ranked: list[str], judged: Mapping[str, int]) -> float:
    """Return one measure of one ranking; NaN for a first rank that is not there."""
    grades = [max(judged.get(document, 0), 0) for document in ranked]
    ideal = sorted((grade for grade in judged.values() if grade > 0), reverse=True)
    head, _, tail = name.rpartition("_")
    family, cut = (head, int(tail)) if tail.isdigit() else (name, max(len(grades), len(ideal)))
    top, relevant = grades[:cut], len(ideal)
    ranks = [rank for rank, grade in enumerate(top, 1) if grade]
    found = sum(map(bool, grades))
    values = {
        "ndcg": (dcg(top), dcg(ideal[:cut])),
        "map": (sum_of_precisions(top), relevant),
        "map_at_R": (sum_of_precisions(grades[:relevant]), relevant),
        "recip_rank": (1, min(ranks, default=0)),
        "first_rank": (ranks[0] if ranks else math.nan, 1),
        "P": (len(ranks), cut),
        "recall": (len(ranks), relevant),
        "success": (bool(ranks), 1),
        "Rprec": (sum(map(bool, grades[:relevant])), relevant),
        "set_P": (found, len(grades)),
        "set_recall": (found, relevant),
        "set_F": (2 * found, len(grades) + relevant),
        "set_map": (found * found, len(grades) * relevant),
        "num_q": (1, 1),
        "num_ret": (len(grades), 1),
        "num_rel": (relevant, 1),
        "num_rel_ret": (found, 1),
    }
    part, whole = values[family.removesuffix("_cut")]
    return part / whole if whole else 0.0


def dcg(grades: list[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def sum_of_precisions(grades: list[int]) -> float:
    return sum(sum(map(bool, grades[:rank])) / rank for rank, grade in enumerate(grades, 1) if grade)


def value(name: str, ranking: Mapping[str, float], judged: Mapping[str, int], ties: str) -> float:
    """Return one measure of one query under one treatment of ties."""
    if ties == "trec":
        return measure(name, trec_order(ranking), judged)
    values = [measure(name, order, judged) for order in orders(ranking)]
    if ties == "expected":
        return sum(values) / len(values)
    better = min if name == "first_rank" else max
    worse = max if name == "first_rank" else min
    return (better if ties == "optimistic" else worse)(values)
