"""Anchors and what is drawn for them, put together as logical batches in which no text stands twice.

A anchors, B of them in a batch, M texts drawn for them. A pair is a query and a document, whichever is the anchor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from quincunx.data.order import Indices
from quincunx.errors import DataError
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from quincunx.recipes.retrieval.data.collection import Collection, Relations
from quincunx.recipes.retrieval.data.known import joined_known
from quincunx.recipes.retrieval.data.numbered import NumberedTokens
from quincunx.recipes.retrieval.data.ragged import Drawing, Ragged, joined
from quincunx.recipes.retrieval.data.tokenised import Tokenised
from quincunx.seeds import address

Anchor = Literal["query", "document"]


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """A collection with the tokens of both sides."""

    collection: Collection
    queries: Tokenised
    documents: Tokenised


class TrainingSource:
    """Anchors by number, those of the first set first; `collate` draws for them and builds the batch."""

    def __init__(
        self,
        sets: Sequence[TrainingSet],
        *,
        anchor: Anchor = "query",
        positives: int | None = 1,
        negatives: int | None = 0,
        drawing: Drawing = "random",
        min_grade: int = 1,
    ) -> None:
        """Find the anchors of some sets.

        Args:
            sets: Collections whose texts are encoded by one model.
            anchor: `query`: every query that has a relevant document is an anchor, its documents are its positives and
                negatives. `document`: the other way round.
            positives: Positives drawn for each anchor, all of them where it has fewer; None: always all.
            negatives: Explicit negatives, likewise.
            drawing: Which ones: the `first`, a `random` subset, anew in every epoch, or a `window` of neighbours.
            min_grade: The grade from which a judged document is a positive. Pairs of a lower grade above 0 are never
                drawn and never taught as negatives.

        Raises:
            DataError: A set without an anchor.
            ValueError: Numbers out of range.
        """
        if min_grade < 1 or (positives is not None and positives < 1) or (negatives is not None and negatives < 0):
            raise ValueError("min_grade and positives are at least 1, negatives at least 0")
        self.sets = sets
        self.anchor: Anchor = anchor
        self.positives, self.negatives = positives, negatives
        self.drawing: Drawing = drawing
        self.texts = {
            "query": NumberedTokens([one.queries for one in sets]),
            "document": NumberedTokens([one.documents for one in sets]),
        }
        self.other: Anchor = "document" if anchor == "query" else "query"
        found = [_anchors(one.collection, anchor, min_grade) for one in sets]
        self.counts: tuple[int, ...] = tuple(len(numbers) for numbers, _, _ in found)
        """Anchors of each set."""
        own, others = self.texts[anchor].starts.tolist(), self.texts[self.other].starts.tolist()
        self._anchors = np.concatenate([numbers + start for (numbers, _, _), start in zip(found, own, strict=False)])
        self._positives = joined([part for _, part, _ in found], others[:-1])
        self._negatives = joined([part for _, _, part in found], others[:-1])
        self.known = joined_known([_known(one.collection) for one in sets])

    @property
    def notes(self) -> list[str]:
        """Sentences on what the data cannot give, for the start of a run."""
        notes: list[str] = []
        for name, wanted, found in (
            ("positives", self.positives, self._positives),
            ("explicit negatives", self.negatives, self._negatives),
        ):
            fewer = int((found.counts < (wanted or 0)).sum())
            if fewer:
                notes.append(f"{fewer:,} of {len(self):,} anchors have fewer than {wanted} {name}: all are taken.")
        return notes

    @property
    def has_scores(self) -> dict[str, bool]:
        """Whether a teacher scored the `positives` and the `negatives` that may be drawn, all of them."""
        return {
            name: found.scores is not None and not bool(np.isnan(found.scores).any())
            for name, found in (("positives", self._positives), ("negatives", self._negatives))
        }

    @property
    def lengths(self) -> Indices:
        """Tokens of each anchor and its longest positive together [A]; estimated where tokens are made when asked."""
        others = self.texts[self.other].lengths[self._positives.values]
        longest = np.maximum.reduceat(others, self._positives.offsets[:-1])
        return self.texts[self.anchor].lengths[self._anchors] + longest

    @cached_property
    def contents(self) -> Ragged:
        """Numbers of the texts of each anchor, equal where texts are: its own, and all its positives.

        Explicit negatives are not among them: one that is another anchor's positive is as good a negative.
        """
        others = self.texts[self.other].hashes[self._positives.values]
        texts, numbers = np.unique(others, return_inverse=True)
        _, own = np.unique(self.texts[self.anchor].hashes[self._anchors], return_inverse=True)
        offsets = self._positives.offsets + np.arange(len(self) + 1)
        values = np.empty(int(offsets[-1]), np.int64)
        values[offsets[:-1]] = own + len(texts)
        owners = np.repeat(np.arange(len(self)), self._positives.counts)
        values[np.arange(len(numbers)) + owners + 1] = numbers
        return Ragged(offsets, values)

    def __len__(self) -> int:
        return len(self._anchors)

    def __getitem__(self, index: int) -> int:
        """Return the anchor's number: what belongs to it is drawn with the rest of its batch."""
        return index

    def collate(self, examples: Sequence[int], ids: Sequence[int], rows: Sequence[int], seed: int) -> RetrievalBatch:
        """Return the batch of some anchors; what is drawn for one depends on its number and the seed."""
        anchors = np.asarray(examples, np.int64)
        own, other = self.texts[self.anchor], self.texts[self.other]
        drawn_for, positives = self._positives.draw(anchors, self.positives, self.drawing, address(seed, "positives"))
        also_for, negatives = self._negatives.draw(anchors, self.negatives, self.drawing, address(seed, "negatives"))
        owners = np.concatenate([drawn_for, also_for])
        wanted = np.concatenate([self._positives.values[positives], self._negatives.values[negatives]])
        own_texts, own_rows, own_first = own.merge(self._anchors[anchors])
        other_texts, other_rows, other_first = other.merge(wanted)

        numbers = {self.anchor: own_texts, self.other: other_texts}
        sides = {name: self.texts[name].batch(numbers[name]) for name in ("query", "document")}
        columns = {self.anchor: own_rows[owners], self.other: other_rows}
        pairs = np.stack([columns["query"], columns["document"]], axis=1)
        # which anchor brought a row in: each anchor its own, and of the others whoever drew it first
        brought = np.concatenate([own_first, owners[other_first]])
        tokens = np.concatenate([sides[self.anchor]["lengths"].numpy(), sides[self.other]["lengths"].numpy()])
        return RetrievalBatch(
            {},
            torch.tensor(list(rows), dtype=torch.int64),
            own.names(self._anchors[anchors]),
            torch.from_numpy(np.bincount(brought, tokens, len(anchors)).astype(np.int64)),
            sides=sides,
            links={
                name: torch.from_numpy(link) for name, link in self._links(numbers, pairs, positives, negatives).items()
            },
        )

    def _links(
        self, numbers: Mapping[str, Indices], pairs: Indices, positives: Indices, negatives: Indices
    ) -> dict[str, NDArray[Any]]:
        """Return the links of a batch.

        Args:
            numbers: By side, the text of each row.
            pairs: Rows of each drawn pair [M, 2], positives first.
            positives: The places in `_positives` of what was drawn there.
            negatives: Likewise.
        """
        hashes = {name: texts.hashes[numbers[name]] for name, texts in self.texts.items()}
        known = self.known.among(hashes["query"], hashes["document"])
        links: dict[str, NDArray[Any]] = {"known": known}
        # two anchors with one text may have drawn one pair twice; a negative may be a copy of a positive
        stride = np.array([len(numbers["document"]), 1])
        keys = pairs @ stride
        first = _first_mentions(keys[: len(positives)])
        links["positives"] = pairs[first]
        if self._positives.scores is not None:
            links["positive_scores"] = self._positives.scores[positives[first]]
        first = _first_mentions(keys[len(positives) :], forbidden=known @ stride)
        links["negatives"] = pairs[len(positives) + first]
        if self._negatives.scores is not None:
            links["negative_scores"] = self._negatives.scores[negatives[first]]
        for name, texts in self.texts.items():
            links[f"{name}_keys"] = texts.keys(numbers[name])
            links[f"{name}_hashes"] = hashes[name].view(np.int64)
        return links


def _anchors(collection: Collection, anchor: Anchor, min_grade: int) -> tuple[Indices, Ragged, Ragged]:
    """Return the anchors' places on their side [A], and their positives and explicit negatives by place [A rows]."""
    positives = collection.relevant.where(collection.relevant.grades >= min_grade)
    negatives = collection.negatives
    if anchor == "document":
        documents = len(collection.documents)
        positives, negatives = positives.by_document(documents), negatives.by_document(documents)
    places = np.flatnonzero(positives.counts > 0)
    if not len(places):
        raise DataError(
            f"{collection.name} has nothing to train on: none of its {len(collection.queries):,} queries has a "
            f"document of grade {min_grade} or above; expected at least one such pair"
        )
    return places, _ragged(positives).pick(places), _ragged(negatives).pick(places)


def _ragged(relations: Relations) -> Ragged:
    return Ragged(relations.offsets, relations.documents, relations.scores)


def _known(collection: Collection) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    relevant = collection.relevant.positive
    return collection.queries.hashes[relevant.queries], collection.documents.hashes[relevant.documents]


def _first_mentions(keys: Indices, forbidden: Indices | None = None) -> Indices:
    """Return the places of keys that were not there before and are not forbidden, ascending."""
    first = np.sort(np.unique(keys, return_index=True)[1])
    return first if forbidden is None else first[~np.isin(keys[first], forbidden)]
