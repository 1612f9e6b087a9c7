"""The files of detected regions: tab-separated lines, arrays in base64, as LXMERT keeps them, and VL-T5's HDF5.

R regions of a picture, F width.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError, MissingExtra

COLUMNS = (
    "img_id",
    "img_h",
    "img_w",
    "objects_id",
    "objects_conf",
    "attrs_id",
    "attrs_conf",
    "num_boxes",
    "boxes",
    "features",
)
"""The columns of a tab-separated line, in order."""
EXTRA = "vision_language"
"""The extra of ours that brings h5py."""


@dataclass(frozen=True)
class Detected:
    """What was detected in a picture: R regions."""

    where: str
    """Its place in its file."""
    id: str
    width: int
    height: int
    boxes: NDArray[np.floating[Any]]
    """`[R, 4]`, in pixels."""
    objects: Sequence[int]
    """Number of each region's class."""
    attributes: Sequence[int]
    scores: Sequence[float]
    features: Callable[[], NDArray[np.floating[Any]]]
    """Returns `[R, F]`: the larger part, read when it is asked for."""


class _Line(NamedTuple):
    """A line that has as many fields as there are columns."""

    fields: Sequence[str]
    where: str

    def whole(self, column: str) -> int:
        """Return a field that is a whole number above 0."""
        value = self.fields[COLUMNS.index(column)]
        if not value.strip().isdigit() or not int(value):
            raise DataError(f"{self.where}: {column}: {value[:40]!r}; expected a whole number above 0")
        return int(value)

    def array(self, column: str, kind: str, count: int) -> NDArray[Any]:
        """Return a field that is an array in base64, of so many numbers a region."""
        try:
            content = base64.b64decode(self.fields[COLUMNS.index(column)], validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{self.where}: {column}: no base64 ({error})") from None
        regions = self.whole("num_boxes")
        unit = regions * np.dtype(kind).itemsize
        if not content or len(content) % unit or (count and len(content) != count * unit):
            expected = f"{count * unit:,}" if count else f"a multiple of {unit}"
            raise DataError(f"{self.where}: {column}: {len(content):,} bytes; expected {expected}")
        return np.frombuffer(content, np.dtype(kind).newbyteorder("<")).reshape(regions, -1)

    def features(self) -> NDArray[np.floating[Any]]:
        """Return the features `[R, F]`."""
        return self.array("features", "f4", 0)


def tab_separated(path: Path) -> Iterator[Detected]:
    """Yield what was detected in the picture of each line; DataError says which line is wrong."""
    try:
        with path.open(encoding="ascii", newline="\n") as file:
            for number, text in enumerate(file, start=1):
                fields = text.rstrip("\r\n").split("\t")
                if len(fields) != len(COLUMNS):
                    expected = f"{len(COLUMNS)}: {', '.join(COLUMNS)}"
                    raise DataError(f"{path}:{number}: {len(fields)} fields; expected {expected}")
                line = _Line(fields, f"{path}:{number}")
                yield Detected(
                    line.where,
                    fields[0],
                    line.whole("img_w"),
                    line.whole("img_h"),
                    line.array("boxes", "f4", 4),
                    line.array("objects_id", "i8", 1).ravel().tolist(),
                    line.array("attrs_id", "i8", 1).ravel().tolist(),
                    line.array("objects_conf", "f4", 1).ravel().tolist(),
                    line.features,
                )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text file of tab-separated values") from None


def hdf5(path: Path) -> Iterator[Detected]:
    """Yield what was detected in the picture of each group: `boxes`, `features`, `img_w`, `img_h`, `obj_id`, `attr_id`,
    `obj_conf`.

    Raises:
        DataError: The file cannot be read, or a group lacks something or has it in another shape; the text names it.
        MissingExtra: h5py is not installed.
    """
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("h5py", EXTRA, f"reading the features in {path}") from None
    try:
        with h5py.File(path, "r") as file:
            for name in file:
                yield _group(file[name], str(name), f"{path}: {name}")
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5: {error}") from None


def _group(group: Any, name: str, where: str) -> Detected:
    def array(key: str, *shape: int | None) -> NDArray[Any]:
        try:
            found = np.asarray(group[key][()])
        except (KeyError, AttributeError, TypeError, ValueError):
            raise DataError(f"{where}: {key}: absent") from None
        wanted = "x".join("?" if side is None else str(side) for side in shape) or "one number"
        fits = len(found.shape) == len(shape) and all(
            side in (None, real) for side, real in zip(shape, found.shape, strict=True)
        )
        if not fits or found.dtype.kind not in "iuf":
            raise DataError(f"{where}: {key}: {found.dtype} of shape {found.shape}; expected {wanted}")
        return found

    boxes = array("boxes", None, 4)
    regions = len(boxes)
    if not regions:
        raise DataError(f"{where}: boxes: none")
    width, height = (int(array(key)) for key in ("img_w", "img_h"))
    if min(width, height) < 1:
        raise DataError(f"{where}: img_w, img_h: {width}, {height}; expected numbers above 0")
    return Detected(
        where,
        name,
        width,
        height,
        boxes,
        array("obj_id", regions).astype(int).tolist(),
        array("attr_id", regions).astype(int).tolist(),
        array("obj_conf", regions).astype(float).tolist(),
        lambda: array("features", regions, None),
    )
