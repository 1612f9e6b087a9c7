"""Reads a file of features: each picture's rows where they lie, mapped into memory, nothing but places held.

A process maps the file anew, a forked one too, so that workers of a loader share pages and no handle. R rows of a
picture, F width.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.features.form import Header, Rows, arrow, checksum, header_of

AGAIN = "`quincunx features` writes it anew once it is removed"


class Features:
    """The features of pictures, by their ids: `features[id]` is `[R, F]`.

    Args:
        path: The file.
        width: What F has to be; None: anything.
        model: Key of the model that has to have made them; None: any.

    Attributes:
        header: What made them, width and form of numbers.
        ids: The pictures' ids, in the file's order.
        longest: The largest R, 0 without pictures.

    Raises:
        DataError: There is no such file, it was cut short or is none of features, or it is of another width or model.
        MissingExtra: pyarrow is not installed.
    """

    def __init__(self, path: str | Path, *, width: int | None = None, model: str | None = None) -> None:
        self.path = Path(path).expanduser()
        self._state, self.header, entries = _read(self.path)
        if width is not None and width != self.header.width:
            raise DataError(
                f"{self.path} has features of width {self.header.width}, expected {width}: set the width to that of "
                "the file, or name the file of another encoder"
            )
        if model is not None and model != self.header.model:
            raise DataError(
                f"{self.path} has features of {self.header}, expected those of model {model}: the encoder, its weights "
                "or its settings are others. Extract them again into another file, or go back to that encoder"
            )
        self.ids: Sequence[str] = tuple(entries.names)
        self._numbers = {name: number for number, name in enumerate(self.ids)}
        if len(self._numbers) < len(self.ids):
            twice = next(name for number, name in enumerate(self.ids) if self._numbers[name] != number)
            raise DataError(f"{self.path} has the picture {twice!r} twice; {AGAIN}")
        self._starts, self._rows, self._checksums = entries.starts, entries.rows, entries.checksums
        self._sound = bytearray(len(self.ids))
        self.longest = int(self._rows.max(initial=0))
        self._mapped: NDArray[np.uint8] | None = None
        self._process = 0

    @property
    def width(self) -> int:
        """F."""
        return self.header.width

    @property
    def model(self) -> str:
        """Key of the model that made them."""
        return self.header.model

    @property
    def fingerprint(self) -> str:
        """A hash of what is in the file, by which two of them are told apart; nothing but the index is read."""
        made = blake2b(repr((self.header.width, self.header.model, self.header.dtype)).encode(), digest_size=16)
        for name, rows, check in zip(self.ids, self._rows.tolist(), self._checksums.tolist(), strict=True):
            made.update(repr((name, rows, check)).encode())
        return made.hexdigest()

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def rows_of(self, name: str) -> int:
        """Return how many rows R a picture has; DataError where it has none stored."""
        return int(self._rows[self._number(name)])

    def __getitem__(self, name: str) -> Rows:
        """Return the rows `[R, F]` of a picture, as they are stored: a view that cannot be written to.

        Raises:
            DataError: The picture has no features here, or they are damaged.
        """
        number = self._number(name)
        start, rows = int(self._starts[number]), int(self._rows[number])
        kind = self.header.kind
        content = self._bytes()[start : start + rows * self.width * kind.itemsize]
        found: Rows = content.view(kind).reshape(rows, self.width)
        if not self._sound[number]:
            if checksum(found) != self._checksums[number]:
                raise DataError(
                    f"{self.path}: the rows of picture {name!r} (at byte {start:,}) are not those that were written; "
                    f"the file is damaged, {AGAIN}"
                )
            self._sound[number] = 1
        return found

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of some pictures' ids of which there are no features here."""
        return [name for name in names if name not in self._numbers]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "width": self.width, "model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], width=state["width"], model=state["model"])

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            raise DataError(
                f"{self.path} has no features of the picture {name!r}; it has those of {len(self):,} pictures. "
                "`quincunx features`, called as for this file, adds those that are missing"
            )
        return number

    def _bytes(self) -> NDArray[np.uint8]:
        if self._mapped is None or self._process != os.getpid():
            try:
                with self.path.open("rb") as file:
                    if _state(os.fstat(file.fileno())) != self._state:
                        raise DataError(f"{self.path} was changed while it was in use; start again")
                    self._mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
            except OSError as error:
                raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error
            self._process = os.getpid()
        return self._mapped


class _Entries:
    """Where the entries of a file are."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.starts: NDArray[Any] = np.empty(0, np.int64)
        self.rows: NDArray[Any] = np.empty(0, np.int64)
        self.checksums: NDArray[Any] = np.empty(0, np.uint32)


def _state(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _read(path: Path) -> tuple[tuple[int, int], Header, _Entries]:
    """Return a file's size and time, its header and the places of its entries."""
    pa = arrow()
    try:
        state = _state(path.stat())
        if not state[0]:
            raise DataError(f"{path} is empty: expected a file of features; {AGAIN}")
        with pa.memory_map(str(path)) as mapped:
            whole = mapped.read_buffer()
            reader = pa.ipc.open_file(whole)
            header = header_of(reader.schema)
            return state, header, _entries(reader, header, whole.address, state[0])
    except FileNotFoundError:
        raise DataError(
            f"there is no file of features {path}: `quincunx features COLLECTION --encoder ... --out {path}` makes one"
        ) from None
    except (ValueError, pa.ArrowException) as error:  # many of Arrow's errors are ValueErrors too
        raise DataError(f"{path} is no file of features, or was cut short ({error}); {AGAIN}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; {AGAIN}") from error


def _entries(reader: Any, header: Header, base: int, size: int) -> _Entries:
    found = _Entries()
    starts, rows, checks = [found.starts], [found.rows], [found.checksums]
    row_bytes = header.width * header.kind.itemsize
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        names, sums, nested = batch.columns
        if names.null_count or sums.null_count or nested.null_count:
            raise ValueError(f"batch {number} has entries without content")
        ends = nested.offsets.to_numpy().astype(np.int64)
        values = nested.values.values
        data = values.buffers()[1]
        first = 0  # a batch without rows may have its content anywhere
        if len(values) and data is not None:
            first = data.address - base + values.offset * header.kind.itemsize
        if len(ends) != len(names) + 1 or (np.diff(ends) < 0).any() or ends[0] < 0:
            raise ValueError(f"batch {number} has a garbled index")
        if first < 0 or first + int(ends[-1]) * row_bytes > size or int(ends[-1]) * header.width > len(values):
            raise ValueError(f"batch {number} ends beyond the file")
        found.names += names.to_pylist()
        starts.append(first + ends[:-1] * row_bytes)
        rows.append(np.diff(ends))
        checks.append(sums.to_numpy())
    found.starts, found.rows, found.checksums = map(np.concatenate, (starts, rows, checks))
    return found
