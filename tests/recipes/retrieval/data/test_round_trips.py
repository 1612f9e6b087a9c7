"""Ids and texts come out of every text format as they went in, whatever they are."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quincunx.recipes.retrieval.data import Collection
from quincunx.recipes.retrieval.data.readers import read_beir, read_pairs, read_triplets, read_tsv

PLAIN = ["007", "7", "²", "NA", "null", "nan", '"', "'", "\\N", "16777217", "1e5", "\x00"]
AWKWARD = [*PLAIN, "\ufeff", "\u2028", "\x85", "\x0c"]


def strings(without: str, smallest: int = 1) -> st.SearchStrategy[str]:
    """Any text but for the characters that a format cannot hold."""
    free = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=without), min_size=smallest)
    return st.one_of(st.sampled_from(AWKWARD), free)


ANY = strings("")
LINE = strings("\n\r", 0)
FIELD = strings("\t\n\r")
ID = FIELD.filter(lambda text: not text.startswith("\ufeff"))
"""A byte order mark before the first line is none of its id."""
SOUND = st.one_of(st.sampled_from(PLAIN), ANY.filter(str.strip))
FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def tables(ids: st.SearchStrategy[str], texts: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(ids, texts, min_size=1, max_size=6)


@st.composite
def judged(draw, ids, texts) -> tuple[dict[str, str], dict[str, str], dict[tuple[str, str], int]]:
    """Documents, queries, and a grade of some pairs; every query has one."""
    documents, queries = draw(tables(ids, texts)), draw(tables(ids, texts))
    pairs = st.tuples(st.sampled_from(list(queries)), st.sampled_from(list(documents)))
    grades = draw(st.dictionaries(pairs, st.integers(-2, 3), max_size=8))
    for query in queries:
        grades.setdefault((query, next(iter(documents))), 1)
    return documents, queries, grades


def content(collection: Collection) -> tuple[dict[str, str], dict[str, str], dict[tuple[str, str], int]]:
    documents, queries = collection.documents, collection.queries
    grades = {
        (queries.ids[query], documents.ids[document]): grade
        for (query, document), grade in zip(
            collection.relevant.pairs.tolist(), collection.relevant.grades.tolist(), strict=True
        )
    }
    return (
        dict(zip(documents.ids, documents.contents, strict=True)),
        dict(zip(queries.ids, queries.contents, strict=True)),
        grades,
    )


def write(path: Path, text: str, packed: bool = False) -> Path:
    path = path.with_name(path.name + ".gz") if packed else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 1) if packed else text.encode())
    return path


@FILE
@given(judged(FIELD, ANY), st.booleans())
def test_beir(tmp_path, whole, packed):
    documents, queries, grades = whole
    for name, rows in (("corpus", documents), ("queries", queries)):
        lines = (json.dumps({"_id": key, "text": text}, ensure_ascii=packed) + "\n" for key, text in rows.items())
        path = write(tmp_path / str(packed) / f"{name}.jsonl", "".join(lines), packed)
    lines = (f"{query}\t{document}\t{grade}\n" for (query, document), grade in grades.items())
    write(path.parent / "qrels/test.tsv", "query-id\tcorpus-id\tscore\n" + "".join(lines), packed)
    assert content(read_beir(path.parent)) == whole


@FILE
@given(
    judged(ID, LINE),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_tsv(tmp_path, whole, packed, end):
    documents, queries, grades = whole
    parts = [
        write(tmp_path / f"{name}.tsv", "".join(f"{key}\t{text}{end}" for key, text in rows.items()), packed)
        for name, rows in (("collection", documents), ("queries", queries))
    ]
    lines = (f"{query}\t0\t{document}\t{grade}{end}" for (query, document), grade in grades.items())
    # a query called as BEIR's header is would make the first line one
    qrels = write(tmp_path / "qrels.tsv", "query-id\tcorpus-id\tscore\n" + "".join(lines), packed)
    assert content(read_tsv(*parts, qrels)) == whole


def rows_of(collection: Collection) -> set[tuple[str, str]]:
    pairs = collection.positives.pairs.tolist()
    return {(collection.queries.text(query), collection.documents.text(document)) for query, document in pairs}


PAIRS = st.lists(st.tuples(SOUND, SOUND), min_size=1, max_size=6)


@FILE
@given(PAIRS)
def test_pairs_as_json_lines(tmp_path, pairs):
    lines = "".join(json.dumps({"query": query, "pos": [document]}) + "\n" for query, document in pairs)
    assert rows_of(read_pairs(write(tmp_path / "rows.jsonl", lines))) == set(pairs)


@FILE
@given(PAIRS)
def test_pairs_as_csv(tmp_path, pairs):
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("query", "document"), *pairs])
    assert rows_of(read_pairs(tmp_path / "rows.csv")) == set(pairs)


@FILE
@given(st.lists(st.tuples(*[FIELD.filter(str.strip)] * 3), min_size=1, max_size=6))
def test_triplets_as_tsv(tmp_path, triplets):
    lines = "".join("\t".join(row) + "\n" for row in [("query", "positive", "negative"), *triplets])
    collection = read_triplets(write(tmp_path / "rows.tsv", lines))
    assert rows_of(collection) == {row[:2] for row in triplets}
    found = collection.negatives.pairs.tolist()
    negatives = {(collection.queries.text(query), collection.documents.text(document)) for query, document in found}
    assert negatives == {(row[0], row[2]) for row in triplets} - rows_of(collection)


@pytest.mark.parametrize("packed", [False, True])
def test_a_text_of_many_megabytes_is_one_text(tmp_path, packed):
    long = "wort " * 600_000
    path = write(tmp_path / "rows.jsonl", json.dumps({"query": "q", "positive": long}) + "\n", packed)
    assert rows_of(read_pairs(path)) == {("q", long)}
