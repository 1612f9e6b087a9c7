"""A corpus read from disk a row at a time, from any marked place on: it may be far larger than memory.

JSON lines, `id<TAB>text` lines, or text files of any kind, of which each passage is a document.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data.readers.files import (
    BOM,
    HALF_PAIR,
    NOT_UTF8,
    BadRows,
    bare_suffix,
    either,
    listed,
    opened,
)
from quincunx.recipes.retrieval.data.rows_of_text import passages, row_of_json, row_of_tab

FORMATS = ("auto", "jsonl", "tsv", "files")
JSON_LINES = (".jsonl", ".ndjson", ".json")
EXPECTED = (
    'a file of JSON lines ({"_id": ..., "title": ..., "text": ...}) or of id, tab, text a line, either also as .gz; a '
    "folder with corpus.jsonl, collection.tsv or corpus.tsv; or a folder of text files"
)
_SNIFFED = 4096


class Mark(NamedTuple):
    """Where a row begins."""

    file: int = 0
    """Number of the file."""
    byte: int = 0
    """Its first byte there, or that of the line in which it begins (of the unpacked file)."""
    line: int = 1
    """The number of that line."""
    skip: int = 0
    """Rows to pass over that begin in the same line."""


@dataclass(frozen=True)
class Row:
    """A document."""

    mark: Mark
    id: str
    text: str


class CorpusStream:
    """The documents of files on disk.

    Attributes:
        name: What the corpus is called.
        format: `jsonl`, `tsv` or `files`.
        notes: Sentences on what was decided.
    """

    def __init__(self, path: str | Path, format: str = "auto", *, title_separator: str = " ") -> None:
        """Find the files.

        Args:
            path: A file or folder; `EXPECTED` says of what form.
            format: A word of `FORMATS`; `auto` tells it by names.
            title_separator: What stands between a document's title and its text, where it has both.

        Raises:
            DataError: Nothing is there, or nothing of a known form.
            UsageError: There is no such format.
        """
        if format not in FORMATS:
            raise UsageError(f"there is no format {format!r} of a corpus; there are: {', '.join(FORMATS)}")
        self.path = Path(path).expanduser()
        self.title_separator = title_separator
        self.notes: list[str] = []
        self.format, self.files = self._found(format)
        self.name = self.path.resolve().name
        self._stack = ExitStack()
        self._open: tuple[int, Any] | None = None

    def rows(self, bad: BadRows, mark: Mark | None = None, left_out: Collection[tuple[int, int]] = ()) -> Iterator[Row]:
        """Yield the sound rows from a mark on; only the latest call's rows may be gone through.

        Args:
            bad: Takes the others.
            mark: The mark of a row; None: the first.
            left_out: (file, line) of rows that are not wanted; they are passed over without a word.

        Raises:
            DataError: A file cannot be read.
        """
        mark = mark or Mark()
        for number in range(mark.file, len(self.files)):
            start = mark if number == mark.file else Mark(number)
            for row in self._of_file(number, start, bad):
                if (number, row.mark.line) not in left_out:
                    yield row

    def facts(self) -> list[dict[str, Any]]:
        """Return name, size and time of change of each file: while these are the same, so is what they hold."""
        found: list[dict[str, Any]] = []
        for path in self.files:
            try:
                facts = path.stat()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
            found.append({"name": self._shown(path), "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns})
        return found

    def close(self) -> None:
        """Close what is open."""
        self._stack.close()
        self._open = None

    def _of_file(self, number: int, mark: Mark, bad: BadRows) -> Iterator[Row]:
        path = self.files[number]
        lines = self._lines(number, mark)
        if self.format == "files":
            found = passages(lines, path, bad)
            for place, (line, at, skip, text) in enumerate(found):
                if place >= mark.skip:
                    name = f"{self._shown(path)}:{line}" + (f".{skip + 1}" if skip else "")
                    yield Row(Mark(number, at, line, skip), name, text)
            return
        parse = self._parser()
        for line, at, content in lines:
            if not content.strip() if self.format == "jsonl" else not content:
                continue
            if line == 1 and self.format == "jsonl" and content.lstrip().startswith(b"["):
                raise DataError(f"{path}:1: a JSON array; expected JSON lines: one object a line, nothing round them")
            try:
                name, text = parse(content)
                (name + text).encode()
            except UnicodeDecodeError:
                bad.add(path, line, NOT_UTF8)
            except UnicodeEncodeError:
                bad.add(path, line, HALF_PAIR)
            except ValueError as error:
                bad.add(path, line, str(error))
            else:
                yield Row(Mark(number, at, line), name, text)

    def _parser(self) -> Callable[[bytes], tuple[str, str]]:
        if self.format == "tsv":
            return row_of_tab
        return lambda content: row_of_json(content, self.title_separator)

    def _lines(self, number: int, mark: Mark) -> Iterator[tuple[int, int, bytes]]:
        """Yield (number, first byte, bytes without the line's end) of every line from a mark on."""
        try:
            file = self._file(number)
            # in a packed file this unpacks what lies between, so one that goes forward is unpacked once
            file.seek(mark.byte)
            at, line = mark.byte, mark.line
            while content := file.readline():
                bare = content.removesuffix(b"\n").removesuffix(b"\r")
                yield line, at, bare.removeprefix(BOM) if line == 1 else bare
                at, line = at + len(content), line + 1
        except (OSError, EOFError, zlib.error):
            self._stack.__exit__(*sys.exc_info())  # `opened` says what that means
            raise

    def _file(self, number: int) -> Any:
        if self._open is None or self._open[0] != number:
            self.close()
            self._open = number, self._stack.enter_context(opened(self.files[number]))
        return self._open[1]

    def _shown(self, path: Path) -> str:
        name = path.relative_to(self.path).as_posix() if self.path.is_dir() else path.name
        return name.encode("utf-8", "backslashreplace").decode()  # names of files may be any bytes

    def _found(self, format: str) -> tuple[str, list[Path]]:
        path = self.path
        if not path.exists():
            raise DataError(f"{path} does not exist; expected {EXPECTED}")
        if path.is_file():
            by_suffix = (
                "jsonl" if bare_suffix(path) in JSON_LINES else "tsv" if bare_suffix(path) == ".tsv" else "files"
            )
            format = by_suffix if format == "auto" else format
            if format == "files" and not _is_text(path):
                raise DataError(f"{path} is no text file; expected {EXPECTED}")
            return format, [path]
        names = {"jsonl": ("corpus.jsonl",), "tsv": ("collection.tsv", "corpus.tsv")}
        for word, known in names.items():
            if format in ("auto", word) and (found := either(path, *known)) is not None:
                return word, [found]
        if format in names:
            raise DataError(f"{path} has no {' and no '.join(names[format])} (it holds {listed(path)}); name the file")
        every = sorted(each for each in path.rglob("*") if each.is_file() and not _hidden(each.relative_to(path)))
        texts = [each for each in every if _is_text(each)]
        if not texts:
            raise DataError(f"{path} holds no text file (it holds {listed(path)}); expected {EXPECTED}")
        if other := len(every) - len(texts):
            self.notes.append(
                f"{path}: {other:,} of {len(every):,} files are empty or no text in UTF-8, and are left out."
            )
        return "files", texts


def content_hasher() -> Any:
    """Return what hashes rows one after another; see `add_content`."""
    return blake2b(digest_size=16)


def add_content(hasher: Any, row: Row) -> None:
    """Add a row's id and text to a hash."""
    for part in (row.id.encode(), row.text.encode()):
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_text(path: Path) -> bool:
    """Tell whether a file begins like a text in UTF-8."""
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED)
    except OSError:
        return False
    if b"\0" in start:
        return False
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return len(start) == _SNIFFED and error.start > _SNIFFED - 4  # the last letter may be cut
    return bool(start.strip())
