"""Model and objective of a decided config, round encoders that are there already."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from quincunx.engine.objective import Objective
from quincunx.nn.poly import ContextCodes
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.doctor import similarity, temperature
from quincunx.recipes.retrieval.encoders import Encoders
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.cross_encoder import CrossEncoder
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.recipes.retrieval.model.text_encoder import Projection, TextEncoder
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from quincunx.recipes.retrieval.objective.counts import smallest_size
from quincunx.recipes.retrieval.objective.cross import CrossEncoding
from quincunx.recipes.retrieval.objective.drift import DriftMonitor
from quincunx.recipes.retrieval.objective.keys import KeyEncoder
from quincunx.recipes.retrieval.objective.memory import Memory
from quincunx.recipes.retrieval.objective.metric_learning import MetricLearning
from quincunx.recipes.retrieval.rules_objective import KEPT


def make_model(config: RetrievalConfig, encoders: Encoders) -> nn.Module:
    """Return the model of a config: sides, poolings and projections round the encoders.

    Raises:
        UsageError: Parts that do not fit one another.
    """
    if config.mode == "cross-encoder":
        return CrossEncoder(encoders.query, gradient_checkpointing=config.encoder.gradient_checkpointing)
    pooling = config.encoder.pooling
    for_queries = "none" if config.mode == "poly-encoder" else config.query.pooling or pooling
    for_documents = config.document.pooling or pooling
    alike = encoders.query is encoders.document and config.encoder.share == "all" and for_queries == for_documents
    query = _side(config, encoders, "query", for_queries)
    document = None if alike else _side(config, encoders, "document", for_documents)
    if document is not None and config.encoder.share == "all" and encoders.query is encoders.document:
        document.projection = query.projection  # another pooling is all that tells the sides apart
    if config.mode == "bi-encoder":
        return BiEncoder(query, document)
    poly = config.poly
    multihead = poly.heads if poly.attention == "multihead" and poly.kind == "codes" else None
    codes = ContextCodes(
        query.states_width,
        poly.kind,
        None if poly.kind == "all" else poly.codes,
        poly.attention if poly.kind == "codes" else None,
        multihead,
    )
    return PolyEncoder(
        query,
        document,
        codes,
        attention=poly.final_attention,
        heads=poly.heads if poly.final_attention == "multihead" else None,
        similarity=similarity(config),  # pyright: ignore[reportArgumentType] - a word of the config
    )


def _side(config: RetrievalConfig, encoders: Encoders, side: str, pooling: str) -> TextEncoder:
    projection, backbone = None, getattr(encoders, side)
    chosen, width = config.encoder, int(backbone.config.hidden_size)
    if chosen.projection is not None:
        make = Projection.mlp if chosen.head == "mlp" else Projection.linear
        projection = make(width, chosen.projection)
    elif side in encoders.dense:
        projection = Projection.saved(encoders.dense[side])
    return TextEncoder(
        backbone,
        pooling,  # pyright: ignore[reportArgumentType] - a word of the config
        projection=projection,
        gradient_checkpointing=chosen.gradient_checkpointing,
    )


def make_objective(
    config: RetrievalConfig, model: Any, *, known_pairs: Tensor | None = None, longest: int = 512, negatives: int = 0
) -> Objective:
    """Return what a config's model learns.

    Args:
        config: A decided config.
        model: What `make_model` returned for it.
        known_pairs: `[R, 2]` int64: content hashes of every relevant pair of the training sets; needed with a memory.
        longest: Tokens of the longest document, for the texts that a drift monitor keeps.
        negatives: Explicit negatives that are drawn for each anchor.

    Raises:
        UsageError: Values that contradict each other.
    """
    if config.mode == "cross-encoder":
        cross = config.cross
        if cross.loss == "pairwise" and cross.margin is not None:
            return CrossEncoding(kind="hinge", margin=cross.margin)
        if cross.loss == "pointwise":
            return CrossEncoding(
                kind="pointwise", positive_weight=cross.positive_weight, highest_grade=cross.highest_grade
            )
        return CrossEncoding(kind=cross.loss)
    chosen, poly = config.objective, config.mode == "poly-encoder"
    metric = None
    if chosen.loss == "metric_learning":
        assert chosen.metric_learning.loss is not None
        part = chosen.metric_learning
        metric = MetricLearning(part.loss, part.arguments, part.miner, part.miner_arguments or None)  # pyright: ignore[reportArgumentType]
    widths: dict[int, float] | None = None
    if chosen.matryoshka.widths:
        weights = chosen.matryoshka.weights or [1.0] * len(chosen.matryoshka.widths)
        widths = {**dict(zip(chosen.matryoshka.widths, weights, strict=True)), model.width: 1.0}
    low, high = chosen.temperature_range
    return Contrastive(
        one_pass=not poly and model.one_pass,
        poly=poly,
        keep_states=poly and config.poly.kind == "all",
        similarity=None if poly else similarity(config),
        temperature=temperature(config),
        learn_temperature=chosen.learn_temperature,
        temperature_range=(low, high),
        losses={chosen.loss: 1.0},
        directions=chosen.directions,
        partition=chosen.partition,
        positives=chosen.positives,
        in_batch=chosen.in_batch,
        hardness=chosen.hardness,
        widths=widths,
        teacher_temperature=chosen.teacher_temperature,
        metric_learning=metric,
        memory=_memory(config, model, longest, negatives) if config.memory.use else None,
        known_pairs=known_pairs if config.memory.use else None,
    )


def _memory(config: RetrievalConfig, model: Any, longest: int, negatives: int) -> Memory:
    chosen = config.memory
    sides = KEPT[chosen.kind]
    batch, positives = config.update.batch_size, config.data.positives or 1
    smallest = {
        side: smallest_size(batch, positives, negatives, anchor=config.data.anchor, side=side)  # pyright: ignore[reportArgumentType]
        for side in sides
    }
    drift = None
    if chosen.drift_every is not None:
        drift = DriftMonitor(
            chosen.size,
            every=chosen.drift_every,
            threshold=chosen.drift_threshold,
            sample=chosen.drift_sample,
            longest=longest,
        )
    return Memory(
        kind=chosen.kind,
        size=chosen.size,
        width=model.width,
        smallest=smallest,
        warmup=chosen.warmup,
        age_limit=chosen.max_age,
        keys=None if chosen.momentum is None else KeyEncoder(model, chosen.momentum, sides),
        drift=drift,
    )
