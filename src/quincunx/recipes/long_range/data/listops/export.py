"""Writes a generated ListOps set as the official three TSV files with a manifest beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from quincunx.data.generated import GeneratedSet, SetManifest, check_files
from quincunx.data.partial import finish, partial_file
from quincunx.errors import UsageError
from quincunx.recipes.long_range.data.examples import Examples
from quincunx.recipes.long_range.data.listops.generator import Parameters, distinct_examples, shuffled
from quincunx.recipes.long_range.data.listops.language import format_source
from quincunx.recipes.long_range.data.splits import Progress

FORMAT = 1
"""Raised whenever the same parameters would give other examples or other files."""

FILE_NAMES = {"train": "basic_train.tsv", "dev": "basic_val.tsv", "test": "basic_test.tsv"}
"""Split -> official file name."""


@dataclass(frozen=True)
class Manifest(SetManifest):
    """What a generated set is, and what its files must be."""

    REQUEST = ("format", "parameters", "counts")

    parameters: dict[str, int]
    counts: dict[str, int]
    files: dict[str, dict[str, Any]]
    """File name -> `{"bytes": int, "sha256": str}`."""

    def __post_init__(self) -> None:
        check_files(self.files, FILE_NAMES.values())


SET = GeneratedSet("ListOps", "listops.json", Manifest, FILE_NAMES.values())


def request_of(parameters: Parameters, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what determines a generated set; UsageError unless every split has at least one example."""
    if set(counts) != set(FILE_NAMES) or min(counts.values()) < 1:
        raise UsageError(f"expected at least 1 example each for {', '.join(FILE_NAMES)}; found {dict(counts)}")
    return {
        "format": FORMAT,
        "parameters": asdict(parameters),
        "counts": {split: int(counts[split]) for split in FILE_NAMES},
    }


def generate(
    out_dir: str | Path, counts: Mapping[str, int], parameters: Parameters, on_progress: Progress | None = None
) -> Manifest:
    """Write `basic_train.tsv`, `basic_val.tsv`, `basic_test.tsv` and `listops.json` into a folder, made if missing.

    Arguments: `counts` gives the examples of `train`, `dev` and `test`; no expression occurs twice in all three. The
    files appear only when all of them are whole. What an interrupted run left is replaced; a set that is already there
    as asked for is kept. Memory does not grow with the set but for a hash per example.
    Errors: UsageError when the folder holds other data, DataError when it cannot be written or the settings allow too
    few expressions.
    """
    folder = Path(out_dir).expanduser()
    request = request_of(parameters, counts)
    present = SET.found(folder, request)
    if present and not SET.damage(folder, present.files, content=False):
        return present
    with SET.writing(folder), ExitStack() as stack:
        files = {
            split: stack.enter_context(partial_file(folder / name, wait=False)) for split, name in FILE_NAMES.items()
        }
        manifest = Manifest(**request, files=_write(files, distribute(counts, parameters, on_progress)))
        SET.write(folder, manifest)
        for split, name in FILE_NAMES.items():
            finish(files[split], folder / name)
    return manifest


def distribute(
    counts: Mapping[str, int], parameters: Parameters, on_progress: Progress | None = None
) -> Iterator[tuple[str, Examples]]:
    """Yield (split, examples) until every split has its count.

    Which draw goes where is shuffled over the whole set: common expressions come early, and a split of early draws
    would be an easier one.
    """
    total = sum(counts.values())
    names = list(FILE_NAMES)
    split_of = np.empty(total, np.uint8)
    split_of[shuffled(parameters.seed, total)] = np.repeat(np.arange(len(names)), [counts[name] for name in names])
    done = 0
    for part in distinct_examples(parameters, total):
        splits = split_of[done : done + len(part)]
        for number, name in enumerate(names):
            if (splits == number).any():
                yield name, part.where(splits == number)
        done += len(part)
        if on_progress:
            on_progress(done, total)


def _write(files: Mapping[str, IO[bytes]], parts: Iterator[tuple[str, Examples]]) -> dict[str, dict[str, Any]]:
    """Write every example to its split's file; return the size and hash of each."""
    digests = {split: hashlib.sha256() for split in files}
    sizes = dict.fromkeys(files, 0)

    def put(split: str, text: str) -> None:
        data = text.encode()
        files[split].write(data)
        digests[split].update(data)
        sizes[split] += len(data)

    for split in files:
        put(split, "Source\tTarget\n")
    for split, part in parts:
        lines = (f"{format_source(part.tokens(i).tobytes())}\t{part.labels[i]}\n" for i in range(len(part)))
        put(split, "".join(lines))
    return {FILE_NAMES[split]: {"bytes": sizes[split], "sha256": digests[split].hexdigest()} for split in files}
