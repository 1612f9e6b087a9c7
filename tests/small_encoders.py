"""Encoders small enough for tests: a tokenizer trained on a few sentences, models of one layer, no network."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Pack my box with five dozen liquor jugs, please!",
    "Sphinx of black quartz, judge my vow.",
    "How vexingly quick daft zebras jump over the dog",
    "Was it a café or a cafeteria? 007 knows; the fox does not.",
]
SIZES: dict[str, dict[str, Any]] = {
    # starting values as wide as in a trained model, so that tokens make a difference
    "bert": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.3,
    },
    "roberta": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.3,
    },
    "mpnet": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.3,
    },
    "distilbert": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_dim": 24,
        "initializer_range": 0.3,
    },
    "modernbert": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.3,
    },
    "t5": {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 24},
    "gpt2": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "initializer_range": 0.3},
}


@cache
def tokenizer(kind: str = "wordpiece", vocabulary: int = 150) -> Any:
    """Return a trained tokenizer of at most 24 tokens a text; one object for all tests, not to be changed."""
    from quincunx.nn.pretrained import train_tokenizer

    return train_tokenizer(SENTENCES, vocabulary=vocabulary, kind=kind, max_length=24)


def backbone(architecture: str = "bert", seed: int = 0, *, dropout: float = 0.0, **sizes: Any) -> Any:
    """Return a model of one layer and width 16, the same for the same seed."""
    from quincunx.nn.pretrained import build_backbone

    torch.manual_seed(seed)
    settings = {"architecture": architecture, **SIZES[architecture], **sizes}
    return build_backbone(
        settings, tokenizer(), dropout=dropout, attention_dropout=None if architecture == "t5" else dropout
    )


def batch(lengths: list[int], size: int | None = None, seed: int = 0, filling: int = 0) -> tuple[Tensor, Tensor]:
    """Return random tokens `[B, S]` of the given lengths, filled up with `filling`, and the lengths."""
    rows = np.random.default_rng(seed).integers(5, 100, (len(lengths), 24))
    tokens = torch.full((len(lengths), size or max(*lengths, 1, 1)), filling)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.from_numpy(rows[row, :length])
    return tokens, torch.tensor(lengths)
