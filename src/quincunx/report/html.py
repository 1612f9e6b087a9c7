"""The report's page: plain data in, one self-contained HTML text out, without scripts and without the network.

Whatever comes from a run (names, notes, samples, settings) passes through `tag`, which escapes it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quincunx.metrics.record import Table
from quincunx.report.collect import Evaluated, Result, RunData, flat, is_error_of
from quincunx.report.curves import Chart
from quincunx.report.draw import colour_number, to_svg
from quincunx.report.markup import Markup, absent, amount, data_table, duration, number, pairs, shown, spoken, tag
from quincunx.report.style import STYLE


def page(data: RunData, charts: Sequence[Chart], config_text: str, written: str) -> str:
    """Return the report of a run as a whole HTML page.

    Args:
        data: What is known of the run.
        charts: Its curves.
        config_text: `config.yaml` as it stands.
        written: When the report is written, and by which version.
    """
    sections = {
        "Curves": _curves(charts),
        "Evaluation": _evaluations(data),
        "Samples": _samples(data),
        "Plan": pairs(flat(data.plan)) if data.plan else absent("There is no plan in this folder yet."),
        "Config": _config(data, config_text),
        "Environment": _environment(data),
        "Commands": _commands(data),
    }
    present = {title: body for title, body in sections.items() if body is not None}
    links = [tag("a", title, href=f"#{title.lower()}") for title in present]
    body = [
        _header(data),
        tag("nav", *links),
        _result(data),
        _tiles(data),
        *(tag("section", tag("h2", title, id=title.lower()), content) for title, content in present.items()),
        tag("footer", written),
    ]
    head = [
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        # Even if something slipped through unescaped, nothing could run or be fetched.
        Markup(
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        ),
        tag("title", f"{data.name} · run report"),
        tag("style", Markup(STYLE)),
    ]
    whole = tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _header(data: RunData) -> Markup:
    run = data.config.get("run")
    note = run.get("note") if isinstance(run, Mapping) else None
    words = [
        data.summary.get("recipe") or data.config.get("recipe"),
        data.summary.get("task") or data.config.get("task"),
    ]
    return tag(
        "header",
        tag("div", "Quincunx run report", class_="eyebrow"),
        tag("h1", data.name),
        tag(
            "div",
            tag("span", data.state, class_=f"pill {data.state}"),
            *(tag("span", word, class_="pill") for word in words if word),
            class_="pills",
        ),
        tag("div", note, class_="note") if note else None,
        _state_notice(data),
        _problems(data),
    )


def _state_notice(data: RunData) -> Markup | None:
    total = "?" if data.updates is None else f"{data.updates:,}"
    there = f"at update {data.update:,} of {total}"
    reason = data.summary.get("reason", "")
    if data.state == "interrupted":
        words = f"This run was interrupted {there}" + (f" ({reason})" if reason else "") + ". Go on with: "
        return tag("div", tag("p", words, tag("code", _resume(data))), class_="notice interrupted")
    if data.state == "failed":
        return tag("div", tag("p", tag("b", f"This run failed {there}. "), reason), class_="notice failed")
    if data.state == "running":
        return tag("div", tag("p", f"This run was {there} when the report was written."), class_="notice running")
    return None


def _problems(data: RunData) -> Markup | None:
    if not data.problems:
        return None
    lines = [tag("p", problem) for problem in data.problems]
    return tag("div", tag("p", tag("b", "Parts of this folder could not be read:")), *lines, class_="notice failed")


def _result(data: RunData) -> Markup:
    results = [result for split in data.splits() if (result := data.result(split)) is not None]
    if not results:
        return tag("div", tag("p", "Nothing was evaluated yet."), class_="card result")
    first = results[0]
    evaluated = data.chosen(first.split)
    notes = evaluated.evaluation.notes if evaluated else ()
    others = [tag("p", _words(result), class_="soft") for result in results[1:]]
    error = None
    if first.standard_error is not None:
        error = tag("small", f" ± {number(first.standard_error, first.standard_error)}")
    left = tag(
        "div",
        tag("div", f"{first.split} {spoken(first.name)} at update {first.update:,}", class_="soft"),
        tag("div", number(first.value, first.standard_error), error, class_="number"),
        tag("div", "± is one standard error", class_="soft") if error else None,
    )
    right = tag("div", *(tag("p", note) for note in notes), *others)
    return tag("div", left, right, class_="card result")


def _words(result: Result) -> str:
    error = result.standard_error
    spread = "" if error is None else f" ± {number(error, error)}"
    where = f"{result.split} {spoken(result.name)}"
    return f"{where}: {number(result.value, error)}{spread} at update {result.update:,}"


def _tiles(data: RunData) -> Markup:
    tiles: list[tuple[str, str]] = []
    total = data.updates
    tiles.append(
        ("updates", f"{data.update:,}" + (f" of {total:,}" if total is not None and total != data.update else ""))
    )
    best = data.summary.get("best")
    if best:
        tiles.append((f"best {best['metric']}, at update {best['update']:,}", number(float(best["value"]))))
    loss = data.series.get(("train", "loss"))
    if loss and loss.values:
        tiles.append(("last training loss", number(loss.values[-1])))
    parameters = data.plan.get("parameters")
    if isinstance(parameters, Mapping) and isinstance(parameters.get("trainable"), int):
        tiles.append(("trainable parameters", f"{parameters['trainable']:,}"))
    seconds = data.seconds()
    if seconds:
        tiles.append(("time training", duration(seconds)))
    for name, words in (("examples_per_second", "examples a second"), ("tokens_per_second", "tokens a second")):
        speed = data.typical_speed(name)
        if speed is not None and math.isfinite(speed):
            tiles.append((f"{words}, median", f"{speed:,.0f}" if speed >= 10 else number(speed)))
    memory = data.typical_speed("memory_bytes")
    if memory is not None and math.isfinite(memory):
        tiles.append(("memory, median", amount(memory)))
    return tag(
        "div",
        *(tag("div", tag("b", value), tag("span", name, class_="soft"), class_="card tile") for name, value in tiles),
        class_="tiles",
    )


def _curves(charts: Sequence[Chart]) -> Markup:
    if not charts:
        return absent("No metrics were written yet.")
    return tag("div", *map(_figure, charts), class_="grid")


def _figure(chart: Chart) -> Markup:
    entries = [
        tag("li", tag("i", class_=f"c{colour_number(line.split)} {line.role}"), line.label) for line in chart.lines
    ]
    if chart.mark:
        words = f"{chart.mark.label}: {number(chart.mark.value)} at {chart.mark.update:,}"
        entries.append(tag("li", tag("i", class_="ring"), words))
    notes = list(chart.notes)
    if any(line.errors is not None for line in chart.lines):
        notes.append("Bands are one standard error wide to each side.")
    if chart.logarithmic:
        notes.append("Logarithmic scale.")
    return tag(
        "figure",
        tag("h3", spoken(chart.title), " ", tag("span", "over updates", class_="soft")),
        tag("ul", *entries, class_="legend"),
        Markup(to_svg(chart)),
        tag("figcaption", " ".join(notes)) if notes else None,
        class_="card",
    )


def _evaluations(data: RunData) -> Markup:
    found = [evaluated for split in data.splits() if (evaluated := data.chosen(split)) is not None]
    if not found:
        return absent("Nothing was evaluated yet: evaluate.every says when, and the verb evaluate does it now.")
    return tag("div", *(_evaluated(evaluated, data) for evaluated in found), class_="stack")


def _evaluated(evaluated: Evaluated, data: RunData) -> Markup:
    scalars = evaluated.evaluation.scalars
    rows = [
        (
            spoken(name),
            number(value, scalars.get(f"{name}_se")),
            number(scalars.get(f"{name}_se", ""), scalars.get(f"{name}_se")),
        )
        for name, value in scalars.items()
        if not is_error_of(name, scalars)
    ]
    count = sum(other.split == evaluated.split for other in data.evaluations)
    best = data.summary.get("best")
    which = "the best checkpoint" if best and best["update"] == evaluated.update else "the latest"
    heading = f"{evaluated.split}, at update {evaluated.update:,}"
    said = f"{which} of {count} evaluations of this split" if count > 1 else "the only evaluation of this split"
    tables = [Table("all metrics", ("metric", "value", "standard error"), rows), *evaluated.evaluation.tables]
    notes = [tag("p", note) for note in evaluated.evaluation.notes]
    return tag(
        "div",
        tag("h3", heading, " ", tag("span", f"({said})", class_="soft")),
        *notes,
        tag("div", *map(data_table, tables), class_="tables"),
        class_="card",
    )


def _samples(data: RunData) -> Markup | None:
    blocks: list[Markup] = []
    for split in data.splits():
        evaluated = data.chosen(split)
        samples = evaluated.evaluation.samples if evaluated else ()
        if samples:
            columns = list(dict.fromkeys(key for sample in samples for key in sample))
            rows = [[sample.get(column, "") for column in columns] for sample in samples]
            title = f"{split}, at update {evaluated.update:,}" if evaluated else split
            blocks.append(tag("div", data_table(Table(title, columns, rows)), class_="card"))
    return tag("div", *blocks, class_="stack") if blocks else None


def _config(data: RunData, text: str) -> Markup:
    if not text:
        return absent("There is no config.yaml in this folder.")
    given = data.given()
    parts: list[Markup] = []
    if given:
        rows = [(setting.path, shown(setting.value), setting.origin) for setting in given]
        parts.append(
            data_table(
                Table("Settings that were given; all others have their defaults", ("setting", "value", "where"), rows)
            )
        )
    parts.append(
        tag("details", tag("summary", "The whole config"), tag("pre", text), **({} if given else {"open": "open"}))
    )
    return tag("div", *parts, class_="card stack")


def _environment(data: RunData) -> Markup:
    if not data.environment:
        return absent("There is no environment.json in this folder.")
    rows: list[tuple[str, Any]] = []
    for name, value in data.environment.items():
        if name == "command" and isinstance(value, Sequence) and not isinstance(value, str):
            rows.append((name, shlex.join(map(str, value))))
        elif name == "packages" and isinstance(value, Mapping):
            rows.append((name, ", ".join(f"{package} {version}" for package, version in value.items())))
        elif isinstance(value, Mapping):
            rows.extend(flat(value, f"{name}."))
        else:
            rows.append((name, value))
    return pairs(rows)


def _commands(data: RunData) -> Markup:
    folder = shlex.quote(str(_folder(data)))
    run = data.config.get("run")
    elsewhere = " run.dir=null" if isinstance(run, Mapping) and run.get("dir") is not None else ""
    lines = [
        ("Repeat it in a new folder", f"quincunx train {folder}{elsewhere}"),
        ("Go on where it stopped", _resume(data)),
        ("Evaluate it again", f"quincunx evaluate {folder}"),
    ]
    where = data.environment.get("working_folder")
    blocks = [
        tag("div", tag("p", words, class_="soft"), tag("pre", command, class_="wrapped")) for words, command in lines
    ]
    said = tag("p", "In the folder ", tag("code", where), ":") if where else None
    return tag("div", said, *blocks, class_="card stack")


def _resume(data: RunData) -> str:
    return f"quincunx train {shlex.quote(str(_folder(data)))} --resume"


def _folder(data: RunData) -> Path:
    """Return the run folder as seen from the working folder of the run, where that is known and above it."""
    path, where = data.folder.path.absolute(), data.environment.get("working_folder")
    if isinstance(where, str) and path.is_relative_to(where):
        return path.relative_to(where)
    return path
