"""The texts of a collection that pretraining learns from: captions, questions, and other sentences about pictures.

Other sentences are expressions (refcoco), sentences to be translated (mmt) and statements that are true (nlvr).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.folder import Examples
from quincunx.recipes.vision_language.data.record import Example
from quincunx.recipes.vision_language.tasks.asking import TRUE

CAPTIONS = "caption"
QUESTIONS = ("vqa", "gqa")
SENTENCES = ("refcoco", "mmt", "nlvr")
SOURCES = (CAPTIONS, *QUESTIONS, *SENTENCES)
"""Tasks whose texts are used."""
TRIES = 20
"""Draws of another's text, before all are gone through."""


def texts_of(example: Example, *, lowercase: bool = False) -> list[str]:
    """Return the texts of an example about its pictures, single spaces between words; none where it has none of use."""
    if not example.pictures or example.task not in SOURCES:
        return []
    if example.task == CAPTIONS:
        listed = [str(text) for text in example.more.get("references") or ()]
        found = listed or [answer.text for answer in example.answers]
    elif example.task == "nlvr" and [answer.text for answer in example.answers[:1]] != [TRUE]:
        found = []
    else:
        found = [example.text]
    texts = [" ".join(text.split()) for text in found]
    return [text.lower() if lowercase else text for text in texts if text]


@dataclass(frozen=True)
class Pool:
    """Examples of several files, one file's after another's, whose texts may be swapped."""

    parts: Sequence[tuple[Examples, NDArray[np.int64]]]
    """Files, and the places of the examples in them."""

    def __len__(self) -> int:
        return sum(len(chosen) for _, chosen in self.parts)

    def __getitem__(self, number: int) -> Example:
        """Return an example; IndexError beyond the last."""
        for examples, chosen in self.parts:
            if number < len(chosen):
                return examples[int(chosen[number])]
            number -= len(chosen)
        raise IndexError("beyond the last example of the pool")

    @property
    def pictures(self) -> int:
        """How many different pictures the examples are about."""
        places = [
            examples.picture_places[start:end]
            for examples, chosen in self.parts
            for start, end in zip(
                examples.picture_offsets[chosen].tolist(), examples.picture_offsets[chosen + 1].tolist(), strict=True
            )
        ]
        return len(np.unique(np.concatenate(places))) if places else 0

    def another(self, example: Example, draw: np.random.Generator) -> str:
        """Return a text about other pictures, which is none of the example's own texts either.

        Raises:
            DataError: There is none.
        """
        own, known = {*example.pictures}, {text.casefold() for text in texts_of(example)}
        start = int(draw.integers(len(self)))
        for number in [start, *draw.integers(len(self), size=TRIES - 1).tolist(), *range(start + 1, start + len(self))]:
            other = self[number % len(self)]
            texts = [text for text in texts_of(other) if text.casefold() not in known]
            if texts and own.isdisjoint(other.pictures):
                return texts[int(draw.integers(len(texts)))]
        raise DataError(
            f"{example.task}, example {example.uid}: no text about another picture differs from its own, so itm has "
            "nothing to swap it for; add captions of other pictures, or leave itm out of pretraining.losses"
        )
