"""A file of queries alone: `id<TAB>text` lines without a header, or JSON lines with `_id` and `text`, by suffix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quincunx.recipes.retrieval.data.readers.files import BadRows, bare_suffix, objects, shown, text_lines
from quincunx.recipes.retrieval.data.readers.rows import TextRows
from quincunx.recipes.retrieval.data.texts import Texts

EXPECTED = (
    'lines of id, tab, text without a header, or (.jsonl) lines of {"_id": ..., "text": ...}; ids are words without '
    "spaces, as a TREC file holds them, and texts are not empty"
)


def read_queries(path: Path, bad: BadRows | None = None) -> Texts:
    """Return the queries of a file, in its order.

    Args:
        path: The file, plain or packed as `.gz`.
        bad: Takes the bad rows; None: any is an error.

    Raises:
        DataError: The file cannot be read or holds no query; bad rows unless they are skipped.
    """
    bad = BadRows() if bad is None else bad
    rows = TextRows(path, bad)
    for line, identifier, text in _rows(path, bad):
        if isinstance(text, str) and not text.strip():
            bad.add(path, line, "a query without text")
        elif isinstance(identifier, str) and identifier and _unfit(identifier):
            bad.add(
                path, line, f"the id {shown(identifier)} has a space or a zero in it, and a TREC file cannot hold it"
            )
        else:
            rows.add(line, identifier, text)
    texts = rows.texts()
    bad.settle(path, EXPECTED)
    if not len(texts):
        raise bad.nothing(path, EXPECTED)
    return texts


def _rows(path: Path, bad: BadRows) -> Iterator[tuple[int, Any, Any]]:
    if bare_suffix(path) in (".jsonl", ".ndjson", ".json"):
        for line, row in objects(path, bad):
            missing = [name for name in ("_id", "text") if name not in row]
            if missing:
                bad.add(path, line, f"no {' and no '.join(missing)}; found {shown(list(row))}")
            else:
                yield line, row["_id"], row["text"]
        return
    for line, content in text_lines(path, bad):
        identifier, tab, text = content.partition("\t")
        if tab:
            yield line, identifier, text
        else:
            bad.add(path, line, "no tab; expected id, tab, text")


def _unfit(identifier: str) -> bool:
    data = identifier.encode("utf-8", "surrogatepass")
    return data.split() != [data] or b"\0" in data
