"""Public data sets, in the forms in which they are published, into a collection folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.folder import check_task_and_split, write_collection
from quincunx.recipes.vision_language.data.importers import (
    captions,
    commonsense,
    own,
    questions,
    referring,
    statements,
)
from quincunx.recipes.vision_language.data.importers.pictures import PictureSource
from quincunx.recipes.vision_language.data.importers.request import Made, Placed, Request
from quincunx.recipes.vision_language.data.task_keys import check_task

KINDS: Mapping[str, Callable[[Request], Made]] = {
    "plain": own.plain,
    "classes": own.classes,
    "vqa": questions.vqa,
    "gqa": questions.gqa,
    "nlvr": statements.nlvr,
    "nlvr2": statements.nlvr2,
    "karpathy": captions.karpathy,
    "multi30k": captions.multi30k,
    "refcoco": referring.refcoco,
    "vcr": commonsense.vcr,
    "lxmert-vqa": questions.lxmert_vqa,
    "lxmert-gqa": questions.lxmert_gqa,
    "lxmert-nlvr": statements.lxmert_nlvr,
}
"""Kind of data set -> its importer; the first line of each says what files it takes."""

TEXT_ONLY = ("plain", "vqa", "gqa", "multi30k", "lxmert-vqa", "lxmert-gqa")
"""Kinds that may be imported without pictures."""
_MOST_BLANK = 4096
"""Bytes of a file up to which it is looked at whether there is anything in it."""

__all__ = ["KINDS", "Imported", "import_data"]


@dataclass(frozen=True)
class Imported:
    """What was imported."""

    examples: Mapping[tuple[str, str], int]
    """(task, split) -> examples."""
    pictures: int
    """Pictures that the collection has now."""
    missing: int
    """Pictures that were not found; the examples that name them were left out."""


def import_data(
    kind: str,
    files: Sequence[str | Path],
    out: str | Path,
    *,
    pictures: str | Path | None = None,
    split: str | None = None,
    task: str | None = None,
    skip_missing: bool = False,
    text_only: bool = False,
) -> Imported:
    """Write a public data set into a collection folder, or add it to one; nothing is written where something is wrong.

    Args:
        kind: One of `KINDS`.
        files: As the importer asks for them.
        out: The collection, made if missing; its pictures and other splits stay.
        pictures: The folder of pictures, searched at any depth; they are not copied. None: those of the collection, or
            beside the files where the importer says so.
        split: What the split is called; None: by each file's name, or by what it says.
        task: Of `plain`, the task; None for vqa.
        skip_missing: Leave examples out whose pictures are not there.
        text_only: Import no pictures at all.

    Raises:
        UsageError: Settings that contradict one another, a split that the collection has already.
        DataError: A file that cannot be read, or a value in it; the text says where.
    """
    if kind not in KINDS:
        raise UsageError(f"nothing is imported as {kind}; expected one of {', '.join(KINDS)}")
    if not files:
        raise UsageError(f"{kind} needs files: {(KINDS[kind].__doc__ or '').splitlines()[0]}")
    if text_only and (pictures is not None or skip_missing):
        raise UsageError("text only: no pictures are looked for, so there is no folder of them and none is missing")
    if text_only and kind not in TEXT_ONLY:
        raise UsageError(f"{kind} has no meaning without pictures; {', '.join(TEXT_ONLY)} have")
    if task is not None and kind != "plain":
        raise UsageError(f"{kind} has a task of its own; only plain takes one")
    paths = tuple(Path(file).expanduser() for file in files)
    _check_files(kind, paths)
    folder = Path(out).expanduser()
    source = PictureSource(
        folder, _picture_folder(kind, pictures, paths, folder), skip_missing=skip_missing, text_only=text_only
    )
    if split is not None:
        check_task_and_split("vqa", split)
    made = KINDS[kind](Request(paths, source, split, task))
    counts = {key: _checked(key, make) for key, make in made.items()}
    counts = {key: count for key, count in counts.items() if count}
    if not counts:
        left = f"; {len(source.missing):,} pictures are not there" if source.missing else ""
        raise DataError(f"{paths[0]}: no examples{f' of the split {split}' if split else ''}{left}")
    examples = {key: (example for _, example in made[key]()) for key in counts}
    total = write_collection(folder, source.found.values(), examples, add=True)
    return Imported(counts, total, len(source.missing))


def _picture_folder(kind: str, given: str | Path | None, files: Sequence[Path], out: Path) -> Path | None:
    """Return where pictures are looked for."""
    if given is not None:
        return Path(given).expanduser()
    if kind == "classes":
        return files[0] if files[0].is_dir() else None
    # pictures beside one's own lines; where the collection is made of stored features there are none
    return files[0].parent if kind == "plain" and not (out / "pictures.jsonl").is_file() else None


def _check_files(kind: str, paths: Sequence[Path]) -> None:
    """Raise DataError for a file that is not there, a folder, or nothing, before anything is asked of its name."""
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist")
        if path.is_dir() and kind != "classes":
            raise DataError(f"{path} is a folder; {kind} takes files: {(KINDS[kind].__doc__ or '').splitlines()[0]}")
        if path.is_file() and path.stat().st_size <= _MOST_BLANK:  # of files, since a pipe can be read only once
            try:
                blank = not path.read_bytes().strip()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}") from None
            if blank:
                raise DataError(f"{path}: no examples: the file is empty")


def _checked(key: tuple[str, str], make: Callable[[], Iterator[Placed]]) -> int:
    """Run an importer once: every example is checked, and every picture found, before anything is written."""
    seen = set[str]()
    for where, example in make():
        try:
            check_task(example)
        except ValueError as error:
            raise DataError(f"{where}: {'/'.join(key)}: example {example.uid}: {error}") from None
        if example.uid in seen:
            first = next(place for place, other in make() if other.uid == example.uid)
            raise DataError(f"{where}: {'/'.join(key)}: the example {example.uid} comes twice, first at {first}")
        seen.add(example.uid)
    return len(seen)
