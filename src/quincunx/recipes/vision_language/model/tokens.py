"""Words by which texts name regions, `<vis_extra_id_n>`, and those of span corruption, `<extra_id_n>`.

They end the vocabulary, the numbers falling: the last word is `<vis_extra_id_0>`, whose embedding is that of the first
object of a picture (`visual.py`), as VL-T5 has them (Cho et al., ICML 2021).
"""

from __future__ import annotations

from typing import Any

import torch

from quincunx.errors import UsageError
from quincunx.seeds import address

COUNT = 100
"""Words of each kind."""


def names(kind: str, count: int = COUNT) -> list[str]:
    """Return the words of a kind, `vis_extra_id` or `extra_id`, in the order in which they stand in a vocabulary."""
    return [f"<{kind}_{number}>" for number in reversed(range(count))]


def add_visual_tokens(tokenizer: Any, backbone: Any, *, seed: int = 0) -> int:
    """Add the words to a tokenizer, and their embeddings to a backbone, both in place; a second call changes nothing.

    T5 has `<extra_id_n>` already; a backbone with more embeddings than its tokenizer has words gives some of those to
    the new words, and has as many as the tokenizer afterwards.

    Args:
        tokenizer: Of Hugging Face.
        backbone: The encoder-decoder, before a model is made of it.
        seed: Of the new embeddings.

    Returns:
        How many words are new.

    Raises:
        UsageError: The words stand elsewhere in the vocabulary, or the backbone has fewer embeddings than the tokenizer
            has words.
    """
    before, rows = len(tokenizer), backbone.get_input_embeddings().weight.shape[0]
    if rows < before:
        raise UsageError(f"the tokenizer has {before} words, the backbone {rows} embeddings: they are not of one model")
    known = tokenizer.get_vocab()
    there = {name: known[name] for name in names("vis_extra_id") if name in known}
    if there and there != {name: before - COUNT + place for place, name in enumerate(names("vis_extra_id"))}:
        raise UsageError(
            "<vis_extra_id_99> to <vis_extra_id_0> must be the last words of the vocabulary, and this tokenizer has "
            f"some elsewhere ({next(iter(there))}): begin with the tokenizer that the backbone came with"
        )
    if there:
        wanted: list[str] = []  # a word behind them would take their place
    else:
        wanted = [name for name in (*names("extra_id"), *names("vis_extra_id")) if name not in known]
    tokenizer.add_tokens(wanted, special_tokens=True)
    if len(tokenizer) != rows:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(address(seed, "visual tokens"))
            backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return len(tokenizer) - before
