"""The form of a file of features: Arrow's file format, one entry a picture, what made them in the schema's metadata.

An entry is the picture's id, its rows and their checksum, so that any reader of Arrow can read the file. R rows of a
picture, F width.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError, MissingExtra, UsageError

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema

Rows = NDArray[np.floating[Any]]

DTYPES = ("float16", "float32")
"""Forms in which numbers are stored."""
MAGIC = b"ARROW1\0\0"
"""How a file of Arrow begins; what follows is a stream of batches, readable before the file is finished."""
EXTRA = "vision_language"
"""The extra of ours that brings pyarrow."""

_KEY, _FORMAT = b"quincunx.features", 1


@dataclass(frozen=True)
class Header:
    """What all entries of a file have in common."""

    width: int
    """F."""
    model: str
    """A key of all that the features depend on beside the picture: encoder, weights, size, pooling."""
    dtype: str = "float16"
    """One of DTYPES."""
    about: Mapping[str, str] = field(default_factory=dict[str, str])
    """What people want to know about how they were made, by name."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"features are stored as {' or '.join(DTYPES)}, found {self.dtype!r}")
        if self.width < 1:
            raise UsageError(f"the width of features must be at least 1, found {self.width}")
        if not self.model:
            raise UsageError("features need the key of the model that made them, found an empty one")

    @property
    def kind(self) -> np.dtype[Any]:
        """The form of numbers, as numpy names it."""
        return np.dtype(self.dtype).newbyteorder("<")

    def fits(self, other: Header) -> bool:
        """Tell whether entries of both may stand in one file."""
        return (self.width, self.model, self.dtype) == (other.width, other.model, other.dtype)

    def differing(self, other: Header) -> list[str]:
        """Return what is told of both and not the same, in words: of the one, then of the other."""
        mine, its = ({"width": str(each.width), "kept as": each.dtype, **each.about} for each in (self, other))
        names = sorted({*mine} | {*its})
        return [
            f"{name} {mine.get(name, 'untold')} and {its.get(name, 'untold')}"
            for name in names
            if mine.get(name) != its.get(name)
        ]

    def __str__(self) -> str:
        told = "".join(f", {name} {value}" for name, value in sorted(self.about.items()))
        return f"model {self.model} (width {self.width}, {self.dtype}{told})"


def arrow() -> Any:
    """Return the pyarrow module with its `ipc`; MissingExtra where it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise MissingExtra("pyarrow", EXTRA, "storing features of pictures") from None
    return pyarrow


def schema_of(header: Header) -> Schema:
    """Return the schema of a file."""
    pa = arrow()
    number = pa.float16() if header.dtype == "float16" else pa.float32()
    rows = pa.list_(pa.list_(number, header.width))
    told = {
        "format": _FORMAT, "width": header.width, "dtype": header.dtype, "model": header.model,
        "about": dict(header.about),
    }  # fmt: skip
    content = json.dumps(told, sort_keys=True, ensure_ascii=False).encode()
    return pa.schema([("id", pa.string()), ("checksum", pa.uint32()), ("rows", rows)], metadata={_KEY: content})


def header_of(schema: Schema) -> Header:
    """Return what a file's schema says; ValueError where it is not the schema of a file of features."""
    try:
        told = json.loads((schema.metadata or {})[_KEY])
        if told["format"] != _FORMAT:
            raise ValueError(f"it is of form {told['format']}, and this version reads form {_FORMAT}")
        about = {str(name): str(value) for name, value in told["about"].items()}
        header = Header(int(told["width"]), str(told["model"]), str(told["dtype"]), about)
    except KeyError as error:
        raise ValueError(f"it does not say that it holds features ({error} is missing)") from None
    except (TypeError, AttributeError, UsageError) as error:
        raise ValueError(str(error)) from None
    if not schema.equals(schema_of(header)):
        raise ValueError(f"its columns are {', '.join(schema.names)}, not those of features")
    return header


def checked(header: Header, name: str, rows: Any, where: str) -> Rows:
    """Return the rows `[R, F]` of a picture in the form in which they are stored.

    Args:
        header: Of the file.
        name: The picture's id.
        rows: As they were computed.
        where: The file, for messages.

    Raises:
        DataError: They have another shape, or numbers that are not finite or too large for this form.
    """
    found = np.asarray(rows)
    if found.ndim != 2 or found.shape[1] != header.width or found.dtype.kind != "f":
        raise DataError(
            f"{where}: the features of picture {name!r} are {found.dtype} of shape {list(found.shape)}, expected "
            f"numbers with a fraction [rows, {header.width}]"
        )
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(found, header.kind)
    if not np.isfinite(stored).all():
        row, column = (int(places[0]) for places in np.nonzero(~np.isfinite(stored)))
        value = float(found[row, column])
        remedy = "store as float32" if np.isfinite(value) else "the encoder or its weights are not sound"
        raise DataError(
            f"{where}: row {row} of picture {name!r} has {value:g} at place {column}, which {header.dtype} does not "
            f"hold; {remedy}"
        )
    return stored


def checksum(rows: Rows) -> int:
    """Return the checksum of rows in the form in which they are stored."""
    return zlib.crc32(rows.data.cast("B") if rows.size else b"")


def batch_of(header: Header, names: Sequence[str], rows: Sequence[Rows]) -> RecordBatch:
    """Return entries as a batch of Arrow."""
    pa = arrow()
    values = np.concatenate([each.reshape(-1) for each in rows]) if rows else np.empty(0, header.kind)
    ends = np.cumsum([0, *(len(each) for each in rows)], dtype=np.int32)
    nested = pa.ListArray.from_arrays(pa.array(ends), pa.FixedSizeListArray.from_arrays(pa.array(values), header.width))
    columns = [pa.array(names, pa.string()), pa.array([checksum(each) for each in rows], pa.uint32()), nested]
    return pa.RecordBatch.from_arrays(columns, schema=schema_of(header))
