"""The two ways in which a run writes files: whole and atomically, or line by line.

A crash, a kill or a full disk leaves either the old file or the new one, and line files with whole lines only;
the same values always give the same bytes, so that a repeated run can be compared with `cmp`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quincunx.errors import RunError

TEMPORARY = ".writing"
"""How the names of unfinished files end; they begin with a dot."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file: readers see the old content or the new, never a part, also after a crash.

    Raises:
        RunError: It cannot be written (a full disk, no permission); what stood there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        remove_quietly(temporary)
        raise _cannot_write(path, error, "What stood there before is untouched.") from error
    except BaseException:
        remove_quietly(temporary)
        raise


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_json(value: Any, *, indent: int | None = None) -> bytes:
    """Return a value as JSON in UTF-8; the same value always gives the same bytes.

    Floats keep every bit (their shortest exact form). JSON has no NaN and no infinity: they become the strings `nan`,
    `inf` and `-inf`, which `as_number` reads back. Scalars of numpy and torch become plain numbers, paths strings.

    Raises:
        TypeError: Something else that JSON cannot hold.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    # Half of a surrogate pair has no UTF-8 form; written as a backslash escape it is JSON's own form of it.
    return text.encode("utf-8", "backslashreplace")


def as_number(value: Any) -> float | None:
    """Return a number from JSON as a float, `nan`, `inf` and `-inf` included; None for what is no number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(value) if value in ("nan", "inf", "-inf") else None


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        RunError: It is missing, unreadable or no JSON; the text names the file and the reason.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {_reason(error)}") from error


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines, in order; none where there is no file yet.

    A last line that a crash cut short is passed over.

    Raises:
        RunError: Any other line is not a JSON object; the text names file and line.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path} cannot be read: {_reason(error)}") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                value = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise RunError(
                    f"{path}:{number}: not a line of JSON ({_reason(error)}); the file is damaged"
                ) from error
            if not isinstance(value, dict):
                raise RunError(f"{path}:{number}: expected a JSON object, found {type(value).__name__}")
            yield value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file at once; see `metric_rows`."""
    return list(metric_rows(path))


def metric_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a metrics file as dicts of `update` (int), `split`, `name` (str) and `value` (float).

    Raises:
        RunError: A row lacks one of them or has another kind of value there; the text names file and line.
    """
    for number, line in enumerate(read_lines(path), start=1):
        update, split, name, value = (line.get(key) for key in ("update", "split", "name", "value"))
        value = as_number(value)
        if type(update) is not int or not isinstance(split, str) or not isinstance(name, str) or value is None:
            raise RunError(
                f"{path}:{number}: expected update (int), split, name (text) and value (number), found {line}"
            )
        yield {"update": update, "split": split, "name": name, "value": value}


class LineFile:
    """A file to which JSON objects are appended, one a line; whole lines only, whatever happens.

    Every `append` reaches the operating system at once (a killed process loses nothing), the disk on `sync`. Opening
    drops a last line that a crash cut short.

    Raises:
        RunError: On opening, appending or syncing, where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._drop_cut_line()
        except OSError as error:
            raise _cannot_write(path, error) from error

    def append(self, *values: Mapping[str, Any]) -> None:
        """Append objects, one a line: all of them, or (RunError) none."""
        data = b"".join(to_json(value) + b"\n" for value in values)
        before = self.length()
        try:
            _write_all(self._descriptor, data)
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise _cannot_write(self.path, error, "All lines before are whole.") from error

    def sync(self) -> None:
        """Wait until everything appended is on the disk."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def length(self) -> int:
        """Return the bytes written so far: what a checkpoint notes and `truncate` takes."""
        return os.fstat(self._descriptor).st_size

    def truncate(self, length: int) -> None:
        """Cut the file back to the length that it had when a line ended there.

        Raises:
            RunError: It is shorter than that, or no line ends there: it is not the file that had this length.
        """
        found = self.length()
        if length > found:
            raise RunError(
                f"{self.path} has {found} bytes, but had {length} when the checkpoint was written: lines were lost. "
                "Put the file back, or begin a new run with init_from."
            )
        if length > 0 and os.pread(self._descriptor, 1, length - 1) != b"\n":
            raise RunError(
                f"{self.path} has no end of a line at byte {length}, where the checkpoint says one was: the file was "
                "changed since. Put the file back, or begin a new run with init_from."
            )
        os.ftruncate(self._descriptor, length)
        self.sync()

    def close(self) -> None:
        """Sync and close; closing twice does nothing."""
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop_cut_line(self) -> None:
        end, block = self.length(), 4096
        while end > 0:
            start = max(0, end - block)
            newline = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < self.length():
            os.ftruncate(self._descriptor, end)


def remove_quietly(path: Path) -> None:
    """Remove a file that may not be there; a failure is nothing to report."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a scalar of numpy or torch
        return _plain(value.item())
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r:.100}")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int):
        return str(key)
    raise TypeError(f"keys of JSON objects are text, found {key!r} of type {type(key).__name__}")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _cannot_write(path: Path, error: OSError, then: str = "") -> RunError:
    return RunError(f"{path} cannot be written: {_reason(error)} ({_free_space(path)}). {then}".rstrip())


def _free_space(path: Path) -> str:
    for folder in path.absolute().parents:
        try:
            return f"{shutil.disk_usage(folder).free / 2**20:,.1f} MiB free there"
        except OSError:
            continue
    return "free space unknown"


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
