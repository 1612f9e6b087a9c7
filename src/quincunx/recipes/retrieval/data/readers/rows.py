"""Rows on their way from files into a collection: texts with ids, judgements that name ids, texts that have none."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.recipes.retrieval.data.collection import Collection, Relations, first_of_each
from quincunx.recipes.retrieval.data.readers.files import HALF_PAIR, BadRows, shown
from quincunx.recipes.retrieval.data.texts import Strings, StringsBuilder, Texts, content_hash

_GRADE = re.compile(r"[+-]?[0-9]+(\.0*)?")
_LARGEST_GRADE = 2**31 - 1


def grade_of(value: Any) -> int:
    """Return a grade from a file, written as `1` or as `1.0`; ValueError says what is wrong with it."""
    if isinstance(value, str) and _GRADE.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or abs(value) > _LARGEST_GRADE:
        raise ValueError(f"the grade is {shown(value)}; expected a whole number")
    return int(value)


class TextRows:
    """The texts of one file, each with an id."""

    def __init__(self, path: Path | str, bad: BadRows) -> None:
        self.path = path
        self.bad = bad
        self._ids = StringsBuilder()
        self._texts = StringsBuilder()
        self._lines = array("q")

    def add(self, line: int, identifier: Any, text: Any) -> None:
        """Keep a row if its id and text are sound; ids that are whole numbers become their digits."""
        if isinstance(identifier, int) and not isinstance(identifier, bool):
            identifier = str(identifier)
        if identifier is None or identifier == "":
            self.bad.add(self.path, line, "an empty id")
        elif not isinstance(identifier, str):
            self.bad.add(self.path, line, f"the id is {shown(identifier)}; expected a string")
        elif not isinstance(text, str):
            self.bad.add(self.path, line, f"the text is {shown(text)}; expected a string")
        else:
            try:
                coded, content = identifier.encode(), text.encode()
            except UnicodeEncodeError:
                self.bad.add(self.path, line, HALF_PAIR)
                return
            self._ids.add(coded)
            self._texts.add(content)
            self._lines.append(line)

    def texts(self) -> Texts:
        """Return the texts; a row whose id an earlier one has becomes a bad one."""
        ids, contents = self._ids.strings(), self._texts.strings()
        sound = np.ones(len(ids), bool)
        for first, again in ids.repeats():
            sound[again] = False
            reason = f"the id {shown(ids[again])} is that of line {self._lines[first]} already; ids must differ"
            self.bad.add(self.path, self._lines[again], reason)
        texts = Texts(ids, contents)
        return texts if sound.all() else texts.pick(np.flatnonzero(sound))


class Judgements:
    """Judged pairs of one file, which name queries and documents by id."""

    def __init__(self, path: Path | str, bad: BadRows) -> None:
        self.path = path
        self.bad = bad
        self.notes: list[str] = []
        self._queries = StringsBuilder()
        self._documents = StringsBuilder()
        self._grades = array("i")
        self._lines = array("q")

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: int, query: str, document: str, grade: Any) -> None:
        """Keep a row if its ids are not empty and its grade is a whole number."""
        if not query or not document:
            self.bad.add(self.path, line, f"an empty {'document' if query else 'query'} id")
            return
        try:
            self._grades.append(grade_of(grade))
        except ValueError as error:
            self.bad.add(self.path, line, str(error))
            return
        self._queries.add(query.encode())
        self._documents.add(document.encode())
        self._lines.append(line)

    def relations(self, documents: Strings, queries: Strings) -> Relations:
        """Return the judgements as places among the ids given.

        A relevant pair whose document or query is unknown is a bad row, one judged not relevant is passed over. A pair
        that is judged twice alike counts once; judged otherwise the second time it is a bad row.
        """
        query_ids, document_ids = self._queries.strings(), self._documents.strings()
        pairs = np.stack([queries.indices_of(query_ids), documents.indices_of(document_ids)], axis=1)
        grades, lines = np.frombuffer(self._grades, np.intc), np.frombuffer(self._lines, np.int64)
        unknown = (pairs < 0).any(axis=1)
        for at in np.flatnonzero(unknown & (grades > 0)).tolist():
            what, ids = ("query", query_ids) if pairs[at, 0] < 0 else ("document", document_ids)
            self.bad.add(self.path, int(lines[at]), f"relevant pair with the unknown {what} {shown(ids[at])}")
        if passed := int((unknown & (grades <= 0)).sum()):
            self.notes.append(f"{self.path}: {passed:,} pairs judged not relevant name unknown texts; passed over.")
        pairs, grades, lines = pairs[~unknown], grades[~unknown].astype(np.int32), lines[~unknown]
        self._compare_repeats(pairs, grades, lines, documents, queries)
        return Relations.build(pairs, len(queries), grades=grades)

    def _compare_repeats(
        self,
        pairs: NDArray[np.int64],
        grades: NDArray[np.int32],
        lines: NDArray[np.int64],
        documents: Strings,
        queries: Strings,
    ) -> None:
        firsts: dict[tuple[int, int], int] = {}
        repeated = 0
        again = np.ones(len(pairs), bool)
        again[first_of_each(pairs)] = False
        if not again.any():
            return
        for at, (query, document) in enumerate(pairs.tolist()):
            first = firsts.setdefault((query, document), at)
            if first == at:
                continue
            if grades[at] == grades[first]:
                repeated += 1
            else:
                names = f"query {shown(queries[query])} and document {shown(documents[document])}"
                reason = f"{names} are graded {grades[at]}, on line {lines[first]} {grades[first]}"
                self.bad.add(self.path, int(lines[at]), reason)
        if repeated:
            self.notes.append(f"{self.path}: {repeated:,} pairs are there more than once; they count once.")


@dataclass(frozen=True)
class Record:
    """One row of texts without ids."""

    query: str
    positives: Sequence[str] = ()
    negatives: Sequence[str] = ()
    positive_scores: Sequence[float] | None = None
    """A teacher's score of each positive."""
    negative_scores: Sequence[float] | None = None
    grade: int = 1
    """How relevant the positives are; at 0 or below they are negatives that were judged."""


@dataclass
class _Pairs:
    """Pairs while they are gathered."""

    places: array[int] = field(default_factory=lambda: array("q"))
    grades: array[int] = field(default_factory=lambda: array("i"))
    scores: array[float] = field(default_factory=lambda: array("f"))
    scored: bool = False

    def add(self, query: int, document: int, grade: int, score: float | None) -> None:
        self.places.extend((query, document))
        self.grades.append(grade)
        self.scores.append(float("nan") if score is None else score)
        self.scored |= score is not None

    def relations(self, queries: int, but: Relations | None = None) -> tuple[Relations, int, int]:
        """Return the relations, the number of pairs left out as repeated, and of those left out as in `but`."""
        pairs = np.frombuffer(self.places, np.int64).reshape(-1, 2)
        grades, scores = np.frombuffer(self.grades, np.intc).astype(np.int32), np.frombuffer(self.scores, np.float32)
        kept = np.ones(len(pairs), bool) if but is None else ~but.contain(pairs)
        pairs, grades, scores = pairs[kept], grades[kept], scores[kept]
        repeated = len(pairs) - len(first_of_each(pairs))
        made = Relations.build(pairs, queries, grades=grades, scores=scores if self.scored else None)
        return made, repeated, int((~kept).sum())


class Records:
    """Rows of texts without ids on their way into a collection: a text is one text however often it occurs.

    Its id is its content hash in hexadecimal, so that it is the same in every file and split.
    """

    def __init__(self) -> None:
        self._sides = (_Interned(), _Interned())
        self._relevant = _Pairs()
        self._negative = _Pairs()
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, record: Record) -> None:
        """Keep a row; UnicodeEncodeError for half of a surrogate pair."""
        queries, documents = self._sides
        texts = [text.encode() for text in (record.query, *record.positives, *record.negatives)]
        query, *others = queries.place(texts[0]), *(documents.place(text) for text in texts[1:])
        positives, negatives = others[: len(record.positives)], others[len(record.positives) :]
        for number, document in enumerate(positives):
            score = None if record.positive_scores is None else record.positive_scores[number]
            self._relevant.add(query, document, record.grade, score)
            if record.grade <= 0:
                self._negative.add(query, document, record.grade, score)
        for number, document in enumerate(negatives):
            score = None if record.negative_scores is None else record.negative_scores[number]
            self._negative.add(query, document, 0, score)
        self._rows += 1

    def collection(self, name: str, fingerprint: str, notes: Sequence[str], bad: BadRows) -> Collection:
        """Return the rows as a collection."""
        queries, documents = (side.texts() for side in self._sides)
        said = list(notes)
        relevant, repeated, _ = self._relevant.relations(len(queries))
        negatives, _, false = self._negative.relations(len(queries), relevant.positive)
        if repeated:
            said.append(f"{name}: {repeated:,} pairs are there more than once; the first of each counts.")
        if false:
            said.append(f"{name}: {false:,} negatives are relevant to their query by other rows; they are left out.")
        return Collection(name, documents, queries, relevant, negatives, fingerprint, said, bad.listed)


class _Interned:
    """Texts, each once. The table holds hashes, not texts."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._texts = StringsBuilder()

    def place(self, content: bytes) -> int:
        key = content_hash(content)
        found = self._known.setdefault(key, len(self._known))
        if found == len(self._texts):
            self._texts.add(content)
        return found

    def texts(self) -> Texts:
        ids = Strings.of(f"{key:016x}" for key in self._known)
        return Texts(ids, self._texts.strings())


def judged_collection(
    name: str,
    documents: Texts,
    queries: Texts,
    relevant: Relations,
    fingerprint: str,
    notes: Sequence[str],
    bad: BadRows,
    negatives: Relations | None = None,
) -> Collection:
    """Return a collection of those of the queries that are judged or have negatives."""
    said = list(notes)
    if empty := int((documents.sizes == 0).sum()):
        said.append(f"{name}: {empty:,} of {len(documents):,} documents have no text; they stay in the corpus.")
    negatives = Relations.none(len(queries)) if negatives is None else negatives
    whole = Collection(name, documents, queries, relevant, negatives, fingerprint, said, bad.listed)
    judged = np.flatnonzero((relevant.counts > 0) | (negatives.counts > 0))
    if len(judged) == len(queries):
        return whole
    said.append(f"{name}: {len(judged):,} of {len(queries):,} queries are judged; the others are left out.")
    return whole.choose(judged)
