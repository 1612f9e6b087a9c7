"""Rules between the settings of the objective: losses, directions, memory, poly- and cross-encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quincunx.config.schema import Rule
from quincunx.recipes.retrieval.objective.counts import Side, smallest_size

NEEDED = {"data.path": "somewhere"}
"""What an example needs besides what it shows, so that nothing else is wrong with it."""

KEPT: Mapping[str, tuple[Side, ...]] = {"passages": ("document",), "queries": ("query",), "dual": ("document", "query")}
"""What each kind of memory keeps."""


def embeds(config: Any) -> bool:
    """Tell whether texts become vectors, which a cross-encoder's do not."""
    return config.mode != "cross-encoder"


def embedding_width(config: Any) -> int | None:
    """Return the width of embeddings where the config tells it; None where only the loaded encoder does."""
    encoder = config.encoder
    return encoder.projection or (encoder.build.width if encoder.path is None else None)


def _infonce(config: Any) -> bool:
    return embeds(config) and config.objective.loss == "infonce"


def _targets(config: Any) -> set[str]:
    """Return what the directions look for."""
    return {direction.rpartition("_")[2] for direction in config.objective.directions}


def _memory_lacks(config: Any) -> bool:
    """Tell whether the memory keeps a side for which nothing looks."""
    return config.memory.use and _infonce(config) and not set(KEPT[config.memory.kind]) <= _targets(config)


def _small_memory(config: Any) -> bool:
    """Tell whether a memory cannot hold one logical batch, as far as the config alone says."""
    if not (config.memory.use and _infonce(config)):
        return False
    sides = KEPT[config.memory.kind]
    arguments = (config.update.batch_size, config.data.positives or 1, config.data.negatives or 0)
    return any(config.memory.size < smallest_size(*arguments, anchor=config.data.anchor, side=side) for side in sides)


def _same_side(config: Any) -> bool:
    return bool({"query_to_query", "document_to_document"} & set(config.objective.directions))


def _multihead(config: Any) -> bool:
    return config.mode == "poly-encoder" and (
        (config.poly.kind == "codes" and config.poly.attention == "multihead")
        or config.poly.final_attention == "multihead"
    )


def _uneven_heads(config: Any) -> bool:
    width = embedding_width(config)
    return _multihead(config) and width is not None and width % config.poly.heads != 0


OBJECTIVE_RULES: tuple[Rule, ...] = (
    Rule(
        name="poly-heads-divide-the-width",
        paths=("poly.heads", "encoder.projection", "encoder.build.width"),
        applies=_uneven_heads,
        message="the width of embeddings cannot be divided among poly.heads ({poly.heads})",
        remedy="choose a number of heads that divides it",
        failing={"mode": "poly-encoder", "poly.final_attention": "multihead", "poly.heads": 3, **NEEDED},
    ),
    Rule(
        name="poly-compares-sides",
        paths=("objective.directions", "mode"),
        applies=lambda config: (
            config.mode == "poly-encoder" and config.objective.loss == "infonce" and _same_side(config)
        ),
        message="a poly-encoder scores queries with documents: directions within one side have no score",
        remedy="keep query_to_document and document_to_query, or choose mode bi-encoder",
        failing={"mode": "poly-encoder", "objective.directions": ["query_to_query"], **NEEDED},
    ),
    Rule(
        name="poly-has-no-metric-learning",
        paths=("objective.loss", "mode"),
        applies=lambda config: config.mode == "poly-encoder" and config.objective.loss == "metric_learning",
        message="losses of pytorch-metric-learning compare single vectors, a poly-encoder's query is several",
        remedy="choose another loss, or mode bi-encoder",
        failing={
            "mode": "poly-encoder",
            "objective.loss": "metric_learning",
            "objective.metric_learning.loss": "NTXentLoss",
            **NEEDED,
        },
    ),
    Rule(
        name="poly-is-not-cut-short",
        paths=("objective.matryoshka.widths", "mode"),
        applies=lambda config: config.mode == "poly-encoder" and bool(config.objective.matryoshka.widths),
        message="a poly-encoder's scores come from attention over whole vectors: first parts of them are no embeddings",
        remedy="leave objective.matryoshka out, or choose mode bi-encoder",
        failing={"mode": "poly-encoder", "objective.matryoshka.widths": [16], **NEEDED},
    ),
    Rule(
        name="metric-learning-needs-a-loss",
        paths=("objective.loss",),
        applies=lambda config: (
            config.mode == "bi-encoder"
            and config.objective.loss == "metric_learning"
            and config.objective.metric_learning.loss is None
        ),
        message="objective.loss metric_learning needs the name of a loss",
        remedy="set objective.metric_learning.loss, for example to MultiSimilarityLoss",
        failing={"objective.loss": "metric_learning", **NEEDED},
    ),
    Rule(
        name="explicit-negatives-alone",
        paths=("objective.in_batch", "data.negatives"),
        applies=lambda config: _infonce(config) and not config.objective.in_batch and config.data.negatives == 0,
        message="objective.in_batch false leaves explicit negatives alone, and data.negatives is 0: there are none",
        remedy="set one of them",
        failing={"objective.in_batch": False, "data.negatives": 0, **NEEDED},
    ),
    Rule(
        name="explicit-negatives-belong-to-queries",
        paths=("objective.in_batch", "objective.directions"),
        applies=lambda config: (
            _infonce(config)
            and not config.objective.in_batch
            and set(config.objective.directions) != {"query_to_document"}
        ),
        message="objective.in_batch false leaves a query's explicit negatives alone: only query_to_document has any",
        remedy="set objective.directions to query_to_document, or objective.in_batch to true",
        failing={"objective.in_batch": False, "objective.directions": ["document_to_query"], **NEEDED},
    ),
    Rule(
        name="metric-learning-compares-all",
        paths=("objective.in_batch", "objective.loss"),
        applies=lambda config: (
            config.mode == "bi-encoder" and config.objective.loss == "metric_learning" and not config.objective.in_batch
        ),
        message="losses of pytorch-metric-learning compare all texts of the batch: objective.in_batch cannot be false",
        remedy="leave objective.in_batch out",
        failing={
            "objective.loss": "metric_learning",
            "objective.metric_learning.loss": "NTXentLoss",
            "objective.in_batch": False,
            **NEEDED,
        },
    ),
    Rule(
        name="distillation-needs-candidates",
        paths=("objective.loss", "data.negatives"),
        applies=lambda config: (
            embeds(config) and config.objective.loss in ("margin_mse", "kl") and config.data.negatives == 0
        ),
        message="objective.loss {objective.loss} compares a query's positives with explicit negatives that a teacher "
        "scored, and data.negatives is 0",
        remedy="set data.negatives to how many there are for a query",
        failing={"objective.loss": "margin_mse", "data.negatives": 0, **NEEDED},
    ),
    Rule(
        name="one-is-no-batch",
        paths=("update.batch_size", "data.negatives"),
        applies=lambda config: (
            _infonce(config)
            and config.objective.in_batch
            and config.update.batch_size == 1
            and config.data.negatives == 0
            and not config.memory.use
        ),
        message="a batch of one anchor without explicit negatives has nothing to tell its positive from: the loss is 0",
        remedy="raise update.batch_size: it is the pool of negatives",
        failing={"update.batch_size": 1, "data.negatives": 0, **NEEDED},
    ),
    Rule(
        name="joint-has-pairs",
        paths=("objective.positives", "objective.partition"),
        applies=lambda config: (
            _infonce(config)
            and len(config.objective.directions) > 1
            and config.objective.partition == "joint"
            and config.objective.positives == "together"
        ),
        message="objective.partition joint has a term for every pair, not one for the anchor of several",
        remedy="set objective.positives to each, or objective.partition to separate",
        failing={
            "objective.directions": ["query_to_document", "document_to_query"],
            "objective.partition": "joint",
            "objective.positives": "together",
            "data.positives": 2,
            **NEEDED,
        },
    ),
    Rule(
        name="directions-are-told-apart",
        paths=("objective.directions",),
        applies=lambda config: len(set(config.objective.directions)) < len(config.objective.directions),
        message="objective.directions names a direction twice",
        remedy="name each once: their mean is the loss",
        failing={"objective.directions": ["query_to_document", "query_to_document"], **NEEDED},
    ),
    Rule(
        name="learning-begins-in-range",
        paths=("objective.temperature_range", "objective.temperature"),
        applies=lambda config: (
            config.objective.learn_temperature
            and not (
                config.objective.temperature_range[0]
                <= (config.objective.temperature or config.objective.temperature_range[0])
                <= config.objective.temperature_range[1]
            )
        ),
        message="objective.temperature ({objective.temperature}) lies outside of objective.temperature_range, in which "
        "it is learnt",
        remedy="change one of them; the range is smallest, then largest",
        failing={"objective.learn_temperature": True, "objective.temperature": 0.001, **NEEDED},
    ),
    Rule(
        name="parts-are-within-the-whole",
        paths=("objective.matryoshka.widths", "encoder.projection", "encoder.build.width"),
        applies=lambda config: (
            embeds(config)
            and (width := embedding_width(config)) is not None
            and max(config.objective.matryoshka.widths, default=0) > width
        ),
        message="objective.matryoshka.widths names more dimensions than embeddings have",
        remedy="name lengths up to the width of encoder.projection, or of the encoder without one",
        failing={"objective.matryoshka.widths": [512], "encoder.projection": 128, **NEEDED},
    ),
    Rule(
        name="a-weight-for-each-part",
        paths=("objective.matryoshka.weights", "objective.matryoshka.widths"),
        applies=lambda config: (
            config.objective.matryoshka.weights is not None
            and bool(config.objective.matryoshka.widths)
            and len(config.objective.matryoshka.weights) != len(config.objective.matryoshka.widths)
        ),
        message="objective.matryoshka has not as many weights as widths",
        remedy="give one weight for each width, or leave weights out",
        failing={"objective.matryoshka.widths": [16, 32], "objective.matryoshka.weights": [1.0], **NEEDED},
    ),
    Rule(
        name="cross-encoder-has-no-embeddings",
        paths=("memory.use", "mode"),
        applies=lambda config: not embeds(config) and config.memory.use,
        message="a memory keeps embeddings, and a cross-encoder has none",
        remedy="set memory.use to false, or choose mode bi-encoder or poly-encoder",
        failing={"mode": "cross-encoder", "memory.use": True, **NEEDED},
    ),
    Rule(
        name="cross-encoder-needs-candidates",
        paths=("cross.random_negatives", "data.negatives"),
        applies=lambda config: not embeds(config) and config.cross.random_negatives == 0 and config.data.negatives == 0,
        message="a query has no document but its positives to be told from: cross.random_negatives and data.negatives "
        "are 0",
        remedy="raise one of them",
        failing={"mode": "cross-encoder", "cross.random_negatives": 0, "data.negatives": 0, **NEEDED},
    ),
    Rule(
        name="grades-weigh-themselves",
        paths=("cross.highest_grade", "cross.positive_weight"),
        applies=lambda config: (
            not embeds(config)
            and config.cross.loss == "pointwise"
            and config.cross.highest_grade is not None
            and config.cross.positive_weight != 1
        ),
        message="cross.highest_grade makes grades the targets, so that no document is a positive to weigh by "
        "cross.positive_weight",
        remedy="keep one of the two",
        failing={
            "mode": "cross-encoder",
            "cross.loss": "pointwise",
            "cross.highest_grade": 3,
            "cross.positive_weight": 2,
            **NEEDED,
        },
    ),
    Rule(
        name="memory-is-of-infonce",
        paths=("memory.use", "objective.loss"),
        applies=lambda config: embeds(config) and config.memory.use and config.objective.loss != "infonce",
        message="a memory adds columns to the softmax of infonce; objective.loss is {objective.loss}",
        remedy="set memory.use to false, or objective.loss to infonce",
        failing={"memory.use": True, "objective.loss": "kl", **NEEDED},
    ),
    Rule(
        name="memory-is-of-other-anchors",
        paths=("memory.use", "objective.in_batch"),
        applies=lambda config: _infonce(config) and config.memory.use and not config.objective.in_batch,
        message="objective.in_batch false keeps other anchors' documents out, and those are what a memory holds",
        remedy="set memory.use to false, or objective.in_batch to true",
        failing={"memory.use": True, "objective.in_batch": False, **NEEDED},
    ),
    Rule(
        name="memory-is-looked-for",
        paths=("memory.kind", "objective.directions", "memory.use"),
        applies=_memory_lacks,
        message="memory.kind {memory.kind} keeps a side for which no direction looks",
        remedy="passages go with query_to_document, queries with document_to_query, dual with both of them",
        failing={"memory.use": True, "memory.kind": "dual", **NEEDED},
    ),
    Rule(
        name="poly-queries-are-not-kept",
        paths=("memory.kind", "mode"),
        applies=lambda config: (
            config.mode == "poly-encoder" and config.memory.use and config.memory.kind in ("queries", "dual")
        ),
        message="a poly-encoder's memory keeps documents: a query there is not one vector but several",
        remedy="set memory.kind to passages and a direction that looks for documents, or memory.use to false",
        failing={
            "mode": "poly-encoder",
            "memory.use": True,
            "memory.kind": "queries",
            "objective.directions": ["document_to_query"],
            **NEEDED,
        },
    ),
    Rule(
        name="memory-holds-a-batch",
        paths=("memory.size", "update.batch_size", "data.positives", "data.negatives"),
        applies=_small_memory,
        message="memory.size ({memory.size}) is less than what one logical batch brings: part of it would "
        "overwrite the rest",
        remedy="raise memory.size to several batches (anchors times positives), or use none",
        failing={"memory.use": True, "memory.size": 63, "update.batch_size": 16, "data.positives": 4, **NEEDED},
    ),
    Rule(
        name="drift-is-of-passages",
        paths=("memory.drift_every", "memory.kind"),
        applies=lambda config: (
            config.memory.use and config.memory.drift_every is not None and config.memory.kind == "queries"
        ),
        message="the drift of a memory is measured on its documents, and memory.kind queries keeps none",
        remedy="leave memory.drift_every out",
        failing={
            "memory.use": True,
            "memory.kind": "queries",
            "memory.drift_every": 100,
            "objective.directions": ["document_to_query"],
            **NEEDED,
        },
    ),
    Rule(
        name="drift-sample-fits",
        paths=("memory.drift_sample", "memory.size"),
        applies=lambda config: (
            config.memory.use
            and config.memory.drift_every is not None
            and config.memory.drift_sample > config.memory.size
        ),
        message="memory.drift_sample ({memory.drift_sample}) is more than memory.size ({memory.size})",
        remedy="lower memory.drift_sample",
        failing={"memory.use": True, "memory.drift_every": 10, "memory.drift_sample": 2000, **NEEDED},
    ),
)
