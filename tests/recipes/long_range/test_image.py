import os
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.long_range.config import Data
from quincunx.recipes.long_range.data import Splits, image, load_splits
from quincunx.recipes.long_range.data.image import TEST, TRAINING, grey, sample

ROWS = 20


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(image, "ROWS", ROWS)


def load(path: Path, limit: int | None = None, **settings: object) -> Splits:
    """The splits of a folder; the settings count as set."""
    explicit = [f"data.{name}" for name in settings]
    return load_splits("image", Data(path=str(path), **settings), limit, explicit)


def batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    """Colours [ROWS, 3072] and labels by batch; the first two pixels of an image are its number in all batches."""
    random = np.random.default_rng(5)
    made = {}
    for number, name in enumerate((*TRAINING, TEST)):
        data = random.integers(0, 256, (ROWS, 3 * 1024), np.uint8)
        for row in range(ROWS):
            data[row].reshape(3, 1024)[:, :2] = divmod(number * ROWS + row, 256)
        made[name] = data, random.integers(0, 10, ROWS).tolist()
    return made


def binary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, labels) in batches().items():
        table = np.concatenate([np.array(labels, np.uint8)[:, None], data], axis=1)
        (folder / f"{name}.bin").write_bytes(table.tobytes())
    (folder / "batches.meta.txt").write_text("airplane\n")
    return folder


def python(folder: Path, protocol: int = 2, as_bytes: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, labels) in batches().items():
        batch = {"batch_label": name, "labels": labels, "data": data, "filenames": ["a.png"] * ROWS}
        if as_bytes:  # as Python 2 wrote them
            batch = {key.encode(): value for key, value in batch.items()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    return folder


def numbers(splits: Splits, split: str) -> list[int]:
    examples = splits.of(split)
    return [int(examples.symbols(index)[0]) * 256 + int(examples.symbols(index)[1]) for index in range(len(examples))]


# What is read


def test_images_are_grey_row_after_row(tmp_path):
    splits = load(binary(tmp_path))
    data, labels = batches()[TEST]
    red, green, blue = data.reshape(ROWS, 3, 1024).astype(int).transpose(1, 0, 2)
    expected = (2989 * red + 5870 * green + 1140 * blue) * 511 // 5_100_000
    for index in range(ROWS):
        assert (splits.test.symbols(index) == expected[index]).all()
        assert (splits.test.tokens(index) == expected[index] + 1).all()
    assert splits.test.labels.tolist() == labels
    assert set(splits.test.lengths.tolist()) == {1024}
    assert sample(splits.test, 3) == {"image": 4}


def test_black_is_id_1_and_white_256_so_that_none_is_padding(tmp_path):
    binary(tmp_path)
    row = np.zeros((ROWS, 3073), np.uint8)
    row[:, 1:] = np.arange(1024).repeat(3).reshape(1024, 3).T.ravel() % 2 * 255
    (tmp_path / "test_batch.bin").write_bytes(row.tobytes())
    assert load(tmp_path).test.tokens(0).tolist() == [1, 256] * 512


def colours(*each: tuple[int, int, int]) -> list[int]:
    return grey(np.array(each, np.uint8)[:, :, None])[:, 0].tolist()


def test_grey_stays_as_it_is():
    assert colours(*[(value,) * 3 for value in range(256)]) == list(range(256))
    assert colours((255, 0, 0), (0, 255, 0), (0, 0, 255)) == [76, 149, 29]


def test_grey_is_the_exact_value_cut_off_at_the_edges_too():
    weights = [Fraction(2989, 10_000), Fraction(587, 1000), Fraction(114, 1000)]
    random = np.random.default_rng(0)
    chosen = random.integers(0, 256, (3000, 3)).tolist()
    # the first four lie so near a whole number that single precision misses it
    chosen += [[0, 122, 186], [3, 121, 122], [3, 254, 50], [13, 219, 204], [255, 255, 255], [0, 0, 0], [0, 0, 9]]
    exact = [sum(w * v for w, v in zip(weights, each, strict=True)) * Fraction(511, 510) for each in chosen]
    assert max(abs(value - round(value)) for value in exact[3000:3004]) < Fraction(1, 10_000)
    assert colours(*map(tuple, chosen)) == [int(value) for value in exact]


def test_grey_is_what_tensorflow_computes_in_single_precision():
    random = np.random.default_rng(1)
    chosen = random.integers(0, 256, (200_000, 3)).astype(np.uint8)
    shares = chosen.astype(np.float32) * np.float32(1 / 255)
    weighted = (shares * np.array([0.2989, 0.587, 0.114], np.float32)).sum(axis=1, dtype=np.float32)
    theirs = (weighted * np.float32(255.5)).astype(np.uint8)
    ours = grey(chosen[:, :, None])[:, 0]
    differ = np.flatnonzero(theirs != ours)
    assert len(differ) < 20
    # they differ only where the exact value is within their rounding error of a whole number
    scaled = chosen[differ].astype(int) @ np.array([2989, 5870, 1140]) * 511 % 5_100_000
    assert np.minimum(scaled, 5_100_000 - scaled).max(initial=0) < 300


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_bytes", [True, False])
def test_both_versions_give_the_same_examples(tmp_path, protocol, as_bytes):
    from_python = load(python(tmp_path / "py", protocol, as_bytes))
    from_binary = load(binary(tmp_path / "bin"))
    assert from_python.fingerprints == from_binary.fingerprints
    assert "from its Python version" in from_python.notes[0]
    assert "from its binary version" in from_binary.notes[0]


@pytest.mark.parametrize(("inner", "write"), [("cifar-10-batches-bin", binary), ("cifar-10-batches-py", python)])
def test_the_unpacked_folder_may_lie_within(tmp_path, inner, write):
    write(tmp_path / inner)
    splits = load(tmp_path)
    assert f"version in {tmp_path / inner};" in splits.notes[0]
    assert splits.fingerprints == load(tmp_path / inner).fingerprints


# Splits


def test_development_images_are_carved_by_seed_and_places_name_the_batch(tmp_path):
    splits = load(binary(tmp_path))
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (90, 10, 20)
    assert numbers(splits, "dev") == [13, 14, 22, 35, 38, 39, 49, 88, 94, 99]
    assert sorted(numbers(splits, "train") + numbers(splits, "dev")) == list(range(100))
    assert numbers(splits, "test") == list(range(100, 120))
    for split in ("train", "dev", "test"):
        for index, number in enumerate(numbers(splits, split)):
            name = (*TRAINING, TEST)[number // ROWS]
            assert splits.place(split, index) == f"{tmp_path}/{name}.bin:{number % ROWS + 1}"
            assert splits.of(split).labels[index] == batches()[name][1][number % ROWS]
    assert load(tmp_path).fingerprints == splits.fingerprints
    other = load(tmp_path, seed=1)
    assert numbers(other, "dev") != numbers(splits, "dev")
    assert numbers(other, "test") == numbers(splits, "test")
    assert splits.notes == [
        f"CIFAR-10 is read from its binary version in {tmp_path}; 10 of its 100 training images are set apart as "
        "development images (data.seed 0; the Long Range Arena takes the last tenth)."
    ]


def test_counts_are_kept_and_those_that_are_not_there_refused(tmp_path):
    splits = load(binary(tmp_path), train=30, dev=20, test=7)
    assert [len(splits.of(split)) for split in ("train", "dev", "test")] == [30, 20, 7]
    assert splits.notes[1:] == [
        f"{tmp_path} (train): the first 30 rows are used.",
        f"{tmp_path} (test): the first 7 rows are used.",
    ]
    with pytest.raises(DataError, match=r"\(train\) has 90 rows, data\.train asks for 91; lower data\.train"):
        load(tmp_path, train=91)
    with pytest.raises(DataError, match=r"cannot set 100 of 100 training examples apart as dev: set data\.dev"):
        load(tmp_path, dev=100)
    assert [len(load(tmp_path, limit=4).of(split)) for split in ("train", "dev", "test")] == [4, 4, 4]


# What is something else


def test_missing_batches_are_named(tmp_path):
    binary(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=rf"{tmp_path} lacks data_batch_3\.bin, test_batch\.bin; expected CIFAR-10 as"):
        load(tmp_path)
    python(tmp_path / "cifar-10-batches-py")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "Python version" in load(tmp_path).notes[0]  # the version that is whole
    with pytest.raises(DataError, match=r"holds no batch of CIFAR-10; expected .*https://www\.cs\.toronto\.edu"):
        load(empty)
    with pytest.raises(DataError, match="gone does not exist; expected CIFAR-10"):
        load(tmp_path / "gone")
    with pytest.raises(DataError, match=r"data_batch_1\.bin is a file; expected CIFAR-10"):
        load(tmp_path / "data_batch_1.bin")
    with pytest.raises(DataError, match=r"data\.path is unset; task image needs CIFAR-10"):
        load_splits("image", Data())


def test_files_of_another_size(tmp_path):
    path = binary(tmp_path) / "data_batch_2.bin"
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole + b"x", whole[:-3073]):
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=rf"data_batch_2\.bin has {len(content):,} bytes, expected 61,460 \(20 rows"
        ):
            load(tmp_path)


def test_labels_that_are_none(tmp_path):
    path = binary(tmp_path / "bin") / "data_batch_4.bin"
    content = bytearray(path.read_bytes())
    content[3073 * 6] = 10
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_4\.bin:7: the label is 10, expected 0 to 9"):
        load(tmp_path / "bin")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({b"labels": [0] * 19 + [10]}, r"data_batch_5:20: the label is 10, expected 0 to 9"),
        ({b"labels": [-1] * 20}, r"data_batch_5:1: the label is -1, expected 0 to 9"),
        ({b"labels": [0] * 19 + ["a"]}, r"data_batch_5:20: the label is a value of type str, expected 0 to 9"),
        ({b"labels": [0] * 19}, r"labels is a list of 19, expected a list of 20 numbers"),
        ({b"labels": None}, r"labels is missing, expected a list of 20 numbers"),
        ({b"data": np.zeros((20, 3071), np.uint8)}, r"data is uint8 \[20, 3071\], expected .* uint8 \[20, 3072\]"),
        ({b"data": np.zeros((20, 3072), np.int8)}, r"data is int8 \[20, 3072\], expected"),
        ({b"data": [[0] * 3072] * 20}, r"data is a value of type list, expected an array"),
        ({b"data": None}, r"data is missing, expected an array"),
    ],
)
def test_python_batches_that_hold_something_else(tmp_path, change, said):
    data, labels = batches()[TRAINING[4]]
    path = python(tmp_path) / TRAINING[4]
    path.write_bytes(pickle.dumps({b"data": data, b"labels": labels, **change}, 2))
    with pytest.raises(DataError, match=said) as caught:
        load(tmp_path)
    assert str(path) in str(caught.value)


class Shell:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def test_nothing_in_a_python_batch_is_run(tmp_path):
    path = python(tmp_path) / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Shell(tmp_path / "hit")}))
    with pytest.raises(DataError, match=r"data_batch_1: byte \d+ of the pickle: it asks for 'posix\.system'"):
        load(tmp_path)
    assert not (tmp_path / "hit").exists()
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="data_batch_1 holds a value of type list, expected a dictionary"):
        load(tmp_path)
