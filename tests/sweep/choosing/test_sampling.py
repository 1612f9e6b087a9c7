"""Samplers by number: pure functions of (seed, number), unbiased, and Sobol points that really are even."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import MissingExtra, UsageError
from quincunx.sweep.choosing.sampling import draw, point_of
from quincunx.sweep.choosing.space import Condition, Exclusion, Listed, Space, Span


def listed(name: str, *values: Any, when: tuple[Condition, ...] = ()) -> Listed:
    return Listed(name, (name,), tuple((value,) for value in values), when)


SPACE = Space(
    (
        Span("lr", 1e-5, 1e-1, log=True),
        listed("optimizer", "sgd", "adam"),
        Span("beta", 0.8, 1.0, step=0.05, when=(Condition("optimizer", ("adam",)),)),
        Span("layers", 1, 6, whole=True),
    ),
    (Exclusion((("optimizer", ("sgd",)), ("layers", (5, 6)))),),
)


@pytest.mark.parametrize(
    ("sampler", "number", "expected"),
    [
        ("random", 0, {"lr": 5.36976e-05, "optimizer": "sgd", "layers": 2}),
        ("random", 7, {"lr": 4.23451e-05, "optimizer": "sgd", "layers": 2}),
        ("qmc", 0, {"lr": 0.00202923, "optimizer": "adam", "beta": 0.8, "layers": 5}),
        ("qmc", 7, {"lr": 4.23451e-05, "optimizer": "sgd", "layers": 2}),
    ],
)
def test_points_never_change(sampler: str, number: int, expected: dict[str, Any]) -> None:
    # Sweeps that were begun long ago go on with these points.
    assert SPACE.settings(point_of(SPACE, sampler, 0, number)) == expected


ASKING = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_sampling import SPACE
from quincunx.sweep.choosing.sampling import point_of
print(json.dumps([point_of(SPACE, sampler, 3, number) for sampler in ("random", "qmc") for number in (5, 0, 63)]))
"""


def test_another_process_and_another_order_give_the_same_points() -> None:
    command = [sys.executable, "-c", ASKING, str(Path(__file__).parent)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for sampler, found in (("random", said[:3]), ("qmc", said[3:])):
        points = {number: point_of(SPACE, sampler, 3, number) for number in range(64)}
        assert found == [points[5], points[0], points[63]]


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_seeds_and_numbers_give_different_points(sampler: str) -> None:
    found = [point_of(SPACE, sampler, seed, number)["lr"] for seed in range(5) for number in range(50)]
    assert len(set(found)) == 250


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_what_is_excluded_is_never_chosen_and_conditions_hold(sampler: str) -> None:
    points = [SPACE.settings(point_of(SPACE, sampler, 1, number)) for number in range(300)]
    assert not any(point["optimizer"] == "sgd" and point["layers"] in (5, 6) for point in points)
    assert all(("beta" in point) == (point["optimizer"] == "adam") for point in points)
    assert {point["layers"] for point in points if point["optimizer"] == "adam"} == {1, 2, 3, 4, 5, 6}
    assert {point["beta"] for point in points if "beta" in point} == {0.8, 0.85, 0.9, 0.95, 1.0}


def test_exclusions_of_qmc_change_only_the_points_they_hit() -> None:
    free = Space(SPACE.ranges)
    for number in range(100):
        point = point_of(free, "qmc", 1, number)
        if not SPACE.excluded(point):
            assert point_of(SPACE, "qmc", 1, number) == point


def test_another_range_changes_nothing_for_the_others() -> None:
    more = Space((listed("new", 1, 2), *reversed(SPACE.ranges)))
    free = Space(SPACE.ranges)
    for number in range(50):
        before, after = point_of(free, "random", 1, number), dict(point_of(more, "random", 1, number))
        assert after.pop("new") in (0, 1)
        assert after == before


def test_random_draws_fill_every_part_of_a_range_alike() -> None:
    # Of 4,000 draws each of ten parts gets 400, give or take 4.5 standard deviations (19 each); one fixed seed.
    span, word = Span("x", 0.0, 1.0), listed("w", *range(10))
    space = Space((span, word))
    points = [point_of(space, "random", 0, number) for number in range(4000)]
    for counts in (Counter(int(point["x"] * 10) for point in points), Counter(point["w"] for point in points)):
        assert sorted(counts) == list(range(10))
        assert all(abs(count - 400) < 86 for count in counts.values())
    pairs = Counter((point["x"] < 0.5, point["w"] < 5) for point in points)
    assert all(abs(count - 1000) < 4.5 * 27.4 for count in pairs.values())


def test_conditions_do_not_bias_what_they_hang_on() -> None:
    # Drawn among combinations, `a` would be 1 in ten of eleven cases.
    space = Space((listed("a", 0, 1), listed("b", *range(10), when=(Condition("a", (1,)),))))
    points = [point_of(space, "random", 0, number) for number in range(1000)]
    assert abs(sum(point["a"] for point in points) - 500) < 4.5 * 15.8
    counts = Counter(point["b"] for point in points if "b" in point)
    assert sorted(counts) == list(range(10))
    assert max(counts.values()) < 2.2 * min(counts.values())


def test_qmc_points_are_balanced_exactly() -> None:
    # A Sobol sequence puts one of the first 64 points in each 64th of every range, and in each cell of 8 x 8 of the
    # first two: no independent draws do.
    space = Space((Span("x", 0.0, 1.0), Span("y", 0.0, 1.0), listed("w", *range(16))))
    for seed in range(3):
        points = [point_of(space, "qmc", seed, number) for number in range(64)]
        for name in ("x", "y"):
            assert sorted(int(point[name] * 64) for point in points) == list(range(64))
        assert len({(int(point["x"] * 8), int(point["y"] * 8)) for point in points}) == 64
        assert Counter(point["w"] for point in points) == dict.fromkeys(range(16), 4)


def test_qmc_has_a_lower_discrepancy_than_random() -> None:
    from scipy.stats.qmc import discrepancy

    names = [f"x{index}" for index in range(5)]
    space = Space(tuple(Span(name, 0.0, 1.0) for name in names))
    for seed in range(3):
        even, drawn = (
            discrepancy([[point_of(space, sampler, seed, number)[name] for name in names] for number in range(128)])
            for sampler in ("qmc", "random")
        )
        assert even < drawn / 3


def test_a_grid_by_number_is_the_grid() -> None:
    space = Space((listed("a", 1, 2), listed("b", 3, 4, when=(Condition("a", (2,)),))))
    assert [point_of(space, "grid", 9, number) for number in range(3)] == list(space.grid())
    with pytest.raises(IndexError, match="the grid has 3 points"):
        point_of(space, "grid", 9, 3)


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
def test_excluding_everything_names_the_setting(sampler: str) -> None:
    space = Space((listed("a", 1, 2),), (Exclusion((("a", (1, 2)),)),))
    with pytest.raises(UsageError, match=r"sweep\.exclude"):
        point_of(space, sampler, 0, 0)


def test_unknown_samplers_and_ranges_beyond_sobol_are_refused() -> None:
    with pytest.raises(ValueError, match="grid, random and qmc do"):
        point_of(SPACE, "tpe", 0, 0)
    wide = Space(tuple(listed(f"x{index}", 0) for index in range(3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quincunx.sweep.choosing.sampling.LONGEST", 2)
        with pytest.raises(UsageError, match="qmc takes 2 ranges at most, found 3"):
            point_of(wide, "qmc", 0, 0)
    assert point_of(Space(()), "qmc", 0, 0) == {}


def test_qmc_without_scipy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats.qmc", None)
    with pytest.raises(MissingExtra, match=r"sweep\.sampler=qmc needs the package scipy.*quincunx\[sweep\]"):
        point_of(SPACE, "qmc", 0, 0)


@given(seed=st.integers(0, 2**40), number=st.integers(0, 2**40), attempt=st.integers(0, 1000))
def test_draws_lie_in_the_half_open_interval(seed: int, number: int, attempt: int) -> None:
    assert 0 <= draw(SPACE.ranges[0], seed, number, attempt) < 1


def test_importing_the_module_imports_neither_scipy_nor_optuna() -> None:
    code = (
        "import sys, quincunx.sweep.choosing.sampling, quincunx.sweep.choosing.adaptive, quincunx.sweep.naming;"
        "assert not {'scipy', 'optuna', 'torch', 'cmaes', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
