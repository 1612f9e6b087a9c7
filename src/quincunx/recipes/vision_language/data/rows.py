"""Pictures and examples as objects of JSON lines, and back; what is wrong with one is said with its key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from quincunx.config.suggest import distance
from quincunx.recipes.vision_language.data.lines import shown
from quincunx.recipes.vision_language.data.record import Answer, Example, Picture, Region
from quincunx.recipes.vision_language.data.task_keys import OWN_KEYS, box_of, check_task, check_within

_PICTURE = ("id", "width", "height", "file", "regions")
_REGION = ("box", "name", "attribute", "confidence")
_EXAMPLE = ("uid", "pictures", "text", "answers")


def picture_of(row: Mapping[str, Any]) -> Picture:
    """Return the picture of a line of `pictures.jsonl`; ValueError names the key that is wrong."""
    _refuse_unknown(row, _PICTURE, "a picture")
    identifier = name_of(row.get("id"), "id")
    width, height = (_size(row.get(key), key) for key in ("width", "height"))
    regions = row.get("regions") or []
    if not isinstance(regions, list):
        raise ValueError(f"regions: {shown(regions)}; expected a list")  # noqa: TRY004 - a bad line
    found = tuple(_region(region, f"regions[{i}]") for i, region in enumerate(regions))
    for i, region in enumerate(found):
        check_within(region.box, width, height, f"regions[{i}].box")
    return Picture(identifier, width, height, _optional_text(row, "file"), found)


def row_of_picture(picture: Picture) -> dict[str, Any]:
    """Return a picture as the object of a line; the inverse of `picture_of`."""
    row: dict[str, Any] = {"id": picture.id, "width": picture.width, "height": picture.height}
    if picture.file is not None:
        row["file"] = picture.file
    if picture.regions:
        row["regions"] = [_row_of_region(region) for region in picture.regions]
    return row


def example_of(row: Mapping[str, Any], task: str) -> Example:
    """Return the example of a line of a task's file; ValueError names the key that is wrong."""
    for key in row:
        meant = _meant(key, task)
        if meant is not None and meant not in row:
            raise ValueError(f"{key}: no key of {task}; is {meant} meant?")
    pictures = row.get("pictures", [])
    if not isinstance(pictures, list):
        raise ValueError(f"pictures: {shown(pictures)}; expected a list of ids")  # noqa: TRY004 - a bad line
    names = tuple(name_of(each, f"pictures[{i}]") for i, each in enumerate(pictures))
    text = row.get("text", "")
    if not isinstance(text, str):
        raise ValueError(f"text: {shown(text)}; expected a text")  # noqa: TRY004 - a bad line
    answers = row.get("answers", [])
    if not isinstance(answers, list):
        raise ValueError(f"answers: {shown(answers)}; expected a list")  # noqa: TRY004 - a bad line
    said = tuple(_answer(answer, f"answers[{i}]") for i, answer in enumerate(answers))
    more = {key: value for key, value in row.items() if key not in _EXAMPLE}
    example = Example(name_of(row.get("uid"), "uid"), task, names, text, said, more)
    check_task(example)
    return example


def known_example(row: Mapping[str, Any], task: str) -> Example:
    """Return the example of a line that `example_of` has taken before, without checking it again."""
    answers = tuple(
        Answer(answer) if isinstance(answer, str) else Answer(answer["text"], float(answer.get("weight", 1.0)))
        for answer in row.get("answers", ())
    )
    more = {key: value for key, value in row.items() if key not in _EXAMPLE}
    return Example(str(row["uid"]), task, tuple(map(str, row.get("pictures", ()))), row.get("text", ""), answers, more)


def row_of_example(example: Example) -> dict[str, Any]:
    """Return an example as the object of a line; the inverse of `example_of`."""
    if taken := [key for key in example.more if key in _EXAMPLE]:
        raise ValueError(f"{taken[0]}: among the task's own keys, but all examples have it")
    row: dict[str, Any] = {"uid": example.uid}
    if example.pictures:
        row["pictures"] = list(example.pictures)
    if example.text:
        row["text"] = example.text
    if example.answers:
        row["answers"] = [
            answer.text if answer.weight == 1 else {"text": answer.text, "weight": answer.weight}
            for answer in example.answers
        ]
    return {**row, **example.more}


def name_of(value: Any, key: str) -> str:
    """Return an id: a text, or a whole number as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        found = "absent" if value is None else "empty" if value == "" else shown(value)
        raise ValueError(f"{key}: {found}; expected an id: a text")
    return value


def _size(value: Any, key: str) -> int:
    if type(value) is not int or value < 1:
        found = "absent" if value is None else shown(value)
        raise ValueError(f"{key}: {found}; expected pixels, a whole number of 1 or more")
    return value


def _optional_text(row: Mapping[str, Any], key: str, where: str = "") -> str | None:
    value = row.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"{where}{key}: {shown(value)}; expected a text, or nothing")
    return value


def _region(row: Any, where: str) -> Region:
    if not isinstance(row, Mapping):
        raise ValueError(f"{where}: {shown(row)}; expected an object with a box")  # noqa: TRY004 - a bad line
    _refuse_unknown(row, _REGION, where)
    box = box_of(row.get("box"), f"{where}.box")
    name, attribute = (_optional_text(row, key, f"{where}.") for key in ("name", "attribute"))
    return Region(box, name, attribute, _share(row.get("confidence", 1.0), f"{where}.confidence"))


def _row_of_region(region: Region) -> dict[str, Any]:
    row: dict[str, Any] = {"box": list(region.box)}
    if region.name is not None:
        row["name"] = region.name
    if region.attribute is not None:
        row["attribute"] = region.attribute
    if region.confidence != 1:
        row["confidence"] = region.confidence
    return row


def _answer(value: Any, where: str) -> Answer:
    if isinstance(value, Mapping):
        _refuse_unknown(value, ("text", "weight"), where)
        weight = _share(value.get("weight", 1.0), f"{where}.weight")
        value = value.get("text")
    else:
        weight = 1.0
    if not isinstance(value, str):
        raise ValueError(f'{where}: {shown(value)}; expected a text, or {{"text": ..., "weight": ...}}')  # noqa: TRY004
    return Answer(value, weight)


def _share(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{where}: {shown(value)}; expected a number from 0 to 1")
    return float(value)


def _refuse_unknown(row: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    if unknown := [key for key in row if key not in known]:
        raise ValueError(f"{unknown[0]}: no key of {what}; there are {', '.join(known)}")


@lru_cache(maxsize=4096)
def _meant(key: str, task: str) -> str | None:
    """Return the known key that an unknown one resembles; other keys are kept, but not slips of the pen."""
    known = {*_EXAMPLE, *OWN_KEYS[task]}
    if key in known or key == "task":
        return None
    limit = 1 if len(key) < 6 else 2
    return next((word for word in sorted(known) if distance(key, word, limit) is not None), None)
