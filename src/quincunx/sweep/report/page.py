"""The page of a sweep: one self-contained HTML text, without scripts and without the network.

Whatever comes from a config or a run passes through `tag`, which escapes it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import quote

from quincunx.metrics.record import Table
from quincunx.report.draw import Axis
from quincunx.report.markup import Markup, absent, amount, data_table, duration, number, tag
from quincunx.sweep.records import SweepRecord
from quincunx.sweep.report.importance import Importance
from quincunx.sweep.report.parallel import parallel
from quincunx.sweep.report.pictures import COLOURED, bars, learning, mini, mini_axis, pareto
from quincunx.sweep.report.results import Results, Row
from quincunx.sweep.report.style import STEPS, SWEEP_STYLE
from quincunx.sweep.report.texts import (
    VERDICTS,
    against,
    commands,
    importance_words,
    made,
    remarks,
    seeds_of,
    standing,
    updates_of,
    value_of,
    verdict,
)
from quincunx.sweep.report.values import (
    NOT_SET,
    Facts,
    cut,
    gist,
    half,
    in_order,
    label,
    printable,
    short_names,
    spelt,
    with_interval,
)

OPEN = 25
"""Rows of a table that are seen at once; the rest is folded."""


def page(record: SweepRecord, results: Results, facts: Facts, found: Importance | str, reports: Collection[str]) -> str:
    """Return the report of a sweep as a whole HTML page.

    Args:
        record: The sweep as it stands.
        results: What `table` made of it.
        facts: What else is known.
        found: Importance of the ranges, or why there is none.
        reports: Names of the run folders whose own report is beside the page, to be linked.
    """
    sections = {
        "Ranking": _ranking(results, facts, reports),
        "Settings": _parallel(results, facts),
        "Curves": _curves(results, facts),
        "Cost and importance": _small(results, facts, found),
        "Not ranked": _others(results, facts, reports),
        "Best configuration" if results.best else "Commands": _commands(results, facts),
        "How to read this": tag("div", *(tag("p", line) for line in remarks(results, facts)), class_="card reading"),
    }
    present = {title: body for title, body in sections.items() if body is not None}
    links = [tag("a", title, href=f"#{_anchor(title)}") for title in present]
    body = [
        _header(record, results, facts),
        tag("nav", *links),
        _result(results, facts),
        _tiles(record, results),
        *(tag("section", tag("h2", title, id=_anchor(title)), content) for title, content in present.items()),
        tag("footer", facts.written),
    ]
    head = [
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        # Even if something slipped through unescaped, nothing could run or be fetched.
        Markup(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        ),
        tag("title", f"{facts.name} · sweep report"),
        tag("style", Markup(SWEEP_STYLE)),
    ]
    whole = tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _header(record: SweepRecord, results: Results, facts: Facts) -> Markup:
    unfinished = any(row.state == "open" for row in results.rows)
    state = ("not finished", "running") if unfinished else ("finished", "finished") if results.rows else ("empty", "")
    seeds = f"{facts.n_seeds} seed{'s' * (facts.n_seeds != 1)} each"
    words = [f"sampler {facts.sampler}", f"pruner {facts.pruner}" if facts.pruner != "none" else "", seeds]
    words.append(f"{facts.metric}, {'higher' if facts.goal == 'max' else 'lower'} is better")
    return tag(
        "header",
        tag("div", "Quincunx sweep report", class_="eyebrow"),
        tag("h1", facts.name),
        tag(
            "div",
            tag("span", state[0], class_=f"pill {state[1]}"),
            *(tag("span", word, class_="pill") for word in words if word),
            class_="pills",
        ),
        tag("p", standing(record, results), class_="soft"),
        *(tag("div", tag("p", note), class_="notice running") for note in facts.notes),
    )


def _result(results: Results, facts: Facts) -> Markup:
    best = results.best
    if best is None:
        return tag("div", tag("p", verdict(results)), class_="card result")
    error = half(best.estimate)
    left = tag(
        "div",
        tag("div", f"{facts.metric}, best of {len(results.distinct)}", class_="soft"),
        tag(
            "div",
            number(best.value, error),
            tag("small", f" ± {number(error, error)}") if error is not None else None,
            class_="number",
        ),
        tag("div", f"± is the {100 * results.level:g} % interval over {len(best.values)} seeds", class_="soft")
        if error is not None
        else None,
    )
    right = tag("div", tag("p", tag("b", spelt(best.settings) or "no setting acts")), tag("p", verdict(results)))
    return tag("div", left, right, class_="card result")


def _tiles(record: SweepRecord, results: Results) -> Markup:
    own = [run for run in record.runs if run.same_as is None]
    tiles = [
        ("configurations", f"{len(results.rows):,}"),
        ("runs", f"{len(own):,}"),
        ("updates in all", f"{made(record):,}"),
    ]
    spent = sum(run.seconds for run in own)
    tiles += [("time of all runs", duration(spent))] if spent else []
    tiles += [("time of the sweep", duration(3600 * record.hours))] if record.hours else []
    memory = max((run.memory for run in own if run.memory is not None), default=None)
    tiles += [("most memory of a run", amount(memory))] if memory is not None else []
    cards = (tag("div", tag("b", value), tag("span", name, class_="soft"), class_="card tile") for name, value in tiles)
    return tag("div", *cards, class_="tiles")


def _ranking(results: Results, facts: Facts, reports: Collection[str]) -> Markup:
    rows = results.ranked
    if not rows or results.best is None or results.best.value is None:
        return absent("Nothing is ranked before a configuration is trained to its end with a value from every seed.")
    keys = in_order(results, facts)
    axis = mini_axis(results, OPEN)
    lines = [_line(row, keys, axis, results.best.value, reports) for row in rows]
    names = short_names(keys)
    head = _head([facts.metric, "", "against the best", *(names[key] for key in keys)], ["", "", "", *keys])
    folded = None
    if len(lines) > OPEN:
        rest = tag("div", _grid(head, lines[OPEN:]), class_="wide")
        folded = tag("details", tag("summary", f"{len(lines) - OPEN} more"), rest)
    return tag("div", tag("div", _grid(head, lines[:OPEN]), class_="wide"), folded, class_="card")


def _head(names: Sequence[str], titles: Sequence[str]) -> Markup:
    cells = [tag("th", name, class_="n") for name in ("rank", "trial")]
    cells += [tag("th", printable(name), title=title) for name, title in zip(names, titles, strict=True)]
    cells += [tag("th", name, class_="n") for name in ("seeds", "time a run", "memory")]
    return tag("tr", *cells)


def _line(row: Row, keys: Sequence[str], axis: Axis, best: float, reports: Collection[str]) -> Markup:
    said = against(row) if row.same_as is None else f"same as trial {row.same_as}"
    word = VERDICTS.get(row.verdict or "", "")
    kind = {"best": "finished", "even": "even"}.get(row.verdict or "", "")
    told = row.same_as is None and row.verdict != "unknown"
    pill = tag("span", word, class_=f"pill {kind}") if told else None
    detail = said.removeprefix(word).removeprefix(": ") if row.same_as is None else said
    return tag(
        "tr",
        tag("td", row.rank, class_="n"),
        tag("td", _linked(row, reports), class_="n"),
        tag("td", with_interval(row.estimate)),
        tag("td", Markup(mini(row, axis, best))),
        tag("td", pill, " ", tag("span", detail, class_="soft")),
        *(_set(row, key) for key in keys),
        tag("td", seeds_of(row), class_="n"),
        tag("td", "" if row.seconds is None else duration(row.seconds), class_="n"),
        tag("td", "" if row.memory is None else amount(row.memory), " ◆" if row.front else "", class_="n"),
        class_="first" if row.verdict == "best" else "",
    )


def _set(row: Row, key: str) -> Markup:
    if key not in row.settings:
        return tag("td", NOT_SET, class_="off")
    text = label(row.settings[key])
    return tag("td", text if len(text) <= 200 else text[:199] + "…", class_="set", title=text if len(text) > 30 else "")


def _linked(row: Row, reports: Collection[str]) -> Markup | str:
    folder = next((run.folder for run in row.runs if run.folder in reports), None)
    return str(row.trial) if folder is None else tag("a", str(row.trial), href=f"./{quote(folder)}/report.html")


def _grid(head: Markup, lines: Sequence[Markup]) -> Markup:
    return tag("table", tag("thead", head), tag("tbody", *lines), class_="ranking")


def _parallel(results: Results, facts: Facts) -> Markup:
    picture = parallel(results, facts)
    if picture is None:
        return absent("There is no configuration yet that has come to an end.")
    ramp = tag("span", *(tag("i", class_=f"v{step}") for step in range(STEPS)), class_="ramp")
    entries = [tag("li", tag("i", class_="top"), "best")] if results.best is not None else []
    entries += [tag("li", ramp, "from worse to better, by rank")] if len(results.ranked) > 1 else []
    states = {row.state for row in results.rows}
    entries += [tag("li", tag("i", class_=state), state) for state in ("pruned", "failed") if state in states]
    return _figure(
        "Settings and value",
        "a line for each configuration",
        entries,
        picture,
        "Lines that share a value lie side by side, better ones above. A line that is pointed at stands out and says "
        "which it is.",
    )


def _curves(results: Results, facts: Facts) -> Markup:
    drawn = learning(results, facts)
    if drawn is None:
        return absent("No run has been evaluated yet.")
    picture, outside = drawn
    mean = " (mean over seeds)" if any(len(row.values) > 1 for row in results.rows) else ""
    entries = [tag("li", tag("i", class_="top"), "best" + mean)] if results.best is not None else []
    entries.append(tag("li", tag("i", class_=f"v{STEPS - 2}"), f"the first {COLOURED} of the ranking"))
    entries.append(tag("li", tag("i", class_="faint"), "all others"))
    notes = ["The band of the best goes from its worst to its best seed."] if mean and results.best is not None else []
    notes += ["Each point is the best evaluation so far."] if facts.value == "best" else []
    notes += [f"{outside:,} worse value{'s' * (outside != 1)} lie outside of the picture."] if outside else []
    return _figure(facts.metric, "over updates", entries, picture, " ".join(notes))


def _small(results: Results, facts: Facts, found: Importance | str) -> Markup:
    picture = pareto(results, facts)
    if picture is None:
        cost = tag("figure", tag("h3", "Value and cost"), absent("No times are known yet."), class_="card")
    else:
        counted = " and ".join(results.costs)
        entries = [
            tag("li", tag("i", class_="dot c0"), f"front of value, {counted}"),
            tag("li", tag("i", class_="dot soft"), "other configurations"),
        ]
        words = (
            "The line is the best value within a time. ◆ in the ranking: on the front, nothing is as good and cheaper."
        )
        cost = _figure("Value and cost", "time a run", entries, picture, words, small=True)
    if isinstance(found, str):
        weight = tag("figure", tag("h3", "Importance of settings"), absent(found), class_="card")
    else:
        entries = [tag("li", tag("i", class_="mark"), "what chance alone reaches")]
        weight = _figure("Importance of settings", "share", entries, bars(found), importance_words(found), small=True)
    return tag("div", cost, weight, class_="grid")


def _figure(
    title: str, more: str, entries: Sequence[Markup], picture: str, words: str, *, small: bool = False
) -> Markup:
    return tag(
        "figure",
        tag("h3", title, " ", tag("span", more, class_="soft")),
        tag("ul", *entries, class_="legend"),
        Markup(picture) if small else tag("div", Markup(picture), class_="scroll"),
        tag("figcaption", words) if words else None,
        class_="card",
    )


def _others(results: Results, facts: Facts, reports: Collection[str]) -> Markup | None:
    rows = [row for row in results.rows if row.rank is None]
    if not rows:
        return None
    names = short_names(results.keys)
    head = tag("tr", *(tag("th", each) for each in ("trial", "state", "updates", facts.metric, "settings", "reason")))
    lines = [
        tag(
            "tr",
            tag("td", _linked(row, reports)),
            tag("td", tag("span", row.state, class_=f"pill {row.state}")),
            tag("td", updates_of(row)),
            tag("td", value_of(row)),
            tag("td", cut(spelt({names[key]: value for key, value in row.settings.items()}), 400)),
            tag("td", cut("; ".join(map(gist, row.reasons)), 400)),
        )
        for row in rows
    ]
    shown = tag("div", _plain(head, lines[:OPEN]), class_="wide")
    folded = None
    if len(lines) > OPEN:
        rest = tag("div", _plain(head, lines[OPEN:]), class_="wide")
        folded = tag("details", tag("summary", f"{len(lines) - OPEN} more"), rest)
    return tag("div", shown, folded, class_="card")


def _plain(head: Markup, lines: Sequence[Markup]) -> Markup:
    return tag("table", tag("thead", head), tag("tbody", *lines), class_="ended")


def _commands(results: Results, facts: Facts) -> Markup:
    lines = [*commands(results, facts), ("Go on with this sweep", facts.command)]
    blocks = (tag("div", tag("p", words, class_="soft"), tag("pre", text, class_="wrapped")) for words, text in lines)
    best = results.best
    settings = None
    if best is not None and best.settings:
        rows = [(printable(key), label(value)) for key, value in best.settings.items()]
        settings = tag("div", data_table(Table("", ("setting", "value"), rows)), class_="card")
    return tag("div", settings, tag("div", *blocks, class_="card stack"), class_="stack")
