"""Reads Pathfinder in the Long Range Arena's own folders (Tay et al. 2021), those that `export` writes included.

A set is a folder such as `curv_contour_length_14` with `metadata/*.npy`, which hold lines of text in spite of their
name, and the PNG files under `imgs/` that those lines name. Some published PNG files are empty: they are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quincunx.errors import DataError, UsageError
from quincunx.recipes.long_range.data.examples import SkippedRow

TOLERATED_SHARE = 0.01
TOLERATED_ROWS = 10
"""From this many bad images on, `TOLERATED_SHARE` must not be exceeded."""

_EXPECTED = (
    "expected the Long Range Arena's folder pathfinder32/curv_contour_length_14 (or another size or length) with imgs/ "
    "and metadata/, from https://storage.googleapis.com/long-range-arena/lra_release.gz; without data.path images are "
    "generated"
)
_NUMPY = b"\x93NUMPY"


class Row(NamedTuple):
    """A line of a metadata file."""

    image: str
    """Path of the PNG file inside the set's folder."""
    label: int
    file: str
    """The metadata file."""
    line: int
    """Counts from 1."""

    @property
    def place(self) -> str:
        """Where the row stands."""
        return f"{self.file}:{self.line}"


class Part(NamedTuple):
    """Some images of a set, in its order."""

    images: NDArray[np.uint8]
    """Grey values [n, R * R]."""
    labels: NDArray[np.uint8]
    """1 where the markers lie on one contour [n]."""
    numbers: NDArray[np.int64]
    """Which row of the set each image is, from 0; those left out are missing here [n]."""


@dataclass(frozen=True)
class Official:
    """A set whose metadata are read and whose images are not yet; the rows stand in order of file and line."""

    folder: Path
    resolution: int
    """Width and height of every image."""
    rows: list[Row]
    skipped: list[SkippedRow] = field(default_factory=list)
    """Rows whose image was empty or damaged; filled by reading."""

    def parts(self, size: int = 2_000) -> Iterator[Part]:
        """Yield the images in parts of at most `size`; memory is one part.

        DataError: an image that is missing or has another size, named with its row; at least 10 and more than 1 % of
        the images empty or damaged; none that is sound.
        """
        self.skipped.clear()
        sound = 0
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            pixels = np.empty((len(rows), self.resolution**2), np.uint8)
            numbers: list[int] = []
            for number, row in enumerate(rows, start=start):
                reason = _read_into(pixels[len(numbers)], self.folder, row, self.resolution)
                if reason is None:
                    numbers.append(number)
                else:
                    self.skipped.append(SkippedRow(row.file, row.line, reason))
            sound += len(numbers)
            if numbers:
                labels = np.array([self.rows[number].label for number in numbers], np.uint8)
                yield Part(pixels[: len(numbers)], labels, np.array(numbers))
        self._refuse_if_mostly_bad(sound)

    def _refuse_if_mostly_bad(self, sound: int) -> None:
        bad = len(self.skipped)
        if not sound or (bad >= TOLERATED_ROWS and bad > TOLERATED_SHARE * len(self.rows)):
            shown = "".join(f"\n  {row}" for row in self.skipped[:5])
            raise DataError(
                f"{bad:,} of {len(self.rows):,} images of {self.folder} cannot be used, more than "
                f"{TOLERATED_SHARE:.0%}; the first:{shown}\nThe copy is probably broken: copy or unpack it again."
            )


def read_official(
    path: str | Path, resolution: int | None = None, on_file: Callable[[int, int], None] | None = None
) -> Official:
    """Return a set with its rows; `Official.parts` reads the images.

    Arguments: `path`, the set's folder, or one that holds exactly one folder `curv_*` with a set; `resolution`, the
    width and height that images must have, without it those of the first sound one; `on_file` is told how many metadata
    files are read, and of how many.
    Errors: UsageError where several sets are there; DataError where none is, or for a row that is not one, named with
    file and line.
    """
    folder = find_set(Path(path).expanduser())
    files = sorted((folder / "metadata").glob("*.npy"), key=_by_number)
    rows: list[Row] = []
    for done, file in enumerate(files, start=1):
        rows.extend(read_metadata(file))
        if on_file:
            on_file(done, len(files))
    if not rows:
        what = "files *.npy" if not files else "line in its files *.npy"
        raise DataError(f"{folder / 'metadata'} holds no {what}; {_EXPECTED}")
    return Official(folder, resolution or _size_of_first(folder, rows), rows)


def find_set(path: Path) -> Path:
    """Return the folder with `imgs` and `metadata` that a path means; errors as `read_official`."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise DataError(f"data.path: {path} {what}; {_EXPECTED}")
    present = [name for name in ("imgs", "metadata") if (path / name).is_dir()]
    if len(present) == 2:
        return path
    if present:
        raise DataError(f"data.path: {path} holds {present[0]}/ alone; {_EXPECTED}")
    inside = sorted(folder for folder in path.glob("curv_*") if folder.is_dir())
    if len(inside) > 1:
        names = ", ".join(folder.name for folder in inside)
        raise UsageError(
            f"data.path: {path} holds several sets ({names}); give one of them, such as {inside[-1]} "
            "(the Long Range Arena's own results are on curv_contour_length_14)"
        )
    if not inside:
        raise DataError(f"data.path: {path} holds no imgs/, no metadata/ and no folder curv_*; {_EXPECTED}")
    return find_set(inside[0])


def read_metadata(file: Path) -> list[Row]:
    """Return the rows of a metadata file, empty lines left out; DataError for one that is no row."""
    try:
        if file.open("rb").read(len(_NUMPY)) == _NUMPY:
            lines = [" ".join(map(str, row)) for row in np.load(file, allow_pickle=False)]
        else:
            lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}; expected lines of text") from None
    return [_parse(line, str(file), number) for number, line in enumerate(lines, start=1) if line.strip()]


def _parse(line: str, file: str, number: int) -> Row:
    columns = line.split()
    if len(columns) < 4:
        raise DataError(
            f"{file}:{number}: expected at least 4 columns (folder, file, number, label), found {line.strip()[:80]!r}"
        )
    if columns[3] not in ("0", "1"):
        raise DataError(f"{file}:{number}: the label (column 4) is {columns[3][:40]!r}, expected 0 or 1")
    image = PurePosixPath(columns[0], columns[1])
    if image.is_absolute() or ".." in image.parts:
        raise DataError(f"{file}:{number}: the image {str(image)[:80]!r} lies outside of the set's folder")
    return Row(str(image), int(columns[3]), file, number)


def _size_of_first(folder: Path, rows: list[Row]) -> int:
    """Return the width of the first image that is not empty or damaged; 1 where there is none."""
    for row in rows:
        try:
            with Image.open(_existing(folder, row)) as image:
                return image.width
        except OSError:
            continue
    return 1


def _read_into(target: NDArray[np.uint8], folder: Path, row: Row, resolution: int) -> str | None:
    """Read an image into a row of pixels; return why it cannot be used, or None where it can."""
    path = _existing(folder, row)
    if not path.stat().st_size:
        return f"{row.image} is empty"
    try:
        with Image.open(path) as image:
            if image.size != (resolution, resolution):
                raise DataError(
                    f"{row.place}: {path} has {image.width} x {image.height} pixels, expected {resolution} x "
                    f"{resolution}; data.resolution must be the size of all images of the set"
                )
            target[:] = np.asarray(image if image.mode == "L" else image.convert("L")).ravel()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{row.image} cannot be read as an image ({error})"
    return None


def _existing(folder: Path, row: Row) -> Path:
    path = folder / row.image
    if not path.is_file():
        raise DataError(f"{row.place}: the image {path} is missing; copy or unpack the set again")
    return path


def _by_number(file: Path) -> tuple[int, str]:
    """Order `2.npy` before `10.npy`, and names that are no numbers after those that are."""
    return (int(file.stem), "") if file.stem.isdecimal() else (1 << 62, file.name)
