"""Writes files of features: beside their place, synced, renamed; a long extraction that is killed can go on.

What is half written is Arrow's stream of whole batches, so that the next call takes over all but the last of them; a
finished file that lacks some pictures is added to in the same way. R rows of a picture, F width.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from quincunx.data.partial import BeingWritten, finish, partial_file
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.features.form import (
    MAGIC,
    Header,
    Rows,
    arrow,
    batch_of,
    checked,
    checksum,
    header_of,
    schema_of,
)
from quincunx.runs.files import sync

if TYPE_CHECKING:
    from pyarrow import RecordBatch

BATCH_BYTES = 8 << 20
"""What is gathered before it is written: at most so much is computed again after a kill."""


def write_features(
    path: str | Path,
    rows: Iterable[tuple[str, Any]],
    *,
    width: int,
    model: str,
    dtype: str = "float16",
    about: Mapping[str, str] | None = None,
) -> int:
    """Write the features of pictures into a file, in the place of one that may be there: whole, or not at all.

    Args:
        path: The file.
        rows: Of each picture its id and its rows `[R, F]`; they may be computed as they are asked for.
        width: F.
        model: Key of what made them: whoever reads them can ask for it.
        dtype: How numbers are stored: float16 or float32.
        about: What people want to know about how they were made, by name.

    Returns:
        How many pictures there are.

    Raises:
        DataError: Rows of another shape, numbers that cannot be stored, an id twice, or a disk that is full.
        UsageError: Another process is writing the file.
        MissingExtra: pyarrow is not installed.
    """
    target, header = Path(path).expanduser(), Header(width, model, dtype, about or {})
    with ExitStack() as stack:
        with _on_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(partial_file(target, wait=False))
        writer = FeatureWriter(target, header, file)
        for name, each in rows:
            writer.add(name, each)
        writer.close()
        with _on_disk(target):
            finish(file, target)
        return len(writer.ids)


@contextmanager
def feature_writer(
    path: str | Path,
    *,
    width: int,
    model: str,
    dtype: str = "float16",
    about: Mapping[str, str] | None = None,
) -> Iterator[FeatureWriter]:
    """Yield a writer that goes on where one before it was killed, or adds to the file that is there.

    Its `ids` are those that are there already. Leaving finishes the file; leaving by an exception keeps what was
    written for the next call. Arguments and errors as in `write_features`, and:

    Raises:
        UsageError: What is there was made by another model, or is of another width or form.
    """
    target, header = Path(path).expanduser(), Header(width, model, dtype, about or {})
    rest = target.with_name(f".{target.name}.rest")
    with ExitStack() as stack:
        with _on_disk(target):
            for place in (rest, _partial(target), target):
                _refuse_other(place, header, target)
            target.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(_claimed(target, rest))
            writer = FeatureWriter(target, header, file)
            for place in (rest, target):
                for batch in _whole_batches(place, header):
                    writer.take(batch)
            writer.flush()
            os.fsync(file.fileno())
            rest.unlink(missing_ok=True)
        try:
            yield writer
        except BaseException:
            with suppress(DataError):  # the first error is the one to tell
                writer.flush()
            raise
        writer.close()
        with _on_disk(target):
            os.fsync(file.fileno())
            Path(file.name).replace(target)
            sync(target.parent)


class FeatureWriter:
    """What `feature_writer` yields.

    Attributes:
        ids: Of the pictures that are there, in the order in which they stand in the file.
    """

    def __init__(self, target: Path, header: Header, file: IO[bytes]) -> None:
        self.header = header
        self.ids: dict[str, None] = {}
        self._target, self._file = target, file
        self._names: list[str] = []
        self._rows: list[Rows] = []
        self._bytes = 0
        self._writer = arrow().ipc.new_file(file, schema_of(header))

    def add(self, name: str, rows: Any) -> None:
        """Add the rows `[R, F]` of a picture; DataError as in `write_features`."""
        if name in self.ids:
            raise DataError(f"{self._target}: features of the picture {name!r} were given twice")
        stored = checked(self.header, name, rows, str(self._target))
        self.ids[name] = None
        self._names.append(name)
        self._rows.append(stored)
        self._bytes += stored.nbytes
        if self._bytes >= BATCH_BYTES:
            self.flush()

    def take(self, batch: RecordBatch) -> None:
        """Take over a batch of another file, but for pictures that are there already."""
        names: list[str] = batch.column(0).to_pylist()
        new = [number for number, name in enumerate(names) if name not in self.ids]
        if new:
            self._writer.write_batch(batch if len(new) == len(names) else batch.take(arrow().array(new)))
            self.ids.update(dict.fromkeys(names))

    def flush(self) -> None:
        """Hand over what was gathered to the operating system, where a kill of the process does not reach it."""
        with _on_disk(self._target):
            if self._names:
                self._writer.write_batch(batch_of(self.header, self._names, self._rows))
                self._names, self._rows, self._bytes = [], [], 0
            self._file.flush()

    def close(self) -> None:
        """Write what was gathered and the file's end."""
        self.flush()
        with _on_disk(self._target):
            self._writer.close()
            self._file.flush()


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


@contextmanager
def _claimed(target: Path, rest: Path) -> Iterator[IO[bytes]]:
    """Yield the empty half-written file, locked; what a killed process left in it becomes the rest.

    Where there is a rest already, that process was killed while it took it over, and what it wrote is in the rest too.
    """
    path = _partial(target)
    while True:
        with open(path, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666)) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BeingWritten(str(target)) from None
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                continue  # whoever held the lock has finished or moved this very file
            if os.fstat(file.fileno()).st_size and not rest.exists():
                path.replace(rest)
                continue
            file.truncate(0)
            yield file
            return


def _whole_batches(path: Path, header: Header) -> Iterator[RecordBatch]:
    """Yield the batches of a file that are whole, in order, up to the first one that is not; none without a file."""
    for batch in _batches(path):
        names, sums, nested = batch.columns
        flat = nested.values.values.to_numpy().reshape(-1, header.width)
        ends = nested.offsets.to_numpy().tolist()
        kept = [checksum(flat[start:end]) for start, end in pairwise(ends)]
        if len(kept) != len(names) or kept != sums.to_pylist():
            return
        yield batch


def _batches(path: Path) -> Iterator[Any]:
    pa = arrow()
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return
            with pa.ipc.open_stream(file) as reader:
                while True:
                    yield reader.read_next_batch()
    except (StopIteration, FileNotFoundError, pa.ArrowException):
        return
    except OSError as error:
        if error.errno is not None:  # Arrow says so without a number where a batch is cut short
            raise


def _refuse_other(path: Path, header: Header, target: Path) -> None:
    """Raise UsageError where a file, whole or not, is of another model; say nothing of one that cannot be told."""
    pa = arrow()
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
            if not magic and path != target:
                return
            if magic != MAGIC:
                raise ValueError("it does not begin as a file of Arrow does")
            with pa.ipc.open_stream(file) as reader:
                found = header_of(reader.schema)
    except FileNotFoundError:
        return
    except (ValueError, pa.ArrowException, OSError) as error:
        if path != target:
            return  # killed before the first batch was whole: nothing is lost
        raise UsageError(
            f"{path} is no file of features ({error}), and is left alone: name another file, or remove it"
        ) from error
    if not found.fits(header):
        what = "has" if path == target else "is half written and has"
        raise UsageError(
            f"{path} {what} features of {found}, and these are of {header} "
            f"(different: {'; '.join(found.differing(header)) or 'the numbers in the weights'}): name another file, "
            "or remove that one"
        )


@contextmanager
def _on_disk(target: Path) -> Iterator[None]:
    try:
        yield
    except BeingWritten:
        raise UsageError(f"another process is writing {target}: wait for it, or name another file") from None
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror or error}") from error
