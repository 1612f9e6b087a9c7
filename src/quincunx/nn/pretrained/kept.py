"""What a run keeps of its encoder beside the weights, so that it can be read again wherever its base has gone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from quincunx.nn.pretrained.folder import library
from quincunx.nn.pretrained.load import encoder_class, finish, scorer_class, transformers_library

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def files_of(model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Return the text files, by name, from which `read_again` makes the same tokenizer and a model of the same form."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        if model is not None:
            model.config.save_pretrained(folder)
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).iterdir())}


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer that `files_of` wrote; UsageError where the files are damaged."""
    transformers = transformers_library("reading a run's tokenizer")
    return library(
        f"the tokenizer in {folder}",
        lambda: transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )


def read_model(folder: Path, *, attn_implementation: str | None = None, scorer: bool = False) -> PreTrainedModel:
    """Return a model of the form that `files_of` wrote, with fresh weights in place of which others are to be loaded.

    Args:
        folder: Where the files are.
        attn_implementation: As in `load_backbone`.
        scorer: Whether it is a cross-encoder's.

    Raises:
        UsageError: The files are damaged.
    """
    transformers = transformers_library("reading a run's encoder")
    config = library(
        f"the encoder's config in {folder}",
        lambda: transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    maker = scorer_class() if scorer else encoder_class(config, folder)
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    model = library(f"the encoder of {folder}", lambda: maker.from_config(config, trust_remote_code=False, **options))
    return finish(model, attn_implementation)


def read_causal(folder: Path, *, attn_implementation: str, dtype: str) -> PreTrainedModel:
    """Return a causal language model of the form that `files_of` wrote, its weights fresh and to be replaced.

    Args:
        folder: Where the files are.
        attn_implementation: As in `quincunx.nn.pretrained.causal.load_causal`.
        dtype: Likewise; `auto` is what the form says.

    Raises:
        UsageError: The files are damaged.
    """
    transformers = transformers_library("reading a run's language model")
    config = library(
        f"the language model's config in {folder}",
        lambda: transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    maker = transformers.AutoModelForCausalLM
    options = {
        "attn_implementation": attn_implementation,
        "dtype": (config.dtype or "float32") if dtype == "auto" else dtype,
    }
    model = library(f"the model of {folder}", lambda: maker.from_config(config, trust_remote_code=False, **options))
    return finish(model, attn_implementation)
