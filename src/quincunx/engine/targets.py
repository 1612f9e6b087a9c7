"""`_target_` nodes tried out before a run begins: what is wrong with them is said while nothing is written yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from quincunx.config.document import Document, Problem
from quincunx.config.plan import Plan
from quincunx.config.schema import Target
from quincunx.config.target import TargetError
from quincunx.engine.optim import build_optimizer
from quincunx.engine.schedule import build_schedule

Built = TypeVar("Built")


def try_targets(config: Any, plan: Plan, document: Document, allowed: Sequence[str] = ()) -> list[Problem]:
    """Return what is wrong with the `_target_` nodes of optimizer and schedule, each problem at its place.

    They are built round a tiny module; `allowed` are the paths that `--allow-target` names. Imports the modules of
    the nodes and runs their constructors, nothing more.
    """
    problems: list[Problem] = []

    def attempt(section: str, build: Callable[[], tuple[Built, list[str]]]) -> Built | None:
        try:
            return build()[0]
        except TargetError as error:
            for problem in error.problems:
                path = (section, *(problem.path or ("_target_",)))
                # a wrong argument is shown at its name, a wrong target at its value
                mark = document.mark(path, key=path[-1] != "_target_")
                problems.append(Problem("error", path, mark, problem.message, problem.remedy))
            return None

    tiny = nn.Linear(2, 2)
    optimizer: torch.optim.Optimizer | None = None
    if isinstance(config.optimizer, Target):
        optimizer = attempt("optimizer", lambda: build_optimizer(config.optimizer, config.update, [tiny], allowed))
    if isinstance(config.schedule, Target):
        base = optimizer or torch.optim.SGD(tiny.parameters(), lr=0.1)
        total, per_epoch = plan.total_updates, plan.updates_per_epoch
        attempt("schedule", lambda: build_schedule(config.schedule, base, total, per_epoch, allowed))
    return problems
