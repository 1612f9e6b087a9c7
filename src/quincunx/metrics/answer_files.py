"""Files of answers and of what is right: JSON or JSON lines in the forms of the COCO and VQA challenges, and our own.

Every error names the file with the line or the id. Ids may be texts or whole numbers; they are compared as texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from quincunx.errors import DataError
from quincunx.metrics.answer_rows import Name, Row, id_of, new_id, read_values, rows_of, shown, some, text_of
from quincunx.metrics.vqa import Question, soft_scores
from quincunx.metrics.vqa_words import normalised


def read_references(path: Name) -> dict[str, list[str]]:
    """Return {id: references} of a file of captions.

    It holds {id: [text, ...]}, or {"annotations": [{"image_id", "caption"}, ...]} as COCO's captions do, or lines
    {"uid", "references": [text, ...]} as the caption task of a collection does.

    Raises:
        UsageError: The file cannot be read.
        DataError: It is none of these, an id stands twice, an id has no references or one that is blank or no text.
    """
    data = read_values(path)
    found: dict[str, list[str]] = {}
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        for place, row in rows_of(path, data["annotations"]):
            name = id_of(place, row, "image_id")
            found.setdefault(name, []).append(text_of(f"{place}, image_id {name}", row.get("caption"), "a caption"))
    elif isinstance(data, dict):
        for name, texts in data.items():
            found[name] = _texts(f"{path}: id {name!r}", texts)
    else:
        for place, row in rows_of(path, data):
            name = new_id(found, place, id_of(place, row, "uid"))
            found[name] = _texts(f"{place}, uid {name!r}", row.get("references"))
    return some(path, found, "references")


def read_candidates(path: Name) -> dict[str, str]:
    """Return {id: caption} of a file of captions.

    It holds {id: text}, or [{"image_id", "caption"}, ...] as results for COCO do. Errors as `read_references`, but a
    caption may be empty.
    """
    data = read_values(path)
    if isinstance(data, dict):
        found = {
            name: text_of(f"{path}: id {name!r}", text, "one caption (a text)", blank=True)
            for name, text in data.items()
        }
    else:
        found = {}
        for place, row in rows_of(path, data):
            name = new_id(found, place, id_of(place, row, "image_id"))
            found[name] = text_of(f"{place}, image_id {name}", row.get("caption"), "a caption", blank=True)
    return some(path, found, "captions")


def read_predictions(path: Name) -> dict[str, str]:
    """Return {question: answer} of a file of answers.

    It holds [{"question_id", "answer"}, ...] as the VQA leaderboard takes it, lines with `uid` and `answer` as runs
    say them, or {id: answer}. Errors as `read_references`, but an answer may be empty.
    """
    data = read_values(path)
    if isinstance(data, dict):
        found = {name: text_of(f"{path}: id {name!r}", text, "an answer", blank=True) for name, text in data.items()}
    else:
        found = {}
        for place, row in rows_of(path, data):
            name = new_id(found, place, id_of(place, row, "question_id", "uid"))
            key = "question_id" if "question_id" in row else "uid"
            found[name] = text_of(f"{place}, {key} {name}", row.get("answer"), "an answer", blank=True)
    return some(path, found, "answers")


def read_questions(path: Name) -> dict[str, Question]:
    """Return {question: what people said} of a file of annotations.

    It holds {"annotations": [{"question_id", "answers": [{"answer"}, ...], "question_type", "answer_type"}, ...]} as
    VQA's annotations do, or lines with `uid` (or `question_id`) and `annotations` (or `answers`), a list of texts, as
    the vqa task of a collection does. Errors as `read_references`.
    """
    found: dict[str, Question] = {}
    for place, row in _annotations(path):
        key = "uid" if "uid" in row else "question_id"
        name = new_id(found, place, id_of(place, row, key))
        at = f"{place}, {key} {name}"
        found[name] = Question(
            _people(at, row, key),
            text_of(at, row.get("question_type", ""), "a question_type", blank=True),
            text_of(at, row.get("answer_type", ""), "an answer_type", blank=True),
        )
    return some(path, found, "questions")


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
        name = new_id(found, place, id_of(place, row, key))
        at = f"{place}, {key} {name}"
        found[name] = _weighed(at, row, mode) if key == "uid" else soft_scores(_people(at, row, key), mode)
    return some(path, found, "questions")


def _annotations(path: Name) -> Iterator[Row]:
    """Yield the questions of a file with what is right."""
    data = read_values(path)
    if isinstance(data, dict):
        data = data.get("annotations")
        if not isinstance(data, list):
            raise DataError(f'{path}: no list "annotations"; expected the annotations of VQA, or JSON lines')
    yield from rows_of(path, data)


def _people(at: str, row: Mapping[str, Any], key: str) -> list[str]:
    """Return what people answered."""
    people = row.get("annotations") if key == "uid" else row.get("annotations", row.get("answers"))
    if not isinstance(people, list) or not people:
        ours = '"annotations", a list of what people said; with weights of answers alone, the soft way measures'
        wanted = ours if key == "uid" else '"answers", a list of what people said'
        raise DataError(f"{at}: found {shown(people)}, expected {wanted}")
    answers = [one.get("answer") if isinstance(one, dict) else one for one in people]
    return [text_of(at, answer, "an answer", blank=True) for answer in answers]


def _weighed(at: str, row: Mapping[str, Any], mode: str) -> dict[str, float]:
    """Return the weights of an example's answers, the greater where two are the same once normalised."""
    answers = row.get("answers")
    if not isinstance(answers, list):
        raise DataError(f'{at}: found {shown(answers)}, expected "answers", a list of texts, or of text and weight')
    found: dict[str, float] = {}
    for one in answers:
        text, weight = (one.get("text"), one.get("weight", 1.0)) if isinstance(one, dict) else (one, 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise DataError(f"{at}: the weight is {shown(weight)}, expected a number between 0 and 1")
        answer = normalised(text_of(at, text, "an answer", blank=True), mode)
        found[answer] = max(float(weight), found.get(answer, 0.0))
    return found


def _texts(place: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: found {shown(value)}, expected a list of one reference or more")
    return [text_of(f"{place}, number {number}", text, "a reference") for number, text in enumerate(value)]
