"""Going through a corpus: shards begin where they should, repeated ids are found, another corpus is another."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.retrieval.data import survey as module
from quincunx.recipes.retrieval.data.readers.files import BadRows
from quincunx.recipes.retrieval.data.stream import CorpusStream, Mark, add_content, content_hasher
from quincunx.recipes.retrieval.data.survey import Survey, survey


def write(path: Path, rows: list[tuple[str, str]]) -> CorpusStream:
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in rows))
    return CorpusStream(path)


def surveyed(stream: CorpusStream, size: int = 4, *, skip: bool = False) -> tuple[Survey, BadRows]:
    bad = BadRows(skip=skip)
    return survey(stream, size, bad), bad


def ids_by_shard(stream: CorpusStream, found: Survey) -> list[list[str]]:
    """Return the ids of each shard, read from its mark on, and hold their hashes to those noted."""
    left_out = {(file, line) for file, line in found.corpus["left_out"]}
    result: list[list[str]] = []
    for part in found.parts:
        rows = list(islice(stream.rows(BadRows(skip=True), Mark(*part.mark), left_out), part.rows))
        hasher = content_hasher()
        for row in rows:
            add_content(hasher, row)
        assert hasher.hexdigest() == part.content
        result.append([row.id for row in rows])
    return result


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_every_row_is_in_one_shard(tmp_path: Path, count: int):
    stream = write(tmp_path / "c.jsonl", [(f"d{n}", f"text {n}") for n in range(count)])
    found, _ = surveyed(stream)
    shards = ids_by_shard(stream, found)
    assert [name for shard in shards for name in shard] == [f"d{n}" for n in range(count)]
    assert [len(shard) for shard in shards] == [4] * (count // 4) + [count % 4] * bool(count % 4)
    assert found.corpus["rows"] == count and found.corpus["name"] == "c.jsonl"


def test_repeated_ids_are_bad_rows_that_name_the_first(tmp_path: Path):
    stream = write(tmp_path / "c.jsonl", [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5"), ("a", "6")])
    with pytest.raises(DataError, match=r"3 bad rows(.|\n)*c.jsonl:3: the id 'a' is that of line 1(.|\n)*--skip-bad"):
        surveyed(stream)
    found, bad = surveyed(stream, 2, skip=True)
    assert ids_by_shard(stream, found) == [["a", "b"], ["c"]]
    assert bad.count == 3 and found.corpus["skipped"] == 3


def test_repeats_are_found_whichever_part_of_the_hashes_they_are_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COMPARED", 7)
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    names = [f"d{n}" for n in range(100)]
    again = np.random.default_rng(0).choice(100, 10, replace=False).tolist()
    stream = write(tmp_path / "c.jsonl", [(name, "x") for name in [*names, *(names[n] for n in again)]])
    found, bad = surveyed(stream, skip=True)
    assert [row["line"] for row in bad.listed] == list(range(101, 111))
    assert [name for shard in ids_by_shard(stream, found) for name in shard] == names


def test_an_empty_corpus_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="no row at all"):
        surveyed(write(tmp_path / "c.jsonl", []))
    (tmp_path / "bad.jsonl").write_text("nothing\n")
    with pytest.raises(DataError, match=r"no usable row; 1 bad(.|\n)*bad.jsonl:1"):
        surveyed(CorpusStream(tmp_path / "bad.jsonl"), skip=True)


def test_bad_rows_are_listed_before_anything_else_happens(tmp_path: Path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"_id": "a", "text": "b"}\nx\n{"_id": "a"}\n')
    with pytest.raises(DataError, match=r"2 bad rows:\n.*c.jsonl:2: no sound JSON(.|\n)*c.jsonl:3: no text"):
        surveyed(CorpusStream(path))


def test_the_fingerprint_follows_ids_and_texts_and_nothing_else(tmp_path: Path):
    rows = [("a", "bc"), ("d", "e")]
    same = write(tmp_path / "one.jsonl", rows)
    other = tmp_path / "two.tsv"
    other.write_text("a\tbc\n\nd\te\n")
    prints = [surveyed(stream)[0].corpus["fingerprint"] for stream in (same, CorpusStream(other))]
    assert prints[0] == prints[1]
    for changed in ([("ab", "c"), ("d", "e")], [("a", "bc")], [("d", "e"), ("a", "bc")], [("a", "bc"), ("d", "f")]):
        assert surveyed(write(tmp_path / "x.jsonl", changed))[0].corpus["fingerprint"] != prints[0]
