"""Judgements in lines: BEIR's three columns with a header, and TREC's and guide 001's four without."""

from __future__ import annotations

from pathlib import Path

from quincunx.recipes.retrieval.data.readers.files import BadRows, text_lines
from quincunx.recipes.retrieval.data.readers.rows import Judgements

EXPECTED = (
    "lines of query id, document id, grade (BEIR, a header before them) or query id, 0, document id, grade (TREC), "
    "tabs between them"
)
_HEADER = ("query-id", "query_id", "queryid", "qid", "topic")


def read_qrels(path: Path, bad: BadRows) -> Judgements:
    """Return the judgements of a file; rows that are none are added to the bad ones.

    Columns are parted by tabs; in a line without a tab by white space, as TREC's tools do.
    """
    judgements = Judgements(path, bad)
    for number, line in text_lines(path, bad):
        columns = line.split("\t") if "\t" in line else line.split()
        if number == 1 and columns and columns[0].strip().lower() in _HEADER:
            continue
        if len(columns) not in (3, 4):
            bad.add(path, number, f"{len(columns)} columns; expected 3 (query, document, grade) or 4 (with TREC's 0)")
        else:
            judgements.add(number, columns[0], columns[-2], columns[-1])
    return judgements
