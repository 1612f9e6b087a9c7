"""Accuracy of answers to visual questions against ten people's (Antol et al. 2015; Goyal et al. 2017).

An answer is right as far as people gave it: of each person's nine fellows, 1 when three or more agree with it, else a
third for each; the mean over persons. True answers are never changed. Q questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quincunx.errors import DataError, UsageError
from quincunx.metrics.measured import Measured, mean, same_ids
from quincunx.metrics.vqa_words import MODES, normalised, without_breaks

ENOUGH = 3
"""People who must agree for an answer to be wholly right."""


@dataclass(frozen=True, slots=True)
class Question:
    """What people said to a question."""

    answers: Sequence[str]
    """One a person, ten in the challenge's data."""
    question_type: str = ""
    """Such as `how many`; empty: not known."""
    answer_type: str = ""
    """`yes/no`, `number` or `other`; empty: not known."""


@dataclass(frozen=True)
class VqaAccuracy:
    """The accuracy over all questions, and over those of a kind."""

    overall: Measured
    by_question_type: Mapping[str, Measured] = field(default_factory=dict)
    by_answer_type: Mapping[str, Measured] = field(default_factory=dict)


def vqa_accuracy(
    questions: Mapping[str, Question], predictions: Mapping[str, str], mode: str = "official"
) -> VqaAccuracy:
    """Return the accuracy of answers, 0 to 1, overall and by types of questions and answers.

    Args:
        questions: Id -> what people said; two people or more, for each is compared with the others.
        predictions: The same ids -> answer.
        mode: `official` gives the figures of the challenge's script, which compares letter by letter where all people
            said the same; `fixed` normalises there too, and keeps the other rules without the script's slips (see
            `normalised`).

    Raises:
        UsageError: Another mode.
        DataError: Ids that are not the same, fewer than two people's answers, answers that are no texts; with the id.
    """
    if mode not in MODES:
        raise UsageError(f"{mode!r} is no way to compare answers; there are: {', '.join(MODES)}")
    names = same_ids(questions, predictions, "question", "predictions")
    values = [_of_one(name, questions[name], predictions[name], mode) for name in names]
    return VqaAccuracy(
        mean(names, values),
        _by({name: questions[name].question_type for name in names}, values),
        _by({name: questions[name].answer_type for name in names}, values),
    )


def agreement(answer: str, answers: Sequence[str], mode: str = "official") -> float:
    """Return how right an answer is in view of people's answers, 0 to 1; see `vqa_accuracy`."""
    cleaned = [without_breaks(text) for text in answers]
    if mode == "official" and len(set(cleaned)) == 1:
        given, said = without_breaks(answer), cleaned
    else:
        given, said = normalised(answer, mode), [normalised(text, mode) for text in cleaned]
    agreed = sum(text == given for text in said)
    # each person who said it has one fellow less who did
    with_it, without = min(1.0, (agreed - 1) / ENOUGH), min(1.0, agreed / ENOUGH)
    return (agreed * with_it + (len(said) - agreed) * without) / len(said) if agreed else 0.0


def soft_scores(answers: Sequence[str], mode: str = "official") -> dict[str, float]:
    """Return each answer that was given, normalised, with 0.3 for each who gave it, at most 1: what is trained on.

    Source: Teney, Anderson, He, van den Hengel, "Tips and tricks for visual question answering" (2018); it is
    `vqa_accuracy` of that answer, rounded to tenths, where ten people answered.
    """
    counts: dict[str, int] = {}
    for text in answers:
        word = normalised(text, mode)
        counts[word] = counts.get(word, 0) + 1
    return {word: min(1.0, 3 * count / 10) for word, count in counts.items()}


def soft_accuracy(weights: Mapping[str, Mapping[str, float]], predictions: Mapping[str, str]) -> Measured:
    """Return the mean weight of the answers that were given, 0 for one without a weight: no list of answers limits it.

    Args:
        weights: Id -> answer -> how right it is, 0 to 1; such as `soft_scores` gives.
        predictions: The same ids -> answer, compared letter by letter, so normalised as the weights' are.

    Raises:
        DataError: Ids that are not the same, or a weight that is not between 0 and 1; with the id.
    """
    names = same_ids(weights, predictions, "question", "predictions")
    for name in names:
        for answer, weight in weights[name].items():
            if not 0 <= weight <= 1:
                raise DataError(f"question {name!r}: the weight of {answer!r} is {weight}, expected 0 to 1")
    return mean(names, [weights[name].get(predictions[name], 0.0) for name in names])


def _of_one(name: str, question: Question, answer: object, mode: str) -> float:
    if not isinstance(answer, str):
        raise DataError(f"predictions, question {name!r}: the answer is {answer!r}, expected a text")
    if len(question.answers) < 2:
        raise DataError(
            f"question {name!r}: {len(question.answers)} people answered, expected two or more, for each is "
            "compared with the others; where right answers have weights, use the soft score"
        )
    if wrong := [text for text in question.answers if not isinstance(text, str)]:
        raise DataError(f"question {name!r}: the true answer {wrong[0]!r} is no text")
    return agreement(answer, question.answers, mode)


def _by(kinds: Mapping[str, str], values: Sequence[float]) -> dict[str, Measured]:
    """Return the mean of each kind that is known, in order of its name."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for (name, kind), value in zip(kinds.items(), values, strict=True):
        if kind:
            groups.setdefault(kind, []).append((name, value))
    return {kind: mean(*zip(*groups[kind], strict=True)) for kind in sorted(groups)}
