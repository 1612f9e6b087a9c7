"""A corpus read a row at a time: the same rows from any mark on, in every form, and bad rows at their place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data.load import load_collection
from quincunx.recipes.retrieval.data.readers.files import BadRows
from quincunx.recipes.retrieval.data.rows_of_text import LONGEST, SHORTEST
from quincunx.recipes.retrieval.data.stream import CorpusStream, Row


def rows_of(path: Path, format: str = "auto", bad: BadRows | None = None) -> list[Row]:
    return list(CorpusStream(path, format).rows(bad or BadRows()))


def pairs(path: Path, format: str = "auto") -> list[tuple[str, str]]:
    return [(row.id, row.text) for row in rows_of(path, format)]


def test_json_lines_are_read_as_a_collection_reads_them(tmp_path: Path):
    lines = [
        {"_id": "007", "title": "A title", "text": "and text"},
        {"_id": 7, "text": "a\u2028b"},
        {"_id": "²", "title": None, "text": ""},
        {"_id": "n", "title": "only", "text": ""},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(line) for line in lines) + "\n   \n"
    (tmp_path / "corpus.jsonl").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "x"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t007\t1\n")
    found = pairs(tmp_path)
    documents = load_collection(tmp_path).documents
    assert found == [(documents.ids[n], documents.text(n)) for n in range(len(documents))]
    assert found[0] == ("007", "A title and text")


def test_lines_with_a_tab_have_no_header_no_quotes_and_no_missing_values(tmp_path: Path):
    text = '1\t"a\tb\r\n2\tNA\n\n3\t\n'
    path = tmp_path / "collection.tsv"
    path.write_text(text, newline="")
    assert pairs(tmp_path) == pairs(path) == [("1", '"a\tb'), ("2", "NA"), ("3", "")]


@pytest.mark.parametrize("form", ["jsonl", "tsv"])
@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text("aé\u2028x", max_size=4), min_size=1, max_size=9))
def test_reading_goes_on_at_any_mark_forwards_and_backwards(tmp_path: Path, form: str, packed: bool, texts: list[str]):
    lines = [
        json.dumps({"_id": f"d{n}", "text": text}, ensure_ascii=False) if form == "jsonl" else f"d{n}\t{text}"
        for n, text in enumerate(texts)
    ]
    content = ("\n" + "\r\n\n".join(lines)).encode()
    path = tmp_path / f"corpus.{form}{'.gz' * packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    stream = CorpusStream(path)
    whole = list(stream.rows(BadRows()))
    assert [row.text for row in whole] == texts
    for start in (*range(len(whole)), *reversed(range(len(whole)))):
        assert list(stream.rows(BadRows(), whole[start].mark)) == whole[start:]


def test_a_packed_corpus_that_goes_forward_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "corpus.jsonl.gz"
    lines = [json.dumps({"_id": str(n), "text": "x" * 50}) for n in range(3000)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    rewinds: list[int] = []
    original = gzip._GzipReader._rewind
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda self: (rewinds.append(1), original(self))[1])
    stream = CorpusStream(path)
    marks = [row.mark for row in stream.rows(BadRows())][::500]
    before = len(rewinds)
    for mark in marks:
        next(stream.rows(BadRows(), mark))
    assert len(rewinds) - before <= 1


BAD = {
    "no sound JSON": b'{"_id": "a"',
    "expected an object": b"[1]",
    "no text; found": b'{"_id": "a"}',
    "no _id; found": b'{"text": "a"}',
    "expected a string": b'{"_id": 1.5, "text": "a"}',
    "an empty id": b'{"_id": "", "text": "a"}',
    "expected strings": b'{"_id": "a", "text": 3}',
    "no UTF-8": b'{"_id": "a", "text": "\xff"}',
    "surrogate pair": b'{"_id": "a", "text": "\\ud800"}',
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_noted_at_its_place_and_the_others_are_read(tmp_path: Path, reason: str):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"_id": "one", "text": "1"}\n' + BAD[reason] + b'\n{"id": "two", "text": "2"}\n')
    bad = BadRows()
    assert [row.id for row in rows_of(path, bad=bad)] == ["one", "two"]
    (row,) = bad.listed
    assert (row["file"], row["line"]) == (str(path), 2)
    assert reason in row["reason"]


@pytest.mark.parametrize(("line", "reason"), [(b"no tab", "no tab"), (b"\tx", "an empty id"), (b"a\t\xff", "no UTF-8")])
def test_bad_lines_of_tab_separated_files(tmp_path: Path, line: bytes, reason: str):
    path = tmp_path / "c.tsv"
    path.write_bytes(b"a\tb\n" + line + b"\n")
    bad = BadRows()
    assert len(rows_of(path, bad=bad)) == 1
    assert reason in bad.listed[0]["reason"]


def test_text_files_become_passages_named_by_file_and_line(tmp_path: Path):
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.txt").write_text("not this")
    (folder / "picture.png").write_bytes(b"\x89PNG\0\xff")
    (folder / "empty.txt").write_text("\n \n")
    long = "word " * 300  # one line of 1,500 letters
    short = "a paragraph.\n" * (SHORTEST // 13 + 1)
    (folder / "a.md").write_text(f"\n# Title\n\n{short}\nNext.\n\nLast.\n")
    (folder / "deep" / "b.txt").write_text(f"begin\n{long}\nend\n")
    stream = CorpusStream(folder)
    rows = list(stream.rows(BadRows()))
    assert [row.id for row in rows] == [
        "a.md:2",
        "a.md:36",
        "deep/b.txt:1",
        "deep/b.txt:2",
        "deep/b.txt:2.2",
        "deep/b.txt:3",
    ]
    assert rows[0].text == f"# Title\n\n{short.rstrip()}"
    assert rows[1].text == "Next.\n\nLast."
    assert all(len(row.text) <= LONGEST for row in rows)
    assert " ".join(row.text for row in rows[3:5]) == long.strip()
    assert stream.notes == [f"{folder}: 2 of 4 files are empty or no text in UTF-8, and are left out."]
    for start in (*range(len(rows)), *reversed(range(len(rows)))):
        assert list(stream.rows(BadRows(), rows[start].mark)) == rows[start:]


def test_a_text_without_any_space_is_cut_all_the_same(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("文" * (2 * LONGEST + 5))
    assert [len(row.text) for row in rows_of(path)] == [LONGEST, LONGEST, 5]


def test_what_is_no_corpus_is_said(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        CorpusStream(tmp_path / "none")
    with pytest.raises(DataError, match="holds no text file"):
        CorpusStream(tmp_path)
    with pytest.raises(UsageError, match="no format 'csv'"):
        CorpusStream(tmp_path, "csv")
    with pytest.raises(DataError, match=r"no corpus.jsonl"):
        CorpusStream(tmp_path, "jsonl")
    (tmp_path / "a.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match="no text file"):
        CorpusStream(tmp_path / "a.bin")
    (tmp_path / "a.json").write_text('[{"_id": 1}]')
    with pytest.raises(DataError, match="JSON array"):
        rows_of(tmp_path / "a.json")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a", "text": "b"}\n' * 999)[:-20])
    with pytest.raises(DataError, match="no whole gzip file"):
        rows_of(tmp_path / "cut.jsonl.gz")
