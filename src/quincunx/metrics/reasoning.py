"""Accuracies of tasks whose questions hang together: GQA (Hudson and Manning 2019), NLVR (Suhr et al. 2017, 2019), VCR
(Zellers et al. 2019).

A model that guesses gets single questions right; consistency asks whether it gets right what belongs together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quincunx.errors import DataError
from quincunx.metrics.measured import Measured, mean, same_ids


@dataclass(frozen=True, slots=True)
class GqaQuestion:
    """What is known about a question of GQA; only the answer is needed."""

    answer: str
    type: str = ""
    """Such as `query` or `verify`; empty: not known."""
    entailed: Sequence[str] = ()
    """Ids of questions that whoever answers this one rightly can answer too."""
    valid: Sequence[str] | None = None
    """Answers in the question's scope, such as all colours; None: not known."""
    plausible: Sequence[str] | None = None
    """Answers that make sense for the thing asked about; None: not known."""


def gqa_scores(
    questions: Mapping[str, GqaQuestion], predictions: Mapping[str, str]
) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Return measures of answers, 0 to 1 each, and the accuracy by type of question.

    - `accuracy`: the share of answers that are letter by letter the true one.
    - `consistency`: over questions answered rightly that entail others, the mean share of those that are right too.
    - `validity`, `plausibility`: the share of answers in the question's scope, and of those that make sense.

    The last three are there where the questions say what they need.

    Args:
        questions: Id -> what is known.
        predictions: The same ids -> answer.

    Raises:
        DataError: Ids that are not the same, an entailed question that is not there; with the id.
    """
    names = same_ids(questions, predictions, "question", "predictions")
    right = {name: predictions[name] == questions[name].answer for name in names}
    found = {"accuracy": mean(names, [right[name] for name in names])}
    chains: dict[str, float] = {}
    for name in names:
        others = [other for other in questions[name].entailed if other != name]
        if lost := [other for other in others if other not in right]:
            raise DataError(f"question {name!r} entails {lost[0]!r}, which is not among the questions")
        if right[name] and others:
            chains[name] = float(np.mean([right[other] for other in others]))
    if chains:
        found["consistency"] = mean(list(chains), list(chains.values()))
    for measure, known in (
        ("validity", {name: questions[name].valid for name in names}),
        ("plausibility", {name: questions[name].plausible for name in names}),
    ):
        inside = {name: predictions[name] in answers for name, answers in known.items() if answers is not None}
        if inside:
            found[measure] = mean(list(inside), list(inside.values()))
    groups: dict[str, list[str]] = {}
    for name in names:
        if questions[name].type:
            groups.setdefault(questions[name].type, []).append(name)
    return found, {kind: mean(groups[kind], [right[name] for name in groups[kind]]) for kind in sorted(groups)}


def statement_scores(
    truth: Mapping[str, bool], predictions: Mapping[str, bool], sentences: Mapping[str, Hashable] | None = None
) -> dict[str, Measured]:
    """Return `accuracy` of statements judged true or false and, with sentences, `consistency`.

    Consistency is the share of sentences whose examples, the same sentence with other pictures, are all judged
    rightly; its samples are the sentences.

    Args:
        truth: Id -> whether the statement is true.
        predictions: The same ids -> what was said.
        sentences: Id -> its sentence: the sentence's name, or the text itself; see `nlvr2_sentence`.

    Raises:
        DataError: Ids that are not the same, values that are neither true nor false, a sentence that is missing.
    """
    names = same_ids(truth, predictions, "statement", "predictions")
    for whose, values in (("truth", truth), ("predictions", predictions)):
        for name in names:
            if not isinstance(values[name], bool | np.bool_):
                raise DataError(f"{whose}, statement {name!r}: found {values[name]!r}, expected true or false")
    right = {name: bool(truth[name]) == bool(predictions[name]) for name in names}
    found = {"accuracy": mean(names, [right[name] for name in names])}
    if sentences is not None:
        together: dict[Hashable, bool] = {}
        for name in names:
            if name not in sentences:
                raise DataError(f"statement {name!r} has no sentence, so consistency cannot be measured")
            together[sentences[name]] = together.get(sentences[name], True) and right[name]
        found["consistency"] = mean([str(sentence) for sentence in together], list(together.values()))
    return found


def nlvr2_sentence(identifier: str) -> str:
    """Return what the identifiers of one sentence's examples have in common: `dev-850-0-1` gives `dev-850-1`.

    Identifiers are split, set, pair of pictures, sentence. DataError for another form.
    """
    parts = identifier.split("-")
    if len(parts) != 4:
        raise DataError(f"{identifier!r} is no identifier of NLVR2; expected split-set-pair-sentence")
    return "-".join((*parts[:2], parts[3]))


def vcr_scores(truth: Mapping[str, tuple[int, int]], predictions: Mapping[str, tuple[int, int]]) -> dict[str, Measured]:
    """Return `answer` (Q->A), `rationale` (QA->R, the true answer given) and `both` (Q->AR: both right).

    Args:
        truth: Id -> number of the right answer and of the right rationale.
        predictions: The same ids -> numbers that were chosen.

    Raises:
        DataError: Ids that are not the same, something else than two whole numbers of 0 or more; with the id.
    """
    names = same_ids(truth, predictions, "question", "predictions")
    true = np.array([_pair("truth", name, truth[name]) for name in names])
    right = np.array([_pair("predictions", name, predictions[name]) for name in names]) == true
    return {
        "answer": mean(names, right[:, 0]),
        "rationale": mean(names, right[:, 1]),
        "both": mean(names, right.all(axis=1)),
    }


def _pair(whose: str, name: str, value: object) -> tuple[int, int]:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        one, two = value
        if all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in (one, two)):
            return one, two
    raise DataError(f"{whose}, question {name!r}: found {value!r}, expected two whole numbers: answer, rationale")
