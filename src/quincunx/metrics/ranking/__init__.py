"""Measures of rankings, equal to trec_eval's, ties treated as asked: `score`, `score_arrays`; its files: `trec`."""

from quincunx.metrics.ranking.arrays import Judged, Judgements, id_order
from quincunx.metrics.ranking.measures import DEFAULT, MEASURES, parse_measures
from quincunx.metrics.ranking.scores import Scores, score, score_arrays
from quincunx.metrics.ranking.ties import TIES

__all__ = [
    "DEFAULT",
    "MEASURES",
    "TIES",
    "Judged",
    "Judgements",
    "Scores",
    "id_order",
    "parse_measures",
    "score",
    "score_arrays",
]
