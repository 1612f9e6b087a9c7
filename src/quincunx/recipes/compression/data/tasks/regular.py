"""The four regular tasks: a finite automaton answers them."""

from __future__ import annotations

from quincunx.recipes.compression.data.tasks.task import Draws, Sample, Task, one

MODULUS = 5
DIGITS = "01234"
_CYCLE = 5


def even_pairs(draws: Draws, length: int) -> Sample:
    """Is the number of unequal neighbours even (0) or odd (1)?

    >>> [answer_even_pairs(text) for text in ("001110", "0101001")]
    ['0', '1']
    """
    text = draws.text("01", length)
    return Sample(text, answer_even_pairs(text))


def answer_even_pairs(text: str) -> str:
    """Return the answer: neighbours change an even number of times where the ends are equal."""
    return "0" if text[0] == text[-1] else "1"


def parity_check(draws: Draws, length: int) -> Sample:
    """Is the number of 1s even (0) or odd (1)?

    >>> answer_parity_check("0101001")
    '1'
    """
    text = draws.text("01", length)
    return Sample(text, answer_parity_check(text))


def answer_parity_check(text: str) -> str:
    """Return the answer."""
    return str(text.count("1") % 2)


def cycle_navigation(draws: Draws, length: int) -> Sample:
    """Where on a circle of five places do steps (`+` forth, `-` back, `0` none) lead from place 0?

    >>> [answer_cycle_navigation(text) for text in ("+-0--", "+++-")]
    ['3', '2']
    """
    text = draws.text("0+-", length)
    return Sample(text, answer_cycle_navigation(text))


def answer_cycle_navigation(text: str) -> str:
    """Return the answer."""
    return str((text.count("+") - text.count("-")) % _CYCLE)


def modular_arithmetic(draws: Draws, length: int) -> Sample:
    """What is an expression of digits, `+`, `-` and `*` worth modulo 5? Inputs have an odd number of symbols.

    >>> [answer_modular_arithmetic(text) for text in ("1+2*3", "1-1-1", "0*1+4*3-2")]
    ['2', '4', '0']
    """
    digits = draws.text(DIGITS, length // 2 + 1)
    signs = draws.text("+-*", length // 2)
    text = digits[0] + "".join(sign + digit for sign, digit in zip(signs, digits[1:], strict=True))
    return Sample(text, answer_modular_arithmetic(text))


def answer_modular_arithmetic(text: str) -> str:
    """Return the answer, products before sums."""
    total, product = 0, int(text[0])
    for sign, digit in zip(text[1::2], text[2::2], strict=True):
        if sign == "*":
            product = product * int(digit) % MODULUS
        else:
            total += product
            product = int(digit) if sign == "+" else -int(digit)
    return str((total + product) % MODULUS)


TASKS = (
    Task("even_pairs", "regular", even_pairs, "01", "01", one),
    Task("modular_arithmetic", "regular", modular_arithmetic, DIGITS + "+-*", DIGITS, one, odd=True, chance=0.2),
    Task("parity_check", "regular", parity_check, "01", "01", one),
    Task("cycle_navigation", "regular", cycle_navigation, "0+-", DIGITS, one, chance=0.2),
)
