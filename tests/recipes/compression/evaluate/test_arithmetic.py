"""Solutions that are written whole: by models that know a few problems by heart, and judged by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.engine.experiment import Experiment
from quincunx.metrics.intervals import wilson
from quincunx.metrics.record import Evaluation
from quincunx.recipes.compression.answers.generate import generate
from quincunx.recipes.compression.data.arithmetic import ALPHABET, EOS_ID, SEPARATOR_ID, solve
from quincunx.recipes.compression.evaluate import arithmetic
from quincunx.recipes.compression.evaluate.arithmetic import ArithmeticEvaluator
from quincunx.recipes.compression.evaluate.make import evaluator_of
from quincunx.recipes.compression.model.layout import BRANCHES
from quincunx.recipes.compression.shaping import Item
from quincunx.recipes.compression.sources import read
from toys import cpu, plan

KNOWN = ["12+7", "5+9", "30+4", "88+1", "6+60", "41+2"]
NEW = ["13+8", "9+9", "27+3", "6+5"]
KINDS = {
    "plain": {},
    "compressed": {"data.context_length": 4, "compress.slots": 4},
    "drawn": {"positions.kind": "random", "positions.size": 120},
    "compressed and drawn": {
        "data.context_length": 4,
        "compress.slots": 2,
        "positions.kind": "sinusoidal",
        "positions.sample": "float",
        "positions.size": 90,
    },
}
LEVELS = {"blotch.p_max": 1.0, "blotch.levels": 2, "blotch.intensity_tokens": "true"}


def solution(problem: str) -> str:
    return "=".join(step.statement for step in solve(problem))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("problems")
    for split, problems in {"train": KNOWN, "dev": KNOWN, "test": NEW, "ood_entities": ["1+20+3"]}.items():
        rows = [json.dumps({"problem": problem, "solution": solution(problem)}) for problem in problems]
        (made / f"{split}.jsonl").write_text("\n".join(rows))
    return made


@pytest.fixture(scope="module")
def models(learnt, folder) -> Any:
    """Return what gives the experiment of a kind, trained once."""
    made: dict[str, Experiment] = {}

    def of(kind: str, updates: int = 150) -> Experiment:
        if kind not in made:
            settings = {"data.source": "arithmetic", "data.path": str(folder), **KINDS.get(kind, LEVELS)}
            made[kind] = learnt(settings, updates=updates)
        return made[kind]

    return of


def of_split(experiment: Experiment, split: str) -> ArithmeticEvaluator:
    evaluator = {**experiment.evaluators, **experiment.final_evaluators}[split]
    assert isinstance(evaluator, ArithmeticEvaluator)
    return evaluator


def evaluated(experiment: Experiment, split: str, **changes: Any) -> Evaluation:
    return of_split(experiment, split)(experiment.parts.model, cpu(), plan(**changes))


def slowly(evaluator: ArithmeticEvaluator, model: Any, number: int) -> str:
    """Return what is written after a problem, alone, everything read anew for each token."""
    item, name = evaluator.source[number], evaluator.shaping.branches[0]
    text = item.text[: int((item.text == SEPARATOR_ID).nonzero()[0]) + 1]
    prompt = len(text)
    for _ in range(evaluator.most):
        whole = torch.cat([text, torch.zeros(prompt + evaluator.most - len(text), dtype=torch.int64)])
        batch = evaluator.shaping([Item(item.context, whole)], [number], [number], 0)
        with torch.no_grad():
            states = model.states(batch, [name], "two_pass" if item.context.numel() else None)[name]
        # whatever leads the text, and a start, come before its first token
        ahead = states.shape[1] - len(whole)
        assert ahead == int(BRANCHES[name].start is not None)
        token = int(model.logits(states[0, ahead + len(text) - 1]).argmax())
        text = torch.cat([text, torch.tensor([token])])
        if token == EOS_ID:
            break
    return ALPHABET.decode(torch.cat([item.context, text]).numpy())


@pytest.mark.parametrize("kind", ["plain", "compressed"])
def test_problems_that_are_known_by_heart_are_solved(models, kind):
    found = evaluated(models(kind), "dev")
    scalars = found.scalars
    assert scalars["answer_accuracy"] == scalars["soundness"] == scalars["finished"] == 1
    assert (scalars["answer_accuracy_low"], scalars["answer_accuracy_high"]) == (wilson(6, 6).low, 1)
    lengths = [len(solution(problem)) for problem in KNOWN]
    assert scalars["solution_tokens"] == scalars["reference_tokens"] == sum(lengths) / 6
    assert scalars["solution_steps"] == sum(len(solve(problem)) for problem in KNOWN) / 6
    assert scalars["accuracy"] == 1, "teacher forcing stands beside it"
    assert [(each["problem"], each["solution"]) for each in found.samples] == [
        (problem, solution(problem) + "E") for problem in KNOWN
    ]
    assert evaluated(models(kind), "test").scalars["answer_accuracy"] < 1, "others are not"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_reading_everything_anew_for_each_token_gives(models, kind, monkeypatch):
    experiment = models(kind)
    evaluator, model = of_split(experiment, "test"), experiment.parts.model
    texts = evaluator.solve(model, cpu(), 4, 4)
    assert texts == [slowly(evaluator, model, number) for number in range(4)]
    assert len(set(texts)) == 4
    monkeypatch.setattr(arithmetic, "generate", partial(generate, cached=False))
    assert evaluator.solve(model, cpu(), 4, 4) == texts


@pytest.mark.parametrize("kind", KINDS)
def test_solutions_depend_neither_on_the_batch_nor_on_the_evaluation(models, kind):
    experiment = models(kind)
    evaluator, model = of_split(experiment, "dev"), experiment.parts.model
    texts = evaluator.solve(model, cpu(), 6, 6)
    assert evaluator.solve(model, cpu(), 6, 1) == texts
    assert evaluator.solve(model, cpu(), 6, 4) == texts
    assert evaluator.solve(model, cpu(), 2, 6) == texts[:2]
    assert evaluated(experiment, "dev").to_json() == evaluated(experiment, "dev").to_json()


def test_only_so_many_problems_are_solved_as_are_asked_for(models, learnt, folder):
    experiment = models("plain")
    assert "of 4 problems solved" in evaluated(experiment, "dev", evaluation_limit=4).notes[-1]
    assert "of 4 problems solved" in evaluated(experiment, "test", evaluation_limit=2).notes[-1], "dev alone is cut"
    settings = {"data.source": "arithmetic", "data.path": str(folder)}
    some = learnt({**settings, "evaluate.generate": 3})
    assert "of 3 problems solved" in evaluated(some, "dev").notes[-1]
    assert "of 1 problems solved" in evaluated(some, "ood_entities").notes[-1]
    none = learnt({**settings, "evaluate.generate": 0})
    assert "answer_accuracy" not in evaluated(none, "dev").scalars
    assert "dev/answer_accuracy" not in none.metrics
    assert none.metric == "dev/exact"


# Intensities


def asked(experiment: Experiment, share: float) -> Evaluation:
    config = experiment.config
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"blotch_p": share})})
    model: Any = experiment.parts.model
    evaluator = evaluator_of(config, "dev", read(config), model)
    assert evaluator is not None
    return evaluator(model, cpu(), plan())


def test_a_level_that_is_asked_for_decides_how_much_is_left_out(models):
    experiment = models("levels", 300)
    for share in (0.0, 0.4, 0.5):
        found = asked(experiment, share)
        assert [each["solution"] for each in found.samples] == [solution(problem) + "E" for problem in KNOWN], share
        assert found.scalars["exact"] == 1, "teacher forcing is led by the level too"
    for share in (0.6, 1.0):
        found = asked(experiment, share)
        assert [each["solution"] for each in found.samples] == [solve(problem)[-1].statement + "E" for problem in KNOWN]
        assert found.scalars["answer_accuracy"] == found.scalars["solution_steps"] == 1
        assert "asked to leave out 100 % of steps" in found.notes[-1]


@pytest.mark.parametrize("scope", ["context", "forward", "both"])
def test_levels_stand_where_training_puts_them(learnt, folder, scope):
    settings = {"data.source": "arithmetic", "data.path": str(folder), "data.context_length": 4, "compress.slots": 1}
    experiment = learnt({**settings, **LEVELS, "evaluate.blotch_p": 1.0, "blotch.scope": scope})
    evaluator = of_split(experiment, "dev")
    item = evaluator.source[0]
    trained = experiment.collate([item] * 20, range(20), range(20), 0)
    shown = evaluator.shaping([item], [0], [0], 0)
    for name, own in (("context", item.context), ("forward_tokens", item.text)):
        first = trained[name][:, 0]
        led = scope == "both" or name.startswith(scope)
        assert (set(first.tolist()) == {15, 16}) == led
        assert shown[name].tolist() == [[16] * led + own.tolist()], "the level of 1, and nothing is left out"
    assert len(evaluator.solve(experiment.parts.model, cpu(), 3, 3)) == 3


# Judged by hand


class Written(ArithmeticEvaluator):
    """Takes solutions from outside."""

    def solve(self, model: Any, runtime: Any, count: int, size: int) -> list[str]:
        return ["13+8=21E", "9+9=8+9=18E", "27+3=30", "6+5=11E"][:count]


def table(evaluation: Evaluation, title: str) -> list[list[Any]]:
    (found,) = [each for each in evaluation.tables if each.title.startswith(title)]
    return [list(row) for row in found.rows]


def test_measures_by_hand(models):
    experiment = models("plain")
    fields = {name: getattr(of_split(experiment, "test"), name) for name in ArithmeticEvaluator.__dataclass_fields__}
    found = Written(**fields)(experiment.parts.model, cpu(), plan())
    scalars = found.scalars
    assert scalars["answer_accuracy"] == 3 / 4, "a solution without an end is none"
    assert scalars["soundness"] == 2 / 4, "8 + 9 is not 9 + 9, whatever comes out"
    assert scalars["finished"] == 3 / 4
    assert scalars["solution_tokens"] == (2 + 6 + 2 + 2) / 4
    assert scalars["solution_steps"] == (1 + 2 + 1 + 1) / 4
    references = [solution(problem) for problem in NEW]
    assert references == ["8+13=3+8+10=11+10=1+10+10=1+20=21", "18", "3+27=7+3+20=10+20=30", "11"]
    assert scalars["reference_tokens"] == (33 + 2 + 20 + 2) / 4
    assert scalars["reference_steps"] == (6 + 1 + 4 + 1) / 4
    assert table(found, "How long") == [
        ["all", 4, 3.0, 1.25, 14.25, 3.0],
        ["right answer", 3, 3.33, 1.33, 12.33, 2.67],
        ["wrong answer", 1, 2.0, 1.0, 20.0, 4.0],
    ]
    assert table(found, "Steps by kind") == [
        ["rearrange", 0, 0, "-", 2],
        ["decompose", 0, 0, "-", 3],
        ["sum", 2, 1, 50.0, 6],
        ["combine", 2, 0, 0.0, 1],
        ["several", 1, 1, 100.0, 0],
    ]
    assert found.samples[1] == {
        "problem": "9+9",
        "solution": "8+9=18E",
        "step by step": "18E",
        "right": True,
        "every step right": False,
    }


# Where the alphabet and the places end


def test_a_token_outside_the_alphabet_is_no_digit(learnt, folder):
    settings = {"data.source": "arithmetic", "data.path": str(folder), "model.build.tie_embeddings": "false"}
    experiment = learnt({**settings, **LEVELS})
    model: Any = experiment.parts.model
    with torch.no_grad():  # whatever a state is, one of the two levels is likelier than any symbol
        head = model.backbone.lm_head.weight
        head.zero_()
        head[15], head[16] = 1.0, -1.0
    evaluator = of_split(experiment, "dev")
    assert evaluator.solve(model, cpu(), 1, 1) == ["12+7=" + "?" * evaluator.most]
    found = evaluator(model, cpu(), plan())
    assert found.scalars["answer_accuracy"] == found.scalars["finished"] == 0
    assert table(found, "Steps by kind")[-1][:3] == ["malformed", 6, 6]


@pytest.mark.parametrize("extra", [{}, {"data.context_length": 4, "compress.slots": 2, "compress.segments": 2}])
def test_no_more_is_written_than_there_are_places_for(learnt, folder, extra):
    settings = {"data.source": "arithmetic", "data.path": str(folder), "model.build.architecture": "gpt2"}
    spacious = learnt({**settings, **extra, "model.build.positions": 99})
    model: Any = spacious.parts.model
    never_ending(model)
    evaluator = of_split(spacious, "test")
    assert evaluator.most == 34
    free = evaluator.solve(model, cpu(), 4, 4)
    assert [len(text.partition("=")[2]) for text in free] == [34] * 4
    # context, slots and start come before =, so the problem takes its places either way
    taken = [len(problem) + (2 * 2 + 2 if extra else 1) for problem in NEW]
    fields = {name: getattr(evaluator, name) for name in ArithmeticEvaluator.__dataclass_fields__}
    narrow = ArithmeticEvaluator(**{**fields, "room": 30})
    written = narrow.solve(model, cpu(), 4, 4)
    assert [len(text.partition("=")[2]) for text in written] == [30 - number for number in taken]
    assert written == narrow.solve(model, cpu(), 4, 1)
    assert all(whole.startswith(text) for whole, text in zip(free, written, strict=True))


def never_ending(model: Any) -> None:
    """Make the end, and all that is no digit, as unlikely as can be."""
    with torch.no_grad():
        weight = model.backbone.get_input_embeddings().weight
        weight[1] = 0
        mean = weight[5:15].mean(0)
        weight[5:15] -= mean


def test_the_places_that_there_are(learnt, folder) -> None:
    def room(extra: dict[str, Any]) -> int | None:
        settings = {"data.source": "arithmetic", "data.path": str(folder), **extra}
        return of_split(learnt(settings), "dev").room

    found: Sequence[int | None] = [
        room({}),
        room({"model.build.architecture": "gpt2", "model.build.positions": 77}),
        room({"positions.sample": "integer", "positions.size": 88}),
        room({"positions.kind": "sinusoidal", "positions.size": 66}),
        room({"positions.kind": "alibi"}),
    ]
    assert found == [None, 77, 88, 66, None]
