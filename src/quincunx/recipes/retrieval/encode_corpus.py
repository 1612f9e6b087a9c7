"""A whole corpus to a store of vectors, by any number of processes, in memory that does not grow with it.

Each process goes through the shards in order and makes those that nobody has made or is making; so a process that is
killed, or a command that is given again, costs no more than the shard it was at.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quincunx.errors import DataError, QuincunxError, UsageError
from quincunx.index.filling import Filling, Plan, begin
from quincunx.index.shards import STORED, Shard
from quincunx.index.store import Store
from quincunx.recipes.retrieval.backends.calibrate import check_enough
from quincunx.recipes.retrieval.data.readers.files import BadRows
from quincunx.recipes.retrieval.data.stream import CorpusStream, Mark, Row, add_content, content_hasher
from quincunx.recipes.retrieval.data.survey import survey
from quincunx.recipes.retrieval.encode import SIDES, Encoder
from quincunx.recipes.retrieval.evaluate.vectors import Limits
from quincunx.runs.files import to_json, write_atomically

SHARD = 4096
"""Documents of a shard where nobody says otherwise: what a kill costs at most."""
SKIPPED = "skipped_rows.jsonl"
_CALIBRATION = (16, 24)
"""Places of the corpus from which texts are taken to set 8 bits up by, and texts of each."""

log = logging.getLogger("quincunx")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What is to be encoded, and how; the arguments of `encode_corpus`."""

    run: str
    corpus: str
    out: str
    format: str = "auto"
    shard_size: int | None = None
    precision: str = "auto"
    dtype: str = "float32"
    backend: str = "torch"
    int8: bool = False
    checkpoint: str = "best"
    device: str = "auto"
    side: str = "document"
    texts: bool = True
    skip_bad_rows: bool = False
    batch_size: int | None = None


@dataclass(frozen=True)
class Encoded:
    """What has become of a corpus."""

    store: Store
    documents: int
    """Those encoded by this process."""
    seconds: float
    """That took it, the model's loading and the first going through not counted."""
    notes: list[str]


def encode_corpus(
    run: str | os.PathLike[str],
    corpus: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    processes: int = 1,
    on_progress: Progress | None = None,
    **options: Any,
) -> Encoded:
    """Encode a corpus into a store, or go on with one that was begun.

    Args:
        run: A bi- or poly-encoder's run folder.
        corpus: A file or folder, as `CorpusStream` reads it.
        out: The store's folder. The same call in another process, on this machine or another that sees the folder,
            shares the work.
        processes: So many processes of this machine, this one included, its threads divided among them.
        on_progress: Called with (documents encoded, all), by all processes together.
        options: `format` (`auto`, `jsonl`, `tsv`, `files`), `shard_size` (documents of a shard, 4096), `precision`,
            `backend`, `int8`, `checkpoint` and `device` as `Encoder.load`, `dtype` (`float32`, `float16`: how vectors
            are stored), `side`, `texts` (False: they are not kept), `skip_bad_rows`, `batch_size` (texts computed at
            once, at most).

    Raises:
        UsageError: A run that has no vectors of texts, wrong options, or a folder that holds something else: other
            files, vectors made otherwise, another corpus. Nothing in it is changed then.
        DataError: A corpus that is empty, cannot be read, has bad rows or repeated ids, or changed meanwhile.
        RunError: The run has no checkpoint, or a shard cannot be written.
    """
    request = Request(os.fspath(run), os.fspath(corpus), os.fspath(out), **options)
    _check(request, processes)
    job = _Job(request)
    filling = job.begin()
    started, made = time.perf_counter(), 0
    if filling is not None:
        with _shared(request, processes if len(filling.missing) > 1 else 1, job.encoder.runtime.device.type):
            made = job.fill(filling, on_progress)
    job.stream.close()
    drop = job.encoder.drop(request.side)
    notes = [*job.stream.notes, *([] if drop is None else [drop])]
    return Encoded(Store.open(job.out), made, time.perf_counter() - started, notes)


class _Job:
    """One process's share of the work."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.out = Path(request.out).expanduser()
        self.stream = CorpusStream(request.corpus, request.format)
        limits = Limits(texts=request.batch_size)
        self.encoder = Encoder.load(
            request.run,
            backend=request.backend,
            precision=request.precision,
            device=request.device,
            checkpoint=request.checkpoint,
            int8=request.int8,
            limits=limits,
        )
        if self.encoder.poly and request.side == "query":
            raise UsageError("a poly-encoder's queries have several vectors each, and are not stored: encode documents")

    def begin(self) -> Filling | None:
        """Return the store to be filled; None where it is whole already."""
        made = {**self.encoder.made(self.request.side), "dtype": self.request.dtype}

        def make() -> Plan:
            size = self.request.shard_size or SHARD
            found, bad = self._survey(size)
            if self.request.int8:
                check_enough(sum(part.rows for part in found.parts))
            if bad.count:
                lines = b"".join(to_json(row) + b"\n" for row in bad.listed)
                write_atomically(self.out / SKIPPED, lines)
                self.stream.notes.append(f"{bad.count:,} bad rows were left out: {self.out / SKIPPED}")
            return Plan(made, found.corpus, size, self.request.texts, found.parts)

        return begin(self.out, made, make, self._same)

    def fill(self, filling: Filling, on_progress: Progress | None = None) -> int:
        """Make what is missing, as far as others do not, and return how many documents were encoded here."""
        plan, encoded = filling.plan, 0
        if self.encoder.int8:
            self.encoder.calibration = self._sample(plan)

        def shown(number: int) -> None:
            nonlocal encoded
            encoded += plan.parts[number].rows
            if on_progress is not None:
                missing = sum(plan.parts[number].rows for number in filling.missing)
                on_progress(plan.rows - missing, plan.rows)

        filling.fill(lambda number: self._shard(plan, number), shown)
        filling.close()
        return encoded

    def _shard(self, plan: Plan, number: int) -> Shard:
        part, hasher = plan.parts[number], content_hasher()
        rows = self._rows(plan, part.mark, part.rows)
        for row in rows:
            add_content(hasher, row)
        if hasher.hexdigest() != part.content:
            raise DataError(
                f"{self.stream.path} has changed since it was gone through: the {part.rows:,} documents from line "
                f"{Mark(*part.mark).line} on are others. Shards that are whole stay; put the corpus back and run the "
                "same command again, or encode the new one to another --out"
            )
        vectors = self.encoder.encode([row.text for row in rows], self.request.side)
        with np.errstate(over="ignore"):
            stored = vectors.astype(self.request.dtype)
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            name = rows[int(np.flatnonzero(~finite)[0])].id
            how = "" if np.isfinite(vectors).all() else ": the model's weights or its precision are at fault"
            raise DataError(
                f"the vector of document {name!r} is not finite as {self.request.dtype}"
                + (how or ", whose numbers end at 65,504: store float32")
            )
        return Shard([row.id for row in rows], stored, [row.text for row in rows] if plan.texts else None)

    def _rows(self, plan: Plan, mark: Any, count: int) -> list[Row]:
        left_out = {(file, line) for file, line in plan.corpus["left_out"]}
        return list(islice(self.stream.rows(BadRows(skip=True), Mark(*mark), left_out), count))

    def _sample(self, plan: Plan) -> list[str]:
        """Return texts from all over the corpus, the same in every process."""
        places, each = _CALIBRATION
        numbers = np.unique(np.linspace(0, len(plan.parts) - 1, places).astype(int)).tolist()
        count = max(each, places * each // len(numbers))
        return [
            row.text
            for number in numbers
            for row in self._rows(plan, plan.parts[number].mark, min(count, plan.parts[number].rows))
        ]

    def _survey(self, size: int) -> Any:
        bad = BadRows(skip=self.request.skip_bad_rows)
        return survey(self.stream, size, bad, scratch=self.out), bad

    def _same(self, plan: Plan) -> Plan:
        """Return a plan that was begun, where this request is for the same store; its corpus may have been moved."""
        asked = {"shard_size": self.request.shard_size or plan.shard_size, "texts": self.request.texts}
        for name, value in asked.items():
            if value != getattr(plan, name):
                raise UsageError(
                    f"{self.out} was begun with {name.replace('_', ' ')} {getattr(plan, name)}, now it is {value}. "
                    "Nothing in it was changed: give the same again, or another --out."
                )
        same = {"format": self.stream.format, "title_separator": self.stream.title_separator}
        if any(plan.corpus.get(name) != value for name, value in same.items()):
            raise self._another()
        if plan.corpus.get("files") == self.stream.facts():
            return plan
        found, _ = self._survey(plan.shard_size)
        if [part.content for part in found.parts] != [part.content for part in plan.parts]:
            raise self._another()
        return replace(plan, corpus=found.corpus, parts=found.parts)

    def _another(self) -> UsageError:
        return UsageError(
            f"{self.out} holds vectors of another corpus than {self.stream.path} is now. Nothing in it was changed: "
            "give another --out, or remove it."
        )


def _check(request: Request, processes: int) -> None:
    if request.dtype not in STORED:
        raise UsageError(f"vectors are not stored as {request.dtype!r}: {' or '.join(STORED)}")
    if request.side not in SIDES:
        raise UsageError(f"there is no side {request.side!r}: {' or '.join(SIDES)}")
    for name, value in (("shard_size", request.shard_size), ("batch_size", request.batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{name.replace('_', ' ')} {value}: expected 1 or more")
    if processes < 1:
        raise UsageError(f"{processes} processes: expected 1 or more")


@contextmanager
def _shared(request: Request, processes: int, device: str) -> Iterator[None]:
    """Let further processes take part; on leaving the work is done, and they are not needed any more."""
    if processes == 1:
        yield
        return
    threads = torch.get_num_threads()
    share = max(1, threads // processes) if device == "cpu" else threads
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_take_part, args=(request, share, os.getpid()), daemon=True)
        for _ in range(processes - 1)
    ]
    torch.set_num_threads(share)
    try:
        for process in others:
            process.start()
        yield
    finally:
        torch.set_num_threads(threads)
        for process in others:
            if process.exitcode not in (None, 0):
                log.warning("a process that took part ended early; the others did its work")
            process.terminate()  # whoever is still starting holds nothing
            process.join()


def _take_part(request: Request, threads: int, parent: int) -> None:
    """Do a share of the work, for as long as the process that asked for it lives."""
    torch.set_num_threads(threads)

    def alone(done: int, of: int) -> None:
        if os.getppid() != parent:
            sys.exit(1)

    try:
        job = _Job(request)
        filling = job.begin()
        if filling is not None:
            job.fill(filling, alone)
    except QuincunxError as error:
        log.warning("a process that took part ended early: %s", error)
        sys.exit(error.exit_code)
