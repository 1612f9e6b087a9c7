"""Which evaluator a config and a split have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from quincunx.engine.experiment import Evaluator
from quincunx.nn.pretrained.facts import position_limit
from quincunx.recipes.compression.assemble import needs_numbers
from quincunx.recipes.compression.blotching import Blotching
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.data.arithmetic import ArithmeticSource
from quincunx.recipes.compression.data.tasks import TaskSource
from quincunx.recipes.compression.evaluate.arithmetic import ArithmeticEvaluator
from quincunx.recipes.compression.evaluate.controls import CompressionEvaluator
from quincunx.recipes.compression.evaluate.labelled import LabelledEvaluator
from quincunx.recipes.compression.evaluate.plain import PlainEvaluator
from quincunx.recipes.compression.evaluate.tasks import TaskEvaluator
from quincunx.recipes.compression.kinds import compresses, generated, lengths, slots
from quincunx.recipes.compression.measured import CONTROLS, answers
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.recipes.compression.shapes import evaluation_shaping
from quincunx.recipes.compression.shaping import Shaping
from quincunx.recipes.compression.sources import Items, Read, levels_of, nearest_level


def evaluator_of(config: CompressionConfig, split: str, found: Read, model: Compressor) -> Evaluator | None:
    """Return what measures a model on a split; None for one without examples."""
    source = found.splits.get(split)
    if source is None or not len(source):
        return None
    kind = generated(config)
    if not compresses(config):
        shaping = _shaping(config, found, 0, ("plain",))
        if kind == "tasks":
            symbols = cast("TaskSource", source.source).input_lengths
            return TaskEvaluator(split, source, shaping, symbols, found.chance or 0.0)
        forced: Evaluator = PlainEvaluator(split, source, shaping)
    else:
        forced = _controlled(config, split, source, found, model)
    if not answers(config):
        return forced
    branch = "forward" if compresses(config) else "plain"
    most = max(slots(config), default=0)
    if kind == "arithmetic":
        return ArithmeticEvaluator(
            split=split,
            source=source,
            forced=forced,
            shaping=_shaping(config, found, most, (branch,)),
            examples=config.evaluate.generate,
            most=_longest_solution(cast("ArithmeticSource", source.source)),
            room=_room(config, model),
            intensity=levels_of(config)[nearest_level(config)] if found.level_tokens else None,
        )
    tokenizer: Any = found.tokenizer
    return LabelledEvaluator(
        split=split,
        source=source,
        forced=forced,
        shaping=_shaping(config, found, most, CONTROLS if compresses(config) else ("plain",)),
        answers=found.answers,
        words=[tokenizer.decode(answer[:-1].tolist()).strip() for answer in found.answers],
        task=config.data.source,
    )


def _controlled(
    config: CompressionConfig, split: str, source: Items, found: Read, model: Compressor
) -> CompressionEvaluator:
    each = bytes_of_token(model)
    segments = config.compress.segments
    visible = 1 if config.compress.join == "recurrent" else segments
    return CompressionEvaluator(
        split=split,
        source=source,
        shaping=lambda number, names: _shaping(config, found, number, names),
        slots=slots(config),
        documents=source.document,
        kept=lambda number: number * visible * (each if config.compress.readout == "kv" else _embedding(model)),
        full_bytes=each,
        segments=segments,
        first=config.evaluate.first,
        predicts=lengths(config)[1] > 0,
    )


def _shaping(config: CompressionConfig, found: Read, number: int, names: Sequence[str]) -> Shaping:
    """Return how examples are measured: whole, but led by the level that is asked for where training tells one."""
    shaping = evaluation_shaping(config, number, names)
    if not found.level_tokens:
        return shaping
    told = Blotching(levels=(0.0,), level_tokens=(found.level_tokens[nearest_level(config)],))
    scope, compressing = config.blotch.scope, compresses(config)
    return replace(
        shaping,
        context_blotching=told if compressing and scope in ("context", "both") else None,
        text_blotching=told if not compressing or scope in ("forward", "both") else None,
    )


def _longest_solution(source: ArithmeticSource) -> int:
    """Return the tokens of a split's longest solution, its end included."""
    return int(source.lengths.max()) - source.problem_length - 1


def _room(config: CompressionConfig, model: Compressor) -> int | None:
    """Return how many places a sequence may have; None where they have no end."""
    if needs_numbers(config):
        return config.positions.size
    return position_limit(model.backbone) if config.positions.kind == "model" else None


def bytes_of_token(model: Compressor) -> int:
    """Return the bytes that keys and values of one token take, in all layers."""
    config: Any = model.backbone.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * model.backbone.dtype.itemsize


def _embedding(model: Compressor) -> int:
    table: Any = model.backbone.get_input_embeddings()
    return table.weight.shape[1] * table.weight.element_size()
