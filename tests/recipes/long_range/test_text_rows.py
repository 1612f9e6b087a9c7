import json
from collections import Counter

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.long_range.config import Data
from quincunx.recipes.long_range.data import load_splits
from quincunx.recipes.long_range.data.rows import split_of
from quincunx.recipes.long_range.data.text.assemble import in_proportion
from text_files import Row, all_numbers, class_folders, json_lines, load, numbered, numbers, table, texts

# Missing splits and counts


def test_missing_splits_are_carved_by_seed(tmp_path):
    path = numbered(tmp_path / "all_train.jsonl", 40)
    splits = load(path)
    assert numbers(splits, "test") == [4, 30, 31, 33]
    assert numbers(splits, "dev") == [14, 15, 23, 39]
    assert sorted(all_numbers(splits)) == list(range(40))
    assert numbers(splits, "train") == sorted(numbers(splits, "train"))
    for split in ("train", "dev", "test"):
        for index, number in enumerate(numbers(splits, split)):
            assert splits.place(split, index) == f"{path}:{number + 1}"
    assert load(path).fingerprints == splits.fingerprints
    assert numbers(load(path, seed=1), "dev") != numbers(splits, "dev")
    assert splits.notes == [
        f"Texts are read from one JSON lines file: train {path}.",
        f"{path}: no file holds test examples, so 4 of its 40 are set apart as such (data.seed 0).",
        f"{path} without the examples set apart: no file holds dev examples, so 4 of its 36 are set apart as such "
        "(data.seed 0).",
    ]


def test_carved_splits_have_the_size_that_is_asked_for(tmp_path):
    numbered(tmp_path / "train.jsonl", 40)
    splits = load(tmp_path, dev=7, test=3)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (30, 7, 3)
    assert numbers(splits, "test") == numbers(load(tmp_path, dev=1, test=3), "test")
    with pytest.raises(DataError, match=r"cannot set 40 of 40 training examples apart as test: set data\.test"):
        load(tmp_path, test=40)
    with pytest.raises(
        DataError, match=r"train.jsonl without the examples set apart has 32 rows, data.train asks for 40"
    ):
        load(tmp_path, train=40)


def test_development_on_the_test_split_only_where_it_is_asked_for_and_said(tmp_path):
    numbered(tmp_path / "train.jsonl", 40)
    numbered(tmp_path / "test.jsonl", 6)
    splits = load(tmp_path, dev_from="test")
    assert numbers(splits, "dev") == numbers(splits, "test") == list(range(6))
    assert len(splits.train) == 40
    assert "the choice of a model sees the test split" in splits.notes[-1]
    assert len(load(tmp_path, dev_from="test", dev=4).dev) == 4
    assert len(load(tmp_path).dev) == 4
    numbered(tmp_path / "val.jsonl", 3)
    with_file = load(tmp_path, dev_from="test")
    assert len(with_file.dev) == 3
    assert with_file.notes[-1] == f"data.dev_from has no effect: {tmp_path}/val.jsonl holds development examples."
    assert "dev_from" not in " ".join(load(tmp_path).notes)


def test_counts_that_were_set_are_kept_and_those_that_are_not_there_refused(tmp_path):
    for split, count in (("train", 20), ("dev", 8), ("test", 9)):
        numbered(tmp_path / f"{split}.jsonl", count)
    splits = load(tmp_path, train=10, dev=8)
    assert [len(splits.of(split)) for split in ("train", "dev", "test")] == [10, 8, 9]
    assert splits.notes[1:] == [
        f"{tmp_path}/train.jsonl: 10 of 20 train examples are used, the first of each class in proportion."
    ]
    with pytest.raises(DataError, match=r"test\.jsonl has 9 rows, data\.test asks for 10; lower data\.test"):
        load(tmp_path, test=10)
    by_default = load_splits("text", Data(path=str(tmp_path), test=10))
    assert len(by_default.test) == 9
    assert by_default.notes[1:] == [f"{tmp_path}/test.jsonl has 9 rows: all are used (data.test is unset)."]
    limited = load(tmp_path, limit=2)
    assert [numbers(limited, split) for split in ("train", "dev", "test")] == [[0, 1]] * 3


def test_fewer_examples_of_a_sorted_file_have_all_classes_in_proportion(tmp_path):
    labels = [0] * 30 + [1] * 60 + [2] * 10
    path = json_lines(tmp_path / "train.jsonl", [(label, f"{n}") for n, label in enumerate(labels)])
    json_lines(tmp_path / "dev.jsonl", [(0, "a")])
    json_lines(tmp_path / "test.jsonl", [(0, "a")])
    splits = load(tmp_path, train=20)
    assert numbers(splits, "train") == [*range(6), *range(30, 42), 90, 91]
    assert splits.place("train", 6) == f"{path}:31"
    order = in_proportion(np.array(labels))
    for count in (10, 50, 99):  # every beginning is in proportion, and larger ones hold the smaller
        shares = Counter(np.array(labels)[order[:count]].tolist())
        assert all(abs(shares[label] - count * labels.count(label) / 100) <= 1 for label in range(3))


# Bad rows


def test_bad_json_rows_are_left_out_with_line_and_reason(tmp_path):
    good = [json.dumps({"text": f"{n}", "label": n % 2}).encode() for n in range(20)]
    bad = {
        b'{"text": "a"': "no sound JSON (Expecting ',' delimiter: line 1 column 13 (char 12))",
        b'["text", 1]': "['text', 1], expected an object",
        b'{"label": 1}': "an empty text",
        b'{"text": " ", "label": 1}': "an empty text",
        b'{"text": "a"}': "a missing label",
        b'{"text": 5, "label": 1}': "the text is 5, expected a string",
        b'{"text": "a", "label": [1]}': "the label is [1], expected a class number or word",
        b'{"text": "a", "label": "x"}': "the label is 'x', expected a class number from 0 on",
        b'{"text": "\xff", "label": 1}': "bytes that are no UTF-8",
    }
    lines = [line for pair in zip(good, bad, strict=False) for line in pair] + good[9:]
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n".join(lines))
    splits = load(path)
    assert [(row.line, row.reason) for row in splits.skipped] == [
        (2 * (place + 1), reason) for place, reason in enumerate(bad.values())
    ]
    assert f"{path}: 9 bad rows left out; the first: {splits.skipped[0]}" in splits.notes
    for split in ("train", "dev", "test"):
        for index, number in enumerate(numbers(splits, split)):
            line = 2 * number + 1 if number < 9 else number + 10
            assert splits.place(split, index) == f"{path}:{line}"
            assert splits.of(split).labels[index] == number % 2
    path.write_bytes(b'{"text": "\\ud800", "label": 1}\n' + b"\n".join(good))
    assert load(path).skipped[0].reason == "bytes that are no UTF-8"
    path.write_bytes(b"[" * 100_000 + b"\n" + b"\n".join(good))
    with pytest.raises(DataError, match="a JSON array, expected JSON lines"):
        load(path)
    path.write_bytes(b'{"text":' + b"[" * 100_000 + b"\n" + b"\n".join(good))
    assert "no sound JSON" in load(path).skipped[0].reason


def test_bad_csv_rows_are_left_out_with_the_line_they_start_on(tmp_path):
    lines = [
        b"label,text",
        b'0,"two',
        b'lines"',
        b"1",
        b"1,x,y",
        b'1,"open"end',
        b"1,\xff",
        b",x",
        b"1,",
        b"0,good",
        b"1,last",
    ]
    path = tmp_path / "train.csv"
    path.write_bytes(b"\n".join([*lines, *[b"1,more"] * 4]))
    splits = load(path, dev=1, test=1)
    assert [(row.line, row.reason) for row in splits.skipped] == [
        (4, "expected 2 columns, found 1"),
        (5, "expected 2 columns, found 3"),
        (6, "no sound CSV (',' expected after '\"')"),
        (7, "bytes that are no UTF-8"),
        (8, "a missing label"),
        (9, "an empty text"),
    ]
    found = {}
    for split in ("train", "dev", "test"):
        found |= {splits.place(split, index): text for index, text in enumerate(texts(splits, split))}
    assert found == {
        f"{path}:2": b"two\nlines",
        f"{path}:10": b"good",
        f"{path}:11": b"last",
        **{f"{path}:{line}": b"more" for line in range(12, 16)},
    }


def test_an_open_quote_at_the_end_is_a_bad_row(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("text,label\n" + "a,0\nb,1\n" * 10 + '"never closed,1\nx,0\n')
    splits = load(path)
    assert [(row.line, row.reason) for row in splits.skipped] == [(22, "no sound CSV (unexpected end of data)")]


def test_empty_texts_in_class_folders_are_bad_rows(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "test" / "pos" / "empty.txt").write_bytes(b" \n")
    (row,) = load(tmp_path).skipped
    assert (row.file, row.reason) == (f"{tmp_path}/test/pos/empty.txt", "an empty text")


def test_many_bad_rows_are_an_error_that_shows_five(tmp_path):
    rows: list[Row] = [(n % 2, f"{n}") for n in range(990)]
    path = json_lines(tmp_path / "train.jsonl", rows + [(0, "")] * 10)
    assert len(load(path).skipped) == 10
    json_lines(path, rows[:900] + [(0, "")] * 10)
    with pytest.raises(DataError) as caught:
        load(path)
    text = str(caught.value)
    assert f"10 of 910 rows of {path} are bad, more than 1%; the first:" in text
    assert [f":{line}: an empty text" in text for line in range(901, 907)] == [True] * 5 + [False]
    assert text.endswith("Expected a text and its label.")


def test_a_bad_row_does_not_make_a_count_too_large(tmp_path):
    for split in ("train", "dev", "test"):
        json_lines(tmp_path / f"{split}.jsonl", [*[(n % 2, f"{n}") for n in range(9)], (0, "")])
    assert len(load(tmp_path, train=10).train) == 9
    with pytest.raises(DataError, match=r"has 10 rows, data\.train asks for 11"):
        load(tmp_path, train=11)


# What is something else


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["train.csv", "imdb-train.jsonl", "test.csv"],
            "imdb-train.jsonl and train.csv, both of which end in .* train",
        ),
        (["train.csv", "dev.csv", "validation.csv"], "dev.csv and validation.csv, both"),
        (["test.csv", "dev.csv"], "holds no training split, but dev.csv, test.csv"),
        (["latest.csv", "contest.jsonl", "notes.txt"], "holds contest.jsonl, latest.csv, notes.txt; expected class"),
        ([], "holds nothing; expected class folders"),
        (["train.parquet"], r"holds train\.parquet; expected .*aclImdb"),
    ],
)
def test_folders_that_are_something_else(tmp_path, names, said):
    for name in names:
        table(tmp_path / name, [(0, "a"), (1, "b")])
    with pytest.raises(DataError, match=said):
        load(tmp_path)


def test_two_forms_in_one_folder_are_refused(tmp_path):
    table(class_folders(tmp_path) / "train.csv", [(0, "a")])
    with pytest.raises(DataError, match="holds class folders and CSV files; keep one of them"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "found an empty file"),
        (b"a,b\n1,2\n", r"train\.csv:1: expected a header with a column for the text \(text, .*found 'a,b'"),
        (b"text,label\n", r"train\.csv has no usable row; expected a text and its label"),
        (b"text,label\n,1\n", r"no usable row:\n  .*train\.csv:2: an empty text"),
        (bytes(range(256)) * 40, "expected a header"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, said):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        load(path)


def test_paths_that_are_nothing(tmp_path):
    with pytest.raises(DataError, match=r"gone does not exist; expected .*https://ai\.stanford\.edu/~amaas"):
        load(tmp_path / "gone")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.zip ends in none of \.csv, \.tsv, \.jsonl"):
        load(tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"data\.path is unset; task text needs class folders"):
        load_splits("text", Data())


def test_names_of_splits_are_words_of_their_own():
    assert [split_of(name) for name in ("train", "a-VAL", "x_test2", "new.eval", "x.testing")] == [
        "train", "dev", "test", "dev", "test"]  # fmt: skip
    assert [split_of(name) for name in ("latest", "retrain", "train_old", "", "12")] == [None] * 5
