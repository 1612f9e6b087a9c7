"""Detected regions and their features, as bottom-up attention (Anderson et al. 2018) gives them: R regions, F width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.features import write_features
from quincunx.recipes.vision_language.data.folder import FEATURES, PICTURES, Collection, write_collection
from quincunx.recipes.vision_language.data.importers.detected import Detected, hdf5, tab_separated
from quincunx.recipes.vision_language.data.importers.packed import parse_raw
from quincunx.recipes.vision_language.data.importers.stored import is_store, stored
from quincunx.recipes.vision_language.data.record import Box, Picture, Region


@dataclass(frozen=True)
class ImportedFeatures:
    """What was imported."""

    path: Path
    """The file of features."""
    pictures: int
    width: int


Words = Sequence[Sequence[str] | None]
"""Names of classes and of attributes by their numbers, None where they are not known."""


def import_detections(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    name: str = "butd",
    objects: str | Path | None = None,
    attributes: str | Path | None = None,
    raw: str | None = None,
) -> ImportedFeatures:
    """Write pictures with their regions, and the features of these, into a collection folder, or add them to one.

    Boxes are cut to their pictures; one of which nothing is left keeps a pixel, so that rows and regions stay alike.
    Stores without boxes give features alone, of pictures that the collection has.

    Args:
        files: Tab-separated files, HDF5 files (`.h5`, `.hdf5`) or LMDB stores (folders, `.lmdb`, `.mdb`), each picture
            in one of them.
        out: The collection, made if missing.
        name: What the features are called: the file is `features/<name>.arrow`.
        objects: A file with the name of class n on line n, of several with commas the first; None: regions get none.
        attributes: Likewise, of attributes.
        raw: Of LMDB stores whose values are bare numbers, their type and how many are a row: `float32,2048`.

    Raises:
        UsageError: There is no file, features of this name are there already, a picture has other regions already, or
            `raw` is no such text or in vain.
        DataError: A file that cannot be read, or a value in it; the text says where.
        MissingExtra: pyarrow is not installed, or h5py for HDF5 files, lmdb for stores.
    """
    paths = [Path(file).expanduser() for file in files]
    folder = Path(out).expanduser()
    target = folder / FEATURES / f"{name}.arrow"
    if not paths:
        raise UsageError("detections need files: tab-separated lines of bottom-up attention, HDF5, or LMDB stores")
    if target.exists():
        raise UsageError(f"{target} is already there; choose another name, or delete that file")
    words = [_words(Path(path).expanduser()) if path else None for path in (objects, attributes)]
    # taken out before anything is written: the file of pictures is another one afterwards
    known = Collection(folder).pictures if (folder / PICTURES).is_file() else {}
    read = _reader(paths, known, raw)
    width = _check(read, paths[0], words)
    for each in read():
        _refuse_other_regions(_picture(each, words), known.get(each.id), each.where)
    write_collection(folder, (_picture(each, words) for each in read()), {}, add=True)
    rows = ((each.id, each.features()) for each in read())
    digest = sha256(b"".join(_beginning(path) for path in paths)).hexdigest()[:16]
    about = {"files": ", ".join(path.name for path in paths)}
    count = write_features(target, rows, width=width, model=f"detections {digest}", about=about)
    return ImportedFeatures(target, count, width)


def _reader(
    paths: Sequence[Path], pictures: Mapping[str, Picture], raw: str | None
) -> Callable[[], Iterator[Detected]]:
    """Return what yields all that was detected, as often as it is called."""
    stores = [path for path in paths if is_store(path)]
    if raw is not None and not stores:
        raise UsageError(f"--raw {raw} says what the values of LMDB stores are, and {paths[0]} is none")
    numbers = None if raw is None else parse_raw(raw)
    sizes = {picture.id: (picture.width, picture.height) for picture in pictures.values()} if stores else {}

    def detected() -> Iterator[Detected]:
        for path in paths:
            if path in stores:
                yield from stored(path, sizes, numbers)
            else:
                yield from (hdf5 if path.suffix.lower() in (".h5", ".hdf5") else tab_separated)(path)

    return detected


def _check(read: Callable[[], Iterator[Detected]], first: Path, words: Words) -> int:
    """Read everything once, so that nothing is written where something is wrong; return the width of features."""
    width = 0
    seen = set[str]()
    for each in read():
        if not each.id or each.id in seen:
            raise DataError(f"{each.where}: img_id: {each.id or 'empty'}; expected each picture once")
        seen.add(each.id)
        _picture(each, words)
        found = each.features().shape[1]
        width = width or found
        if found != width:
            raise DataError(f"{each.where}: features: {found:,} numbers for a region; those before have {width:,}")
    if not width:
        unit = "key" if is_store(first) else "line"
        raise DataError(f"{first}: no {unit}s; expected a picture a {unit}")
    return width


def _refuse_other_regions(detected: Picture, known: Picture | None, where: str) -> None:
    """Rows of features belong to the regions that a picture has: it must not have others already."""
    if known is None or not known.regions or not detected.regions:
        return
    if [region.box for region in known.regions] != [region.box for region in detected.regions]:
        raise UsageError(
            f"{where}: picture {known.id} has {len(known.regions)} regions in the collection already, and they are not "
            f"the {len(detected.regions)} detected ones, whose features these are; import detections first, into a new "
            "collection, and what is asked about the pictures after them"
        )


def _picture(found: Detected, words: Words) -> Picture:
    if not np.isfinite(found.boxes).all():
        raise DataError(f"{found.where}: boxes: numbers that are not finite")
    names = _named(found, "objects", found.objects, words[0])
    kinds = _named(found, "attributes", found.attributes, words[1])
    scores = np.clip(np.nan_to_num(np.asarray(found.scores, np.float64)), 0, 1).tolist()
    regions = tuple(
        Region(_within(box, found.width, found.height), name, kind, score)
        for box, name, kind, score in zip(found.boxes.tolist(), names, kinds, scores, strict=True)
    )
    return Picture(found.id, found.width, found.height, None, regions)


def _named(found: Detected, what: str, numbers: Sequence[int], known: Sequence[str] | None) -> Sequence[str | None]:
    if known is None or not numbers:
        return [None] * len(found.boxes)
    for number in numbers:
        if not 0 <= number < len(known):
            raise DataError(f"{found.where}: {what}: {number}; the list of names has {len(known):,}")
    return [known[number] for number in numbers]


def _within(box: Sequence[float], width: int, height: int) -> Box:
    """Return a box cut to its picture, of a pixel at least where nothing would be left."""
    x1, x2 = _cut(box[0], box[2], width)
    y1, y2 = _cut(box[1], box[3], height)
    return x1, y1, x2, y2


def _cut(low: float, high: float, most: int) -> tuple[float, float]:
    low, high = min(max(low, 0.0), float(most)), min(max(high, 0.0), float(most))
    if low < high:
        return low, high
    return max(min(low, most - 1.0), 0.0), max(min(low, most - 1.0), 0.0) + 1.0


def _words(path: Path) -> list[str]:
    try:
        found = [line.split(",")[0].strip() for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8") from None
    if not all(found):
        raise DataError(f"{path}:{found.index('') + 1}: an empty line; expected the name of a class")
    return found


def _beginning(path: Path) -> bytes:
    """Return what tells a file from others: its size and its first megabyte."""
    path = path / "data.mdb" if path.is_dir() else path
    with path.open("rb") as file:
        return f"{path.stat().st_size} ".encode() + file.read(1 << 20)
