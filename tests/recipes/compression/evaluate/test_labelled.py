"""Answers chosen by likelihood: against one text after another, known by heart, and measured by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.engine.experiment import Experiment
from quincunx.metrics.intervals import wilson
from quincunx.metrics.record import Evaluation
from quincunx.recipes.compression.evaluate.labelled import LabelledEvaluator, Scores
from quincunx.recipes.compression.shaping import Item
from toys import cpu, plan

HEADERS = {
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
}
FOLDERS = {"mrpc": "MRPC", "cola": "CoLA", "stsb": "STS-B"}
COMPRESSED = {
    "data.context_length": 12,
    "compress.slots": 2,
    "objective.forward": 1,
    "objective.without": 1,
    "objective.full": 1,
}


def line(task: str, number: int) -> str:
    """Return a row whose answer the first sentence gives away, and nothing else."""
    label = number * 7 % 3 % 2
    first, second = f"{('Dry', 'Rain')[label]} {number}.", f"So {number % 3}."
    if task == "mrpc":
        return f"{label}\t1\t2\t{first}\t{second}"
    if task == "cola":
        return f"gj04\t{label}\t\t{first}"
    return f"{number}\tg\tf\ty\t1\t_\t_\t{first}\t{second}\t{5 * label}"


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("glue")
    for task, folder in FOLDERS.items():
        (root / folder).mkdir()
        for file, numbers in (("train", range(40)), ("dev", range(40, 51))):
            rows = [*([HEADERS[task]] if task in HEADERS else []), *(line(task, number) for number in numbers)]
            (root / folder / f"{file}.tsv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def made(learnt, glue, tmp_path_factory) -> Any:
    cache = tmp_path_factory.mktemp("cache")

    def of(task: str = "mrpc", *, updates: int = 0, rate: float = 0.01, **extra: Any) -> Experiment:
        settings = {
            "data.source": f"glue:{task}",
            "data.path": str(glue),
            "data.cache": str(cache),
            "data.dev_share": 0.2,
            "data.forward_length": 48,
            "tokenizer.kind": "byte",
        }
        return learnt(
            {**settings, **{name.replace("__", "."): value for name, value in extra.items()}}, updates=updates
        )

    return of


def of_split(experiment: Experiment, split: str) -> LabelledEvaluator:
    evaluator = {**experiment.evaluators, **experiment.final_evaluators}[split]
    assert isinstance(evaluator, LabelledEvaluator)
    return evaluator


def slowly(evaluator: LabelledEvaluator, model: Any, number: int, label: int, name: str) -> float:
    """Return the log-probability of an answer, alone in its batch, at the positions of the longest answer."""
    item, example = evaluator.source[number], evaluator.source.source[number]
    answer = evaluator.answers[label]
    longest = max(map(len, evaluator.answers))
    asked = item.text[: len(item.text) - example.answer]
    filler = torch.zeros(longest - len(answer), dtype=torch.int64)
    whole = Item(item.context, torch.cat([asked, answer, filler]))
    batch = evaluator.shaping([whole], [number], [number], 0)
    with torch.no_grad():
        logits = model.logits(model.states(batch, [name])[name])[0].double()
    first = len(logits) - len(whole.text) + len(asked) - 1  # the column that predicts the answer's first token
    said = torch.log_softmax(logits[first : first + len(answer)], -1)
    return float(said.gather(1, answer[:, None]).sum())


@pytest.mark.parametrize("positions", [{}, {"positions.kind": "random", "positions.size": 150}])
@pytest.mark.parametrize("compressed", [{}, COMPRESSED, {**COMPRESSED, "compress.readout": "mean_pool"}])
def test_scores_are_those_of_one_text_after_another(made, compressed, positions):
    experiment = made(updates=3, **compressed, **positions)
    evaluator, model = of_split(experiment, "test"), experiment.parts.model
    names = ("forward", "without", "full") if compressed else ("plain",)
    scores = evaluator.scores(model, cpu(), 5, 8)
    assert tuple(scores) == names
    for name in names:
        slow = [[slowly(evaluator, model, number, label, name) for label in range(2)] for number in range(5)]
        assert scores[name] == pytest.approx(np.array(slow), rel=1e-4)
    for size in (1, 100):
        for name, table in evaluator.scores(model, cpu(), 5, size).items():
            assert table == pytest.approx(scores[name], rel=1e-4)
    assert evaluator(model, cpu(), plan()).to_json() == evaluator(model, cpu(), plan()).to_json()


def test_the_control_without_a_context_cannot_know_what_the_others_do(made):
    experiment = made("cola", updates=140, rate=0.006, **COMPRESSED)
    found = of_split(experiment, "test")(experiment.parts.model, cpu(), plan(evaluation_limit=3))
    scalars = found.scalars
    assert scalars["answer_accuracy"] == scalars["answer_accuracy_full"] == scalars["matthews"] == 1
    assert scalars["answer_accuracy_without"] < 0.9
    assert scalars["answer_accuracy_low"] == wilson(11, 11).low, "of test all are measured"
    labels = [number * 7 % 3 % 2 for number in range(40, 51)]
    assert scalars["commonest_answer"] == max(labels.count(0), labels.count(1)) / 11
    title, chosen = found.tables[-1].title, [list(row) for row in found.tables[-1].rows]
    assert title.startswith("Chosen answers")
    assert chosen == [["no", labels.count(0), 0], ["yes", 0, labels.count(1)]]
    assert scalars["loss"] < scalars["loss_without"], "teacher forcing stands beside it"
    dev = of_split(experiment, "dev")(experiment.parts.model, cpu(), plan(evaluation_limit=3))
    assert "of 3 answers right" in dev.notes[-1]


def test_without_compression_the_whole_text_is_read(made):
    experiment = made(updates=60)
    found = of_split(experiment, "test")(experiment.parts.model, cpu(), plan())
    assert found.scalars["answer_accuracy"] == 1
    assert "answer_accuracy_without" not in found.scalars


# Measured by hand


class Scored(LabelledEvaluator):
    """Takes scores from outside."""

    def scores(self, model: Any, runtime: Any, count: int, size: int) -> dict[str, Scores]:
        table = np.full((count, len(self.answers)), -9.0)
        if len(self.answers) == 2:
            table[np.arange(count), [0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0][:count]] = 0
        else:
            # two grades as likely as each other, 3.5 on average, and nothing else
            table = np.full((count, 6), -900.0)
            table[:, 3:5] = 0
            table[:2] = [0.0, -900, -900, -900, -900, 0.01]
        return dict.fromkeys(self.shaping.branches, table)


def by_hand(experiment: Experiment) -> Evaluation:
    evaluator = of_split(experiment, "test")
    fields = {name: getattr(evaluator, name) for name in LabelledEvaluator.__dataclass_fields__}
    return Scored(**fields)(experiment.parts.model, cpu(), plan())


LABELS = [number * 7 % 3 % 2 for number in range(40, 51)]
"""0 or 1 for each test example."""


def test_measures_of_two_answers_by_hand(made):
    assert LABELS == [1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0]
    # hits 3 of 4, wrongly chosen 1 of 7
    found = by_hand(made("mrpc", **COMPRESSED)).scalars
    assert found["answer_accuracy"] == found["answer_accuracy_without"] == 9 / 11
    assert found["f1"] == found["f1_full"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    found = by_hand(made("cola")).scalars
    assert found["matthews"] == pytest.approx((3 * 6 - 1 * 1) / np.sqrt(4 * 4 * 7 * 7))


def test_grades_are_compared_by_their_means(made):
    experiment = made("stsb")
    found = by_hand(experiment)
    # 2.51 for the first two, 3.5 for the others; right are 5 at four places, the first among them, else 0
    first, right = np.array([0, 0] + [1] * 9), np.array(LABELS)
    assert found.scalars["spearman"] == pytest.approx(np.corrcoef(first, right)[0, 1])
    assert found.scalars["answer_accuracy"] == 1 / 11, "the likelier grade is 5 in the first two, else 3"
    assert "spearman" in found.notes[-1]
    assert "dev/spearman" in experiment.metrics
    assert (experiment.metric, experiment.goal) == ("dev/spearman", "max"), "near misses count"
