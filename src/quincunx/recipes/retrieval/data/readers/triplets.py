"""Triplets of a query, a relevant document and one that is not: as texts, or as ids into a collection.

The id form is MS MARCO's `qidpidtriples`, which guide 001's training reads: query id, positive id, negative id.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quincunx.recipes.retrieval.data.collection import Collection, Relations
from quincunx.recipes.retrieval.data.readers.files import BadRows, fingerprint, shown, text_lines
from quincunx.recipes.retrieval.data.readers.pairs import read_pairs
from quincunx.recipes.retrieval.data.readers.rows import judged_collection
from quincunx.recipes.retrieval.data.readers.tsv import EXPECTED as TEXTS
from quincunx.recipes.retrieval.data.readers.tsv import read_texts
from quincunx.recipes.retrieval.data.texts import Strings, StringsBuilder

EXPECTED = "lines of query id, positive document id, negative document id, tabs between them"


def read_triplets(
    path: Path,
    *,
    corpus: Path | None = None,
    queries: Path | None = None,
    title_separator: str = " ",
    bad: BadRows | None = None,
) -> Collection:
    """Return the collection that a file of triplets is.

    Args:
        path: Rows of texts as `read_pairs` takes them, each with a negative; with `corpus` and `queries` lines of ids.
        corpus: The documents that ids name, as `read_texts` takes them.
        queries: The queries likewise.
        title_separator: As for `read_texts`.
        bad: Takes the bad rows; None: any is an error.

    Raises:
        DataError: Files missing or empty; bad rows (ids that name nothing among them) unless they are skipped.
    """
    bad = BadRows() if bad is None else bad
    if corpus is None or queries is None:
        return read_pairs(path, bad=bad, negatives=True)
    documents, asked = read_texts(corpus, bad, title_separator), read_texts(queries, bad, title_separator)
    sides = (asked.ids, documents.ids, documents.ids)
    places = _places(path, sides, bad)
    bad.settle(path, f"in {corpus.name} and {queries.name} {TEXTS}; in {path.name} {EXPECTED}")
    if not len(places):
        raise bad.nothing(path, EXPECTED)
    relevant = Relations.build(places[:, :2], len(asked))
    pairs = places[:, [0, 2]]
    false = relevant.contain(pairs)
    negatives = Relations.build(pairs[~false], len(asked), grades=np.zeros(int((~false).sum()), np.int32))
    notes: list[str] = []
    if false.any():
        notes.append(f"{path}: {int(false.sum()):,} negatives are relevant by other rows; they are left out.")
    key = fingerprint((corpus, queries, path), "triplets by id", title_separator, bad.count)
    name = path.name.removesuffix(".gz").rpartition(".")[0]
    return judged_collection(name, documents, asked, relevant, key, notes, bad, negatives)


def _places(path: Path, sides: tuple[Strings, Strings, Strings], bad: BadRows) -> np.ndarray:
    """Return the places of the ids of every sound row [T, 3]."""
    builders, numbers = [StringsBuilder() for _ in sides], list[int]()
    for number, line in text_lines(path, bad):
        columns = line.split("\t") if "\t" in line else line.split()
        if len(columns) != len(sides):
            bad.add(path, number, f"{len(columns)} columns; expected 3: query id, positive id, negative id")
            continue
        for builder, column in zip(builders, columns, strict=True):
            builder.add(column.encode())
        numbers.append(number)
    named = [builder.strings() for builder in builders]
    places = np.stack([side.indices_of(ids) for side, ids in zip(sides, named, strict=True)], axis=1)
    for at in np.flatnonzero((places < 0).any(axis=1)).tolist():
        side = int(np.flatnonzero(places[at] < 0)[0])
        what = ("query", "positive document", "negative document")[side]
        bad.add(path, numbers[at], f"unknown {what} {shown(named[side][at])}")
    return places[(places >= 0).all(axis=1)]
