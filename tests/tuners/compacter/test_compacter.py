"""Compacter against explicit Kronecker products; what its maps share; published parameter shares."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bart_base import NORMS, added, percent
from quincunx.errors import UsageError
from quincunx.nn.routing import attach_tasks, routed
from quincunx.tuners.adapter import inject
from quincunx.tuners.compacter.config import CompacterConfig
from quincunx.tuners.compacter.layer import PhmLinear, Rule
from quincunx.tuners.compacter.model import place
from reference.tuners_compacter import by_example, kronecker, phm_matrix
from tiny_models import MODELS, inputs_for, output_of

TASKS = ["a", "b", "c"]


def made(
    n: int, inner: int, outer: int, rank: int | None, tasks: int | None, own: bool, rules: int | None
) -> PhmLinear:
    rule = Rule(n, tasks=rules, factorized=False, std=1.0).double()
    sizes: dict[str, Any] = {"division": n, "rank": rank, "rule": rule, "own_rule": own, "tasks": tasks, "zero": False}
    phm = PhmLinear(n * inner, n * outer, **sizes).double()
    nn.init.normal_(phm.bias)
    return phm


def matrices(phm: PhmLinear, rule: Tensor) -> list[Tensor]:
    """Return H of each task by explicit products, from the weights as they are stored."""
    weights = phm.weight.mT if phm.left is None else phm.left.mT @ phm.weight
    weights, rule = (each if each.ndim == 4 else each.unsqueeze(0) for each in (weights, rule))
    count = max(len(weights), len(rule))
    rules, larges = (each.expand(count, -1, -1, -1).contiguous() for each in (rule, weights))
    return [phm_matrix(rules[task], larges[task]) for task in range(count)]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.sampled_from([None, 1, 2]), st.booleans(),
    st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_a_map_is_the_sum_of_kronecker_products(
    n: int, inner: int, outer: int, rank: int | None, own: bool, routed_by_task: bool, rules: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    tasks = 3 if routed_by_task else None
    phm = made(n, inner, outer, rank, tasks, own, tasks if rules else None)
    x = torch.randn(4, 5, n * inner, dtype=torch.float64, requires_grad=True)
    order = [0, 2, 2, 1] if routed_by_task else [0, 0, 0, 0]
    rule = phm.rule or phm._shared[0]
    parameters = [x, *phm.parameters(), *([] if own else rule.parameters())]
    with routed(phm, order if routed_by_task else None):
        found = phm(x)
    biases = list(phm.bias) if routed_by_task else [phm.bias]
    expected = by_example(x, matrices(phm, rule()), biases, order)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad((found * weights).sum(), parameters),
        torch.autograd.grad((expected * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_reference_multiplies_as_torch_does() -> None:
    a, w = torch.randn(3, 3), torch.randn(2, 4)
    assert torch.equal(kronecker(a, w), torch.kron(a, w))


def test_a_factorised_rule_is_columns_times_rows() -> None:
    rule = Rule(3, tasks=2, factorized=True, std=0.01)
    assert rule.row is not None
    for task in range(2):
        for i in range(3):
            expected = torch.outer(rule.weight[task, i, :, 0], rule.row[task, i, 0])
            torch.testing.assert_close(rule()[task, i], expected)
    wide = Rule(40, tasks=None, factorized=True, std=0.01)
    assert float(wide().detach().std()) == pytest.approx(0.01, rel=0.1)


def test_a_factorised_map_makes_nothing_of_the_size_of_h() -> None:
    """Neither forward nor backward: 768 x 96 numbers would be more than everything that it does make together."""
    phm = made(4, 192, 24, 1, None, True, None)
    x = torch.randn(1, 2, 768, dtype=torch.float64)
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            sizes.extend(each.numel() for each in (found if isinstance(found, tuple) else (found,)) if each is not None)
            return found

    with Watch():
        phm(x).sum().backward()
    assert sizes and max(sizes) <= 2 * 768


def test_all_maps_have_the_models_one_rule() -> None:
    model = MODELS["bart"]()
    config = CompacterConfig(reduction_factor=4, hypercomplex_division=2, tasks=TASKS)
    placement = place(model, config)
    shared = inject(model, placement)
    (rule,) = shared.parameters()
    assert rule.shape == (2, 2, 2)
    maps = [module for module in model.modules() if isinstance(module, PhmLinear)]
    assert len(maps) == 20 and all(each._shared[0].weight is rule for each in maps)
    assert not any(".rule" in name for name, _ in model.named_parameters())
    twin, twins = copy.deepcopy((model, shared))
    own = next(iter(twins.parameters()))
    assert own is not rule
    assert all(each._shared[0].weight is own for each in twin.modules() if isinstance(each, PhmLinear))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"phm_rule": "none", "tasks": TASKS}, (3, 2, 2, 2)),
        ({"phm_rule": "tasks", "tasks": TASKS}, (2, 2, 2)),
        ({"phm_rule": "none"}, (2, 2, 2)),
    ],
)
def test_what_shares_a_rule(options: dict[str, Any], expected: tuple[int, ...]) -> None:
    config = CompacterConfig(reduction_factor=4, hypercomplex_division=2, **options)
    placement = place(MODELS["bart"](), config)
    assert not len(placement.shared)
    rules = [parameter for name, parameter in _named(placement) if ".rule." in name]
    assert len(rules) == 20 and len({id(rule) for rule in rules}) == 20
    assert {tuple(rule.shape) for rule in rules} == {expected}


def test_a_shared_half_has_one_rule_and_one_bias() -> None:
    config = CompacterConfig(reduction_factor=4, hypercomplex_division=2, phm_rule="none", tasks=TASKS, share_down=True)
    shapes = {name.split(".", 1)[1]: tuple(each.shape) for name, each in _named(place(MODELS["bart"](), config))}
    assert shapes["down.rule.weight"] == (2, 2, 2) and shapes["up.rule.weight"] == (3, 2, 2, 2)
    assert shapes["down.bias"] == (4,) and shapes["up.bias"] == (3, 16)
    assert shapes["down.left"] == (2, 1, 8) and shapes["up.left"] == (3, 2, 1, 2)


@pytest.mark.parametrize("factorized", [True, False])
def test_it_begins_as_nothing_and_its_gradient_is_not(factorized: bool) -> None:
    model = MODELS["t5"]()
    with torch.no_grad():
        expected = output_of(model, inputs_for(model))
    config = CompacterConfig(reduction_factor=4, hypercomplex_division=2, factorized_phm=factorized)
    placement = place(model, config)
    inject(model, placement)
    with torch.no_grad():
        assert torch.equal(output_of(model, inputs_for(model)), expected)
    output_of(model, inputs_for(model)).square().sum().backward()
    moved = {name for name, each in _named(placement) if each.grad is not None and bool(each.grad.any())}
    assert {name.split(".", 1)[1] for name in moved} == {"up.weight", "up.bias"}


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_beams_have_the_tasks_of_their_examples_with_a_cache_and_without(kind: str) -> None:
    model: Any = MODELS[kind]()
    config = CompacterConfig(
        reduction_factor=4, hypercomplex_division=2, phm_init_range=1.0, tasks=TASKS, norm_after=True
    )
    inject(model, place(model, config))
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    tokens = inputs_for(model)["input_ids"][:1].expand(3, -1)
    words: dict[str, Any] = {"num_beams": 2, "max_new_tokens": 5, "min_new_tokens": 5}
    attach_tasks(model, names=TASKS)
    with routed(model, TASKS):
        found = model.generate(input_ids=tokens, use_cache=True, **words)
        assert torch.equal(found, model.generate(input_ids=tokens, use_cache=False, **words))
    alone: list[Tensor] = []
    for row, task in zip(tokens, TASKS, strict=True):
        with routed(model, [task]):
            alone.append(model.generate(input_ids=row[None], **words)[0])
    assert torch.equal(found, torch.stack(alone))
    assert len({tuple(row.tolist()) for row in found}) > 1


@pytest.mark.parametrize("factorized", [True, False])
def test_it_is_trained_in_mixed_precision(factorized: bool) -> None:
    model = MODELS["bart"]()
    config = CompacterConfig(
        reduction_factor=4, hypercomplex_division=2, factorized_phm=factorized, tasks=TASKS, gate="large"
    )
    placement = place(model, config)
    inject(model, placement)
    inputs = inputs_for(model)
    with routed(model, [0, 1, 2, 0]):
        exact = output_of(model, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found = output_of(model, inputs)
        found.float().square().mean().backward()
    torch.testing.assert_close(found.float(), exact, rtol=0.1, atol=0.2)
    moved = {name.split(".", 1)[1] for name, each in _named(placement) if each.grad is not None and each.grad.any()}
    assert {"up.weight", "up.bias", "gate.up.weight"} <= moved


@pytest.mark.parametrize(("tasks", "expected"), [([], 2.699), (["vqa", "gqa", "nlvr", "caption"], 7.051)])
def test_shares_as_published(tasks: list[str], expected: float) -> None:
    config = CompacterConfig(
        reduction_factor=8, hypercomplex_division=2, factorized_phm=False, phm_rule="none", tasks=tasks
    )
    count = added(place, config)
    assert count == 30 * (2 * 768 * 96 // 2 + 2 * 2**3 + 96 + 768) * max(len(tasks), 1)
    assert percent(count, own=NORMS) == pytest.approx(expected, abs=5e-4)


def test_sizes_of_the_factorised_form() -> None:
    config = CompacterConfig(reduction_factor=8, hypercomplex_division=4, phm_rank=2)
    assert added(place, config) == 30 * (2 * 2 * (768 + 96) + 96 + 768) + 4**3


def test_widths_that_it_does_not_divide() -> None:
    config = CompacterConfig(reduction_factor=4, hypercomplex_division=3)
    with pytest.raises(
        UsageError, match=r"layers\.0\.self_attn\.out_proj: .*3 does not divide both 16 and 4: 2, 4 would"
    ):
        place(MODELS["bart"](), config)
    with pytest.raises(UsageError, match=r"16 and 5: only 1 would do"):
        place(MODELS["bart"](), CompacterConfig(reduction_factor=3, hypercomplex_division=2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hypercomplex_division": 0}, "hypercomplex_division must be at least 1, found 0"),
        ({"phm_rank": 2, "factorized_phm": False}, "found 2 with factorized_phm=False"),
        ({"phm_rank": 0}, "at least 1: found 0"),
        ({"phm_rule": "sites"}, "one of model, tasks, none, found 'sites'"),
        ({"phm_rule": "tasks"}, "at least two tasks"),
        ({"phm_rule": "tasks", "tasks": ["a", "b"], "share_down": True, "share_up": True}, "do not share both"),
        ({"phm_init_range": 0.0}, "phm_init_range must be above 0"),
        ({"reduction_factor": -1.0}, "reduction factor must be above 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CompacterConfig(**options)


def _named(placement: Any) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters of all parts, each behind its part's number."""
    return list(nn.ModuleList(placement.adapters.values()).named_parameters())
