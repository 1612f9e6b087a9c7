"""Files of what was chosen in RefCOCO and VCR, and of what is right, in the forms of these benchmarks and our own.

Every error names the file with the line or the id. Ids may be texts or whole numbers; they are compared as texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from quincunx.errors import DataError
from quincunx.metrics.answer_rows import (
    Name,
    cells_of,
    id_of,
    new_id,
    read_text,
    read_values,
    rows_of,
    shown,
    some,
)

CHOICES = 4
"""Answers, and rationales, of a question of VCR."""

Box = tuple[float, float, float, float]


class VcrRow(NamedTuple):
    """What was said to a question of VCR: scores of the four answers, and of the four rationales after each answer."""

    answer: Sequence[float]
    rationales: Sequence[Sequence[float]]
    """One list for all, or one for each answer that they may follow; empty: rationales were not asked."""

    def chosen(self, answer: int) -> tuple[int, int | None]:
        """Return the best answer, and the best rationale given which answer is right; the first of equals."""
        best = max(range(CHOICES), key=self.answer.__getitem__)
        if not self.rationales:
            return best, None
        scores = self.rationales[answer if len(self.rationales) > 1 else 0]
        return best, max(range(CHOICES), key=scores.__getitem__)


def read_boxes(path: Name) -> dict[str, Box]:
    """Return {expression: box} of lines or a list of {"uid", "box": [x1, y1, x2, y2]}, or of {id: box}, in pixels.

    Raises:
        UsageError: The file cannot be read.
        DataError: It is neither, an id stands twice, a box is none.
    """
    data = read_values(path)
    if isinstance(data, dict) and "box" not in data:
        return some(path, {name: _box(f"{path}: id {name!r}", box) for name, box in data.items()}, "boxes")
    found: dict[str, Box] = {}
    for place, row in rows_of(path, [data] if isinstance(data, dict) else data):
        name = new_id(found, place, id_of(place, row, "uid"))
        found[name] = _box(f"{place}, uid {name}", row.get("box"))
    return some(path, found, "boxes")


def read_vcr_labels(path: Name) -> dict[str, tuple[int, int | None]]:
    """Return {question: numbers of the right answer and rationale} of JSON lines as VCR's are, or a collection's.

    They have `annot_id`, `answer_label` and `rationale_label`; or `uid`, `label` and `rationale_label`. Errors as
    `read_boxes`.
    """
    data = read_values(path)
    found: dict[str, tuple[int, int | None]] = {}
    for place, row in rows_of(path, [data] if isinstance(data, dict) else data):
        key, label = ("uid", "label") if "uid" in row else ("annot_id", "answer_label")
        name = new_id(found, place, id_of(place, row, key))
        rationale = row.get("rationale_label")
        found[name] = (
            _number(f"{place}, {name}, {label}", row.get(label)),
            None if rationale is None else _number(f"{place}, {name}, rationale_label", rationale),
        )
    return some(path, found, "questions")


def read_vcr_predictions(path: Name) -> dict[str, VcrRow]:
    """Return {question: scores} of a table with commas, as the VCR leaderboard takes it or as runs write it.

    Columns are `annot_id`, `answer_0` to `answer_3` and, where rationales were asked, `rationale_0` to `rationale_3`,
    which follow the right answer, or `rationale_conditioned_on_a0_0` to `..._a3_3`. {id: [answer, rationale]}, numbers
    of the chosen ones, and {id: answer} do as well.

    Errors as `read_boxes`, and DataError for columns that lack, or a score that is no finite number.
    """
    if read_text(path).lstrip()[0] in "{[":
        return some(path, _vcr_numbers(path, read_values(path)), "predictions")
    found: dict[str, VcrRow] = {}
    lines = cells_of(path)
    place, head = next(lines)
    names = [name.strip() for name in head]
    one = [f"rationale_{i}" for i in range(CHOICES)]
    each = [[f"rationale_conditioned_on_a{a}_{i}" for i in range(CHOICES)] for a in range(CHOICES)]
    rationales = [one] if one[0] in names else each if each[0][0] in names else []
    answers = [f"answer_{i}" for i in range(CHOICES)]
    wanted = ["annot_id", *answers, *(column for columns in rationales for column in columns)]
    if lost := [column for column in wanted if names.count(column) != 1]:
        raise DataError(f"{place}: {lost[0]} is not a column once; expected annot_id, answer_0 to answer_3, rationales")
    for place, cells in lines:
        if len(cells) != len(names):
            raise DataError(f"{place}: {len(cells)} fields, expected {len(names)} as in the first line")
        row = dict(zip(names, cells, strict=True))
        name = new_id(found, place, row["annot_id"].strip())
        scores = [[_score(place, column, row[column]) for column in columns] for columns in (answers, *rationales)]
        found[name] = VcrRow(scores[0], scores[1:])
    return some(path, found, "predictions")


def _vcr_numbers(path: Name, data: Any) -> dict[str, VcrRow]:
    if not isinstance(data, dict):
        raise DataError(f"{path}: found {shown(data)}, expected a table with commas, or an object: id -> numbers")
    found: dict[str, VcrRow] = {}
    for name, value in data.items():
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) not in (1, 2):
            raise DataError(f"{path}: id {name!r}: found {shown(value)}, expected numbers of an answer and a rationale")
        scores = [_one_hot(_number(f"{path}: id {name!r}", number)) for number in numbers]
        found[name] = VcrRow(scores[0], scores[1:])
    return found


def _one_hot(number: int) -> list[float]:
    return [float(number == each) for each in range(CHOICES)]


def _number(place: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < CHOICES:
        raise DataError(f"{place}: found {shown(value)}, expected a whole number, 0 to {CHOICES - 1}")
    return value


def _score(place: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place}: {column}: found {text[:40]!r}, expected a finite number")
    return value


def _box(place: str, value: Any) -> Box:
    numbers = value if isinstance(value, list) else []
    fits = all(not isinstance(each, bool) and isinstance(each, int | float) and math.isfinite(each) for each in numbers)
    if len(numbers) != 4 or not fits or numbers[2] < numbers[0] or numbers[3] < numbers[1]:
        raise DataError(f"{place}: found {shown(value)}, expected a box: x1, y1, x2, y2 with x1 <= x2 and y1 <= y2")
    return (float(numbers[0]), float(numbers[1]), float(numbers[2]), float(numbers[3]))
