"""Causal language models: loaded or built, and checked to do what compression asks of them.

That is: to read embeddings in place of ids, to heed an additive mask of four dimensions, to keep keys and values of
every layer, and to have a head that can be applied to chosen states alone. B batch, S sequence, D width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from quincunx.errors import MissingExtra, UsageError
from quincunx.nn.pretrained.build import make_config
from quincunx.nn.pretrained.cache import cut, kept, new_cache
from quincunx.nn.pretrained.facts import is_causal
from quincunx.nn.pretrained.load import (
    finish,
    lacking_weights,
    only_shapes,
    opened,
    override_dropout,
    read_weights,
    transformers_library,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Words for the type of weights."""
LAYERS = ("full_attention", "sliding_attention")
"""Kinds of layers that masks and kept keys and values mean something to."""


def load_causal(
    path: str | Path,
    *,
    dtype: str = "float32",
    device_map: str | Mapping[str, Any] | None = None,
    attn_implementation: str = "sdpa",
    revision: str | None = None,
    dropout: float | None = None,
    attention_dropout: float | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a pretrained causal language model with its head, and its tokenizer.

    Args:
        path: A folder, or a name on the hub.
        dtype: Type of the weights: float32, bfloat16, float16, or auto: the one they were saved in.
        device_map: How layers are spread over devices, in the library's words (`auto`, or a mapping); needs accelerate.
        attn_implementation: `sdpa` or `eager`: what takes an additive mask.
        revision: Branch, tag or commit on the hub.
        dropout: Overrides the model's own for states and embeddings.
        attention_dropout: The same for attention weights.

    Raises:
        UsageError: The folder or name, the network, a file or an option is not as it must be; weights are lacking; the
            model is no causal one, or does not do what `check_causal` asks.
        MissingExtra: transformers, or accelerate for `device_map`, is not installed.
    """
    kind = _dtype(dtype)
    folder, config, tokenizer = opened(path, revision, dropout, attention_dropout)
    maker = _maker(config, f"{path} ({config.model_type})")
    further: dict[str, Any] = {"dtype": "auto" if kind is None else kind}
    if device_map is not None:
        _accelerate()
        further["device_map"] = device_map
    model, missing = read_weights(maker, folder, config, attn_implementation, **further)
    if missing:
        raise UsageError(lacking_weights(folder, config, missing))
    return check_causal(finish(model, attn_implementation)), tokenizer


def build_causal(
    settings: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    dtype: str = "float32",
    attn_implementation: str = "sdpa",
    dropout: float | None = None,
    attention_dropout: float | None = None,
) -> PreTrainedModel:
    """Return a causal language model of the given sizes with random weights, from torch's generator.

    Args:
        settings: `architecture` (llama, gpt2, mistral ...) and sizes under the names of its config; what is left out
            follows the tokenizer (vocabulary, special ids, number of positions) or the architecture.
        tokenizer: Whose ids the model is to read.
        dtype: Type of the weights; auto is float32.
        attn_implementation: As in `load_causal`.
        dropout: Of states and embeddings; None leaves what the settings or the architecture say.
        attention_dropout: Of attention weights, the same way.

    Raises:
        UsageError: An unknown architecture or size, with the nearest known one; sizes that do not fit; a vocabulary
            smaller than the tokenizer's; an architecture that does not do what `check_causal` asks.
        MissingExtra: transformers is not installed.
    """
    kind = _dtype(dtype) or torch.float32
    sizes = dict(settings)
    architecture = sizes.pop("architecture", None)
    config = make_config(architecture, _with_key_heads(architecture, sizes), tokenizer)
    maker = _maker(config, f"the architecture {architecture!r}")
    override_dropout(config, dropout, attention_dropout)
    if config.vocab_size < len(tokenizer):
        raise UsageError(f"vocab_size is {config.vocab_size}, but the tokenizer has {len(tokenizer)} tokens")
    try:
        model = maker.from_config(config, trust_remote_code=False, attn_implementation=attn_implementation, dtype=kind)
    except (ValueError, TypeError, RuntimeError, ImportError, AssertionError) as error:
        raise UsageError(
            f"no {architecture} model with {attn_implementation} attention can be built: {error}"
        ) from error
    return check_causal(finish(model, attn_implementation))


def token_logits(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Return the logits `[..., V]` that the model's head gives for last states `[..., D]` of its trunk.

    Scaling and capping of the architectures that have them come after the head (Gemma 2, Granite, Cohere).
    """
    head: Any = model.get_output_embeddings()
    logits: Tensor = head(states)
    config: Any = model.config
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (factor := getattr(config, "logit_scale", None)) is not None:
        logits = logits * factor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def windows(model: PreTrainedModel) -> dict[str, int | None]:
    """Return, by kind of layer, over how many positions it looks back; None: over all."""
    config: Any = model.config
    width = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return {"sliding_attention": width} if width is not None else {"full_attention": None}
    return {kind: width if kind == "sliding_attention" else None for kind in dict.fromkeys(kinds)}


def check_causal(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model, having seen on four tokens that it does what compression asks of it.

    Raises:
        UsageError: It does not, named with what.
    """
    kind = model.config.model_type
    said = f"{type(model).__name__} ({kind}) cannot be used for compression"
    if not is_causal(model):
        raise UsageError(f"{said}: its tokens see those after them. Choose a decoder: llama, gpt2, mistral ...")
    if other := sorted(set(getattr(model.config, "layer_types", None) or ()) - set(LAYERS)):
        raise UsageError(f"{said}: it has layers of {', '.join(other)}, and only attention can be masked and kept")
    if only_shapes():  # there is nothing to see
        return model
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            fault = _fault(model)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        raise UsageError(f"{said}: it takes no embeddings, masks or kept keys of ours ({error})") from error
    finally:
        for module, training in modes:
            module.training = training
    if fault is not None:
        raise UsageError(f"{said}: {fault}")
    return model


def _fault(model: PreTrainedModel) -> str | None:
    """Return what a model lacks; it is in evaluation mode."""
    table: Any = model.get_input_embeddings()
    base: Any = model.base_model
    tokens = torch.arange(1, 5, device=table.weight.device)[None].clamp(max=table.num_embeddings - 1)
    embedded = table(tokens)
    other = table(tokens.flip(1))
    mixed = torch.cat([other[:, :1], embedded[:, 1:]], 1)
    places = torch.arange(4, device=tokens.device)[None]
    hidden = ~torch.ones(4, 4, dtype=torch.bool, device=tokens.device).tril()
    hidden[1:, 0] = True  # nobody but the first token itself sees the first
    mask = torch.zeros(1, 1, 4, 4, dtype=embedded.dtype, device=tokens.device)
    mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)

    def states(inputs: Tensor, cache: Any, first: int = 0) -> Tensor:
        return base(
            inputs_embeds=inputs[:, first:],
            attention_mask=mask[:, :, first:],
            position_ids=places[:, first:],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    cache = new_cache()
    found = states(embedded, cache)
    if not _close(states(mixed, new_cache())[:, 1:], found[:, 1:]):
        return "it takes no notice of a mask of ours"
    layers = kept(cache)
    if len(layers) != model.config.num_hidden_layers:
        return "it does not keep keys and values of every layer"
    if not _close(states(embedded, new_cache(cut(layers, 0, 3)), 3), found[:, 3:]):
        return "going on from kept keys and values it gives other states"
    whole = model(inputs_embeds=embedded, attention_mask=mask, position_ids=places, use_cache=False)
    if not _close(token_logits(model, found), whole.logits):
        return "what its head makes of the last states is unknown here"
    return None


def _close(found: Tensor, expected: Tensor) -> bool:
    """Tell whether two tensors agree to what half precision holds."""
    difference = (found.float() - expected.float().to(found.device)).norm()
    return bool(difference <= 0.02 * expected.float().norm().to(found.device))


def _maker(config: PreTrainedConfig, said: str) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if config.is_encoder_decoder or config.get_text_config() is not config:
        raise UsageError(f"{said} is no plain decoder: choose a causal language model (llama, gpt2, mistral ...)")
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UsageError(f"{said} has no causal language model in transformers: choose llama, gpt2, mistral ...")
    return AutoModelForCausalLM


def _with_key_heads(architecture: Any, sizes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the sizes with as many heads of keys as of queries, where only those are given."""
    transformers_library("building a model")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    name, heads = "num_key_value_heads", sizes.get("num_attention_heads")
    if heads is None or name in sizes or architecture not in CONFIG_MAPPING:
        return sizes
    known = any(field.name == name for field in dataclasses.fields(CONFIG_MAPPING[architecture]))
    return {**sizes, name: heads} if known else sizes


def _dtype(word: str) -> torch.dtype | None:
    """Return the type, None for auto."""
    if word != "auto" and word not in DTYPES:
        raise UsageError(f"unknown dtype {word!r}: choose {', '.join(DTYPES)} or auto")
    return DTYPES.get(word)


def _accelerate() -> None:
    transformers_library("spreading a model over devices")
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise MissingExtra("accelerate", "compression", "spreading a model over devices") from None
