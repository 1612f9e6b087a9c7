"""The objective of cross-encoders: losses on the scores of a query's own candidates.

B queries, L candidates of the longest list, P pairs.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.engine.objective import Summed
from quincunx.errors import DataError, UsageError
from quincunx.nn.rows import context_of
from quincunx.recipes.retrieval.data.cross_source import pairs_of
from quincunx.recipes.retrieval.objective.infonce import info_nce, log_negatives

KINDS = ("pointwise", "pairwise", "hinge", "listwise")


class CrossEncoding(Summed):
    """Binary, pairwise or listwise loss of scores that a model gives to a query and a document read together.

    Batches are those of `CrossSource`, which leaves out negatives that have the text of something relevant. A candidate
    with a label above 0 is a positive, the others are its query's negatives.

    A query without negatives has loss 0 in `listwise`, where it counts like any other, and does not count in `pairwise`
    and `hinge`.

    Relations: `pointwise` is BinaryCrossEntropyLoss of sentence-transformers; `listwise`, with one positive a query,
    its CrossEntropyLoss over the candidates; `pairwise` is RankNet.

    Args:
        kind: `pointwise`: binary cross-entropy of every pair. `pairwise`: log(1 + exp(s- - s+)) of every positive with
            every negative of its query (Burges et al. 2005). `hinge`: max(0, margin - s+ + s-) of the same. `listwise`:
            -log softmax of every positive among itself and the negatives of its query (localized contrastive
            estimation, Gao et al. 2021, arXiv 2101.08751).
        margin: Of `hinge`.
        positive_weight: Of `pointwise`: how many negatives a positive weighs.
        highest_grade: Of `pointwise`: labels over this are the targets instead of 1 for every positive; None: 1.

    Raises:
        UsageError: An unknown kind, or a number that is not above 0.
    """

    def __init__(
        self,
        *,
        kind: str = "listwise",
        margin: float = 1.0,
        positive_weight: float = 1.0,
        highest_grade: float | None = None,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UsageError(f"the loss of a cross-encoder is one of {', '.join(KINDS)}, found {kind!r}")
        if not (margin > 0 and positive_weight > 0 and (highest_grade is None or highest_grade > 0)):
            raise UsageError(
                f"margin, positive_weight and highest_grade are above 0, found {margin}, {positive_weight} and "
                f"{highest_grade}"
            )
        if highest_grade is not None and (kind != "pointwise" or positive_weight != 1):
            raise UsageError("highest_grade is for kind pointwise with positive_weight 1: it has no positives to weigh")
        self.kind = kind
        self.margin = margin
        self.positive_weight = positive_weight
        self.highest_grade = highest_grade

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return the number of pairs (`pointwise`, a positive counting its weight), of positives with a negative each
        (`pairwise`, `hinge`), or of positives (`listwise`).

        Raises:
            DataError: A grade lies outside 0 to `highest_grade`.
        """
        positive, negative = _kinds(batch)
        if self.kind == "pointwise":
            self._check_grades(batch)
            return {"loss": self.positive_weight * float(positive.sum()) + float(negative.sum())}
        if self.kind == "listwise":
            return {"loss": float(positive.sum())}
        return {"loss": float((positive.sum(1) * negative.sum(1)).sum())}

    def texts(self, batch: Batch) -> int:
        """Return how many pairs the model reads."""
        return int(batch["mask"].sum())

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return the sum over what `weights` counts; the model is a `CrossEncoder`."""
        pairs = pairs_of(chunk, model.padding)  # pyright: ignore[reportArgumentType]
        context = context_of(model)
        with nullcontext() if context is None else context.members(*pairs.mask.nonzero(as_tuple=True)):
            scores = model(pairs.tokens, pairs.lengths, pairs.types)
        scores = pairs.table(scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores)
        positive, negative = _kinds(chunk)
        if self.kind == "pointwise":
            return {"loss": self._pointwise(scores, positive, chunk)}
        if self.kind == "listwise":
            query, _ = positive.nonzero(as_tuple=True)
            return {"loss": info_nce(scores[positive], log_negatives(scores, negative)[query]).sum()}
        query, near, far = (positive[:, :, None] & negative[:, None, :]).nonzero(as_tuple=True)
        margins = scores[query, near] - scores[query, far]
        losses = functional.softplus(-margins) if self.kind == "pairwise" else (self.margin - margins).relu()
        return {"loss": losses.sum()}

    def _pointwise(self, scores: Tensor, positive: Tensor, chunk: Batch) -> Tensor:
        targets = positive.to(scores.dtype)
        if self.highest_grade is not None:
            targets = chunk["labels"].to(scores.dtype) / self.highest_grade
        weight = scores.new_tensor(self.positive_weight)
        losses = functional.binary_cross_entropy_with_logits(scores, targets, pos_weight=weight, reduction="none")
        return losses[chunk["mask"]].sum()

    def _check_grades(self, batch: Batch) -> None:
        if self.highest_grade is None:
            return
        labels = batch["labels"]
        wrong = ((labels < 0) | (labels > self.highest_grade)) & batch["mask"]
        if wrong.any():
            row, column = (int(place) for place in wrong.nonzero()[0])
            raise DataError(
                f"query {batch.ids[row]!r} has a document of grade {float(labels[row, column]):g}; with "
                f"highest_grade={self.highest_grade:g} grades lie between 0 and that. Set it to the highest of the data"
            )


def _kinds(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return which candidates `[B, L]` are positives and which are negatives."""
    positive = batch["mask"] & (batch["labels"] > 0)
    return positive, batch["mask"] & ~positive
