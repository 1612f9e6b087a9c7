"""Files of answers to GQA and NLVR, and of what is right, in the forms of these benchmarks and our own.

Every error names the file with the line or the id. Ids may be texts or whole numbers; they are compared as texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from quincunx.errors import DataError
from quincunx.metrics.answer_rows import (
    Name,
    Row,
    cells_of,
    id_of,
    new_id,
    read_text,
    read_values,
    rows_of,
    shown,
    some,
    text_of,
)

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_PAIR = re.compile(r"(.*)-(\d+)-(\d+)-(\d+)")


class GqaRow(NamedTuple):
    """What a file says about a question of GQA."""

    answer: str
    structural: str
    """Such as `query` or `verify`; empty: not known."""
    semantic: str
    """Such as `rel` or `attr`; empty: not known."""
    entailed: Sequence[str]
    """Ids of questions that whoever answers this one rightly can answer too."""
    balanced: bool
    """Whether accuracy is measured over it; others are there for consistency alone."""
    valid: Sequence[str] | None
    plausible: Sequence[str] | None


class Statement(NamedTuple):
    """What a file says about a statement of NLVR."""

    true: bool
    sentence: str
    """What the examples of one sentence share."""


def read_gqa_questions(path: Name) -> dict[str, GqaRow]:
    """Return {question: what is known} of {id: {"answer", "types", "entailed", "isBalanced", ...}} as GQA's files are.

    Lines with `uid`, `answers` and, where they are known, `types`, `entailed`, `valid`, `plausible` do as well, as the
    gqa task of a collection has them.

    Raises:
        UsageError: The file cannot be read.
        DataError: It is neither, an id stands twice, a question has no answer, a value is of another kind.
    """
    found: dict[str, GqaRow] = {}
    for name, place, row in _named(path, "uid"):
        answer = row["answer"] if "answer" in row else _only(place, row.get("answers"))
        types: Any = row.get("types") or {}
        if not isinstance(types, dict):
            raise DataError(f"{place}: types: found {shown(types)}, expected an object: structural, semantic")
        structural, semantic = (
            text_of(f"{place}, types", types.get(key) or "", "a text", blank=True) for key in ("structural", "semantic")
        )
        balanced = row.get("isBalanced", True)
        if not isinstance(balanced, bool):
            raise DataError(f"{place}: isBalanced: found {shown(balanced)}, expected true or false")
        found[new_id(found, place, name)] = GqaRow(
            text_of(place, answer, "an answer"),
            structural,
            semantic,
            _texts(place, row, "entailed") or (),
            balanced,
            _texts(place, row, "valid"),
            _texts(place, row, "plausible"),
        )
    return some(path, found, "questions")


def read_gqa_choices(path: Name) -> dict[str, tuple[list[str] | None, list[str] | None]]:
    """Return {question: (valid answers, plausible answers)} of {id: {"valid": [...], "plausible": [...]}}, GQA's own.

    Errors as `read_gqa_questions`.
    """
    data = read_values(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: found {shown(data)}, expected an object: question -> valid, plausible")
    found: dict[str, tuple[list[str] | None, list[str] | None]] = {}
    for name, place, row in _named(path, "uid", data):
        found[name] = (_texts(place, row, "valid"), _texts(place, row, "plausible"))
    return some(path, found, "questions")


def read_gqa_predictions(path: Name) -> dict[str, str]:
    """Return {question: answer} of [{"questionId", "prediction"}, ...] as the challenge takes it, or {id: answer}.

    Errors as `read_gqa_questions`, but an answer may be empty.
    """
    data = read_values(path)
    found: dict[str, str] = {}
    if isinstance(data, dict):
        found = {name: text_of(f"{path}: id {name!r}", text, "an answer", blank=True) for name, text in data.items()}
    else:
        for place, row in rows_of(path, data):
            name = new_id(found, place, id_of(place, row, "questionId"))
            found[name] = text_of(f"{place}, questionId {name}", row.get("prediction"), "a prediction", blank=True)
    return some(path, found, "predictions")


def read_statements(path: Name) -> dict[str, Statement]:
    """Return {statement: whether it is true, and its sentence} of JSON lines as NLVR and NLVR2 are published.

    They have `identifier` (or `id`) and `label` (`True`, `true`, 1 ...); lines with `uid`, `identifier` and `answers`,
    as the nlvr task of a collection has them, and LXMERT's lists do as well. Of identifiers of four parts, split, set,
    pair and sentence, all but the pair name the sentence; of two, the first does.

    Errors as `read_gqa_questions`.
    """
    data = read_values(path)
    found: dict[str, Statement] = {}
    for place, row in rows_of(path, [data] if isinstance(data, dict) else data):
        identifier = id_of(place, row, "id" if "id" in row and "identifier" not in row else "identifier")
        name = new_id(found, place, id_of(place, row, "uid") if "uid" in row else identifier)
        label = _only(place, row["answers"]) if "answers" in row else row.get("label")
        found[name] = Statement(_truth(f"{place}, {name}", label), _sentence(identifier, "answers" in row))
    return some(path, found, "statements")


def _sentence(identifier: str, grouped: bool) -> str:
    """Return what the examples of a sentence share; a collection's identifiers are that already."""
    pair = _PAIR.fullmatch(identifier)
    if grouped:
        return identifier
    return f"{pair[1]}-{pair[2]}-{pair[4]}" if pair else identifier.rsplit("-", 1)[0]


def read_judgements(path: Name) -> dict[str, bool]:
    """Return {statement: what was said} of lines `identifier,True` as the NLVR2 leaderboard takes them, or {id: truth}.

    Errors as `read_gqa_questions`.
    """
    found: dict[str, bool] = {}
    if read_text(path).lstrip()[0] in "{[":
        data = read_values(path)
        if not isinstance(data, dict):
            raise DataError(f"{path}: found {shown(data)}, expected lines `identifier,True`, or an object: id -> truth")
        found = {name: _truth(f"{path}: id {name!r}", value) for name, value in data.items()}
    else:
        for place, cells in cells_of(path):
            if len(cells) != 2:
                raise DataError(f"{place}: {len(cells)} fields, expected identifier,True or identifier,False")
            found[new_id(found, place, cells[0].strip())] = _truth(place, cells[1].strip())
    return some(path, found, "judgements")


def _named(path: Name, key: str, data: Any = None) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (id, place, row) of an object of rows by id, or of rows with their id under a key."""
    data = read_values(path) if data is None else data
    if isinstance(data, dict) and key not in data:
        for name, row in data.items():
            if not isinstance(row, dict):
                raise DataError(f"{path}: id {name!r}: found {shown(row)}, expected an object")
            yield name, f"{path}: id {name!r}", row
        return
    rows: Iterator[Row] = rows_of(path, [data] if isinstance(data, dict) else data)
    for place, row in rows:
        yield id_of(place, row, key), place, row


def _only(place: str, answers: Any) -> Any:
    """Return the one answer of a collection's example."""
    if not isinstance(answers, list) or len(answers) != 1:
        raise DataError(
            f"{place}: answers: found {shown(answers)}, expected a list of one: hidden ones have no measure"
        )
    return answers[0].get("text") if isinstance(answers[0], dict) else answers[0]


def _texts(place: str, row: Mapping[str, Any], key: str) -> list[str] | None:
    values = row.get(key)
    if values is None:
        return None
    if not isinstance(values, list):
        raise DataError(f"{place}: {key}: found {shown(values)}, expected a list of texts")
    return [text_of(f"{place}, {key}", value, "a text", blank=True) for value in values]


def _truth(place: str, value: Any) -> bool:
    found = _TRUTH.get(str(value).lower())
    if found is None:
        raise DataError(f"{place}: found {shown(value)}, expected true or false")
    return found
