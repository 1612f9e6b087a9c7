"""The model of a decided config: a language model that is loaded, built, or of the form that a run has kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.errors import UsageError
from quincunx.nn.foreign import recomputing
from quincunx.nn.positions import PositionTable
from quincunx.nn.pretrained import causal, kept
from quincunx.nn.pretrained.build import known_sizes
from quincunx.nn.pretrained.facts import position_limit
from quincunx.nn.pretrained.load import DROPOUTS
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.config_positions import TABLES, samples
from quincunx.recipes.compression.kinds import compresses, generated, lengths, slots
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.model.trained import choose_trained

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from quincunx.recipes.compression.sources import Items

FOLDER = "language"
"""Of a run: the tokenizer, and the form of the language model."""


@dataclass(frozen=True)
class Language:
    """A language model and what reads for it."""

    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    files: dict[str, str] = field(default_factory=dict[str, str])
    """What a run keeps of it, by path within the run."""


def pretrained(config: CompressionConfig) -> Language | None:
    """Return the pretrained language model that a config names, None where one is built."""
    chosen = config.model
    if chosen.path is None:
        return None
    backbone, tokenizer = causal.load_causal(
        chosen.path,
        dtype=chosen.dtype,
        device_map="auto" if chosen.device_map else None,
        attn_implementation=chosen.attention,
        revision=chosen.revision,
        dropout=chosen.dropout,
        attention_dropout=chosen.attention_dropout,
    )
    return _kept(backbone, tokenizer)


def built(config: CompressionConfig, tokenizer: PreTrainedTokenizerBase, places: int) -> Language:
    """Return a language model of a config's sizes, from torch's generator; `places` are the positions that it needs."""
    sizes = config.model.build
    width, heads = sizes.width, sizes.num_heads
    settings: dict[str, Any] = {
        "architecture": sizes.architecture,
        "num_hidden_layers": sizes.num_layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": sizes.hidden or 4 * width,
        "max_position_embeddings": sizes.positions or places,
        "tie_word_embeddings": sizes.tie_embeddings,
        **sizes.options,
    }
    backbone = causal.build_causal(
        _named(settings),
        tokenizer,
        dtype=config.model.dtype,
        attn_implementation=config.model.attention,
        dropout=config.model.dropout,
        attention_dropout=config.model.attention_dropout,
    )
    return _kept(backbone, tokenizer)


def again(home: Path, config: CompressionConfig) -> Language:
    """Return a language model of the form that a run has kept, its weights to be loaded."""
    folder = home / FOLDER
    tokenizer = kept.read_tokenizer(folder)
    backbone = kept.read_causal(folder, attn_implementation=config.model.attention, dtype=config.model.dtype)
    return Language(backbone, tokenizer)


def make_model(config: CompressionConfig, language: Language) -> tuple[Compressor, tuple[str, ...]]:
    """Return the compressor round a language model, and sentences on what of it is trained.

    Raises:
        UsageError: What is asked for does not go together with the language model.
    """
    chosen, numbers = config.positions, slots(config)
    table = None
    backbone: Any = language.backbone
    if chosen.kind == "rope" and not _rotates(language.backbone):
        raise UsageError(
            f"positions.kind is rope, and {backbone.config.model_type} has no rotary positions: set positions.kind to "
            "model, for those that it has"
        )
    if config.model.gradient_checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": partial(recomputing, backbone)})
    if chosen.kind in TABLES:
        assert chosen.size is not None
        embeddings = backbone.get_input_embeddings().weight
        table = PositionTable(
            chosen.kind,
            chosen.size,
            embeddings.shape[1],
            learnable=chosen.learnable,
            dropout=chosen.dropout if chosen.dropout is not None else _dropout(backbone.config),
            scale=0.0 if embeddings.is_meta else float(embeddings.detach().float().std()),
        )
    model = Compressor(
        backbone,
        config.compress,
        slots=max(numbers, default=0),
        starts=compresses(config),
        causal=config.model.causal,
        positions=chosen.kind,
        table=table,
    )
    train = config.model.train or (["all"] if config.model.path is None else ["new"])
    trained = choose_trained(model, train, config.peft)
    return model, trained.notes


def longest_sequence(config: CompressionConfig, longest_text: int) -> int:
    """Return the most places that an example takes, trunk and branch together.

    Args:
        config: A decided config.
        longest_text: Tokens of the longest example, of which nothing is compressed.
    """
    told = int(config.blotch.intensity_tokens and config.blotch.p_max is not None)
    if not compresses(config):
        return longest_text + told
    context, forward = lengths(config)
    if generated(config) is not None:
        context, forward = longest_text, longest_text
    compressed = config.compress.segments * (max(slots(config)) + config.compress.separator)
    return context + compressed + 1 + max(context, forward + config.data.overlap) + 2 * told


def check_room(config: CompressionConfig, backbone: PreTrainedModel, longest: int) -> None:
    """Raise UsageError where a language model has no position for some tokens of sequences of up to so many."""
    if config.positions.kind != "model":
        return
    limit = position_limit(backbone)
    needed = (config.positions.size or longest) if needs_numbers(config) else longest
    if limit is None or needed <= limit:
        return
    remedy = "raise model.build.positions or leave it unset" if config.model.path is None else "choose another model"
    raise UsageError(
        f"{backbone.config.model_type} has {limit:,} positions, and up to {needed:,} are needed: {remedy}, lower "
        "data.context_length and data.forward_length (or positions.size, where positions are sampled), or set "
        "positions.kind to sinusoidal"
    )


def numbered(config: CompressionConfig, splits: Mapping[str, Items]) -> tuple[CompressionConfig, list[str]]:
    """Return a config whose positions have a range where they need one, and what to say about it."""
    if config.positions.size is not None or not needs_numbers(config):
        return config, []
    longest = {name: longest_sequence(config, int(split.lengths.max())) for name, split in splits.items() if len(split)}
    size = max(3 * longest["train"], *longest.values())
    note = f"no positions.size given: {size:,}, three times the longest training sequence or the longest of all"
    return config.model_copy(update={"positions": config.positions.model_copy(update={"size": size})}), [note]


def needs_numbers(config: CompressionConfig) -> bool:
    """Tell whether positions come from a range that has to be decided."""
    kind = config.positions.kind
    return kind in TABLES or (kind != "none" and samples(config) != "none")


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    """Return sizes without those that an architecture has no name for; its own options are kept as they are."""
    known = known_sizes(settings["architecture"])
    if "n_inner" in known:  # gpt2's own name for it
        settings.setdefault("n_inner", settings["intermediate_size"])
    usual = ("intermediate_size", "max_position_embeddings", "tie_word_embeddings")
    return {name: value for name, value in settings.items() if name not in usual or name in known}


def _rotates(backbone: PreTrainedModel) -> bool:
    # gptj turns its queries and keys itself, and all others by a module of that name
    return hasattr(backbone.config, "rotary_dim") or any("rotary" in name for name, _ in backbone.named_modules())


def _dropout(config: Any) -> float:
    """Return the dropout of states that an architecture's config has; 0 where it has none."""
    return next((float(getattr(config, name)) for name in DROPOUTS if hasattr(config, name)), 0.0)


def _kept(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Language:
    files = {f"{FOLDER}/{name}": text for name, text in kept.files_of(backbone, tokenizer).items()}
    return Language(backbone, tokenizer, files)
