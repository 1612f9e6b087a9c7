"""From a config to what evaluates a model on a split."""

from __future__ import annotations

from quincunx.engine.runtime import find_device
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data import Collection
from quincunx.recipes.retrieval.data.tokenizing import PairTokenizer
from quincunx.recipes.retrieval.doctor import similarity
from quincunx.recipes.retrieval.evaluate.beside import Beside, FirstStage
from quincunx.recipes.retrieval.evaluate.full import Corpus, FullEvaluator
from quincunx.recipes.retrieval.evaluate.pooled import PooledEvaluator
from quincunx.recipes.retrieval.evaluate.ranker import BEFORE_INDEXING, POST_PROCESSING, Validator
from quincunx.recipes.retrieval.evaluate.remembered import Keeps
from quincunx.recipes.retrieval.evaluate.rerank import RerankEvaluator
from quincunx.recipes.retrieval.evaluate.vectors import Limits


def evaluator_of(
    config: RetrievalConfig, split: str, corpus: Corpus, remembered: Keeps | None
) -> FullEvaluator | PooledEvaluator:
    """Return what evaluates a model that encodes apart on a split, in the way that `evaluate.mode` names."""
    chosen = config.evaluate
    if chosen.mode != "pooled":
        return full(config, split, corpus, remembered)
    return PooledEvaluator(
        split,
        corpus,
        chosen.measures,
        similarity(config) == "cosine",
        anchor=config.data.anchor,
        pool=chosen.pool,
        batch=chosen.batch_size or config.update.batch_size,
        tokens=Limits(texts=chosen.batch_size),
        ties=chosen.ties,
        device=None if chosen.device is None else find_device(chosen.device),
    )


def full(config: RetrievalConfig, split: str, corpus: Corpus, remembered: Keeps | None) -> FullEvaluator:
    """Return what ranks a whole corpus for every judged query; UsageError where BM25 beside it has no words to read."""
    chosen = config.evaluate
    validator = None
    if chosen.mode == "validator":
        before = BEFORE_INDEXING[chosen.processing_before_indexing]
        validator = Validator(POST_PROCESSING[chosen.post_processing], before)
    return FullEvaluator(
        split,
        corpus,
        chosen.measures,
        similarity(config) == "cosine",
        depth=chosen.depth,
        ties=chosen.ties,
        tokens=Limits(texts=chosen.batch_size),
        validator=validator,
        remembered=remembered,
        device=None if chosen.device is None else find_device(chosen.device),
        beside=Beside(chosen.beside, FirstStage(corpus.collection)) if chosen.beside else None,
    )


def reranker(config: RetrievalConfig, split: str, collection: Collection, tokenize: PairTokenizer) -> RerankEvaluator:
    """Return what puts the first candidates of BM25 in order."""
    chosen = config.evaluate
    return RerankEvaluator(
        split,
        Corpus(collection),
        tokenize,
        chosen.measures,
        chosen.rerank,
        chosen.ties,
        Limits(texts=chosen.batch_size),
    )
