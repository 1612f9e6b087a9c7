"""Encoder-decoders with a head, which write text from text: loaded, built, or of the form that a run has kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.errors import UsageError
from quincunx.nn.pretrained.build import known_sizes, make_config
from quincunx.nn.pretrained.folder import library
from quincunx.nn.pretrained.load import (
    lacking_weights,
    opened,
    override_dropout,
    read_weights,
    transformers_library,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ACTIVATION = ("activation_dropout",)
"""Dropouts of an architecture that are no state's and no attention weight's."""
OWN_NAMES: Mapping[str, tuple[str, ...]] = {
    "width": ("d_model",),
    "hidden": ("d_ff", "encoder_ffn_dim", "decoder_ffn_dim"),
    "num_layers": ("num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"),
    "num_heads": ("num_heads", "encoder_attention_heads", "decoder_attention_heads"),
}
"""Size -> what architectures of this sort call it."""


def load_seq2seq(
    path: str | Path, *, revision: str | None = None, dropout: float | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a pretrained encoder-decoder with its head, and its tokenizer.

    Args:
        path: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        dropout: Overrides the model's own everywhere: states, attention weights, activations.

    Raises:
        UsageError: The folder or name, the network or a file is not as it must be; weights are lacking; it is no
            encoder-decoder.
        MissingExtra: transformers is not installed.
    """
    folder, config, tokenizer = opened(path, revision, None, None)
    _drop(config, dropout)
    maker = _maker(config, f"{path} ({config.model_type})")
    model, missing = read_weights(maker, folder, config, None)
    if missing:
        raise UsageError(lacking_weights(folder, config, missing))
    return _finish(model), tokenizer


def build_seq2seq(
    architecture: str,
    sizes: Mapping[str, int],
    tokenizer: PreTrainedTokenizerBase,
    *,
    dropout: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """Return an encoder-decoder of the given sizes with random weights, from torch's generator.

    Args:
        architecture: `t5`, `bart`, `mbart`, `pegasus` ...
        sizes: `width`, `hidden`, `num_layers` and `num_heads`, of encoder and decoder alike.
        tokenizer: Whose ids the model is to read and write.
        dropout: As in `load_seq2seq`.
        options: Further sizes under the names of the architecture's config, which win over the others.

    Raises:
        UsageError: An unknown architecture or size, sizes that do not fit, a tokenizer without the tokens that begin,
            end and pad a text.
        MissingExtra: transformers is not installed.
    """
    known = known_sizes(architecture)
    named = {own: value for word, value in sizes.items() for own in OWN_NAMES[word] if own in known}
    if "d_kv" in known and {"width", "num_heads"} <= sizes.keys():
        named["d_kv"] = sizes["width"] // sizes["num_heads"]
    if "max_position_embeddings" in known:
        named["max_position_embeddings"] = 256
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id or tokenizer.sep_token_id
    if pad is None or end is None:
        raise UsageError("the tokenizer has no token that pads, or none that ends a text: choose one that has both")
    ids = {"pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": end if "bart" in architecture else pad}
    own = {name: value for name, value in ids.items() if name in known or name == "decoder_start_token_id"}
    if "forced_eos_token_id" in known:
        own["forced_eos_token_id"] = end
    config = make_config(architecture, {**named, **dict(options or {})}, tokenizer)
    for name, value in own.items():
        setattr(config, name, value)
    _drop(config, dropout)
    maker = _maker(config, f"the architecture {architecture!r}")
    if config.vocab_size < len(tokenizer):
        raise UsageError(f"vocab_size is {config.vocab_size}, but the tokenizer has {len(tokenizer)} tokens")
    try:
        model = maker.from_config(config, trust_remote_code=False)
    except (ValueError, TypeError, RuntimeError, ImportError, AssertionError) as error:
        raise UsageError(f"no {architecture} model can be built of these sizes: {error}") from error
    return _finish(model)


def read_seq2seq(folder: Path) -> PreTrainedModel:
    """Return a model of the form that `kept.files_of` wrote, its weights fresh and to be replaced; UsageError for
    damaged files."""
    transformers = transformers_library("reading a run's language model")
    config = library(
        f"the language model's config in {folder}",
        lambda: transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    )
    maker = _maker(config, str(folder))
    return _finish(library(f"the model of {folder}", lambda: maker.from_config(config, trust_remote_code=False)))


def _drop(config: PreTrainedConfig, dropout: float | None) -> None:
    override_dropout(config, dropout, None)
    for name in ("attention_dropout", *ACTIVATION):
        if dropout is not None and hasattr(config, name):
            setattr(config, name, dropout)


def _maker(config: PreTrainedConfig, said: str) -> Any:
    from transformers import AutoModelForSeq2SeqLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    known = config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    if not config.is_encoder_decoder or config.get_text_config(encoder=True) is None or not known:
        raise UsageError(f"{said} is no encoder-decoder that writes text: choose t5, bart, mbart, pegasus ...")
    return AutoModelForSeq2SeqLM


def _finish(model: PreTrainedModel) -> PreTrainedModel:
    model.config.use_cache = False
    return model.train()
