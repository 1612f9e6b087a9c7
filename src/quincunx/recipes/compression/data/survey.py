"""Which split each document belongs to: a function of its words, so that no text is in two splits, nor twice in one.

N documents.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import counter_hash
from quincunx.errors import DataError
from quincunx.recipes.compression.data.documents import SPLITS, Document, Documents, content_hash, counted
from quincunx.seeds import address

FORMAT = 1
"""Raised whenever the same documents would get other splits."""
LEFT_OUT = -1
_TRAIN = SPLITS.index("train")
_UNGIVEN = len(SPLITS)


@dataclass(frozen=True)
class HeldOut:
    """What is kept from training, and which documents are read at all."""

    dev_share: float = 0.1
    """Share of the documents that are measured during training, where the data does not say which."""
    test_share: float = 0.1
    """Share of those that are measured at the end, likewise."""
    seed: int = 0
    limit: int | None = None
    """Only so many documents without a split of their own are read, the first; None: all."""

    def share(self, split: str) -> float:
        """Return the share of a split that is drawn."""
        return self.dev_share if split == "dev" else self.test_share


@dataclass(frozen=True)
class Survey:
    """The split of every document."""

    splits: NDArray[np.int8]
    """Place in `SPLITS` of each document in reading order, or `LEFT_OUT` [N]."""
    notes: list[str]
    """Sentences on what was decided."""
    limit: int | None = None
    """As in `HeldOut`."""

    def documents(self, source: Documents) -> Iterator[tuple[int, Document]]:
        """Yield each document that is used, with the place of its split.

        Raises:
            DataError: The source has changed since.
        """
        count = 0
        for document in limited(source, self.limit):
            count += 1
            if count <= len(self.splits) and (split := int(self.splits[count - 1])) != LEFT_OUT:
                yield split, document
        if count != len(self.splits):
            raise DataError(
                f"{source.what}: there were {len(self.splits):,} documents at first and {count:,} later; leave the "
                "files alone while they are read, and run it again"
            )


def limited(source: Documents, limit: int | None) -> Iterator[Document]:
    """Yield the documents that are read: all with a split of their own, and the first `limit` others."""
    left = limit
    for document in source.read():
        if document.split is None and left is not None:
            if not left:
                if {"dev", "test"} <= set(source.drawn):
                    return  # none has a split of its own: there is nothing more to find
                continue
            left -= 1
        yield document


def survey(source: Documents, held_out: HeldOut) -> Survey:
    """Read all documents once and return which split each belongs to.

    A document without a split of its own is drawn by a hash of (seed, content) alone: adding others never moves it,
    but where there are so few that a split would stay empty, which then gets the document that comes nearest. Of
    documents with the same words one is kept: that of the test split before that of dev, and dev before training.

    Raises:
        DataError: No document with any words, too few to fill the splits, or one that cannot be read.
    """
    hashes, given, words = array("Q"), array("b"), array("b")
    for document in limited(source, held_out.limit):
        hashes.append(content_hash(document.texts))
        given.append(_UNGIVEN if document.split is None else SPLITS.index(document.split))
        words.append(any(text.strip() for text in document.texts))
    content, own = np.frombuffer(hashes, np.uint64), np.frombuffer(given, np.int8)
    has_words = np.frombuffer(words, np.int8).astype(bool)
    if not has_words.any():
        raise DataError(f"{source.what}: there is no document with any text in it")
    splits = own.copy()
    free = np.flatnonzero((own == _UNGIVEN) & has_words)
    shares = {name: held_out.share(name) if name in source.drawn else 0.0 for name in ("test", "dev")}
    splits[free] = _drawn(content[free], shares, held_out.seed)
    splits[~has_words] = LEFT_OUT
    repeated = _repeated(content, splits)
    splits[repeated] = LEFT_OUT
    counts = {name: int((splits == place).sum()) for place, name in enumerate(SPLITS)}
    _check(source, held_out, counts)
    return Survey(splits, _said(source, counts, int((~has_words).sum()), int(repeated.sum())), held_out.limit)


def _drawn(content: NDArray[np.uint64], shares: Mapping[str, float], seed: int) -> NDArray[np.int8]:
    """Return the split of each document [N]: the test split takes the lowest draws, dev those above them."""
    different, which = np.unique(content, return_inverse=True)
    draws = counter_hash(different, address(seed, "held-out documents")) >> np.uint64(11)
    drawn, order = draws.astype(np.float64) / 2.0**53, np.argsort(draws, kind="stable")
    splits = np.full(len(different), _TRAIN, np.int8)
    taken, upto = 0, 0.0
    for place, (name, share) in enumerate(shares.items()):
        if not share:
            continue
        upto += share
        others = 1 + sum(share > 0 for share in list(shares.values())[place + 1 :])  # each gets one at least
        wanted = max(1, int((drawn < upto).sum()) - taken)
        count = max(0, min(wanted, len(different) - taken - others))
        splits[order[taken : taken + count]] = SPLITS.index(name)
        taken += count
    return splits[which]


def _repeated(content: NDArray[np.uint64], splits: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which documents have the words of one that is kept [N]: the highest split's first one is."""
    used = np.flatnonzero(splits != LEFT_OUT)
    ordered = used[np.lexsort((used, -splits[used], content[used]))]
    again = np.zeros(len(content), bool)
    again[ordered[1:]] = content[ordered[1:]] == content[ordered[:-1]]
    return again


def _check(source: Documents, held_out: HeldOut, counts: dict[str, int]) -> None:
    """Raise DataError where a split that is wanted has no document."""
    wanted = ["train", *(name for name in ("dev", "test") if name in source.drawn and held_out.share(name))]
    empty = [name for name in wanted if not counts[name]]
    if empty:
        total = sum(counts.values())
        raise DataError(
            f"{source.what}: {counted(total, 'different document')} cannot fill {', '.join(wanted)} "
            f"({', '.join(empty)} would be empty); give more text, cut it into more documents (data.document: "
            "paragraph or line), or set data.dev_share or data.test_share to 0"
        )


def _said(source: Documents, counts: dict[str, int], empty: int, repeated: int) -> list[str]:
    kept = ", ".join(f"{name} {counts[name]:,}" for name in SPLITS)
    drawn = [name for name in source.drawn if counts[name]]
    how = f"; {' and '.join(drawn)} drawn by content" if drawn else ""
    notes = [f"Documents of {source.what}: {kept}{how}."]
    if repeated:
        notes.append(f"Left out: {counted(repeated, 'document')} with the same words as another.")
    if empty:
        why = "without any text" if source.parts == 1 else "in which a text or the answer is missing"
        notes.append(f"Left out: {counted(empty, 'document')} {why}.")
    return notes
