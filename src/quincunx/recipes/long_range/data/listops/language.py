"""The ListOps language: tokens, their ids, and what an expression is worth (Nangia and Bowman 2018; Tay et al. 2021).

Expressions are handled many at once, as one flat array of token ids with offsets, because the sets of the Long Range
Arena hold 100 million tokens and each file's labels are checked against its expressions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.uint8]

PADDING = 0
DIGIT = 1
"""Id of the digit 0; the digits are the ids 1 to 10."""
OPERATOR = 11
"""Id of the first operator; `OPERATORS` are the ids 11 to 14."""
CLOSE = 15
UNKNOWN = 16
"""FIRST and LAST, which the Long Range Arena switched off: they share one id and open a bracket."""

OPERATORS = ("MIN", "MAX", "MED", "SM")
TOKENS = ("<pad>", *"0123456789", *(f"[{name}" for name in OPERATORS), "]", "<unknown>")
"""The text of every id."""
VOCABULARY_SIZE = len(TOKENS)

ROOTS = ("digit", *OPERATORS, "unknown")
"""Names of the groups that `root_operators` returns."""

_IDS = {text.encode(): number for number, text in enumerate(TOKENS) if number not in (PADDING, UNKNOWN)} | {
    b"[FIRST": UNKNOWN,
    b"[LAST": UNKNOWN,
}
_PARENTHESES_TO_BLANKS = bytes.maketrans(b"()", b"  ")

SOUND, EMPTY, UNBALANCED, SEVERAL, NO_ARGUMENTS = range(5)
FAULTS = (
    "a sound expression",
    "an empty expression",
    "brackets that do not match",
    "more than one expression",
    "an operator without arguments",
)
"""In words, what `examine` found in a row, by its number."""


@dataclass(frozen=True)
class Findings:
    """What `examine` found: one entry per expression."""

    faults: NDArray[np.uint8]
    """An index into `FAULTS`; `SOUND` is 0."""
    values: NDArray[np.int8]
    """The value, 0 to 9; -1 where there is a fault or an unknown operator."""


def tokenize(source: bytes) -> bytes:
    """Return the ids of an expression's tokens, one byte each.

    Tokens are separated by white space; parentheses, which the official files put round every pair, are skipped.
    ValueError names the first token that is not of the language.
    """
    try:
        return bytes(map(_IDS.__getitem__, source.translate(_PARENTHESES_TO_BLANKS).split()))
    except KeyError as error:
        raise ValueError(f"unknown token {error.args[0][:40].decode('utf-8', 'backslashreplace')!r}") from None


def format_source(tokens: bytes) -> str:
    """Return a sound expression as the official files write it.

    There, an operator is applied to its arguments one at a time, each application a pair in parentheses:
    `[MAX 1 2 ]` is `( ( ( [MAX 1 ) 2 ) ] )`.
    """
    pieces: list[str] = []
    arguments: list[int] = []
    for token in reversed(tokens):  # backwards: a bracket's number of arguments is known when its operator is met
        if token == CLOSE:
            pieces.append("] ) )" if arguments else "] )")
            arguments.append(0)
        else:
            if token < OPERATOR:
                pieces.append(_ARGUMENTS[token] if arguments else TOKENS[token])
            else:
                pieces.append(_OPENINGS[arguments.pop()] + TOKENS[token])
            if arguments:
                arguments[-1] += 1
    pieces.reverse()
    return " ".join(pieces)


_ARGUMENTS = tuple(f"{text} )" for text in TOKENS)


class _Openings(dict[int, str]):
    """The parentheses in front of an operator with so many arguments."""

    def __missing__(self, arguments: int) -> str:
        return self.setdefault(arguments, "( " * (arguments + 1))


_OPENINGS = _Openings()


def evaluate(tokens: bytes | Tokens) -> int:
    """Return the value of one expression, 0 to 9; ValueError says why it has none."""
    row = np.frombuffer(tokens, np.uint8) if isinstance(tokens, bytes) else tokens
    findings = examine(row, np.array([0, len(row)]))
    if findings.faults[0]:
        raise ValueError(f"not a ListOps expression: {FAULTS[findings.faults[0]]}")
    if findings.values[0] < 0:
        raise ValueError("the expression holds an operator that is not of the Long Range Arena's ListOps")
    return int(findings.values[0])


def examine(tokens: Tokens, offsets: NDArray[np.int64]) -> Findings:
    """Check and evaluate N expressions.

    Arguments: `tokens` [T], all rows one after another; `offsets` [N + 1], row i being
    `tokens[offsets[i] : offsets[i + 1]]`. MED is the median, of an even number of arguments the mean of the middle two
    rounded down; SM is the sum modulo 10.
    """
    starts, lengths = offsets[:-1], np.diff(offsets)
    faults = np.where(lengths == 0, EMPTY, SOUND).astype(np.uint8)
    values = np.full(len(starts), -1, np.int8)
    rows = np.flatnonzero(lengths)  # reduceat below knows no empty rows
    if not len(rows):
        return Findings(faults, values)
    starts, lengths = starts[rows], lengths[rows]

    opens, closes = _opens(tokens), tokens == CLOSE
    after = _brackets_open_after(tokens, starts, lengths)
    level = after - opens  # operators, their closing brackets and digits: how many brackets stand round them
    outermost = np.add.reduceat((level == 0) & ~closes, starts, dtype=np.int64)
    bare = np.flatnonzero(opens[:-1] & closes[1:])
    fault = np.zeros(len(rows), np.uint8)
    fault[np.searchsorted(starts, bare, side="right") - 1] = NO_ARGUMENTS
    fault[outermost > 1] = SEVERAL
    fault[(np.minimum.reduceat(level, starts) < 0) | (after[starts + lengths - 1] != 0)] = UNBALANCED
    faults[rows] = fault

    known = (fault == SOUND) & (np.maximum.reduceat(tokens, starts) < UNKNOWN)
    nodes = np.flatnonzero(np.repeat(known, lengths) & ~closes)
    values[rows[known]] = _evaluate_nodes(tokens, level, nodes)[starts[known]]
    return Findings(faults, values)


def root_operators(tokens: Tokens, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each expression's outermost operator as an index into `ROOTS` [N]; rows must not be empty."""
    first = tokens[offsets[:-1]].astype(np.int64)
    return np.where(first < OPERATOR, 0, np.where(first == UNKNOWN, len(ROOTS) - 1, first - OPERATOR + 1))


def nesting_depths(tokens: Tokens, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how deep each expression's operators nest [N]: 0 for a bare digit; rows must not be empty."""
    starts = offsets[:-1]
    return np.maximum.reduceat(_brackets_open_after(tokens, starts, np.diff(offsets)), starts).astype(np.int64)


def _opens(tokens: Tokens) -> NDArray[np.bool_]:
    return (tokens >= OPERATOR) & (tokens != CLOSE)


def _brackets_open_after(tokens: Tokens, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return after each token [T] how many brackets of its own row are open; no row is empty."""
    change = _opens(tokens).astype(np.int8) - (tokens == CLOSE)
    after = np.cumsum(change, dtype=np.int32)
    before_row = np.where(starts > 0, after[starts - 1], 0)
    return after - np.repeat(before_row, lengths)


def _evaluate_nodes(tokens: Tokens, level: NDArray[np.int32], nodes: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the value of every node (digit or operator, by position) [T], from the deepest level upwards."""
    value = tokens.astype(np.int8) - np.int8(DIGIT)
    node_level = level[nodes]
    if len(nodes) and node_level.max() < 2**16:
        node_level = node_level.astype(np.uint16)  # numpy sorts these in linear time
    nodes = nodes[np.argsort(node_level, kind="stable")]
    ends = np.cumsum(np.bincount(node_level)) if len(nodes) else np.zeros(0, np.int64)
    for depth in range(len(ends) - 1, 0, -1):
        children = nodes[ends[depth - 1] : ends[depth]]
        parents = nodes[ends[depth - 2] if depth > 1 else 0 : ends[depth - 1]]
        parents = parents[tokens[parents] >= OPERATOR]
        parent = np.searchsorted(parents, children) - 1  # the last one to open before the child
        counts = np.bincount(parent * 10 + value[children], minlength=10 * len(parents)).reshape(-1, 10)
        value[parents] = _apply(tokens[parents], counts)
    return value


def _apply(operators: Tokens, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return operators [P] applied to arguments given as how often each digit occurs [P, 10]."""
    up_to = np.cumsum(counts, axis=1)
    number = up_to[:, -1:]
    lower, upper = (np.argmax(up_to > middle, axis=1) for middle in ((number - 1) // 2, number // 2))
    results = (
        np.argmax(counts > 0, axis=1),
        9 - np.argmax(counts[:, ::-1] > 0, axis=1),
        (lower + upper) // 2,
        counts @ np.arange(10) % 10,
    )
    return np.choose(operators - OPERATOR, results)
