"""The plan's epochs and updates are those of the mixed tasks' order, however many logical batches an update has."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from quincunx.config.plan import make_plan
from quincunx.config.schema import Sizes
from quincunx.data.order import Order
from quincunx.engine.experiment import order_of
from quincunx.recipes.vision_language.config import SCHEMA
from quincunx.recipes.vision_language.data.mixing import Mixing
from quincunx.recipes.vision_language.recipe import mixing_of

TASKS = ["vqa", "gqa", "nlvr"]
SIZES = [21, 10, 6]
EPOCHS = 3
STOPS = [None, "first_exhausted", "all_exhausted", "updates"]
COMBINATIONS = list(product(["roundrobin", "uniform", "round_robin", "annealed"], STOPS, [False, True]))


def config_of(accumulation: int, batches: int | None, law: str, stop: str | None, mixed: bool, **budget: Any) -> Any:
    return SCHEMA.config.model_validate(
        {
            "data": {"tasks": TASKS, "path": "."},
            "update": {"batch_size": 4, "accumulation": accumulation},
            "budget": {"epochs": EPOCHS, "batches_per_epoch": batches, **budget},
            "mixing": {"sampling": law, "stop": stop, "mixed": mixed},
            "evaluate": {"every": "epoch"},
        }
    )


def mixed_of(config: Any) -> Mixing:
    rows: Any = SimpleNamespace(parts=[SimpleNamespace(number=number) for number in range(3)], sizes=SIZES)
    return mixing_of(config, rows)


def made_of(config: Any) -> tuple[Any, Order, Mixing]:
    """Return the plan and the order of a config, as a run makes them."""
    mixing = mixed_of(config)
    sizes = Sizes(train=sum(mixing.groups), groups=mixing.groups)
    return make_plan(config, sizes), order_of(config, sizes.train, None, 7, mixing), mixing


def is_refused(law: str, stop: str | None, batches: int | None) -> bool:
    """Tell whether a rule or the mixing refuses a combination, or the stop does nothing."""
    if law == "roundrobin" and stop is not None:
        return True
    return (law == "annealed" and stop in ("first_exhausted", "all_exhausted")) or (
        stop == "updates" and batches is None
    )


@pytest.mark.parametrize(("law", "stop", "mixed"), COMBINATIONS)
def test_plan_and_order_count_alike(law: str, stop: str | None, mixed: bool) -> None:
    """Over all accumulations and lengths of an epoch: updates are what the plan says, and epochs end where it does."""
    for accumulation, batches in product(range(1, 5), [None, *range(3, 8)]):
        if is_refused(law, stop, batches):
            continue
        plan, order, _ = made_of(config_of(accumulation, batches, law, stop, mixed))
        updates = [[batch.tolist() for batch in order.update(update)] for update in range(plan.total_updates)]
        done = np.cumsum([len(update) for update in updates])
        passes = -(-int(done[-1]) // order.batches_per_epoch)
        whole = [batch.tolist() for epoch in range(passes) for batch in order.epoch(epoch)]
        assert [batch for update in updates for batch in update] == whole[: done[-1]], "nothing twice, nothing left out"
        # an epoch is over after the first update that reaches its last logical batch
        length = order.batches_per_epoch if batches is None else batches
        assert plan.batches_per_epoch == length
        ends = [int(np.searchsorted(done, epoch * length)) + 1 for epoch in range(1, EPOCHS + 1)]
        at = {"accumulation": accumulation, "batches": batches}
        assert plan.total_updates == ends[-1], at
        assert plan.evaluate_every is not None
        fired = [update for update in range(1, plan.total_updates + 1) if plan.evaluate_every.fires(update)]
        # where an update is longer than an epoch, one end of an epoch is evaluated for several
        assert fired == sorted(set(ends)), at


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("stop", [None, "updates"])
def test_annealed_shares_end_with_training(stop: str | None, mixed: bool) -> None:
    """However long an epoch is said to be, the last pass of training has the last shares, none before it has."""
    for batches in (None, 3, 5, 10, 30):
        if is_refused("annealed", stop, batches):
            continue
        plan, order, mixing = made_of(config_of(1, batches, "annealed", stop, mixed, epochs=6))
        last = (plan.total_updates - 1) // order.batches_per_epoch
        final = np.array(SIZES, float) ** 0.2
        assert mixing.shares(last) == pytest.approx(final / final.sum())
        if last:
            assert not np.allclose(mixing.shares(last - 1), mixing.shares(last))
            assert mixing.shares(0) == pytest.approx(np.array(SIZES) / sum(SIZES))
