"""An index as a folder: vectors in parts, each with its kind's own structure, searched as one.

A part never changes. What is added makes a new part, what is deleted is remembered and passed over, and results of the
parts are merged by exact scores (`building.py` makes the changes). N documents, Q queries, D width, k results a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.errors import DataError, RunError, UsageError
from quincunx.index.exact import NOTHING, Found, search_by
from quincunx.index.folder import check_hash, read_manifest
from quincunx.index.kinds import Searcher, read
from quincunx.index.options import KINDS, Settings, resolve_search
from quincunx.index.scored import best_of, inner, sorted_best
from quincunx.index.store import misfits
from quincunx.nn.attention.parts import without_autocast
from quincunx.runs import read_json

if TYPE_CHECKING:
    from quincunx.index.measured import Measured

MARGIN = 16
"""Documents that an exact kind names beyond k, so that rounding cannot leave one out."""
AT_ONCE = 1024
"""Queries searched at a time."""
SMALL = 4
"""A part is gone through whole where a search wants one in so many of its documents."""
ROUNDS = 8
"""Deeper searches for the queries that found too few, before all documents are compared with them."""


class Part:
    """Documents `start` to `start + count` of an index."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], entry: Mapping[str, Any], start: int) -> None:
        """Open what an entry of the manifest names; RunError where it is damaged."""
        self.start = start
        self.count = int(entry["count"])
        self.kind = str(entry["kind"])
        self.longest = float(entry["longest"])
        self.bytes = sum(manifest["files"][entry[name]]["bytes"] for name in ("vectors", "codes") if entry[name])
        self.searched_bytes = manifest["files"][entry["codes"] or entry["vectors"]]["bytes"]
        self._folder = folder
        self._codes: str | None = entry["codes"]
        self._facts = manifest["files"].get(entry["codes"])
        self.vectors = mapped(folder / entry["vectors"], (self.count, int(manifest["width"])))
        self.ids = _ids(folder / entry["ids"], self.count)
        self.removed = np.zeros(self.count, np.bool_)

    @cached_property
    def alive(self) -> int:
        """How many documents of it are there."""
        return self.count - int(self.removed.sum())

    @cached_property
    def searcher(self) -> Searcher:
        """Its kind's structure, read when it is first needed."""
        if self._codes is None:
            return read(self.kind, self.vectors, None)
        check_hash(self._folder, self._codes, self._facts)  # it is read whole anyway
        return read(self.kind, self.vectors, self._folder / self._codes)

    def candidates(self, queries: NDArray[np.float32], wanted: int, settings: Settings) -> NDArray[np.int64]:
        """Return for each query the likely best documents `[Q, wanted]`, those of the whole index's numbers.

        Documents that were deleted are none, and cost none: a query that finds too few others searches deeper, and is
        compared with all of them in the end.
        """
        wanted = min(wanted, self.alive)
        found = np.full((len(queries), wanted), NOTHING, np.int64)
        if wanted == 0:
            return found
        rows = np.arange(len(queries))
        if KINDS[self.kind].exact or wanted * SMALL < self.count:
            ask = min(self.count, -(-wanted * self.count // self.alive))
            for deeper in range(ROUNDS):
                named = self._alive_first(self.searcher.candidates(queries[rows], ask, 2**deeper, settings), wanted)
                enough = (named != NOTHING).sum(1) == wanted
                found[rows[enough]] = named[enough]
                rows = rows[~enough]
                if len(rows) == 0 or ask == self.count:
                    break
                ask = min(self.count, 2 * ask)
        if len(rows):
            found[rows] = self._compare_all(queries[rows], wanted)
        return np.where(found == NOTHING, NOTHING, found + self.start)

    def scores(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one query's scores with all documents `[N]`, minus infinity for those that were deleted."""
        values = np.empty(self.count, np.float32)
        for start in range(0, self.count, AT_ONCE):
            values[start : start + AT_ONCE] = inner(self.vectors[None, start : start + AT_ONCE], query[None])[0]
        values[self.removed] = -np.inf
        return values

    def _alive_first(self, named: NDArray, wanted: int) -> NDArray[np.int64]:
        """Return the first `wanted` of each row that are there, in their order, then NOTHING."""
        there = (named != NOTHING) & ~self.removed[np.maximum(named, 0)]
        order = np.argsort(~there, axis=1, kind="stable")[:, :wanted]
        first = np.take_along_axis(np.where(there, named, NOTHING), order, 1)
        return np.pad(first, ((0, 0), (0, wanted - first.shape[1])), constant_values=NOTHING)

    def _compare_all(self, queries: NDArray[np.float32], wanted: int) -> NDArray[np.int64]:
        asked, vectors = torch.from_numpy(queries), torch.from_numpy(self.vectors)
        gone = torch.from_numpy(self.removed)

        def score(q0: int, q1: int, d0: int, d1: int) -> Tensor:
            return (asked[q0:q1] @ vectors[d0:d1].T).masked_fill_(gone[d0:d1], -torch.inf)

        return search_by(score, len(queries), self.count, wanted).documents


class Index:
    """A searchable corpus.

    Attributes:
        folder: Where it is.
        kind: One of `options.KINDS`.
        options: The kind's, as it was made; those that a search reads can be given another value there.
        made: How its vectors were made; see `Store.made`.
        stores: Folders of the stores that its vectors came from, where texts can be looked up by id.
        width: D.
        generation: A number that grows with every change of the index.
        exact: Whether a search finds what comparing with every document finds.
        longest: No document's vector is longer.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Take a manifest that was found sound; `Index.open` makes sure of that."""
        try:
            self.folder = folder
            self.manifest = manifest
            self.kind: str = manifest["kind"]
            self.options: Mapping[str, int] = manifest["options"]
            self.made: Mapping[str, Any] = manifest["made"]
            self.stores: Sequence[str] = manifest["stores"]
            self.width = int(manifest["width"])
            self.generation = int(manifest["next"])
            self.parts: list[Part] = []
            for entry in manifest["parts"]:
                self.parts.append(Part(folder, manifest, entry, sum(part.count for part in self.parts)))
            self.exact = KINDS[self.kind].exact
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{folder} has a damaged manifest ({type(error).__name__}: {error}): make the index anew by "
                "quincunx index"
            ) from error
        self.longest = max((part.longest for part in self.parts), default=0.0)
        self._starts = np.array([part.start for part in self.parts], np.int64)
        self.ids: list[str] = [name for part in self.parts for name in part.ids]
        if manifest["removed"] is not None:
            removed = np.load(folder / manifest["removed"], allow_pickle=False)
            for part in self.parts:
                inside = removed[(removed >= part.start) & (removed < part.start + part.count)]
                part.removed[inside - part.start] = True

    @classmethod
    def open(cls, folder: str | Path, *, made: Mapping[str, Any] | None = None, verify: bool = False) -> Self:
        """Return the index of a folder.

        Args:
            folder: What `quincunx index` wrote.
            made: How the vectors of the queries are made (`Encoder.made("query")`); None: not compared.
            verify: Read all files and compare them with their hashes; without, sizes are compared, and hashes of what
                a search reads whole.

        Raises:
            UsageError: There is no index, or it was made by another encoder than `made` says.
            RunError: A file is missing, cut short or changed, or named outside the folder.
        """
        folder = Path(folder).expanduser()
        index = cls(folder, read_manifest(folder, verify=verify))
        if made is not None:
            index.check_fits(made)
        return index

    def check_fits(self, made: Mapping[str, Any], whose: str = "the encoder") -> None:
        """Raise UsageError, naming both, where vectors made so cannot be compared with the index's."""
        check_fit(self.made, str(self.folder), made, whose)

    def __len__(self) -> int:
        """N, without those deleted."""
        return sum(part.alive for part in self.parts)

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """The numbers of the documents that are there `[N]`, ascending; numbers of those deleted are not used again."""
        return np.concatenate([part.start + np.flatnonzero(~part.removed) for part in self.parts])

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each document that is there, by id."""
        return {self.ids[number]: number for number in self.documents.tolist()}

    @property
    def searched_bytes(self) -> int:
        """What a search goes through and is held in memory, vectors for rescoring left out."""
        return sum(part.searched_bytes for part in self.parts)

    @property
    def disk_bytes(self) -> int:
        """What the folder's files take."""
        return sum(facts["bytes"] for facts in self.manifest["files"].values())

    def search(
        self, queries: NDArray[np.float32] | Tensor, k: int, *, compare_all: bool = False, **options: int
    ) -> Found:
        """Return the k best documents of each query, by exact inner products of float32.

        Args:
            queries: `[Q, D]`, made as the index's vectors were.
            k: Results a query; where the index has fewer documents, NOTHING and minus infinity fill the row.
            compare_all: Compare with every document, whatever the kind.
            options: In place of the index's own: `nprobe`, `ef_search`, `oversample`, as its kind has them.

        Raises:
            UsageError: k below 1, an option that the kind does not have, queries of another width.
            DataError: A query has a number that is not finite.
            RunError: The index's files are damaged.
        """
        settings = {**self.options, **resolve_search(self.kind, options)}
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise UsageError(f"k is {k!r}: a search returns 1 document or more")
        asked = self._queries(queries)
        with without_autocast(torch.empty(0)):
            blocks = [
                self._search(asked[start : start + AT_ONCE], k, settings, compare_all)
                for start in range(0, max(1, len(asked)), AT_ONCE)
            ]
        return Found(
            np.concatenate([block.documents for block in blocks]), np.concatenate([block.scores for block in blocks])
        )

    def vectors(self, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors `[n, D]` of documents by number `[n]`."""
        if len(self.parts) == 1:
            return np.asarray(self.parts[0].vectors[documents])
        found = np.empty((len(documents), self.width), np.float32)
        owners = np.searchsorted(self._starts, documents, side="right") - 1
        for number, part in enumerate(self.parts):
            mine = owners == number
            if mine.any():
                found[mine] = part.vectors[documents[mine] - part.start]
        return found

    def recall(
        self, queries: NDArray[np.float32] | Tensor | None = None, k: int = 10, *, sample: int = 200, **options: int
    ) -> Measured:
        """Return how much of the exact k best a search finds, and how fast; see `measured.measure`."""
        from quincunx.index.measured import measure

        return measure(self, queries, k, sample=sample, **options)

    def _search(self, queries: NDArray[np.float32], k: int, settings: Settings, compare_all: bool) -> Found:
        everything = compare_all or self.exact
        wanted = k + MARGIN if everything else k * settings.get("oversample", 1)
        named: list[NDArray[np.int64]] = []
        for part in self.parts:
            if compare_all and not self.exact:
                found = part._compare_all(queries, min(wanted, part.alive))
                named.append(np.where(found == NOTHING, NOTHING, found + part.start))
            else:
                named.append(part.candidates(queries, wanted, settings))
        found, scores = best_of(queries, np.concatenate(named, axis=1), self.vectors, k)
        if everything:
            self._settle(found, scores, queries, [block.shape[1] for block in named])
        return found

    def _settle(
        self, found: Found, scores: NDArray[np.float32], queries: NDArray[np.float32], widths: Sequence[int]
    ) -> None:
        """Compare anew with every document, in place, where one left out may score as high as the k-th found.

        Those named were chosen by a matrix product, which may be off in its last bits: among equal or nearly equal
        scores it decides by chance who is named.
        """
        k = found.documents.shape[1]
        lengths = np.sqrt(np.einsum("qd,qd->q", queries, queries))
        error = 2 * (self.width + 1) * 2.0**-24 * lengths * self.longest
        crowded, at = np.zeros(len(queries), np.bool_), 0
        for part, width in zip(self.parts, widths, strict=True):
            if width < part.alive:
                least = scores[:, at : at + width].min(1)
                crowded |= least >= found.scores[:, k - 1] - error
            at += width
        for row in np.flatnonzero(crowded):
            values = np.concatenate([part.scores(queries[row]) for part in self.parts])
            keep = np.flatnonzero(values >= np.partition(values, -k)[-k])
            best = sorted_best(keep[None], values[None, keep], k)
            found.documents[row], found.scores[row] = best.documents[0], best.scores[0]

    def _queries(self, queries: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
        values = queries.detach().cpu().float().numpy() if isinstance(queries, Tensor) else queries
        values = np.ascontiguousarray(values, np.float32)
        if values.ndim != 2 or values.shape[1] != self.width:
            raise UsageError(
                f"queries of shape {list(values.shape)} for an index of width {self.width}: expected [Q, {self.width}]"
            )
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        if len(bad):
            raise DataError(f"the vector of query {bad[0]} (of {len(values)}, from 0) has a number that is not finite")
        return values


def check_fit(made: Mapping[str, Any], where: str, other: Mapping[str, Any], whose: str) -> None:
    """Raise UsageError, naming both, where two sets of vectors cannot be compared.

    Queries may have a tokenizer of their own: it is compared between the same sides only.
    """
    sides = {made.get("side"), other.get("side")}
    found = misfits(made, other if len(sides) == 1 else {**other, "tokenizer": made.get("tokenizer")})
    if found:
        raise UsageError(
            f"{where} does not fit {whose}: {'; '.join(found)}. Encode the corpus with the same run and checkpoint, or "
            "search with the run that it was encoded with"
        )


def mapped(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the vectors that a file holds, at their place in it."""
    try:
        # copy on write: torch wants memory that could be written, and the file stays as it is
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="c")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if array.shape != shape or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise RunError(f"{path} holds {array.dtype} {list(array.shape)}, the manifest says float32 {list(shape)}")
    return np.asarray(array)


def _ids(path: Path, count: int) -> list[str]:
    found = read_json(path)
    if not isinstance(found, list) or len(found) != count or not all(isinstance(name, str) for name in found):
        raise RunError(f"{path} is damaged: expected a list of {count:,} ids")
    return found
