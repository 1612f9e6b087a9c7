"""A run measured against judgements: from dictionaries, or from a search's arrays; the same measures and ties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from quincunx.errors import DataError, UsageError
from quincunx.metrics.ranking.arrays import Found, Judgements
from quincunx.metrics.ranking.hits import check_ids, from_dictionaries
from quincunx.metrics.ranking.measures import DEFAULT, Wanted, parse_measures
from quincunx.metrics.ranking.ties import Numbers, check_ties, settle

AT_ONCE = 1000
"""Queries of dictionaries that are measured together."""


@dataclass(frozen=True)
class Scores:
    """Measures of a run: one value a query, and their summary."""

    wanted: Sequence[Wanted]
    names: Sequence[str]
    """Ids of the queries that count, n of them."""
    values: Numbers
    """[n, measures]; NaN where a measure has no value for a query."""

    @cached_property
    def mean(self) -> dict[str, float]:
        """Measure -> its mean over the queries that have a value, NaN when none has; for the `num_*` their sum.

        Added in the order of the queries, one by one, as trec_eval adds them.
        """
        summary: dict[str, float] = {}
        for one, column in zip(self.wanted, self.values.T, strict=True):
            defined = column[~np.isnan(column)]
            total = float(np.cumsum(defined)[-1]) if len(defined) else 0.0
            if one.measure.summed:
                summary[one.name] = total
            else:
                summary[one.name] = total / len(defined) if len(defined) else float("nan")
        return summary

    @cached_property
    def queries(self) -> dict[str, dict[str, float]]:
        """Query -> measure -> value."""
        columns = [one.name for one in self.wanted]
        return {
            name: dict(zip(columns, row, strict=True))
            for name, row in zip(self.names, self.values.tolist(), strict=True)
        }

    def of(self, measure: str) -> Numbers:
        """Return one measure's values in order of `names` [n]; UsageError when it was not asked for."""
        for number, one in enumerate(self.wanted):
            if one.name == measure:
                return self.values[:, number]
        raise UsageError(f"{measure} was not measured; there are: {', '.join(one.name for one in self.wanted)}")


def score(
    qrels: Mapping[str, Mapping[str, int]],
    run: Mapping[str, Mapping[str, float]],
    measures: str | Iterable[str] = DEFAULT,
    ties: str = "trec",
    intersection: bool = False,
) -> Scores:
    """Return the measures of a run, query by query, with their means.

    Documents are ranked by score, compared as float32. Those with a grade above 0 are relevant; others, judged or not,
    are not. A judged query that the run lacks counts 0, as one without relevant documents does; queries that nobody
    judged are left out. `score(qrels, run, ["map"])` gives what `trec_eval -c -m map` gives.

    Args:
        qrels: {query: {document: grade}}.
        run: {query: {document: score}}.
        measures: Names such as `map`, `ndcg_cut_10`, `recall_100`: one string with commas, or several.
        ties: What becomes of equal scores: `trec` (by id, the last id first), `expected` (the mean over all their
            orders), `optimistic` or `pessimistic` (the most relevant first, or last).
        intersection: Count only judged queries that the run has, as trec_eval does without `-c`.

    Raises:
        UsageError: An unknown measure, an unknown way to treat ties.
        DataError: Ids that are no strings, grades that are no whole numbers, scores that are not finite; no query left.
    """
    wanted = parse_measures(measures)
    check_ties(ties)
    check_ids("qrels", qrels)
    check_ids("run", run)
    names = sorted(name for name, judged in qrels.items() if judged and (run.get(name) or not intersection))
    if not names:
        raise DataError(_nothing_left(intersection))
    blocks: list[Numbers] = []
    for low in range(0, len(names), AT_ONCE):
        hits = from_dictionaries(names[low : low + AT_ONCE], qrels, run, ties == "trec")
        ranking = settle(hits, ties)
        blocks.append(np.stack([one.values(ranking) for one in wanted], axis=1))
    return Scores(wanted, names, np.concatenate(blocks))


def score_arrays(
    found: ArrayLike,
    scores: ArrayLike,
    relevant: Judgements,
    measures: str | Iterable[str] = DEFAULT,
    *,
    order: ArrayLike | None = None,
    ties: str = "trec",
    intersection: bool = False,
    names: Sequence[str] | None = None,
) -> Scores:
    """Return what `score` returns, from the arrays of a search.

    Args:
        found: Documents by number [Q, K], -1 for none, in any order.
        scores: Their scores [Q, K], compared as float32; what stands beside a -1 is not looked at.
        relevant: Judged documents of the Q queries, as `Judged`.
        measures: As in `score`.
        order: Place of each document by id, see `id_order` [N]; needed for `ties="trec"`.
        ties: As in `score`.
        intersection: Leave out queries that found nothing.
        names: Ids of the queries [Q]; None: their numbers.

    Raises:
        UsageError: Shapes that do not fit, an unknown measure, ties by id without `order`.
        DataError: A score that is not finite, a document found or judged twice for a query; no query left.
    """
    wanted = parse_measures(measures)
    check_ties(ties)
    result = Found.checked(found, scores, relevant, order, ties == "trec")
    if names is not None and len(names) != len(result.found):
        raise UsageError(f"{len(names)} query ids for the hits of {len(result.found)} queries")
    counted = np.diff(result.offsets) > 0
    blocks: list[Numbers] = []
    for hits in result.blocks():
        ranking = settle(hits, ties)
        values = np.stack([one.values(ranking) for one in wanted], axis=1)
        low = sum(map(len, blocks))
        if intersection:
            counted[low : low + len(values)] &= ranking.retrieved > 0
        blocks.append(values)
    rows = np.flatnonzero(counted).tolist()
    if not rows:
        raise DataError(_nothing_left(intersection))
    return Scores(wanted, [str(row) if names is None else names[row] for row in rows], np.concatenate(blocks)[rows])


def _nothing_left(intersection: bool) -> str:
    if intersection:
        return "no query is both judged and in the run: do the query ids of the two match?"
    return "no query is judged: nothing to score against"
