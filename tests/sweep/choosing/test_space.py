"""Ranges: goldens of grids (crossed, zipped, conditional, excluded), points of spans, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.sweep.choosing.space import Condition, Exclusion, Listed, Space, Span, canonical


def listed(name: str, *values: Any, when: tuple[Condition, ...] = ()) -> Listed:
    return Listed(name, (name,), tuple((value,) for value in values), when)


def all_settings(space: Space) -> list[dict[str, Any]]:
    return [space.settings(point) for point in space.grid()]


def points(span: Span) -> list[float]:
    assert span.count is not None
    return [span.position(index) for index in range(span.count)]


GUIDE = Space(
    (
        listed("lr", 1e-3, 1e-4),
        Listed("combos", ("n_layers", "d_model"), ((2, 64), (4, 128))),
        listed("l2", 0, 1e-5),
    )
)


def test_the_guide_s_form_is_crossed_in_file_order_and_zipped() -> None:
    assert all_settings(GUIDE) == [
        {"lr": 1e-3, "n_layers": 2, "d_model": 64, "l2": 0},
        {"lr": 1e-3, "n_layers": 2, "d_model": 64, "l2": 1e-5},
        {"lr": 1e-3, "n_layers": 4, "d_model": 128, "l2": 0},
        {"lr": 1e-3, "n_layers": 4, "d_model": 128, "l2": 1e-5},
        {"lr": 1e-4, "n_layers": 2, "d_model": 64, "l2": 0},
        {"lr": 1e-4, "n_layers": 2, "d_model": 64, "l2": 1e-5},
        {"lr": 1e-4, "n_layers": 4, "d_model": 128, "l2": 0},
        {"lr": 1e-4, "n_layers": 4, "d_model": 128, "l2": 1e-5},
    ]
    assert list(GUIDE.grid())[3] == {"lr": 0, "combos": 1, "l2": 1}


ON_ADAM = (Condition("optimizer", ("adam", "adamw")),)
WARM = (Condition("warm", (True,)), Condition("optimizer", ("sgd",)))


def test_conditions_of_later_earlier_and_unset_ranges() -> None:
    # `beta` stands before what it hangs on; `steps` needs two things; `shape` hangs on `steps`, which may not act.
    space = Space(
        (
            listed("beta", 0.9, 0.99, when=ON_ADAM),
            listed("optimizer", "sgd", "adam"),
            listed("warm", False, True),
            Listed("warming", ("steps", "floor"), ((10, 0.1), (20, 0.2)), WARM),
            listed("shape", "line", "cosine", when=(Condition("steps", (20,)),)),
        )
    )
    assert all_settings(space) == [
        {"optimizer": "sgd", "warm": False},
        {"optimizer": "sgd", "warm": True, "steps": 10, "floor": 0.1},
        {"optimizer": "sgd", "warm": True, "steps": 20, "floor": 0.2, "shape": "line"},
        {"optimizer": "sgd", "warm": True, "steps": 20, "floor": 0.2, "shape": "cosine"},
        {"beta": 0.9, "optimizer": "adam", "warm": False},
        {"beta": 0.9, "optimizer": "adam", "warm": True},
        {"beta": 0.99, "optimizer": "adam", "warm": False},
        {"beta": 0.99, "optimizer": "adam", "warm": True},
    ]
    assert space.size() == 8
    assert [space.nth(number) for number in range(8)] == list(space.grid())
    assert [one.name for one in space.order()] == ["optimizer", "beta", "warm", "warming", "shape"]
    with pytest.raises(IndexError, match="8 points, found number 8"):
        space.nth(8)


def test_a_condition_that_never_holds_leaves_a_range_out() -> None:
    space = Space((listed("a", 1, 2), listed("b", 3, 4, when=(Condition("a", (1.0, True, "1")),))))
    assert all_settings(space) == [{"a": 1}, {"a": 2}]
    assert space.at([0.0, 0.9]) == {"a": 0}


def test_exclusions_by_value_and_by_list() -> None:
    space = Space(
        (listed("a", 1, 2, 3), listed("b", [1, 2], [3], {"x": 1}), listed("c", None, 0, when=(Condition("a", (3,)),))),
        (Exclusion((("a", (1, 2)), ("b", ([1, 2], {"x": 1})))), Exclusion((("c", (0,)),))),
    )
    assert all_settings(space) == [
        {"a": 1, "b": [3]},
        {"a": 2, "b": [3]},
        {"a": 3, "b": [1, 2], "c": None},
        {"a": 3, "b": [3], "c": None},
        {"a": 3, "b": {"x": 1}, "c": None},
    ]
    assert space.size() == 5
    assert space.excluded({"a": 0, "b": 2})
    assert not space.excluded({"a": 0, "b": 1})
    assert not space.excluded({"a": 2, "b": 1}), "c does not act, so it has no value that could be excluded"


def test_excluding_everything_is_said_with_the_way_out() -> None:
    space = Space((listed("a", 1, 2), listed("b", 1)), (Exclusion((("a", (1, 2)),)),))
    assert space.size() == 0
    with pytest.raises(UsageError, match=r"sweep\.exclude leaves out every combination of a, b"):
        next(space.grid())


def test_a_space_without_ranges_is_one_point() -> None:
    assert list(Space(()).grid()) == [{}]
    assert Space(()).size() == 1
    assert Space(()).at([]) == {}


def test_huge_grids_are_neither_built_nor_counted_one_by_one() -> None:
    ranges = tuple(listed(f"a{index}", *range(10)) for index in range(11))
    tied = listed("b", 1, 2, 3, when=(Condition("a0", (5,)),))
    space = Space((*ranges, tied), (Exclusion((("a3", (1,)), ("a4", (1,)))),))
    assert space.size() == 10**8 * (10 - 1 + 3) * 99  # a0 with b; a3 with a4; the other eight
    assert space.settings(next(space.grid()))["a10"] == 0
    assert Space(ranges).nth(1234567890) == dict(zip((one.name for one in ranges), (0, *range(1, 10), 0), strict=True))


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (Span("x", 0.0, 0.5, step=0.1), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (Span("x", 0.1, 1.0, step=0.25), [0.1, 0.35, 0.6, 0.85]),
        (Span("x", -0.3, 0.3, step=0.1), [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]),
        (Span("x", 1, 9, step=4, whole=True), [1, 5, 9]),
        (Span("x", 1, 10, step=4, whole=True), [1, 5, 9]),
        (Span("x", -1, 2, whole=True), [-1, 0, 1, 2]),
        (Span("x", 0.0, 1.0, n=4), [0.0, 0.333333, 0.666667, 1.0]),
        (Span("x", 0.0, 1.0, n=11), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        (Span("x", 1e-5, 1e-1, n=5, log=True), [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
        (Span("x", 0.1, 0.4, n=3, log=True), [0.1, 0.2, 0.4]),
        (Span("x", 1, 10, n=4, whole=True), [1, 4, 7, 10]),
        (Span("x", 0, 5, n=3, whole=True), [0, 3, 5]),
        (Span("x", 1, 1000, n=4, log=True, whole=True), [1, 10, 100, 1000]),
        (Span("x", 1, 8, n=8, log=True, whole=True), [1, 2, 3, 4, 6, 8]),
        (Span("x", 1.0000001, 1.0000002, n=3), [1.0000001, 1.00000015, 1.0000002]),
    ],
)
def test_points_of_spans(span: Span, expected: list[float]) -> None:
    found = points(span)
    assert found == expected
    assert [type(one) for one in found] == [type(one) for one in expected]
    assert Space((span,)).finite
    assert span.last == expected[-1]
    # Equal shares: the middles of so many equal parts, and what lies a hair inside both edges of each.
    share = 1 / len(expected)
    for index, value in enumerate(expected):
        for inside in (1e-6, 0.5, 1 - 1e-6):
            assert span.at((index + inside) * share) == value
        assert span.at(span.unit(value)) == value
        assert span.tidy(value) == value
    assert span.at(1.0) == expected[-1]


def test_spans_without_points() -> None:
    for span in (Span("x", 0.0, 1.0), Span("x", 1e-5, 1.0, log=True), Span("x", 1, 64, log=True, whole=True)):
        assert span.count is None
        space = Space((span, listed("a", 1)))
        assert not space.finite
        assert space.size() is None
        with pytest.raises(ValueError, match="span x has no points"):
            space.grid()
        with pytest.raises(ValueError, match="span x has no points"):
            space.nth(0)
    assert Span("x", 0.0, 1.0).at(0.123456789) == 0.123457
    assert Span("x", 1e-5, 1e-1, log=True).at(0.5) == 0.001
    assert Span("x", 1e-5, 1e-1, log=True).at(0.0) == 1e-5
    assert Span("x", 1, 64, log=True, whole=True).at(0.5) == 6  # between 0.5 and 64.5 as logarithms
    assert isinstance(Span("x", 1, 64, log=True, whole=True).at(0.5), int)


def test_few_digits_do_not_swallow_a_narrow_span() -> None:
    span = Span("x", 1.2345671, 1.2345679)
    found = [span.at(index / 100) for index in range(101)]
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (1.2345671, 1.2345679)


LIMITS = st.floats(-1e6, 1e6).filter(lambda number: number == 0 or abs(number) > 1e-6)


@given(ends=st.tuples(LIMITS, LIMITS).filter(lambda ends: ends[1] - ends[0] > 1e-9), unit=st.floats(0, 1))
def test_drawn_numbers_stay_within_their_span(ends: tuple[float, float], unit: float) -> None:
    low, high = ends
    value = Span("x", low, high).at(unit)
    assert low <= value <= high
    assert value == pytest.approx(low + unit * (high - low), abs=1e-5 * max(abs(low), abs(high)))
    if low > 0:
        value = Span("x", low, high, log=True).at(unit)
        assert low <= value <= high
        assert value == pytest.approx(low * (high / low) ** unit, rel=1e-5)


@given(
    low=st.integers(-50, 50),
    length=st.integers(1, 60),
    step=st.integers(1, 7),
    scale=st.sampled_from([1, 10, 1000]),
)
def test_steps_are_exact_decimals(low: int, length: int, step: int, scale: int) -> None:
    span_of = lambda step: Span("x", low / scale, (low + length) / scale, step=step / scale)  # noqa: E731
    if step > length:
        with pytest.raises(ValueError, match="beyond high"):
            span_of(step)
    else:
        assert points(span_of(step)) == [number / scale for number in range(low, low + length + 1, step)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 0.0, "high": 1.0, "log": True}, "log needs low above 0, found low 0.0"),
        ({"low": -1.0, "high": 1.0, "log": True}, "log needs low above 0"),
        ({"low": 1.0, "high": 1.0}, "low has to be less than high"),
        ({"low": 2, "high": 1, "whole": True}, "low has to be less than high"),
        ({"low": 0.0, "high": float("inf")}, "finite"),
        ({"low": float("nan"), "high": 1.0}, "finite"),
        ({"low": 0.0, "high": 1.0, "step": 0.0}, "step has to be above 0"),
        ({"low": 0.0, "high": 1.0, "step": 1.1}, "leads beyond high"),
        ({"low": 0.1, "high": 1.0, "step": 0.1, "log": True}, "log and step contradict"),
        ({"low": 0.1, "high": 1.0, "step": 0.1, "n": 3}, "step and n"),
        ({"low": 0.1, "high": 1.0, "n": 1}, "at least 2"),
        ({"low": 1, "high": 3, "n": 4, "whole": True}, "there are 3 whole numbers"),
        ({"low": 0.5, "high": 3, "whole": True}, "whole low, high and step"),
    ],
)
def test_spans_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Span("x", **arguments)


def test_spaces_that_are_refused() -> None:
    one, other = listed("a", 1), listed("b", 1, when=(Condition("c", (1,)),))
    with pytest.raises(ValueError, match="'c' is no ranged setting; there are a, b"):
        Space((one, other))
    with pytest.raises(ValueError, match="'c' is no ranged setting"):
        Space((one,), (Exclusion((("c", (1,)),)),))
    with pytest.raises(ValueError, match="conditions of b, c go round in a circle"):
        Space((one, other, listed("c", 1, when=(Condition("b", (1,)),))))
    with pytest.raises(ValueError, match="setting 'a' is there twice"):
        Space((one, Listed("pair", ("a", "d"), ((1, 2),))))
    with pytest.raises(ValueError, match="leave out everything"):
        Exclusion(())
    with pytest.raises(ValueError, match="no values"):
        Listed("a", ("a",), ())
    with pytest.raises(ValueError, match="of 2 settings, found a row of 1"):
        Listed("pair", ("a", "b"), ((1, 2), (3,)))
    with pytest.raises(ValueError, match="2 ranges need as many numbers, found 1"):
        Space((one, listed("b", 1))).at([0.5])


def test_values_are_compared_with_their_types() -> None:
    different = [1, 1.0, True, "1", None, "None", [1], [1.0], [[1]], {"a": 1}, {"a": True}, {"a": [1]}, [], {}, ""]
    assert len({canonical(value) for value in different}) == len(different)
    assert canonical({"a": 1, "b": [2, {"c": 3}]}) == canonical({"b": [2, {"c": 3}], "a": 1})
    assert canonical((1, 2)) == canonical([1, 2])


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces with conditions in both directions and exclusions."""
    names = "abcd"[: draw(st.integers(1, 4))]
    rank = {name: place for place, name in enumerate(draw(st.permutations(names)))}  # conditions go down only
    counts = {name: draw(st.integers(1, 3)) for name in names}
    ranges = []
    for name in names:
        before = [other for other in names if rank[other] < rank[name]]
        on = draw(st.lists(st.sampled_from(before), max_size=2, unique=True)) if before else []
        when = tuple(Condition(other, tuple(draw(st.sets(st.integers(0, 2), min_size=1)))) for other in on)
        ranges.append(listed(name, *range(counts[name]), when=when))
    wanted = st.dictionaries(st.sampled_from(names), st.sets(st.integers(0, 2), min_size=1), min_size=1)
    left_out = [
        Exclusion(tuple((name, tuple(values)) for name, values in each.items()))
        for each in draw(st.lists(wanted, max_size=2))
    ]
    return Space(tuple(ranges), tuple(left_out))


def plain_grid(space: Space) -> list[dict[str, int]]:
    """The whole product, each point reduced to what acts, the first of equal ones kept: slow and obvious."""
    found: list[dict[str, int]] = []
    for positions in itertools.product(*(range(one.count or 0) for one in space.ranges)):
        chosen = dict(zip((one.name for one in space.ranges), positions, strict=True))
        acting: set[str] = set()
        for _ in space.ranges:  # so often that the longest chain of conditions is settled
            acting = {
                one.name
                for one in space.ranges
                if all(each.key in acting and chosen[each.key] in each.values for each in one.when)
            }
        point = {name: place for name, place in chosen.items() if name in acting}
        out = any(all(key in point and point[key] in values for key, values in one.wanted) for one in space.exclusions)
        if point not in found and not out:
            found.append(point)
    return found


@given(space=spaces(), units=st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4))
def test_grids_equal_a_plain_enumeration(space: Space, units: list[float]) -> None:
    expected = plain_grid(space)
    assert space.size() == len(expected)
    if not expected:
        with pytest.raises(UsageError):
            list(space.grid())
        return
    assert list(space.grid()) == expected
    point = space.at(units[: len(space.ranges)])
    assert space.excluded(point) == (point not in expected)


def test_at_keeps_every_range_s_own_draw() -> None:
    space = Space((listed("a", 0, 1, when=(Condition("b", (1,)),)), listed("b", 0, 1), Span("c", 0.0, 1.0)))
    assert space.at([0.7, 0.2, 0.5]) == {"b": 0, "c": 0.5}
    assert space.at([0.7, 0.8, 0.5]) == {"a": 1, "b": 1, "c": 0.5}
    assert list(space.at([0.7, 0.8, 0.5])) == ["a", "b", "c"]
