"""One document out of a line of a file, or out of a passage of some text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from quincunx.recipes.retrieval.data.readers.files import NOT_UTF8, BadRows, shown

SHORTEST, LONGEST = 400, 1200
"""Letters of a passage: it ends at a blank line once it has so many, and at the latest after so many."""


class Passage(NamedTuple):
    """A part of a text file."""

    line: int
    """Where it begins."""
    byte: int
    """The first byte of that line."""
    skip: int
    """Passages before it that begin in the same line."""
    text: str


def row_of_json(content: bytes, title_separator: str) -> tuple[str, str]:
    """Return id and text of a JSON object with `_id` (or `id`), `text`, and maybe `title`; ValueError for another."""
    try:
        row = json.loads(content.decode())
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no sound JSON ({error})") from None
    if not isinstance(row, Mapping):
        raise ValueError(f"{shown(row)}; expected an object")  # noqa: TRY004 - a bad row
    key = "_id" if "_id" in row else "id"
    if missing := [name for name, there in (("_id", key in row), ("text", "text" in row)) if not there]:
        raise ValueError(f"no {' and no '.join(missing)}; found {shown(list(row))}")
    title, text = row.get("title") or "", row["text"]
    if not isinstance(title, str) or not isinstance(text, str):
        wrong = f"title {shown(row.get('title'))} and text {shown(row['text'])}; expected strings"
        raise ValueError(wrong)  # noqa: TRY004 - a bad row
    identifier = row[key]
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier:
        raise ValueError(f"the id is {shown(identifier)}; expected a string" if identifier != "" else "an empty id")
    return identifier, title + title_separator + text if title and text else title or text


def row_of_tab(content: bytes) -> tuple[str, str]:
    """Return id and text of `id<TAB>text`; ValueError for another line."""
    identifier, tab, text = content.decode().partition("\t")
    if not tab:
        raise ValueError("no tab; expected id, tab, text")
    if not identifier:
        raise ValueError("an empty id")
    return identifier, text


def passages(lines: Iterator[tuple[int, int, bytes]], path: Path, bad: BadRows) -> Iterator[Passage]:
    """Yield the passages of a text file, from lines as (number, first byte, bytes).

    A passage is some paragraphs: it ends at the first blank line after SHORTEST letters, and after LONGEST letters
    anyhow, between words. Where it ends follows from where it begins, so that any passage can be read by itself.
    """
    begun: tuple[int, int] | None = None
    gathered: list[str] = []
    size = 0
    for number, at, content in lines:
        try:
            text = content.decode().rstrip()
        except UnicodeDecodeError:
            bad.add(path, number, NOT_UTF8)
            continue
        if begun is not None and (size + len(text) > LONGEST or (not text and size >= SHORTEST)):
            yield Passage(*begun, 0, "\n".join(gathered).rstrip())
            begun, gathered, size = None, [], 0
        if begun is None and not text:
            continue
        if len(text) > LONGEST:  # a paragraph without line breaks
            pieces = list(_pieces(text))
            yield from (Passage(number, at, skip, piece) for skip, piece in enumerate(pieces))
            continue
        begun = begun or (number, at)
        gathered.append(text)
        size += len(text) + 1
    if begun is not None:
        yield Passage(*begun, 0, "\n".join(gathered).rstrip())


def _pieces(text: str) -> Iterator[str]:
    while len(text) > LONGEST:
        cut = text.rfind(" ", 0, LONGEST + 1)
        end = cut if cut > 0 else LONGEST
        yield text[:end].rstrip()
        text = text[end:].lstrip()
    if text:
        yield text
