from pathlib import Path

import pytest

from quincunx.errors import DataError
from quincunx.recipes.long_range.config import Data
from quincunx.recipes.long_range.data import Splits, check, load_splits
from quincunx.recipes.long_range.data.retrieval import FILE_NAMES, read_pairs, sample

Pair = tuple[object, bytes, bytes]


def load(path: Path, limit: int | None = None, **settings: object) -> Splits:
    """The splits of a folder; the settings count as set."""
    explicit = [f"data.{name}" for name in settings]
    return load_splits("retrieval", Data(path=str(path), **settings), limit, explicit)


def rows(*pairs: Pair) -> bytes:
    return b"".join(
        b"%s\tid%d\tid%d\t%s\t%s\n" % (str(label).encode(), n, n + 1, first, second)
        for n, (label, first, second) in enumerate(pairs)
    )


def good(count: int) -> list[Pair]:
    return [(f"{n % 2}.0", b"first %d" % n, b'the "second" %d' % n) for n in range(count)]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, count in zip(FILE_NAMES.values(), (12, 5, 4), strict=True):
        (tmp_path / name).write_bytes(rows(*good(count)))
    return tmp_path


def test_pairs_are_read_as_they_are(folder):
    splits = load(folder)
    assert [len(splits.of(split)) for split in ("train", "dev", "test")] == [12, 5, 4]
    assert splits.train.parts == 2
    assert splits.train.labels.tolist() == [0, 1] * 6
    for index in range(12):
        assert splits.train.symbols(index, 0).tobytes() == b"first %d" % index
        assert splits.train.symbols(index, 1).tobytes() == b'the "second" %d' % index
    assert splits.dev.tokens(4, 1).tolist() == [byte + 1 for byte in b'the "second" 4']
    assert splits.train.lengths.tolist() == [14] * 10 + [15] * 2
    assert (splits.notes, splits.skipped) == ([], [])
    assert sample(splits.test, 3) == {"text1": "first 3", "text2": 'the "second" 3'}


def test_every_byte_is_a_token_and_none_is_padding(tmp_path):
    text = bytes(byte for byte in range(256) if byte not in b"\t\n")
    path = tmp_path / "x.tsv"
    path.write_bytes(rows((1, text, b"\r")) + rows((1, text, text + b"\r")))
    examples = read_pairs(path).examples(int, "")
    assert len(examples) == 1  # nothing but a carriage return is an empty text
    assert examples.tokens(0, 0).tolist() == [byte + 1 for byte in text]
    assert examples.tokens(0, 1).tolist() == [byte + 1 for byte in text]
    assert examples.tokens(0, 0).min() == 1


@pytest.mark.parametrize("label", [b"0", b"0.0"])
def test_labels_and_line_ends_in_both_spellings(folder, label):
    path = folder / FILE_NAMES["train"]
    path.write_bytes(label + b"\ta\tb\tone\ttwo\r\n" + label.replace(b"0", b"1", 1) + b"\ta\tb\tthree\tfour")
    splits = load(folder)
    assert splits.train.labels.tolist() == [0, 1]
    assert splits.train.symbols(0, 1).tobytes() == b"two"
    assert splits.train.symbols(1, 1).tobytes() == b"four"


def test_bytes_literals_are_taken_as_they_stand_and_said(folder):
    path = folder / FILE_NAMES["train"]
    path.write_bytes(rows((1, rb"b'one\nline'", b'b"it\'s"')))
    splits = load(folder)
    assert splits.train.symbols(0, 0).tobytes() == rb"b'one\nline'"
    (note,) = splits.notes
    assert note.startswith(f"The texts of {path} are written as Python bytes literals")


def test_bad_rows_are_left_out_with_line_and_reason_and_the_others_keep_their_lines(folder):
    bad = {
        b"": "an empty row",
        b"1\ta\tb\tone text": "expected 5 columns, found 4",
        b"1\ta\tb\tone\ttwo\tthree": "expected 5 columns, found 6",
        b"2\ta\tb\tone\ttwo": "the label is '2', expected 0 or 1",
        b"\ta\tb\tone\ttwo": "the label is '', expected 0 or 1",
        b"label\tid1\tid2\ttext1\ttext2": "the label is 'label', expected 0 or 1",
        b"1\ta\tb\t \ttwo": "an empty text",
        b"1\ta\tb\tone\t": "an empty text",
    }
    path = folder / FILE_NAMES["train"]
    path.write_bytes(b"".join(rows(pair) + line + b"\n" for pair, line in zip(good(8), bad, strict=True)))
    splits = load(folder)
    assert [(row.file, row.line, row.reason) for row in splits.skipped] == [
        (str(path), 2 * place + 2, reason) for place, reason in enumerate(bad.values())
    ]
    assert [splits.place("train", index) for index in range(8)] == [f"{path}:{2 * n + 1}" for n in range(8)]
    assert splits.train.symbols(5).tobytes() == b"first 5"
    assert splits.notes == [f"{path}: 8 bad rows left out; the first: {path}:2: an empty row"]
    path.write_bytes(rows(*good(100)) + b"oops\n" * 10)
    with pytest.raises(DataError, match=r"10 of 110 rows of .*train\.tsv are bad, more than 1%(.|\n)*two texts, tabs"):
        load(folder)
    path.write_bytes(rows(*good(990)) + b"oops\n" * 10)
    assert len(load(folder).train) == 990
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"train\.tsv has no usable row; expected label \(0 or 1\), two ids"):
        load(folder)


def test_counts_and_limits_read_no_further_than_they_need(folder):
    path = folder / FILE_NAMES["train"]
    path.write_bytes(rows(*good(10)) + b"never read\n" * 50)
    splits = load(folder, train=9, dev=5)
    assert len(splits.train) == 9
    assert splits.notes == [f"{path}: the first 9 rows are used."]
    assert not splits.skipped
    limited = load(folder, limit=3)
    assert [len(limited.of(split)) for split in ("train", "dev", "test")] == [3, 3, 3]
    with pytest.raises(DataError, match=r"eval\.tsv has 5 rows, data\.dev asks for 6; lower data\.dev"):
        load(folder, train=9, dev=6)
    unset = load_splits("retrieval", Data(path=str(folder), train=9, test=6))
    assert unset.notes[-1] == f"{folder}/new_aan_pairs.test.tsv has 4 rows: all are used (data.test is unset)."


def test_other_names_that_end_in_the_splits_will_do_unless_the_public_ones_are_there(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for split, name in (("train", "x_train"), ("dev", "x-valid"), ("test", "x.test")):
        (other / f"{name}.tsv").write_bytes((folder / FILE_NAMES[split]).read_bytes())
    assert load(other).fingerprints == load(folder).fingerprints
    (other / "y_train.tsv").write_bytes(rows(*good(2)))
    with pytest.raises(DataError, match=r"x_train\.tsv and y_train\.tsv, both of which end in"):
        load(other)
    (folder / "basic_train.tsv").write_text("of another task")
    assert len(load(folder).train) == 12


def test_missing_files_are_named(folder):
    (folder / FILE_NAMES["dev"]).unlink()
    with pytest.raises(
        DataError, match=r"holds no new_aan_pairs\.eval\.tsv, but .*expected a folder with .*https://github"
    ):
        load(folder)
    with pytest.raises(DataError, match="gone does not exist; expected a folder with"):
        load(folder / "gone")
    with pytest.raises(DataError, match=r"train\.tsv is a file; expected a folder with"):
        load(folder / FILE_NAMES["train"])
    with pytest.raises(DataError, match=r"data\.path is unset; task retrieval needs a folder with"):
        load_splits("retrieval", Data())


def test_the_longer_text_of_a_pair_counts_as_its_length(folder):
    notes = check(load(folder), 2, 14, "truncate")
    assert notes == ["2 of 12 train examples are cut to 14 tokens."]
    with pytest.raises(DataError, match=r"new_aan_pairs\.train\.tsv:11 has 15 tokens, encoder\.max_seq_len is 14"):
        check(load(folder), 2, 14, "error")
