"""What a worker does next, on records made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from quincunx.config.load import load
from quincunx.errors import UsageError
from quincunx.recipes import schemas
from quincunx.sweep.records import Facts, RunRecord, SweepRecord, TrialRecord
from quincunx.sweep.running.placing import cuda_devices, environment, placement, usable_cores
from quincunx.sweep.running.scheduling import IN_VAIN, Choice, Done, New, Promote, Start, Wait, choose
from quincunx.sweep.settings import Sweep
from runner import tiny


def of(*runs: dict[str, Any], hours: float = 0.0) -> SweepRecord:
    """Return a sweep with a run a trial."""
    common = {"replicate": 0, "seed": 0, "folder": "folder", "hash": "h", "total": 10}
    made = [RunRecord(**{"number": number, "trial": number, **common, **run}) for number, run in enumerate(runs)]
    return SweepRecord([TrialRecord(run.trial, {}, {}, [run]) for run in made], hours)


def next_of(record: SweepRecord, *, more: bool = True, facts: dict[str, Any] | None = None, **settings: Any) -> Choice:
    made = Facts(more, **{name: frozenset(found) for name, found in (facts or {}).items()})
    return choose(record, Sweep.model_validate(settings), "max", made)


DONE = {"state": "done", "update": 10, "value": 0.5}
BEGUN = {"state": "waiting", "update": 3, "host": "here"}
WORKING = {"state": "running", "owner": "somebody", "host": "there"}
PAUSED = {"state": "paused", "update": 3, "values": {3: 0.5}, "target": 3}


def test_the_order() -> None:
    orphan = {**WORKING, "target": 7}
    everything = of(DONE, {}, PAUSED, BEGUN, orphan)
    assert next_of(everything, facts={"orphans": [4]}) == Start(4, 7)
    assert next_of(of(DONE, {}, PAUSED, BEGUN)) == Start(3, None)
    assert next_of(of(DONE, {}, {}, PAUSED)) == Start(1, None)
    assert next_of(of(DONE, PAUSED)) == Promote(1, None)
    assert next_of(of(DONE)) == next_of(of()) == New()
    assert next_of(of(DONE, WORKING), more=False) == Wait()
    assert next_of(of(DONE), more=False) == Done("every configuration was run")


def test_a_run_is_begun_with_its_first_rung() -> None:
    asha = {"pruner": "asha", "pruning": {"first": 3}}
    assert next_of(of({}), **asha) == Start(0, 3)
    assert next_of(of({**BEGUN, "target": 9}), **asha) == Start(0, 9)
    assert next_of(of(PAUSED, PAUSED, PAUSED), **asha) == Promote(0, 9)
    assert next_of(of(PAUSED), **asha) == New()
    assert next_of(of(PAUSED, WORKING), more=False, **asha) == Wait()
    assert next_of(of(PAUSED), more=False, **asha) == Promote(0, 9)


@pytest.mark.parametrize(
    ("settings", "hours"), [({"updates": 20}, 0.0), ({"hours": 2.0}, 2.0), ({"updates": 15, "hours": 9.0}, 0.0)]
)
def test_budgets_let_what_was_begun_end_and_begin_nothing(settings: dict[str, Any], hours: float) -> None:
    assert isinstance(next_of(of(DONE, DONE, {}, hours=hours), **settings), Done)
    assert next_of(of(DONE, {**BEGUN, "update": 10}, {}, hours=hours), **settings) == Start(1, None)
    assert next_of(of(DONE, WORKING, {}, hours=hours), **settings) == Wait()
    assert isinstance(next_of(of(DONE, DONE, PAUSED, hours=hours), pruner="asha", **settings), Done)


def test_updates_that_were_promised_are_spent() -> None:
    assert next_of(of(WORKING), updates=11) == New()
    assert next_of(of(WORKING), updates=10) == Wait()
    assert next_of(of({**WORKING, "target": 3}), updates=10) == New()


def test_fail_fast() -> None:
    failed = {"state": "failed", "folder": "study_0"}
    assert next_of(of(failed, BEGUN, {})) == Start(1, None)
    assert next_of(of(failed, BEGUN, {}), fail_fast=True) == Done("a run failed (study_0), and sweep.fail_fast is set")
    assert next_of(of(failed, WORKING), fail_fast=True) == Wait()
    assert next_of(of({"state": "refused"}), fail_fast=True) == New()


def test_what_lies_elsewhere_is_left_to_those_there() -> None:
    assert next_of(of(BEGUN), more=False, facts={"elsewhere": [0]}) == Wait()
    assert next_of(of(BEGUN, {}), facts={"elsewhere": [0]}) == Start(1, None)
    asha = {"pruner": "asha", "pruning": {"first": 3, "factor": 2}}
    assert next_of(of(PAUSED, PAUSED), facts={"elsewhere": [0]}, **asha) == New()
    assert next_of(of(PAUSED, PAUSED), facts={"elsewhere": [1]}, **asha) == Promote(0, 6)


def test_repetitions_are_never_run_and_end_a_sweep_that_has_nothing_else() -> None:
    again = {**DONE, "same_as": 0}
    assert next_of(of(DONE, {"same_as": 0})) == New()
    assert next_of(of(DONE, *[again] * (IN_VAIN - 1))) == New()
    assert isinstance(next_of(of(DONE, *[again] * IN_VAIN)), Done)
    assert isinstance(next_of(of(DONE, *[{"state": "refused"}] * IN_VAIN)), Done)
    assert next_of(of(WORKING, *[{**WORKING, "same_as": 0}] * IN_VAIN)) == Wait()


@pytest.mark.parametrize(
    ("devices", "workers", "visible", "expected"),
    [
        ("auto", 1, ["0", "1"], [None]),
        ("auto", 3, ["0", "1"], ["0", "1", "0"]),
        ("auto", 2, [], [None, None]),
        ("all", 3, ["0", "1"], [None, None, None]),
        ([1], 2, ["GPU-a", "GPU-b"], ["GPU-b", "GPU-b"]),
        ([], 1, ["0"], [None]),
    ],
)
def test_places_take_devices_in_turn(devices: Any, workers: int, visible: list[str], expected: Any) -> None:
    assert placement(Sweep.model_validate({"devices": devices, "workers": workers}), visible) == expected


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"CUDA device 2; counted from 0 there are 2"):
        placement(Sweep.model_validate({"devices": [0, 2]}), ["0", "1"])
    with pytest.raises(UsageError, match="there is none"):
        placement(Sweep.model_validate({"devices": [0]}), [])


def test_devices_are_those_that_the_worker_may_use() -> None:
    assert cuda_devices({"CUDA_VISIBLE_DEVICES": "3, GPU-x"}) == ["3", "GPU-x"]
    assert cuda_devices({"CUDA_VISIBLE_DEVICES": "1,-1,2"}) == ["1"]
    assert cuda_devices({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_threads_are_shared_unless_somebody_said_how() -> None:
    config = load(tiny({"compute.threads": None}), schemas=schemas()).config
    several, one = Sweep.model_validate({"workers": 2}), Sweep()
    share = str(max(1, usable_cores() // 2))
    assert environment(several, "1", config, {}) == {"CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": share}
    assert environment(one, None, config, {}) == {}
    assert environment(several, None, config, {"OMP_NUM_THREADS": "3"}) == {}
    three = Sweep.model_validate({"workers": 2, "threads": 3})
    assert environment(three, None, config, {"OMP_NUM_THREADS": "1"}) == {"OMP_NUM_THREADS": "3"}
    assert environment(several, None, load(tiny(), schemas=schemas()).config, {}) == {}


def test_runs_on_several_devices_see_them_all() -> None:
    config = load(tiny({"compute.processes": 2, "compute.threads": 1}), schemas=schemas()).config
    assert environment(Sweep.model_validate({"workers": 2}), "1", config, {}) == {}
    chosen = Sweep.model_validate({"workers": 2, "devices": [1]})
    assert environment(chosen, "1", config, {}) == {"CUDA_VISIBLE_DEVICES": "1"}
