"""Rows of texts without ids, as the usual tools write them, by the names of their columns.

Known: query and document with a grade or a teacher's score; FlagEmbedding's `query`, `pos`, `neg`, `pos_scores`,
`neg_scores`; sentence-transformers' `anchor`, `positive`, `negative`, `negative_2` ..., with `label` or `scores` as it
passes them to distillation losses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quincunx.recipes.retrieval.data.readers.files import shown
from quincunx.recipes.retrieval.data.readers.rows import Record, grade_of

QUERY = ("query", "anchor", "question")
POSITIVE = ("positive", "positives", "pos", "document", "documents", "passage", "passages", "answer", "answers")
NEGATIVE = ("negative", "negatives", "neg", "hard_negative", "hard_negatives")
POSITIVE_SCORES = ("pos_scores", "positive_scores", "pos_score", "positive_score")
NEGATIVE_SCORES = ("neg_scores", "negative_scores", "neg_score", "negative_score")
SCORES = ("scores", "score", "similarity")
LABEL = ("label", "labels", "grade", "relevance")

EXPECTED = (
    f"a column for the query ({', '.join(QUERY)}) and one for the document or documents ({', '.join(POSITIVE[:6])}); "
    f"where there are any, hard negatives ({', '.join(NEGATIVE[:4])}, or negative_1, negative_2 ...), a teacher's "
    f"scores ({SCORES[0]}, {SCORES[1]}, {POSITIVE_SCORES[0]}, {NEGATIVE_SCORES[0]}), or grades ({LABEL[0]})"
)

_NUMBERED = re.compile(r"(.*[a-z])_?[0-9]+")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table play which part, under the names that the table gives them."""

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    positive_scores: str | None = None
    negative_scores: str | None = None
    scores: str | None = None
    label: str | None = None

    @classmethod
    def among(cls, names: Sequence[str]) -> Columns | None:
        """Return the parts of the columns named, whatever the case; None without a query or a document."""
        query, positives = _first(names, QUERY), _numbered(names, POSITIVE)
        if query is None or not positives:
            return None
        single = (_first(names, words) for words in (POSITIVE_SCORES, NEGATIVE_SCORES, SCORES, LABEL))
        return cls(query, positives, _numbered(names, NEGATIVE), *single)

    def unused(self, names: Sequence[str]) -> list[str]:
        """Return the columns that play no part."""
        single = (self.query, self.positive_scores, self.negative_scores, self.scores, self.label)
        return [name for name in names if name not in (*single, *self.positives, *self.negatives)]

    @property
    def wanted(self) -> list[str]:
        """The columns that play a part."""
        single = (self.query, self.positive_scores, self.negative_scores, self.scores, self.label)
        return [*(name for name in single if name is not None), *self.positives, *self.negatives]

    def record(self, row: Mapping[str, Any]) -> Record:
        """Return a row as a record; ValueError says what is wrong with it."""
        query = _text(row.get(self.query), self.query)
        positives, negatives = (_texts(row, names) for names in (self.positives, self.negatives))
        if not positives:
            raise ValueError(f"no document: {', '.join(self.positives)} is empty")
        positive_scores = _numbers(row, self.positive_scores, len(positives))
        negative_scores = _numbers(row, self.negative_scores, len(negatives))
        given = self.scores if self.scores is not None and row.get(self.scores) not in (None, "") else None
        label = self.label if self.label is not None and row.get(self.label) not in (None, "") else None
        if given is None and label is not None and (negatives or _is_list(row[label])):
            given, label = label, None  # beside negatives a label is what a distillation loss is to reach
        if given is not None and positive_scores is None and negative_scores is None:
            positive_scores, negative_scores = _divided(row[given], given, len(positives), len(negatives))
        grade = 1 if label is None else _grade(row[label], label)
        return Record(query, positives, negatives, positive_scores, negative_scores, grade)


def _first(names: Sequence[str], words: Sequence[str]) -> str | None:
    lower = {name.strip().lower(): name for name in reversed(names)}
    return next((lower[word] for word in words if word in lower), None)


def _numbered(names: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return the column of the first word that there is, and those of the same word with a number."""
    lower = [name.strip().lower() for name in names]
    bare = [match[1] if (match := _NUMBERED.fullmatch(name)) else name for name in lower]
    word = next((word for word in words if word in lower), None) or next((word for word in words if word in bare), None)
    return tuple(name for name, stem in zip(names, bare, strict=True) if stem == word)


def _text(value: Any, name: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"no {name}" if value is None else f"the {name} is empty")
    if not isinstance(value, str) or not value:
        raise ValueError(f"the {name} is {shown(value)}; expected a string")
    return value


def _texts(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the texts of some columns, each one text or a list of texts; null and an empty cell hold none."""
    found: list[str] = []
    for name in names:
        value = row.get(name)
        if value is None or value == "":
            continue
        if _is_list(value):
            found.extend(_text(text, name) for text in value)
        else:
            found.append(_text(value, name))
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _number(value: Any, name: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} holds {shown(value)}; expected finite numbers")
    return number


def _list_of(value: Any, name: str) -> list[float]:
    """Return numbers from a list, from a list written as JSON (tables without types), or a single one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"{name} holds {shown(value)}; expected a list of numbers") from None
    return [_number(item, name) for item in value] if _is_list(value) else [_number(value, name)]


def _numbers(row: Mapping[str, Any], name: str | None, count: int) -> list[float] | None:
    """Return as many numbers as there are texts; None where the row gives none."""
    value = None if name is None else row.get(name)
    if name is None or value is None or value == "" or (_is_list(value) and not value):
        return None
    numbers = _list_of(value, name)
    if len(numbers) != count:
        raise ValueError(f"{name} holds {len(numbers)} numbers for {count} texts")
    return numbers


def _divided(value: Any, name: str, positives: int, negatives: int) -> tuple[list[float], list[float] | None]:
    """Return the scores of the positives and of the negatives from one column of both.

    One number for one positive and one negative is their margin, as MarginMSE is given it: only differences count
    within a row, so it is the positive's score where the negative has 0.
    """
    numbers = _list_of(value, name)
    if len(numbers) == 1 and (positives, negatives) == (1, 1):
        return numbers, [0.0]
    if len(numbers) != positives + negatives:
        raise ValueError(
            f"{name} holds {len(numbers)} number{'s' * (len(numbers) != 1)} for {positives} positive and {negatives} "
            "negative texts; expected one each, positives first"
        )
    return numbers[:positives], numbers[positives:] if negatives else None


def _grade(value: Any, name: str) -> int:
    try:
        return grade_of(value)
    except ValueError:
        raise ValueError(
            f"{name} is {shown(value)}; expected a whole number, how relevant the document is; for a teacher's scores "
            "name the column score"
        ) from None
