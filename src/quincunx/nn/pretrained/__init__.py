"""Encoders of the transformers library and their tokenizers: loaded from a folder or the hub, or built and trained.

- `folder.py` a path or hub name -> a local folder, and what a sentence-transformers folder adds to its transformer;
- `load.py` that folder -> model and tokenizer, checked to be whole; `build.py` sizes -> a model with fresh weights;
- `train_tokenizer.py` texts -> a tokenizer, `unigram.py` one kind's vocabulary; `tokens.py` texts -> arrays of ids;
- `facts.py` what a model has to be asked before it is fed.

Nothing is ever unpickled and no code of a model folder is run. The library is imported when it is first needed.
"""

from quincunx.nn.pretrained.build import build_backbone
from quincunx.nn.pretrained.folder import DenseLayer, SentenceLayout, find_folder, read_layout
from quincunx.nn.pretrained.load import load_backbone, load_scorer
from quincunx.nn.pretrained.tokens import PairForm, Tokens
from quincunx.nn.pretrained.train_tokenizer import train_tokenizer

__all__ = [
    "DenseLayer",
    "PairForm",
    "SentenceLayout",
    "Tokens",
    "build_backbone",
    "find_folder",
    "load_backbone",
    "load_scorer",
    "read_layout",
    "train_tokenizer",
]
