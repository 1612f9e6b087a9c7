"""One's own data: JSON lines of pictures and questions, and folders whose names are classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.answers import soft_answers
from quincunx.recipes.vision_language.data.importers.pictures import SUFFIXES, Missing
from quincunx.recipes.vision_language.data.importers.reading import Row, split_named, split_word
from quincunx.recipes.vision_language.data.importers.request import Made, Request
from quincunx.recipes.vision_language.data.lines import json_lines, shown
from quincunx.recipes.vision_language.data.record import TASKS, Answer, Example

PICTURES = ("pictures", "picture", "images", "image")
TEXT = ("question", "text", "sentence", "prompt")
ANSWERS = ("answers", "answer", "captions", "caption", "label")
_IDS = ("uid", "id", "question_id")


def plain(request: Request) -> Made:
    """JSON lines: {"picture": "a.jpg" or "pictures": [...], "question": ..., "answer": ... or "answers": [...]}.

    Files of pictures are looked up beside the lines unless a folder is named. Answers that come several times are those
    of several people, and weighted min(1, n / 3). Other keys go to the examples as they are.
    """
    task = request.task or "vqa"
    if task not in TASKS:
        raise UsageError(f"there is no task {task}; expected one of {', '.join(TASKS)}")
    return {(task, request.split or split_named(request.files[0])): lambda: _plain(request, task)}


def _plain(request: Request, task: str) -> Iterator[Example]:
    taken = {*PICTURES, *TEXT, *ANSWERS, *_IDS}
    number = 0
    for path in request.files:
        for line, values in json_lines(path):
            number += 1
            row = Row(values, f"{path}:{line}")
            uid = row.name(*_IDS) if any(key in values for key in _IDS) else str(number)
            said = _several(row, ANSWERS)
            answers = soft_answers(said) if len(set(said)) < len(said) else tuple(map(Answer, said))
            more: dict[str, Any] = {key: value for key, value in values.items() if key not in taken}
            if task == "nlvr":
                more.setdefault("identifier", uid)
            text = next((row.need(key, str) for key in TEXT if key in values), "")
            try:
                pictures = request.pictures.ids(_several(row, PICTURES), row.where)
            except Missing:
                continue
            yield Example(uid, task, pictures, text, answers, more)


def _several(row: Row, keys: Sequence[str]) -> list[str]:
    """Return the texts under the first of some keys that is there: one, or a list of them."""
    key = next((key for key in keys if row.values.get(key) is not None), None)
    if key is None:
        return []
    value = row.values[key]
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in found):
        raise row.wrong(key, f"{shown(value)}; expected a text or a list of texts")
    return found


def classes(request: Request) -> Made:
    """A folder of pictures in a folder for each class, or such folders in one for each split.

    The words of a class are its folder's name with spaces for underscores.
    """
    if len(request.files) != 1 or not request.files[0].is_dir():
        raise UsageError(f"classes takes one folder, found {', '.join(map(str, request.files))}")
    (root,) = request.files
    inner = _folders(root)
    if inner and all(_folders(folder) for folder in inner):
        splits = {split_word(folder.name): folder for folder in inner if request.wants(split_word(folder.name))}
    else:
        splits = {request.split or "train": root}
    found = {
        split: {each.name.replace("_", " "): each for each in _folders(folder)} for split, folder in splits.items()
    }
    if not any(found.values()):
        raise DataError(f"{root} has no folders of classes; expected {root}/<class>/*.jpg")
    words = sorted(set().union(*found.values()))
    return {("cls", split): lambda own=own: _classes(request, root, own, words) for split, own in found.items()}


def _classes(request: Request, root: Path, own: Mapping[str, Path], words: Sequence[str]) -> Iterator[Example]:
    for word, folder in own.items():
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        for path in files:
            name = path.relative_to(root).as_posix()
            try:
                pictures = request.pictures.ids([name], str(path))
            except Missing:
                continue
            yield Example(name.rsplit(".", 1)[0], "cls", pictures, "", (Answer(word),), {"classes": list(words)})


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
