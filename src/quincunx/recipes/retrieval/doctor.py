"""What a run's numbers mean, said at its start: how many negatives there are, and what will have no effect or do harm.

Torch-free: everything follows from the config and a few sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from quincunx.config.schema import Target
from quincunx.recipes.retrieval.objective.counts import effective_negatives
from quincunx.recipes.retrieval.rules_objective import KEPT

NEEDED_MASS = 0.9
"""A temperature is called too high where even a perfect model gives its positive less than this probability."""
LOW_DOT, LOW_COSINE = 0.2, 0.01
"""Temperatures below these are unusual for dot products and for cosines."""


def doctor(
    config: Any,
    *,
    updates: int | None = None,
    per_epoch: int | Fraction | None = None,
    negatives: int | None = None,
    new_tokens: Sequence[str] = (),
    untrained: Sequence[str] = (),
) -> list[str]:
    """Return what to say about a decided config before training begins, one sentence an item.

    Args:
        config: A RetrievalConfig.
        updates: Updates of the whole training, once known.
        per_epoch: Updates in an epoch, once known.
        negatives: Explicit negatives that each query gets; None: what `data.negatives` says.
        new_tokens: Special tokens whose embeddings are new.
        untrained: Further weights that begin at random, by name (a head that a pretrained folder lacks).
    """
    explicit = negatives if negatives is not None else config.data.negatives or 0
    said = [*_negatives(config, explicit), *_scores(config, explicit), *_untrained(config, new_tokens, untrained)]
    return [*said, *_idle(config, updates, per_epoch)]


def temperature(config: Any) -> float:
    """Return the temperature that scores are divided by: the config's, or the usual one of the similarity."""
    chosen = config.objective.temperature
    return chosen if chosen is not None else 0.05 if similarity(config) == "cosine" else 1.0


def similarity(config: Any) -> str:
    """Return how embeddings are compared: the config's word, or the usual one of the mode."""
    return config.objective.similarity or ("dot" if config.mode == "poly-encoder" else "cosine")


def ceiling(negatives: int, divisor: float) -> float:
    """Return the probability of the positive when its cosine is 1 and that of all negatives is -1.

    No model can do better, so minus its logarithm is the lowest loss there is.
    """
    return 1 / (1 + negatives * math.exp(-2 / divisor))


def _negatives(config: Any, explicit: int) -> Iterator[str]:
    """Say what an anchor is told from in each direction, and what accumulation does not change."""
    if config.mode == "cross-encoder":
        yield (
            f"each query is scored with its positives, {explicit} explicit and {config.cross.random_negatives} random "
            "negatives"
        )
        return
    if config.objective.loss in ("margin_mse", "kl"):
        yield f"{config.objective.loss}: a query's candidates are its positives and {explicit} explicit negatives"
        return
    batch, accumulation = config.update.batch_size, config.update.accumulation
    for direction in config.objective.directions if config.objective.loss == "infonce" else ["query_to_document"]:
        found = _counted(config, explicit, direction)
        parts = [f"{found.in_batch} of its batch", f"{found.explicit} explicit" if found.explicit else ""]
        parts.append(f"{found.memory} of the memory, once it is full" if found.memory else "")
        yield f"{direction}: {found.total:,} negatives an anchor ({', '.join(filter(None, parts))})"
    if accumulation > 1:
        yield (
            f"accumulation {accumulation} adds no negatives: each logical batch of {batch} has its own; for more, "
            f"raise update.batch_size (to {batch * accumulation} with accumulation 1: as many examples an update) and "
            "let chunking keep it within memory"
        )


def _counted(config: Any, explicit: int, direction: str) -> Any:
    side = "document" if direction.endswith("_document") else "query"
    kept = KEPT[config.memory.kind]
    return effective_negatives(
        config.update.batch_size,
        config.data.positives or 1,
        explicit,
        anchor=config.data.anchor,
        direction=direction,  # pyright: ignore[reportArgumentType] - a word of the config
        in_batch=config.objective.in_batch,
        memory=config.memory.size if config.memory.use and side in kept else 0,
    )


def _scores(config: Any, explicit: int) -> Iterator[str]:
    """Warn of a temperature that does not suit the similarity."""
    if config.mode == "cross-encoder" or config.objective.loss != "infonce":
        return
    kind, divisor = similarity(config), temperature(config)
    chosen = config.evaluate
    normalized = "normalize" in (chosen.post_processing, chosen.processing_before_indexing)
    if chosen.mode == "validator" and kind == "cosine" and not normalized:
        yield (
            "trained by cosine, validated by the inner product of embeddings of any length: another order; "
            "evaluate.post_processing normalize validates what is trained"
        )
    if kind == "cosine":
        total = max(_counted(config, explicit, direction).total for direction in config.objective.directions)
        best = ceiling(total, divisor)
        if best < NEEDED_MASS and total:
            yield (
                f"temperature {divisor:g} is high for cosine: with {total:,} negatives even a perfect model gives the "
                f"positive a probability of {best:.3g} at most (loss at least {-math.log(best):.3g}); 0.01 to 0.1 is "
                "usual"
            )
        elif divisor < LOW_COSINE:
            yield f"temperature {divisor:g} is low for cosine: gradients come from a few hard negatives alone"
    elif divisor < LOW_DOT:
        yield (
            f"temperature {divisor:g} is low for dot products, whose size nothing bounds: the loss begins in the "
            "hundreds; 1 is usual, or set objective.similarity to cosine"
        )


def _untrained(config: Any, new_tokens: Sequence[str], untrained: Sequence[str]) -> Iterator[str]:
    """Say which weights begin at random."""
    encoder = config.encoder
    if encoder.path is None and config.init_from is None:
        what = "the encoder and its tokenizer are" if encoder.tokenizer.path is None else "the encoder is"
        yield f"{what} built from nothing: embeddings mean nothing before training"
    heads: list[str] = []
    if config.mode != "cross-encoder" and encoder.projection is not None:
        heads.append(f"the projection to {encoder.projection}")
    if config.mode != "cross-encoder" and "attention" in _poolings(config):
        heads.append("the query of attention pooling")
    if config.mode == "poly-encoder" and config.poly.kind == "codes":
        heads.append(f"{config.poly.codes} poly codes")
    heads += untrained
    if heads and encoder.path is not None and config.init_from is None:
        verb = "begins" if len(heads) == 1 and not heads[0].endswith("codes") else "begin"
        yield f"{' and '.join(heads)} {verb} at random over a pretrained encoder: zero-shot scores are those of chance"
    if new_tokens:
        listed = ", ".join(new_tokens[:8]) + (", ..." if len(new_tokens) > 8 else "")
        yield f"special tokens with new, random embeddings: {listed}"
        if encoder.freeze != "nothing":
            yield f"encoder.freeze {encoder.freeze} leaves the embeddings of new special tokens at random"


def _poolings(config: Any) -> list[str]:
    sides = [config.query.pooling] if config.mode == "bi-encoder" else []
    return [side or config.encoder.pooling for side in [*sides, config.document.pooling]]


def _idle(config: Any, updates: int | None, per_epoch: int | Fraction | None) -> Iterator[str]:
    """Say what will never act because training ends before it does, and what acts at surprising times."""
    if updates is None:
        return
    memory = config.memory
    if memory.use and memory.warmup >= updates:
        yield f"the memory never acts: memory.warmup is {memory.warmup:,} updates, training has {updates:,}"
    if memory.use and memory.drift_every is not None and memory.drift_every > updates:
        yield f"memory.drift_every ({memory.drift_every:,} updates) lies beyond the {updates:,} of training"
    for name, every in (("evaluate", config.evaluate.every), ("checkpoint", config.checkpoint.every)):
        length = every if type(every) is int else None
        if every == "epoch":
            length = per_epoch
        if length is not None and length > updates:
            distance = f"{float(length):,.12g} updates"
            yield f"{name}.every ({distance}) lies beyond the {updates:,} of training: only at the end"
    if config.log.every > updates:
        yield f"log.every ({config.log.every:,} updates) lies beyond the {updates:,} of training: logged at the end"
    if isinstance(config.schedule, Target):
        steps = (config.schedule.model_extra or {}).get("num_training_steps")
        if type(steps) is int and steps != updates:
            yield (
                f"schedule.num_training_steps is {steps:,}, training has {updates:,} updates: leave it out, and it is "
                "filled in"
            )
