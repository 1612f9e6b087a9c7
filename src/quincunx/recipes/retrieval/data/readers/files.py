"""What the readers share on the side of files: lines, JSON objects, bad rows, splits, fingerprints.

Lines end in a newline alone or after a carriage return, nowhere else: a form feed or a line separator of Unicode
belongs to the text. Files whose names end in `.gz` are unpacked on the way.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError

BOM = b"\xef\xbb\xbf"
NOT_UTF8 = "bytes that are no UTF-8"
HALF_PAIR = "half of a surrogate pair (\\ud800 to \\udfff alone), which is no character"

_MOST_KEPT = 10_000
_SPLIT_WORDS = (
    ("train", "training"),
    ("dev", "val", "valid", "validation", "eval"),
    ("test", "testing"),
)


class NoSuchSplit(DataError):
    """The data is there, but not this split of it."""


class BadRows:
    """The bad rows of all files of a collection: where they are, and why they are bad."""

    def __init__(self, limit: int = 20, skip: bool = False) -> None:
        """Show at most `limit` of them in the error; with `skip` there is an error only where nothing is left."""
        self.limit = limit
        self.skip = skip
        self.count = 0
        self._rows: list[tuple[int, int, str]] = []
        self._files: dict[str, int] = {}

    def add(self, path: Path | str, line: int, reason: str) -> None:
        """Leave a row out; lines count from 1."""
        self.count += 1
        if self.skip or len(self._rows) < _MOST_KEPT:
            self._rows.append((self._files.setdefault(str(path), len(self._files)), line, reason))

    @property
    def listed(self) -> list[dict[str, Any]]:
        """The rows as `{"file", "line", "reason"}`, by file in the order of reading, then by line."""
        names = list(self._files)
        return [{"file": names[file], "line": line, "reason": reason} for file, line, reason in sorted(self._rows)]

    @property
    def shown(self) -> str:
        """The first of them, one a line, and how many more there are."""
        lines = [f"\n  {row['file']}:{row['line']}: {row['reason']}" for row in self.listed[: self.limit]]
        rest = self.count - len(lines)
        return "".join(lines) + (f"\n  and {rest:,} more" if rest else "")

    def settle(self, where: object, expected: str) -> None:
        """Raise DataError with the bad rows unless there are none or they are skipped."""
        if self.count and not self.skip:
            raise DataError(
                f"{where}: {self.count:,} bad row{'s' if self.count > 1 else ''}:{self.shown}\n"
                f"Expected {expected}. Mend the file, or leave such rows out with --skip-bad-rows."
            )

    def nothing(self, where: object, expected: str) -> DataError:
        """Return the error for a file of which no row is left."""
        why = f"no usable row; {self.count:,} bad:{self.shown}\n" if self.count else "no row at all; "
        return DataError(f"{where}: {why}{'E' if self.count else 'e'}xpected {expected}.")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Yield a file of bytes, unpacked if its name ends in `.gz`; DataError where that cannot be done to its end."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} is no whole gzip file, as its name says it is ({error}); fetch it anew") from None
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(f"{path} {reason}") from None


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, bytes without the line's end) for every line that is not empty; DataError as `opened`."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            bare = line.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                bare = bare.removeprefix(BOM)
            if bare:
                yield number, bare


def text_lines(path: Path, bad: BadRows) -> Iterator[tuple[int, str]]:
    """Yield the lines as text; those that are no UTF-8 become bad rows."""
    for number, line in lines(path):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            bad.add(path, number, NOT_UTF8)
            continue
        yield number, text


def objects(path: Path, bad: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the objects of a file of JSON lines; what is none becomes a bad row.

    DataError for a file that is one JSON array.
    """
    for number, line in lines(path):
        if number == 1 and line.lstrip().startswith(b"["):
            raise DataError(f"{path}:1: a JSON array; expected JSON lines: one object a line, nothing round them")
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
        except UnicodeDecodeError:
            bad.add(path, number, NOT_UTF8)
        except (ValueError, RecursionError) as error:
            bad.add(path, number, f"no sound JSON ({error})")
        else:
            if isinstance(value, Mapping):
                yield number, value
            else:
                bad.add(path, number, f"{shown(value)}; expected an object")


def shown(value: object) -> str:
    """Return a value from a file as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(folder: Path) -> str:
    """Return the first few names that a folder holds, for errors."""
    if not folder.is_dir():
        return "nothing: it is no folder"
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "") if names else "nothing"


def bare_suffix(path: Path) -> str:
    """Return a file's suffix in lower case, the one before `.gz` where it is packed."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def either(folder: Path, *names: str) -> Path | None:
    """Return the first of these files that a folder has, plain or packed; None where it has none."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def split_words(split: str) -> tuple[str, ...]:
    """Return the words that files use for a split, the one given first: `dev` is `validation` elsewhere."""
    for words in _SPLIT_WORDS:
        if split.lower() in words:
            return (split, *(word for word in words if word != split))
    return (split,)


def split_of(name: str) -> str | None:
    """Return the split whose word a name without suffix ends in (`queries.train`, `imdb_dev`); None for none."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    return next((group[0] for group in _SPLIT_WORDS if words and words[-1] in group), None)


def choose_split(splits: Sequence[str], wanted: str | None, where: object) -> str:
    """Return which of the splits that are there is wanted.

    Raises:
        NoSuchSplit: It is none of them.
        DataError: Several are there, and it is not said which.
    """
    if wanted is None:
        if len(splits) == 1:
            return splits[0]
        raise DataError(f"{where} holds the splits {', '.join(sorted(splits)) or 'none'}; say which is meant")
    for word in split_words(wanted):
        for split in splits:
            if split.lower() == word.lower():
                return split
    raise NoSuchSplit(f"{where} has no split {wanted}; there are: {', '.join(sorted(splits)) or 'none'}")


def fingerprint(files: Iterable[Path], *how: object) -> str:
    """Return a hash of the contents of files, in this order, and of what else decides what is read from them.

    Names and places of files do not enter: moved data is the same data.
    """
    digest = blake2b(repr(how).encode(), digest_size=16)
    for path in files:
        with path.open("rb") as file:
            digest.update(b"\0file")
            size = 0
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
        digest.update(size.to_bytes(8, "little"))
    return digest.hexdigest()


def array_fingerprint(*arrays: NDArray[Any]) -> str:
    """Return a hash of arrays, for data whose files are not known."""
    digest = blake2b(digest_size=16)
    for array in arrays:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
