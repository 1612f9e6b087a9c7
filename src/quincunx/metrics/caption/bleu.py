"""BLEU of captions (Papineni, Roukos, Ward, Zhu 2002) with several references, as captioning reports it.

Counts are clipped at the most that one reference has; the length is compared with that of the closest reference, the
shorter of two as close. The smoothing by tiny constants is that of the COCO captioning evaluation (Chen et al. 2015).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quincunx.metrics.caption.ngrams import LONGEST, Corpus
from quincunx.metrics.measured import Measured, Numbers, from_sums

TINY, SMALL = 1e-15, 1e-9
"""What is added to counts of matches, so that no root is of nought, and of guesses, so that none divides."""


def bleu(corpus: Corpus) -> dict[str, Measured]:
    """Return `bleu_1` to `bleu_4`, between 0 and 1: of the corpus from its sums, of each caption from its own counts.

    So the corpus value is no mean of the captions' values.
    """
    sums = statistics(corpus)
    return {
        f"bleu_{longest}": from_sums(corpus.names, value(sums, longest), sums, lambda rows, n=longest: value(rows, n))
        for longest in range(1, LONGEST + 1)
    }


def statistics(corpus: Corpus) -> Numbers:
    """Return what each caption adds to sums [N, 10]: matches by length, guesses by length, words, reference words."""
    columns = [
        corpus.per_caption(np.minimum(grams.caption_counts, grams.caption_most), grams.captions)
        for grams in corpus.grams
    ]
    columns += [np.maximum(corpus.caption_lengths - longer, 0) for longer in range(LONGEST)]
    return np.stack([*columns, corpus.caption_lengths, closest_lengths(corpus)], axis=1).astype(np.float64)


def closest_lengths(corpus: Corpus) -> NDArray[np.int64]:
    """Return the length of each caption's closest reference [N]."""
    away = np.abs(corpus.reference_lengths - corpus.caption_lengths[corpus.owners])
    best = np.lexsort((corpus.reference_lengths, away, corpus.owners))
    _, first = np.unique(corpus.owners, return_index=True)  # references of a caption stand together, sorted or not
    return corpus.reference_lengths[best[first]]


def value(sums: Numbers, longest: int) -> Numbers:
    """Return BLEU of n-grams up to a length from rows of `statistics` [R]."""
    matches, guesses = sums[:, :longest], sums[:, LONGEST : LONGEST + longest]
    precision = np.prod((matches + TINY) / (guesses + SMALL), axis=1) ** (1 / longest)
    ratio = (sums[:, -2] + TINY) / (sums[:, -1] + SMALL)
    return precision * np.exp(np.minimum(1 - 1 / ratio, 0))
