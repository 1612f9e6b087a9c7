"""A map for each task: each example by its own task's weights, whether the rows of a task stand together or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quincunx.nn.routing import attach_tasks
from quincunx.tuners.task_linear import TaskLinear

ORDERS = {
    "together": [0, 0, 0, 1, 1, 2],
    "in another order": [2, 1, 1, 0, 0, 0],
    "one is missing": [2, 2, 0, 0, 0, 0],
    "one alone": [1, 1, 1, 1, 1, 1],
    "in turn": [0, 1, 2, 0, 1, 2],
    "one comes back": [0, 1, 0, 0, 2, 2],
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", ""])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_each_row_goes_through_its_own_task_s_map(order: list[int], bias: bool) -> None:
    torch.manual_seed(0)
    model = TaskLinear(5, 3, tasks=3, bias=bias, std=0.5).double()
    if model.bias is not None:
        torch.nn.init.normal_(model.bias)
    context = attach_tasks(model)
    assert context is not None
    context.set(order)
    x = torch.randn(6, 4, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 4, 3, dtype=torch.float64)
    found = model(x)
    (found * weights).sum().backward()
    parameters = [each for each in (model.weight, model.bias) if each is not None]
    grads = [each.grad for each in (x, *parameters)]
    rows: list[Tensor] = []
    again = [each.detach().requires_grad_() for each in (x, *parameters)]
    for row, task in enumerate(order):
        rows.append(again[0][row] @ again[1][task].T + (again[2][task] if bias else 0))
    expected = torch.stack(rows)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    (expected * weights).sum().backward()
    for ours, theirs in zip(grads, again, strict=True):
        assert ours is not None and theirs.grad is not None
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-12, atol=1e-13)


def test_tasks_that_are_set_anew_are_looked_at_anew() -> None:
    model = TaskLinear(2, 2, tasks=2, bias=False)
    context = attach_tasks(model)
    assert context is not None
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.eye(2), 3 * torch.eye(2)]))
    x = torch.ones(4, 2)
    for tasks in ([0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0]):
        context.set(tasks)
        assert model(x)[:, 0].tolist() == [1 + 2 * task for task in tasks]
    context.set([1, 0])
    assert context.runs(4) == ((2, 1), (2, 0))
    assert model(x)[:, 0].tolist() == [3, 3, 1, 1]  # the beams of two examples
