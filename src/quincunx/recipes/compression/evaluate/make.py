"""Which evaluator a config and a split have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from quincunx.engine.experiment import Evaluator
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.evaluate.controls import CompressionEvaluator
from quincunx.recipes.compression.evaluate.plain import SCALARS, PlainEvaluator
from quincunx.recipes.compression.kinds import compresses, generated, lengths, slots
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.shapes import evaluation_shaping
from quincunx.recipes.compression.shaping import Shaping
from quincunx.recipes.compression.sources import Read

GAP = (
    "loss", "perplexity", "accuracy", "accuracy_top5", "loss_without", "loss_full", "gap_recovered",
    "gap_recovered_first",
)  # fmt: skip
TOLD_AGAIN = (
    "reconstruction_loss", "reconstruction_accuracy", "reconstruction_exact", "effective_ratio", "cache_bytes_saved",
)  # fmt: skip


def evaluator_of(config: CompressionConfig, split: str, found: Read, model: Compressor) -> Evaluator | None:
    """Return what measures a model on a split; None for one without examples."""
    source = found.splits.get(split)
    if source is None or not len(source):
        return None
    if not compresses(config):
        return PlainEvaluator(split, source, evaluation_shaping(config, 0, ("plain",)))

    def shaping(number: int, names: Sequence[str]) -> Shaping:
        return evaluation_shaping(config, number, names)

    each = bytes_of_token(model)
    segments = config.compress.segments
    visible = 1 if config.compress.join == "recurrent" else segments
    return CompressionEvaluator(
        split=split,
        source=source,
        shaping=shaping,
        slots=slots(config),
        documents=source.document,
        kept=lambda number: number * visible * (each if config.compress.readout == "kv" else _embedding(model)),
        full_bytes=each,
        segments=segments,
        first=config.evaluate.first,
        predicts=lengths(config)[1] > 0,
    )


def metrics_of(config: CompressionConfig) -> tuple[str, Literal["max", "min"], Sequence[str]]:
    """Return the metric that chooses the best checkpoint, whether more of it is better, and all that there are."""
    if not compresses(config):
        if generated(config) is not None:
            return "exact", "max", SCALARS
        return "loss", "min", SCALARS
    if not lengths(config)[1]:
        return "loss", "min", ("loss", *TOLD_AGAIN)
    return "loss", "min", (*GAP, *TOLD_AGAIN)


def bytes_of_token(model: Compressor) -> int:
    """Return the bytes that keys and values of one token take, in all layers."""
    config: Any = model.backbone.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * model.backbone.dtype.itemsize


def _embedding(model: Compressor) -> int:
    table: Any = model.backbone.get_input_embeddings()
    return table.weight.shape[1] * table.weight.element_size()
