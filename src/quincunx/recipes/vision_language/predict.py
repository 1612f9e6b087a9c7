"""Answers of a run's model to rows that somebody writes: which task, which pictures, what is asked.

Pictures are named by their ids in the run's collection; where an encoder in the model sees them, files may be given in
their place. B rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from quincunx.engine.runtime import Runtime
from quincunx.engine.undisturbed import modes_kept
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.asked_rows import AskedRows, Eyes, Part
from quincunx.recipes.vision_language.collate import Asking
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.pixels import read_picture
from quincunx.recipes.vision_language.data.record import Example, Picture
from quincunx.recipes.vision_language.data.rows import example_of
from quincunx.recipes.vision_language.evaluate import Speech, answer_all
from quincunx.recipes.vision_language.kinds import is_raw
from quincunx.recipes.vision_language.read import eyes_of, limits_of, task_objects
from quincunx.recipes.vision_language.tasks import Answered

OWN = ("choices", "rationales", "label", "candidates")
"""Keys of a task's own that a row may have; `label` says which choice the rationales are for."""
KNOWN = ("task", "uid", "picture", "pictures", "text", "question", *OWN)
"""Keys of a row."""


@dataclass(frozen=True)
class _Listed:
    """Examples of one task that no file holds."""

    path: Path
    examples: Sequence[Example]

    def __getitem__(self, place: int) -> Example:
        return self.examples[place]


@dataclass(frozen=True)
class _Files:
    """Pictures of the collection, and files in their place; takes the place of `Eyes`."""

    eyes: Eyes
    files: Mapping[str, Picture]

    @property
    def collection(self) -> Any:
        """What has `pictures`, by name."""
        return self

    @property
    def pictures(self) -> _Files:
        """The pictures by name."""
        return self

    @property
    def features(self) -> Any:
        """What is stored of pictures."""
        return self.eyes.features

    def __getitem__(self, name: str) -> Picture:
        return self.files[name] if name in self.files else self.eyes.collection.pictures[name]

    def of(self, picture: Picture, limit: int | None) -> Any:
        """Return the stored rows of a picture."""
        return self.eyes.of(picture, limit)

    def image(self, picture: Picture) -> Image.Image:
        """Return a picture itself."""
        return read_picture(picture.id) if picture.id in self.files else self.eyes.image(picture)


def predict(
    config: Any, model: nn.Module, asking: Asking, speech: Speech, runtime: Runtime, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return an answer for each row.

    Args:
        config: A run's.
        model: Its model.
        asking: What makes batches for evaluation.
        speech: How answers are generated.
        runtime: Where it is computed.
        rows: Each with `picture` or `pictures` (ids of the collection, or files where pictures go through an encoder in
            the model), `text` or `question`, `task` where the run has several, and for vcr `choices` and `rationales`.

    Returns:
        For each row `task` and `answer`, its `uid` where it has one; of refcoco the region's number and box too, of vcr
        the choice's number and the scores.

    Raises:
        DataError: A row that is not as it must be, or a picture that cannot be had.
        UsageError: The run has no such task.
    """
    tasks = task_objects(config)
    eyes = None if not config.pictures.use else eyes_of(config, Collection(config.data.path))[0]
    examples: list[Example] = []
    files: dict[str, Picture] = {}
    for number, row in enumerate(rows, start=1):
        examples.append(_example(config, row, number, eyes, files))
    found: dict[int, dict[str, Any]] = {}
    for place, (name, task) in enumerate(tasks.items()):
        mine = [number for number, example in enumerate(examples) if example.task == name]
        if not mine:
            continue
        listed: Any = _Listed(Path("rows"), [examples[number] for number in mine])
        seen: Any = None if eyes is None else _Files(eyes, files)
        asked = AskedRows((Part(task, place, listed, np.arange(len(mine))),), seen, limits_of(config))
        with modes_kept(model):
            model.eval()
            answers = answer_all(model, asked, asking, speech, runtime, config.evaluate.batch_size or 32)
        for number, answer in zip(mine, answers, strict=True):
            named = {"uid": rows[number]["uid"]} if "uid" in rows[number] else {}
            found[number] = {**named, **_said(answer)}
    return [found[number] for number in range(len(rows))]


def _example(config: Any, row: Mapping[str, Any], number: int, eyes: Eyes | None, files: dict[str, Picture]) -> Example:
    """Return a row as an example, its own files noted among `files`."""
    where = f"row {number}"
    if unknown := [key for key in row if key not in KNOWN]:
        known = "; what is right is measured by `quincunx evaluate`, so leave it out" if "answers" in unknown else ""
        raise DataError(f"{where}: there is no key {unknown[0]!r}; there are {', '.join(KNOWN)}{known}")
    task = _task(config, row, where)
    pictures = _pictures(row, where)
    text = row.get("text", row.get("question", ""))
    if not isinstance(text, str):
        raise DataError(f"{where}: text must be a text, found {text!r}")
    for name in pictures:
        _check_picture(config, name, where, eyes, files)
    if config.pictures.use and not pictures and task != "mmt":
        raise DataError(f"{where}: it names no picture, and the run's model looks at pictures; give picture: an id")
    if task == "refcoco" and len(pictures) != 1:
        raise DataError(f"{where}: refcoco is about one picture, found {len(pictures)}")
    more: dict[str, Any] = {key: row[key] for key in OWN if key in row}
    if task == "refcoco":
        assert eyes is not None
        picture = eyes.collection.pictures[pictures[0]]
        if not picture.regions:
            raise DataError(f"{where}: picture {picture.id} has no regions to choose from")
        more["box"] = list(picture.regions[0].box)  # not known, and nothing that is said depends on it
    if task == "nlvr":
        more["identifier"] = where
    if task == "vcr" and "choices" not in more:
        raise DataError(f"{where}: vcr chooses among choices, four texts; give them")
    try:
        plain = {"uid": str(row.get("uid", number)), "pictures": pictures, "text": text, **more}
        return example_of(plain, task)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def _task(config: Any, row: Mapping[str, Any], where: str) -> str:
    tasks = config.data.tasks
    task = row.get("task", tasks[0] if len(tasks) == 1 else None)
    if task is None:
        raise DataError(f"{where}: the run has several tasks; give task: one of {', '.join(tasks)}")
    if task not in tasks:
        raise UsageError(f"{where}: the run has no task {task!r}; it has {', '.join(tasks)}")
    return str(task)


def _pictures(row: Mapping[str, Any], where: str) -> list[str]:
    if "picture" in row and "pictures" in row:
        raise DataError(f"{where}: it has picture and pictures; give one of them")
    given = row.get("pictures", [row["picture"]] if "picture" in row else [])
    if not isinstance(given, list | tuple) or not all(isinstance(name, str | int | Path) for name in given):
        raise DataError(f"{where}: pictures must be a list of ids or files, found {given!r}")
    return [str(name) for name in given]


def _check_picture(config: Any, name: str, where: str, eyes: Eyes | None, files: dict[str, Picture]) -> None:
    """Note a picture that is a file of its own; DataError where it cannot be had."""
    if eyes is None:
        raise DataError(f"{where}: this run's model reads texts alone (pictures.use is false); leave pictures out")
    if name in eyes.collection.pictures:
        if eyes.features is not None and name not in eyes.features:
            raise DataError(f"{where}: nothing is stored of picture {name} in {eyes.features.path}")
        return
    if not is_raw(config):
        raise DataError(
            f"{where}: {eyes.collection.folder} has no picture {name}, and this run's model reads stored features "
            f"({config.pictures.features}): name a picture of the collection, add it there with `quincunx features`, "
            "or train with pictures.features raw_*, whose encoder sees files"
        )
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"{where}: {name} is neither a picture of {eyes.collection.folder} nor a file")
    try:
        image = read_picture(path)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    files[name] = Picture(name, image.width, image.height, name)


def _said(answered: Answered) -> dict[str, Any]:
    task = answered.example.task
    if task == "vcr":
        return {"task": task, **_judged(answered)}
    found: dict[str, Any] = {"task": task, "answer": answered.text}
    if task == "refcoco" and answered.picture is not None:
        number = int(answered.text.removeprefix("<vis_extra_id_").removesuffix(">"))
        found |= {"region": number, "box": list(answered.picture.regions[number].box)}
    return found


def _judged(answered: Answered) -> dict[str, Any]:
    """Return which choice is the likeliest, and which reason."""
    scores, more = np.array(answered.scores).reshape(-1, 4), answered.example.more
    chosen = int(scores[0].argmax())
    found: dict[str, Any] = {"answer": str(more["choices"][chosen]), "choice": chosen, "scores": scores[0].tolist()}
    if len(scores) > 1:
        reason = int(scores[1].argmax())
        found |= {"rationale": str(more["rationales"][reason]), "rationale_choice": reason}
        found["rationale_scores"] = scores[1].tolist()
    return found
