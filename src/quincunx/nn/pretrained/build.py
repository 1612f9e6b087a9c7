"""An encoder of any architecture of the transformers library with fresh weights: sizes in, model out, no hub needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quincunx.config.suggest import closest
from quincunx.errors import UsageError
from quincunx.nn.pretrained.facts import position_table
from quincunx.nn.pretrained.load import (
    encoder_class,
    finish,
    make_scorer,
    override_dropout,
    scorer_class,
    transformers_library,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

OFFSET = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "roberta-prelayernorm", "mpnet",
          "longformer", "ibert", "esm", "luke", "xmod")  # fmt: skip
"""Architectures that number positions from the padding id + 1, so that their table needs so many rows more."""


def build_backbone(
    settings: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    attn_implementation: str | None = None,
    dropout: float | None = None,
    attention_dropout: float | None = None,
    scorer: bool = False,
) -> PreTrainedModel:
    """Return a model of the given sizes with the architecture's own random weights, from torch's generator.

    Vocabulary, special ids and number of positions follow the tokenizer where the settings leave them out.

    Args:
        settings: `architecture` (bert, roberta, distilbert, modernbert, mpnet ...: any that the library knows) and
            sizes under the names of its config (`hidden_size`, `num_hidden_layers` ...).
        tokenizer: Whose ids the model is to read.
        attn_implementation: As in `load_backbone`.
        dropout: Of states and embeddings; None leaves what the settings or the architecture say.
        attention_dropout: Of attention weights, the same way.
        scorer: With a head of one score, for a cross-encoder.

    Raises:
        UsageError: An unknown architecture or size, with the nearest known one; values that do not fit one another;
            a vocabulary smaller than the tokenizer's.
        MissingExtra: The library is not installed.
    """
    sizes = dict(settings)
    architecture = sizes.pop("architecture", None)
    config = make_config(architecture, sizes, tokenizer)
    maker = encoder_class(config, f"the architecture {architecture!r}")
    override_dropout(config, dropout, attention_dropout)
    if config.vocab_size < len(tokenizer):
        raise UsageError(f"vocab_size is {config.vocab_size}, but the tokenizer has {len(tokenizer)} tokens")
    if scorer:
        make_scorer(config, tokenizer)
        maker = scorer_class()
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    try:
        model = maker.from_config(config, trust_remote_code=False, **options)
    except (ValueError, TypeError, RuntimeError, ImportError, AssertionError) as error:
        raise UsageError(f"no {architecture} model can be built of these sizes: {error}") from error
    table = position_table(model)
    if table is not None and table.padding_idx not in (None, tokenizer.pad_token_id):
        raise UsageError(
            f"{architecture} numbers positions from the padding id {table.padding_idx}, but this tokenizer pads with "
            f"{tokenizer.pad_token_id}: choose a tokenizer that pads with {table.padding_idx}, or another architecture"
        )
    return finish(model, attn_implementation)


def make_config(architecture: Any, sizes: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Return an architecture's config of these sizes, the rest from the tokenizer; errors as in `build_backbone`."""
    transformers_library("building a model")
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if architecture not in CONFIG_MAPPING:
        raise UsageError(f"unknown architecture {architecture!r}{_nearest(str(architecture), CONFIG_MAPPING.keys())}")
    form: Any = CONFIG_MAPPING[architecture]
    known = known_sizes(architecture)
    for name in sizes:
        if name not in known or name == "model_type":
            raise UsageError(f"{architecture} has no size {name!r}{_nearest(name, sorted(known))}")
    chosen = {**_from_tokenizer(architecture, known, tokenizer), **sizes}
    for alias, name in form.attribute_map.items():  # the sizes may use either name, the defaults use the general one
        if alias in chosen and name in sizes:
            del chosen[alias]
    try:
        return form(**chosen)
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise UsageError(f"the sizes of the {architecture} model do not fit: {error}") from error


def known_sizes(architecture: str) -> set[str]:
    """Return the names of an architecture's sizes, general names that it knows included; none for an unknown one."""
    transformers_library("building a model")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if architecture not in CONFIG_MAPPING:
        return set()
    form: Any = CONFIG_MAPPING[architecture]
    return {field.name for field in dataclasses.fields(form)} | set(form.attribute_map)


def _from_tokenizer(architecture: str, known: set[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what a config takes over from a tokenizer."""
    found: dict[str, Any] = {"vocab_size": len(tokenizer)}
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id,
        "eos_token_id": tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id,
    }
    found |= {name: value for name, value in ids.items() if name in known}  # None too: the default may lie outside
    length = tokenizer.model_max_length
    if length < 1 << 20:  # else the tokenizer knows no limit
        padding = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
        found["max_position_embeddings"] = length + (padding + 1 if architecture in OFFSET else 0)
    return {name: value for name, value in found.items() if name in known}


def _nearest(word: str, candidates: Any) -> str:
    found = closest(word, candidates, 3)
    return f"; did you mean {', '.join(found)}?" if found else ""
