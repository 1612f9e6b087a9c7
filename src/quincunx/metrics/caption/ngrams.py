"""The n-grams of captions and of their references, counted as arrays: what BLEU and CIDEr are computed from.

Counting all texts at once by sorting is several times faster than a dictionary a text. N captions, M references,
G different n-grams, E entries: pairs of a text and an n-gram in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Gram = tuple[str, ...]

LONGEST = 4


@dataclass(frozen=True)
class Grams:
    """The n-grams of one length, in captions and in references."""

    size: int
    """How many different ones there are, G."""
    captions: Whole
    """[E]: which caption an entry is of."""
    caption_grams: Whole
    """[E]: which n-gram, 0 to G - 1."""
    caption_counts: Whole
    """[E]: how often."""
    caption_most: Whole
    """[E]: how often at most in one reference of that caption."""
    references: Whole
    """[F]: which reference an entry of references is of."""
    reference_grams: Whole
    """[F]: which n-gram."""
    reference_counts: Whole
    """[F]: how often."""
    caption_counts_there: Whole
    """[F]: how often the same n-gram is in the reference's caption."""
    documents: Whole
    """[G]: the number of captions with a reference that has the n-gram."""
    places: Whole
    """[G]: where an instance of each n-gram begins among all words."""


@dataclass(frozen=True)
class Corpus:
    """Captions and references, cut into words and counted."""

    names: Sequence[str]
    """Ids of the captions [N]."""
    caption_lengths: Whole
    """[N]: words."""
    reference_lengths: Whole
    """[M]: words."""
    owners: Whole
    """[M]: which caption a reference belongs to; those of one caption stand together, in the captions' order."""
    grams: Sequence[Grams]
    """By length, 1 to `LONGEST`."""
    words: Sequence[str]
    """All words of all texts, one after another."""

    def gram(self, length: int, number: int) -> Gram:
        """Return the words of an n-gram by its number."""
        start = int(self.grams[length - 1].places[number])
        return tuple(self.words[start : start + length])

    def per_caption(self, values: NDArray[np.generic], texts: Whole) -> NDArray[np.float64]:
        """Return the sums of entries' values by their caption [N]."""
        return np.asarray(np.bincount(texts, values, len(self.names)), np.float64)


def count(references: Mapping[str, Sequence[Sequence[str]]], captions: Mapping[str, Sequence[str]]) -> Corpus:
    """Return the corpus of some captions, each a list of words, with their references.

    Args:
        references: Id -> references, at least one each.
        captions: Id -> caption, at least the ids of the references.
    """
    names = list(references)
    owners = np.repeat(np.arange(len(names)), [len(references[name]) for name in names])
    texts = [captions[name] for name in names] + list(chain.from_iterable(references.values()))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    words = list(chain.from_iterable(texts))
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64, len(words))
    text = np.repeat(np.arange(len(texts)), lengths)
    room = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))  # words from here to the end of the text
    captions_of = np.concatenate([np.arange(len(names)), owners])
    grams, found = ids, []
    for length in range(1, LONGEST + 1):
        places = np.flatnonzero(room >= length)
        keys = ids[places] if length == 1 else grams[places] * len(numbers) + ids[places + length - 1]
        _, first, here = np.unique(keys, return_index=True, return_inverse=True)
        grams = np.zeros(len(words), np.int64)
        grams[places] = here
        found.append(_tables(text[places], here, places[first], captions_of, len(names)))
    return Corpus(names, lengths[: len(names)], lengths[len(names) :], owners, found, words)


def _tables(text: Whole, grams: Whole, places: Whole, captions_of: Whole, captions: int) -> Grams:
    """Return the counts of n-grams [E'] that stand in texts [E'], captions first and references after them."""
    size = len(places)
    keys, counts = np.unique(text * size + grams, return_counts=True)
    texts, kinds = (keys // size, keys % size) if size else (keys, keys)
    parted = int(np.searchsorted(texts, captions))
    own_keys, own_counts = keys[:parted], counts[:parted]
    shared = captions_of[texts[parted:]] * size + kinds[parted:]  # (caption, n-gram) of references' entries
    shared_keys, where = np.unique(shared, return_inverse=True)
    most = np.zeros(len(shared_keys), np.int64)
    np.maximum.at(most, where, counts[parted:])
    return Grams(
        size,
        texts[:parted],
        kinds[:parted],
        own_counts,
        _looked_up(own_keys, shared_keys, most),
        texts[parted:] - captions,
        kinds[parted:],
        counts[parted:],
        _looked_up(shared, own_keys, own_counts),
        np.bincount(shared_keys % size, minlength=size) if size else np.zeros(0, np.int64),
        places,
    )


def _looked_up(wanted: Whole, keys: Whole, values: Whole) -> Whole:
    """Return the values of wanted keys, 0 where there is no such key; `keys` are sorted."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
