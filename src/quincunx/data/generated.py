"""Folders that a generator fills: the manifest in each says what it holds, and for which request.

So the same request finds its set again, goes on with one that was cut off, and never touches the data of others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from quincunx.data.partial import BeingWritten
from quincunx.errors import DataError, RunError, UsageError
from quincunx.runs.files import to_json, write_atomically


@dataclass(frozen=True)
class SetManifest:
    """What every manifest says; the generators add to it, and raise ValueError for what contradicts itself."""

    REQUEST: ClassVar[tuple[str, ...]]
    """The fields that determine the others."""

    format: int
    """A number that is raised whenever the same request would give other content or other files."""

    @property
    def request(self) -> dict[str, Any]:
        """The part that determines the rest."""
        return {name: getattr(self, name) for name in self.REQUEST}


M = TypeVar("M", bound=SetManifest)


@dataclass(frozen=True)
class GeneratedSet(Generic[M]):
    """One kind of generated set."""

    what: str
    """Its name in sentences."""
    manifest_name: str
    manifest: type[M]
    names: Collection[str]
    """Files and folders beside the manifest."""

    def read(self, folder: Path) -> M | None:
        """Return the manifest of a folder, None where there is none; DataError for one that cannot be read."""
        path = folder / self.manifest_name
        try:
            return self.manifest(**json.loads(path.read_text("utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path} is not a manifest of generated {self.what} data ({error}); delete it to read the files as "
                "they are"
            ) from None

    def write(self, folder: Path, manifest: M) -> None:
        """Write the manifest; before the content, so that after a kill the next run knows whose unfinished set it is.

        Raises:
            RunError: It cannot be written.
        """
        write_atomically(folder / self.manifest_name, to_json(asdict(manifest), indent=2) + b"\n")

    def found(self, folder: Path, request: Mapping[str, Any]) -> M | None:
        """Return the manifest of a set, whole or not, that was begun for this request; None where there is nothing.

        Raises:
            UsageError: The folder holds another set, or what no generator made.
            DataError: As `read`.
        """
        present = self.read(folder)
        if present is None:
            there = [name for name in self.names if (folder / name).exists()]
            if there:
                raise UsageError(
                    f"{folder} already holds {', '.join(there)}, not made by this generator; choose another folder"
                )
        elif present.request != request:
            raise UsageError(
                f"{folder} holds a {self.what} set made with other settings ({json.dumps(present.request)}); choose "
                "another folder, or delete that set"
            )
        return present

    def damage(self, folder: Path, files: Mapping[str, Mapping[str, Any]], *, content: bool) -> list[str]:
        """Return what is missing or not as the manifest says, in words.

        Args:
            folder: Where the files are.
            files: What the manifest says of each; see `check_files`.
            content: Whether files of the right size are read, to compare their hashes.
        """
        found: list[str] = []
        for name, facts in files.items():
            path = folder / name
            if not path.is_file():
                found.append(f"{path} is missing")
            elif (size := path.stat().st_size) != facts["bytes"]:
                found.append(f"{path} has {size:,} bytes, {self.manifest_name} beside it says {facts['bytes']:,}")
            elif content and sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
                found.append(f"{path} has another content than {self.manifest_name} beside it says")
        return found

    @contextmanager
    def writing(self, folder: Path) -> Iterator[None]:
        """Make the folder if it is missing; within, what cannot be written, or is by another, becomes a DataError."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield
        except BeingWritten:
            raise DataError(
                f"another process is writing into {folder}; wait for it, or choose another folder"
            ) from None
        except (OSError, RunError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise DataError(f"cannot write {self.what} into {folder}: {reason or error}") from error


def check_files(files: Mapping[str, Mapping[str, Any]], names: Collection[str]) -> None:
    """Raise ValueError unless a manifest names these files, of each `{"bytes": int, "sha256": str}`."""
    if set(files) != set(names):
        raise ValueError(f"it names the files {', '.join(files) or 'none'}; expected {', '.join(names)}")
    for name, facts in files.items():
        if type(facts["bytes"]) is not int or not isinstance(facts["sha256"], str):
            raise ValueError(f"of {name} it says {dict(facts)}")
