"""The page of whole, young and strange sweeps, read back as a browser would."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from quincunx.errors import RunError
from quincunx.report.draw import Axis
from quincunx.sweep.records import SweepRecord, TrialRecord
from quincunx.sweep.report import Facts, RangeFact, write_sweep_report
from quincunx.sweep.report.parallel import parallel, shades
from quincunx.sweep.report.pictures import COLOURED, curves_of, learning, mini, pareto
from quincunx.sweep.report.results import table
from sweep_results_made import facts, realistic, realistic_facts, sweep, trial

NASTY = "<script>alert('x')</script>\"&amp;"
VOID = {"meta", "line", "circle", "rect"}


class Page(HTMLParser):
    """Collects elements, attributes and text, and checks that every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, kind: str) -> list[dict[str, str | None]]:
        """Return the elements that have a class."""
        return [each for _, each in self.elements if kind in (each.get("class") or "").split()]


def page(folder: Path, record: SweepRecord, known: Facts) -> Page:
    paths = write_sweep_report(folder, record, known)
    assert [path.name for path in paths] == ["report.html", "report.md", "results.csv"]
    assert all(path.is_file() for path in paths)
    return Page(paths[0].read_text(encoding="utf-8"))


def numbers(svg: str) -> list[float]:
    """Return every coordinate of a picture."""
    found = re.findall(r'(?:points|d|x|y|x1|x2|y1|y2|cx|cy|width|height)="([^"]*)"', svg)
    return [float(each) for text in found for each in re.findall(r"-?[\d.]+(?:e-?\d+)?|nan|inf", text)]


def test_a_whole_sweep(tmp_path: Path) -> None:
    record = realistic(60, 3)
    results = table(record, "max")
    found = page(tmp_path, record, realistic_facts())
    best = results.best
    assert best and best.estimate and best.estimate.high
    assert f"best of {len(results.distinct)}" in found.text and f"{best.value:.3f}" in found.text
    assert len(found.of("way")) == sum(row.state != "open" for row in results.rows)
    assert len([each for each in found.of("way") if "top" in (each["class"] or "")]) == 1
    assert len(found.of("curve")) == COLOURED and len(found.of("faint")) - 1 == len(curves_of(results)) - COLOURED
    assert len(found.of("mini")) == len(results.ranked) and len(found.of("bar")) == 5
    for words in ("not set", "pruned", "failed", "what chance alone reaches", "the loss is nan at update 312"):
        assert words in found.text
    assert f"quincunx train runs/listops-sweep/{best.runs[0].folder}/config.yaml" in found.text
    assert "quincunx sweep examples/long_range/listops.yaml" in found.text
    images = [each for tag, each in found.elements if tag == "svg" and each.get("role") == "img"]
    assert len(images) == 4 and all(each["aria-label"] for each in images)
    assert f"Best: trial {best.trial}" in (images[0]["aria-label"] or "")


def test_nothing_is_fetched_or_run(tmp_path: Path) -> None:
    found = page(tmp_path, realistic(20, 1), realistic_facts())
    assert not {tag for tag, _ in found.elements} & {"script", "link", "img", "iframe", "object", "use"}
    assert all((each.get("href") or "#").startswith(("#", "./")) for _, each in found.elements)


def test_whatever_is_in_names_and_values_stays_text(tmp_path: Path) -> None:
    record = sweep(
        trial(0, [0.5], {NASTY: NASTY, "b": "\ud800\x00\n"}, folder=NASTY, reason=NASTY),
        trial(1, [0.6], {NASTY: ["x", None], "b": math.nan}),
        trial(2, [None], {NASTY: {"a": NASTY}}, state="failed", reason=NASTY),
    )
    known = facts(
        name=NASTY,
        metric=NASTY,
        dir=Path(NASTY.replace("/", "|")),
        ranges=(RangeFact(NASTY, (NASTY,)), RangeFact("b", ("b",))),
        command=NASTY,
        written=NASTY,
        notes=(NASTY,),
        sampler=NASTY,
    )
    found = page(tmp_path, record, known)
    assert not any(tag == "script" for tag, _ in found.elements)
    assert found.text.count("<script>alert('x')</script>") > 5
    assert (tmp_path / "results.csv").stat().st_size and (tmp_path / "report.md").stat().st_size


def test_run_folders_with_a_report_are_linked(tmp_path: Path) -> None:
    record = sweep(trial(0, [0.5], folder="toy 0#a"), trial(1, [0.4]))
    (tmp_path / "toy 0#a").mkdir()
    (tmp_path / "toy 0#a" / "report.html").write_text("")
    links = [each["href"] for tag, each in page(tmp_path, record, facts()).elements if tag == "a"]
    assert [link for link in links if link and link.startswith("./")] == ["./toy%200%23a/report.html"]


YOUNG: dict[str, SweepRecord] = {
    "nothing": sweep(),
    "one trial": sweep(trial(0, [0.5, 0.6])),
    "one run": sweep(trial(0, [0.5])),
    "none finished": sweep(trial(0, [None], state="running", values={10: 0.1})),
    "all failed": sweep(trial(0, [None], state="failed", seconds=0.0), trial(1, [None], state="refused", memory=None)),
    "all pruned": sweep(trial(0, [0.3], state="pruned"), trial(1, [0.2], state="pruned")),
    "no setting acts": sweep(trial(0, [0.5], {}), trial(1, [0.6], {})),
    "no runs yet": sweep(TrialRecord(0, {}, {"lr": 1}, [])),
    "not finite": sweep(trial(0, [math.nan, math.inf]), trial(1, [-math.inf, 0.5]), trial(2, [1e308, 1e308])),
    "all the same": sweep(*(trial(number, [0.5, 0.5], {"lr": 1}) for number in range(12))),
    "times unknown": sweep(trial(0, [0.5], seconds=0.0, memory=None), trial(1, [0.6])),
    "gaps": sweep(trial(0, [0.5], {"lr": 0.1}, values={1: math.nan, 2: 0.3, 3: math.inf}), trial(1, [0.5], {"b": 1})),
    "huge": sweep(trial(0, [1e300], {"lr": 1e300}), trial(1, [-1e300], {"lr": -1e300}), trial(2, [1e-300], {"lr": 0})),
}


@pytest.mark.parametrize("name", YOUNG)
@pytest.mark.parametrize("goal", ["max", "min"])
@pytest.mark.parametrize("log", [None, False, True])
def test_young_and_strange_sweeps(tmp_path: Path, name: str, goal: Any, log: bool | None) -> None:
    known = facts(goal=goal, ranges=(RangeFact("lr", ("lr",), log), RangeFact("b", ("b",))))
    found = page(tmp_path, YOUNG[name], known)
    assert "toy-sweep" in found.text and "How to read this" in found.text
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(map(math.isfinite, numbers(text)))
    assert max(map(abs, numbers(text)), default=0) < 1e4, "every coordinate lies near the picture"


def test_five_hundred_trials_fit(tmp_path: Path) -> None:
    record = realistic(500, 1, evaluations=200)
    found = page(tmp_path, record, realistic_facts())
    assert (tmp_path / "report.html").stat().st_size < 2_000_000
    assert len(found.of("way")) > 450 and "more" in found.text


def test_parallel_coordinates_lie_where_the_values_are() -> None:
    record = sweep(
        trial(0, [0.2], {"lr": 1e-4, "kind": "a"}),
        trial(1, [0.6], {"lr": 1e-3, "kind": "b"}),
        trial(2, [1.0], {"lr": 1e-2}),
    )
    known = facts(ranges=(RangeFact("lr", ("lr",), True), RangeFact("kind", ("kind",))))
    svg = parallel(table(record, "max"), known)
    assert svg
    ways = [re.findall(r"[-\d.]+", way) for way in re.findall(r'd="([^"]*)"', svg)]
    heights = [[float(way[1]), float(way[7]), float(way[13])] for way in ways]  # the worst first
    assert heights == [[330, 44, 330], [187, 330, 187], [44, 364, 44]], "words from above, numbers from below"
    assert svg.count(">not set<") == 1
    falling = parallel(table(record, "min"), replace(known, goal="min"))
    assert falling and re.findall(r'd="([^"]*)"', falling)[-1].endswith("44.0"), "the best is above here too"


def test_listed_numbers_are_evenly_spaced_and_sorted() -> None:
    record = sweep(*(trial(number, [0.1 * number], {"lr": each}) for number, each in enumerate([64, 2, 1024])))
    svg = parallel(table(record, "max"), facts(ranges=(RangeFact("lr", ("lr",)),)))
    assert svg
    marks = re.findall(r'<text class="halo" x="29.0" y="([\d.]+)">(\w+)</text>', svg)
    assert marks == [("334.0", "2"), ("191.0", "64"), ("48.0", "1024")]


def test_colours_follow_ranks() -> None:
    results = table(sweep(*(trial(number, [0.1 * number]) for number in range(14))), "max")
    found = shades(results)
    assert [found[number] for number in range(14)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


def test_a_curve_is_the_mean_over_seeds_where_all_have_been() -> None:
    one = trial(0, [0.5, 0.7])
    one = replace(
        one,
        runs=[
            replace(one.runs[0], values={10: 0.1, 20: 0.2, 30: math.nan, 40: 0.4}),
            replace(one.runs[1], values={10: 0.3, 20: 0.6, 30: 0.5}),
        ],
    )
    (curve,) = curves_of(table(sweep(one), "max"))
    assert curve.updates == [10, 20]
    assert curve.values == pytest.approx([0.2, 0.4])
    assert (curve.lows, curve.highs) == ([0.1, 0.2], [0.3, 0.6])


def test_diverged_curves_do_not_press_the_others_flat() -> None:
    trials = [trial(number, [0.5], values={10: 0.9, 50: 0.6, 100: 0.5 + 0.001 * number}) for number in range(20)]
    wild = trial(20, [1e6], values={10: 0.9, 50: 1e5, 100: 1e6})
    drawn = learning(table(sweep(*trials, wild), "min"), facts(goal="min"))
    assert drawn and drawn[1] == 2, "two values of it lie outside"
    ends = [
        float(line.split(",")[-1]) for line in re.findall(r'<polyline class="curve[^"]*" points="([^"]*)"', drawn[0])
    ]
    assert max(ends) < 356 and len(ends) == COLOURED


def test_the_front_is_drawn_and_its_trials_are_named() -> None:
    record = sweep(
        trial(0, [0.9], seconds=100.0, memory=9),
        trial(1, [0.5], seconds=10.0, memory=9),
        trial(2, [0.4], seconds=50.0, memory=9),
        trial(3, [0.4], seconds=90.0, memory=1),
    )
    svg = pareto(table(record, "max"), facts())
    assert svg and "on the front: trial 0, trial 1, trial 3" in svg
    assert svg.count('class="one front"') == 2 and svg.count('class="one top"') == 1 and svg.count('class="one "') == 1
    xs = {title: float(x) for x, title in re.findall(r'cx="([\d.]+)"[^>]*><title>(trial \d)', svg)}
    assert xs["trial 1"] < xs["trial 2"] < xs["trial 3"] < xs["trial 0"]


def test_small_intervals_share_an_axis() -> None:
    results = table(sweep(trial(0, [0.4, 0.6]), trial(1, [0.2, 0.2])), "max")
    axis = Axis(0.0, 1.0, 0, 100)
    best, other = (mini(row, axis, 0.5) for row in results.rows)
    assert 'cx="50.0"' in best and 'x1="0.0" x2="100.0"' in best, "its ends lie outside and are drawn at the border"
    assert 'cx="20.0"' in other and 'class="upright" x1="50.0"' in other


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(RunError, match=re.escape("report.html")):
        write_sweep_report(tmp_path, sweep(), facts())
