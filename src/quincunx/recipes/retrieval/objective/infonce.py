"""InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) on a score matrix with masks.

Every row is reduced once, to the logarithm of the sum over its negatives; each positive pair then costs one number. The
tensor of all positives by all negatives is never built. A anchors, C columns, P positive pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_negatives(scores: Tensor, negatives: Tensor, hardness: Tensor | None = None) -> Tensor:
    """Return the logarithm of the sum of `exp(score)` over each anchor's negatives, `[A]`.

    Where an anchor has no negative it is a very small number, which stands for minus infinity and leaves its loss 0
    and its gradient 0.

    Args:
        scores: `[A, C]`.
        negatives: `[A, C]` bool.
        hardness: `[A, C]`, added to the scores of negatives without gradient; None for none.
    """
    if hardness is not None:
        scores = scores + hardness
    # minus infinity itself would make the gradient of a row without negatives undefined
    smallest = torch.finfo(scores.dtype).min / 4
    return torch.logsumexp(scores.masked_fill(~negatives, smallest), dim=1)


def info_nce(positive_scores: Tensor, negatives: Tensor, times: int = 1) -> Tensor:
    """Return -log(exp(s) / (t exp(s) + exp(n))) of each pair, `[P]`.

    Args:
        positive_scores: `[P]`, s.
        negatives: `[P]`, n: the logarithm of the sum over the negatives of the pair's anchor.
        times: t, how often the positive itself stands in the denominator.
    """
    loss = torch.logaddexp(negatives - positive_scores, positive_scores.new_zeros(()))
    for _ in range(times - 1):
        loss = torch.logaddexp(loss, positive_scores.new_zeros(()))
    return loss


def info_nce_together(positive_scores: Tensor, place: Tensor, negatives: Tensor) -> Tensor:
    """Return -log(sum of exp(positives) / sum of exp(positives and negatives)) of each anchor, `[A]`.

    Args:
        positive_scores: `[P]`.
        place: `[P]` int64: which anchor each belongs to; every anchor has one at least.
        negatives: `[A]`: the logarithm of the sum over its negatives.
    """
    return info_nce(log_sum_exp_by(positive_scores, place, len(negatives)), negatives)


def log_sum_exp_by(values: Tensor, place: Tensor, count: int) -> Tensor:
    """Return the logarithm of the sum of `exp(values)` within each of `count` groups, `[count]`.

    A group without values has minus infinity.

    Args:
        values: `[P]`.
        place: `[P]` int64: the group of each.
        count: Groups.
    """
    largest = values.detach().new_full((count,), -torch.inf).scatter_reduce(0, place, values.detach(), "amax")
    sums = values.new_zeros(count).index_add(0, place, (values - largest[place]).exp())
    return largest + sums.clamp(min=0.5).log()  # 1 at least, but where there is nothing: no gradient from there
