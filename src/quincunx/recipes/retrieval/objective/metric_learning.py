"""Losses and miners of pytorch-metric-learning by name, on our pairs.

That library takes labels or lists of pairs. It is given both: the positives and the negatives that the masks allow, and
labels under which no two texts that must not be negatives of each other differ. What its miners choose is cut to the
allowed pairs. Q queries, N documents, V = Q + N texts, D width.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.errors import MissingExtra, UsageError
from quincunx.recipes.retrieval.objective.counts import DIRECTIONS
from quincunx.recipes.retrieval.objective.masks import Pool

WITHOUT_PAIRS = frozenset({"InstanceLoss", "NCALoss", "PNPLoss", "RankedListLoss", "SmoothAPLoss", "FastAPLoss"})
"""Losses that read labels alone."""

REFUSED = {
    "VICRegLoss": "it compares no negatives",
    "ManifoldLoss": "it draws classes of its own instead of reading pairs",
    "DynamicSoftMarginLoss": "it changes its state during the forward pass, so evaluation would change training",
    "CrossBatchMemory": "its queue does not know identities; the section memory does the same with masks",
    "SelfSupervisedLoss": "it pairs rows by position; our pairs come from the data",
    "MultipleLosses": "name one loss",
    "BaseLossWrapper": "it is no loss by itself",
    "BaseMetricLossFunction": "it is no loss by itself",
    "BaseMiner": "it is no miner by itself",
    "EmbeddingsAlreadyPackagedAsTriplets": "it finds triplets by position; our pairs come from the data",
}


class MetricLearning(nn.Module):
    """A loss of pytorch-metric-learning, after a miner or on all pairs.

    Args:
        loss: A class of `pytorch_metric_learning.losses`, `MultiSimilarityLoss` say.
        options: Its keyword arguments.
        miner: A class of `pytorch_metric_learning.miners`; None: all pairs.
        miner_options: Its keyword arguments.

    Raises:
        MissingExtra: The library is not installed.
        UsageError: There is no such class, its arguments are wrong, or it has no meaning here; the text says why.
    """

    def __init__(
        self,
        loss: str,
        options: Mapping[str, Any] | None = None,
        miner: str | None = None,
        miner_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        try:
            from pytorch_metric_learning import losses, miners
        except ImportError as error:
            raise MissingExtra("pytorch-metric-learning", "retrieval", f"the loss {loss}") from error
        self.loss = _make(losses, "loss", loss, options or {})
        self.miner = None if miner is None else _make(miners, "miner", miner, miner_options or {})
        self.reads_pairs = loss not in WITHOUT_PAIRS
        if self.miner is not None and not self.reads_pairs:
            raise UsageError(f"the loss {loss} reads labels alone, so the miner {miner} would have no effect; drop it")

    def forward(self, queries: Tensor, documents: Tensor, pool: Pool, directions: Sequence[str]) -> Tensor:
        """Return the loss as the library reduces it (most losses: a mean), a scalar.

        Args:
            queries: `[Q, D]`.
            documents: `[N, D]`.
            pool: Of the batch, without a memory.
            directions: Which texts are compared with which. Losses that read labels alone compare all with all.
        """
        texts = torch.cat([queries, documents])
        labels = common_labels(pool)
        if not self.reads_pairs:
            return self.loss(texts, labels)
        pairs = allowed_pairs(pool, directions)
        if self.miner is not None:
            pairs = _cut(self._mine(queries, documents, labels, directions), pairs, len(texts))
        if not len(pairs[0]) and not len(pairs[2]):
            return texts.sum() * 0  # some losses take empty lists for none given, and look for pairs themselves
        return self.loss(texts, labels, pairs)

    def _mine(
        self, queries: Tensor, documents: Tensor, labels: Tensor, directions: Sequence[str]
    ) -> tuple[Tensor, ...]:
        """Return what the miner finds in each direction, as pairs or triplets of numbers of texts."""
        assert self.miner is not None
        sides = {"query": queries.detach(), "document": documents.detach()}
        marks = {"query": labels[: len(queries)], "document": labels[len(queries) :]}
        start = {"query": 0, "document": len(queries)}
        found: list[tuple[Tensor, ...]] = []
        for direction in directions:
            rows, columns = DIRECTIONS[direction]
            if rows == columns:
                mined = self.miner(sides[rows], marks[rows])
            else:
                mined = self.miner(sides[rows], marks[rows], sides[columns], marks[columns])
            # anchors come first in triplets; first and third in pairs
            owners = (0,) if len(mined) == 3 else (0, 2)
            moved = (part + start[rows if place in owners else columns] for place, part in enumerate(mined))
            found.append(tuple(moved))
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def allowed_pairs(pool: Pool, directions: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return anchors and positives, and anchors and negatives, as numbers of texts: queries first, then documents."""
    start = {"query": 0, "document": len(pool.queries)}
    positives: list[Tensor] = []
    negatives: list[Tensor] = []
    for direction in directions:
        rows, columns = DIRECTIONS[direction]
        candidates = pool.candidates(direction)
        anchor, column = candidates.negatives.nonzero(as_tuple=True)
        negatives.append(torch.stack([candidates.anchors[anchor] + start[rows], column + start[columns]]))
        if rows != columns:
            pairs = pool.positives if rows == "query" else pool.positives.flip(1)
            positives.append(torch.stack([pairs[:, 0] + start[rows], pairs[:, 1] + start[columns]]))
    none = pool.positives.new_zeros(2, 0)
    anchors, near = torch.cat([none, *positives], dim=1)
    again, far = torch.cat([none, *negatives], dim=1)
    return anchors, near, again, far


def common_labels(pool: Pool) -> Tensor:
    """Return a number for each text `[V]`, the same for texts that relevance or equality joins, over any steps."""
    count = len(pool.queries) + len(pool.documents)
    edges = pool.to_documents.nonzero() + pool.positives.new_tensor([0, len(pool.queries)])
    labels = torch.arange(count, device=edges.device)
    while True:
        lower = torch.minimum(labels[edges[:, 0]], labels[edges[:, 1]])
        spread = labels.scatter_reduce(0, edges[:, 0], lower, "amin").scatter_reduce(0, edges[:, 1], lower, "amin")
        spread = spread[spread]  # a label is a text's number, whose own label may be lower by now
        if torch.equal(spread, labels):
            return labels
        labels = spread


def _cut(mined: tuple[Tensor, ...], allowed: tuple[Tensor, Tensor, Tensor, Tensor], count: int) -> tuple[Tensor, ...]:
    """Return the pairs or triplets that a miner found, without those that are not allowed."""
    positive = _among(mined[0], mined[1], allowed[0], allowed[1], count)
    if len(mined) == 3:
        keep = positive & _among(mined[0], mined[2], allowed[2], allowed[3], count)
        return tuple(part[keep] for part in mined)
    negative = _among(mined[2], mined[3], allowed[2], allowed[3], count)
    return mined[0][positive], mined[1][positive], mined[2][negative], mined[3][negative]


def _among(left: Tensor, right: Tensor, allowed_left: Tensor, allowed_right: Tensor, count: int) -> Tensor:
    return torch.isin(left * count + right, allowed_left * count + allowed_right)


def _make(library: Any, what: str, name: str, options: Mapping[str, Any]) -> nn.Module:
    found = getattr(library, name, None)
    names = [key for key, value in vars(library).items() if inspect.isclass(value) and key not in REFUSED]
    names = [key for key in names if not _takes_classes(getattr(library, key))]
    if name in REFUSED:
        raise UsageError(f"the {what} {name} of pytorch-metric-learning has no meaning here: {REFUSED[name]}")
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise UsageError(f"pytorch-metric-learning has no {what} {name!r}; there are {', '.join(sorted(names))}")
    if _takes_classes(found):
        raise UsageError(
            f"the loss {name} learns a vector for each of a fixed number of classes, and retrieval has none; "
            f"there are {', '.join(sorted(names))}"
        )
    try:
        return found(**options)
    except (TypeError, ValueError, AssertionError) as error:
        raise UsageError(f"the {what} {name} of pytorch-metric-learning cannot be made: {error}") from error


def _takes_classes(found: Any) -> bool:
    """Tell whether a loss, or one that it extends, must be told a number of classes."""
    return any(
        (parameter := inspect.signature(base.__init__).parameters.get("num_classes")) is not None
        and parameter.default is inspect.Parameter.empty
        for base in found.__mro__
        if "__init__" in vars(base) and base is not object
    )
