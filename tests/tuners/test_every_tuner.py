"""What holds of every tuner, on small models with random weights: one test a property, one row a method and model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("peft")

from peft import PeftModel, get_peft_model

from quincunx.errors import UsageError
from quincunx.nn.routing import routed
from quincunx.tuners.methods import METHODS
from quincunx.tuners.peft_plugin import config_class, register
from tiny_models import MODELS, inputs_for, output_of, pick
from tuner_rows import ROWS, Row

each = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
one_each = pytest.mark.parametrize("row", {row.method: row for row in ROWS}.values(), ids=lambda row: row.id)
"""The last row of every method: compiling takes seconds."""


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


def tuned(row: Row, *, scattered: bool = True) -> Any:
    """Return a model with a row's adapter, its weights random unless told otherwise."""
    torch.manual_seed(2)
    made: Any = get_peft_model(MODELS[row.model](), config_class(row.method)(**copy.deepcopy(dict(row.options))))
    if scattered:
        scatter(made)
    return made.eval()


def scatter(model: nn.Module) -> None:
    """Give everything that is trained other values, none of them nought."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)


def tasks_of(row: Row) -> dict[str, Any]:
    parts = [row.options, *row.options.get("parts", [])]
    names = next((part["tasks"] for part in parts if "tasks" in part), [])
    return {"tasks": [names[0], names[-1], names[1], names[0]]} if names else {}


def look(row: Row, model: nn.Module) -> Tensor:
    with torch.no_grad():
        return output_of(model, inputs_for(MODELS[row.model]()), **tasks_of(row))


def gradients(row: Row, model: nn.Module, rows: Tensor | None = None, **more: Any) -> dict[str, Tensor]:
    """Return the gradients of a loss that weighs every number of the output, summed over rows."""
    model.zero_grad(set_to_none=True)
    inputs = inputs_for(MODELS[row.model]())
    output = output_of(model, inputs if rows is None else pick(inputs, rows), **more)
    weights = torch.linspace(-1, 1, output[0].numel()).view_as(output[0])
    (output * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare gradients by the length of their difference, tensor by tensor."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float((found[name] - value).norm()) <= 1e-4 * float(value.norm()) + 1e-5, name


def test_every_method_has_a_row() -> None:
    assert {row.method for row in ROWS} == {*METHODS}


@pytest.mark.parametrize("row", [row for row in ROWS if row.identity], ids=lambda row: row.id)
def test_it_begins_as_the_model_that_it_is_put_into(row: Row) -> None:
    """Prompts and joint prefixes cannot: they are attended to. Their rows say so."""
    base = MODELS[row.model]()
    with torch.no_grad():
        expected = output_of(base, inputs_for(base))
    assert torch.equal(look(row, tuned(row, scattered=False)), expected)


@each
def test_everything_that_is_trained_acts_and_nothing_else_is_trained(row: Row) -> None:
    model = tuned(row)
    base = {name.removeprefix("base_model.model.") for name, _ in MODELS[row.model]().named_parameters()}
    moved = gradients(row, model, **tasks_of(row))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moved.keys() == trained and trained
    assert all(bool(gradient.any()) for gradient in moved.values()), [n for n, g in moved.items() if not g.any()]
    if row.restores:
        own = {name.removeprefix("base_model.model.").replace(".base_layer", "") for name in trained}
        assert not own & base


@each
def test_it_can_be_left_from_the_start(row: Row) -> None:
    """Some gradient is there at the first update, and a step along it changes the model."""
    model = tuned(row, scattered=False)
    before = look(row, model)
    gradients(row, model, **tasks_of(row))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad.sign())
    assert not torch.allclose(look(row, model), before, atol=1e-3)


@each
def test_it_is_saved_and_loaded_whole(row: Row, tmp_path: Path) -> None:
    model = tuned(row)
    expected = look(row, model)
    model.save_pretrained(str(tmp_path))
    again: Any = PeftModel.from_pretrained(MODELS[row.model](), str(tmp_path)).eval()
    assert torch.equal(look(row, again), expected)
    if row.restores:  # a second one beside it, under another name, and the first one gone
        again.load_adapter(str(tmp_path), adapter_name="other")
        again.set_adapter("other")
        assert torch.equal(look(row, again.eval()), expected)
        again.delete_adapter("default")
        assert torch.equal(look(row, again.eval()), expected)


@each
def test_transformers_loads_it_or_says_why_not(row: Row, tmp_path: Path) -> None:
    model = tuned(row)
    model.save_pretrained(str(tmp_path))
    plain: Any = MODELS[row.model]()
    if row.loads_in_transformers:
        plain.load_adapter(str(tmp_path))
        # what is mapped from a file lies elsewhere in memory, which may show in the last bit
        torch.testing.assert_close(look(row, plain.eval()), look(row, model), rtol=1e-5, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="shared"):
            plain.load_adapter(str(tmp_path))


@each
def test_disabled_it_is_the_model_that_it_was_put_into(row: Row) -> None:
    base, model = MODELS[row.model](), tuned(row)
    with torch.no_grad():
        expected = output_of(base, inputs_for(base))
    changed = look(row, model)
    assert not torch.allclose(changed, expected, atol=1e-3)
    if row.restores:
        with model.disable_adapter():
            assert torch.equal(look(row, model), expected)
        assert torch.equal(look(row, model), changed)
        assert torch.equal(output_of(model.unload(), inputs_for(base)), expected)


@each
def test_it_is_merged_or_refuses_to_be(row: Row) -> None:
    model = tuned(row)
    expected = look(row, model)
    if row.merges:
        merged = model.merge_and_unload()
        torch.testing.assert_close(look(row, merged), expected, rtol=1e-4, atol=1e-4)
    else:
        with pytest.raises((UsageError, ValueError), match="cannot be merged"):
            model.merge_and_unload()


@pytest.mark.parametrize("row", [row for row in ROWS if row.model != "resnet"], ids=lambda row: row.id)
def test_gradients_are_the_same_when_layers_are_computed_twice(row: Row) -> None:
    """Of transformers' ResNet nothing is ever computed twice."""
    model = tuned(row)
    inner = model.get_base_model()
    expected = gradients(row, model, **tasks_of(row))
    model.train()  # else transformers computes nothing twice
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.modules.batchnorm._BatchNorm):
            module.eval()
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    assert_near(gradients(row, model, **tasks_of(row)), expected)


@pytest.mark.parametrize("row", [row for row in ROWS if tasks_of(row)], ids=lambda row: row.id)
def test_mixed_tasks_are_those_of_each_task_apart(row: Row) -> None:
    tasks = tasks_of(row)
    model = tuned(row)
    inputs = inputs_for(MODELS[row.model]())
    mixed, moved = look(row, model), gradients(row, model, **tasks)
    total: dict[str, Tensor] = {}
    for name in sorted({*tasks["tasks"]}):
        rows = torch.tensor([place for place, task in enumerate(tasks["tasks"]) if task == name])
        with torch.no_grad(), routed(model, [name] * len(rows)):
            torch.testing.assert_close(output_of(model, pick(inputs, rows)), mixed[rows], rtol=1e-4, atol=1e-5)
        for key, value in gradients(row, model, rows, tasks=[name] * len(rows)).items():
            total[key] = total[key] + value if key in total else value
    assert_near(moved, total)
    others = [*tasks["tasks"][1:], tasks["tasks"][0]]
    with torch.no_grad():
        assert not torch.allclose(output_of(model, inputs, tasks=others), mixed, atol=1e-4)
    with pytest.raises(UsageError, match="which task"), routed(model, None):
        output_of(model, inputs)


@one_each
def test_it_is_compiled(row: Row) -> None:
    model = tuned(row)
    expected = look(row, model)
    torch.compiler.reset()
    with torch.no_grad(), routed(model, torch.tensor([0, 2, 1, 0]) if tasks_of(row) else None):
        compiled: Any = torch.compile(model.get_base_model(), backend="eager")
        found = output_of(compiled, inputs_for(MODELS[row.model]()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@each
def test_a_copy_is_a_model_of_its_own(row: Row) -> None:
    model = tuned(row)
    expected = look(row, model)
    other = copy.deepcopy(model)
    assert torch.equal(look(row, other), expected)
    for parameter in other.parameters():
        parameter.data += 0.5
    assert torch.equal(look(row, model), expected)
    assert not torch.allclose(look(row, other), expected, atol=1e-3)


def test_one_of_them_is_compiled_to_machine_code() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8))
    torch.manual_seed(1)
    tuner: Any = get_peft_model(
        model, config_class("bottleneck")(reduction_factor=2, target_modules=["0"], tasks=["a", "b"])
    )
    scatter(tuner)
    x = torch.randn(4, 3, 8)
    with torch.no_grad(), routed(tuner, torch.tensor([0, 1, 1, 0])):
        expected = model(x)
        torch.compiler.reset()
        compiled: Any = torch.compile(model, fullgraph=True)
        torch.testing.assert_close(compiled(x), expected, rtol=1e-5, atol=1e-5)
