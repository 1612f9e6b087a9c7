"""Which evaluator there is, and that every scalar it gives is known beforehand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.recipes.compression.evaluate.arithmetic import ArithmeticEvaluator
from quincunx.recipes.compression.evaluate.controls import CompressionEvaluator
from quincunx.recipes.compression.evaluate.labelled import LabelledEvaluator
from quincunx.recipes.compression.evaluate.plain import PlainEvaluator
from quincunx.recipes.compression.evaluate.tasks import TaskEvaluator
from toys import cpu, plan

ARITHMETIC = {"data.source": "arithmetic"}
TASKS = {"data.source": "tasks", "tasks.train": 9, "tasks.dev": 9, "tasks.max_length": 5, "tasks.test_max_length": 6}
GLUE = {"data.source": "glue:mrpc", "data.dev_share": 0.3, "tokenizer.kind": "byte", "data.forward_length": 40}
TEXT = {
    "data.source": "text",
    "tokenizer.kind": "byte",
    "data.forward_length": 8,
    "data.document": "line",
    "data.min_forward": 2,
}
PAIR = {"data.context_length": 8, "compress.slots": 2}
CASES: dict[str, tuple[dict[str, Any], type, str, str]] = {
    "text": (TEXT, PlainEvaluator, "dev/loss", "min"),
    "text, compressed": ({**TEXT, **PAIR}, CompressionEvaluator, "dev/loss", "min"),
    "text, told again": ({**TEXT, "objective.reconstruct_only": "true"}, CompressionEvaluator, "dev/loss", "min"),
    "arithmetic": (ARITHMETIC, ArithmeticEvaluator, "dev/answer_accuracy", "max"),
    "arithmetic, compressed": ({**ARITHMETIC, **PAIR}, ArithmeticEvaluator, "dev/answer_accuracy", "max"),
    "arithmetic, not written": ({**ARITHMETIC, "evaluate.generate": 0}, ArithmeticEvaluator, "dev/exact", "max"),
    "tasks": (TASKS, TaskEvaluator, "dev/accuracy", "max"),
    "labelled": (GLUE, LabelledEvaluator, "dev/answer_accuracy", "max"),
    "labelled, compressed": ({**GLUE, **PAIR}, LabelledEvaluator, "dev/answer_accuracy", "max"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    problems = root / "problems"
    problems.mkdir()
    for split in ("train", "dev", "test", "ood_magnitude"):
        rows = [{"problem": f"{a}+2", "solution": str(a + 2)} for a in range(3, 7)]
        (problems / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder = root / "MRPC"
    folder.mkdir()
    for split in ("train", "dev"):
        rows = [f"{number % 2}\t1\t2\tOne {number}.\tTwo {split}." for number in range(20)]
        (folder / f"{split}.tsv").write_text("\n".join(["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *rows]))
    lines = root / "lines.txt"
    lines.write_text("\n".join(f"The number {number} is followed by {number + 1}." for number in range(60)))
    return {"arithmetic": problems, "glue:mrpc": root, "text": lines}


@pytest.mark.parametrize("case", CASES)
def test_every_scalar_is_known_beforehand(learnt, data, tmp_path, case):
    settings, kind, metric, goal = CASES[case]
    paths = {"data.cache": str(tmp_path)}
    if settings["data.source"] in data:
        paths["data.path"] = str(data[settings["data.source"]])
    experiment = learnt({**settings, **paths})
    assert (experiment.metric, experiment.goal) == (metric, goal)
    evaluator = experiment.evaluators["dev"]
    assert type(evaluator) is kind
    found = evaluator(experiment.parts.model, cpu(), plan())
    given = {f"dev/{name}" for name in found.scalars}
    assert metric in given
    assert given <= set(experiment.metrics)
    assert len(set(experiment.metrics)) == len(experiment.metrics)
    # of an untrained model the controls may be so near one another that there is no gap to speak of
    assert {name for name in set(experiment.metrics) - given if "gap_recovered" not in name} == set()
    assert all(math.isfinite(value) for value in found.scalars.values())
    expected = {"test"} | ({"ood_magnitude"} if kind is ArithmeticEvaluator else set())
    assert set(experiment.final_evaluators) == expected
    for name, other in experiment.final_evaluators.items():
        assert other(experiment.parts.model, cpu(), plan()).notes[0].startswith(f"{name}:")
