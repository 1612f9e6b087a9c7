"""Config file -> document: a tree of plain values in which every value knows its place.

The form follows from the file's suffix; each grammar has a reader of its own (`read_yaml`, `read_json`,
`read_python`), which is imported when it is needed. All problems of a file are raised together.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NoReturn

from quincunx.config.document import ConfigError, Document, Place, Problem, SourceText
from quincunx.config.paths import is_list, is_mapping

Form = Literal["yaml", "json", "python"]

FORMS: dict[str, Form] = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".jsonc": "json", ".py": "python"}
"""Suffix of a config file -> its grammar."""

MAX_BYTES = 4 * 2**20
"""Larger files are refused: a config is written by hand, and whatever is larger was named by mistake."""


def read_file(path: str | os.PathLike[str], *, mapping: bool = True) -> Document:
    """Return the document in a `.yaml`, `.yml`, `.json`, `.jsonc` or `.py` file; nothing in it is executed.

    `~` in the path means the home folder. An empty file is an empty mapping. With `mapping=False` the root may be
    any value. Raises ConfigError for a file that cannot be opened or decoded, and with all problems of its content.
    """
    name = os.fspath(path)
    text = read_content(name)
    suffix = Path(name).suffix.lower()
    if suffix not in FORMS:
        found = f"its name ends in {suffix}" if suffix else "its name has no suffix"
        _refuse(
            f"{name}: the form of a config file follows from its suffix, and {found}",
            "name it .yaml (or .yml), .json (or .jsonc; both with comments), or .py for a Python literal",
        )
    return read_text(text, name, FORMS[suffix], mapping=mapping)


def read_text(text: str, name: str, form: Form, *, mapping: bool = True) -> Document:
    """Return the document that a text holds; `name` stands for the file in problems.

    Raises ConfigError with all problems of the text, a root that is no mapping (unless `mapping=False`) among them.
    """
    source = SourceText(text.removeprefix("\ufeff"), name)
    if "\0" in source.text:
        mark = source.mark(source.text.index("\0"))
        problem = Problem("error", (), mark, "a NUL character: this is not a text file", "save the file as UTF-8 text")
        raise ConfigError([problem])
    if form == "yaml":
        from quincunx.config.read_yaml import read_yaml as read
    elif form == "json":
        from quincunx.config.read_json import read_json as read
    else:
        from quincunx.config.read_python import read_python as read
    document = read(source)
    if document is None:
        start = source.mark(0)
        return Document({}, {(): Place(None, start)})
    if mapping and not is_mapping(document.tree):
        tree = document.tree
        kind = "a list" if is_list(tree) else "a text" if isinstance(tree, str) else f"the value {tree!r}"
        remedy = "a config file holds settings by name: key and value"
        if isinstance(tree, str) and ":" in tree:
            remedy += "; in YAML a space follows the colon: `lr: 0.1`"
        message = f"the file holds {kind} where a mapping was expected"
        raise ConfigError([Problem("error", (), document.mark(()), message, remedy)])
    return document


def read_content(name: str) -> str:
    """Return the text of a file of at most `MAX_BYTES`, a byte order mark removed; ConfigError says why it cannot."""
    path = expand(name)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        _refuse(f"{name}: no such file", _similar_file(path))
    except IsADirectoryError:
        inside = (
            sorted(entry.name for entry in path.iterdir() if entry.suffix in FORMS) if os.access(path, os.R_OK) else []
        )
        _refuse(f"{name}: this is a folder", f"name a file in it{': ' + ', '.join(inside[:8]) if inside else ''}")
    except PermissionError:
        _refuse(f"{name}: no permission to read this file", f"make it readable: chmod u+r {name}")
    except (OSError, ValueError) as error:
        _refuse(f"{name}: the file cannot be read: {error}", "check the path")
    if len(data) > MAX_BYTES:
        _refuse(f"{name}: larger than {MAX_BYTES // 2**20} MiB", "A config file is small; is this a data file?")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = len(data[: error.start].decode("utf-8").removeprefix("\ufeff"))
        mark = SourceText(data.decode("utf-8", "replace").removeprefix("\ufeff"), name).mark(at)
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        message = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}, line {mark.line}"
        remedy = "save the file as UTF-8" + (" (it looks like UTF-16)" if wide else "")
        raise ConfigError([Problem("error", (), mark, message, remedy)]) from None


def expand(name: str) -> Path:
    """Return the path that a file name means: `~` is the home folder, where there is one."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _similar_file(path: Path) -> str:
    import difflib

    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in FORMS]
    except OSError:
        return f"the folder {path.parent} cannot be listed either; check the path"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else "check the path; it is taken from the working folder"


def _refuse(message: str, remedy: str) -> NoReturn:
    raise ConfigError([Problem("error", (), None, message, remedy)]) from None
