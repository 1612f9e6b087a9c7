"""Text and JSON lines from files and folders, cut into documents."""

from __future__ import annotations

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from quincunx.errors import DataError
from quincunx.recipes.compression.data.documents import SPLITS, Document, Documents, counted, files_hash

Cut = Literal["file", "section", "paragraph", "line"]

TEXT = (".txt", ".text", ".md", ".rst", ".tokens")
JSON_LINES = (".jsonl", ".ndjson", ".json")
FORMAT = 1
"""Raised whenever the same files would give other documents."""
SECTION = 10_000
"""Characters from which on a section ends with its paragraph."""
MANY = 20
"""So many files are documents as they are; fewer are cut into sections, or nothing could be held out."""

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def text_files(path: str | Path, document: Cut | None = None, pattern: str | None = None) -> Documents:
    """Return the documents of a text file, or of all text files in a folder and the folders within.

    Args:
        path: The file (whatever its name) or folder. Files or folders in it that are called train, dev (val, valid,
            validation) and test, as the last word before the suffix, are these splits.
        document: What makes a document: a `file`, a `section` (paragraphs up to some 10,000 characters), a `paragraph`
            (ended by a blank line) or a `line`. None: files where there are at least 20, else sections.
        pattern: Which files of a folder are read, by their names: `*.py`. None: those that end as texts do.

    Raises:
        DataError: Nothing there; while reading: a file that is not UTF-8.
    """
    files, notes = _files(Path(path).expanduser(), TEXT, pattern, "data.source text")
    chosen = document or ("file" if len(files) >= MANY else "section")
    if document is None and chosen == "section":
        notes.append(f"Files are cut into sections of some {SECTION:,} characters; data.document says otherwise.")
    return _documents(
        files, notes, {"source": "text", "format": FORMAT, "document": chosen}, partial(_texts, cut=chosen)
    )


def json_lines(path: str | Path, field: str = "text", pattern: str | None = None) -> Documents:
    """Return the documents of a file with a JSON object a line, or of all such files in a folder.

    Args:
        path: As in `text_files`.
        field: The key of the text, dots leading into objects within.
        pattern: As in `text_files`.

    Raises:
        DataError: Nothing there; while reading: a line that is no object, or has no string under the key.
    """
    files, notes = _files(Path(path).expanduser(), JSON_LINES, pattern, "data.source jsonl")
    return _documents(
        files, notes, {"source": "jsonl", "format": FORMAT, "field": field}, partial(_objects, field=field)
    )


def pieces(lines: Iterable[str], cut: Cut) -> Iterator[tuple[int, str]]:
    """Yield (number of its first line, text) for what lines are cut into; blank documents come to nothing."""
    if cut == "line":
        yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
        return
    if cut == "file":
        yield 1, "".join(lines)
        return
    start, kept, size = 1, list[str](), 0
    for number, line in enumerate(lines, start=1):
        blank = not line.strip()
        ends = bool(kept) and not kept[-1].strip()
        if not blank and ends and (cut == "paragraph" or size >= SECTION):
            yield start, "".join(kept)
            kept, size = [], 0
        if not kept:
            start = number
        if kept or not blank:
            kept.append(line)
            size += len(line)
    if kept:
        yield start, "".join(kept)


def _documents(
    files: Sequence[tuple[str, Path]],
    notes: list[str],
    request: Mapping[str, Any],
    read: Callable[[Path], Iterator[tuple[int, str]]],
) -> Documents:
    splits = _given_splits([name for name, _ in files])
    used = [each for each in files if splits is None or splits[each[0]]]
    if splits is not None:
        found = sorted(set(filter(None, splits.values())), key=SPLITS.index)
        notes.append(f"The files' names say which split they are: {', '.join(found)}.")
        if len(used) < len(files):
            notes.append(f"Left out: {counted(len(files) - len(used), 'file')} whose names say no split.")
    drawn = ("dev", "test") if splits is None else tuple(s for s in ("dev", "test") if s not in splits.values())

    def every() -> Iterator[Document]:
        for name, path in used:
            split = None if splits is None or splits[name] == "train" else splits[name]
            try:
                yield from (Document(f"{path}:{line}", (text,), split) for line, text in read(path))
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror or error}") from None

    what = str(used[0][1]) if len(used) == 1 else f"{len(used):,} files"
    try:
        content = files_hash(used)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror or error}") from None
    return Documents(what, {**request, "files": content}, every, drawn=drawn, notes=notes)


def _files(
    path: Path, suffixes: Sequence[str], pattern: str | None, asked: str
) -> tuple[list[tuple[str, Path]], list[str]]:
    """Return (name below the folder, file) in sorted order, and sentences; DataError where there is none."""
    wanted = f"end in {', '.join(suffixes)} (data.files says otherwise)" if pattern is None else f"are called {pattern}"
    expected = f"{asked} takes a file, or a folder with files that {wanted}"
    if not path.exists():
        raise DataError(f"data.path: {path} does not exist; {expected}")
    if not path.is_dir():
        if not path.stat().st_size:
            raise DataError(f"data.path: {path} is empty; {expected}")
        return [(path.name, path)], []
    every = [(each.relative_to(path).as_posix(), each) for each in path.rglob("*") if each.is_file()]
    every = sorted(each for each in every if not any(part.startswith(".") for part in each[0].split("/")))
    found = [
        (name, each)
        for name, each in every
        if (each.suffix.lower() in suffixes if pattern is None else fnmatchcase(each.name, pattern))
    ]
    if not found:
        there = ", ".join(name for name, _ in every[:5]) + (f" and {len(every) - 5:,} more" if len(every) > 5 else "")
        raise DataError(f"data.path: {path} holds {there or 'no file'}; {expected}")
    if not any(each.stat().st_size for _, each in found):
        raise DataError(f"data.path: all {len(found):,} files in {path} are empty; {expected}")
    left = len(every) - len(found)
    return found, [f"{path}: {counted(left, 'other file')} left out."] if left else []


def _given_splits(names: Sequence[str]) -> dict[str, str | None] | None:
    """Return each file's split by the first part of its name, None where the names do not tell training from others."""
    splits = {name: _split_of(name.split("/")[0]) for name in names}
    known = set(splits.values()) - {None}
    return splits if "train" in known and len(known) > 1 else None


def _split_of(name: str) -> str | None:
    stem = name if name.rpartition(".")[2].lower() in _WORDS else name.rsplit(".", 1)[0]
    words = ["".join(run) for letter, run in groupby(stem.lower(), str.isalpha) if letter]
    return _WORDS.get(words[-1]) if words else None


def _lines(path: Path) -> Iterator[str]:
    """Yield a file's lines with their ends, `\\n` each; DataError where one is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                likely = "UTF-16" if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "LATIN1"
                raise DataError(
                    f"{path}:{number}: byte {line[error.start]:#04x} in column {error.start + 1} is not UTF-8; save "
                    f"the file as UTF-8 (iconv -f {likely} -t UTF-8, if that is what it is), or leave it out"
                ) from None
            yield f"{text[:-2]}\n" if text.endswith("\r\n") else text


def _texts(path: Path, cut: Cut) -> Iterator[tuple[int, str]]:
    return pieces(_lines(path), cut)


def _objects(path: Path, field: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: expected one JSON object a line; {error}") from None
        yield number, _at(value, field, f"{path}:{number}")


def _at(value: Any, field: str, place: str) -> str:
    """Return the string at a dotted key of an object; the key as a whole is tried first."""
    node, found = value, True
    if isinstance(value, Mapping) and field in value:
        node = value[field]
    else:
        for part in field.split("."):
            found = isinstance(node, Mapping) and part in node
            if not found:
                break
            node = node[part]
    if not found:
        keys = ", ".join(map(str, value)) if isinstance(value, Mapping) else f"a {type(value).__name__}, no object"
        raise DataError(
            f"{place}: there is no {field!r}; found {keys or 'an empty object'}; name the key by data.field"
        )
    if not isinstance(node, str):
        raise DataError(
            f"{place}: {field!r} is {type(node).__name__}, expected a string; name another key by data.field"
        )
    try:
        node.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place}: {field!r} holds half a surrogate pair, which is no character") from None
    return node
