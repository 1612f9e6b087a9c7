"""The page of a mining: how far negatives lie below positives, what dropped candidates, who is suspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from quincunx.metrics.record import Table
from quincunx.report.collect import flat
from quincunx.report.draw import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, short, ticks
from quincunx.report.markup import Markup, absent, data_table, number, pairs, tag
from quincunx.report.style import STYLE

WORDS = {
    "known": "relevant, or with the same text as a relevant one",
    "empty": "without a text",
    "copy": "with the same text as a candidate of a better rank",
    "suspected": "suspected to be relevant by agreement",
    "max_score": "above --max-score",
    "margin": "less than --margin below the positive",
    "relative_margin": "less than --relative-margin below the positive",
    "min_score": "below --min-score",
}
"""What a candidate was dropped for."""


def page(report: Mapping[str, Any]) -> str:
    """Return a mining's report as a whole HTML page, without scripts and without the network."""
    sections = {
        "Margins": _margins(report),
        "Candidates": _candidates(report),
        "Positives": _positives(report),
        "Suspects": _suspects(report),
        "Settings": pairs(flat(report["settings"])),
        "Models": pairs(flat(report["models"])) if report["models"] else absent("BM25 alone: there was no model."),
    }
    name = str(report["data"]["name"])
    body = [
        tag("header", tag("div", "Quincunx mining report", class_="eyebrow"), tag("h1", name), _notes(report)),
        tag("nav", *(tag("a", title, href=f"#{title.lower()}") for title in sections)),
        _tiles(report),
        *(tag("section", tag("h2", title, id=title.lower()), content) for title, content in sections.items()),
        tag("footer", f"Data {report['data']['fingerprint']}; written by quincunx {report['quincunx']}."),
    ]
    head = [
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        ),
        tag("title", f"{name} · mining report"),
        tag("style", Markup(STYLE)),
    ]
    return f"<!doctype html>\n{tag('html', tag('head', *head), tag('body', tag('main', *body)), lang='en')}\n"


def fate_of_short(report: Mapping[str, Any]) -> str:
    """Return in words how many queries got fewer negatives than asked for, and what became of them."""
    queries, wanted = report["queries"], report["settings"]["num"]
    short_ones = queries["fewer"] + queries["none"]
    if not short_ones:
        return f"every query has {wanted}"
    became = "left out (--drop-short)" if report["settings"]["drop_short"] else "written with what they have"
    have = "query has" if short_ones == 1 else "queries have"
    return f"{short_ones:,} {have} fewer than {wanted}, {queries['none']:,} of them none: {became}"


def _notes(report: Mapping[str, Any]) -> Markup | None:
    notes = report["notes"]
    return tag("div", *(tag("p", note) for note in notes), class_="notice running") if notes else None


def _tiles(report: Mapping[str, Any]) -> Markup:
    queries, margins = report["queries"], report["margins"]["negatives"]
    tiles = [
        ("queries mined for", f"{queries['mined']:,}"),
        ("hard negatives", f"{report['negatives']:,}"),
        ("queries with fewer than asked for", f"{queries['fewer'] + queries['none']:,}"),
        ("median margin", number(margins["median"]) if margins["count"] else "no scores"),
    ]
    shown = (tag("div", tag("b", value), tag("span", name, class_="soft"), class_="card tile") for name, value in tiles)
    return tag("div", *shown, class_="tiles")


def _margins(report: Mapping[str, Any]) -> Markup:
    if report["scores_of"] is None:
        return absent("BM25's scores have no scale in common: margins need --run or --rerank.")
    said = (
        f"Score of the query's lowest positive less that of the document, by the {report['scores_of']} ranking. Left "
        "of 0 a document scores above the positive."
    )
    titles = {"negatives": "negatives that were chosen", "candidates": "candidates that are not known to be relevant"}
    figures = [_figure(titles[key], report["margins"][key], colour) for colour, key in enumerate(titles)]
    return tag("div", tag("p", said, class_="soft"), tag("div", *figures, class_="grid"))


def _figure(title: str, histogram: Mapping[str, Any], colour: int) -> Markup:
    if not histogram["count"]:
        return tag("figure", tag("h3", title), absent("There are none."), class_="card")
    parts = ("low", "quarter", "median", "three_quarters", "high")
    said = ", ".join(f"{name.replace('_', ' ')} {number(histogram[name])}" for name in parts)
    return tag(
        "figure",
        tag("h3", title, " ", tag("span", f"{histogram['count']:,}", class_="soft")),
        Markup(bars(title, histogram["edges"], histogram["counts"], colour)),
        tag("figcaption", f"{said}."),
        class_="card",
    )


def bars(title: str, edges: Sequence[float], counts: Sequence[int], colour: int) -> str:
    """Return a histogram as an SVG element: bars of `counts` [n] between `edges` [n + 1]."""
    across = Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    upward = Axis(0, max(1, *counts) * 1.06, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for value in ticks(upward.low, upward.high):
        y = upward.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="up" x="{LEFT - 7}" y="{y + 4:.1f}">{short(value)}</text>')
    for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
        left, right, top = across.place(start), across.place(end), upward.place(count)
        parts.append(
            f'<rect class="dot c{colour}" x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
            f'height="{HEIGHT - BOTTOM - top:.1f}"><title>{start:.4g} to {end:.4g}: {count:,}</title></rect>'
        )
    for value in ticks(across.low, across.high, 4):
        x = across.place(value)
        edge = " last" if x > WIDTH - RIGHT - 16 else ""
        shown = short(0.0 if abs(value) < 1e-12 else value)
        parts.append(f'<text class="along{edge}" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{shown}</text>')
    bottom = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/></svg>')
    return "".join(parts)


def _candidates(report: Mapping[str, Any]) -> Markup:
    found, (first, last) = report["candidates"], report["settings"]["ranks"]
    rows: list[tuple[str, int]] = [(WORDS[name], count) for name, count in found["dropped"].items() if count]
    rows += [
        ("left, and chosen", report["negatives"]),
        ("left, and not needed", found["left"] - report["negatives"]),
        ("all", found["looked_at"]),
    ]
    said = f"Documents of ranks {first} to {last}; of several reasons the first of this list counts."
    queries = report["queries"]
    more = [
        ("with all they should have", queries["full"]),
        ("with fewer", queries["fewer"]),
        ("with none", queries["none"]),
        ("written", queries["written"]),
        ("left out: nothing relevant to them, or no text", queries["left_out"]),
    ]
    return tag(
        "div",
        tag("p", said, class_="soft"),
        tag(
            "div",
            data_table(Table("candidates", ("candidates", "number"), rows)),
            data_table(Table(f"queries: {fate_of_short(report)}", ("queries", "number"), more)),
            class_="tables",
        ),
        class_="card",
    )


def _positives(report: Mapping[str, Any]) -> Markup:
    found, last = report["positives"], report["settings"]["ranks"][1]
    rows = [
        (f"{row['from']}" if row["from"] == row["to"] else f"{row['from']} to {row['to']}", row["positives"])
        for row in found["ranks"]
    ]
    rows.append((f"not among the first {last}", found["not_found"]))
    title = f"Where the candidates' ranking has the {found['count']:,} relevant documents"
    return tag("div", data_table(Table(title, ("rank", "positives"), rows)), class_="card")


def _suspects(report: Mapping[str, Any]) -> Markup:
    agree, found = report["settings"]["agree"], report["suspects"]
    if agree is None:
        return absent("Nobody was asked: --agree N lists candidates that N rankings put above the positive.")
    names = ", ".join(report["rankings"])
    kept = "they may be negatives (--keep-suspects)" if report["settings"]["keep_suspects"] else "they were left out"
    said = (
        f"{found['count']:,} candidates of {found['queries']:,} queries: at least {agree} of the rankings {names} put "
        f"them above the query's lowest positive, so that they may be relevant; {kept}. suspects.jsonl has all."
    )
    if not found["first"]:
        return tag("div", tag("p", said), class_="card")
    rows = [
        (
            f"{row['query_id']}: {row['query']}",
            f"{row['positive_id']}: {row['positive']}",
            f"{row['candidate_id']}: {row['candidate']}",
            row["rank"],
            *(
                f"{number(each['positive'])} < {number(each['candidate'])}"
                if each["candidate"] > each["positive"]
                else f"{number(each['positive'])} ≥ {number(each['candidate'])}"
                for each in row["scores"].values()
            ),
        )
        for row in found["first"]
    ]
    columns = ("query", "positive", "candidate", "rank", *report["rankings"])
    title = f"The first {len(rows)}; a ranking's scores are the positive's and the candidate's"
    return tag("div", tag("p", said), data_table(Table(title, columns, rows)), class_="card")
