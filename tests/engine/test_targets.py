"""What is wrong with `_target_` nodes is said at its place, before anything is written."""

from __future__ import annotations

import pytest

from quincunx.config.check import check_sizes
from quincunx.config.load import load
from quincunx.config.plan import make_plan
from quincunx.config.schema import Sizes
from quincunx.engine.targets import try_targets
from quincunx.recipes import schemas
from runner import tiny

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}


def tried(**sections: object) -> list[tuple[str, str, str]]:
    loaded = load({**tiny(), **sections}, schemas=schemas())
    problems = try_targets(loaded.config, make_plan(loaded.config, Sizes(train=120)), loaded.document)
    lines = [problem.mark.source.lines[problem.mark.line - 1][problem.mark.column - 1 :] for problem in problems]
    return [(line, problem.message, problem.remedy) for line, problem in zip(lines, problems, strict=True)]


def test_good_nodes_and_our_own_parts_pass():
    assert tried() == []
    assert tried(optimizer=SGD, schedule={"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3}) == []


@pytest.mark.parametrize(
    ("sections", "at", "message"),
    [
        ({"optimizer": {"_target_": "torch.optim.SGD", "lrr": 0.1}}, "lrr: 0.1", "takes no argument lrr"),
        ({"optimizer": {"_target_": "torch.optim.LBFGS"}}, "torch.optim.LBFGS", "needs closure"),
        ({"optimizer": {"_target_": "os.system", "command": "ls"}}, "os.system", "standard library"),
        ({"schedule": {"_target_": "torch.optim.lr_scheduler.StepLR"}}, "torch.optim", "needs step_size"),
        (
            {"schedule": {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 1.0, "total_steps": 5}},
            "total_steps: 5",
            "ends after 5 updates, the training has 24",
        ),
    ],
)
def test_each_problem_is_placed(sections, at, message):
    [(line, said, _)] = tried(**sections)
    assert line.startswith(at)
    assert message in said


def test_both_nodes_are_tried():
    found = tried(optimizer={"_target_": "torch.nothing"}, schedule={"_target_": "torch.nn.Linear"})
    assert [line for line, _, _ in found] == ["torch.nothing", "torch.nn.Linear"]


def test_our_own_schedule_is_left_to_the_rules():
    """A warm-up that fills the training is a rule's to report, with its place, in `train` as in `check`."""
    loaded = load({**tiny(), "schedule": {"kind": "cos", "warmup": 24}}, schemas=schemas())
    sizes = Sizes(train=120)
    assert try_targets(loaded.config, make_plan(loaded.config, sizes), loaded.document) == []
    [problem] = check_sizes(loaded.config, loaded.schema, sizes, loaded.document)
    assert "schedule.warmup (24 updates) leaves no update" in problem.message
