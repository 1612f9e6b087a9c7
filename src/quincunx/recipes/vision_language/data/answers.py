"""What ten people said, as answers with weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from quincunx.recipes.vision_language.data.record import Answer


def soft_answers(annotations: Sequence[str]) -> tuple[Answer, ...]:
    """Return what annotators said, the most frequent first, each with min(1, n / 3).

    That is how VQA v2 scores an answer (Goyal et al. 2017), but for its mean over the subsets of nine annotators. The
    texts are taken as they are.
    """
    places: dict[str, int] = {}
    for place, text in enumerate(annotations):
        places.setdefault(text, place)
    ranked = sorted(Counter(annotations).items(), key=lambda item: (-item[1], places[item[0]]))
    return tuple(Answer(text, min(1.0, count / 3)) for text, count in ranked)
