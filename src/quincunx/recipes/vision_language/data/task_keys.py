"""What the examples of each task must hold besides what all have, task by task.

A check takes an example and raises ValueError, naming the key, where the task could not use it. An example without
answers is one of a hidden split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from quincunx.recipes.vision_language.data.lines import shown
from quincunx.recipes.vision_language.data.record import Example

CHOICES = 4
"""Answers, and rationales, that a question of `vcr` is asked with."""


def check_task(example: Example) -> None:
    """Raise ValueError unless an example holds what its task needs."""
    CHECKS[example.task](example)


def box_of(value: Any, key: str = "box") -> tuple[float, float, float, float]:
    """Return a box; ValueError for what is no list of four finite numbers, left before right and top before bottom."""
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(_is_number, value)):
        raise ValueError(f"{key}: {shown(value)}; expected [x1, y1, x2, y2] in pixels")
    x1, y1, x2, y2 = map(float, value)
    if x1 >= x2 or y1 >= y2:
        raise ValueError(f"{key}: {shown(list(value))} is inverted or empty; expected x1 < x2 and y1 < y2")
    return x1, y1, x2, y2


def check_within(box: Sequence[float], width: int, height: int, key: str = "box") -> None:
    """Raise ValueError for a box that reaches out of its picture, by more than a thousandth of a pixel."""
    x1, y1, x2, y2 = box
    if min(x1, y1) < -1e-3 or x2 > width + 1e-3 or y2 > height + 1e-3:
        raise ValueError(f"{key}: {shown(list(box))} reaches out of the picture of {width} x {height} pixels")


def boxes_asked(example: Example) -> list[tuple[str, Any]]:
    """Return (key, box) for the boxes of an example of `refcoco`."""
    candidates = example.more.get("candidates") or []
    return [("box", example.more["box"]), *((f"candidates[{i}]", box) for i, box in enumerate(candidates))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _need_text(example: Example) -> None:
    if not example.text.strip():
        raise ValueError(f"text: empty; {example.task} needs one")


def _need_pictures(example: Example, least: int = 1, most: int | None = None) -> None:
    count = len(example.pictures)
    if count < least or (most is not None and count > most):
        wanted = f"{least}" if least == most else f"{least} or {most}" if most else f"{least} or more"
        raise ValueError(f"pictures: {count}; {example.task} needs {wanted}")


def _most_answers(example: Example, most: int) -> None:
    if len(example.answers) > most:
        raise ValueError(f"answers: {len(example.answers)}; {example.task} has {most} or, where it is hidden, none")


def _texts(example: Example, key: str, *, required: bool = False) -> list[str] | None:
    """Return a list of texts among the task's own keys, None where there is none."""
    value = example.more.get(key)
    if value is None:
        if required:
            raise ValueError(f"{key}: absent; {example.task} needs it")
        return None
    if not isinstance(value, list | tuple) or not value or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{key}: {shown(value)}; expected a list of texts")
    return [str(text) for text in value]


def _word(example: Example, key: str, *, required: bool = False) -> None:
    value = example.more.get(key)
    if value is None and not required:
        return
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: {'absent' if value is None else shown(value)}; expected a text")


def _vqa(example: Example) -> None:
    _need_text(example)
    _texts(example, "annotations")
    _word(example, "question_type")
    _word(example, "answer_type")


def _gqa(example: Example) -> None:
    _need_text(example)
    _word(example, "group")
    types = example.more.get("types")
    if types is not None and not isinstance(types, Mapping):
        raise ValueError(f"types: {shown(types)}; expected an object: structural, semantic, detailed")


def _nlvr(example: Example) -> None:
    _need_text(example)
    _need_pictures(example, 1, 2)
    _word(example, "identifier", required=True)
    _most_answers(example, 1)
    for answer in example.answers:
        if answer.text not in ("true", "false"):
            raise ValueError(f"answers: {shown(answer.text)}; expected true or false")


def _refcoco(example: Example) -> None:
    _need_text(example)
    _need_pictures(example, 1, 1)
    if "box" not in example.more:
        raise ValueError("box: absent; refcoco needs the target's")
    candidates = example.more.get("candidates")
    if candidates is not None and not isinstance(candidates, list | tuple):
        raise ValueError(f"candidates: {shown(candidates)}; expected a list of boxes")
    for key, box in boxes_asked(example):
        box_of(box, key)


def _vcr(example: Example) -> None:
    _need_text(example)
    _need_pictures(example)
    for texts, label in (("choices", "label"), ("rationales", "rationale_label")):
        found = _texts(example, texts, required=texts == "choices")
        if found is not None and len(found) != CHOICES:
            raise ValueError(f"{texts}: {len(found)}; expected {CHOICES}")
        number = example.more.get(label)
        if number is None:
            continue
        if found is None:
            raise ValueError(f"{texts}: absent, but there is {label}")
        if type(number) is not int or not 0 <= number < CHOICES:
            raise ValueError(f"{label}: {shown(number)}; expected the right one's number, 0 to {CHOICES - 1}")


def _caption(example: Example) -> None:
    _need_pictures(example)
    references = _texts(example, "references")
    if references is not None and example.answers and references != [answer.text for answer in example.answers]:
        raise ValueError("references: other texts than answers; expected the same, or one of the two")


def _mmt(example: Example) -> None:
    _need_text(example)


def _cls(example: Example) -> None:
    _need_pictures(example)
    _most_answers(example, 1)
    classes = _texts(example, "classes")
    for answer in example.answers:
        if classes is not None and answer.text not in classes:
            raise ValueError(f"answers: {shown(answer.text)} is none of the {len(classes)} classes")


CHECKS: Mapping[str, Callable[[Example], None]] = {
    "vqa": _vqa,
    "gqa": _gqa,
    "nlvr": _nlvr,
    "refcoco": _refcoco,
    "vcr": _vcr,
    "caption": _caption,
    "mmt": _mmt,
    "cls": _cls,
}
"""Task -> its check."""

OWN_KEYS: Mapping[str, frozenset[str]] = {
    task: frozenset(keys.split())
    for task, keys in cast(
        "Mapping[str, str]",
        {
            "vqa": "annotations question_type answer_type",
            "gqa": "types group program",
            "nlvr": "identifier",
            "refcoco": "box candidates",
            "vcr": "choices label rationales rationale_label",
            "caption": "references",
            "mmt": "",
            "cls": "classes",
        },
    ).items()
}
"""Task -> the keys that it knows; others are kept as they are."""
