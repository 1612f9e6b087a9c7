import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quincunx.errors import DataError, MissingExtra
from quincunx.recipes.long_range.data import check
from quincunx.recipes.long_range.data.text import sample
from quincunx.recipes.long_range.data.text.classes import Classes
from text_files import (
    CONTENT,
    WORDS,
    Row,
    all_numbers,
    class_folders,
    json_lines,
    load,
    numbers,
    table,
    texts,
)


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
