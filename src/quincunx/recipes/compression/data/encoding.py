"""Texts to token ids in several processes, in the order in which the texts come.

Each process gets every so-manieth block through a pipe and gives the ids back through another, one block at a time: so
neither side can wait for ever for the other, and memory stays small. The processes run this module, not a copy of the
caller's program, so that scripts without a guard round their main part work too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import IO

import numpy as np

from quincunx.errors import RunError
from quincunx.recipes.compression.data.tokenizer import Encoder, Ids

AT_ONCE = 256
"""Texts in a block at most."""
CHARACTERS = 1 << 20
"""Characters from which on a block ends."""
WORTH = 8 << 20
"""So many characters for each process pay for starting it."""

_INT = "<i8"


def encode(texts: Iterable[str], state: str, processes: int = 1) -> Iterator[Ids]:
    """Yield the token ids `[S]` of each text, in order; the number of processes changes nothing but the time.

    Args:
        texts: Read as they are wanted.
        state: Of the tokenizer, as `tokenizer.state` gives it.
        processes: As many as wanted; 1: this one alone.

    Raises:
        RunError: A process came to an end.
    """
    if processes <= 1 or not sys.executable:
        encoder = Encoder(state)
        for block in blocks(texts):
            yield from encoder(block)
        return
    with ExitStack() as stack:
        workers: list[_Worker] = []
        turn = 0
        for turn, block in enumerate(blocks(texts), start=1):
            if len(workers) < processes:
                workers.append(stack.enter_context(_Worker(state)))
            else:
                yield from workers[(turn - 1) % processes].take()
            workers[(turn - 1) % processes].give(block)
        for late in range(turn, turn + len(workers)):  # what each still has, the oldest first
            yield from workers[late % len(workers)].take()


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in lists of at most `AT_ONCE`, each ended by the text that brings it to `CHARACTERS`."""
    waiting = iter(texts)
    while True:
        block, size = list[str](), 0
        for text in islice(waiting, AT_ONCE):
            block.append(text)
            size += len(text)
            if size >= CHARACTERS:
                break
        if not block:
            return
        yield block


def usable_processes(wanted: int) -> int:
    """Return how many processes are used where so many are wanted: no more than there are cores for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(wanted, cores))


class _Worker:
    """A process that encodes what it is given."""

    def __init__(self, state: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # where this process finds its modules, that one must; one thread each, or they fight for the cores
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
        )
        self.give([state])

    def give(self, texts: Sequence[str]) -> None:
        """Send a block."""
        try:
            pipe = _pipe(self._process.stdin)
            _write(pipe, [text.encode() for text in texts])
        except BrokenPipeError:
            raise self._ended() from None

    def take(self) -> list[Ids]:
        """Return the ids of the block that was sent; RunError with the process's own words where it has ended."""
        pipe = _pipe(self._process.stdout)
        try:
            return [np.frombuffer(data, "<i4").astype(np.int32, copy=False) for data in _read(pipe)]
        except EOFError:
            raise self._ended() from None

    def _ended(self) -> RunError:
        words = _pipe(self._process.stderr).read().decode("utf-8", "replace").strip()
        code = self._process.wait()
        last = words.splitlines()[-1] if words else "it said nothing"
        return RunError(f"a process that encodes texts ended early (exit code {code}): {last}; run it again")

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            try:
                _pipe(pipe).close()
            except BrokenPipeError:
                continue
        self._process.wait()


def serve() -> None:
    """Encode what comes in, block after block: first the tokenizer, then texts; the way back likewise."""
    given, back = sys.stdin.buffer, sys.stdout.buffer
    encoder = Encoder(_read(given)[0].decode())
    while True:
        try:
            texts = [data.decode() for data in _read(given)]
        except EOFError:
            return
        _write(back, [ids.astype("<i4", copy=False).tobytes() for ids in encoder(texts)])


def _write(pipe: IO[bytes], parts: Sequence[bytes]) -> None:
    """Write how many parts there are, how long each is, and what they hold."""
    sizes = np.array([len(parts), *map(len, parts)], _INT)
    pipe.write(sizes.tobytes() + b"".join(parts))
    pipe.flush()


def _read(pipe: IO[bytes]) -> list[bytes]:
    """Return the parts that `_write` wrote; EOFError where there are no more."""
    (count,) = np.frombuffer(_exactly(pipe, 8), _INT).tolist()
    sizes = np.frombuffer(_exactly(pipe, 8 * count), _INT).tolist()
    return [_exactly(pipe, size) for size in sizes]


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process was started without a pipe")
    return pipe
