"""The pictures that a data set's examples name: found in a folder, or in the collection that they are added to.

Data sets name one picture differently: by number, by file, with and without a folder before it. Its id is the name of
its file without the suffix, so that all of them come to mean the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.folder import PICTURES, Collection, Pictures
from quincunx.recipes.vision_language.data.record import Picture, Region

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
_NUMBER = re.compile(r"(?:.*\D)?0*(\d+)")
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 274


class Missing(Exception):
    """A picture that examples name is not there; such examples are left out."""


class PictureSource:
    """Finds pictures by any of their names, and keeps those that were asked for."""

    def __init__(
        self, out: Path, folder: Path | None = None, *, skip_missing: bool = False, text_only: bool = False
    ) -> None:
        """Look for pictures.

        Args:
            out: The collection that is written; what it holds already is known.
            folder: Where files are, at any depth; None where there are none.
            skip_missing: Leave examples out whose pictures are not there, rather than stop.
            text_only: Ask for no pictures at all.

        Raises:
            DataError: There is no such folder.
        """
        if folder is not None and not folder.is_dir():
            raise DataError(f"{folder} is no folder of pictures")
        self.out = out
        self.folder = folder
        self.skip_missing = skip_missing
        self.text_only = text_only
        self.found: dict[str, Picture] = {}
        """The pictures asked for, by id."""
        self.missing: set[str] = set()
        """Names that were not found."""

    def find(self, name: str, where: str) -> str:
        """Return the id of a picture.

        Args:
            name: A file, with or without folders and suffix, or a number at the end of its name.
            where: Who asks, for the message.

        Raises:
            Missing: It is not there, and such examples are left out.
            DataError: It is not there, or cannot be read.
        """
        path, known = self._path(name, where), self._known_as(name, where)
        if path is not None:
            identifier = known or self._identifiers[path]
            if identifier not in self.found:
                self.found[identifier] = self._opened(path, identifier)
            return identifier
        if known is not None:
            return known
        if self.skip_missing:
            self.missing.add(name)
            raise Missing(name)
        place = self.folder or self.out
        advice = "" if self.folder else "; say with --pictures where the files are, or with --text-only that none are"
        raise DataError(f"{where}: there is no picture {name} in {place}{advice or '; --skip-missing leaves it out'}")

    def ids(self, names: Sequence[str], where: str) -> tuple[str, ...]:
        """Return the ids of pictures; none where examples are to be text alone."""
        return () if self.text_only else tuple(self.find(name, where) for name in names)

    def describe(self, name: str, where: str, size: tuple[int, int], regions: Sequence[Region]) -> str:
        """Return the id of a picture of which the data set knows its size and what is in it.

        Where there is no folder of pictures it is kept without a file.

        Raises:
            Missing: As in `find`.
            DataError: As in `find`; its file has another size.
        """
        if self.folder is None and self._known_as(name, where) is None:
            identifier = Path(name).stem
            self.found[identifier] = Picture(identifier, *size, None, tuple(regions))
            return identifier
        identifier = self.find(name, where)
        picture = self.found.get(identifier) or Picture(identifier, *size)
        if (picture.width, picture.height) != size:
            there = f"{picture.width} x {picture.height}"
            raise DataError(f"{where}: picture {name} has {there} pixels, and here {size[0]} x {size[1]}")
        self.found[identifier] = Picture(identifier, *size, picture.file, tuple(regions))
        return identifier

    def _path(self, name: str, where: str) -> str | None:
        """Return the file that a name means, relative to the folder."""
        if name in self._identifiers:
            return name
        for key in (Path(name).name, Path(name).stem):
            if key in self._by_name:
                return _one(self._by_name[key], name, where)
        number = _NUMBER.fullmatch(name) if name.isdigit() else None
        return _one(self._by_number[number[1]], name, where) if number and number[1] in self._by_number else None

    def _opened(self, path: str, identifier: str) -> Picture:
        assert self.folder is not None
        file = self.folder / path
        try:
            with Image.open(file) as image:
                width, height = image.size
                if image.getexif().get(_ORIENTATION) in _TURNED:
                    width, height = height, width
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{file} is no picture that can be read: {error}") from None
        return Picture(identifier, width, height, Path(os.path.relpath(file, self.out)).as_posix())

    def _known_as(self, name: str, where: str) -> str | None:
        """Return the id under which the collection holds a picture already."""
        if self._known is None:
            return None
        for key in (name, Path(name).stem):
            if key in self._known:
                return key
        number = _NUMBER.fullmatch(name) if name.isdigit() else None
        return (
            _one(self._known_numbers[number[1]], name, where) if number and number[1] in self._known_numbers else None
        )

    @cached_property
    def _known(self) -> Pictures | None:
        """The pictures that the collection holds already."""
        return Collection(self.out).pictures if (self.out / PICTURES).is_file() else None

    @cached_property
    def _known_numbers(self) -> dict[str, list[str]]:
        """Number at the end of an id -> such ids of the collection."""
        return _numbered((identifier, identifier) for identifier in self._known or ())

    @cached_property
    def _files(self) -> list[str]:
        """All files of pictures below the folder, relative to it, sorted."""
        return sorted(_pictures_below(self.folder)) if self.folder is not None else []

    @cached_property
    def _identifiers(self) -> dict[str, str]:
        """File -> id: its name without suffix, with its folders where several have that name."""
        stems: dict[str, int] = {}
        for path in self._files:
            stems[Path(path).stem] = stems.get(Path(path).stem, 0) + 1
        return {
            path: Path(path).stem if stems[Path(path).stem] == 1 else Path(path).with_suffix("").as_posix()
            for path in self._files
        }

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Name of a file, and name without suffix -> such files."""
        found: dict[str, list[str]] = {}
        for path in self._files:
            for key in (Path(path).name, Path(path).stem):
                found.setdefault(key, []).append(path)
        return found

    @cached_property
    def _by_number(self) -> dict[str, list[str]]:
        """Number at the end of a file's name -> such files."""
        return _numbered((Path(path).stem, path) for path in self._files)


def _numbered(named: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in named:
        if number := _NUMBER.fullmatch(name):
            found.setdefault(number[1], []).append(value)
    return found


def _one(found: Sequence[str], name: str, where: str) -> str:
    if len(found) > 1:
        raise DataError(f"{where}: picture {name} may be {found[0]} or {found[1]}; expected a name that one file has")
    return found[0]


def _pictures_below(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES:
                yield (Path(parent) / name).relative_to(folder).as_posix()
