"""Whole runs of the retrieval recipe: what they learn, and that nothing of how they are computed changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from quincunx import Run, evaluate, train
from quincunx.config.document import ConfigError
from quincunx.errors import DataError
from quincunx.nn.pretrained import build_backbone, train_tokenizer
from quincunx.recipes.retrieval.evaluate.ranker import Validator, ranker
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from recipes.retrieval.collections_made import config_of, write_collection
from toys import cpu


@pytest.fixture(scope="module")
def run(data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A bi-encoder, trained as the config says."""
    return train(config_of(data, tmp_path_factory.mktemp("run") / "bi", cache))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoint("last") / "model.safetensors")


def distance(run: Run, other: Run) -> float:
    first, second = (torch.cat([value.flatten().double() for value in weights(each).values()]) for each in (run, other))
    return float((first - second).norm() / second.norm())


CHANCE = 10 / 300
"""Recall in the first 10 of 300 documents, in any order."""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mode": "poly-encoder", "poly__codes": 4},
        {"mode": "Poly_Encoder", "poly__kind": "all"},
        {"encoder__share": "nothing"},
        {"encoder__share": "backbone", "encoder__projection": 16},
        {"objective__similarity": "dot", "objective__directions": ["q->d", "d->q"]},
        {"objective__matryoshka__widths": [8]},
        {"memory__use": True, "memory__size": 48, "memory__warmup": 2},
        {"memory__use": True, "memory__size": 48, "memory__warmup": 2, "memory__momentum": 0.9},
        {
            "data__anchor": "document",
            "objective__directions": ["d->q"],
            "memory__use": True,
            "memory__kind": "queries",
            "memory__size": 48,
            "memory__warmup": 2,
        },
        {"data__no_duplicates": True, "data__tokenization": "lazy", "loading__workers": 1},
    ],
    ids=lambda changes: ", ".join(f"{name}={value}" for name, value in changes.items()) or "defaults",
)
def test_queries_find_documents_with_which_they_share_no_word(data, cache, tmp_path, changes):
    learnt = train(config_of(data, tmp_path / "run", cache, **changes))
    (_, recall), *_ = learnt.metrics("test/recall_10")
    assert recall > 5 * CHANCE
    again = evaluate(learnt)
    assert again.scalars["recall_10"] == recall, "read back from its folder, it is the same model"


# plain gradient descent: Adam's first steps are signs, which make whole steps of rounding errors
DESCENT = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}


# and few updates: with noise rounding errors grow, with some seeds a thousandfold within five more
DROPOUT = {"encoder__dropout": 0.1, "encoder__attention_dropout": 0.1, "budget__stop_at": 8}


@pytest.mark.parametrize(
    ("settings", "near"),
    [({}, 1e-5), (DROPOUT, 2e-6), ({**DROPOUT, "encoder__gradient_checkpointing": True}, 2e-6)],
    ids=["plain", "dropout", "dropout, layers computed again"],
)
def test_chunks_leave_the_weights_as_they_are(data, cache, tmp_path, settings, near):
    """Up to rounding."""

    def trained(name: str, **changes: object) -> Run:
        return train(config_of(data, tmp_path / name, cache, **DESCENT, **settings, **changes))

    whole, replayed = trained("whole"), trained("replayed", chunking__tokens=64, chunking__graphs="replay")
    assert distance(replayed, whole) < near
    kept = trained("kept", chunking__tokens=64)
    assert all(torch.equal(value, weights(kept)[name]) for name, value in weights(replayed).items())
    assert distance(trained("another", seed=4), whole) > 1e-2, "the distance must be able to tell runs apart"


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder__dropout": 0.1},
        {"memory__use": True, "memory__size": 48, "memory__warmup": 1, "memory__momentum": 0.5},
        {"mode": "poly-encoder", "poly__codes": 4, "objective__learn_temperature": True},
    ],
    ids=["dropout", "memory", "poly-encoder"],
)
def test_a_run_that_stopped_goes_on_bit_for_bit(data, cache, tmp_path, changes):
    whole = train(config_of(data, tmp_path / "whole", cache, **changes))
    config = config_of(data, tmp_path / "parts", cache, **changes)
    train(config, "budget.stop_at=7")
    parts = train(config, resume=True)
    assert parts.summary["state"] == "finished"
    for name, value in weights(whole).items():
        assert torch.equal(weights(parts)[name], value), name
    for part in ("dev/recip_rank", "train/loss"):
        assert dict(parts.metrics(part))[18] == dict(whole.metrics(part))[18]


def test_evaluating_changes_nothing(run, data, cache, tmp_path):
    often = train(config_of(data, tmp_path / "run", cache, evaluate__every=1, evaluate__at_start=True))
    assert all(torch.equal(value, weights(run)[name]) for name, value in weights(often).items())


def test_a_shared_encoder_is_one_object_and_is_saved_once(run):
    model: Any = run.model()
    assert model.query is model.document
    names = list(weights(run))
    assert names
    assert not any(name.startswith("document.") for name in names) or not any(n.startswith("query.") for n in names)


def test_what_a_run_keeps_is_enough_to_read_it_without_its_data(run, data, cache, tmp_path):
    """The tokenizer was trained on the corpus, and the encoder built round it."""
    away = data.with_name("away")
    data.rename(away)
    try:
        scored, embedded = run.predict(
            [{"query": "ask1x1 ask1x2", "documents": ["tell2y2", "tell1y1 tell1y2"]}, {"text": "ask1x1"}]
        )
    finally:
        away.rename(data)
    assert scored["order"] == [1, 0]
    assert sum(value**2 for value in embedded["embedding"]) == pytest.approx(1, abs=1e-4)


def test_pools_are_easier_than_the_corpus(run, data, cache, tmp_path):
    pooled = train(config_of(data, tmp_path / "run", cache, evaluate__mode="pooled", evaluate__pool=1))
    assert dict(pooled.metrics("test/recip_rank"))[18] > dict(run.metrics("test/recip_rank"))[18] + 0.2
    note = evaluate(pooled).notes[0]
    assert "3 pools of 24 query anchors, the last of 12" in note


def test_a_memory_smaller_than_a_batch_is_refused_before_anything_is_read(data, cache, tmp_path):
    with pytest.raises(ConfigError, match=r"memory\.size"):
        train(config_of(tmp_path / "nothing", tmp_path / "run", cache, memory__use=True, memory__size=8))


def test_a_cross_encoder_puts_what_bm25_found_in_order(tmp_path, cache):
    """From nothing, on 216 queries: far from good, but far above any order."""
    data = write_collection(tmp_path / "data", shared_word=True)
    settings = {"budget__epochs": 30, "optimizer__learning_rate": 0.003, "cross__random_negatives": 8}
    once = {"evaluate__every": None, "evaluate__rerank": 300}
    learnt = train(config_of(data, tmp_path / "run", cache, mode="cross-encoder", **settings, **once))
    losses = [value for _, value in learnt.metrics("train/loss")]
    assert losses[-1] < 0.5 * losses[0]
    scalars = evaluate(learnt).scalars
    in_any_order = sum(1 / rank for rank in range(1, 301)) / 300
    assert scalars["recip_rank"] > 2 * in_any_order
    assert scalars["bm25_recip_rank"] > 0.1, "names of topics have numbers in common, which BM25 sees"
    scored = learnt.predict([{"query": "ask1x1 ask1x2 common", "documents": ["tell2y2 common", "tell1y1 common"]}])
    assert sorted(scored[0]["order"]) == [0, 1]
    assert np.argsort(-np.array(scored[0]["scores"])).tolist() == scored[0]["order"]
    with pytest.raises(DataError, match="row 1 asks for the embedding of a text, and a cross-encoder has none"):
        learnt.predict([{"text": "ask1x1"}])


def test_the_validators_functions_decide_what_is_compared(run, data, cache, tmp_path):
    """Guide 001's two functions: named ones from a file, any from Python; on a model that pools the first token."""

    def measured(name: str, **changes: object) -> float:
        config = config_of(data, tmp_path / name, cache, **changes, **DESCENT, encoder__pooling="cls")
        return evaluate(train(config, "budget.stop_at=6"), split="dev").scalars["recip_rank"]

    cosine = measured("full")
    normal = {"evaluate__mode": "validator", "evaluate__post_processing": "normalize"}
    assert measured("normalized", **normal) == cosine, "vectors of length 1: inner products are cosines"
    later = {"evaluate__mode": "validator", "evaluate__processing_before_indexing": "normalize"}
    assert measured("later", **later) == cosine
    raw = measured("raw", evaluate__mode="validator")
    first = measured("first", evaluate__mode="validator", evaluate__post_processing="first_token")
    assert raw == first, "the model itself pools the first token"
    assert raw != cosine


def test_functions_of_the_validator_from_python():
    model = BiEncoder(TextEncoder(tiny_backbone(), "mean"))
    seen: list[int] = []

    def post(encoder: Any, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        seen.append(len(tokens))
        return torch.ones(len(tokens), 2) * lengths[:, None]

    def before(vectors: Any) -> torch.Tensor:
        return torch.cat(list(vectors)) * 2

    by = ranker(model.eval(), cpu(), cosine=True, validator=Validator(post, before))
    assert by.documents(Lists([[5, 6, 7], [5, 6]])).tolist() == [[6.0, 6.0], [4.0, 4.0]]
    assert sum(seen) == 2


class Lists:
    """Token ids as a ranker takes them."""

    def __init__(self, found: list[list[int]]) -> None:
        self.found = [np.array(one, np.int32) for one in found]
        self.lengths = np.array([len(one) for one in found])

    def tokens(self, index: int) -> np.ndarray:
        return self.found[index]


def tiny_backbone() -> Any:
    tokenizer = train_tokenizer(["a b c d"], vocabulary=60, max_length=16)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return build_backbone({"architecture": "bert", **sizes}, tokenizer)
