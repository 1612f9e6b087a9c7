"""Which task each row belongs to: numbers and names, beams, mistakes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quincunx.errors import UsageError
from quincunx.nn.routing import TaskContext, attach_tasks, routed
from quincunx.tuners.task_linear import TaskLinear

CPU = torch.device("cpu")


def test_names_and_numbers_are_the_same_tasks() -> None:
    context = TaskContext()
    context.names = ("read", "count")
    context.set(["count", "read", 1])
    assert context.current(3, CPU).tolist() == [1, 0, 1]


def test_the_rows_of_an_example_follow_one_another() -> None:
    context = TaskContext()
    context.set([2, 0])
    assert context.current(6, CPU).tolist() == [2, 2, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [(["sing"], "no task 'sing'; there are read, count"), ([2], "no task 2; there are 2"), ([-1], "no task -1")],
)
def test_a_task_that_there_is_not(tasks: list[int | str], said: str) -> None:
    context = TaskContext()
    context.names = ("read", "count")
    with pytest.raises(UsageError, match=said):
        context.set(tasks)


def test_rows_of_which_nobody_said_anything() -> None:
    context = TaskContext()
    with pytest.raises(UsageError, match=r"tasks=\[\.\.\.\]"):
        context.current(2, CPU)
    context.set([0, 1])
    with pytest.raises(UsageError, match="set for 2 examples, a module got 3 rows"):
        context.current(3, CPU)


def test_modules_of_several_models_share_one_context() -> None:
    first, second = nn.Sequential(TaskLinear(2, 2, tasks=2)), TaskLinear(2, 2, tasks=2)
    with pytest.raises(UsageError, match="attach_tasks"):
        first(torch.ones(1, 2))
    context = attach_tasks(first, second, names=("read", "count"))
    assert context is not None and context is attach_tasks(second) and context.names == ("read", "count")
    assert attach_tasks(nn.Linear(2, 2)) is None


def test_tasks_are_told_for_a_while() -> None:
    model = TaskLinear(2, 2, tasks=2)
    attach_tasks(model, names=("read", "count"))
    x = torch.tensor([[1.0, 2.0]])
    with routed(model, ["count"]):
        expected = x @ model.weight[1].T
        assert torch.allclose(model(x), expected)
        with routed(model, torch.tensor([0])):
            assert torch.allclose(model(x), x @ model.weight[0].T)
        assert torch.allclose(model(x), expected)
    with pytest.raises(UsageError, match="which task"):
        model(x)
