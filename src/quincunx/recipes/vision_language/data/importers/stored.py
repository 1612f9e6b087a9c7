"""Features in an LMDB store, a picture a key: regions with their boxes, or rows of features alone.

R regions of a picture, F width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError, MissingExtra
from quincunx.recipes.vision_language.data.importers.detected import EXTRA, Detected
from quincunx.recipes.vision_language.data.importers.packed import FEATURES, Fields, Raw, fields_of

Sizes = Mapping[str, tuple[int, int]]
"""Picture -> width and height in pixels, as the collection knows them."""

NO_PICTURES = ("keys", "__keys__", "__len__", "length", "num_samples")
"""Keys that tell of the store, not of a picture."""

WIDTHS = ("img_w", "image_width", "image_w", "width")
HEIGHTS = ("img_h", "image_height", "image_h", "height")
BOXES = ("boxes", "bbox")
"""In pixels."""
SHARES = ("norm_bb", "normalized_boxes")
"""Boxes as shares of the picture's width and height; further columns are left out."""
OBJECTS = ("obj_id", "objects_id", "objects")
ATTRIBUTES = ("attr_id", "attrs_id")
SCORES = ("obj_conf", "objects_conf", "conf")
NAMES = ("img_id", "image_id")


def is_store(path: Path) -> bool:
    """Tell whether a path is that of a store: a folder, or a file by its ending."""
    return path.is_dir() or path.suffix.lower() in (".lmdb", ".mdb")


def stored(path: Path, known: Sizes, raw: Raw | None = None) -> Iterator[Detected]:
    """Yield what a store holds of each picture, in the order of keys.

    A picture's id is what the value says (`img_id`), else the key without `.npz` or `.npy`. A value has `features` and,
    under one of several names each, boxes, the picture's size, and numbers and scores of classes. Without a size the
    collection must know the picture; without boxes it gets no regions.

    Args:
        path: The store's folder, or its file.
        known: Sizes of pictures.
        raw: Values are bare numbers, rows of features; None: each says what it is.

    Raises:
        DataError: The store cannot be read, or a value in it; the text names the key.
        MissingExtra: lmdb is not installed.
    """
    try:
        import lmdb
    except ImportError:
        raise MissingExtra("lmdb", EXTRA, f"reading the features in {path}") from None
    if not (path / "data.mdb" if path.is_dir() else path).is_file():
        raise DataError(f"{path} holds no data.mdb; expected the folder of a store, or its file")
    try:
        options: dict[str, Any] = {"readonly": True, "lock": False, "create": False, "readahead": False}
        with lmdb.open(str(path), subdir=path.is_dir(), **options) as store, store.begin() as transaction:
            for key, value in transaction.cursor():
                name = key.decode("utf-8", "replace")
                if name not in NO_PICTURES:
                    yield _entry(name, fields_of(value, f"{path}: {name}", raw), f"{path}: {name}", known)
    except lmdb.Error as error:
        raise DataError(f"{path} cannot be read as LMDB: {error}") from None


def _entry(key: str, fields: Fields, where: str, known: Sizes) -> Detected:
    def first(names: Sequence[str]) -> Any:
        return next((fields[name]() for name in names if name in fields), None)

    if FEATURES not in fields:
        raise DataError(f"{where}: features: absent; there are {', '.join(fields) or 'no fields'}")
    name = _name(first(NAMES), key)
    width, height = (_side(first(names), names[0], where) for names in (WIDTHS, HEIGHTS))
    if width is None or height is None:
        if name not in known:
            raise DataError(
                f"{where}: neither img_w and img_h, nor a picture {name!r} in the collection; import the data set that "
                "it belongs to first, so that its size is known"
            )
        width, height = known[name]
    boxes = _boxes(first(BOXES), first(SHARES), (width, height), where)
    regions = len(boxes)

    def features() -> NDArray[np.floating[Any]]:
        rows = _numbers(fields[FEATURES](), FEATURES, where)
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or not rows.size or (regions and len(rows) != regions):
            wanted = f"[{regions}, width]" if regions else "[rows, width]"
            raise DataError(f"{where}: features: shape {list(rows.shape)}; expected {wanted}")
        return rows if rows.dtype.kind == "f" else rows.astype(np.float32)

    def each(names: Sequence[str], kind: Callable[[Any], Any]) -> list[Any]:
        values = first(names)
        if values is None or not regions:
            return []
        found = _numbers(values, names[0], where)
        if found.shape != (regions,):
            raise DataError(f"{where}: {names[0]}: shape {list(found.shape)}; expected [{regions}]")
        return [kind(number) for number in found.tolist()]

    scores = each(SCORES, float) or [1.0] * regions
    return Detected(where, name, width, height, boxes, each(OBJECTS, int), each(ATTRIBUTES, int), scores, features)


def _name(said: Any, key: str) -> str:
    said = said.item() if isinstance(said, np.ndarray) and said.size == 1 else said
    said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    if isinstance(said, str | int) and not isinstance(said, bool) and said != "":
        return str(said)
    return next((key.removesuffix(end) for end in (".npz", ".npy") if key.endswith(end)), key)


def _side(value: Any, name: str, where: str) -> int | None:
    if value is None:
        return None
    found = _numbers(value, name, where)
    if found.size != 1 or not np.isfinite(found).all() or int(found.reshape(())) < 1:
        raise DataError(f"{where}: {name}: {str(value)[:40]}; expected a whole number above 0")
    return int(found.reshape(()))


def _boxes(pixels: Any, shares: Any, size: tuple[int, int], where: str) -> NDArray[np.floating[Any]]:
    """Return boxes in pixels [R, 4]; none where the value has none."""
    if pixels is None and shares is None:
        return np.empty((0, 4))
    found = _numbers(shares if pixels is None else pixels, (SHARES if pixels is None else BOXES)[0], where)
    if found.ndim != 2 or not len(found) or (found.shape[1] != 4 if shares is None else found.shape[1] < 4):
        raise DataError(f"{where}: boxes: shape {list(found.shape)}; expected [regions, 4]")
    if pixels is not None:
        return found.astype(np.float64)
    return found[:, :4].astype(np.float64) * np.array([*size, *size])


def _numbers(value: Any, name: str, where: str) -> NDArray[Any]:
    try:
        found = np.asarray(value)
    except ValueError:
        raise DataError(f"{where}: {name}: rows of different lengths") from None
    if found.dtype.kind not in "iuf":
        raise DataError(f"{where}: {name}: {found.dtype}; expected numbers")
    return found
