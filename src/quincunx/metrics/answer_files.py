"""Files of answers and of what is right: JSON or JSON lines in the forms of the COCO and VQA challenges, and our own.

Every error names the file with the line or the id. Ids may be texts or whole numbers; they are compared as texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from quincunx.errors import DataError, UsageError
from quincunx.metrics.vqa import Question, soft_scores
from quincunx.metrics.vqa_words import normalised

Name = str | PathLike[str]
T = TypeVar("T")
Row = tuple[str, Mapping[str, Any]]
"""Where it stands, as it is said in errors; and what it holds."""


def read_references(path: Name) -> dict[str, list[str]]:
    """Return {id: references} of a file of captions.

    It holds {id: [text, ...]}, or {"annotations": [{"image_id", "caption"}, ...]} as COCO's captions do, or lines
    {"uid", "references": [text, ...]} as the caption task of a collection does.

    Raises:
        UsageError: The file cannot be read.
        DataError: It is none of these, an id stands twice, an id has no references or one that is blank or no text.
    """
    data = _read(path)
    found: dict[str, list[str]] = {}
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        for place, row in _rows(path, data["annotations"]):
            name = _id(place, row, "image_id")
            found.setdefault(name, []).append(_text(f"{place}, image_id {name}", row.get("caption"), "a caption"))
    elif isinstance(data, dict):
        for name, texts in data.items():
            found[name] = _texts(f"{path}: id {name!r}", texts)
    else:
        for place, row in _rows(path, data):
            name = _new(found, place, _id(place, row, "uid"))
            found[name] = _texts(f"{place}, uid {name!r}", row.get("references"))
    return _some(path, found, "references")


def read_candidates(path: Name) -> dict[str, str]:
    """Return {id: caption} of a file of captions.

    It holds {id: text}, or [{"image_id", "caption"}, ...] as results for COCO do. Errors as `read_references`, but a
    caption may be empty.
    """
    data = _read(path)
    if isinstance(data, dict):
        found = {
            name: _text(f"{path}: id {name!r}", text, "one caption (a text)", blank=True) for name, text in data.items()
        }
    else:
        found = {}
        for place, row in _rows(path, data):
            name = _new(found, place, _id(place, row, "image_id"))
            found[name] = _text(f"{place}, image_id {name}", row.get("caption"), "a caption", blank=True)
    return _some(path, found, "captions")


def read_predictions(path: Name) -> dict[str, str]:
    """Return {question: answer} of a file of answers.

    It holds [{"question_id", "answer"}, ...] as the VQA leaderboard takes it, or {id: answer}. Errors as
    `read_references`, but an answer may be empty.
    """
    data = _read(path)
    if isinstance(data, dict):
        found = {name: _text(f"{path}: id {name!r}", text, "an answer", blank=True) for name, text in data.items()}
    else:
        found = {}
        for place, row in _rows(path, data):
            name = _new(found, place, _id(place, row, "question_id"))
            found[name] = _text(f"{place}, question_id {name}", row.get("answer"), "an answer", blank=True)
    return _some(path, found, "answers")


def read_questions(path: Name) -> dict[str, Question]:
    """Return {question: what people said} of a file of annotations.

    It holds {"annotations": [{"question_id", "answers": [{"answer"}, ...], "question_type", "answer_type"}, ...]} as
    VQA's annotations do, or lines with `uid` (or `question_id`) and `annotations` (or `answers`), a list of texts, as
    the vqa task of a collection does. Errors as `read_references`.
    """
    found: dict[str, Question] = {}
    for place, row in _annotations(path):
        key = "uid" if "uid" in row else "question_id"
        name = _new(found, place, _id(place, row, key))
        at = f"{place}, {key} {name}"
        found[name] = Question(
            _people(at, row, key),
            _text(at, row.get("question_type", ""), "a question_type", blank=True),
            _text(at, row.get("answer_type", ""), "an answer_type", blank=True),
        )
    return _some(path, found, "questions")


def read_weights(path: Name, mode: str = "fixed") -> dict[str, dict[str, float]]:
    """Return {question: answer -> how right it is}, answers normalised, of a file that `read_questions` takes.

    Lines with `uid` have `answers`, each a text (of weight 1) or {"text", "weight"}; they need no `annotations`. Of
    other forms the weights are `soft_scores` of what people said. A question may have no right answer.

    Args:
        path: The file.
        mode: How answers are normalised, see `quincunx.metrics.vqa_words.normalised`.

    Raises:
        UsageError: The file cannot be read.
        DataError: As `read_questions`, or a weight that is no number between 0 and 1.
    """
    found: dict[str, dict[str, float]] = {}
    for place, row in _annotations(path):
        key = "uid" if "uid" in row else "question_id"
        name = _new(found, place, _id(place, row, key))
        at = f"{place}, {key} {name}"
        found[name] = _weighed(at, row, mode) if key == "uid" else soft_scores(_people(at, row, key), mode)
    return _some(path, found, "questions")


def _annotations(path: Name) -> Iterator[Row]:
    """Yield the questions of a file with what is right."""
    data = _read(path)
    if isinstance(data, dict):
        data = data.get("annotations")
        if not isinstance(data, list):
            raise DataError(f'{path}: no list "annotations"; expected the annotations of VQA, or JSON lines')
    yield from _rows(path, data)


def _people(at: str, row: Mapping[str, Any], key: str) -> list[str]:
    """Return what people answered."""
    people = row.get("annotations") if key == "uid" else row.get("annotations", row.get("answers"))
    if not isinstance(people, list) or not people:
        ours = '"annotations", a list of what people said; with weights of answers alone, the soft way measures'
        wanted = ours if key == "uid" else '"answers", a list of what people said'
        raise DataError(f"{at}: found {_shown(people)}, expected {wanted}")
    answers = [one.get("answer") if isinstance(one, dict) else one for one in people]
    return [_text(at, answer, "an answer", blank=True) for answer in answers]


def _weighed(at: str, row: Mapping[str, Any], mode: str) -> dict[str, float]:
    """Return the weights of an example's answers, the greater where two are the same once normalised."""
    answers = row.get("answers")
    if not isinstance(answers, list):
        raise DataError(f'{at}: found {_shown(answers)}, expected "answers", a list of texts, or of text and weight')
    found: dict[str, float] = {}
    for one in answers:
        text, weight = (one.get("text"), one.get("weight", 1.0)) if isinstance(one, dict) else (one, 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise DataError(f"{at}: the weight is {_shown(weight)}, expected a number between 0 and 1")
        answer = normalised(_text(at, text, "an answer", blank=True), mode)
        found[answer] = max(float(weight), found.get(answer, 0.0))
    return found


class _Twice(ValueError):
    """A key that stands twice in one object."""


def _read(path: Name) -> Any:
    """Return what a JSON file holds, the rows of a file of JSON lines."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    if not text.strip():
        raise DataError(f"{path}: empty; expected JSON or JSON lines")
    lines = text.split("\n")
    named = str(path).endswith(".jsonl")
    if named or (text.lstrip()[0] == "{" and sum(bool(line.strip()) for line in lines) > 1):
        try:
            return _Lines((number, _parsed(path, line, number)) for number, line in enumerate(lines, 1) if line.strip())
        except DataError:
            if named or not _spread(lines):
                raise
    return _parsed(path, text, None)


class _Lines(list[tuple[int, Any]]):
    """What the lines of a file hold, with their numbers."""


def _spread(lines: Sequence[str]) -> bool:
    """Tell whether one object is spread over lines: then the first is not whole."""
    first = next(line for line in lines if line.strip())
    try:
        json.loads(first)
    except ValueError:
        return not first.rstrip().endswith("}")
    return False


def _parsed(path: Name, text: str, line: int | None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except _Twice as error:
        place = path if line is None else f"{path}:{line}"
        raise DataError(f"{place}: {error} stands twice in one object; remove one of the two") from None
    except RecursionError:
        raise DataError(f"{path}: lists within lists too deep to be read; expected answers") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{(line or 1) + error.lineno - 1}:{error.colno}: not JSON: {error.msg}") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}: not readable as JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(repr(next(name for number, name in enumerate(names) if name in names[:number])))
    return found


def _rows(path: Name, data: Any) -> Iterator[Row]:
    """Yield the objects of a list with their places."""
    if not isinstance(data, list):
        raise DataError(f"{path}: found {_shown(data)}, expected an object or a list")
    numbered = data if isinstance(data, _Lines) else enumerate(data)
    for number, row in numbered:
        place = f"{path}:{number}" if isinstance(data, _Lines) else f"{path}: item {number}"
        if not isinstance(row, dict):
            raise DataError(f"{place}: found {_shown(row)}, expected an object")
        yield place, row


def _id(place: str, row: Mapping[str, Any], key: str) -> str:
    name = row.get(key)
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        found = f"{key} {_shown(name)}" if key in row else f"no {key} among {', '.join(row) or 'no keys'}"
        raise DataError(f"{place}: {found}; expected {key}, a text or a whole number")
    return str(name)


def _new(found: Mapping[str, object], place: str, name: str) -> str:
    if name in found:
        raise DataError(f"{place}: the id {name!r} stands twice; expected each once: remove one of the two")
    return name


def _texts(place: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: found {_shown(value)}, expected a list of one reference or more")
    return [_text(f"{place}, number {number}", text, "a reference") for number, text in enumerate(value)]


def _text(place: str, value: Any, what: str, *, blank: bool = False) -> str:
    if not isinstance(value, str) or not (blank or value.strip()):
        raise DataError(f"{place}: found {_shown(value)}, expected {what}")
    return value


def _some(path: Name, found: dict[str, T], what: str) -> dict[str, T]:
    if not found:
        raise DataError(f"{path}: no {what} in it")
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
