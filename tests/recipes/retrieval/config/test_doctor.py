"""What is said at the start: numbers that are right, and warnings that come when they are due and not otherwise."""

from __future__ import annotations

import math
from typing import Any

import pytest

from quincunx.config.load import load
from quincunx.recipes.retrieval.config import SCHEMA
from quincunx.recipes.retrieval.doctor import ceiling, doctor, similarity, temperature


def config(*overrides: str) -> Any:
    base = {"recipe": "retrieval", "data": {"path": "d"}, "encoder": {"path": "m"}, "update": {"batch_size": 64}}
    return load(base, overrides, schemas=[SCHEMA]).config


def said(*overrides: str, **sizes: Any) -> list[str]:
    return doctor(config(*overrides), **sizes)


def test_a_plain_run_says_its_negatives_and_nothing_else():
    assert said() == ["query_to_document: 63 negatives an anchor (63 of its batch)"]


@pytest.mark.parametrize(
    ("overrides", "sizes", "text"),
    [
        # 64 queries with 2 documents each: the 126 of the others; 3 explicit negatives each: 3 own, 64 * 3 - 3 others
        (["data.positives=2"], {}, "126 negatives an anchor (126 of its batch)"),
        (["data.negatives=3"], {}, "255 negatives an anchor (252 of its batch, 3 explicit)"),
        ([], {"negatives": 3}, "255 negatives an anchor (252 of its batch, 3 explicit)"),
        (["data.negatives=3", "objective.in_batch=false"], {}, "3 negatives an anchor (0 of its batch, 3 explicit)"),
        (["memory.use=true", "memory.size=1000"], {},
         "1,063 negatives an anchor (63 of its batch, 1000 of the memory, once it is full)"),
        (["objective.directions=[d->q]", "data.anchor=document", "data.positives=3"], {},
         "document_to_query: 189 negatives an anchor (189 of its batch)"),
        (["mode=cross-encoder", "data.negatives=2"], {}, "2 explicit and 4 random negatives"),
        (["objective.loss=margin_mse", "data.negatives=2"], {}, "margin_mse: a query's candidates"),
    ],
)  # fmt: skip
def test_negatives_are_counted(overrides: list[str], sizes: dict[str, Any], text: str):
    assert text in said(*overrides, **sizes)[0]


def test_each_direction_has_its_own():
    found = said("objective.directions=[q->d, d->q]", "memory.use=true", "memory.kind=dual", "memory.size=100")
    assert [line.split(" an")[0] for line in found] == [
        "query_to_document: 163 negatives",
        "document_to_query: 163 negatives",
    ]


def test_accumulation_adds_none():
    [counted, accumulated] = said("update.accumulation=4")
    assert "63 negatives" in counted
    assert "accumulation 4 adds no negatives" in accumulated and "to 256 with accumulation 1" in accumulated


def test_temperature_one_caps_a_cosine():
    [_, warned] = said("objective.temperature=1.0")
    best = 1 / (1 + 63 * math.exp(-2))
    assert ceiling(63, 1.0) == pytest.approx(best)
    assert f"a probability of {best:.3g} at most (loss at least {-math.log(best):.3g})" in warned
    assert best == pytest.approx(0.105, abs=1e-3)


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        (["objective.temperature=0.07"], False),
        (["objective.temperature=0.2"], False),
        (["objective.temperature=0.001"], True),
        (["objective.similarity=dot", "objective.temperature=0.05"], True),
        (["objective.similarity=dot"], False),
        (["mode=poly-encoder"], False),
        (["mode=poly-encoder", "objective.temperature=0.05"], True),
        (["objective.temperature=1.0", "update.batch_size=1", "data.negatives=1"], True),
        (["objective.loss=margin_mse", "data.negatives=1"], False),
    ],
)
def test_temperatures_that_do_not_suit(overrides: list[str], warned: bool):
    assert any(line.startswith("temperature") for line in said(*overrides)) == warned


def test_what_is_left_open_follows_the_mode():
    assert (similarity(config()), temperature(config())) == ("cosine", 0.05)
    poly = config("mode=poly-encoder")
    assert (similarity(poly), temperature(poly)) == ("dot", 1.0)
    mixed = config("mode=poly-encoder", "objective.similarity=cosine")
    assert (similarity(mixed), temperature(mixed)) == ("cosine", 0.05)


def test_weights_that_begin_at_random_are_named():
    assert "the encoder and its tokenizer are built from nothing" in said("encoder.path=null")[1]
    assert "the encoder is built from nothing" in said("encoder.path=null", "encoder.tokenizer.path=t")[1]
    assert said("encoder.path=null", "init_from=runs/x") == said()
    [_, heads] = said("encoder.projection=32", "document.pooling=attention")
    assert "the projection to 32 and the query of attention pooling begin at random" in heads
    assert "64 poly codes begin at random" in said("mode=poly-encoder")[1]
    assert "classifier.weight begins at random" in said("mode=cross-encoder", untrained=["classifier.weight"])[1]
    [_, tokens, frozen] = said("encoder.freeze=embeddings", new_tokens=["[Q]", "[D]"])
    assert "[Q], [D]" in tokens and "leaves the embeddings of new special tokens at random" in frozen


def test_training_by_cosine_and_validating_by_inner_products_is_said():
    def warned(*changes: str) -> bool:
        return any("validated by the inner product" in line for line in said("evaluate.mode=validator", *changes))

    assert warned("objective.similarity=cosine")
    assert not warned("objective.similarity=dot", "objective.temperature=1")
    assert not warned("objective.similarity=cosine", "evaluate.post_processing=normalize")
    assert not warned("objective.similarity=cosine", "evaluate.processing_before_indexing=normalize")


@pytest.mark.parametrize(
    ("override", "updates", "text"),
    [
        ("memory.warmup=100", 100, "the memory never acts: memory.warmup is 100 updates, training has 100"),
        ("memory.warmup=99", 100, None),
        ("memory.drift_every=500", 100, "memory.drift_every (500 updates) lies beyond"),
        ("evaluate.every=101", 100, "evaluate.every (101 updates) lies beyond the 100 of training"),
        ("evaluate.every=100", 100, None),
        ("evaluate.every=null", 100, None),
        ("evaluate.every=0.5", 100, None),
        ("checkpoint.every=1000", 100, "checkpoint.every (1,000 updates)"),
        ("log.every=200", 100, "log.every (200 updates)"),
    ],
)
def test_what_never_acts_is_said(override: str, updates: int, text: str | None):
    others = ["memory.use=true"] + ["memory.warmup=5"] * ("warmup" not in override)
    more = doctor(config(*others, override), updates=updates, per_epoch=50)[1:]
    assert not more if text is None else len(more) == 1 and text in more[0], more


def test_an_epoch_longer_than_training_is_said():
    more = doctor(config(), updates=10, per_epoch=50)
    assert [line.split(" ")[0] for line in more[1:]] == ["evaluate.every", "checkpoint.every", "log.every"]


def test_a_schedule_that_ends_elsewhere_is_said():
    target = "transformers.get_linear_schedule_with_warmup"
    target = f"schedule={{_target_: {target}, num_warmup_steps: 0, num_training_steps: 400000}}"
    [_, text] = said(target, updates=1000)
    assert "schedule.num_training_steps is 400,000, training has 1,000 updates" in text
    assert len(said(target.replace("400000", "1000"), updates=1000)) == 1


def test_the_numbers_of_guide_001():
    """Batch 8 by its defaults, temperature 1: the warning has the number."""
    found = load({"data_args": {"batch_size": 8, "collection_path": "c", "query_path": "q", "qrels_path": "r"},
                  "model_args": {"model_name_or_path": "m"}}, schemas=[SCHEMA])  # fmt: skip
    [counted, apart, warned] = doctor(found.config)
    assert "7 negatives an anchor" in counted
    assert "validated by the inner product" in apart
    assert f"a probability of {1 / (1 + 7 * math.exp(-2)):.3g} at most" in warned
