"""How long it takes to measure a search: 1,000 queries of 1,000 hits, from its arrays, beside pytrec_eval.

Each starts from what it needs and has it ready: ours the arrays that a search returns, the judgements as arrays and the
order of the ids; pytrec_eval its dictionaries and its evaluator. Each ends with every query's values and the means. The
figures must be equal to 1e-9, query by query; with equal scores both order by id. One thread.

    python benchmarks/ranking_metrics.py [--rounds 15] [--documents 100000]

"dictionaries" is our `score` on the dictionaries of pytrec_eval; "theirs with dictionaries" makes those from the arrays
first, which is what anybody pays who has searched with arrays.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytrec_eval
from measure import Seconds, Watch, alternate, machine, ratios, spread, table
from numpy.typing import NDArray

from quincunx.metrics.ranking import Judged, Scores, id_order, score, score_arrays

QUERIES, HITS, BAR = 1000, 1000, 5.0
MEASURES = ["ndcg_cut_10", "ndcg", "map", "recip_rank", "P_5", "recall_100", "Rprec"]

Means = dict[str, float]
Queries = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Case:
    """One search with its judgements, in both forms."""

    name: str
    found: NDArray[np.int64]
    scores: NDArray[np.float32]
    judged: Judged
    order: NDArray[np.int64]
    ids: list[str]
    names: list[str]
    qrels: dict[str, dict[str, int]]
    run: dict[str, dict[str, float]]


def make(name: str, documents: int, judged: int, levels: int | None, seed: int) -> Case:
    """Return a search that finds half of the documents judged for a query; `levels`: different scores, None: all."""
    generator = np.random.default_rng(seed)
    found = np.stack([generator.choice(documents, HITS, replace=False) for _ in range(QUERIES)])
    scores = generator.random((QUERIES, HITS), dtype=np.float32)
    if levels is not None:
        scores = np.floor(scores * levels) / np.float32(levels)
    scores = -np.sort(-scores, axis=1)
    if levels is None:  # no two alike
        scores = np.nextafter(scores, np.float32(0)) - np.arange(HITS, dtype=np.float32) * np.float32(1e-4)
        assert (np.diff(scores, axis=1) < 0).all()
    seen = [generator.choice(row, (judged + 1) // 2, replace=False) for row in found]
    rows = [np.unique(np.concatenate([some, generator.choice(documents, judged // 2)])) for some in seen]
    grades = [generator.integers(0, 4, len(row)) for row in rows]
    ids = [f"document-{number}" for number in generator.permutation(documents)]
    names = [f"query-{number:04d}" for number in range(QUERIES)]
    return Case(
        name,
        found,
        scores,
        Judged(np.cumsum([0, *map(len, rows)]), np.concatenate(rows), np.concatenate(grades)),
        id_order(ids),
        ids,
        names,
        {
            q: dict(zip([ids[d] for d in row], level.tolist(), strict=True))
            for q, row, level in zip(names, rows, grades, strict=True)
        },
        dictionaries(found, scores, ids, names),
    )


def dictionaries(
    found: NDArray[np.int64], scores: NDArray[np.float32], ids: list[str], names: list[str]
) -> dict[str, dict[str, float]]:
    """Return a search as pytrec_eval needs it."""
    return {
        name: dict(zip([ids[document] for document in row], values, strict=True))
        for name, row, values in zip(names, found.tolist(), scores.tolist(), strict=True)
    }


def contest(case: Case, rounds: int) -> list[list[object]]:
    """Return the table's rows of one case; SystemExit when the figures differ."""
    evaluator = pytrec_eval.RelevanceEvaluator(case.qrels, MEASURES)

    def means(queries: Queries) -> Means:
        return {name: float(np.mean([values[name] for values in queries.values()])) for name in MEASURES}

    def ours() -> Scores:
        found = score_arrays(case.found, case.scores, case.judged, MEASURES, order=case.order, names=case.names)
        assert found.mean and found.queries
        return found

    def ours_from_dictionaries() -> Scores:
        found = score(case.qrels, case.run, MEASURES)
        assert found.mean and found.queries
        return found

    def theirs() -> tuple[Means, Queries]:
        queries = evaluator.evaluate(case.run)
        return means(queries), queries

    def theirs_with_dictionaries() -> tuple[Means, Queries]:
        queries = evaluator.evaluate(dictionaries(case.found, case.scores, case.ids, case.names))
        return means(queries), queries

    expected, queries = theirs()
    worst = 0.0
    for found in (ours(), ours_from_dictionaries()):
        assert list(found.queries) == sorted(queries)
        worst = max(
            worst,
            *(abs(found.mean[name] - expected[name]) for name in MEASURES),
            *(abs(found.queries[q][name] - values[name]) for q, values in queries.items() for name in MEASURES),
        )
    if worst > 1e-9:
        raise SystemExit(f"{case.name}: the figures differ by {worst}")

    def timed(work: Callable[[], object]) -> Callable[[], Seconds]:
        def measured() -> Seconds:
            watch = Watch()
            work()
            return watch.read()

        return measured

    contestants = {
        "ours, from arrays": ours,
        "pytrec_eval": theirs,
        "ours, from dictionaries": ours_from_dictionaries,
        "pytrec_eval, dictionaries made from the arrays": theirs_with_dictionaries,
    }
    found = alternate({name: timed(work) for name, work in contestants.items()}, rounds)
    base = [each.wall for each in found["ours, from arrays"]]
    rows: list[list[object]] = []
    for name, took in found.items():
        walls = [each.wall for each in took]
        ratio = "" if walls == base else f"{ratios(walls, base):.1f}"
        rows.append([case.name, name, f"{spread([1e3 * wall for wall in walls]):.0f}", ratio, f"{worst:.0e}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--documents", type=int, default=100_000)
    chosen = parser.parse_args()
    cases = [
        make("20 judged a query, no ties", chosen.documents, 20, None, 1),
        make("2 judged a query, no ties", chosen.documents, 2, None, 2),
        make("200 judged a query, no ties", chosen.documents, 200, None, 3),
        make("20 judged a query, 100 different scores", chosen.documents, 20, 100, 4),
    ]
    rows = [row for case in cases for row in contest(case, chosen.rounds)]
    print(f"{machine(1)}; {QUERIES} queries, {HITS} hits, {len(MEASURES)} measures, {chosen.rounds} rounds in turn\n")
    print(table(["case", "contestant", "ms", "over ours from arrays", "largest difference"], rows))
    print(f"\nThe bar: pytrec_eval over ours from arrays at least {BAR:g} without ties.")


if __name__ == "__main__":
    main()
