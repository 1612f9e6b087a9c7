"""CIFAR-10 in grey, pixel by pixel, from the binary or the Python version that its authors publish.

Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; in grey as in the Long Range Arena (Tay
et al. 2021, arXiv 2011.04006). N images.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.data.plain_pickle import read_plain_pickle
from quincunx.errors import DataError
from quincunx.recipes.long_range.data.examples import Examples
from quincunx.recipes.long_range.data.splits import DataSettings, Place, Progress, Splits, carve, counted

SIDE = 32
PIXELS = SIDE * SIDE
CLASSES = 10
ROWS = 10_000
"""Images in a batch file."""
TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
EXPECTED = (
    "CIFAR-10 as https://www.cs.toronto.edu/~kriz/cifar.html has it, unpacked: its binary version (data_batch_1.bin to "
    "data_batch_5.bin and test_batch.bin, in cifar-10-batches-bin) or its Python version (data_batch_1 to data_batch_5 "
    "and test_batch, in cifar-10-batches-py)"
)

_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_CARVED_SHARE = 10
"""A tenth of the training images are development images, as many as the Long Range Arena takes."""


def load(
    data: DataSettings,
    limit: int | None = None,
    explicit: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Splits:
    """Return the splits that the `data` section describes; see `splits.load_splits`.

    Development images are set apart from the 50,000 training images by `data.seed`.

    Raises:
        DataError: Files missing, of another size or content, or fewer images than a count that was set.
    """
    if data.path is None:
        raise DataError(f"data.path is unset; task image needs {EXPECTED}")
    folder, suffix = _find(Path(data.path).expanduser())
    read = _binary if suffix else _python
    try:
        batches = (read(folder / f"{name}{suffix}") for name in (*TRAINING, TEST))  # one at a time in memory
        examples = [Examples.of_images(grey(colours), labels) for colours, labels in batches]
    except OSError as error:
        raise DataError(f"cannot read {error.filename or folder}: {error.strerror or error}") from None
    whole = Examples.join(examples[:-1])
    count = data.dev or len(whole) // _CARVED_SHARE
    train, dev, rest, chosen = carve(whole, count, data.seed, "dev")
    version = "binary" if suffix else "Python"
    notes = [
        f"CIFAR-10 is read from its {version} version in {folder}; {count:,} of its {len(whole):,} training images are "
        f"set apart as development images (data.seed {data.seed}; the Long Range Arena takes the last tenth)."
    ]
    splits = {"train": train, "dev": dev, "test": examples[-1]}
    for split, wanted in (("train", data.train), ("dev", data.dev), ("test", data.test)):
        used, note = counted(len(splits[split]), split, wanted, limit, explicit, f"{folder} ({split})")
        splits[split] = splits[split].take(used)
        notes += [note] if note else []

    def trained(indices: NDArray[np.int64]) -> Place:
        return lambda index: _place(folder / f"{TRAINING[int(indices[index]) // ROWS]}{suffix}", indices[index] % ROWS)

    places = {
        "train": trained(rest),
        "dev": trained(chosen),
        "test": lambda index: _place(folder / f"{TEST}{suffix}", index),
    }
    return Splits(splits["train"], splits["dev"], splits["test"], notes, places=places)


def grey(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images in grey: 0.2989 R + 0.587 G + 0.114 B as TensorFlow rounds it, so that grey stays as it is.

    TensorFlow's `rgb_to_grayscale`, which the Long Range Arena uses, takes 8-bit colours as shares of 255 and returns
    the whole part of 255.5 times the weighted sum. Here in whole numbers, so that nothing depends on rounding.

    Args:
        colours: Red, green and blue [N, 3, pixels].

    Returns:
        Grey values [N, pixels].
    """
    red, green, blue = (colours[:, channel].astype(np.int32) for channel in range(3))
    return ((2989 * red + 5870 * green + 1140 * blue) * 511 // (255 * 2 * 10_000)).astype(np.uint8)


def sample(examples: Examples, index: int) -> dict[str, int]:
    """Return what a report shows of an image: its number, counted from 1."""
    return {"image": index + 1}


def _find(path: Path) -> tuple[Path, str]:
    """Return the folder that holds all batches and their suffix: `.bin`, or none for the Python version."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise DataError(f"data.path: {path} {what}; expected {EXPECTED}")
    lacking: list[str] = []
    for folder in (path / name for name in _FOLDERS):
        for suffix in (".bin", ""):
            names = [f"{name}{suffix}" for name in (*TRAINING, TEST)]
            missing = [name for name in names if not (folder / name).is_file()]
            if not missing:
                return folder, suffix
            if len(missing) < len(names):
                lacking.append(f"{folder} lacks {', '.join(missing)}")
    found = "; ".join(lacking) or f"{path} holds no batch of CIFAR-10"
    raise DataError(f"data.path: {found}; expected {EXPECTED}")


def _binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return colours [N, 3, pixels] and labels [N]: a row is the label, then all red, all green and all blue values."""
    content = np.fromfile(path, np.uint8)
    row = 1 + 3 * PIXELS
    if len(content) != ROWS * row:
        raise DataError(
            f"{path} has {len(content):,} bytes, expected {ROWS * row:,} ({ROWS:,} rows of {row:,}: the label and 3 "
            f"times {PIXELS:,} values); copy or unpack it again"
        )
    table = content.reshape(ROWS, row)
    return table[:, 1:].reshape(ROWS, 3, PIXELS), _checked(path, table[:, 0].copy())


def _python(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return colours [N, 3, pixels] and labels [N] of a pickled dictionary, whose keys Python 2 wrote as bytes."""
    batch = read_plain_pickle(path)
    if not isinstance(batch, Mapping):
        raise DataError(
            f"{path} holds a value of type {type(batch).__name__}, expected a dictionary of data and labels"
        )
    data, labels = (_entry(batch, key) for key in ("data", "labels"))
    shape = (ROWS, 3 * PIXELS)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != shape:
        found = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else _kind(data)
        raise DataError(f"{path}: data is {found}, expected an array of uint8 {list(shape)}")
    if not isinstance(labels, list) or len(labels) != ROWS:
        found = f"a list of {len(labels):,}" if isinstance(labels, list) else _kind(labels)
        raise DataError(f"{path}: labels is {found}, expected a list of {ROWS:,} numbers")
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < CLASSES:
            shown = label if type(label) is int else _kind(label)
            raise DataError(f"{_place(path, index)}: the label is {shown}, expected 0 to {CLASSES - 1}")
    return data.reshape(ROWS, 3, PIXELS), np.array(labels, np.uint8)


def _entry(batch: Mapping[Any, Any], key: str) -> Any:
    return batch.get(key.encode(), batch.get(key))


def _kind(value: object) -> str:
    return "missing" if value is None else f"a value of type {type(value).__name__}"


def _checked(path: Path, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    wrong = np.flatnonzero(labels >= CLASSES)
    if len(wrong):
        label = labels[wrong[0]]
        raise DataError(f"{_place(path, wrong[0])}: the label is {label}, expected 0 to {CLASSES - 1}")
    return labels


def _place(path: Path, index: int | np.integer) -> str:
    return f"{path}:{int(index) + 1}"
