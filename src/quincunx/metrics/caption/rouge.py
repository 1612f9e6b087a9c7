"""ROUGE-L of captions (Lin and Och 2004): the longest common subsequence with each reference, as an F-measure.

Precision and recall are each the best over the references, not of one reference, and recall weighs more (beta 1.2), as
in the COCO captioning evaluation (Chen et al. 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quincunx.metrics.measured import Measured, mean

BETA = 1.2


def rouge_l(references: Mapping[str, Sequence[Sequence[str]]], captions: Mapping[str, Sequence[str]]) -> Measured:
    """Return ROUGE-L between 0 and 1, the mean over captions; a caption without words has 0.

    Args:
        references: Id -> references, each a list of one word or more.
        captions: Id -> caption, a list of words.
    """
    return mean(list(references), [_of_one(captions[name], texts) for name, texts in references.items()])


def _of_one(caption: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    if not caption:
        return 0.0
    places: dict[str, int] = {}
    for number, word in enumerate(caption):
        places[word] = places.get(word, 0) | 1 << number
    common = [common_length(places, len(caption), reference) for reference in references]
    precision = max(common) / len(caption)
    if not precision:
        return 0.0
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_length(places: Mapping[str, int], length: int, other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence of two texts.

    A row of the usual table is held in the bits of one integer: Hyyrö, "Bit-parallel LCS-length computation
    revisited" (2004). A zero bit of the row says that the length grows at that word.

    Args:
        places: Of the first text, word -> where it stands, as bits.
        length: Of the first text, in words.
        other: The second text.
    """
    whole = (1 << length) - 1
    row = whole
    for word in other:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & whole
    return length - row.bit_count()
