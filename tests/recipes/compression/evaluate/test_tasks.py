"""Accuracy by length: by hand, and against one example after another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.metrics.intervals import wilson
from quincunx.recipes.compression.data.tasks import ANSWER, TASKS
from quincunx.recipes.compression.evaluate.make import evaluator_of
from quincunx.recipes.compression.evaluate.tasks import TaskEvaluator, by_length
from quincunx.recipes.compression.sources import read
from toys import cpu, plan

NAN = float("nan")
SMALL = {
    "data.source": "tasks",
    "tasks.max_length": 5,
    "tasks.train": 40,
    "tasks.dev": 30,
    "tasks.test_max_length": 17,
    "tasks.test_per_length": 2,
}
WAYS = {
    "causal": {},
    "both ways": {"model.causal": "false"},
    "drawn": {"model.causal": "false", "positions.kind": "sinusoidal", "positions.sample": "float"},
}


def of_split(experiment: Any, split: str) -> TaskEvaluator:
    evaluator = {**experiment.evaluators, **experiment.final_evaluators}[split]
    assert isinstance(evaluator, TaskEvaluator)
    return evaluator


def test_each_length_counts_alike_and_each_symbol_within_it():
    right = np.array([[1, 0, NAN], [1, 1, 1], [0, NAN, NAN]])
    found = by_length(right, np.array([4, 4, 7]))
    assert found.lengths.tolist() == [4, 7]
    assert found.accuracy.tolist() == [4 / 5, 0]
    assert found.mean == pytest.approx(0.4)
    # what each example adds to the mean: (right - 0.4 symbols) / (symbols at its length * 2 lengths)
    assert found.error == pytest.approx(math.sqrt((0.2 / 10) ** 2 + (1.8 / 10) ** 2 + (0.4 / 2) ** 2))


def test_the_error_is_the_usual_one_where_all_is_alike():
    right = (np.arange(400).reshape(400, 1) % 4 > 0).astype(float)
    found = by_length(right, np.full(400, 9))
    assert found.error == pytest.approx(math.sqrt(0.75 * 0.25 / 400))


def slowly(evaluator: TaskEvaluator, model: Any, number: int) -> list[bool]:
    """Return whether each symbol of an answer is right, the example alone in its batch."""
    example = evaluator.source.source[number]  # pyright: ignore[reportAttributeAccessIssue]
    text = example.input + ANSWER * example.slots
    batch = evaluator.shaping([evaluator.source[number]], [number], [number], 0)
    with torch.no_grad():
        logits = model.logits(model.states(batch, ["plain"])["plain"])[0]
    assert len(logits) == len(text)
    said = logits[len(example.input) :].argmax(-1).numpy()
    wanted = example.task.alphabet.encode(example.output)
    return (said[: len(wanted)] == wanted).tolist()


@pytest.mark.parametrize("name", ["bucket_sort", "binary_addition"])
@pytest.mark.parametrize("way", WAYS)
def test_answers_are_read_where_they_are_asked_for(learnt, name, way):
    experiment = learnt({**SMALL, **WAYS[way], "tasks.name": name}, updates=5)
    evaluator, model = of_split(experiment, "test"), experiment.parts.model
    found = evaluator(model, cpu(), plan(evaluation_batch=7))
    answers = [slowly(evaluator, model, number) for number in range(len(evaluator.source))]
    lengths = [len(evaluator.source.source[number].input) for number in range(len(answers))]  # pyright: ignore
    shares = []
    for length in sorted(set(lengths)):
        symbols = [one for own, answer in zip(lengths, answers, strict=True) for one in answer if own == length]
        shares.append(sum(symbols) / len(symbols))
    assert min(lengths) >= 5
    assert found.scalars["accuracy"] == pytest.approx(sum(shares) / len(shares))
    assert 0 < found.scalars["accuracy"] < 1
    assert found.scalars["exact"] == pytest.approx(sum(map(all, answers)) / len(answers))
    assert found.scalars["chance"] == TASKS[name].chance
    again = evaluator(model, cpu(), plan(evaluation_batch=1))
    assert again.scalars == pytest.approx(found.scalars, rel=1e-4)
    assert evaluator(model, cpu(), plan(evaluation_batch=7)).to_json() == found.to_json()


def test_the_table_has_ranges_of_lengths(learnt):
    experiment = learnt({**SMALL, "tasks.name": "bucket_sort"})
    evaluator, model = of_split(experiment, "test"), experiment.parts.model
    found = evaluator(model, cpu(), plan())
    answers = [slowly(evaluator, model, number) for number in range(len(evaluator.source))]
    (table,) = found.tables
    # 6 to 17 are 12 lengths, cut in 10 ranges at most: 6 of two lengths, of two examples each
    assert [row[:2] for row in table.rows] == [[f"{first}-{first + 1}", 4] for first in range(6, 18, 2)]
    for place, row in enumerate(table.rows):
        own = answers[4 * place : 4 * place + 4]
        by_hand = [sum(one + two) / len(one + two) for one, two in zip(own[::2], own[1::2], strict=True)]
        whole = wilson(sum(map(all, own)), 4)
        expected = [sum(by_hand) / 2, TASKS["bucket_sort"].chance, whole.value, whole.low, whole.high]
        assert row[2:] == [round(100 * share, 1) for share in expected]
    assert "a mean over inputs of 6 to 17 symbols" in found.notes[0]


def test_a_task_that_is_known_by_heart_is_right_at_every_place(learnt):
    settings = {**SMALL, "tasks.name": "reverse_string", "tasks.train": 12, "model.causal": "false"}
    # far beyond what it takes, so that another processor's rounding learns it by heart as well
    experiment = learnt(settings, updates=600, rate=0.0015)
    model = experiment.parts.model
    evaluator = evaluator_of(experiment.config, "train", read(experiment.config), model)
    assert evaluator is not None
    found = evaluator(model, cpu(), plan()).scalars
    assert (found["accuracy"], found["exact"], found["exact_se"], found["accuracy_se"]) == (1, 1, 0, 0)
    other = of_split(experiment, "test")(model, cpu(), plan()).scalars
    assert other["exact"] < 1


def test_only_so_many_of_dev_are_measured(learnt):
    experiment = learnt({**SMALL, "tasks.name": "bucket_sort"})
    model = experiment.parts.model
    found = of_split(experiment, "dev")(model, cpu(), plan(evaluation_limit=9))
    assert "of 9 answers" in found.notes[0]
    assert found.scalars != of_split(experiment, "dev")(model, cpu(), plan()).scalars
