"""Answers of a split: whatever the batches, of all splits of a task at once, searched for where that is asked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.engine.experiment import Experiment
from quincunx.engine.loop import evaluate
from quincunx.metrics.record import Evaluation
from quincunx.recipes.vision_language.evaluate import TaskEvaluator, answer_all
from toys import cpu, plan
from vision_language_runs import experiment_of


def measured(made: Experiment, split: str = "dev", **changes: Any) -> Evaluation:
    evaluators = {**made.evaluators, **made.final_evaluators}
    return evaluate(made.parts.model, evaluators[split], cpu(), plan(**changes))


@pytest.mark.parametrize("settings", [{}, {"model.build.architecture": "bart", "adapt.bottleneck": True}], ids=str)
def test_the_batch_of_an_evaluation_changes_nothing(settings: dict[str, Any], world: Path) -> None:
    made = experiment_of(world, {**settings, "generate.beams": 2})
    made.parts.model.double()
    whole, single = (measured(made, evaluation_batch=size, evaluation_limit=4) for size in (7, 1))
    assert whole.scalars == single.scalars
    assert whole.samples == single.samples
    assert next(iter(whole.scalars)) == "score"


def test_the_score_is_the_mean_of_each_task_s_main_measure(world: Path) -> None:
    found = measured(experiment_of(world, {"data.tasks": ["vqa", "refcoco", "cls"]})).scalars
    mains = [found[name] for name in ("vqa/accuracy", "refcoco/accuracy", "cls/accuracy")]
    assert found["score"] == pytest.approx(sum(mains) / 3)


def test_at_most_so_many_examples_are_measured_but_all_of_the_last(world: Path) -> None:
    made = experiment_of(world, {"data.tasks": ["refcoco"], "data.test": ["test"], "data.dev": ["dev", "test"]})
    assert len(measured(made, evaluation_limit=3).values["refcoco/accuracy"]) == 3
    assert len(measured(made, evaluation_limit=20).values["refcoco/accuracy"]) == 20
    assert len(measured(made, evaluation_limit=None).values["refcoco/accuracy"]) == 32
    assert len(measured(made, "test", evaluation_limit=3).values["refcoco/accuracy"]) == 16


def test_splits_of_a_task_are_measured_as_one_even_where_names_are_shared(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    shutil.copytree(world, folder)
    shutil.copy(folder / "refcoco" / "dev.jsonl", folder / "refcoco" / "more.jsonl")
    one, two = (
        measured(experiment_of(folder, {"data.tasks": ["refcoco"], "data.dev": splits}))
        for splits in (["dev"], ["dev", "more"])
    )
    assert two.scalars == pytest.approx(one.scalars)
    names = {*two.values["refcoco/accuracy"]}
    assert len(names) == 32 and {name.partition("/")[0] for name in names} == {"dev", "more"}


def test_only_what_searches_is_searched_unless_everything_is(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beams: list[int] = []

    def settings_of(**settings: Any) -> set[int]:
        made = experiment_of(world, {"data.tasks": ["vqa", "caption"], "generate.max_length": 3, **settings})
        model: Any = made.parts.model
        written = model.generate

        def generate(*arguments: Any, num_beams: int, **options: Any) -> torch.Tensor:
            beams.append(num_beams)
            return written(*arguments, num_beams=num_beams, **options)

        monkeypatch.setattr(model, "generate", generate)
        beams.clear()
        measured(made, evaluation_limit=2)
        return {*beams}

    assert settings_of() == {1}
    assert settings_of(**{"generate.beams": 3}) == {1, 3}
    assert settings_of(**{"generate.beams": 3, "generate.beams_everywhere": True}) == {3}


@pytest.mark.parametrize(("task", "limit", "tokens"), [("gqa", 1, 1), ("gqa", 50, 50), ("mmt", 5, 40)])
def test_an_answer_has_so_many_words_at_most(
    task: str, limit: int, tokens: int, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = experiment_of(world, {"data.tasks": [task], "generate.max_length": limit})
    model: Any = made.parts.model
    head = model.get_output_embeddings()
    never = torch.tensor(model.config.eos_token_id)

    def endless(module: Any, arguments: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_fill(-1, never, -torch.inf)

    head.register_forward_hook(endless)
    written = model.generate
    lengths: set[int] = set()

    def generate(*arguments: Any, **options: Any) -> torch.Tensor:
        found = written(*arguments, **options)
        lengths.add(found.shape[1])
        return found

    monkeypatch.setattr(model, "generate", generate)
    measured(made, evaluation_limit=2)
    assert lengths == {1 + tokens}, "the decoder's start is no word"


@pytest.mark.parametrize("pointer", [False, True])
def test_a_region_is_chosen_among_the_candidates(pointer: bool, world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    shutil.copytree(world, folder)
    path = folder / "refcoco" / "dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "candidates": [row["box"]]}) + "\n" for row in rows))
    settings = {"data.tasks": ["refcoco"], "data.refcoco.pointer": pointer}
    assert measured(experiment_of(folder, settings)).scalars["refcoco/accuracy"] == 1.0
    free = measured(experiment_of(folder, {**settings, "data.refcoco.detections": True}))
    assert free.scalars["refcoco/accuracy"] < 1.0


@pytest.mark.parametrize("task", ["vqa", "gqa", "cls", "nlvr"])
def test_a_classifier_says_one_of_the_answers_of_training(task: str, world: Path) -> None:
    made = experiment_of(world, {"data.tasks": [task], "model.classifier": True})
    evaluator: Any = made.evaluators["dev"]
    with torch.no_grad():
        made.parts.model.answer_head[-1].bias[1] = 100.0  # pyright: ignore
    answers = answer_all(made.parts.model.eval(), evaluator.rows, evaluator.asking, evaluator.speech, cpu(), 5)
    assert {answer.text for answer in answers} == {[*evaluator.asking.answers][1]}


def test_predictions_are_put_in_the_form_of_leaderboards_where_asked(world: Path) -> None:
    made = experiment_of(world, {"data.tasks": ["gqa", "vcr"]})
    evaluator = made.evaluators["dev"]
    assert isinstance(evaluator, TaskEvaluator) and evaluator.submits is None
    hidden = replace(evaluator, measures=False)
    found = evaluate(made.parts.model, hidden, cpu(), plan())
    assert dict(found.scalars) == {"gqa/predicted": 16.0, "vcr/predicted": 8.0}
    assert {sample["task"] for sample in found.samples} == {"gqa", "vcr"}
