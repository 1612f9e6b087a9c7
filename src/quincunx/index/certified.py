"""Exact top-k of a poly-encoder from an ordinary inner-product index, with a certificate, scoring a small share of the
documents.

A poly-encoder's score is no inner product, but inner products bound it: see `Directions` for the bound and its proof.
So an index is asked for the documents nearest to a query's codes, deeper and deeper, and those it names are scored,
until the k-th best score is above the bound of every document that was not named. Q queries, M codes of a query, D
width, N documents, G directions, k results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from quincunx.index.exact import NOTHING, Found
from quincunx.nn.poly import poly_scores

Nearest = Callable[[NDArray[np.float32], int], Found]
"""`nearest(directions [B, D], depth)` returns the documents of highest inner product with each direction."""
Vectors = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""`vectors(numbers [n])` returns the vectors `[n, D]` of documents, which may be asked for in any order."""

HALF_UNIT = 2.0**-24
"""Relative error of one rounding to float32."""
TOGETHER = 1 << 20
"""Products of a block of documents while they are scored in float64."""
SCANNED = 1 << 24
"""Numbers of a block of vectors while every document is scored."""
MOST = 0.2
"""Share of the documents up to which scoring what the index names is worth more than scoring all."""


@dataclass(frozen=True)
class Corpus:
    """What is searched: an index that finds the nearest by inner product exactly, and the vectors in it."""

    nearest: Nearest
    """Exact: of flat or exact search over these vectors, not of an index that may miss some."""
    vectors: Vectors
    documents: NDArray[np.int64]
    """Numbers of the documents that are there `[N]`, ascending."""
    longest: float
    """No document's vector is longer than this."""

    @classmethod
    def of(cls, vectors: NDArray[np.float32], nearest: Nearest) -> Corpus:
        """Return the corpus of vectors `[N, D]` in memory."""
        longest = math.sqrt(float(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64).max(initial=0.0)))
        return cls(nearest, lambda numbers: vectors[numbers], np.arange(len(vectors)), longest)


@dataclass(frozen=True)
class Certified:
    """What was found, and how."""

    found: Found
    """Equal to scoring every document: scores in float64, rounded to float32; equal ones in the documents' order."""
    held: NDArray[np.bool_]
    """`[Q]`: the certificate was reached; elsewhere every document was scored."""
    scored: NDArray[np.int64]
    """`[Q]`: documents that were scored."""
    documents: int
    """N."""

    @classmethod
    def joined(cls, parts: Sequence[Certified]) -> Certified:
        """Return several searches of one corpus, with the same k, as one."""
        found = Found(
            np.concatenate([part.found.documents for part in parts]),
            np.concatenate([part.found.scores for part in parts]),
        )
        held, scored = (np.concatenate([getattr(part, name) for part in parts]) for name in ("held", "scored"))
        return cls(found, held, scored, parts[0].documents)

    @property
    def share(self) -> float:
        """The share of the documents that were scored, the mean over the queries; 0 where there are none."""
        return float(self.scored.mean() / self.documents) if self.documents and len(self.scored) else 0.0

    @property
    def note(self) -> str:
        """What is to be said of it, in a sentence."""
        held, count = int(self.held.sum()), len(self.held)
        text = f"exact: certified for {held:,} of {count:,} queries, scoring {self.share:.1%} of the documents"
        if held < count:
            text += f"; for {count - held:,} the bound did not hold in time, and every document was scored"
        return text


@dataclass(frozen=True)
class Directions:
    """Vectors u_g and slacks b_g of a query such that no document c scores above max_g (u_g · c + b_g).

    The score of c is s = sum_j w_j l_j with l_j = code_j · c and w = softmax(a l), a the scale. Let the codes be put
    into groups g in any way, and let no document be longer than R.

    1. Within a group, v_j = w_j / W_g with W_g = sum of the group's w_j is the softmax of the group's a l_j alone. So
       s = sum_g W_g s_g with s_g = sum_j v_j l_j, a mean of the s_g: s <= max_g s_g.
    2. s_g <= max_j l_j = u · c + max_j (code_j - u) · c <= u · c + r R for any u, r = max_j |code_j - u|
       (Cauchy and Schwarz). A group of one code is its own u, with r = 0: that is the bound s <= max_j l_j.
    3. Let u be the mean of the group's codes, and s_g(t) the mean of its l_j under the softmax of t l_j. Then
       s_g(0) = u · c and s_g(a) = s_g, and the derivative by t is the variance of the l_j under that softmax. A
       variance is at most a quarter of the squared range (Popoviciu), and the range is at most p R, where p is the
       largest distance of two codes of the group. So s_g <= u · c + a (p R)² / 4.

    Hence b_g = min(r R, a (p R)² / 4). A document that the index did not name among the nearest of u_g has
    u_g · c <= t_g, the least product that it did name. So if it was named for no g, it scores at most
    max_g (t_g + b_g). Products are computed in float32 with an error of at most D + 2 roundings of |u| R: of what was
    not named, of what was named last, and once more where an index reports another product than it searched by. b_g
    holds these three, and twice the rounding of u.
    """

    centres: NDArray[np.float32]
    """u `[G, D]`."""
    slacks: NDArray[np.float64]
    """b `[G]`."""

    @classmethod
    def of(cls, codes: NDArray[np.float32], scale: float, longest: float, slack: float = 0.0) -> Directions:
        """Return the directions of a query.

        Args:
            codes: `[M, D]`, one at least.
            scale: a, 0 or more.
            longest: R.
            slack: Codes share a direction where that costs no more than this. With 0, only equal ones do.
        """
        groups = [_Group([code]) for code in np.unique(codes, axis=0).astype(np.float64)]
        if slack > 0:
            groups = _joined(groups, scale, longest, slack)
        exact = np.stack([group.mean for group in groups])
        centres = exact.astype(np.float32)
        rounding = np.linalg.norm(centres - exact, axis=1)
        products = 3 * (codes.shape[1] + 2) * HALF_UNIT * 1.01 * np.linalg.norm(centres.astype(np.float64), axis=1)
        slacks = np.array([group.slack(scale, longest) for group in groups])
        return cls(centres, slacks + (2 * rounding + products) * longest)


@dataclass
class _Group:
    codes: list[NDArray[np.float64]]

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.codes[0] if len(self.codes) == 1 else np.mean(self.codes, axis=0)

    def slack(self, scale: float, longest: float) -> float:
        if len(self.codes) == 1:
            return 0.0
        codes = np.stack(self.codes)
        radius = float(np.linalg.norm(codes - self.mean, axis=1).max())
        apart = max(float(np.linalg.norm(codes - code, axis=1).max()) for code in codes)
        return min(radius * longest, scale * (apart * longest) ** 2 / 4)

    def take(self, code: NDArray[np.float64], scale: float, longest: float, most: float) -> bool:
        """Take a code in where that leaves the slack at `most`; else stay as it is and return False."""
        joined = _Group([*self.codes, code])
        if joined.slack(scale, longest) > most:
            return False
        self.codes.append(code)
        return True


def _joined(groups: list[_Group], scale: float, longest: float, slack: float) -> list[_Group]:
    """Return groups of one code each as fewer, each code in the first that it leaves within the slack."""
    found: list[_Group] = []
    for single in groups:
        for group in found:
            if group.take(single.codes[0], scale, longest, slack):
                break
        else:
            found.append(single)
    return found


@dataclass
class _Query:
    """A query on its way to the certificate."""

    codes: NDArray[np.float32]
    directions: Directions
    depth: NDArray[np.int64]
    """`[G]`: how many documents the index was asked for."""
    edge: NDArray[np.float64]
    """`[G]`: the least product it named; what it did not name has no more."""
    seen: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Numbers of the documents scored, ascending."""
    scores: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def least(self, k: int) -> float:
        """Return the k-th best score; minus infinity while there are fewer."""
        return float(np.partition(self.scores, -k)[-k]) if len(self.scores) >= k else -math.inf

    def open(self, k: int) -> NDArray[np.bool_]:
        """Tell for which directions an unseen document could still be among the k best, or equal to the k-th."""
        bound = self.edge + self.directions.slacks
        # scores were rounded once more, to float32
        rounding = np.abs(bound, out=np.zeros_like(bound), where=np.isfinite(bound)) * 4 * HALF_UNIT
        return ~(bound + rounding < self.least(k)) & ~np.isneginf(self.edge)


def exact_scores(codes: NDArray[np.float32], documents: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Return the scores `[n]` of documents `[n, D]` for codes `[M, D]`: in float64, then rounded.

    They do not depend on which documents are scored together, not by a bit: each sum runs over one document's own
    numbers in an order that only their count decides, which the blocks of a matrix product do not promise.
    """
    wide = np.asarray(codes, np.float64)
    scores = np.empty(len(documents), np.float32)
    step = max(1, TOGETHER // max(1, wide.size))
    for start in range(0, len(documents), step):
        some = np.asarray(documents[start : start + step], np.float64)
        logits = (some[:, None, :] * wide).sum(-1)
        weights = np.exp(scale * (logits - logits.max(-1, keepdims=True)))
        scores[start : start + step] = (weights * logits).sum(-1) / weights.sum(-1)
    return scores


def search_certified(
    codes: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    corpus: Corpus,
    k: int,
    *,
    scale: float = 1.0,
    slack: float = 0.0,
    most: float = MOST,
) -> Certified:
    """Return the k documents of highest poly-encoder score for each query, exactly.

    For attention `basic` (scale 1) or `sqrt` (1 / sqrt(D)) with similarity `dot`; the bound holds for no other. A query
    without codes scores 0 everywhere, so it gets the first documents. Where more than `most` of the documents would
    have to be scored before the bound holds, all are: `Certified.held` says for which queries.

    Args:
        codes: `[Q, M, D]`.
        mask: `[Q, M]`, False where a code is none; None when all are.
        corpus: What is searched.
        k: Results a query.
        scale: Of the logits within the softmax.
        slack: See `Directions.of`: fewer, shallower directions; the result is the same.
        most: Share of the documents.

    Raises:
        ValueError: k below 1, or a negative scale.
    """
    if k < 1:
        raise ValueError(f"k is {k}; a search returns at least one document")
    if scale < 0:
        raise ValueError(f"the scale is {scale}; the bound holds for 0 or more")
    documents = np.full((len(codes), k), NOTHING, np.int64)
    scores = np.full((len(codes), k), -np.inf, np.float32)
    held, scored = np.ones(len(codes), np.bool_), np.zeros(len(codes), np.int64)
    count = len(corpus.documents)
    for number, some in enumerate(codes):
        there = np.asarray(some if mask is None else some[mask[number]], np.float32)
        if not count:
            continue
        if not len(there):
            best, values = corpus.documents[:k], np.zeros(min(k, count), np.float32)
        else:
            query = _begin(there, scale, corpus.longest, slack)
            if not _deepen(query, corpus, k, scale, max(k, int(most * count))):
                held[number] = False
                _scan(query, corpus, k, scale)
            scored[number] = len(query.seen) if held[number] else count
            order = np.argsort(-query.scores, kind="stable")[:k]
            best, values = query.seen[order], query.scores[order]
        documents[number, : len(best)], scores[number, : len(best)] = best, values
    return Certified(Found(documents, scores), held, scored, count)


def search_named(
    codes: NDArray[np.float32], mask: NDArray[np.bool_] | None, corpus: Corpus, k: int, depth: int, scale: float = 1.0
) -> Certified:
    """Return the k best of the documents that an index names among the `depth` nearest of each code, uncertified.

    For an index that may miss near documents: nothing bounds what it did not name. Arguments as of `search_certified`.
    """
    documents = np.full((len(codes), k), NOTHING, np.int64)
    scores = np.full((len(codes), k), -np.inf, np.float32)
    scored = np.zeros(len(codes), np.int64)
    for number, some in enumerate(codes):
        there = np.asarray(some if mask is None else some[mask[number]], np.float32)
        if not len(there):
            continue
        query = _begin(there, scale, corpus.longest, 0.0)
        _ask(query, corpus, np.ones(len(query.depth), np.bool_), max(k, depth), scale)
        order = np.argsort(-query.scores, kind="stable")[:k]
        documents[number, : len(order)], scores[number, : len(order)] = query.seen[order], query.scores[order]
        scored[number] = len(query.seen)
    return Certified(Found(documents, scores), np.zeros(len(codes), np.bool_), scored, len(corpus.documents))


def _begin(codes: NDArray[np.float32], scale: float, longest: float, slack: float) -> _Query:
    directions = Directions.of(codes, scale, longest, slack)
    count = len(directions.slacks)
    return _Query(codes, directions, np.zeros(count, np.int64), np.full(count, np.inf))


def _deepen(query: _Query, corpus: Corpus, k: int, scale: float, most: int) -> bool:
    """Ask deeper until the certificate holds; return False once more than `most` documents would be scored."""
    depth = k
    while (opened := query.open(k)).any():
        if max(depth, len(query.seen)) > most:
            return False
        _ask(query, corpus, opened, depth, scale)
        depth *= 2
    return True


def _ask(query: _Query, corpus: Corpus, which: NDArray[np.bool_], depth: int, scale: float) -> None:
    """Ask for the nearest of some directions, and score what was not seen before."""
    named = corpus.nearest(query.directions.centres[which], depth)
    whole = named.documents[:, -1] != NOTHING
    # a list that is not full, or that holds everything, leaves nothing out
    whole &= depth < len(corpus.documents)
    query.edge[which] = np.where(whole, named.scores[:, -1].astype(np.float64), -np.inf)
    query.depth[which] = depth
    numbers = np.unique(named.documents)
    fresh = np.setdiff1d(numbers[numbers != NOTHING], query.seen, assume_unique=True)
    if len(fresh):
        _merge(query, fresh, exact_scores(query.codes, corpus.vectors(fresh), scale))


def _merge(query: _Query, numbers: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
    seen = np.concatenate([query.seen, numbers])
    order = np.argsort(seen, kind="stable")
    query.seen, query.scores = seen[order], np.concatenate([query.scores, scores])[order]


def _scan(query: _Query, corpus: Corpus, k: int, scale: float) -> None:
    """Score every document in float32, and those anew in float64 that rounding could have kept from the first k."""
    width = query.codes.shape[1]
    codes = torch.from_numpy(query.codes)[None]
    step = max(1, SCANNED // width)
    rough: list[NDArray[np.float32]] = []
    for start in range(0, len(corpus.documents), step):
        vectors = torch.from_numpy(np.asarray(corpus.vectors(corpus.documents[start : start + step]), np.float32))
        rough.append(poly_scores(codes, None, vectors, scale=scale)[0].numpy())
    scores = np.concatenate(rough)
    error = _scan_error(query.codes, corpus.longest)
    least = np.partition(scores, -k)[-k] if len(scores) > k else -np.inf
    kept = corpus.documents[scores >= float(least) - 2 * error]
    query.seen, query.scores = np.empty(0, np.int64), np.empty(0, np.float32)
    for start in range(0, len(kept), step):
        numbers = kept[start : start + step]
        _merge(query, numbers, exact_scores(query.codes, corpus.vectors(numbers), scale))


def _scan_error(codes: NDArray[np.float32], longest: float) -> float:
    """Return by how much a score in float32 may be wrong, at most.

    A logit is wrong by at most e = (D + 2) roundings of |code| R. The derivatives of s by its logits sum, without
    their signs, to at most 1 + a sum_j w_j |l_j - s|, and a sum_j w_j |l_j - s| <= 2 a (max_j l_j - s) <= 2 log M: the
    last as a s + entropy(w) = log sum_j exp(a l_j) >= a max_j l_j. To that come exp and sums over M weights, a few
    roundings each of a number of at most |code| R.
    """
    count, width = codes.shape
    largest = float(np.linalg.norm(codes.astype(np.float64), axis=1).max()) * longest
    return ((1 + 2 * math.log(count)) * (width + 2) + 4 * (count + 16)) * HALF_UNIT * 1.01 * largest
