"""Solves sums and products in writing, one small step a statement, at any magnitude.

The procedure is that of Grant's "Chain of Shortcuts" (2023): order by magnitude, write products as sums, split numbers
into their digits, add the smallest magnitudes first with carrying, put the digits together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from quincunx.recipes.compression.data.arithmetic.language import PLUS, TIMES


class Step(NamedTuple):
    """One statement of a solution."""

    statement: str
    kind: str
    """One of `language.KINDS`."""


def solve(problem: str) -> list[Step]:
    """Return the steps from a problem to its value, every statement equal to the problem and unlike all others.

    >>> [step.statement for step in solve("27+75+4")]
    ['4+27+75', '7+4+20+75', '5+7+4+20+70', '5+11+20+70', '5+1+10+20+70', '6+10+20+70', '6+10+90', '6+100', '106']

    The last statement is a number. Terms stand in order of magnitude, products first. Rules, in this order:

    1. `rearrange`: products before numbers, shorter numbers before longer ones, factors ascending.
    2. `decompose`: `a*b` gives up one addend at a time: `(a-1)*b+b`; `2*b` is `b+b`, `1*b` is `b`, `0*b` is `0`.
    3. `decompose`: a digit is split off, ones of all numbers first, until every number is a digit and zeros.
    4. `sum`: the two rightmost numbers of the smallest magnitude that has two are added; then, where the result is a
       mixed number and others are left for either part of it, `decompose` carries: `12` is `2+10`.
    5. `combine`: with one number left of each magnitude, the two smallest are added.

    Where that leads back to a statement (`11+500`, `1+10+500`, `11+500`), the detour is left out.

    Args:
        problem: Numbers joined by `+` and `*`, without spaces.
    """
    work = _Work.read(problem)
    steps: list[Step] = []
    places = {problem: 0}

    def note(kind: str) -> None:
        statement = work.statement()
        if statement in places:
            # what led back to an earlier statement was a detour
            for step in steps[places[statement] :]:
                del places[step.statement]
            del steps[places[statement] :]
        else:
            steps.append(Step(statement, kind))
            places[statement] = len(steps)

    note("rearrange")
    while work.products:
        work.expand()
        note("decompose")
    if work.single:
        return steps
    while work.split_one():
        note("decompose")
    # carrying makes longer numbers as it goes, so the magnitudes cannot be listed beforehand
    digits = 1
    while digits <= max(work.numbers):
        while len(work.of(digits)) > 1:
            carried = work.add(digits)
            note("sum")
            if carried:
                work.carry(carried, digits)
                note("decompose")
        digits += 1
    while not work.single:
        work.combine()
        note("combine")
    return steps


@dataclass
class _Work:
    """The terms of the present statement."""

    products: list[list[int]]
    """Factors of each product, ascending."""
    numbers: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """Number of digits -> the numbers that have so many, as they stand."""

    @classmethod
    def read(cls, problem: str) -> _Work:
        work = cls([])
        for term in problem.split(PLUS):
            factors = sorted(int(factor) for factor in term.split(TIMES))
            if len(factors) > 1:
                work.products.append(factors)
            else:
                work.of(len(str(factors[0]))).append(factors[0])
        return work

    def of(self, digits: int) -> list[int]:
        return self.numbers.setdefault(digits, [])

    def put_first(self, number: int) -> None:
        self.of(len(str(number))).insert(0, number)

    @property
    def single(self) -> bool:
        return not self.products and sum(map(len, self.numbers.values())) == 1

    def statement(self) -> str:
        terms = [TIMES.join(map(str, factors)) for factors in self.products]
        terms += [str(number) for digits in sorted(self.numbers) for number in self.numbers[digits]]
        return PLUS.join(terms)

    def expand(self) -> None:
        """Take one addend out of the first product."""
        (first, *rest), *others = self.products
        if first == 0:
            self.products = others
            self.put_first(0)
            return
        kept = [[first - 1, *rest]] if first > 2 else []
        # `2*b` becomes `b+b` at once: `1*b+b` would say nothing more
        addends = 2 if first == 2 else 1
        if len(rest) > 1:
            self.products = kept + [list(rest) for _ in range(addends)] + others
        else:
            self.products = kept + others
            for _ in range(addends):
                self.put_first(rest[0])

    def split_one(self) -> bool:
        """Split the next digit off a longer number; False when every number is a digit and zeros."""
        for place in range(max(self.numbers)):
            for digits in range(place + 2, max(self.numbers) + 1):
                for i, number in enumerate(self.of(digits)):
                    digit = number // 10**place % 10 * 10**place
                    if digit:
                        self.numbers[digits][i] = number - digit
                        self.put_first(digit)
                        return True
        return False

    def add(self, digits: int) -> int:
        """Add the two rightmost numbers of a magnitude; return the sum if it is to be carried, else 0."""
        numbers = self.of(digits)
        right, left = numbers.pop(), numbers.pop()
        total = left + right
        if total < 10**digits:
            numbers.append(total)
            return 0
        self.put_first(total)
        # where nothing is left to meet either part, it would only be put together again
        meets = self.numbers[digits] or len(self.numbers[digits + 1]) > 1
        return total if meets and total % 10**digits else 0

    def carry(self, total: int, digits: int) -> None:
        """Write the sum that `add` put first among the longer numbers as what stays and what is carried."""
        self.of(digits + 1).pop(0)
        stays = total % 10**digits
        self.of(digits).append(stays)
        self.put_first(total - stays)

    def combine(self) -> None:
        """Add the two smallest numbers, each the only one of its magnitude."""
        first, second = [digits for digits in sorted(self.numbers) if self.numbers[digits]][:2]
        total = self.numbers[first].pop() + self.numbers[second].pop()
        self.put_first(total)
