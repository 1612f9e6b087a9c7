"""The answers of the fifteen formal-language tasks by the plainest means there are: Python's own arithmetic, search."""

from __future__ import annotations

import re
from collections.abc import Callable


def even_pairs(text: str) -> str:
    unequal = sum(text[i] != text[i + 1] for i in range(len(text) - 1))
    return str(unequal % 2)


def parity_check(text: str) -> str:
    return str(sum(map(int, text)) % 2)


def cycle_navigation(text: str) -> str:
    place = 0
    for step in text:
        place = (place + {"+": 1, "-": -1, "0": 0}[step]) % 5
    return str(place)


def arithmetic(text: str) -> str:
    assert re.fullmatch(r"[0-4+\-*()]+", text)
    return str(eval(text) % 5)


def solve_equation(text: str) -> str:
    assert text.count("x") == 1
    left, right = text.split("=")
    solutions = [x for x in "01234" if arithmetic(left.replace("x", x)) == right]
    assert len(solutions) == 1
    return solutions[0]


def stack_manipulation(text: str) -> str:
    stack = re.match("[01]*", text)[0]
    for action in text[len(stack) :]:
        stack = stack[:-1] if action == "-" else stack + {"a": "0", "b": "1"}[action]
    return stack[::-1] + "#"


def missing_duplicate_string(text: str) -> str:
    text = text.rstrip(".")
    half = len(text) // 2
    whole = [text.replace("_", symbol) for symbol in "01"]
    (found,) = [symbol for symbol, each in zip("01", whole, strict=True) if each[:half] == each[half:]]
    return found


def odds_first(text: str) -> str:
    return "".join([text[i] for i in range(0, len(text), 2)] + [text[i] for i in range(1, len(text), 2)])


def little_endian(digits: str) -> int:
    return sum(2**place for place, digit in enumerate(digits) if digit == "1")


def binary(value: int) -> str:
    digits = ""
    while value:
        digits += str(value % 2)
        value //= 2
    return digits + "#"


def binary_addition(text: str) -> str:
    return binary(sum(map(little_endian, text.split("+"))))


def binary_multiplication(text: str) -> str:
    one, other = map(little_endian, text.split("*"))
    return binary(one * other)


def compute_sqrt(text: str) -> str:
    value, root = int(text, 2), 0
    # digit by digit from the highest: the largest root whose square is not above the value
    for place in reversed(range((len(text) + 1) // 2)):
        if (root + 2**place) ** 2 <= value:
            root += 2**place
    return binary(root)[:-1].ljust((len(text) + 1) // 2, "0")[::-1]


def bucket_sort(text: str) -> str:
    return "".join(symbol * text.count(symbol) for symbol in "01234")


ANSWERS: dict[str, Callable[[str], str]] = {
    "even_pairs": even_pairs,
    "modular_arithmetic": arithmetic,
    "parity_check": parity_check,
    "cycle_navigation": cycle_navigation,
    "stack_manipulation": stack_manipulation,
    "reverse_string": lambda text: "".join(reversed(text)),
    "modular_arithmetic_brackets": arithmetic,
    "solve_equation": solve_equation,
    "duplicate_string": lambda text: text + text,
    "missing_duplicate_string": missing_duplicate_string,
    "odds_first": odds_first,
    "binary_addition": binary_addition,
    "binary_multiplication": binary_multiplication,
    "compute_sqrt": compute_sqrt,
    "bucket_sort": bucket_sort,
}
