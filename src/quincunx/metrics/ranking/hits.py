"""The relevant documents that were found, with the ties they stand in: all that any measure of a ranking needs.

Most of a ranking is not relevant, so what is kept grows with the relevant documents, not with the hits. E relevant
documents found, R relevant documents in all, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """What Q rankings hold of the relevant documents; those of a query stand together, in order of the queries."""

    query: Integers
    """Query of each relevant document found [E]."""
    grade: Integers
    """Its grade, 1 or more [E]."""
    start: Integers
    """How many documents of the ranking have a higher score [E]."""
    size: Integers
    """How many have this very score, itself included [E]."""
    place: Integers
    """How many of those come before it when they are ordered by id, the last id first [E]; zeros where nobody asked."""
    retrieved: Integers
    """Length of each ranking [Q]."""
    relevant: Integers
    """Relevant documents of each query, found or not [Q]."""
    ideal_query: Integers
    """Query of each relevant document, found or not [R]."""
    ideal_grade: Integers
    """Its grade [R]."""


def from_dictionaries(
    names: Sequence[str], qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]], by_id: bool
) -> Hits:
    """Return the hits of the queries named; one that the run lacks has an empty ranking.

    Arguments: `qrels` {query: {document: grade}}, `run` {query: {document: score}}; `by_id`: also order ties by id.
    Scores are compared as float32, as trec_eval does. DataError for ids that are no strings, grades that are no whole
    numbers, and scores that are no finite numbers.
    """
    rows: list[tuple[int, int, int, int, int]] = []
    ideal: list[tuple[int, int]] = []
    retrieved, relevant = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    for number, name in enumerate(names):
        wanted = {document: grade for document, grade in _grades(name, qrels[name]).items() if grade > 0}
        ranking = run.get(name, {})
        scores = _scores(name, ranking)
        retrieved[number], relevant[number] = len(ranking), len(wanted)
        ideal += [(number, grade) for grade in wanted.values()]
        found = [document for document in wanted if document in ranking]
        if found:
            places = _places(list(ranking), scores, found, by_id)
            rows += [(number, wanted[document], *place) for document, place in zip(found, places, strict=True)]
    query, grade, start, size, place = np.array(rows, np.int64).reshape(-1, 5).T
    ideal_query, ideal_grade = np.array(ideal, np.int64).reshape(-1, 2).T
    return Hits(query, grade, start, size, place, retrieved, relevant, ideal_query, ideal_grade)


def _places(
    documents: list[str], scores: NDArray[np.float32], found: list[str], by_id: bool
) -> list[tuple[int, int, int]]:
    """Return (start, size, place) of each document found."""
    at = {document: number for number, document in enumerate(documents)}
    mine = scores[[at[document] for document in found]]
    ordered = np.sort(scores)
    above = len(scores) - np.searchsorted(ordered, mine, "right")
    tied = len(scores) - np.searchsorted(ordered, mine, "left") - above
    places = dict.fromkeys(found, 0)
    if by_id:
        for score in np.unique(mine[tied > 1]):
            # code points order as UTF-8's bytes do, so this is the order of trec_eval's strcmp
            group = sorted((documents[number] for number in np.flatnonzero(scores == score)), reverse=True)
            places.update((document, place) for place, document in enumerate(group) if document in places)
    return [
        (start, size, places[document])
        for document, start, size in zip(found, above.tolist(), tied.tolist(), strict=True)
    ]


def _grades(name: str, judged: Mapping[str, int]) -> dict[str, int]:
    check_ids(f"qrels, query {name}", judged)
    try:
        return {document: index(grade) for document, grade in judged.items()}
    except TypeError as error:
        raise DataError(f"qrels, query {name}: grades are whole numbers: {error}") from error


def _scores(name: str, ranking: Mapping[str, float]) -> NDArray[np.float32]:
    check_ids(f"run, query {name}", ranking)
    try:
        scores = np.fromiter(ranking.values(), np.float64, len(ranking))
    except (TypeError, ValueError) as error:
        raise DataError(f"run, query {name}: scores are numbers: {error}") from error
    if not np.isfinite(scores).all():
        number = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise DataError(
            f"run, query {name}, document {list(ranking)[number]}: the score is {scores[number]}, "
            "expected a finite number"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite: above, or below, all that it can
        return scores.astype(np.float32)


def check_ids(where: str, ids: Iterable[object]) -> None:
    """Raise DataError unless all ids are strings: 7 and "7" would never meet."""
    for kind in {type(one) for one in ids}:
        if not issubclass(kind, str):
            raise DataError(f"{where}: an id is of type {kind.__name__}, expected strings only")
