"""BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv` (Thakur et al. 2021, arXiv:2104.08663)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quincunx.errors import DataError
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.readers.files import (
    BadRows,
    choose_split,
    either,
    fingerprint,
    listed,
    objects,
    shown,
)
from quincunx.recipes.retrieval.data.readers.qrels import EXPECTED as JUDGEMENTS
from quincunx.recipes.retrieval.data.readers.qrels import read_qrels
from quincunx.recipes.retrieval.data.readers.rows import TextRows, judged_collection
from quincunx.recipes.retrieval.data.texts import Texts

EXPECTED = (
    'corpus.jsonl with {"_id": ..., "title": ..., "text": ...} a line, queries.jsonl with {"_id": ..., "text": ...} '
    "a line, and qrels/<split>.tsv with the columns query-id, corpus-id, score (each may be packed as .gz)"
)


def is_beir(folder: Path) -> bool:
    """Tell whether a folder looks like BEIR's."""
    return either(folder, "corpus.jsonl") is not None


def read_beir(
    folder: Path, split: str | None = None, *, title_separator: str = " ", bad: BadRows | None = None
) -> Collection:
    """Return the collection of a folder's split.

    Args:
        folder: It holds `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`, plain or as `.gz`.
        split: Which qrels; None where there is only one.
        title_separator: What stands between a document's title and its text, where it has both.
        bad: Takes the bad rows; None: any is an error.

    Raises:
        DataError: Files missing or empty; no such split; bad rows unless they are skipped.
    """
    bad = BadRows() if bad is None else bad
    corpus, queries = (_needed(folder, name) for name in ("corpus.jsonl", "queries.jsonl"))
    qrels = _qrels(folder, split)
    documents = read_json_texts(corpus, bad, title_separator)
    asked = read_json_texts(queries, bad, title_separator)
    judgements = read_qrels(qrels, bad)
    relevant = judgements.relations(documents.ids, asked.ids)
    bad.settle(folder, EXPECTED)
    if not len(relevant):
        raise bad.nothing(qrels, JUDGEMENTS)
    key = fingerprint((corpus, queries, qrels), "texts", title_separator, bad.count)
    return judged_collection(folder.resolve().name, documents, asked, relevant, key, judgements.notes, bad)


def read_json_texts(path: Path, bad: BadRows, title_separator: str = " ") -> Texts:
    """Return the texts of JSON lines with `_id`, `text` and, where there is one, `title`.

    DataError where no line holds one.
    """
    rows = TextRows(path, bad)
    for line, row in objects(path, bad):
        missing = [name for name in ("_id", "text") if name not in row]
        if missing:
            bad.add(path, line, f"no {' and no '.join(missing)}; found {shown(list(row))}")
            continue
        text = _text(row, title_separator)
        if text is None:
            bad.add(path, line, f"title {shown(row.get('title'))} and text {shown(row['text'])}; expected strings")
        else:
            rows.add(line, row["_id"], text)
    texts = rows.texts()
    if not len(texts):
        raise bad.nothing(path, EXPECTED)
    return texts


def _text(row: Mapping[str, Any], separator: str) -> str | None:
    """Return title and text as one; None where either is no string."""
    title, text = row.get("title") or "", row["text"]
    if not isinstance(title, str) or not isinstance(text, str):
        return None
    return title + separator + text if title and text else title or text


def _needed(folder: Path, name: str) -> Path:
    path = either(folder, name)
    if path is None:
        raise DataError(f"{folder} has no {name} (it holds {listed(folder)}); expected {EXPECTED}")
    return path


def _qrels(folder: Path, split: str | None) -> Path:
    inside = folder / "qrels"
    files = {
        path.name.removesuffix(".gz").removesuffix(".tsv"): path
        for path in (sorted(inside.iterdir(), reverse=True) if inside.is_dir() else ())
        if path.name.endswith((".tsv", ".tsv.gz"))
    }
    if not files:
        raise DataError(f"{folder} has no qrels/<split>.tsv; expected {EXPECTED}")
    return files[choose_split(sorted(files), split, inside)]
