"""The shapings of a decided config: of its training, and of its measurements, in which nothing is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quincunx.errors import UsageError
from quincunx.recipes.compression.blotching import Blotching, Curriculum
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.config_blotch import blotches
from quincunx.recipes.compression.config_positions import samples
from quincunx.recipes.compression.kinds import branches, compresses, slots
from quincunx.recipes.compression.shaping import Numbering, Shaping
from quincunx.recipes.compression.sources import Read, levels_of, tokens_with


def training_shaping(config: CompressionConfig, found: Read) -> Shaping:
    """Return how training examples become batches."""
    context = text = None
    if blotches(config):
        made = blotching(config, found)
        scope = config.blotch.scope
        context = made if compresses(config) and scope in ("context", "both") else None
        text = made if not compresses(config) or scope in ("forward", "both") else None
    shaping = _shaping(config, branches(config), slots(config), training=True)
    restored = config.blotch.targets == "keep"
    return replace(shaping, context_blotching=context, text_blotching=text, restored=restored)


def evaluation_shaping(config: CompressionConfig, number: int, names: Sequence[str]) -> Shaping:
    """Return how examples are measured, with so many compressed tokens for a segment, on branches by name."""
    return _shaping(config, names, (number,) if compresses(config) else (), training=False)


def blotching(config: CompressionConfig, found: Read) -> Blotching:
    """Return the blotching of a config for the words of its data."""
    chosen = config.blotch
    separators = found.separators
    if chosen.separator is not None:
        separators = tokens_with(found.tokenizer, chosen.separator)
        if not separators:
            raise UsageError(
                f"no token holds blotch.separator {chosen.separator!r}, so nothing would ever be left out: set it to a "
                "shorter text, or leave it out and set blotch.spans"
            )
    rises = chosen.curriculum
    return Blotching(
        p=chosen.p,
        levels=levels_of(config),
        level_tokens=found.level_tokens,
        separators=separators,
        spans=chosen.spans,
        span_length=chosen.span_length,
        spacing=chosen.spacing,
        mean_run=chosen.mean_run,
        contiguous=chosen.contiguous,
        step=chosen.step,
        token_p=chosen.token_p,
        form=chosen.form,
        curriculum=None
        if rises.updates is None
        else Curriculum(rises.updates, rises.initial, rises.begin, rises.stages),
    )


def _shaping(config: CompressionConfig, names: Sequence[str], numbers: Sequence[int], *, training: bool) -> Shaping:
    chosen, positions = config.compress, config.positions
    sample = "none" if positions.kind == "none" else samples(config)
    numbering = Numbering(sample, positions.size or 0, "random" if training else positions.evaluate)
    return Shaping(
        branches=tuple(names),
        slots=tuple(numbers),
        segments=chosen.segments,
        separator=chosen.separator and chosen.readout != "mean_pool",
        style=chosen.positions,
        numbering=numbering,
    )
