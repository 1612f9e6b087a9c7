"""Which texts must never be a negative of which: the same text, and what is known to be relevant.

Texts are compared by their identity in the training set (key) and by their content (hash). Masks are built from lists
of matching rows and columns, so they cost a sort and not a comparison of every pair. Q queries, N documents, M entries
of a memory, R rows and C columns of a mask, P positive pairs, K known pairs, E explicit negatives, A anchors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from quincunx.recipes.retrieval.objective.counts import DIRECTIONS


@dataclass(frozen=True)
class Identity:
    """What is known of some texts of one side besides their vectors."""

    keys: Tensor
    """`[C]` int64: identity in the training set; comparable within a side only."""
    hashes: Tensor
    """`[C]` int64: of the content; comparable across sides."""

    def __len__(self) -> int:
        return len(self.keys)

    def __add__(self, other: Identity) -> Identity:
        return Identity(torch.cat([self.keys, other.keys]), torch.cat([self.hashes, other.hashes]))


class KnownPairs(nn.Module):
    """Every relevant pair of the training set, to recognise those that a batch cannot know of: half in a memory.

    Args:
        pairs: `[K, 2]` int64, (content hash of a query, content hash of a document).
    """

    by_query: Tensor
    by_document: Tensor

    def __init__(self, pairs: Tensor) -> None:
        super().__init__()
        # made anew from the data at every start, so it is no part of a checkpoint
        self.register_buffer("by_query", pairs[pairs[:, 0].argsort()].contiguous(), persistent=False)
        self.register_buffer("by_document", pairs[pairs[:, 1].argsort()].flip(1).contiguous(), persistent=False)

    def among(self, side: str, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the relevant pairs `[K', 2]` (row, column) of texts of a side with texts of the other.

        Args:
            side: Of the rows, `query` or `document`.
            rows: `[R]` content hashes.
            columns: `[C]` content hashes of the other side.
        """
        table = self.by_query if side == "query" else self.by_document
        row, place = _spans(rows, table[:, 0])
        hit, column = matches(table[place, 1], columns)
        return torch.stack([row[hit], column], dim=1)


def matches(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return all (i, j) with `left[i] == right[j]`, ordered by i. `left [L]`, `right [R]` int64."""
    ordered, order = torch.sort(right, stable=True)
    i, place = _spans(left, ordered)
    return i, order[place]


def _spans(left: Tensor, ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Return all (i, j) with `left[i] == ordered[j]`, of an ascending `ordered`."""
    ordered = ordered.contiguous()
    starts = torch.searchsorted(ordered, left.contiguous())
    counts = torch.searchsorted(ordered, left.contiguous(), right=True) - starts
    i = torch.repeat_interleave(torch.arange(len(left), device=left.device), counts)
    within = torch.arange(len(i), device=left.device) - (counts.cumsum(0) - counts)[i]
    return i, starts[i] + within


def related(rows: Identity, columns: Identity, known: Tensor) -> Tensor:
    """Return `[R, C]` bool: True where row and column are relevant to each other, or the same text.

    A known pair counts for every row and every column with its keys or with its texts.

    Args:
        rows: Texts of one side.
        columns: Texts of the other side.
        known: `[K, 2]` int64, (row, column) of relevant pairs.
    """
    mask = torch.zeros(len(rows), len(columns), dtype=torch.bool, device=known.device)
    for name in ("keys", "hashes"):
        of_rows, of_columns = getattr(rows, name), getattr(columns, name)
        pair, row = matches(of_rows[known[:, 0]], of_rows)
        hit, column = matches(of_columns[known[pair, 1]], of_columns)
        mask[row[hit], column] = True
    mask[matches(rows.hashes, columns.hashes)] = True
    return mask


def siblings(rows: Identity, columns: Identity, known: Tensor, links: Tensor) -> Tensor:
    """Return `[R, C]` bool for texts of one side: True where they are the same, or linked to one text of the other.

    Args:
        rows: Texts of a side.
        columns: Texts of the same side.
        known: `[K, 2]` int64, (row, row of the other side) of relevant pairs.
        links: `[R', C]` bool: what is linked to each row of the other side.
    """
    mask = torch.zeros(len(rows), len(columns), dtype=torch.bool, device=known.device)
    mask[matches(rows.keys, columns.keys)] = True
    mask[matches(rows.hashes, columns.hashes)] = True
    linked = links.nonzero()
    pair, link = matches(known[:, 1], linked[:, 0])
    mask[known[pair, 0], linked[link, 1]] = True
    return mask


@dataclass(frozen=True)
class Candidates:
    """The rows of the score matrix in one direction, and which columns are their negatives."""

    anchors: Tensor
    """`[A]`: rows of the batch's side that have a positive."""
    place: Tensor
    """`[P]`: which anchor each positive pair belongs to."""
    negatives: Tensor
    """`[A, C]` bool."""
    masked: Tensor
    """Scalar: pairs that would be negatives but for the masks."""


@dataclass(frozen=True)
class Pool:
    """All texts that meet in one softmax: those of a logical batch, then those of a memory."""

    queries: Identity
    """`[Q]`."""
    documents: Identity
    """`[N]`."""
    positives: Tensor
    """`[P, 2]` int64, (query, document)."""
    known: Tensor
    """`[K, 2]` int64, (query, document): everything relevant within the batch, the positives included."""
    explicit: Tensor
    """`[E, 2]` int64, (query, document): explicit negatives."""
    stored_queries: Identity | None = None
    """Entries of a memory."""
    stored_documents: Identity | None = None
    relevant: KnownPairs | None = None
    """Relevant pairs of the training set, to be found between batch and memory."""

    @staticmethod
    def of(
        links: Mapping[str, Tensor],
        stored_queries: Identity | None = None,
        stored_documents: Identity | None = None,
        relevant: KnownPairs | None = None,
    ) -> Pool:
        """Return the pool of a batch's links, as `RetrievalBatch` holds them, and of a memory's entries."""
        positives = links["positives"]
        none = positives.new_zeros(0, 2)
        return Pool(
            Identity(links["query_keys"], links["query_hashes"]),
            Identity(links["document_keys"], links["document_hashes"]),
            positives,
            torch.cat([links.get("known", none), positives]),
            links.get("negatives", none),
            stored_queries,
            stored_documents,
            relevant,
        )

    @cached_property
    def to_documents(self) -> Tensor:
        """`[Q, N + M]` bool: documents that are never a negative of a query."""
        return self._related("query", self.queries, self.documents, self.stored_documents, self.known)

    @cached_property
    def to_queries(self) -> Tensor:
        """`[N, Q + M]` bool: queries that are never a negative of a document."""
        return self._related("document", self.documents, self.queries, self.stored_queries, self.known.flip(1))

    @cached_property
    def usable_negatives(self) -> Tensor:
        """`[E]` bool: explicit negatives that are neither relevant to their query nor the same text."""
        return ~self.to_documents[self.explicit[:, 0], self.explicit[:, 1]]

    def candidates(self, direction: str, in_batch: bool = True) -> Candidates:
        """Return the anchors of a direction and their negatives.

        The texts that are never a negative: from a query to documents and back, what is known to be relevant and what
        has the same text. Between texts of one side, the text itself, equal ones, and what a text of the other side has
        been given along with it, as relevant or as explicit negative: such texts often resemble each other.

        Args:
            direction: A key of `DIRECTIONS`.
            in_batch: False keeps only the explicit negatives (not between texts of one side, which have none).
        """
        rows, columns = DIRECTIONS[direction]
        anchors, place = torch.unique(self.positives[:, 0 if rows == "query" else 1], return_inverse=True)
        # what is no negative by its role, and so not counted: the positives themselves, or the anchor itself
        if rows != columns:
            never = (self.to_documents if rows == "query" else self.to_queries)[anchors]
            own = len(torch.unique(self.positives[:, 0] * len(self.documents) + self.positives[:, 1]))
        else:
            never = self._siblings(rows)[anchors]
            own = len(anchors)
        if in_batch:
            return Candidates(anchors, place, ~never, never.sum() - own)
        drawn = self._drawn(rows)[anchors]
        return Candidates(anchors, place, drawn & ~never, (drawn & never).sum())

    def _drawn(self, side: str) -> Tensor:
        """Return the explicit negatives of each row of a side as a mask, shaped as `to_documents` or `to_queries`."""
        query, document = self.explicit.unbind(1)
        mask = torch.zeros_like(self.to_documents if side == "query" else self.to_queries)
        mask[(query, document) if side == "query" else (document, query)] = True
        return mask

    def _siblings(self, side: str) -> Tensor:
        own, stored = self.queries, self.stored_queries
        if side == "document":
            own, stored = self.documents, self.stored_documents
        known = self.known if side == "query" else self.known.flip(1)
        links = self.to_queries if side == "query" else self.to_documents
        links = links | self._drawn("document" if side == "query" else "query")
        return siblings(own, own if stored is None else own + stored, known, links)

    def _related(self, side: str, rows: Identity, columns: Identity, stored: Identity | None, known: Tensor) -> Tensor:
        if stored is None:
            return related(rows, columns, known)
        if self.relevant is not None:
            far = self.relevant.among(side, rows.hashes, stored.hashes)
            far[:, 1] += len(columns)
            known = torch.cat([known, far])
        return related(rows, columns + stored, known)
