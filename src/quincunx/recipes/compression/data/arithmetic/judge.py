"""Judges written arithmetic, a model's or the generator's own, with which it shares no code.

The value of every statement is computed anew from its text; what kind of step it is, is read off what changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from quincunx.errors import DataError

STEP_KINDS = ("rearrange", "decompose", "sum", "combine", "several", "malformed")
"""Besides the generator's four: `several` changes at once, as a shortcut makes them, and what is no statement."""

# numbers of more digits than Python reads at once are no honest answer to any problem here
_NUMBER = r"(?:0|[1-9][0-9]{0,999})"
_STATEMENT = re.compile(rf"{_NUMBER}(?:[+*]{_NUMBER})*")
_FILL, _END = "P", "E"


@dataclass(frozen=True)
class StepVerdict:
    """One statement of a solution."""

    statement: str
    kind: str
    """One of STEP_KINDS, by what changed since the last readable statement; a wrong digit can hide what was meant."""
    right: bool
    """Whether its value is that of the last readable statement before it: an error counts once, where it was made."""


@dataclass(frozen=True)
class Verdict:
    """What a solution is worth."""

    problem: str
    value: int
    """The true answer."""
    answer: int | None
    """The number after the last `=`; None where there is none."""
    finished: bool
    """Whether the text came to an end by itself."""
    steps: tuple[StepVerdict, ...]
    length: int
    """Characters of the solution, between the first `=` and the end."""

    @property
    def correct(self) -> bool:
        """Whether the text ended with the true answer."""
        return self.finished and self.answer == self.value

    @property
    def sound(self) -> bool:
        """Whether it did, and every step was right."""
        return self.correct and all(step.right for step in self.steps)

    @property
    def failing(self) -> dict[str, int]:
        """Kinds of the steps that were wrong, and how many of each."""
        return dict(Counter(step.kind for step in self.steps if not step.right))


def judge(text: str) -> Verdict:
    """Return the verdict on `problem=statement=...=answer`, as it is generated.

    Padding (`P`) in the problem is passed over; what follows the first end (`E`) is not looked at.

    Raises:
        DataError: The text before the first `=` is no problem.
    """
    problem, separator, rest = text.partition("=")
    problem = problem.replace(_FILL, "")
    if not separator or not _STATEMENT.fullmatch(problem):
        raise DataError(f"expected numbers joined by + and *, then =; found {text[:80]!r}")
    body, end, _ = rest.partition(_END)
    steps: list[StepVerdict] = []
    value = present = _value(problem)
    before = problem
    for statement in body.split("="):
        if _STATEMENT.fullmatch(statement):
            last_value, present = present, _value(statement)
            steps.append(StepVerdict(statement, _kind(before, statement), present == last_value))
            before = statement
        else:
            steps.append(StepVerdict(statement, "malformed", False))
    last = steps[-1].statement
    answer = int(last) if re.fullmatch(_NUMBER, last) else None
    return Verdict(problem, value, answer, bool(end), tuple(steps), len(body))


def value_of(statement: str) -> int:
    """Return the value of numbers joined by `+` and `*`; DataError for anything else."""
    if not _STATEMENT.fullmatch(statement):
        raise DataError(f"expected numbers joined by + and *; found {statement[:80]!r}")
    return _value(statement)


@dataclass(frozen=True)
class Tally:
    """Many verdicts in numbers."""

    count: int
    accuracy: float
    """Share whose final answer is correct."""
    soundness: float
    """Share whose every step is right as well."""
    finished: float
    """Share that came to an end."""
    length: float
    """Mean characters of a solution."""
    steps: float
    """Mean statements of a solution."""
    kinds: dict[str, int]
    """Steps by kind."""
    failures: dict[str, int]
    """Wrong steps by kind."""


def tally(verdicts: Sequence[Verdict]) -> Tally:
    """Return what many verdicts say together; DataError when there are none."""
    if not verdicts:
        raise DataError("there are no solutions to sum up")
    count = len(verdicts)
    kinds, failures = Counter[str](), Counter[str]()
    for verdict in verdicts:
        kinds.update(step.kind for step in verdict.steps)
        failures.update(verdict.failing)
    return Tally(
        count,
        sum(verdict.correct for verdict in verdicts) / count,
        sum(verdict.sound for verdict in verdicts) / count,
        sum(verdict.finished for verdict in verdicts) / count,
        sum(verdict.length for verdict in verdicts) / count,
        sum(len(verdict.steps) for verdict in verdicts) / count,
        {kind: kinds[kind] for kind in STEP_KINDS},
        {kind: failures[kind] for kind in STEP_KINDS},
    )


def _value(statement: str) -> int:
    return sum(prod(int(factor) for factor in term.split("*")) for term in statement.split("+"))


def _kind(before: str, after: str) -> str:
    """Return the kind of the step between two statements, from the terms that went and those that came."""
    old, new = Counter(_terms(before)), Counter(_terms(after))
    gone, come = list((old - new).elements()), list((new - old).elements())
    if not gone and not come:
        return "rearrange"
    if len(gone) == 1 and (len(come) >= 2 or len(gone[0]) > 1):
        # one term became several, or a product lost a factor of 1 or 0; more than three is more than one step
        return "decompose" if len(come) <= 2 else "several"
    if gone == [("0",)] and not come:
        # 0 went into a neighbour, which does not show: one of its own magnitude, if there is one
        alike = any(len("*".join(term)) == 1 for term in new)
        return "sum" if alike else "combine"
    if len(gone) == 2 and len(come) == 1 and all(len(term) == 1 for term in (*gone, *come)):
        return "sum" if len({len(number) for (number,) in gone}) == 1 else "combine"
    return "several"


def _terms(statement: str) -> list[tuple[str, ...]]:
    """Return the terms of a statement, factors in order of size."""
    terms = statement.split("+")
    return [tuple(sorted(term.split("*"), key=int)) if "*" in term else (term,) for term in terms]
