"""The rules of the sections `arithmetic` and `tasks` say before loading what loading would refuse."""

from types import SimpleNamespace

import pytest

from quincunx.errors import UsageError
from quincunx.recipes.compression.config_generated import RULES, Arithmetic, Tasks
from quincunx.recipes.compression.data.arithmetic import parameters_of
from quincunx.recipes.compression.data.tasks.load import request_of


def config(settings: dict[str, object]) -> SimpleNamespace:
    sections = {"arithmetic": Arithmetic(), "tasks": Tasks()}
    for path, value in settings.items():
        section, name = path.split(".")
        sections[section] = sections[section].model_copy(update={name: value})
    return SimpleNamespace(**sections)


def refused(made: SimpleNamespace) -> bool:
    try:
        parameters_of(made.arithmetic)
        request_of(made.tasks)
    except UsageError:
        return True
    return False


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_refuses_what_loading_would(rule):
    assert not rule.applies(config({}))
    failing = config(dict(rule.failing))
    assert rule.applies(failing)
    assert refused(failing)
    # a set without splits out of distribution asks nothing of their limits
    if rule.name.startswith("ood"):
        without = config({**rule.failing, "arithmetic.ood": 0})
        assert not rule.applies(without)
        assert not refused(without)


@pytest.mark.parametrize(
    "settings",
    [
        {"arithmetic.multiply_probability": 0.5, "arithmetic.space_multiplications": False, "arithmetic.max_factor": 4},
        {"arithmetic.multiply_probability": 0.5, "arithmetic.max_factor": 100, "arithmetic.max_num": 500},
        {"arithmetic.multiply_probability": 0.5, "arithmetic.max_factor": 101, "arithmetic.max_num": 500},
        {"arithmetic.multiply_probability": 0.5, "arithmetic.space_multiplications": False, "arithmetic.max_factor": 3},
        {"arithmetic.multiply_probability": 0.5, "arithmetic.space_multiplications": False, "arithmetic.max_factor": 4,
         "arithmetic.ood": 0},
        {"tasks.test_max_length": 41},
        {"tasks.test_min_length": 60, "tasks.test_max_length": 59},
        {"arithmetic.max_num": 10**12},
    ],
)  # fmt: skip
def test_rules_and_loading_agree(settings: dict[str, object]):
    made = config(settings)
    assert any(rule.applies(made) for rule in RULES) == refused(made)
