"""The objective: each term against plain arithmetic, and a gradient that no cut of the batch changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compression_toys import compressor
from quincunx.data.batch import Batch
from quincunx.engine.step import Step
from quincunx.recipes.compression.blotch import UNTRAINED
from quincunx.recipes.compression.blotching import Blotching
from quincunx.recipes.compression.objective import Prediction, divergence
from quincunx.recipes.compression.shaping import Item, Shaping
from toys import cpu, plan

ALL = {"forward": 1.0, "reconstruction": 0.5, "plain": 0.25, "without": 2.0, "full": 1.5, "distillation": 0.7}
COMPUTED = ("forward", "reconstruction", "plain", "without", "full")


def items(count: int, seed: int = 0, *, longest: int = 9) -> list[Item]:
    generator = torch.Generator().manual_seed(seed)

    def words() -> Tensor:
        length = int(torch.randint(3, longest, (1,), generator=generator))
        return torch.randint(5, 120, (length,), generator=generator)

    return [Item(words(), words(), given=number % 2) for number in range(count)]


def batch(rows: list[Item], first: int = 0, **options: Any) -> Batch:
    shaping = Shaping(COMPUTED, slots=(2,), **options)
    numbers = range(first, first + len(rows))
    return shaping(rows, numbers, numbers, 0)


def test_every_term_is_the_sum_over_its_tokens() -> None:
    model = compressor(slots=2)
    data = batch(items(3))
    objective = Prediction(ALL, temperature=2.0)
    found, weights = objective.loss(model, data), objective.weights(data)
    states = {name: states.detach() for name, states in model.states(data, COMPUTED, "two_pass").items()}
    wanted = dict.fromkeys(ALL, 0.0)
    counts = dict.fromkeys(ALL, 0)
    for row in range(3):
        for name in COMPUTED:
            logits = model.logits(states[name]).detach()[row]
            for column, target in enumerate(data[f"{name}_targets"][row].tolist()):
                if target == UNTRAINED:
                    continue
                wanted[name] -= float(torch.log_softmax(logits[column], -1)[target])
                counts[name] += 1
                if name == "forward":
                    teacher, student = (
                        torch.log_softmax(model.logits(states[each]).detach()[row, column] / 2, -1)
                        for each in ("full", name)
                    )
                    wanted["distillation"] += 4 * float((teacher.exp() * (teacher - student)).sum())
                    counts["distillation"] += 1
    assert weights == counts
    for term in ALL:
        assert float(found[term].detach()) == pytest.approx(wanted[term], rel=1e-12), term


def test_smoothing_spreads_a_share_of_each_target() -> None:
    model, data = compressor(slots=2), batch(items(2))
    plain = Prediction({"forward": 1.0}).loss(model, data)["forward"]
    smooth = Prediction({"forward": 1.0}, label_smoothing=0.2).loss(model, data)["forward"]
    logits = model.logits(model.states(data, ["forward"])["forward"][data["forward_targets"] != UNTRAINED])
    spread = -torch.log_softmax(logits, -1).mean(-1).sum()
    assert float(smooth.detach()) == pytest.approx(float((0.8 * plain + 0.2 * spread).detach()), rel=1e-5)


def test_no_gradient_flows_into_the_teacher() -> None:
    teacher, student = torch.randn(4, 7, requires_grad=True), torch.randn(4, 7, requires_grad=True)
    divergence(teacher.detach(), student, 1.5).backward()
    assert teacher.grad is None and student.grad is not None
    assert float(divergence(student, student)) == pytest.approx(0, abs=1e-6)
    wanted = functional.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="sum")
    assert float(divergence(teacher, student)) == pytest.approx(float(wanted), rel=1e-5)


def gradient(objective: Prediction, batches: list[Batch], **changes: object) -> Tensor:
    model = compressor(slots=2)
    Step(model, copy.deepcopy(objective), cpu(), plan(**changes), seed=5).gradient(3, list(batches))
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def close(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).norm() / wanted.norm()) <= 1e-12


@pytest.mark.parametrize("changes", [{"chunk_samples": 1}, {"chunk_samples": 3}, {"chunk_tokens": 60}])
def test_chunks_do_not_change_the_gradient(changes: dict[str, int]) -> None:
    blotching = Blotching(p=0.5, spans="fixed", span_length=2)
    data = batch(items(7), context_blotching=blotching, text_blotching=blotching)
    objective = Prediction(ALL)
    assert close(gradient(objective, [data], **changes), gradient(objective, [data]))


def test_accumulated_batches_are_one_larger_batch_however_ragged() -> None:
    rows = items(7)
    objective = Prediction(ALL)
    whole = gradient(objective, [batch(rows)])
    parts = [batch(rows[:2]), batch(rows[2:6], 2), batch(rows[6:], 6)]
    assert close(gradient(objective, parts, accumulation=3), whole)
    means = sum(gradient(objective, [part]) for part in parts) / 3
    assert not close(means, whole), "a mean of means is another gradient"


def test_masked_and_excised_texts_have_one_gradient() -> None:
    rows = items(5, longest=14)
    objective = Prediction({"forward": 1.0, "reconstruction": 1.0, "plain": 1.0})
    found: list[Tensor] = []
    for form in ("mask", "excise"):
        blotching = Blotching(p=0.5, spans="fixed", span_length=2, form=form)
        found.append(gradient(objective, [batch(rows, context_blotching=blotching, text_blotching=blotching)]))
    assert close(*found)
    untouched = gradient(objective, [batch(rows)])
    assert not close(found[0], untouched)
