"""A tokenizer that only has a size: for models of which nothing but shapes is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quincunx.errors import MissingExtra, UsageError
from quincunx.nn.pretrained.train_tokenizer import SPECIAL

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def placeholder_tokenizer(
    vocabulary: int, special_tokens: Sequence[str] = (), max_length: int = 512
) -> PreTrainedTokenizerBase:
    """Return a tokenizer of so many entries, special ones included, that knows no word.

    Args:
        vocabulary: Entries.
        special_tokens: Further ones than those that a trained tokenizer has.
        max_length: Its `model_max_length`.

    Raises:
        UsageError: The special tokens alone are more.
        MissingExtra: transformers is not installed.
    """
    try:
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise MissingExtra("transformers", "retrieval", "a tokenizer") from None
    names = list(dict.fromkeys([*SPECIAL.values(), *special_tokens]))
    if len(names) > vocabulary:
        raise UsageError(f"a vocabulary of {vocabulary} is too small: special tokens alone are {len(names)}")
    names += [f"word {number}" for number in range(vocabulary - len(names))]
    level = models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=SPECIAL["unk"])
    own: dict[str, Any] = {f"{name}_token": token for name, token in SPECIAL.items()}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(level), model_max_length=max_length, **own)
