from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from quincunx.errors import DataError
from quincunx.recipes.retrieval.data import load_collection
from quincunx.recipes.retrieval.data.readers import BadRows, read_beir
from quincunx.recipes.retrieval.data.readers.files import NoSuchSplit

CORPUS = [
    {"_id": "007", "title": "Bond", "text": "a spy"},
    {"_id": "7", "title": "", "text": "seven"},
    {"_id": "²", "text": "null"},
    {"_id": "NA", "title": "only a title", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "who"}, {"_id": "q2", "text": "NA", "metadata": {}}, {"_id": "q3", "text": "other"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\t007\t2\nq1\t7\t0\nq2\t²\t1\nq2\tNA\t1\n"


def beir(folder: Path, corpus=CORPUS, queries=QUERIES, qrels: str | bytes = QRELS, split: str = "test") -> Path:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines))
    (folder / f"qrels/{split}.tsv").write_bytes(qrels if isinstance(qrels, bytes) else qrels.encode())
    return folder


def bad_rows(folder: Path) -> list[str]:
    """The lines of the error that reading gives, without what surrounds them."""
    with pytest.raises(DataError) as caught:
        read_beir(folder)
    return [line.strip().removeprefix(f"{folder}/") for line in str(caught.value).splitlines()[1:-1]]


def test_a_folder_is_read_whole(tmp_path):
    collection = read_beir(beir(tmp_path / "small"))
    assert collection.name == "small"
    assert list(collection.documents.ids) == ["007", "7", "²", "NA"]
    assert list(collection.documents.contents) == ["Bond a spy", "seven", "null", "only a title"]
    assert (list(collection.queries.ids), list(collection.queries.contents)) == (["q1", "q2"], ["who", "NA"])
    assert collection.relevant.pairs.tolist() == [[0, 0], [0, 1], [1, 2], [1, 3]]
    assert collection.relevant.grades.tolist() == [2, 0, 1, 1]
    assert collection.positives.pairs.tolist() == [[0, 0], [1, 2], [1, 3]]
    assert len(collection.negatives) == 0
    assert any("2 of 3 queries are judged" in note for note in collection.notes)


def test_reading_leaves_no_trace_beside_the_files(tmp_path):
    """Guide 001's package kept a pickle of every file, found by hashing all of it at every start."""
    folder = beir(tmp_path / "small")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    read_beir(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_separator_stands_between_title_and_text_only(tmp_path):
    documents = read_beir(beir(tmp_path), title_separator=" | ").documents
    assert list(documents.contents) == ["Bond | a spy", "seven", "null", "only a title"]


def test_packed_files_are_read(tmp_path):
    folder = beir(tmp_path)
    plain = read_beir(folder)
    for path in [*folder.glob("*.jsonl"), *folder.glob("qrels/*.tsv")]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = read_beir(folder)
    assert list(packed.documents.contents) == list(plain.documents.contents)
    assert packed.relevant.pairs.tolist() == plain.relevant.pairs.tolist()
    path = folder / "corpus.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"corpus\.jsonl\.gz is no whole gzip file"):
        read_beir(folder)
    path.write_bytes(b"{}")
    with pytest.raises(DataError, match=r"corpus\.jsonl\.gz is no whole gzip file"):
        read_beir(folder)


def test_every_bad_row_is_in_one_error(tmp_path):
    corpus = [
        *CORPUS,
        {"_id": "7", "text": "again"},
        b"\xff",
        b"{broken",
        {"text": "no id"},
        {"_id": "", "text": "empty id"},
        {"_id": 1.5, "text": "x"},
        {"_id": "t", "text": None},
        b'{"_id": "s", "text": "\\ud800"}',
        b"[1]",
    ]
    qrels = QRELS + "q1\tnowhere\t1\nnobody\t7\t1\nq1\t007\t1\nq2\t²\n\t7\t1\nq3\t7\thigh\n"
    found = bad_rows(beir(tmp_path, corpus, qrels=qrels))
    assert [line.split(": ")[0] for line in found] == [
        *(f"corpus.jsonl:{line}" for line in range(5, 14)),
        *(f"qrels/test.tsv:{line}" for line in range(6, 12)),
    ]
    reasons = "the id '7' is that of line 2", "no UTF-8", "no sound JSON", "no _id", "an empty id", "the id is 1.5"
    more = "text None", "half of a surrogate pair", "expected an object", "unknown document 'nowhere'"
    last = "unknown query 'nobody'", "graded 1, on line 2 2", "2 columns", "an empty query id", "the grade is 'high'"
    for line, reason in zip(found, (*reasons, *more, *last), strict=True):
        assert reason in line


def test_the_error_shows_as_many_as_asked_and_counts_the_rest(tmp_path):
    folder = beir(tmp_path, [*CORPUS, *(b"?" for _ in range(30))])
    with pytest.raises(DataError) as caught:
        load_collection(folder, split="test", bad_row_limit=3)
    text = str(caught.value)
    assert "30 bad rows" in text and "and 27 more" in text and text.count("corpus.jsonl:") == 3
    assert "--skip-bad-rows" in text and "corpus.jsonl with" in text


def test_skipped_rows_are_listed_and_the_first_of_two_stays(tmp_path):
    corpus = [*CORPUS, {"_id": "7", "text": "again"}, b"{"]
    folder = beir(tmp_path, corpus, qrels=QRELS + "q3\tnowhere\t1\n")
    collection = load_collection(folder, split="test", skip_bad_rows=True)
    assert [(Path(row["file"]).name, row["line"]) for row in collection.skipped] == [
        ("corpus.jsonl", 5),
        ("corpus.jsonl", 6),
        ("test.tsv", 6),
    ]
    assert all(isinstance(row["reason"], str) and row["reason"] for row in collection.skipped)
    assert collection.documents.text(collection.documents.index_of("7")) == "seven"
    assert len(collection.documents) == 4
    clean = load_collection(beir(tmp_path / "clean"), split="test", skip_bad_rows=True)
    assert clean.fingerprint == read_beir(tmp_path / "clean").fingerprint != collection.fingerprint


def test_an_unknown_document_that_is_not_relevant_is_passed_over(tmp_path):
    collection = read_beir(beir(tmp_path, qrels=QRELS + "q1\tgone\t0\nq1\t007\t2\n"))
    assert collection.relevant.pairs.tolist() == [[0, 0], [0, 1], [1, 2], [1, 3]]
    assert any("1 pairs judged not relevant name unknown texts" in note for note in collection.notes)
    assert any("1 pairs are there more than once" in note for note in collection.notes)


def test_ids_that_are_numbers_in_json_become_their_digits(tmp_path):
    collection = read_beir(beir(tmp_path, [{"_id": 12, "text": "x"}], qrels="q1\t12\t1\n"))
    assert list(collection.documents.ids) == ["12"]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("corpus.jsonl", "has no corpus.jsonl"),
        ("queries.jsonl", "has no queries.jsonl"),
        ("qrels/test.tsv", "no qrels/"),
    ],
)
def test_a_missing_file_says_what_belongs_where(tmp_path, missing, expected):
    (beir(tmp_path) / missing).unlink()
    with pytest.raises(DataError, match=expected) as caught:
        read_beir(tmp_path)
    assert "qrels/<split>.tsv with the columns query-id, corpus-id, score" in str(caught.value)


@pytest.mark.parametrize(("name", "what"), [("corpus.jsonl", "no row at all"), ("qrels/test.tsv", "no row at all")])
def test_an_empty_file_is_an_error(tmp_path, name, what):
    (beir(tmp_path) / name).write_bytes(b"")
    with pytest.raises(DataError, match=what):
        read_beir(tmp_path)


def test_nothing_usable_is_an_error_even_when_rows_are_skipped(tmp_path):
    with pytest.raises(DataError, match=r"no usable row; 2 bad:\n.*corpus.jsonl:1"):
        read_beir(beir(tmp_path, [b"?", b"?"]), bad=BadRows(skip=True))


def test_a_json_array_is_no_json_lines(tmp_path):
    with pytest.raises(DataError, match=r"corpus.jsonl:1: a JSON array; expected JSON lines"):
        read_beir(beir(tmp_path, [json.dumps(CORPUS).encode()]))


def test_splits_are_found_under_their_usual_names(tmp_path):
    folder = beir(tmp_path)
    beir(tmp_path, qrels="query-id\tcorpus-id\tscore\nq3\t7\t1\n", split="validation")
    assert list(read_beir(folder, "dev").queries.ids) == ["q3"]
    assert list(read_beir(folder, "test").queries.ids) == ["q1", "q2"]
    with pytest.raises(NoSuchSplit, match="no split train; there are: test, validation"):
        read_beir(folder, "train")
    with pytest.raises(DataError, match="holds the splits test, validation; say which"):
        read_beir(folder)


def test_the_fingerprint_follows_the_content_and_nothing_else(tmp_path):
    one = read_beir(beir(tmp_path / "one")).fingerprint
    assert read_beir(beir(tmp_path / "two")).fingerprint == one
    assert read_beir(tmp_path / "two", title_separator="\n").fingerprint != one
    assert read_beir(beir(tmp_path / "three", qrels=QRELS + "q3\t7\t1\n")).fingerprint != one


def test_scifact_as_it_comes():
    if "QUINCUNX_DATA" not in os.environ:
        pytest.skip("QUINCUNX_DATA names no folder with scifact in it")
    folder = Path(os.environ["QUINCUNX_DATA"]) / "scifact"
    train, test = (load_collection(folder, split=split) for split in ("train", "test"))
    assert (len(train.documents), len(train.queries), len(train.positives)) == (5183, 809, 919)
    assert (len(test.documents), len(test.queries), len(test.positives)) == (5183, 300, 339)
    assert not set(train.queries.ids) & set(test.queries.ids)
    first = test.queries.index_of("1")
    (document,) = test.positives.of(first)
    assert test.documents.ids[document] == "31715818"
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    assert list(test.documents.ids) == [row["_id"] for row in rows]
    assert all(test.documents.text(n) == f"{row['title']} {row['text']}" for n, row in enumerate(rows) if row["title"])
