"""Writes a generated arithmetic set: one JSON Lines file a split, and a manifest beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from quincunx.data.generated import GeneratedSet, SetManifest, check_files
from quincunx.data.partial import finish, partial_file
from quincunx.errors import UsageError
from quincunx.recipes.compression.data.arithmetic.problems import INSIDE, OUTSIDE, SPLITS, Parameters, deal
from quincunx.recipes.compression.data.arithmetic.solve import solve
from quincunx.runs.files import to_json

FORMAT = 1
"""Raised whenever the same parameters would give other examples or other files."""

FILE_NAMES = {split: f"{split}.jsonl" for split in SPLITS}
"""Split -> file name."""

Progress = Callable[[int, int], None]
"""Called with the number of examples done and wanted."""


@dataclass(frozen=True)
class Manifest(SetManifest):
    """What a generated set is, and what its files must be."""

    REQUEST = ("format", "parameters", "counts", "problem_length")

    parameters: dict[str, Any]
    counts: dict[str, int]
    """Split -> examples, of the splits there are."""
    problem_length: int
    """Characters to which every problem is padded."""
    files: dict[str, dict[str, Any]]
    """File name -> `{"bytes": int, "sha256": str}`."""

    def __post_init__(self) -> None:
        check_files(self.files, [FILE_NAMES[split] for split in self.counts])
        if not isinstance(self.problem_length, int) or self.problem_length < 1:
            raise ValueError(f"the problem length is {self.problem_length!r}")


SET = GeneratedSet("arithmetic", "arithmetic.json", Manifest, FILE_NAMES.values())


def request_of(parameters: Parameters, counts: Mapping[str, int], problem_length: int | None = None) -> dict[str, Any]:
    """Return what determines a generated set.

    Args:
        parameters: What problems are drawn.
        counts: Examples of `train`, `dev` and `test`, at least 1 each, and of the splits out of distribution.
        problem_length: Characters to which problems are padded; None for those of the longest that can be drawn.

    Raises:
        UsageError: Other counts; a length that some problem exceeds.
    """
    unknown = [split for split in counts if split not in SPLITS]
    if unknown or any(counts.get(split, 0) < 1 for split in INSIDE) or min(counts.values()) < 0:
        raise UsageError(
            f"expected at least 1 example each for {', '.join(INSIDE)} and any number for {', '.join(OUTSIDE)}; found "
            f"{dict(counts)}"
        )
    longest = parameters.longest(any(counts.get(split) for split in OUTSIDE))
    if problem_length is not None and problem_length < longest:
        raise UsageError(f"problem_length is {problem_length}; a problem may have {longest} characters")
    return {
        "format": FORMAT,
        "parameters": asdict(parameters),
        "counts": {split: int(counts[split]) for split in SPLITS if counts.get(split)},
        "problem_length": problem_length or longest,
    }


def generate(
    out_dir: str | Path,
    counts: Mapping[str, int],
    parameters: Parameters,
    *,
    problem_length: int | None = None,
    wait: bool = False,
    on_progress: Progress | None = None,
) -> Manifest:
    """Write a file a split and `arithmetic.json` into a folder, made if missing; return the manifest.

    A row is `{"problem": "12+7", "solution": "7+12=2+7+10=9+10=19", "kinds": ["rearrange", ...]}`. No problem, nor a
    rearrangement of it, is in two of `train`, `dev` and `test`. Files appear whole or not at all; what an interrupted
    run left is replaced; a set that is already there as asked for is kept.

    Args:
        out_dir: The folder.
        counts: As in `request_of`.
        parameters: What problems are drawn.
        problem_length: As in `request_of`.
        wait: Wait for another process that writes the same set, rather than give up.
        on_progress: Told how it goes on.

    Raises:
        UsageError: The folder holds other data; settings without meaning.
        DataError: It cannot be written, or there are too few different problems.
    """
    folder = Path(out_dir).expanduser()
    request = request_of(parameters, counts, problem_length)
    if present := _whole(folder, request):
        return present
    wanted: dict[str, int] = request["counts"]
    with SET.writing(folder), ExitStack() as stack:
        files = {split: stack.enter_context(partial_file(folder / FILE_NAMES[split], wait=wait)) for split in wanted}
        if wait and (present := _whole(folder, request)):
            return present
        facts = _write(files, deal(parameters, wanted), on_progress)
        manifest = Manifest(**request, files=facts)
        SET.write(folder, manifest)
        for split, file in files.items():
            finish(file, folder / FILE_NAMES[split])
    return manifest


def _whole(folder: Path, request: Mapping[str, Any]) -> Manifest | None:
    """Return the manifest of the set that is asked for, if the folder holds all of it."""
    present = SET.found(folder, request)
    return present if present and not SET.damage(folder, present.files, content=False) else None


def _write(
    files: Mapping[str, IO[bytes]], problems: Mapping[str, list[str]], on_progress: Progress | None
) -> dict[str, dict[str, Any]]:
    """Solve every problem and write it to its split's file; return the size and hash of each."""
    facts: dict[str, dict[str, Any]] = {}
    total, done = sum(map(len, problems.values())), 0
    for split, file in files.items():
        digest, size = sha256(), 0
        for problem in problems[split]:
            steps = solve(problem)
            row = {
                "problem": problem,
                "solution": "=".join(step.statement for step in steps),
                "kinds": [step.kind for step in steps],
            }
            line = to_json(row) + b"\n"
            file.write(line)
            digest.update(line)
            size += len(line)
            done += 1
            if on_progress and (done % 1000 == 0 or done == total):
                on_progress(done, total)
        facts[FILE_NAMES[split]] = {"bytes": size, "sha256": digest.hexdigest()}
    return facts
