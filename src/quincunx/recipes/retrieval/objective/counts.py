"""How many texts a logical batch holds and how many negatives an anchor has: arithmetic for the config's rules, the
start-up messages and the plan. Without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Anchor = Literal["query", "document"]
Side = Literal["query", "document"]
Direction = Literal["query_to_document", "document_to_query", "query_to_query", "document_to_document"]

DIRECTIONS: dict[str, tuple[Side, Side]] = {
    "query_to_document": ("query", "document"),
    "document_to_query": ("document", "query"),
    "query_to_query": ("query", "query"),
    "document_to_document": ("document", "document"),
}
"""By name: the side of the anchors, and the side of their candidates."""


def texts_in_batch(
    side: Side, batch_size: int, positives: int = 1, negatives: int = 0, *, anchor: Anchor = "query"
) -> int:
    """Return how many texts of a side one logical batch holds at most: equal texts are encoded once.

    Args:
        side: The side that is counted.
        batch_size: Anchors in a logical batch.
        positives: Positives drawn for each anchor.
        negatives: Explicit negatives drawn for each anchor.
        anchor: What is drawn first: queries, each with documents, or documents, each with queries.
    """
    return batch_size if side == anchor else batch_size * (positives + negatives)


def smallest_size(
    batch_size: int, positives: int = 1, negatives: int = 0, *, anchor: Anchor = "query", side: Side = "document"
) -> int:
    """Return the smallest memory of a side that holds one logical batch whole; arguments as in `texts_in_batch`.

    A smaller one would overwrite part of a batch with the rest of it.
    """
    return texts_in_batch(side, batch_size, positives, negatives, anchor=anchor)


@dataclass(frozen=True)
class Negatives:
    """Negatives of one row of the score matrix, before masks."""

    explicit: int
    """Its own, drawn from the data."""
    in_batch: int
    """What belongs to the other anchors of the logical batch."""
    memory: int
    """Entries of a full memory."""

    @property
    def total(self) -> int:
        """All of them: the columns of the softmax less the positive."""
        return self.explicit + self.in_batch + self.memory


def effective_negatives(
    batch_size: int,
    positives: int = 1,
    negatives: int = 0,
    *,
    anchor: Anchor = "query",
    direction: Direction = "query_to_document",
    in_batch: bool = True,
    memory: int = 0,
) -> Negatives:
    """Return how many negatives a row of the score matrix has at most, in a whole logical batch of distinct texts.

    Accumulation does not enter: each logical batch has only its own negatives.

    Args:
        batch_size: Anchors in a logical batch.
        positives: Positives drawn for each anchor.
        negatives: Explicit negatives drawn for each anchor.
        anchor: What is drawn first, as in `texts_in_batch`.
        direction: Which texts are compared with which.
        in_batch: Whether the texts of other anchors are candidates.
        memory: Entries of a full memory of the candidates' side.
    """
    rows, columns = DIRECTIONS[direction]
    everyone = texts_in_batch(columns, batch_size, positives, negatives, anchor=anchor)
    own = 1 if columns == anchor else positives + negatives
    explicit = negatives if rows == anchor and columns != anchor else 0
    return Negatives(explicit, everyone - own, memory) if in_batch else Negatives(explicit, 0, 0)
