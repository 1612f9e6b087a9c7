"""Python's own library as a retrieval corpus, in BEIR's layout: which function does a docstring's first sentence mean?

Every function of the running interpreter's standard library (and of packages named) that says what it does gives one
pair; `python_functions` says which and how. Most functions say nothing: the words of their names are queries for
training, in a file of their own. There is nothing to download. Needs no torch.
"""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tokenize import TokenError
from typing import Any

from quincunx.data.generated import GeneratedSet, SetManifest, check_files
from quincunx.data.order import permutation
from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data.python_functions import Pair, is_test, names_of, pairs_of, read_source
from quincunx.recipes.retrieval.data.texts import content_hash
from quincunx.runs.files import to_json, write_atomically
from quincunx.seeds import address

FORMAT = 2
"""Raised whenever the same request would give other pairs or other files."""

SHARES = {"train": 80, "dev": 10, "test": 10}
"""Split -> per cent of the modules."""

_HEADER = "query-id\tcorpus-id\tscore\n"


NAMED = "names.jsonl"
"""Training pairs of a function's name and its code."""
NAMES = ("corpus.jsonl", "queries.jsonl", NAMED, *(f"qrels/{split}.tsv" for split in SHARES))
"""The files of a set."""


@dataclass(frozen=True)
class Manifest(SetManifest):
    """What a mined set is, and what its files must be."""

    REQUEST = ("format", "python", "packages", "seed", "limit")

    python: str
    packages: dict[str, str]
    """Package -> version, of those mined beside the standard library."""
    seed: int
    limit: int | None
    counts: dict[str, int]
    """Split -> pairs."""
    named: int
    """Pairs of name and code."""
    modules: int
    """Files read."""
    skipped: dict[str, int]
    """What gave no pair, in words -> how often."""
    files: dict[str, dict[str, Any]]
    """File name -> `{"bytes": int, "sha256": str}`."""

    def __post_init__(self) -> None:
        check_files(self.files, NAMES)

    @property
    def pairs(self) -> int:
        """The number of pairs of all splits."""
        return sum(self.counts.values())


SET = GeneratedSet("code search", "code_search.json", Manifest, NAMES)


def generate(out_dir: str | Path, *, packages: Sequence[str] = (), seed: int = 0, limit: int | None = None) -> Manifest:
    """Write a BEIR folder, with further training pairs in `names.jsonl`, and a manifest; return that.

    Whole modules go to one split, by a hash of seed and module. No query and no document occurs twice. `names.jsonl`
    has the functions of the training modules, those of the pairs as well, under the words of their names, and no code
    that dev and test ask for. A set that is
    there as asked for is kept; files appear whole or not at all, and what an interrupted run left is replaced.

    Args:
        out_dir: The folder, made if missing.
        packages: Installed packages to mine as well, by the names under which they are imported.
        seed: Of the split, and of the choice that `limit` makes.
        limit: At most so many pairs, and as many of names, chosen at random.

    Raises:
        UsageError: A package that is not installed, a limit below 1, a folder that holds other data.
        DataError: The folder cannot be written, or nothing is left.
    """
    folder = Path(out_dir).expanduser()
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} pairs leaves none; expected 1 or more")
    roots = dict(stdlib_roots())
    roots |= {name: package_root(name) for name in sorted(set(packages))}
    versions = {name: _version(name) for name in sorted(set(packages))}
    request = {
        "format": FORMAT,
        "python": platform.python_version(),
        "packages": versions,
        "seed": seed,
        "limit": limit,
    }
    present = SET.found(folder, request)
    if present and not SET.damage(folder, present.files, content=True):
        return present
    skipped: Counter[str] = Counter()
    modules = list(module_files(roots))
    pairs = chosen(distinct(mine(modules, skipped), skipped), seed, limit)
    split_of = {module: split_of_module(module, seed) for module in {pair.module for pair in pairs}}
    counts = Counter(split_of[pair.module] for pair in pairs)
    if set(counts) != set(SHARES):
        raise DataError(
            f"{len(pairs):,} pairs leave a split empty (train {counts['train']}, dev {counts['dev']}, test "
            f"{counts['test']}); ask for more than {limit} pairs, or take another seed than {seed}"
        )
    training = [each for each in modules if split_of_module(each[0], seed) == "train"]
    measured = {pair.document for pair in pairs if split_of[pair.module] != "train"}
    named = chosen(fresh(mine(training, Counter(), names_of), measured), seed, limit)
    contents = _contents(pairs, split_of) | {NAMED: _named(named)}
    files = {name: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in contents.items()}
    ordered = {split: counts[split] for split in SHARES}
    manifest = Manifest(
        **request,
        counts=ordered,
        named=len(named),
        modules=len(modules),
        skipped=dict(sorted(skipped.items())),
        files=files,
    )
    with SET.writing(folder):
        SET.write(folder, manifest)
        for name, data in contents.items():
            write_atomically(folder / name, data)
    return manifest


def stdlib_roots() -> Iterator[tuple[str, Path]]:
    """Yield (module, file or folder) for what the standard library has as source, in sorted order."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        for path in (library / name, library / f"{name}.py"):
            if path.is_file() or (path / "__init__.py").is_file():
                yield name, path
                break


def package_root(name: str) -> Path:
    """Return where an installed package's source is; UsageError where it has none, or is not installed."""
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None:
        raise UsageError(f"--packages: there is no installed package {name!r}, by the name under which it is imported")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise UsageError(f"--packages: {name} has no Python source to read")
    return Path(spec.origin)


def module_files(roots: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Yield (module, file) for every source file below the roots but tests, sorted by module."""
    found: list[tuple[str, Path]] = []
    for name, root in roots.items():
        paths = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        for path in paths:
            inner = path.relative_to(root).with_suffix("").parts if root.is_dir() else ()
            parts = [name, *(part for part in inner if part != "__init__")]
            # files whose names no import could say are templates and data
            if all(part.isidentifier() for part in parts) and not is_test(parts):
                found.append((".".join(parts), path))
    return iter(sorted(found))


def mine(
    modules: Iterable[tuple[str, Path]],
    skipped: Counter[str],
    pairs: Callable[[str, str, Counter[str]], Iterator[Pair]] = pairs_of,
) -> Iterator[Pair]:
    """Yield the pairs of source files, made by `pairs_of` or `names_of`; count functions and files that give none."""
    for module, path in modules:
        functions: Counter[str] = Counter()
        try:
            yield from pairs(module, read_source(path), functions)
        except (OSError, SyntaxError, ValueError, RecursionError, TokenError):
            skipped["files that cannot be read"] += 1
        for reason, count in functions.items():
            skipped[f"functions {reason}"] += count


def distinct(pairs: Iterable[Pair], skipped: Counter[str]) -> Iterator[Pair]:
    """Yield the pairs whose query and whose document no earlier pair had."""
    queries, documents = set[int](), set[int]()
    for pair in pairs:
        query, document = content_hash(pair.query.casefold().encode()), content_hash(pair.document.encode())
        if query in queries:
            skipped["functions whose sentence another has"] += 1
        elif document in documents:
            skipped["functions whose code another has"] += 1
        else:
            queries.add(query)
            documents.add(document)
            yield pair


def fresh(pairs: Iterable[Pair], known: Iterable[str]) -> Iterator[Pair]:
    """Yield the pairs whose document no earlier pair had, and which is not among `known` ones."""
    documents = {content_hash(document.encode()) for document in known}
    for pair in pairs:
        document = content_hash(pair.document.encode())
        if document not in documents:
            documents.add(document)
            yield pair


def chosen(pairs: Iterable[Pair], seed: int, limit: int | None) -> list[Pair]:
    """Return all pairs, or `limit` of them by a permutation of the seed, in their order."""
    whole = list(pairs)
    if limit is None or limit >= len(whole):
        return whole
    places = permutation(len(whole), address(seed, "code search", "limit"))[:limit]
    return [whole[place] for place in sorted(places.tolist())]


def split_of_module(module: str, seed: int) -> str:
    """Return a module's split: a function of seed and name alone."""
    draw = address(seed, "code search", "split", module) % 100
    for split, share in SHARES.items():
        if draw < share:
            return split
        draw -= share
    raise AssertionError("the shares add up to 100")


def _contents(pairs: Sequence[Pair], split_of: Mapping[str, str]) -> dict[str, bytes]:
    """Return what each file is to hold."""
    corpus = b"".join(to_json({"_id": pair.id, "title": "", "text": pair.document}) + b"\n" for pair in pairs)
    queries = b"".join(to_json({"_id": pair.id, "text": pair.query}) + b"\n" for pair in pairs)
    judged = {
        f"qrels/{split}.tsv": "".join(
            [_HEADER, *(f"{pair.id}\t{pair.id}\t1\n" for pair in pairs if split_of[pair.module] == split)]
        ).encode()
        for split in SHARES
    }
    return {"corpus.jsonl": corpus, "queries.jsonl": queries, **judged}


def _named(pairs: Sequence[Pair]) -> bytes:
    return b"".join(to_json({"query": pair.query, "positive": pair.document}) + b"\n" for pair in pairs)


def _version(package: str) -> str:
    """Return the version of what is imported under a name; `unknown` where no distribution says it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a distribution may be called otherwise than what it holds
        names = metadata.packages_distributions().get(package, [])
        return metadata.version(names[0]) if names else "unknown"
