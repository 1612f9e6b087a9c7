"""What 8-bit models are set up with and judged by: texts of the corpus, and how far their vectors move.

N texts, B texts of a batch, S tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError

Batch = dict[str, NDArray[np.int64]]
Tokens = NDArray[np.int32]
TEXTS = 64
"""Texts that scales are taken from."""
HELD = 128
"""Further texts by which the drop is measured; scales do not come from them."""
LEAST = 8
ROWS = 8
"""Texts of a batch."""


def padded(tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Batch:
    """Return a graph's inputs for tokens `[B, S]` of which `lengths [B]` are valid; a row without any counts as one."""
    places = np.arange(tokens.shape[1])
    mask = (places < np.maximum(lengths, 1)[:, None]).astype(np.int64)
    return {"input_ids": np.where(places < lengths[:, None], tokens, 0), "attention_mask": mask}


@dataclass(frozen=True)
class Sample:
    """Texts to set scales by and others to judge by."""

    scales: Sequence[Tokens]
    judged: Sequence[Tokens]

    @classmethod
    def of(cls, texts: Sequence[Tokens] | None) -> Sample:
        """Return a sample of the tokens of texts, spread evenly over them.

        Raises:
            UsageError: There are none, or too few.
        """
        found = [text for text in texts or () if len(text)]
        check_enough(len(found))
        count = min(len(found), TEXTS + HELD)
        picked = [found[place] for place in np.linspace(0, len(found) - 1, count).astype(int)]
        every = 3 if count > 2 * TEXTS else 2
        return cls(picked[::every], [text for place, text in enumerate(picked) if place % every])

    def batches(self) -> list[Batch]:
        """Return the texts that set the scales, those of like length together."""
        return [padded(*batch) for batch in stacked(sorted(self.scales, key=len))]


def check_enough(texts: int) -> None:
    """Raise UsageError where so many texts are too few to set scales by and to judge them."""
    if texts < LEAST:
        raise UsageError(
            f"8 bits are set up by texts of the corpus, at least {LEAST} of them, and there are {texts}: name a "
            "corpus, or leave int8 out"
        )


def stacked(texts: Sequence[Tokens], rows: int = ROWS) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return tokens `[B, S]` and lengths `[B]` of texts, in their order."""
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, len(texts), rows):
        part = texts[start : start + rows]
        lengths = np.array([len(text) for text in part], np.int64)
        tokens = np.zeros((len(part), int(lengths.max())), np.int64)
        for row, text in enumerate(part):
            tokens[row, : len(text)] = text
        found.append((tokens, lengths))
    return found


@dataclass(frozen=True)
class Drop:
    """What 8 bits change, on texts that the scales do not come from."""

    texts: int
    mean_cosine: float
    """Of a text's vector in 8 bits with that in float32."""
    least_cosine: float
    neighbours: float
    """Share of each text's ten nearest among the others (by cosine) that stay among the ten."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"8 bits against float32 on {self.texts} texts: cosine {self.mean_cosine:.4f} (least "
            f"{self.least_cosine:.4f}), {self.neighbours:.1%} of the ten nearest stay"
        )


Encode = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


def drop(exact: Encode, quantized: Encode, texts: Sequence[Tokens]) -> Drop:
    """Return what an 8-bit form of a model changes."""
    batches = stacked(sorted(texts, key=len))
    before, after = (_unit(np.concatenate([encode(*batch) for batch in batches])) for encode in (exact, quantized))
    cosines = (before * after).sum(axis=1)
    nearest = min(10, len(texts) - 1)
    kept = [
        len(set(one) & set(other)) / nearest
        for one, other in zip(_nearest(before, nearest), _nearest(after, nearest), strict=True)
    ]
    return Drop(len(texts), float(cosines.mean()), float(cosines.min()), float(np.mean(kept)))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _nearest(vectors: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the places `[N, count]` of each vector's nearest others."""
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    return np.argsort(-products, axis=1, kind="stable")[:, :count]
