"""An index's folder: files that never change once written, and one manifest that names those that count.

A change writes new files beside the old ones and then replaces the manifest, so that a crash leaves the index as it was
before or as it is after; readers that have the old files open keep them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from quincunx.errors import RunError, UsageError
from quincunx.runs import read_json, to_json, write_atomically
from quincunx.runs.files import sync

MANIFEST = "index.json"
FORMAT = 1
"""Of the manifest and of all files it names."""
AT_ONCE = 1 << 22


def read_manifest(folder: Path, *, verify: bool = False) -> dict[str, Any]:
    """Return a folder's manifest, once every file that it names is there in its full length.

    Args:
        folder: An index.
        verify: Whether to compare the files' contents with their hashes too, which reads all of them.

    Raises:
        UsageError: The folder holds no index, or one of a later format.
        RunError: The manifest is damaged, names files outside its folder, or a file is missing, cut short or changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(
            f"{folder} holds no index (no {MANIFEST}): make one by quincunx index STORE --out {folder}, where STORE is "
            "what quincunx encode wrote"
        )
    found = read_json(path)
    if not isinstance(found, dict) or type(found.get("format")) is not int:
        raise RunError(f"{path} is no manifest of an index: it has no format version")
    if found["format"] != FORMAT:
        raise UsageError(
            f"{path} is of format {found['format']}, this version of quincunx reads format {FORMAT}: make the index "
            "anew by quincunx index, or use the version that wrote it"
        )
    missing = {"kind", "options", "made", "width", "next", "parts", "files"} - set(found)
    if missing:
        raise RunError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}")
    if not isinstance(found["files"], dict):
        raise RunError(f"{path} is damaged: files is no mapping")
    for name, facts in found["files"].items():
        _check_file(folder, name, facts, verify)
    return found


def check_hash(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Compare a file's contents with its hash in the manifest; RunError where they differ."""
    if _hash(folder / name) != facts["blake2b"]:
        raise RunError(
            f"{folder / name} is not what was written: its contents do not have the hash in {MANIFEST}. Make the index "
            "anew by quincunx index"
        )


def describe(folder: Path, names: Iterator[str] | list[str]) -> dict[str, dict[str, Any]]:
    """Return length and hash of files by name, once they are on the disk."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        path = folder / name
        sync(path)
        found[name] = {"bytes": path.stat().st_size, "blake2b": _hash(path)}
    return found


def write_manifest(folder: Path, manifest: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> None:
    """Make a manifest the one that counts, and remove the files that only the one before it named."""
    write_atomically(folder / MANIFEST, to_json({"format": FORMAT, **manifest}, indent=1) + b"\n")
    for name in set(before["files"] if before else ()) - set(manifest["files"]):
        with suppress(OSError):  # it costs room and nothing else
            (folder / name).unlink()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes the target on leaving; on an error nothing is left of it.

    What a killed process left is taken over.

    Raises:
        UsageError: Something is there already, or another process is making it.
        RunError: It cannot be written.
    """
    if target.is_dir() and (target / MANIFEST).is_file():
        raise UsageError(
            f"{target} holds an index already and is left as it is: give another --out, or add to it by "
            f"quincunx index add {target} STORE"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already and is left as it is: give another --out")
    unfinished = target.absolute().with_name(f".{target.absolute().name}.writing")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        with locked(unfinished, f"another process is making {target}"):
            for path in unfinished.iterdir():
                path.unlink()
            try:
                yield unfinished
                unfinished.replace(target)
                sync(target.absolute().parent)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error}; nothing is left of it") from error


@contextmanager
def locked(folder: Path, otherwise: str) -> Iterator[None]:
    """Hold a folder against other processes that would change it; UsageError with the text given where one does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{otherwise}: wait until it is done") from None
        except OSError:
            pass  # a file system without locks: two writers at once are then the caller's to avoid
        yield
    finally:
        os.close(descriptor)


def _check_file(folder: Path, name: str, facts: Any, verify: bool) -> None:
    manifest = folder / MANIFEST
    if not name or name != os.path.basename(name) or name in (".", "..") or (folder / name).is_symlink():  # noqa: PTH119
        raise RunError(f"{manifest} names {name!r}, which is outside the index's folder: it is not used")
    if not isinstance(facts, dict) or type(facts.get("bytes")) is not int or not isinstance(facts.get("blake2b"), str):
        raise RunError(f"{manifest} is damaged: {name} has no length or no hash")
    path = folder / name
    length = path.stat().st_size if path.is_file() else None
    if length != facts["bytes"]:
        found = "is missing" if length is None else f"has {length:,} bytes"
        raise RunError(
            f"{path} {found}, and had {facts['bytes']:,} when the index was written: put the file back, or make the "
            "index anew by quincunx index"
        )
    if verify:
        check_hash(folder, name, facts)


def _hash(path: Path) -> str:
    found = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(AT_ONCE):
            found.update(block)
    return found.hexdigest()
