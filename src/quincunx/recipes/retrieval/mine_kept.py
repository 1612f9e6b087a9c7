"""What mining leaves behind: training rows, suspects, and the numbers of the report, written as they come.

Nothing here grows with the number of queries but the files. Q queries of a window, C candidates, P positives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quincunx.index.exact import NOTHING
from quincunx.index.mined import CAUSES, FREE, Histogram
from quincunx.recipes.retrieval.mine_pool import Pool, Rows
from quincunx.recipes.retrieval.mine_rankings import Scores
from quincunx.runs import to_json

TRAIN, SUSPECTS, REPORT, PAGE = "train.jsonl", "suspects.jsonl", "report.json", "report.html"
LISTED = 50
"""Suspects of the report; the file has all."""
STEPS = (1, 2, 6, 11, 21, 51, 101, 201, 501, 1001)
"""First ranks of the bins in which the report counts the positives."""


@dataclass(frozen=True)
class Window:
    """Some queries with all that was decided of them."""

    ids: Sequence[str]
    texts: Sequence[str]
    found: Rows
    """`[Q, K]`: the ranking down to the last rank that is looked at."""
    first: int
    """Rank of the first candidate, from 1."""
    candidates: Rows
    """`[Q, C]`: the candidates' rows."""
    positives: Rows
    """`[Q, P]`: the relevant documents' rows, NOTHING at the end."""
    names: Sequence[Sequence[str]]
    """The ids of each query's relevant documents, in that order."""
    causes: NDArray[np.int8]
    """`[Q, C]`: see `quincunx.index.mined.causes`."""
    places: NDArray[np.int64]
    """`[Q, K]`: columns of the candidates that became negatives."""
    suspects: NDArray[np.bool_]
    """`[Q, C]`: those that the rankings agree on."""
    scores: Mapping[str, tuple[Scores, Scores]]
    """By ranking, the scores of candidates `[Q, C]` and positives `[Q, P]`."""


@dataclass
class Tally:
    """Counts over all queries."""

    causes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CAUSES) + 1, np.int64))
    negatives: int = 0
    full: int = 0
    """Queries with as many negatives as asked for."""
    fewer: int = 0
    none: int = 0
    written: int = 0
    suspects: int = 0
    suspect_queries: int = 0
    positives: int = 0
    ranks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(STEPS) + 1, np.int64))
    """Positives by STEPS; the last are those that were not found."""
    chosen: Histogram = field(default_factory=Histogram)
    """Lowest positive less negative, of the negatives."""
    all: Histogram = field(default_factory=Histogram)
    """The same of all candidates that are not relevant."""

    def to_json(self, last: int) -> dict[str, Any]:
        """Return the counts as the report has them; `last` is the last rank that was looked at."""
        steps = [step for step in STEPS if step <= last]
        ends = [*(step - 1 for step in steps[1:]), last]
        ranks = [{"from": a, "to": b, "positives": int(n)} for a, b, n in zip(steps, ends, self.ranks, strict=False)]
        dropped = {name: int(count) for name, count in zip(CAUSES, self.causes, strict=False)}
        left = int(self.causes[FREE])
        return {
            "queries": {
                "mined": self.full + self.fewer + self.none,
                "full": self.full,
                "fewer": self.fewer,
                "none": self.none,
                "written": self.written,
            },
            "negatives": self.negatives,
            "candidates": {
                "looked_at": int(self.causes.sum()),
                "dropped": dropped,
                "left": left,
            },
            "margins": {"negatives": _histogram(self.chosen), "candidates": _histogram(self.all)},
            "positives": {"count": self.positives, "ranks": ranks, "not_found": int(self.ranks[-1])},
            "suspects": {"count": self.suspects, "queries": self.suspect_queries},
        }


class Kept:
    """The files of a mining while they are written."""

    def __init__(
        self, folder: Path, pool: Pool, num: int, judge: str | None, *, agreed: bool, drop_short: bool
    ) -> None:
        """Open the files.

        Args:
            folder: Where.
            pool: The documents.
            num: Negatives wanted of a query.
            judge: The ranking whose scores are written; None: none has any.
            agreed: Whether suspects are looked for.
            drop_short: Leave queries out that have fewer negatives.
        """
        self.tally = Tally()
        self.listed: list[dict[str, Any]] = []
        self.pool, self.num, self.judge, self.drop_short = pool, num, judge, drop_short
        self._stack = ExitStack()
        self._train = self._stack.enter_context((folder / TRAIN).open("wb"))
        self._suspects = self._stack.enter_context((folder / SUSPECTS).open("wb")) if agreed else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is None:
                for file in (self._train, self._suspects):
                    if file is not None:
                        file.flush()
                        os.fsync(file.fileno())

    def add(self, window: Window) -> None:
        """Write what became of some queries."""
        tally = self.tally
        tally.causes += np.bincount(window.causes[window.causes >= 0], minlength=len(CAUSES) + 1)
        for query in range(len(window.ids)):
            places = window.places[query]
            places = places[places != NOTHING]
            tally.negatives += len(places)
            tally.full += len(places) == self.num
            tally.fewer += 0 < len(places) < self.num
            tally.none += len(places) == 0
            self._count_ranks(window, query)
            if self.judge is not None:
                self._count_margins(window, query, places, self.judge)
            if len(places) == self.num or not self.drop_short:
                self._train.write(to_json(self._row(window, query, places)) + b"\n")
                tally.written += 1
            self._add_suspects(window, query)

    def _row(self, window: Window, query: int, places: Rows) -> dict[str, Any]:
        positives = window.positives[query]
        positives = positives[positives != NOTHING]
        negatives = window.candidates[query, places]
        row: dict[str, Any] = {
            "query_id": window.ids[query],
            "query": window.texts[query],
            "pos_ids": list(window.names[query]),
            "pos": [self.pool.text(one) for one in positives.tolist()],
            "neg_ids": [self.pool.ids[one] for one in negatives.tolist()],
            "neg": [self.pool.text(one) for one in negatives.tolist()],
            "neg_ranks": (places + window.first).tolist(),
        }
        if self.judge is not None:
            # only a cross-encoder's scores bear the name under which training finds a teacher's
            form = "{}_scores" if self.judge == "reranker" else "{}_similarity"
            far, near = window.scores[self.judge]
            row[form.format("pos")] = near[query, : len(positives)].tolist()
            row[form.format("neg")] = far[query, places].tolist()
        return row

    def _count_ranks(self, window: Window, query: int) -> None:
        contents = self.pool.hashes_of(window.found[query])
        contents = contents[window.found[query] != NOTHING]
        positives = window.positives[query]
        for row in positives[positives != NOTHING].tolist():
            at = np.flatnonzero(contents == self.pool.hashes[row])  # a copy of it stands for it
            rank = int(at[0]) + 1 if len(at) else None
            self.tally.ranks[-1 if rank is None else np.searchsorted(STEPS, rank, side="right") - 1] += 1
            self.tally.positives += 1

    def _count_margins(self, window: Window, query: int, places: Rows, judge: str) -> None:
        far, near = window.scores[judge]
        lowest = float(near[query][window.positives[query] != NOTHING].min())
        self.tally.chosen.add(lowest - far[query, places].astype(np.float64))
        self.tally.all.add(lowest - far[query].astype(np.float64))  # of the others there is no score

    def _add_suspects(self, window: Window, query: int) -> None:
        columns = np.flatnonzero(window.suspects[query])
        if self._suspects is None or not len(columns):
            return
        self.tally.suspects += len(columns)
        self.tally.suspect_queries += 1
        there = window.positives[query] != NOTHING
        shown = self.judge or next(iter(window.scores))
        at = int(np.where(there, window.scores[shown][1][query], np.inf).argmin())
        chosen = set(window.places[query].tolist())
        for column in columns.tolist():
            row = int(window.candidates[query, column])
            suspect = {
                "query_id": window.ids[query],
                "query": window.texts[query],
                "positive_id": window.names[query][at],
                "positive": self.pool.text(int(window.positives[query, at])),
                "candidate_id": self.pool.ids[row],
                "candidate": self.pool.text(row),
                "rank": column + window.first,
                "kept": column in chosen,
                "scores": {
                    name: {"candidate": float(far[query, column]), "positive": float(near[query][there].min())}
                    for name, (far, near) in window.scores.items()
                },
            }
            self._suspects.write(to_json(suspect) + b"\n")
            if len(self.listed) < LISTED:
                self.listed.append(suspect)


def _histogram(found: Histogram) -> dict[str, Any]:
    if not len(found):
        return {"count": 0}
    edges, counts = found.bars()
    quantiles = {"quarter": found.below(0.25), "median": found.below(0.5), "three_quarters": found.below(0.75)}
    return {"count": len(found), "low": found.low, **quantiles, "high": found.high, "edges": edges, "counts": counts}
