"""Measures of captions without Java: BLEU, ROUGE-L, CIDEr and CIDEr-D, METEOR-lite: `score_captions`."""

from quincunx.metrics.caption.cider import Frequencies, document_frequencies
from quincunx.metrics.caption.scores import FAMILIES, score_captions
from quincunx.metrics.caption.tokens import ptb_words

__all__ = ["FAMILIES", "Frequencies", "document_frequencies", "ptb_words", "score_captions"]
