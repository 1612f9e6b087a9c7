"""The three splits of an experiment: read from a folder of TSV files, or generated once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.data.export import (
    FILE_NAMES,
    Progress,
    damaged_files,
    distribute,
    read_manifest,
    request_of,
)
from quincunx.recipes.long_range.data.generator import Parameters
from quincunx.recipes.long_range.data.listops import UNKNOWN
from quincunx.recipes.long_range.data.partial import finish, partial_file
from quincunx.recipes.long_range.data.tsv import read_tsv


class DataSettings(Protocol):
    """The `data` section of the config, as far as it is needed here."""

    @property
    def path(self) -> str | None: ...
    @property
    def cache(self) -> str | None: ...
    @property
    def train(self) -> int: ...
    @property
    def dev(self) -> int: ...
    @property
    def test(self) -> int: ...
    @property
    def min_length(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def max_depth(self) -> int: ...
    @property
    def max_arguments(self) -> int: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Splits:
    """The data of an experiment, and what is to be said about it."""

    train: Examples
    dev: Examples
    test: Examples
    notes: list[str] = field(default_factory=list)
    """Sentences for the terminal and the report."""
    skipped: list[SkippedRow] = field(default_factory=list)
    """Rows of the files that were not used."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    """Split -> SHA-256 of the examples in use."""


def load_splits(
    data: DataSettings,
    limit: int | None = None,
    explicit: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Splits:
    """Return the splits that the `data` section describes.

    Arguments: `limit`, at most so many examples of each split; `explicit`, the dotted paths of the keys that were set
    (`data.train`): a count that was only a default gives way to a smaller file; `on_progress` is told of generation.
    DataError: files missing, not readable as ListOps, or holding fewer rows than the explicit count; generation
    impossible; cache not writable.
    """
    counts = {"train": data.train, "dev": data.dev, "test": data.test}
    if data.path is None:
        return _generated_splits(data, counts, limit, on_progress)
    return _read_splits(Path(data.path).expanduser(), counts, limit, explicit)


def _read_splits(folder: Path, counts: Mapping[str, int], limit: int | None, explicit: Collection[str]) -> Splits:
    _refuse_missing(folder)
    manifest = read_manifest(folder)
    if manifest and (damage := damaged_files(folder, manifest)):
        raise DataError(
            f"{damage[0]}; copy or generate the set again, or delete the manifest to read the files as they are"
        )
    notes: list[str] = []
    skipped: list[SkippedRow] = []
    splits: dict[str, Examples] = {}
    for split, name in FILE_NAMES.items():
        path = folder / name
        wanted = counts[split] if limit is None else min(counts[split], limit)
        before = len(skipped)
        # One row more than is wanted, to learn whether the file holds more than it is asked for.
        examples = read_tsv(path, wanted + 1, skipped.append)
        rows = len(examples) + len(skipped) - before
        if rows < counts[split] and len(examples) <= wanted:
            if f"data.{split}" in explicit:
                raise DataError(
                    f"{path} has {rows:,} rows, data.{split} asks for {counts[split]:,}; lower data.{split}"
                )
            notes.append(f"{path} has {rows:,} rows: all are used (data.{split} is unset).")
        elif len(examples) > wanted:
            notes.append(f"{path}: the first {wanted:,} rows are used.")
        splits[split] = examples.take(wanted)
        if bad := len(skipped) - before:
            notes.append(f"{path}: {bad:,} bad row{'s' if bad > 1 else ''} left out; the first: {skipped[before]}")
        if unknown := _rows_with_unknown(splits[split]):
            notes.append(
                f"{path}: {unknown:,} of {len(splits[split]):,} expressions hold FIRST or LAST, read as one unknown "
                "token; their labels could not be checked."
            )
    return _splits(splits, notes, skipped)


def _refuse_missing(folder: Path) -> None:
    names = ", ".join(FILE_NAMES.values())
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"data.path: {folder} {what}; expected a folder with {names}")
    missing = [name for name in FILE_NAMES.values() if not (folder / name).is_file()]
    if missing:
        raise DataError(f"data.path: {folder} holds no {' and no '.join(missing)}; expected {names}")


def _rows_with_unknown(examples: Examples) -> int:
    return int(np.maximum.reduceat(examples.flat == UNKNOWN, examples.offsets[:-1]).sum())


def _generated_splits(
    data: DataSettings, counts: Mapping[str, int], limit: int | None, on_progress: Progress | None
) -> Splits:
    counts = {split: count if limit is None else min(count, limit) for split, count in counts.items()}
    parameters = Parameters(data.min_length, data.max_length, data.max_depth, data.max_arguments, data.seed)
    request = request_of(parameters, counts)
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder(data.cache) / f"listops-{key}.npz"
    sizes = "/".join(f"{count:,}" for count in counts.values())
    what = (
        f"ListOps by the official rules, seed {data.seed}, {sizes} examples (train/dev/test) of {data.min_length + 1} "
        f"to {data.max_length - 1} tokens"
    )
    notes: list[str] = []
    splits = _read_cached(path, request, notes)
    generated = False
    if splits is None:
        splits, generated = _generate_into(path, request, parameters, counts, on_progress)
    came = f"generated and kept in the cache ({path})" if generated else f"taken from the cache ({path})"
    notes.append(f"data.path is unset: {what}, {came}.")
    return _splits(splits, notes, [])


def _generate_into(
    path: Path,
    request: dict[str, Any],
    parameters: Parameters,
    counts: Mapping[str, int],
    on_progress: Progress | None,
) -> tuple[dict[str, Examples], bool]:
    """Return the set, and whether it was made here: another process may have made it while we waited."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path, wait=True) as file:
            splits = _read_cached(path, request, [])
            if splits is not None:
                return splits, False
            parts: dict[str, list[Examples]] = {split: [] for split in counts}
            for split, part in distribute(counts, parameters, on_progress):
                parts[split].append(part)
            splits = {split: Examples.join(parts[split]) for split in parts}
            np.savez(file, allow_pickle=False, **_as_arrays(splits, request))
            finish(file, path)
            return splits, True
    except OSError as error:
        raise DataError(
            f"cannot keep generated data in {path.parent}: {error.strerror or error}; "
            "name another folder by data.cache or the environment variable QUINCUNX_CACHE"
        ) from error


def cache_folder(configured: str | None) -> Path:
    """Return the folder for generated data: the configured one, else QUINCUNX_CACHE, else `~/.cache/quincunx`."""
    return Path(configured or os.environ.get("QUINCUNX_CACHE") or "~/.cache/quincunx").expanduser()


def _as_arrays(splits: Mapping[str, Examples], request: dict[str, Any]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"about": np.frombuffer(json.dumps(request).encode(), np.uint8)}
    for split, examples in splits.items():
        arrays[f"{split}_tokens"] = examples.flat
        arrays[f"{split}_offsets"] = examples.offsets
        arrays[f"{split}_labels"] = examples.labels
    return arrays


def _read_cached(path: Path, request: dict[str, Any], notes: list[str]) -> dict[str, Examples] | None:
    """Return the cached set, None where there is none or where its checksums fail (then noted)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            splits = {
                split: Examples(*(arrays[f"{split}_{part}"] for part in ("tokens", "offsets", "labels")))
                for split in FILE_NAMES
            }
        if about == request:
            return splits
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    notes.append(f"{path} is damaged; it is generated anew.")
    return None


def _splits(splits: Mapping[str, Examples], notes: list[str], skipped: list[SkippedRow]) -> Splits:
    fingerprints = {split: splits[split].fingerprint() for split in FILE_NAMES}
    return Splits(splits["train"], splits["dev"], splits["test"], notes, skipped, fingerprints)
