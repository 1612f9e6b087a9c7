"""The page of a mining: what it says is what the report says, and nothing of the data is markup."""

from __future__ import annotations

import re
from typing import Any

from quincunx.report.mined import bars, fate_of_short, page

EVIL = "<script>alert(1)</script>"


def report(**changes: Any) -> dict[str, Any]:
    """A report with something in every part."""
    histogram = {
        "count": 5,
        "low": -0.1,
        "quarter": 0.0,
        "median": 0.125,
        "three_quarters": 0.2,
        "high": 0.4,
        "edges": [-0.25, 0.0, 0.25, 0.5],
        "counts": [1, 3, 1],
    }
    suspect = {
        "query_id": "q1",
        "query": EVIL,
        "positive_id": "d1",
        "positive": "right",
        "candidate_id": "d2",
        "candidate": "also right",
        "rank": 3,
        "kept": False,
        "scores": {"dense": {"positive": 0.5, "candidate": 0.75}, "bm25": {"positive": 4.0, "candidate": 3.0}},
    }
    found: dict[str, Any] = {
        "quincunx": "1",
        "data": {"name": EVIL, "fingerprint": "abc"},
        "settings": {"ranks": [1, 40], "num": 5, "agree": 1, "keep_suspects": False, "drop_short": False},
        "models": {"dense": {"weights": "0123456789"}},
        "scores_of": "dense",
        "rankings": ["dense", "bm25"],
        "queries": {"mined": 9, "full": 7, "fewer": 1, "none": 1, "written": 9, "left_out": 4},
        "negatives": 37,
        "candidates": {"looked_at": 360, "dropped": {"known": 11, "margin": 0, "suspected": 12}, "left": 337},
        "margins": {"negatives": histogram, "candidates": {"count": 0}},
        "positives": {"count": 10, "ranks": [{"from": 2, "to": 5, "positives": 6}], "not_found": 4},
        "suspects": {"count": 12, "queries": 8, "first": [suspect]},
        "notes": [EVIL],
    }
    return {**found, **changes}


def rows(html: str) -> dict[str, str]:
    cells = re.findall(r"<tr><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td></tr>", html)
    return dict(cells)


def test_the_page_shows_the_reports_numbers_and_escapes_its_texts():
    html = page(report())
    assert EVIL not in html and html.count("&lt;script&gt;") >= 3
    told = rows(html)
    assert told["relevant, or with the same text as a relevant one"] == "11"
    assert told["suspected to be relevant by agreement"] == "12"
    assert "less than --margin below the positive" not in told, "nothing was dropped by it"
    assert told["left, and chosen"] == "37" and told["left, and not needed"] == "300" and told["all"] == "360"
    assert told["2 to 5"] == "6" and told["not among the first 40"] == "4"
    assert "0.5 &lt; 0.75" in html and "4 ≥ 3" in html
    assert "median 0.125" in html and "0123456789" in html


def test_what_is_not_there_is_said():
    settings = {**report()["settings"], "agree": None}
    html = page(report(scores_of=None, models={}, settings=settings, notes=[]))
    assert "margins need --run or --rerank" in html and "--agree N lists" in html and "there was no model" in html
    assert "<rect" not in html


def test_short_queries_in_words():
    assert fate_of_short(report()).startswith("2 queries have fewer than 5, 1 of them none: written")
    dropped = {**report()["settings"], "drop_short": True}
    assert "left out (--drop-short)" in fate_of_short(report(settings=dropped))
    full = {**report()["queries"], "fewer": 0, "none": 0}
    assert fate_of_short(report(queries=full)) == "every query has 5"


def test_bars_are_as_high_as_their_counts():
    svg = bars("a & b", [-1.0, 0.0, 1.0, 2.0], [1, 4, 0], 0)
    heights = [float(height) for height in re.findall(r'<rect[^>]*height="([\d.]+)"', svg)]
    assert heights[2] == 0 and abs(heights[1] - 4 * heights[0]) < 0.2
    left = [float(x) for x in re.findall(r'<rect[^>]* x="([\d.]+)"', svg)]
    assert abs((left[2] - left[1]) - (left[1] - left[0])) < 0.2
    assert 'aria-label="a &amp; b"' in svg and "<title>0 to 1: 4</title>" in svg
