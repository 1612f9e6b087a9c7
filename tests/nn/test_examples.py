"""Which examples the rows of a batch are."""

from __future__ import annotations

import pytest
from torch import nn

from quincunx.errors import UsageError
from quincunx.nn.examples import ExampleAware, ExampleContext, attach_examples, known


def test_rows_are_the_examples_or_each_of_them_several_times() -> None:
    context = ExampleContext()
    assert context.current(3) is None
    context.set(["a", 7])
    assert context.current(2) == ("a", 7)
    assert context.current(6) == ("a", "a", "a", 7, 7, 7)
    with pytest.raises(UsageError, match="ids were set for 2 examples, a module got 3 rows"):
        context.current(3)
    context.set([])
    with pytest.raises(UsageError, match="0 examples"):
        context.current(3)
    context.set(None)
    assert context.current(3) is None


@pytest.mark.parametrize("wrong", [1.5, None, True, ("a",)])
def test_an_id_is_text_or_a_whole_number(wrong: object) -> None:
    with pytest.raises(UsageError, match="ids of examples are text or whole numbers, found"):
        ExampleContext().set(["a", wrong])  # pyright: ignore[reportArgumentType]


def test_all_of_a_model_share_one_context() -> None:
    model = nn.ModuleList([ExampleAware(), nn.Sequential(ExampleAware())])
    first, second = (module for module in model.modules() if isinstance(module, ExampleAware))
    assert first.ids(2) is None
    context = attach_examples(model)
    assert context is not None and first.examples is second.examples is context
    assert attach_examples(model) is context
    assert attach_examples(nn.Linear(1, 1)) is None
    context.set(["x"])
    with known(model, ["y", "z"]):
        assert second.ids(2) == ("y", "z")
    assert first.ids(1) == ("x",)
    with known(nn.Linear(1, 1), ["y"]):
        pass
