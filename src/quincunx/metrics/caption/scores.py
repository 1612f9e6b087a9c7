"""Captions measured against references: all measures at once, from texts or from words.

Given the same words, BLEU, ROUGE-L and CIDEr are those of the COCO captioning evaluation (Chen et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from quincunx.errors import DataError, UsageError
from quincunx.metrics.caption.bleu import bleu
from quincunx.metrics.caption.cider import Frequencies, cider
from quincunx.metrics.caption.meteor import meteor_lite
from quincunx.metrics.caption.ngrams import LONGEST, Corpus, count
from quincunx.metrics.caption.rouge import rouge_l
from quincunx.metrics.caption.tokens import ptb_words
from quincunx.metrics.measured import Measured, same_ids

Words = Sequence[str]
Tokenizer = Callable[[str], Words]

FAMILIES: Mapping[str, Sequence[str]] = {
    "bleu": tuple(f"bleu_{length}" for length in range(1, LONGEST + 1)),
    "rouge_l": ("rouge_l",),
    "cider": ("cider", "cider_d", "cider_plain"),
    "meteor_lite": ("meteor_lite",),
}
"""What can be measured, by the names that are asked for; with what each gives."""


@dataclass(frozen=True)
class Captions:
    """References and captions as words, checked and in one order: what the measures take."""

    references: Mapping[str, Sequence[Words]]
    candidates: Mapping[str, Words]


def score_captions(
    references: Mapping[str, Sequence[str]],
    candidates: Mapping[str, str],
    measures: Iterable[str] = tuple(FAMILIES),
    *,
    tokenizer: Tokenizer = ptb_words,
    frequencies: Frequencies | None = None,
) -> dict[str, Measured]:
    """Return measures of captions: `bleu_1` to `bleu_4`, `rouge_l`, `cider`, `cider_d`, `cider_plain`, `meteor_lite`.

    All lie between 0 and 1, those of CIDEr between 0 and 10. A caption without words has 0 (BLEU: next to 0).

    Args:
        references: Id -> references, at least one each and none without words.
        candidates: The same ids -> caption, which may be empty.
        measures: Families of measures: `bleu`, `rouge_l`, `cider`, `meteor_lite`.
        tokenizer: From a text to its words; `str.split` where texts are cut into words already.
        frequencies: Document frequencies for CIDEr; None: those of `references`.

    Raises:
        UsageError: An unknown measure.
        DataError: Ids that are not the same, an id without references, values of other kinds; the text names the id.
    """
    wanted = list(measures)
    for name in wanted:
        if name not in FAMILIES:
            raise UsageError(f"{name!r} is no measure of captions; there are: {', '.join(FAMILIES)}")
    texts = read_words(references, candidates, tokenizer)
    corpus: Corpus | None = None
    found: dict[str, Measured] = {}
    if "bleu" in wanted or "cider" in wanted:
        corpus = count(texts.references, texts.candidates)
    if "bleu" in wanted and corpus is not None:
        found |= bleu(corpus)
    if "rouge_l" in wanted:
        found["rouge_l"] = rouge_l(texts.references, texts.candidates)
    if "cider" in wanted and corpus is not None:
        found |= cider(corpus, frequencies)
    if "meteor_lite" in wanted:
        found["meteor_lite"] = meteor_lite(texts.references, texts.candidates)
    return found


def read_words(
    references: Mapping[str, Sequence[str]], candidates: Mapping[str, str], tokenizer: Tokenizer = ptb_words
) -> Captions:
    """Return captions and references as words, candidates in the order of references; errors as `score_captions`."""
    names = same_ids(references, candidates, "caption", "candidates")
    known: dict[str, Words] = {}

    def words(text: str) -> Words:
        found = known.get(text)
        if found is None:
            found = known[text] = tokenizer(text)
        return found

    cut: dict[str, list[Words]] = {}
    for name in names:
        texts, caption = references[name], candidates[name]
        if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
            raise DataError(f"references, id {name!r}: found {_shown(texts)}, expected a list of one text or more")
        if not isinstance(caption, str):
            raise DataError(f"candidates, id {name!r}: found {_shown(caption)}, expected one text")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"references, id {name!r}, number {number}: found {_shown(text)}, expected a text")
            if not words(text):
                raise DataError(
                    f"references, id {name!r}, number {number}: no words in {_shown(text)}; "
                    "expected a caption: leave this reference out"
                )
        cut[name] = [words(text) for text in texts]
    return Captions(cut, {name: words(candidates[name]) for name in names})


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
