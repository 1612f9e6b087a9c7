"""A store while it is filled, by any number of processes at once.

`plan.json` says what each shard is to hold. A process claims a shard by the lock on its unfinished file, which ends
with the process however that ends; a shard is there once its file has its name. When all are, `manifest.json` takes
the plan's place.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quincunx.data.partial import BeingWritten, finish, partial_file
from quincunx.errors import DataError, RunError, UsageError
from quincunx.index.shards import Shard, ShardFile, check_file, coded
from quincunx.runs.files import TEMPORARY, remove_quietly, to_json, write_atomically

FORMAT = 1
PLAN, MANIFEST = "plan.json", "manifest.json"

log = logging.getLogger("quincunx")


@dataclass(frozen=True)
class Part:
    """What a shard is to hold."""

    rows: int
    content: str
    """A hash of its ids and texts."""
    mark: Sequence[Any]
    """Where its rows begin in the corpus, in words of whoever reads that."""


@dataclass(frozen=True)
class Plan:
    """What a store is to hold."""

    made: Mapping[str, Any]
    """How the vectors are made."""
    corpus: Mapping[str, Any]
    """Which corpus it is, in words of whoever reads it."""
    shard_size: int
    texts: bool
    """Whether texts are kept."""
    parts: Sequence[Part]

    @property
    def rows(self) -> int:
        """Documents of all shards."""
        return sum(part.rows for part in self.parts)

    def bytes(self) -> bytes:
        """Return the plan as the file says it."""
        return to_json({"format": FORMAT, **asdict(self)}, indent=1) + b"\n"


class Filling:
    """A store that some processes are filling."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan

    def path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.folder / shard_name(number)

    @property
    def missing(self) -> list[int]:
        """The shards that are not there yet."""
        there = {entry.name for entry in os.scandir(self.folder)}
        return [number for number in range(len(self.plan.parts)) if shard_name(number) not in there]

    def fill(self, make: Callable[[int], Shard], on_shard: Callable[[int], None] | None = None) -> int:
        """Make every shard that is missing and that no other process is making, until all are there.

        A shard whose maker dies is made by whoever is left; where only shards of others are missing, they are waited
        for.

        Args:
            make: Returns a shard by its number.
            on_shard: Called with the number of each shard that was made here.

        Returns:
            How many were made here.

        Raises:
            RunError: A shard cannot be written; those that are there stay.
        """
        made = 0

        def one(number: int, *, wait: bool) -> None:
            nonlocal made
            if self._make(number, make, wait=wait):
                made += 1
                if on_shard is not None:
                    on_shard(number)

        while missing := self.missing:
            before = made
            for number in missing:
                one(number, wait=False)
            if made == before and (left := self.missing):
                # all of these are being made by others: wait for the first, and make it if its maker is gone
                one(left[0], wait=True)
        return made

    def _make(self, number: int, make: Callable[[int], Shard], *, wait: bool) -> bool:
        path = self.path(number)
        if path.exists():
            return False
        try:
            with _written(path), partial_file(path, wait=wait) as file:
                if path.exists():  # another process was quicker
                    return False
                data, texts = coded(make(number))
                if texts is not None:  # first: a shard that is there is whole
                    write_atomically(texts_path(path), texts)
                file.write(data)
                finish(file, path)
                return True
        except BeingWritten:
            return False

    def close(self) -> None:
        """Write the manifest of a store of which every shard is there, unless another process has.

        Raises:
            DataError: A shard is not what was planned.
            RunError: The manifest cannot be written.
        """
        path = self.folder / MANIFEST
        with _written(path), partial_file(path, wait=True) as file:
            if path.exists():
                return
            manifest = {
                "format": FORMAT,
                "made": self.plan.made,
                "corpus": self.plan.corpus,
                "count": self.plan.rows,
                "shard_size": self.plan.shard_size,
                "texts": self.plan.texts,
                "shards": [self._entry(number) for number in range(len(self.plan.parts))],
            }
            file.write(to_json(manifest, indent=1) + b"\n")
            finish(file, path)
        remove_quietly(self.folder / PLAN)
        for scrap in self.folder.glob(f".*{TEMPORARY}"):
            remove_quietly(scrap)

    def _entry(self, number: int) -> dict[str, Any]:
        path, part = self.path(number), self.plan.parts[number]
        shard = ShardFile.open(path)
        if shard.rows != part.rows or shard.width != self.plan.made["dimension"]:
            raise DataError(
                f"{path} holds {shard.rows:,} vectors of width {shard.width}, planned were {part.rows:,} of width "
                f"{self.plan.made['dimension']}: remove this file, and run the same command again"
            )
        entry: dict[str, Any] = {
            "file": path.name,
            "rows": shard.rows,
            "bytes": shard.bytes,
            "hash": shard.facts["hash"],
            "content": part.content,
            "mark": part.mark,
        }
        if self.plan.texts:
            kept = texts_path(path)
            entry["texts"] = {
                "file": kept.name,
                "bytes": int(shard.facts["texts_bytes"]),
                "hash": shard.facts["texts_hash"],
            }
        return entry


def begin(
    folder: Path,
    made: Mapping[str, Any],
    make_plan: Callable[[], Plan],
    check: Callable[[Plan], Plan],
) -> Filling | None:
    """Return a store to be filled: a new one, or one that was begun or lost shards; None where it is whole already.

    Args:
        folder: Its place, made if it is missing.
        made: How the vectors will be made.
        make_plan: Makes the plan where there is none; other processes wait for it.
        check: Returns the plan to go on by of a store that is there (its marks may be others by now), or raises
            UsageError where that is not what is wanted.

    Raises:
        UsageError: Something else is in the folder, or a store whose vectors were made otherwise; it is left as it is.
        RunError: The folder cannot be written.
    """
    _check_place(folder)
    with _written(folder / PLAN):
        folder.mkdir(parents=True, exist_ok=True)
    found = _begun(folder, made, check)
    whole = (folder / MANIFEST).exists()
    if found is not None and not _discard_damaged(found) and whole:
        return None
    if found is None or whole:
        with _written(folder / PLAN), partial_file(folder / PLAN, wait=True) as file:
            # while this one waited, another process may have begun the store, or even filled it
            found = _begun(folder, made, check)
            whole = (folder / MANIFEST).exists()
            if found is not None and whole and not found.missing:
                return None
            if found is None or whole:
                found = found or Filling(folder, make_plan())
                file.write(found.plan.bytes())
                finish(file, folder / PLAN)
                remove_quietly(folder / MANIFEST)  # of a store that has lost shards
    return found


def shard_name(number: int) -> str:
    """Return the name of a shard's file."""
    return f"shard-{number:05d}.safetensors"


def texts_path(shard: Path) -> Path:
    """Return where a shard's texts lie."""
    return shard.with_suffix(".jsonl")


def read_plan(path: Path) -> Plan:
    """Return what a plan or a manifest says is to be there, or is; DataError where it is damaged."""
    try:
        found = json.loads(path.read_bytes())
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r}, known is {FORMAT}")
        entries = found["shards"] if "shards" in found else found["parts"]
        parts = [Part(int(entry["rows"]), str(entry["content"]), entry.get("mark", ())) for entry in entries]
        made, corpus = dict(found["made"]), dict(found["corpus"])
        return Plan(made, corpus, int(found["shard_size"]), bool(found["texts"]), parts)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}): remove its folder, and encode the corpus again"
        ) from error


def _begun(folder: Path, made: Mapping[str, Any], check: Callable[[Plan], Plan]) -> Filling | None:
    """Return what is there already, if it is what is wanted."""
    path = next((folder / name for name in (MANIFEST, PLAN) if (folder / name).exists()), None)
    if path is None:
        return None
    try:
        plan = read_plan(path)
    except DataError:
        if not path.exists():  # another process has just put the manifest in its place
            return _begun(folder, made, check)
        raise
    differences = [
        f"{name} {plan.made.get(name)!r} (now {made.get(name)!r})"
        for name in dict.fromkeys((*plan.made, *made))
        if plan.made.get(name) != made.get(name)
    ]
    if differences:
        raise UsageError(
            f"{folder} holds vectors made otherwise: {', '.join(differences)}. Nothing in it was changed: give another "
            "--out, or remove it."
        )
    return Filling(folder, check(plan))


def _discard_damaged(filling: Filling) -> bool:
    """Remove shards that are not whole, which no kill leaves behind but a failing disk may; tell if any is missing."""
    for number, part in enumerate(filling.plan.parts):
        path = filling.path(number)
        if not path.exists():
            continue
        try:
            shard = ShardFile.open(path)
            if shard.rows != part.rows:
                raise DataError(f"{path} holds {shard.rows:,} documents, and {part.rows:,} belong into it")
            if filling.plan.texts:
                check_file(texts_path(path), int(shard.facts["texts_bytes"]))
        except (DataError, KeyError) as error:
            log.warning("%s is made anew: %s", path.name, error)
            remove_quietly(path)
    return bool(filling.missing)


def _check_place(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder by --out")
    names = {entry.name for entry in os.scandir(folder)}
    if names & {PLAN, MANIFEST}:
        return
    if found := sorted(name for name in names if not name.startswith(f".{PLAN}.")):
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise UsageError(f"{folder} holds other files ({shown}), and is left as it is; give another --out")


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error that says so."""
    try:
        yield
    except BeingWritten:
        raise
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. Shards that are whole stay; when that is mended, "
            "the same command goes on after them."
        ) from error
