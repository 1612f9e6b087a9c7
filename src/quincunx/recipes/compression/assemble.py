"""The model of a decided config: a language model that is loaded, built, or of the form that a run has kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.nn.positions import PositionTable
from quincunx.nn.pretrained import causal, kept
from quincunx.nn.pretrained.build import known_sizes
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.config_positions import TABLES, samples
from quincunx.recipes.compression.kinds import compresses, generated, lengths, slots
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.model.trained import choose_trained

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
    """Return the compressor round a language model, and sentences on what of it is trained."""
    chosen, numbers = config.positions, slots(config)
    table = None
    backbone: Any = language.backbone
    if config.model.gradient_checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    if chosen.kind in TABLES:
        assert chosen.size is not None
        embeddings = backbone.get_input_embeddings().weight
        table = PositionTable(
            chosen.kind,
            chosen.size,
            embeddings.shape[1],
            learnable=chosen.learnable,
            dropout=chosen.dropout if chosen.dropout is not None else config.model.dropout or 0.0,
            scale=float(embeddings.detach().float().std()),
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
    if not compresses(config):
        return longest_text
    context, forward = lengths(config)
    if generated(config) is not None:
        context, forward = longest_text, longest_text
    compressed = config.compress.segments * (max(slots(config)) + config.compress.separator)
    return context + compressed + 1 + max(context, forward + config.data.overlap)


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


def _kept(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Language:
    files = {f"{FOLDER}/{name}": text for name, text in kept.files_of(backbone, tokenizer).items()}
    return Language(backbone, tokenizer, files)
