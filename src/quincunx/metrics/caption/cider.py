"""CIDEr (Vedantam, Zitnick, Parikh 2015): how like its references a caption is in words that tell pictures apart.

Texts are vectors of their n-grams' counts, weighed by log(pictures / pictures whose references have the n-gram); their
cosine is averaged over references and over n = 1 to 4, times 10. The plain cosine is `cider_plain`; what is published
as "CIDEr" is CIDEr-D, which clips the caption's weights at the reference's and lessens the value where lengths differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quincunx.errors import DataError
from quincunx.metrics.caption.ngrams import LONGEST, Corpus, Gram, Grams
from quincunx.metrics.measured import Measured, Numbers, mean

SIGMA = 6.0
"""The length difference, in words, at which the penalty is exp(-1/2)."""
SCALE = 10.0


@dataclass(frozen=True)
class Frequencies:
    """In how many pictures' references n-grams occur, kept from a larger corpus."""

    pictures: int
    counts: Mapping[Gram, int]

    def __post_init__(self) -> None:
        worst = max(self.counts.values(), default=0)
        if self.pictures < 1 or worst > self.pictures:
            raise DataError(f"document frequencies: an n-gram in {worst} of {self.pictures} pictures is impossible")


def document_frequencies(references: Iterable[Sequence[Sequence[str]]]) -> Frequencies:
    """Return the document frequencies of pictures, each with its references, each a list of words."""
    counts: dict[Gram, int] = {}
    pictures = 0
    for texts in references:
        pictures += 1
        grams = {
            tuple(words[start : start + n])
            for words in texts
            for n in range(1, LONGEST + 1)
            for start in range(len(words) - n + 1)
        }
        for gram in grams:
            counts[gram] = counts.get(gram, 0) + 1
    return Frequencies(pictures, counts)


def cider(corpus: Corpus, frequencies: Frequencies | None = None) -> dict[str, Measured]:
    """Return `cider`, `cider_d` and `cider_plain`, each between 0 and 10 and the mean over captions.

    `cider` and `cider_d` are one value under both of its names: the COCO captioning evaluation, and every table that
    reports CIDEr with it, computes CIDEr-D. As there, a text's length is its number of word pairs, so that none and
    one word count alike, and no words are stemmed. Bootstrap intervals hold the document frequencies fixed.

    Args:
        corpus: Captions with references; a single picture tells no words apart, so all values are then 0.
        frequencies: Of a larger corpus; None: those of the corpus's own references.
    """
    pictures = len(corpus.names) if frequencies is None else frequencies.pictures
    pairs = np.maximum(corpus.reference_lengths - 1, 0) - np.maximum(corpus.caption_lengths - 1, 0)[corpus.owners]
    penalty = np.exp(-(pairs.astype(np.float64) ** 2) / (2 * SIGMA**2))
    clipped, plain = np.zeros(len(corpus.owners)), np.zeros(len(corpus.owners))
    for length, grams in enumerate(corpus.grams, 1):
        known = grams.documents if frequencies is None else _looked_up(corpus, length, frequencies)
        one, other = _cosines(corpus, grams, math.log(pictures) - np.log(np.maximum(known, 1)))
        clipped += one
        plain += other
    published = _averaged(corpus, clipped * penalty)
    return {"cider": published, "cider_d": published, "cider_plain": _averaged(corpus, plain)}


def _cosines(corpus: Corpus, grams: Grams, weight: Numbers) -> tuple[Numbers, Numbers]:
    """Return each reference's cosine with its caption, clipped and plain [M]; `weight`: of each n-gram [G]."""
    references = len(corpus.owners)
    caption = np.sqrt(corpus.per_caption((grams.caption_counts * weight[grams.caption_grams]) ** 2, grams.captions))
    ours = grams.caption_counts_there * weight[grams.reference_grams]
    theirs = grams.reference_counts * weight[grams.reference_grams]
    reference = np.sqrt(np.bincount(grams.references, theirs**2, references))
    lengths = caption[corpus.owners] * reference
    lengths[lengths == 0] = 1  # one of the two is all zeros, and so are the products
    clipped = np.bincount(grams.references, np.minimum(ours, theirs) * theirs, references)
    return clipped / lengths, np.bincount(grams.references, ours * theirs, references) / lengths


def _averaged(corpus: Corpus, values: Numbers) -> Measured:
    """Return the measure from each reference's sum over lengths of n-grams [M]."""
    captions = len(corpus.names)
    sums = np.bincount(corpus.owners, values, captions)
    return mean(corpus.names, SCALE * sums / LONGEST / np.bincount(corpus.owners, minlength=captions))


def _looked_up(corpus: Corpus, length: int, frequencies: Frequencies) -> Numbers:
    size = corpus.grams[length - 1].size
    found = (frequencies.counts.get(corpus.gram(length, number), 0) for number in range(size))
    return np.fromiter(found, np.float64, size)
