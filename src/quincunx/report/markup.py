"""The building blocks of the page: elements that escape what they hold, tables, and numbers as people read them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any

from quincunx.metrics.record import Table

LONG = 140
"""Longer texts in tables are folded."""


class Markup(str):
    """Text that is HTML already; every other text is escaped by `tag`."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: str) -> Markup:
    """Return an element; children that are not `Markup` are escaped, None is left out. `class_` is `class`."""
    inside = "".join(
        child if isinstance(child, Markup) else escape(str(child)) for child in children if child is not None
    )
    words = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value)
    return Markup(f"<{name}{words}>{inside}</{name}>")


def number(value: Any, error: float | None = None) -> str:
    """Return a value as the report shows it: floats to 4 digits, or to the second digit of their standard error."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if error is not None and math.isfinite(error) and math.isfinite(value) and 0 < error < 1e6:
        return f"{value:.{min(10, max(0, 1 - math.floor(math.log10(error))))}f}"
    return f"{value:.4g}" if not math.isfinite(value) or abs(value) < 10_000 else f"{value:,.0f}"


def amount(size: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}" if abs(size) < 1000 else f"{size:,.0f} {unit}"


def duration(seconds: float) -> str:
    """Return a time for people: `42 s`, `3 min 20 s`, `5 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def pairs(rows: Sequence[tuple[str, Any]]) -> Markup:
    """Return names and values as a table of two columns; None is left out."""
    lines = [
        tag("tr", tag("th", spoken(name).replace(".", " · ")), tag("td", _paired(name, value)))
        for name, value in rows
        if value is not None
    ]
    return tag("div", tag("table", tag("tbody", *lines), class_="pairs"), class_="card wide")


def data_table(table: Table) -> Markup:
    """Return a table, columns of numbers flush right; scrolls sideways where it is too wide."""
    numeric = [
        all(_is_number(row[column]) for row in table.rows if column < len(row)) for column in range(len(table.columns))
    ]
    style = ["n" if right and column else "" for column, right in enumerate(numeric)]  # the first names the row
    head = tag("tr", *(tag("th", column, class_=kind) for column, kind in zip(table.columns, style, strict=True)))
    lines = [
        tag("tr", *(tag("td", cell(value), class_=kind) for value, kind in zip(row, style, strict=False)))
        for row in table.rows
    ]
    caption = tag("caption", table.title) if table.title else None
    return tag("div", tag("table", caption, tag("thead", head), tag("tbody", *lines)), class_="wide")


def cell(value: Any) -> Markup:
    """Return a value as the content of a table's cell; long texts are folded."""
    text = number(value) if isinstance(value, int | float) else shown(value)
    if len(text) <= LONG:
        return Markup(escape(text))
    return tag("details", tag("summary", f"{text[:LONG]} …"), tag("pre", text))


def shown(value: Any) -> str:
    """Return a value as text: texts as they are, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def spoken(name: str) -> str:
    """Return a name as it is read out: `learning rate`."""
    return name.replace("_", " ")


def absent(words: str) -> Markup:
    """Return a sentence that says what is not there."""
    return tag("p", words, class_="soft")


def _paired(name: str, value: Any) -> Markup:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return cell(value)
    if name.endswith("_bytes") or name.startswith("memory."):
        return Markup(escape(amount(value)))
    return Markup(f"{value:,}") if isinstance(value, int) else cell(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("", "nan", "inf", "-inf") or value.replace(",", "").replace(".", "", 1).lstrip("-").isdecimal()
    return isinstance(value, int | float) and not isinstance(value, bool)
