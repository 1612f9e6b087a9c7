"""The seven context-sensitive tasks: they take memory that can be read in any order."""

from __future__ import annotations

from math import isqrt

from quincunx.recipes.compression.data.tasks.task import END, Draws, Sample, Task, one, one_more, same

MISSING, BLANK = "_", "."
"""The symbol that is left out; what makes an input of odd length whole."""
_BUCKETS = "01234"


def duplicate_string(draws: Draws, length: int) -> Sample:
    """What is the input twice over? `011` gives `011011`."""
    text = draws.text("01", length)
    return Sample(text, text * 2)


def _twice(length: int) -> int:
    return 2 * length


def missing_duplicate_string(draws: Draws, length: int) -> Sample:
    """A text stands twice over with one symbol left out: which is it? Odd lengths end in a blank.

    `0110_110` is `0110` twice over, and lacks a 0.
    """
    text = draws.text("01", length // 2) * 2
    place = draws.integer(len(text))
    return Sample(text[:place] + MISSING + text[place + 1 :] + BLANK * (length % 2), text[place])


def odds_first(draws: Draws, length: int) -> Sample:
    """What are the first, third, fifth ... symbols, followed by the second, fourth ...? `00110101` gives `01000111`."""
    text = draws.text("01", length)
    return Sample(text, text[::2] + text[1::2])


def binary_addition(draws: Draws, length: int) -> Sample:
    """What is the sum of two binary numbers? Lowest digit first; the answer closes with END.

    >>> [answer_binary(text) for text in ("001+01101", "1001+000001")]
    ['01011#', '100101#']
    """
    text = _two_numbers(draws, length, "+")
    return Sample(text, answer_binary(text))


def binary_multiplication(draws: Draws, length: int) -> Sample:
    """What is the product of two binary numbers? Lowest digit first; the answer closes with END.

    >>> [answer_binary(text) for text in ("001*01101", "1001*000001")]
    ['0001101#', '000001001#']
    """
    text = _two_numbers(draws, length, "*")
    return Sample(text, answer_binary(text))


def answer_binary(text: str) -> str:
    """Return the answer to a sum or product of two binary numbers."""
    sign = "+" if "+" in text else "*"
    first, second = (int(number[::-1], 2) for number in text.split(sign))
    return f"{first + second if sign == '+' else first * second:b}"[::-1] + END


def _two_numbers(draws: Draws, length: int, sign: str) -> str:
    """Return two numbers of at least one digit each, neither of them 0, joined by a sign."""
    first = 1 + draws.integer(length - 2)
    return _positive(draws, first) + sign + _positive(draws, length - 1 - first)


def _positive(draws: Draws, digits: int) -> str:
    """Return a binary number of so many digits, one 1 among them at least: all such numbers alike."""
    while "1" not in (number := draws.text("01", digits)):
        pass
    return number


def compute_sqrt(draws: Draws, length: int) -> Sample:
    """What is the square root of a binary number, rounded down? Highest digit first.

    >>> [answer_compute_sqrt(text) for text in ("100101", "111")]
    ['110', '10']
    """
    text = _positive(draws, length)
    return Sample(text, answer_compute_sqrt(text))


def answer_compute_sqrt(text: str) -> str:
    """Return the answer, with half as many digits as the number, rounded up."""
    return f"{isqrt(int(text, 2)):b}".zfill(_half(len(text)))


def _half(length: int) -> int:
    return (length + 1) // 2


def bucket_sort(draws: Draws, length: int) -> Sample:
    """What are the symbols in ascending order? `421302214` gives `011222344`."""
    text = draws.text(_BUCKETS, length)
    return Sample(text, "".join(sorted(text)))


_LEVEL = "context-sensitive"

TASKS = (
    Task("duplicate_string", _LEVEL, duplicate_string, "01", "01", _twice),
    Task("missing_duplicate_string", _LEVEL, missing_duplicate_string, "01" + MISSING + BLANK, "01", one, shortest=2),
    Task("odds_first", _LEVEL, odds_first, "01", "01", same),
    Task("binary_addition", _LEVEL, binary_addition, "01+", "01" + END, one_more, shortest=3),
    Task("binary_multiplication", _LEVEL, binary_multiplication, "01*", "01" + END, same, shortest=3),
    Task("compute_sqrt", _LEVEL, compute_sqrt, "01", "01", _half),
    Task("bucket_sort", _LEVEL, bucket_sort, _BUCKETS, _BUCKETS, same, chance=0.2),
)
