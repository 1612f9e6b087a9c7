"""One's own data: JSON lines of pictures and questions, and folders whose names are classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quincunx.config.suggest import distance
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.answers import soft_answers
from quincunx.recipes.vision_language.data.importers.pictures import SUFFIXES, Missing
from quincunx.recipes.vision_language.data.importers.reading import Row, split_word
from quincunx.recipes.vision_language.data.importers.request import Made, Placed, Request, by_split
from quincunx.recipes.vision_language.data.lines import json_lines, shown
from quincunx.recipes.vision_language.data.record import TASKS, Answer, Example
from quincunx.recipes.vision_language.data.task_keys import OWN_KEYS

PICTURES = ("pictures", "picture", "images", "image")
TEXT = ("question", "text", "sentence", "prompt")
ANSWERS = ("answers", "answer", "captions", "caption", "label")
_IDS = ("uid", "id", "question_id")
_TAKEN = frozenset({*PICTURES, *TEXT, *ANSWERS, *_IDS})
_ASKS_NOTHING = ("caption", "cls")
"""Tasks without a text."""


def plain(request: Request) -> Made:
    """JSON lines: {"picture": "a.jpg" or "pictures": [...], "question": ..., "answer": ... or "answers": [...]}.

    Files of pictures are looked up beside the lines unless a folder is named. Answers that come several times are those
    of several people, and weighted min(1, n / 3). Other keys go to the examples as they are. Only mmt's lines may leave
    out their pictures; others say `"pictures": []` where there are none.
    """
    task = request.task or "vqa"
    if task not in TASKS:
        raise UsageError(f"there is no task {task}; expected one of {', '.join(TASKS)}")
    return by_split(request, task, lambda request: _plain(request, task))


def _plain(request: Request, task: str) -> Iterator[Placed]:
    number = 0
    for path in request.files:
        for line, values in json_lines(path):
            number += 1
            row = Row(values, f"{path}:{line}")
            _check_keys(row, task, text_only=request.pictures.text_only)
            uid = row.name(*_IDS) if any(key in values for key in _IDS) else str(number)
            said = _several(row, ANSWERS)
            answers = soft_answers(said) if len(set(said)) < len(said) else tuple(map(Answer, said))
            more: dict[str, Any] = {key: value for key, value in values.items() if key not in _TAKEN}
            if task == "nlvr":
                more.setdefault("identifier", uid)
            text = next((row.need(key, str) for key in TEXT if key in values), "")
            try:
                pictures = request.pictures.ids(_several(row, PICTURES), row.where)
            except Missing:
                continue
            yield row.where, Example(uid, task, pictures, text, answers, more)


def _check_keys(row: Row, task: str, *, text_only: bool) -> None:
    """Raise DataError where a line lacks what its task needs, or seems to have it under a miswritten key."""
    if task not in _ASKS_NOTHING and not any(key in row.values for key in TEXT):
        raise row.wrong(TEXT[0], _absent(row, task, TEXT, f"{task} needs a text"))
    if task != "mmt" and not text_only and not any(row.values.get(key) is not None for key in PICTURES):
        remedy = 'where there is none, write "pictures": []' if task in ("vqa", "gqa") else "write which"
        raise row.wrong(PICTURES[1], _absent(row, task, PICTURES, f"{task} asks about one; {remedy}"))
    # without answers a line is of a hidden split, and so silently where they are only miswritten
    if not any(key in row.values for key in ANSWERS) and _meant(row, task, ANSWERS):
        raise row.wrong(ANSWERS[1], _absent(row, task, ANSWERS, "there is one much like it"))


def _absent(row: Row, task: str, keys: Sequence[str], why: str) -> str:
    """Return what to say of a value that a line has under none of some keys."""
    meant = _meant(row, task, keys)
    advice = f"; did you mean {meant[1]} by {meant[0]}?" if meant else ""
    return f"absent; {why}. The line has {', '.join(row.values) or 'no keys'}; expected {_either(keys)}{advice}"


def _meant(row: Row, task: str, keys: Sequence[str]) -> tuple[str, str] | None:
    """Return a key of a line that is much like one of some keys, and that one."""
    for own in row.values:
        if own not in _TAKEN and own not in OWN_KEYS[task]:
            limit = 1 if len(own) < 6 else 2
            near = [(edits, key) for key in keys if (edits := distance(own.lower(), key, limit)) is not None]
            if near:
                return own, min(near)[1]
    return None


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _several(row: Row, keys: Sequence[str]) -> list[str]:
    """Return the texts under the first of some keys that is there: one, or a list of them."""
    key = next((key for key in keys if row.values.get(key) is not None), None)
    if key is None:
        return []
    value = row.values[key]
    found = value if isinstance(value, list) else [value]
    for each in found:
        if not isinstance(each, str):
            quotes = f': write "{json.dumps(each)}", in quotes' if isinstance(each, int | float) else ""
            raise row.wrong(key, f"{shown(value)}; expected a text or a list of texts{quotes}")
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


def _classes(request: Request, root: Path, own: Mapping[str, Path], words: Sequence[str]) -> Iterator[Placed]:
    for word, folder in own.items():
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        for path in files:
            name = path.relative_to(root).as_posix()
            try:
                pictures = request.pictures.ids([name], str(path))
            except Missing:
                continue
            uid = name.rsplit(".", 1)[0]
            yield str(path), Example(uid, "cls", pictures, "", (Answer(word),), {"classes": list(words)})


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
