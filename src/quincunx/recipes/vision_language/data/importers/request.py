"""What an importer is asked for, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.data.importers.pictures import PictureSource
from quincunx.recipes.vision_language.data.importers.reading import split_named, splits_in
from quincunx.recipes.vision_language.data.record import Example

Placed = tuple[str, Example]
"""Where an example stands, for messages; and the example."""
Made = Mapping[tuple[str, str], Callable[[], Iterator[Placed]]]
"""(task, split) -> what yields its examples, as often as it is called; it asks the request's pictures for theirs."""


@dataclass(frozen=True)
class Request:
    """Files to import."""

    files: tuple[Path, ...]
    pictures: PictureSource
    split: str | None = None
    """The split that the files are; of a data set that names its own splits, the only one wanted."""
    task: str | None = None
    """Of lines that say no task."""

    def wants(self, split: str) -> bool:
        """Tell whether a split that the data set names is wanted."""
        return self.split is None or self.split == split


def by_split(request: Request, task: str, read: Callable[[Request], Iterator[Placed]]) -> Made:
    """Return the examples of a task by split: the one that is said, else those that the files' names say.

    Args:
        request: Its files are lists of examples, each of one split.
        task: The examples'.
        read: Yields the examples of all files of a request.

    Raises:
        UsageError: No split is said, and the name of a file does not say it.
    """
    if request.split is not None:
        return {(task, request.split): lambda: read(request)}
    files: dict[str, tuple[Path, ...]] = {}
    for path in request.files:
        split = split_named(path)
        files[split] = (*files.get(split, ()), path)
    return {(task, split): lambda own=own: read(replace(request, files=own)) for split, own in files.items()}


def one_split(request: Request) -> str:
    """Return the split of files that are read together: the one that is said, else what the first file's name says.

    Raises:
        UsageError: No split is said, and the first file's name does not say it or another's says a different one.
    """
    if request.split is not None:
        return request.split
    first, *others = request.files
    split = split_named(first)
    for path in others:
        said = splits_in(path)
        if said and split not in said:
            raise UsageError(
                f"{path} is of {' or '.join(sorted(said))} by its name and {first} of {split}, but they are read "
                "together; give those of one split, or say it with --split"
            )
    return split
