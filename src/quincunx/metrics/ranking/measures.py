"""The measures of a ranking, under the names of trec_eval, as sums over the ranks at which relevant documents stand.

Sums run in the order of trec_eval's own, so that every digit agrees. Q queries. Sources: nDCG, Järvelin and Kekäläinen
(ACM TOIS 20, 2002) with gain = grade and discount log2(rank + 1); MAP@R, Musgrave, Belongie and Lim (ECCV 2020); the
others, Buckley and Voorhees in TREC: Experiment and Evaluation in Information Retrieval (2005).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quincunx.config.suggest import closest
from quincunx.errors import UsageError
from quincunx.metrics.ranking.ties import Numbers, Ranking

CUTS = (5, 10, 15, 20, 30, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Measure:
    """A measure, or a family of them that differ in how many ranks they look at."""

    values: Callable[[Ranking, int], Numbers]
    """From a ranking and a cut (0 for measures without) to one value a query [Q]."""
    says: str
    cuts: tuple[int, ...] = ()
    """Cuts that the bare name of a family stands for; empty: no family."""
    summed: bool = False
    """Summed over queries, not averaged."""


def _total(ranking: Ranking, weights: Numbers, keep: NDArray[np.bool_] | None = None) -> Numbers:
    """Return sums by query, added in order of rank [Q]."""
    query = ranking.query
    if keep is not None:
        query, weights = query[keep], weights[keep]
    return np.bincount(query, weights, len(ranking.retrieved)).astype(np.float64)


def _share(part: ArrayLike, whole: ArrayLike) -> Numbers:
    """Return part / whole, 0 where the whole is 0 [Q]."""
    over, under = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(over, under, out=np.zeros(over.shape), where=under > 0)


def _ndcg(ranking: Ranking, cut: int) -> Numbers:
    keep, best = (ranking.rank <= cut, ranking.ideal_rank <= cut) if cut else (slice(None), slice(None))
    queries = len(ranking.retrieved)
    found = np.bincount(ranking.query[keep], ranking.gain[keep] / ranking.discounts[ranking.rank[keep]], queries)
    ideal_gain = ranking.ideal_grade[best] / ranking.discounts[ranking.ideal_rank[best]]
    return _share(found, np.bincount(ranking.ideal_query[best], ideal_gain, queries))


def _map(ranking: Ranking, cut: int) -> Numbers:
    keep = ranking.rank <= cut if cut else None
    return _share(_total(ranking, ranking.chance * ranking.ahead / ranking.rank, keep), ranking.relevant)


def _map_at_r(ranking: Ranking, _: int) -> Numbers:
    keep = ranking.rank <= ranking.relevant[ranking.query]
    return _share(_total(ranking, ranking.chance * ranking.ahead / ranking.rank, keep), ranking.relevant)


def _recip_rank(ranking: Ranking, cut: int) -> Numbers:
    return _total(ranking, ranking.first / ranking.rank, ranking.rank <= cut if cut else None)


def _first_rank(ranking: Ranking, _: int) -> Numbers:
    return np.where(ranking.found > 0, _total(ranking, ranking.first * ranking.rank), np.nan)


def _success(ranking: Ranking, cut: int) -> Numbers:
    return _total(ranking, ranking.first, ranking.rank <= cut)


def _precision(ranking: Ranking, cut: int) -> Numbers:
    return _total(ranking, ranking.chance, ranking.rank <= cut) / cut


def _recall(ranking: Ranking, cut: int) -> Numbers:
    return _share(_total(ranking, ranking.chance, ranking.rank <= cut), ranking.relevant)


def _r_precision(ranking: Ranking, _: int) -> Numbers:
    keep = ranking.rank <= ranking.relevant[ranking.query]
    return _share(_total(ranking, ranking.chance, keep), ranking.relevant)


def _set_f(ranking: Ranking, _: int) -> Numbers:
    precision, recall = _share(ranking.found, ranking.retrieved), _share(ranking.found, ranking.relevant)
    return _share(2.0 * precision * recall, precision + recall)


def _set_map(ranking: Ranking, _: int) -> Numbers:
    found = ranking.found.astype(np.float64)
    return _share(found * found, ranking.retrieved.astype(np.float64) * ranking.relevant)


def _floats(numbers: NDArray[np.int64]) -> Numbers:
    return numbers.astype(np.float64)


MEASURES: dict[str, Measure] = {
    "num_q": Measure(lambda r, _: np.ones(len(r.retrieved)), "queries", summed=True),
    "num_ret": Measure(lambda r, _: _floats(r.retrieved), "documents found", summed=True),
    "num_rel": Measure(lambda r, _: _floats(r.relevant), "relevant documents", summed=True),
    "num_rel_ret": Measure(lambda r, _: _floats(r.found), "relevant documents found", summed=True),
    "map": Measure(_map, "average precision: the precision at each relevant document, averaged over all of them"),
    "map_cut": Measure(_map, "the same within the first k", CUTS),
    "map_at_R": Measure(_map_at_r, "the same within the first R, for R relevant documents"),
    "Rprec": Measure(_r_precision, "precision within the first R"),
    "recip_rank": Measure(_recip_rank, "1 / rank of the first relevant document; the mean of it is MRR"),
    "recip_rank_cut": Measure(_recip_rank, "the same, 0 when it is beyond the first k: MRR@k", CUTS),
    "first_rank": Measure(_first_rank, "rank of the first relevant document; averaged where there is one"),
    "P": Measure(_precision, "relevant share of the first k", CUTS),
    "recall": Measure(_recall, "share of the relevant documents that is among the first k", CUTS),
    "success": Measure(_success, "1 when a relevant document is among the first k", (1, 5, 10)),
    "ndcg": Measure(_ndcg, "discounted gain over that of the best possible ranking; the gain is the grade"),
    "ndcg_cut": Measure(_ndcg, "the same within the first k, of both", CUTS),
    "set_P": Measure(lambda r, _: _share(r.found, r.retrieved), "relevant share of all that was found"),
    "set_recall": Measure(lambda r, _: _share(r.found, r.relevant), "share of the relevant documents that was found"),
    "set_F": Measure(_set_f, "harmonic mean of set_P and set_recall"),
    "set_map": Measure(_set_map, "set_P times set_recall"),
}

DEFAULT = ("num_q", "num_rel", "num_rel_ret", "map", "recip_rank", "Rprec", "P_10", "ndcg_cut_10", "recall_100")

OTHER_NAMES = {
    "ap": "map", "mean_average_precision": "map", "mrr": "recip_rank", "rr": "recip_rank", "r_precision": "Rprec",
    "rprec": "Rprec", "mean_average_precision_at_r": "map_at_R", "avg_rank_first": "first_rank",
    "precision_at_1": "P_1", "precision": "P", "r": "recall", "hit": "success", "hits": "success",
    "hit_rate": "success", "accuracy": "success", "acc": "success",
}  # fmt: skip
"""What others call them: suggested, not accepted, so that a name means one thing."""


@dataclass(frozen=True)
class Wanted:
    """One column of results."""

    name: str
    measure: Measure
    cut: int

    def values(self, ranking: Ranking) -> Numbers:
        """Return one value a query [Q]; NaN where the measure has none."""
        return self.measure.values(ranking, self.cut)


def parse_measures(names: str | Iterable[str]) -> list[Wanted]:
    """Return what these names stand for, each once, in their order.

    Arguments: names such as `map` or `ndcg_cut_10`, one string with commas or several; the bare name of a family
    (`P`) stands for its usual cuts, as in trec_eval. UsageError for unknown ones, with the list and the nearest.
    """
    words = names.split(",") if isinstance(names, str) else list(names)
    wanted = {one.name: one for word in words for one in _parse(word.strip())}
    if not wanted:
        raise UsageError(f"no measures are asked for; there are: {known()}")
    return list(wanted.values())


def known() -> str:
    """Return the names of all measures in one line."""
    return ", ".join(f"{name}_k" if measure.cuts else name for name, measure in MEASURES.items())


def _parse(word: str) -> Sequence[Wanted]:
    measure = MEASURES.get(word)
    if measure is not None:
        return [Wanted(f"{word}_{cut}", measure, cut) for cut in measure.cuts] or [Wanted(word, measure, 0)]
    family, cut = _split(word)
    measure = MEASURES.get(family)
    if measure is not None and measure.cuts and word == f"{family}_{cut}" and cut > 0:
        return [Wanted(word, measure, cut)]
    near = _near(family, cut)
    raise UsageError(f"unknown measure {word!r}{f': did you mean {near}?' if near else ''} There are: {known()}")


def _split(word: str) -> tuple[str, int]:
    """Return the family and the cut of a name such as ndcg_cut_10, ndcg@10 or P.5; a cut of 0 where there is none."""
    parts = re.fullmatch(r"(.*?)[_@.]?(\d{1,15})", word, re.ASCII)
    return (parts[1], int(parts[2])) if parts else (word, 0)


def _near(family: str, cut: int) -> str:
    plain = family.lower().replace("@", "_").replace("-", "_").strip("_")
    names = [OTHER_NAMES[plain]] if plain in OTHER_NAMES else closest(family, MEASURES)
    if not names:
        return ""
    name = names[0]
    if cut and f"{name}_cut" in MEASURES:
        name += "_cut"
    return f"{name}_{cut}" if cut and name in MEASURES and MEASURES[name].cuts else name
