"""Which of a query's candidates become its hard negatives: filters on scores, agreement of rankings, and a draw.

Arrays and nothing else. What becomes of a query depends on it alone, never on the others that it is asked with. Q
queries, C candidates of each in the order of their ranks, K negatives chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import counter_hash
from quincunx.errors import UsageError
from quincunx.index.exact import NOTHING
from quincunx.seeds import address

Sampling = Literal["top", "random", "weighted"]
CAUSES = ("known", "empty", "copy", "suspected", "max_score", "margin", "relative_margin", "min_score")
"""Why a candidate is no negative; of several the first counts."""
FREE = len(CAUSES)
"""In place of a cause: nothing speaks against it."""
ABSENT = -1
"""In place of a cause: there is no candidate."""


@dataclass(frozen=True)
class Rules:
    """Which candidates are looked at, what drops them, and how many of the others are taken.

    Scores are compared with the lowest score that a relevant document of the query has: the strictest of them.

    Raises:
        UsageError: Values without meaning, when it is made.
    """

    ranks: tuple[int, int] = (11, 100)
    """First and last rank of the candidates, from 1, both included."""
    num: int = 5
    """Negatives of a query, at most."""
    sampling: Sampling = "top"
    """The hardest (`top`), any of them alike (`random`), or harder ones more often (`weighted`); see `choose`."""
    seed: int = 0
    """Of `random` and `weighted`."""
    margin: float | None = None
    """A negative scores at most positive - margin (TopK-MarginPos of arXiv:2407.15831)."""
    relative_margin: float | None = None
    """A negative scores at most positive - r |positive|: for positive scores (1 - r) of it (TopK-PercPos)."""
    max_score: float | None = None
    """A negative scores at most this."""
    min_score: float | None = None
    """A negative scores at least this."""
    agree: int | None = None
    """A candidate that so many rankings put above the positive is suspected to be relevant; None: nobody is."""
    keep_suspects: bool = False
    """Whether suspects may be negatives all the same."""

    def __post_init__(self) -> None:
        first, last = self.ranks
        if not 1 <= first <= last:
            raise UsageError(f"ranks {first}:{last} are out of order; expected FROM:TO, from 1 on and FROM no larger")
        if self.num < 1:
            raise UsageError(f"{self.num} negatives a query; expected 1 or more")
        if self.num > last - first + 1:
            raise UsageError(
                f"{self.num} negatives cannot be taken of the {last - first + 1} candidates with ranks {first}:{last}; "
                "take fewer, or more ranks"
            )
        if self.sampling not in get_args(Sampling):
            raise UsageError(f"there is no sampling {self.sampling!r}; there are: {', '.join(get_args(Sampling))}")
        if self.seed < 0:
            raise UsageError(f"the seed is {self.seed}; expected 0 or more")
        for name in ("margin", "relative_margin", "max_score", "min_score"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{name} is {value}; expected a finite number")
        if self.margin is not None and self.margin < 0:
            raise UsageError(f"margin is {self.margin}; expected 0 or more, what a negative scores below the positive")
        if self.relative_margin is not None and not 0 <= self.relative_margin < 1:
            raise UsageError(f"relative_margin is {self.relative_margin}; expected a share, from 0 to below 1")
        if self.max_score is not None and self.min_score is not None and self.min_score > self.max_score:
            raise UsageError(f"min_score {self.min_score} is above max_score {self.max_score}: no score is left")
        if self.agree is not None and self.agree < 1:
            raise UsageError(f"agree is {self.agree}; expected 1 or more rankings")
        if self.keep_suspects and self.agree is None:
            raise UsageError("keep_suspects has no effect without agree, the number of rankings that makes a suspect")

    @property
    def scored(self) -> list[str]:
        """The names of what looks at scores."""
        names = ("margin", "relative_margin", "max_score", "min_score")
        return [name for name in names if getattr(self, name) is not None]


@dataclass(frozen=True)
class Candidates:
    """The candidates of some queries, with what is known of each."""

    documents: NDArray[np.int64]
    """`[Q, C]` by rank, NOTHING at the end where there are fewer."""
    contents: NDArray[np.uint64]
    """`[Q, C]`: hashes of the texts."""
    known: NDArray[np.bool_]
    """`[Q, C]`: relevant to the query, or with the same text as one that is."""
    empty: NDArray[np.bool_]
    """`[Q, C]`: without a text."""


def copies(documents: NDArray[np.int64], contents: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which candidates `[Q, C]` have the text of one that stands before them."""
    order = np.argsort(contents, axis=1, kind="stable")
    ordered = np.take_along_axis(contents, order, 1)
    found = np.zeros(documents.shape, np.bool_)
    np.put_along_axis(found, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return found & (documents != NOTHING)


def above(scores: NDArray[np.float32], lowest: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which candidates `[Q, C]` a ranking puts above the query's lowest positive `[Q]`: equal ones it does not."""
    return scores > lowest[:, None]


def causes(
    candidates: Candidates,
    rules: Rules,
    scores: NDArray[np.float32] | None = None,
    lowest: NDArray[np.float32] | None = None,
    votes: NDArray[np.int64] | None = None,
) -> NDArray[np.int8]:
    """Return what drops each candidate `[Q, C]`: a place in CAUSES, FREE, or ABSENT.

    A score that is no number passes no limit.

    Args:
        candidates: Of Q queries.
        rules: What speaks against one.
        scores: What margins and bounds look at `[Q, C]`; None where no rule asks for them.
        lowest: The lowest score of each query's positives `[Q]`, likewise.
        votes: How many rankings put each candidate above the lowest positive `[Q, C]`; None where no rule asks for it.

    Raises:
        ValueError: A rule asks for what is not given.
    """
    against = {
        "known": candidates.known,
        "empty": candidates.empty,
        "copy": copies(candidates.documents, candidates.contents),
    }
    if rules.agree is not None and not rules.keep_suspects:
        against["suspected"] = suspected(votes, rules.agree)
    if rules.scored:
        if scores is None or lowest is None:
            raise ValueError(f"{', '.join(rules.scored)} compare scores, and there are none")
        values, positive = scores.astype(np.float64), lowest.astype(np.float64)[:, None]
        within: dict[str, Callable[[float], NDArray[np.bool_]]] = {
            "max_score": lambda most: values <= most,
            "margin": lambda margin: values <= positive - margin,
            "relative_margin": lambda share: values <= positive - share * np.abs(positive),
            "min_score": lambda least: values >= least,
        }
        against |= {name: ~within[name](getattr(rules, name)) for name in rules.scored}
    found = np.full(candidates.documents.shape, FREE, np.int8)
    for number, name in reversed([*enumerate(CAUSES)]):
        if name in against:
            found[against[name]] = number
    found[candidates.documents == NOTHING] = ABSENT
    return found


def suspected(votes: NDArray[np.int64] | None, agree: int) -> NDArray[np.bool_]:
    """Tell which candidates `[Q, C]` so many rankings put above the positive; ValueError without votes."""
    if votes is None:
        raise ValueError("agreement is of rankings, and there are no votes")
    return votes >= agree


def choose(
    free: NDArray[np.bool_],
    hardness: NDArray[np.float32],
    queries: NDArray[np.uint64],
    contents: NDArray[np.uint64],
    rules: Rules,
) -> NDArray[np.int64]:
    """Return the columns of the candidates that become negatives `[Q, K]`, the hardest first, NOTHING at the end.

    `top` takes the hardest, equal ones by rank. `random` takes a subset, every one alike probable. `weighted` draws
    one after another without putting back, the i-th hardest with weight 1 / i: scores of any scale go with it. Both
    are an exponential race (Efraimidis and Spirakis 2006): each candidate has a number of its own, drawn by the
    contents of query and document, so that neither the order nor the number of queries asked together matters.

    Args:
        free: `[Q, C]`: may be chosen.
        hardness: `[Q, C]`: the higher, the harder.
        queries: Content hashes `[Q]`.
        contents: Content hashes of the candidates `[Q, C]`.
        rules: How many, how, and the seed.
    """
    columns = np.broadcast_to(np.arange(free.shape[1]), free.shape)
    order = np.lexsort((columns, -hardness, ~free), axis=1)  # free ones first, the hardest of them first
    place = np.argsort(order, axis=1)
    key = place.astype(np.float64)
    if rules.sampling != "top":
        drawn = counter_hash(contents, counter_hash(queries, address(rules.seed, "negatives"))[:, None])
        uniform = ((drawn >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        weight = 1 / (place + 1) if rules.sampling == "weighted" else 1.0
        key = -np.log(uniform) / weight
    key = np.where(free, key, np.inf)
    picked = np.lexsort((place, key), axis=1)[:, : rules.num]
    there = np.take_along_axis(free, picked, 1)
    rank = np.where(there, np.take_along_axis(place, picked, 1), free.shape[1])
    again = np.argsort(rank, axis=1, kind="stable")
    found = np.full((len(free), rules.num), NOTHING, np.int64)
    found[:, : picked.shape[1]] = np.take_along_axis(np.where(there, picked, NOTHING), again, 1)
    return found


class Histogram:
    """Counts of numbers in bins of one width, for any number of numbers in constant memory.

    The width is a power of two, the smallest with which all that was added fits into MOST bins: so it does not depend
    on the order in which numbers came.
    """

    MOST = 512

    def __init__(self) -> None:
        self._power = -30
        self._bins: dict[int, int] = {}
        self.low, self.high = math.inf, -math.inf

    def add(self, values: NDArray[np.floating]) -> None:
        """Count finite numbers; others are passed over."""
        found = np.asarray(values, np.float64).ravel()
        found = found[np.isfinite(found)]
        if not len(found):
            return
        self.low, self.high = min(self.low, float(found.min())), max(self.high, float(found.max()))
        while self._too_fine():
            self._power, self._bins = self._power + 1, _halved(self._bins)
        places, counts = np.unique(np.floor(found / 2.0**self._power).astype(np.int64), return_counts=True)
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            self._bins[place] = self._bins.get(place, 0) + count

    def __len__(self) -> int:
        """How many numbers were counted."""
        return sum(self._bins.values())

    def below(self, share: float) -> float:
        """Return a quantile, to within a bin's width; NaN of nothing."""
        left, width = share * len(self), 2.0**self._power
        for place, count in sorted(self._bins.items()):
            if left <= count:
                return min(max((place + left / count) * width, self.low), self.high)
            left -= count
        return math.nan

    def bars(self, most: int = 40) -> tuple[list[float], list[int]]:
        """Return edges [n + 1] and counts [n] of at most so many bins, from the lowest number to the highest."""
        if not self._bins:
            return [], []
        power, bins = self._power, dict(self._bins)
        while max(bins) - min(bins) >= most:
            power, bins = power + 1, _halved(bins)
        first, last = min(bins), max(bins)
        edges = [place * 2.0**power for place in range(first, last + 2)]
        return edges, [bins.get(place, 0) for place in range(first, last + 1)]

    def _too_fine(self) -> bool:
        first, last = (math.floor(value / 2.0**self._power) for value in (self.low, self.high))
        return last - first >= self.MOST or max(-first, last) >= 2**53


def _halved(bins: dict[int, int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for place, count in bins.items():
        found[place // 2] = found.get(place // 2, 0) + count
    return found
