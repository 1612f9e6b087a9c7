"""The four deterministic context-free tasks: an automaton with a stack answers them."""

from __future__ import annotations

from quincunx.recipes.compression.data.tasks.regular import DIGITS, MODULUS
from quincunx.recipes.compression.data.tasks.task import END, Draws, Sample, Task, one, one_more, same

PUSH = {"a": "0", "b": "1"}
"""Action -> the symbol it puts on the stack."""
POP = "-"


def stack_manipulation(draws: Draws, length: int) -> Sample:
    """What does a stack hold after actions: `a` puts a 0 on it, `b` a 1, `-` takes the top off, if there is one?

    The stack is given bottom to top, then come the actions; the answer goes from top to bottom and closes with END.

    >>> [answer_stack_manipulation(text) for text in ("0110b--", "110---")]
    ['110#', '#']
    """
    height = length if length == 1 else 1 + draws.integer(length - 1)
    text = draws.text("01", height) + draws.text(POP + "".join(PUSH), length - height)
    return Sample(text, answer_stack_manipulation(text))


def answer_stack_manipulation(text: str) -> str:
    """Return the answer."""
    stack: list[str] = []
    for symbol in text:
        if symbol == POP:
            del stack[-1:]
        else:
            stack.append(PUSH.get(symbol, symbol))
    return "".join(reversed(stack)) + END


def reverse_string(draws: Draws, length: int) -> Sample:
    """What is the input from back to front? `011` gives `110`."""
    text = draws.text("01", length)
    return Sample(text, text[::-1])


def modular_arithmetic_brackets(draws: Draws, length: int) -> Sample:
    """What is a bracketed expression with `+`, `-`, `*` and signs worth modulo 5?

    >>> [value_of(text) for text in ("(1+(-3))", "((-2)*(3-4))", "-2")]
    [3, 2, 3]
    """
    text = _expression(draws, length, "+-*")
    return Sample(text, str(value_of(text)))


def solve_equation(draws: Draws, length: int) -> Sample:
    """Which `x` makes a bracketed equation with `+` and `-` true modulo 5? `((x)-2)=4` is solved by 1.

    `x` occurs once, and there is no `*`, so there is one solution.
    """
    text = _expression(draws, length - 2, "+-")
    value = value_of(text)
    digits = [place for place, symbol in enumerate(text) if symbol in DIGITS]
    place = digits[draws.integer(len(digits))]
    return Sample(f"{text[:place]}x{text[place + 1 :]}={value}", text[place])


def _expression(draws: Draws, length: int, signs: str) -> str:
    """Return an expression of a length: a digit, signed or in brackets where short; else two expressions in brackets.

    Where the two meet is drawn alike from all places; built from the outside in, without recursion.
    """
    pieces: list[str] = []
    todo: list[int | str] = [length]
    while todo:
        part = todo.pop()
        if isinstance(part, str):
            pieces.append(part)
        elif part <= 4:
            digit = draws.text(DIGITS, 1)
            pieces.append({1: digit, 2: "-" + digit, 3: f"({digit})", 4: f"(-{digit})"}[part])
        else:
            left = 1 + draws.integer(part - 4)
            todo += [")", part - 3 - left, draws.text(signs, 1), left, "("]
    return "".join(pieces)


def value_of(text: str) -> int:
    """Return the value modulo 5 of a bracketed expression, in which every operation has its own brackets."""
    # a frame holds what stands left of the sign and the sign; `negative` is a sign before a digit
    left: list[tuple[int, str] | None] = []
    value: int | None = None
    negative = False
    for symbol in text:
        if symbol == "(":
            left.append(None)
            value = None
        elif symbol in DIGITS:
            value = -int(symbol) % MODULUS if negative else int(symbol)
            negative = False
        elif symbol == ")":
            frame = left.pop()
            if frame is not None and value is not None:
                value = {"+": frame[0] + value, "-": frame[0] - value, "*": frame[0] * value}[frame[1]] % MODULUS
        elif value is None:
            negative = True
        else:
            left[-1] = (value, symbol)
            value = None
    if value is None:
        raise ValueError(f"{text!r} is no expression")
    return value


TASKS = (
    Task(
        "stack_manipulation",
        "context-free",
        stack_manipulation,
        "01" + POP + "".join(PUSH),
        "01" + END,
        one_more,
    ),
    Task("reverse_string", "context-free", reverse_string, "01", "01", same),
    Task(
        "modular_arithmetic_brackets",
        "context-free",
        modular_arithmetic_brackets,
        DIGITS + "+-*()",
        DIGITS,
        one,
        chance=0.2,
    ),
    Task("solve_equation", "context-free", solve_equation, DIGITS + "+-()x=", DIGITS, one, shortest=3, chance=0.2),
)
