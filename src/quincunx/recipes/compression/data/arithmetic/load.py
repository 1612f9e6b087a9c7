"""Arithmetic as an experiment takes it: read from a folder, or generated once and kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quincunx.data.cache import cache_folder
from quincunx.errors import DataError
from quincunx.recipes.compression.data.arithmetic.export import FILE_NAMES, SET, Progress, generate, request_of
from quincunx.recipes.compression.data.arithmetic.judge import judge
from quincunx.recipes.compression.data.arithmetic.language import ALPHABET, KINDS, SEPARATOR, written
from quincunx.recipes.compression.data.arithmetic.problems import INSIDE, OUTSIDE, SPLITS, Parameters


class ArithmeticSettings(Protocol):
    """The section of the config; see `recipes/compression/config_generated.py`."""

    @property
    def train(self) -> int: ...
    @property
    def dev(self) -> int: ...
    @property
    def test(self) -> int: ...
    @property
    def ood(self) -> int: ...
    @property
    def max_num(self) -> int: ...
    @property
    def max_entities(self) -> int: ...
    @property
    def entity_probability(self) -> float: ...
    @property
    def multiply_probability(self) -> float: ...
    @property
    def max_factor(self) -> int: ...
    @property
    def space_multiplications(self) -> bool: ...
    @property
    def zipf_order(self) -> float: ...
    @property
    def ood_max_num(self) -> int | None: ...
    @property
    def ood_max_entities(self) -> int | None: ...
    @property
    def problem_length(self) -> int | None: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, eq=False)
class ArithmeticExample:
    """A problem with its solution, as tokens."""

    tokens: NDArray[np.uint8]
    """Token ids of the padded problem, the separator, the solution and the end [S]."""
    problem_length: int
    """Tokens before the first separator, padding included."""
    kinds: tuple[str, ...]
    """What each step of the solution does, one of `language.KINDS`; empty where the file does not say."""

    @property
    def text(self) -> str:
        """The tokens as text, padding included."""
        return ALPHABET.decode(self.tokens)

    @property
    def problem(self) -> str:
        """The problem without padding."""
        return self.text[: self.problem_length].rstrip(ALPHABET.pad)

    @property
    def solution(self) -> str:
        """What follows the first separator, without the end."""
        return self.text[self.problem_length + 1 : -1]


@dataclass(frozen=True, eq=False)
class ArithmeticSource:
    """Examples by number: a `quincunx.data.loader.Source`."""

    flat: NDArray[np.uint8]
    """Token ids of all examples one after another [T]."""
    offsets: NDArray[np.int64]
    """Where each example starts, and the end of the last [N + 1]."""
    problem_length: int
    kinds: NDArray[np.uint8]
    """Places in KINDS of all steps one after another."""
    kind_offsets: NDArray[np.int64]
    """Likewise [N + 1]."""

    @classmethod
    def of(cls, rows: Sequence[tuple[str, str, Sequence[str]]], problem_length: int) -> ArithmeticSource:
        """Return a source of (problem, solution, kinds of steps) rows; DataError for symbols that are none."""
        texts = [written(problem, solution, problem_length) for problem, solution, _ in rows]
        places = {kind: place for place, kind in enumerate(KINDS)}
        kinds = np.array([places[kind] for _, _, row in rows for kind in row], np.uint8)
        lengths, steps = list(map(len, texts)), [len(row) for _, _, row in rows]
        return cls(ALPHABET.encode("".join(texts)), _offsets(lengths), problem_length, kinds, _offsets(steps))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example [N]."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> ArithmeticExample:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        tokens = self.flat[self.offsets[index] : self.offsets[index + 1]]
        kinds = self.kinds[self.kind_offsets[index] : self.kind_offsets[index + 1]]
        return ArithmeticExample(tokens, self.problem_length, tuple(KINDS[kind] for kind in kinds.tolist()))

    def fingerprint(self) -> str:
        """Return a SHA-256 of the tokens."""
        digest = hashlib.sha256(f"arithmetic {self.problem_length}\n".encode())
        digest.update(np.diff(self.offsets).astype("<u4").tobytes())
        digest.update(np.ascontiguousarray(self.flat).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class ArithmeticSplits:
    """The data of an experiment, and what is to be said about it."""

    sources: Mapping[str, ArithmeticSource]
    """Split -> examples: train, dev, test and what there is of `problems.OUTSIDE`."""
    problem_length: int
    notes: list[str] = field(default_factory=list[str])
    """Sentences for the terminal and the report."""


def parameters_of(settings: ArithmeticSettings) -> Parameters:
    """Return what a config section draws: unset limits of the splits out of distribution are one digit, two numbers
    more; where those splits are left out, their limits have no effect. UsageError for settings without meaning."""
    values = {f.name: getattr(settings, f.name) for f in fields(Parameters) if not f.name.startswith("ood_")}
    if settings.ood == 0:
        return Parameters(**values, ood_max_num=settings.max_num + 1, ood_max_entities=settings.max_entities + 1)
    largest, most = settings.ood_max_num, settings.ood_max_entities
    return Parameters(
        **values,
        ood_max_num=settings.max_num * 10 + 9 if largest is None else largest,
        ood_max_entities=settings.max_entities + 2 if most is None else most,
    )


def counts_of(settings: ArithmeticSettings) -> dict[str, int]:
    """Return the examples of each split that a config section asks for."""
    return {split: getattr(settings, split) for split in INSIDE} | dict.fromkeys(OUTSIDE, settings.ood)


def load(
    settings: ArithmeticSettings,
    *,
    path: str | None = None,
    cache: str | None = None,
    limit: int | None = None,
    on_progress: Progress | None = None,
) -> ArithmeticSplits:
    """Return the splits that a config section describes.

    Args:
        settings: The section; without effect where `path` is given.
        path: Folder of a set that was written before.
        cache: Folder for generated sets; None for the usual one.
        limit: At most so many examples of each split.
        on_progress: Told how generating goes on.

    Raises:
        UsageError: Settings without meaning.
        DataError: Files missing or bad; too few different problems; a cache that cannot be written.
    """
    if path is not None:
        return read(Path(path).expanduser(), limit)
    parameters = parameters_of(settings)
    counts = counts_of(settings)
    if limit is not None:
        counts = {split: min(count, limit) for split, count in counts.items()}
    request = request_of(parameters, counts, settings.problem_length)
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder(cache) / f"arithmetic-{key}"
    generate(folder, counts, parameters, problem_length=settings.problem_length, wait=True, on_progress=on_progress)
    splits = read(folder)
    sizes = ", ".join(f"{split} {len(source):,}" for split, source in splits.sources.items())
    return ArithmeticSplits(
        splits.sources, splits.problem_length, [f"Arithmetic by rule, seed {settings.seed}: {sizes} ({folder})."]
    )


def read(folder: Path, limit: int | None = None) -> ArithmeticSplits:
    """Return the splits in a folder: those whose files there are, `train`, `dev` and `test` at least.

    Without a manifest, problems are padded to the longest there is, and `kinds` may be missing. A solution may skip
    steps, as a shortened one does, but has to end in the right number.

    Raises:
        DataError: The folder, a file or a field is missing; a row that is no arithmetic; a file not as the manifest
            says.
    """
    manifest = SET.read(folder)
    if manifest and (damage := SET.damage(folder, manifest.files, content=True)):
        raise DataError(
            f"{damage[0]}; generate the set again, or delete {folder / SET.manifest_name} to read the files as they are"
        )
    there = [split for split in SPLITS if (folder / FILE_NAMES[split]).is_file()]
    if missing := [FILE_NAMES[split] for split in INSIDE if split not in there]:
        raise DataError(f"{folder} holds no {' and no '.join(missing)}; expected an arithmetic set")
    # what the manifest vouches for was right when it was written
    rows = {split: _rows(folder / FILE_NAMES[split], limit, verified=manifest is not None) for split in there}
    longest = max(len(problem) for split in there for problem, _, _ in rows[split])
    width = manifest.problem_length if manifest else longest
    if longest > width:
        raise DataError(f"{folder}: a problem has {longest} characters, the manifest says {width} at most")
    sources = {split: ArithmeticSource.of(rows[split], width) for split in there}
    notes = [f"{folder}: arithmetic, " + ", ".join(f"{split} {len(rows[split]):,}" for split in there) + "."]
    return ArithmeticSplits(sources, width, notes)


def _rows(path: Path, limit: int | None, *, verified: bool) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the (problem, solution, kinds) rows of a file."""
    rows: list[tuple[str, str, tuple[str, ...]]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if limit is not None and len(rows) >= limit:
                break
            try:
                row = json.loads(line)
                rows.append((row["problem"], row["solution"], tuple(row["kinds"])) if verified else _row(row))
            except (ValueError, TypeError, KeyError, DataError) as error:
                raise DataError(f"{path}:{number}: {error}") from None
    if not rows:
        raise DataError(f"{path} holds no rows")
    return rows


def _row(row: Any) -> tuple[str, str, tuple[str, ...]]:
    """Return a row of a file that nothing vouches for, its answer computed anew."""
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("problem", "solution")):
        raise DataError('expected {"problem": text, "solution": text}')
    problem, solution = str(row["problem"]), str(row["solution"])
    verdict = judge(problem + SEPARATOR + solution + ALPHABET.eos)
    ALPHABET.encode(problem + solution)
    if verdict.problem != problem or len(solution) != verdict.length:
        raise DataError(f"{problem!r} and {solution!r} hold other symbols than digits, +, * and =")
    if not verdict.correct:
        raise DataError(f"the solution of {problem} ends in {verdict.answer}, its value is {verdict.value}")
    kinds = tuple(row.get("kinds") or ())
    if kinds and (len(kinds) != len(verdict.steps) or not set(kinds) <= set(KINDS)):
        raise DataError(f"expected one of {', '.join(KINDS)} for each of {len(verdict.steps)} steps, found {kinds}")
    return problem, solution, kinds


def _offsets(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(lengths, np.int64))])
