"""Losses against a teacher's scores: of margins, and of the distribution over an anchor's candidates.

Both see only what the teacher scored: a query's positives and its explicit negatives. P positive pairs, E explicit
negatives, T triples of a query, a positive and a negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from quincunx.errors import DataError
from quincunx.recipes.retrieval.objective.infonce import log_sum_exp_by
from quincunx.recipes.retrieval.objective.masks import matches


def triples(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Return which positive and which negative of the same query form each triple, `[T]` and `[T]`.

    Args:
        positives: `[P, 2]` int64, (query, document).
        negatives: `[E, 2]` int64, (query, document).
    """
    return matches(positives[:, 0], negatives[:, 0])


def margin_mse(margins: Tensor, teacher_margins: Tensor) -> Tensor:
    """Return the squared errors of the margins between positive and negative score, `[T]`.

    Source: Hofstätter et al. 2020 (arXiv 2010.02666), equation 4.
    """
    return (margins - teacher_margins).square()


def kl_divergence(
    scores: Tensor, teacher_scores: Tensor, place: Tensor, count: int, temperature: float = 1.0
) -> Tensor:
    """Return KL(teacher || student) of each anchor's candidates, times the temperature squared, `[count]`.

    Args:
        scores: The student's, `[R]`, of all candidates of all anchors.
        teacher_scores: `[R]`.
        place: `[R]` int64: the anchor of each candidate; every anchor has one at least.
        count: Anchors.
        temperature: Divides both sides' scores; the square keeps gradients of one size (Hinton et al. 2015,
            arXiv 1503.02531).
    """
    student, teacher = scores / temperature, teacher_scores / temperature
    log_student = student - log_sum_exp_by(student, place, count)[place]
    log_teacher = teacher - log_sum_exp_by(teacher, place, count)[place]
    terms = log_teacher.exp() * (log_teacher - log_student)
    return terms.new_zeros(count).index_add(0, place, terms) * temperature**2


def check_teacher(links: Mapping[str, Tensor], ids: Sequence[int | str], loss: str) -> None:
    """See that a teacher scored every positive and every explicit negative of a batch.

    Args:
        links: The batch's, as `RetrievalBatch` holds them.
        ids: The queries' names, by row.
        loss: What needs the scores, for the message.

    Raises:
        DataError: Naming the first query for which a score is missing.
    """
    for pairs, scores, what in (
        ("positives", "positive_scores", "a positive"),
        ("negatives", "negative_scores", "an explicit negative"),
    ):
        if pairs not in links or not len(links[pairs]):
            continue
        rows = links[pairs][:, 0]
        if scores in links:
            rows = rows[~torch.isfinite(links[scores])]
        if len(rows):
            raise DataError(
                f"query {ids[int(rows[0])]!r} has {what} without a teacher's score, which the loss {loss} needs; "
                "add scores to the training data, or leave this loss out"
            )
    if "negatives" not in links:
        raise DataError(
            f"query {ids[0]!r} has no explicit negatives, which the loss {loss} compares with its positives; "
            "add negatives with scores to the training data, or leave this loss out"
        )
