"""Curves: smoothing, thinning, what is marked, and that any numbers can be drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quincunx.report.collect import RunData, Series
from quincunx.report.curves import Chart, Line, Mark, charts, smooth, thin
from quincunx.report.draw import logarithmic_ticks, short, ticks, to_png, to_svg
from quincunx.report.markup import amount, duration, number
from quincunx.runs import RunFolder

NUMBERS = st.lists(st.floats(), min_size=1, max_size=30)


def run(series: Mapping[str, Sequence[float]], best: Any = None) -> RunData:
    made: dict[tuple[str, str], Series] = {}
    for path, values in series.items():
        split, _, name = path.partition("/")
        made[split, name] = Series(split, name, list(range(1, len(values) + 1)), list(values))
    return RunData(RunFolder(Path()), "x", "finished", {"best": best}, {}, [], {}, {}, made, [], [], [])


def reference_smooth(values: Sequence[float], span: float) -> list[float]:
    """Weigh every pair of points by (1 - 2/span) to the power of their distance."""
    keep = 1 - 2 / max(2.0, span)
    found: list[float] = []
    for place in range(len(values)):
        weights = [keep ** abs(place - other) if math.isfinite(value) else 0.0 for other, value in enumerate(values)]
        total = sum(weight * value for weight, value in zip(weights, values, strict=True) if weight)
        found.append(total / sum(weights) if math.isfinite(values[place]) else math.nan)
    return found


class TestSmoothing:
    @given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=40), st.floats(1, 50))
    def test_equals_the_plain_weighted_mean(self, values: list[float], span: float) -> None:
        assert smooth(values, span) == pytest.approx(reference_smooth(values, span), rel=1e-6, abs=1e-3, nan_ok=True)

    def test_a_constant_stays_and_a_straight_line_does_not_lag(self) -> None:
        assert smooth([3.0] * 20, 8) == pytest.approx([3.0] * 20)
        line = smooth([float(x) for x in range(101)], 8)
        assert line[50] == pytest.approx(50.0)


class TestThinning:
    @given(NUMBERS, st.integers(4, 40))
    def test_keeps_ends_and_extremes_in_order(self, some: list[float], most: int) -> None:
        values = some * 20
        updates = list(range(0, 3 * len(values), 3))
        shown, kept = thin(updates, values, most)
        assert len(kept) <= max(len(values) if len(values) <= most else 0, 1.5 * most + 5)
        assert shown == sorted(set(shown))
        for update, value in zip(shown, kept, strict=True):
            assert str(values[update // 3]) == str(value)
        assert (shown[0], shown[-1]) == (updates[0], updates[-1])
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            assert max(finite) in kept
            assert min(finite) in kept
        assert any(not math.isfinite(v) for v in kept) == any(not math.isfinite(v) for v in values)

    def test_short_lines_stay_as_they_are(self) -> None:
        assert thin([1, 2], [5.0, math.nan])[0] == [1, 2]


class TestChoice:
    def test_order_levels_and_repetitions(self) -> None:
        data = run(
            {
                "train/gradient_norm": [1.0] * 20,
                "train/learning_rate": [0.1] * 20,
                "train/loss": [float(x) for x in range(20)],
                "train/cross_entropy": [float(x) for x in range(20)],
                "dev/recall": [0.5, 0.6],
                "dev/accuracy": [0.5, 0.6],
                "dev/accuracy_se": [0.01, 0.02],
                "dev/majority_class": [0.3, 0.3],
                "dev/oracle_distance": [0.3, 0.2],
            },
            {"metric": "dev/accuracy", "value": 0.6, "update": 2},
        )
        found = {chart.title: chart for chart in charts(data)}
        assert list(found) == ["loss", "accuracy", "recall", "oracle_distance", "learning_rate", "gradient_norm"]
        assert [line.role for line in found["loss"].lines] == ["raw", "line"]
        assert [line.role for line in found["learning_rate"].lines] == ["line"], (
            "a schedule is exact: nothing to smooth"
        )
        assert found["accuracy"].lines[0].errors == [0.01, 0.02]
        assert found["accuracy"].mark == Mark("best", "dev", 2, 0.6)
        assert found["recall"].mark == Mark("at the best checkpoint", "dev", 2, 0.6)
        assert [(level.label, level.value) for level in found["accuracy"].references] == [("majority class", 0.3)]
        assert found["recall"].references == []

    def test_values_that_are_not_finite_are_counted(self) -> None:
        (chart,) = charts(run({"dev/accuracy": [0.5, math.nan, math.inf, 0.6]}))
        assert chart.notes == ["2 of 4 values of dev/accuracy are not finite."]

    def test_a_spike_makes_the_scale_logarithmic(self) -> None:
        assert charts(run({"train/loss": [1.0] * 30 + [1e6]}))[0].logarithmic
        assert not charts(run({"train/loss": [1.0] * 30 + [3.0]}))[0].logarithmic
        assert not charts(run({"train/loss": [1.0] * 30 + [1e6, -1.0]}))[0].logarithmic

    def test_file_names_are_safe_and_never_meet(self) -> None:
        data = run({"train/a/b": [1.0], "train/a b": [2.0], "train/../x": [1.0], "train/<>": [1.0], "train/": [1.0]})
        names = [chart.file_name for chart in charts(data)]
        assert len(set(names)) == 5
        assert all(re.fullmatch(r"\w[\w.-]*", name) for name in names), names


class TestDrawing:
    @settings(max_examples=60, deadline=None)
    @given(st.dictionaries(st.sampled_from(["train/a", "dev/a", "test/a", "dev/a_se", "other/a"]), NUMBERS, min_size=1))
    @example({"dev/a": [0.0, 0.0], "dev/a_se": [0.0, 1e300], "train/a": [0.0]})
    @example({"dev/a": [1.0, 2.0, 1e6], "dev/a_se": [5.0, 1e300, 1.0]})
    def test_any_numbers_give_a_sound_picture(self, series: dict[str, list[float]]) -> None:
        for chart in charts(run(series, {"metric": "dev/a", "value": 1.0, "update": 1})):
            picture = ElementTree.fromstring(to_svg(chart))
            for element in picture.iter():
                for name in ("cx", "cy", "x1", "x2", "y1", "y2", "x", "y"):
                    if name in element.attrib:
                        assert -50 <= float(element.attrib[name]) <= 500
                for pair in element.attrib.get("points", "").split():
                    across, upward = map(float, pair.split(","))
                    assert 0 <= across <= 460
                    assert -1 <= upward <= 271

    @pytest.mark.parametrize("values", [[math.nan], [0.0], [1e300, -1e300, math.inf], [5e-324, 1.0], [1e16, 1e16 + 2]])
    def test_png_of_odd_values(self, values: list[float]) -> None:
        for name in ("a", "$x_{$", "_hidden"):
            (chart,) = charts(run({f"dev/{name}": values}))
            assert to_png(chart).startswith(b"\x89PNG")

    def test_higher_values_lie_higher_and_later_ones_further_right(self) -> None:
        chart = Chart("a", [Line("dev", "dev", [1, 2, 3], [0.1, 0.3, 0.2])])
        points = re.findall(r'points="([^"]+)"', to_svg(chart))[0].split()
        across, upward = zip(*(map(float, point.split(",")) for point in points), strict=True)
        assert across[0] < across[1] < across[2]
        assert upward[1] < upward[2] < upward[0]

    def test_pictures_of_a_run_end_alike(self) -> None:
        found = {chart.title: to_svg(chart) for chart in charts(run({"train/a": [1.0] * 8, "dev/b": [1.0, 2.0]}))}
        ends = {title: re.findall(r'cx="([\d.]+)"', svg) for title, svg in found.items()}
        assert ends["b"] == ends["a"][:2]

    def test_nan_interrupts_a_line(self) -> None:
        chart = Chart("a", [Line("dev", "dev", [1, 2, 3, 4, 5], [0.1, 0.2, math.nan, 0.2, 0.1])])
        assert to_svg(chart).count("<polyline") == 2

    def test_the_mark_is_where_its_value_is_and_says_it(self) -> None:
        line = Line("dev", "dev", [1, 2], [0.1, 0.9])
        svg = to_svg(Chart("a", [line], Mark("best", "dev", 2, 0.9)))
        dots = re.findall(r'<circle class="dot c1" cx="([\d.]+)" cy="([\d.]+)"', svg)
        ring = re.findall(r'<circle class="best c1" cx="([\d.]+)" cy="([\d.]+)"', svg)
        assert ring == [dots[1]]
        assert "best: 0.9 at update 2" in svg

    @given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
    def test_ticks_are_few_round_and_inside(self, low: float, width: float) -> None:
        found = ticks(low, low + width)
        assert len(found) <= 6
        slack = 1e-6 * width + 1e-6 * abs(low)
        assert all(low - slack <= value <= low + width + slack for value in found)

    def test_ticks_by_example(self) -> None:
        assert ticks(0, 6000, 4) == [0, 2000, 4000, 6000]
        assert ticks(0.17, 0.63) == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6])
        assert logarithmic_ticks(0.09, 110) == pytest.approx([0.1, 1, 10, 100])
        assert logarithmic_ticks(1, 10) == pytest.approx([1, 2, 5, 10])
        assert [short(value) for value in (0, 0.25, 1500, 2e6, 3e-5, 0.30000000000000004)] == [
            *("0", "0.25", "1.5k", "2M", "3e-05", "0.3")
        ]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.59512, 0.01098, "0.595"),
        (0.59512, 0.1, "0.60"),
        (59.512, 1.098, "59.5"),
        (1234.5, 12.0, "1234"),
        (0.5, 0.0, "0.5"),
        (0.5, math.nan, "0.5"),
        (math.nan, 0.1, "nan"),
        (0.123456, None, "0.1235"),
        (123456.7, None, "123,457"),
        (7, None, "7"),
        ("nan", None, "nan"),
        (True, None, "True"),
    ],
)
def test_numbers_show_as_many_digits_as_they_are_worth(value: Any, error: float | None, text: str) -> None:
    assert number(value, error) == text


def test_sizes_and_times() -> None:
    assert [amount(size) for size in (512, 2048, 67371488, 5 * 2**40)] == ["512 B", "2 KiB", "64.3 MiB", "5,120 GiB"]
    assert [duration(s) for s in (4.25, 59.7, 200, 18600)] == ["4.25 s", "1 min 0 s", "3 min 20 s", "5 h 10 min"]
