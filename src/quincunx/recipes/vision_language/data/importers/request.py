"""What an importer is asked for, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from quincunx.recipes.vision_language.data.importers.pictures import PictureSource
from quincunx.recipes.vision_language.data.record import Example

Made = Mapping[tuple[str, str], Callable[[], Iterator[Example]]]
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
