import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError, MissingExtra
from quincunx.recipes.long_range.config import Data
from quincunx.recipes.long_range.data import Splits, check, load_splits
from quincunx.recipes.long_range.data.rows import split_of
from quincunx.recipes.long_range.data.text import sample
from quincunx.recipes.long_range.data.text.assemble import in_proportion
from quincunx.recipes.long_range.data.text.classes import Classes

Row = tuple[object, str]


def load(path: Path, limit: int | None = None, **settings: object) -> Splits:
    """The splits of a folder; the settings count as set."""
    explicit = [f"data.{name}" for name in settings]
    return load_splits("text", Data(path=str(path), **settings), limit, explicit)


def texts(splits: Splits, split: str) -> list[bytes]:
    examples = splits.of(split)
    return [examples.symbols(index).tobytes() for index in range(len(examples))]


def rows_of(split: str, count: int) -> list[Row]:
    """Rows sorted by class, as class folders give them; texts with all that is awkward in some form."""
    extras = ['"quoted", with commas\nand\tlines', "ÿ grüße 😀", "x", "a\r\nb", "'", "\\n stays"]
    rows = [
        (label, f"{split} {word} {n} {extras[n % 6]}") for label, word in ((0, "neg"), (1, "pos")) for n in range(count)
    ]
    return rows  # type: ignore[return-value]


CONTENT = {"train": rows_of("train", 12), "dev": rows_of("dev", 3), "test": rows_of("test", 4)}
WORDS = ("neg", "pos")


def class_folders(folder: Path, content: dict[str, list[Row]] = CONTENT, dev: str = "dev") -> Path:
    for split, rows in content.items():
        for number, (label, text) in enumerate(rows):
            path = folder / (dev if split == "dev" else split) / WORDS[label] / f"{number:03}.txt"  # type: ignore[index]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    return folder


def table(path: Path, rows: list[Row], names: tuple[str, str] = ("text", "label"), delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow((names[1], "id", names[0]))
        writer.writerows((label, number, text) for number, (label, text) in enumerate(rows))
    return path


def json_lines(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": 1, "label": label, "text": text}) + "\n" for label, text in rows))
    return path


def saved(folder: Path, content: dict[str, list[Row]], words: bool) -> Path:
    datasets = pytest.importorskip("datasets", reason="the extra `text` is not installed")
    label = datasets.ClassLabel(names=list(WORDS)) if words else datasets.Value("int64")
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    made = {
        split: datasets.Dataset.from_dict(
            {"text": [row[1] for row in rows], "label": [row[0] for row in rows]}, features
        )
        for split, rows in content.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(folder))
    return folder


def written(folder: Path, form: str) -> Path:
    worded = {split: [(WORDS[label], text) for label, text in rows] for split, rows in CONTENT.items()}  # type: ignore
    if form == "class folders":
        class_folders(folder, dev="valid")
    for split, rows in CONTENT.items():
        if form == "csv":
            table(folder / f"{split}.csv", rows)
        elif form == "tsv":
            table(folder / f"imdb-{split}.tsv", rows, ("Review", "Sentiment"), "\t")
        elif form == "semicolons":
            table(folder / f"{split}.csv", rows, ("sentence", "class"), ";")
        elif form == "words in csv":
            table(folder / f"{split}.csv", worded[split], ("content", "target"))
        elif form == "json lines":
            json_lines(folder / f"movie_reviews_{split}.jsonl", rows)
        elif form == "words in json":
            json_lines(folder / f"{split}.json", worded[split])
    if form.startswith("saved"):
        saved(folder, CONTENT, words=form == "saved with words")
    return folder


FORMS = {
    "class folders": "class folders",
    "csv": "CSV files",
    "tsv": "TSV files",
    "semicolons": "CSV files",
    "words in csv": "CSV files",
    "json lines": "JSON lines files",
    "words in json": "JSON lines files",
    "saved": "a saved Hugging Face dataset",
    "saved with words": "a saved Hugging Face dataset",
}


# What is read


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples(tmp_path, form):
    splits = load(written(tmp_path / "data", form))
    for split, rows in CONTENT.items():
        assert texts(splits, split) == [text.encode() for _, text in rows]
        assert splits.of(split).labels.tolist() == [label for label, _ in rows]
    by_hand = load(written(tmp_path / "by hand", "json lines"))
    assert splits.fingerprints == by_hand.fingerprints
    assert not splits.skipped
    said = FORMS[form]
    assert splits.notes[0].startswith(f"Texts are read from {said}: train {tmp_path}/data/")


def test_ids_are_bytes_plus_one_and_padding_never_occurs(tmp_path):
    everything = bytes(range(256)) + b"a"
    for label in WORDS:
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(5):
            (tmp_path / "train" / label / f"{number}.txt").write_bytes(everything)
    splits = load(tmp_path, dev=2, test=2)
    assert splits.train.tokens(0).tolist() == [*range(1, 257), 98]
    assert splits.train.first_id == 1
    assert "\ufffd" in sample(splits.train, 0)["text"]


def test_samples_are_the_first_200_characters(tmp_path):
    path = json_lines(tmp_path / "train.jsonl", [(n % 2, "grüße 😀 " * 60) for n in range(10)])
    assert sample(load(path).train, 0) == {"text": ("grüße 😀 " * 60)[:200]}


def test_the_imdb_folder_works_as_it_is(tmp_path):
    class_folders(tmp_path, {split: CONTENT[split] for split in ("train", "test")})
    (tmp_path / "train" / "unsup").mkdir()
    (tmp_path / "train" / "unsup" / "0_0.txt").write_text("no label")
    (tmp_path / "train" / "urls_pos.txt").write_text("http://")
    (tmp_path / "train" / "labeledBow.feat").write_text("9 0:9")
    (tmp_path / "train" / "pos" / "notes.md").write_text("not a text")
    (tmp_path / "train" / "pos" / ".0_1.txt").write_text("hidden")
    (tmp_path / "imdb.vocab").write_text("the")
    (tmp_path / "README").write_text("read me")
    splits = load(tmp_path)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (22, 2, 8)
    assert splits.notes == [
        f"Texts are read from class folders: train {tmp_path}/train, test {tmp_path}/test.",
        "Classes are numbered in sorted order: neg = 0, pos = 1.",
        f"{tmp_path}/train: unsup/ and 3 files besides the texts left out.",
        f"{tmp_path}/train: no file holds dev examples, so 2 of its 24 are set apart as such (data.seed 0).",
    ]
    # folders are listed in sorted order, so the eleventh training example may be from either class: its file says
    for index in range(len(splits.train)):
        place = Path(splits.place("train", index))
        assert place.read_bytes() == splits.train.symbols(index).tobytes()
        assert WORDS[splits.train.labels[index]] == place.parent.name


def test_long_fields_are_read_and_the_limit_of_the_csv_module_is_left_alone(tmp_path):
    before = csv.field_size_limit()
    path = table(tmp_path / "train.csv", [(n % 2, "long " * 100_000) for n in range(10)])
    assert load(path).train.lengths.tolist() == [500_000] * 8
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_marks_line_ends_and_blank_lines_of_other_systems(tmp_path, mark, end):
    lines = [b"text,label", *[b"t%d,%d" % (n, n % 2) for n in range(10)], b"", b""]
    (tmp_path / "train.csv").write_bytes(mark + end.join(lines))
    (tmp_path / "test.jsonl").write_bytes(mark + end.join([b'{"text": "t", "label": 1}', b"", b""]))
    splits = load(tmp_path)
    assert sorted(texts(splits, "train") + texts(splits, "dev")) == [b"t%d" % n for n in range(10)]
    assert texts(splits, "test") == [b"t"]
    assert not splits.skipped


# Labels


def test_words_are_numbered_in_sorted_order_over_training(tmp_path):
    table(tmp_path / "train.csv", [("sport", "a"), ("art", "b"), ("war", "c"), ("art", "d"), ("sport", "e")])
    table(tmp_path / "dev.csv", [("war", "f")])
    table(tmp_path / "test.csv", [("sport", "g"), ("tennis", "h")])
    splits = load(tmp_path)
    assert splits.train.labels.tolist() == [1, 0, 2, 0, 1]
    assert splits.dev.labels.tolist() == [2]
    assert splits.test.labels.tolist() == [1]
    assert "Classes are numbered in sorted order: art = 0, sport = 1, war = 2." in splits.notes
    (bad,) = splits.skipped
    assert (
        str(bad) == f"{tmp_path}/test.csv:3: the label 'tennis' does not occur in training, which has art, sport, war"
    )


@pytest.mark.parametrize("labels", [["0", "1"], ["0.0", "1.0"], [False, True], [0.0, 1.0], [0, 1]])
def test_numbers_are_numbers_however_they_are_written(tmp_path, labels):
    path = json_lines(tmp_path / "train.jsonl", [(labels[n % 2], f"text {n}") for n in range(10)])
    splits = load(path)
    for split in ("train", "dev", "test"):
        assert splits.of(split).labels.tolist() == [int(text[5:]) % 2 for text in texts(splits, split)]


def test_most_labels_decide_whether_they_are_numbers_or_words():
    assert Classes.of(["0", "1", "oops"], "f").names is None
    assert Classes.of(["0", "b", "a"], "f").names == ("0", "a", "b")
    with pytest.raises(ValueError, match="the label is 'oops', expected a class number from 0 on"):
        Classes(None).number("oops")
    for wrong in (-1, 256, "-1", "0.5", "1e0", "٣", "99999999999"):
        with pytest.raises(ValueError, match="expected a class number"):
            Classes(None).number(wrong)


def test_labels_that_are_no_classes(tmp_path):
    with pytest.raises(DataError, match=r"train\.csv: every training example is of class 1; a classifier needs"):
        load(table(tmp_path / "train.csv", [(1, "a"), (1, "b")]))
    with pytest.raises(DataError, match="300 different words, expected at most 256 classes; is it the right column"):
        load(table(tmp_path / "train.csv", [(f"id{n}", "a") for n in range(300)]))
    splits = load(table(tmp_path / "train.csv", [(n % 3, "a") for n in range(30)]))
    with pytest.raises(DataError, match=r"train\.csv:\d+: the label is 2, but encoder.num_classes is 2"):
        check(splits, 2, 100, "error")


# Missing splits and counts


def numbered(path: Path, count: int) -> Path:
    return json_lines(path, [(n % 2, f"{n}") for n in range(count)])


def numbers(splits: Splits, split: str) -> list[int]:
    return [int(text) for text in texts(splits, split)]


def all_numbers(splits: Splits) -> list[int]:
    return [number for split in ("train", "dev", "test") for number in numbers(splits, split)]


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


# Saved Hugging Face datasets


def test_a_saved_dataset_without_the_package_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"needs the package datasets: pip install 'quincunx\[text\]'"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"splits": 5}', '{"splits": ["../train"]}', '{"splits": ["/etc"]}', '{"splits": [".."]}']
)
def test_a_damaged_list_of_saved_splits(tmp_path, content):
    (tmp_path / "dataset_dict.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset_dict\.json: expected the splits"):
        load(tmp_path)


def test_saved_datasets_of_one_split_or_with_others(tmp_path):
    pytest.importorskip("datasets", reason="the extra `text` is not installed")
    rows: list[Row] = [(n % 2, f"{n}") for n in range(20)]
    content = {"train": rows, "test": rows[:4], "unsupervised": [(-1, "a")]}
    several = load(saved(tmp_path / "several", content, words=True))
    assert "; unsupervised left out." in several.notes[0]
    assert f"{tmp_path}/several/train: classes are neg = 0, pos = 1." in several.notes
    one = load(tmp_path / "several" / "train")
    assert "a saved Hugging Face dataset of one split" in one.notes[0]
    assert sorted(all_numbers(one)) == list(range(20))
    number = numbers(one, "dev")[0]
    assert one.place("dev", 0) == f"{tmp_path}/several/train:{number + 1}"


def test_saved_datasets_that_cannot_be_read(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra `text` is not installed")
    folder = saved(tmp_path / "data", {"train": [(n % 2, f"{n}") for n in range(20)] + [(-1, "none")]}, words=True)
    (bad,) = load(folder).skipped
    assert (bad.file, bad.line, bad.reason) == (f"{folder}/train", 21, "a missing label")
    (arrow,) = (folder / "train").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot read the saved Hugging Face dataset"):
        load(folder)
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"a": [1], "b": [2]})}).save_to_disk(str(tmp_path / "x"))
    with pytest.raises(DataError, match=r"expected a column for the text .*; found a, b"):
        load(tmp_path / "x")


# The data of a user


def test_movie_reviews_of_the_data_folder():
    if "QUINCUNX_DATA" not in os.environ:
        pytest.skip("QUINCUNX_DATA names no data folder")
    folder = Path(os.environ["QUINCUNX_DATA"]) / "lra"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    splits = load(folder, limit=300)
    assert [len(splits.of(split)) for split in ("train", "dev", "test")] == [300, 200, 140]
    assert splits.train.labels.sum() in (149, 150, 151)
    assert splits.train.tokens(0)[:10].tolist() == [byte + 1 for byte in b"plot : two"]
    assert splits.dev.lengths[:2].tolist() == [3392, 3656]
    assert not splits.skipped
    assert check(splits, 2, 4000, "truncate")


def test_torch_is_not_imported(tmp_path):
    class_folders(tmp_path)
    code = (
        "import sys; from quincunx.recipes.long_range.config import Data\n"
        "from quincunx.recipes.long_range.data import load_splits\n"
        "load_splits('text', Data(path=sys.argv[1])); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
