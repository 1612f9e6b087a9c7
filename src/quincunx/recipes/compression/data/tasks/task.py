"""What a task is: a rule from a drawn input to its answer, over symbols of one character each.

The tasks and their chance levels are those of Delétang et al. 2022 (arXiv 2207.02098), appendix A; Ruoss et al. 2023
(arXiv 2305.16843) measured position encodings on the same fifteen. L input length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import counter_hash
from quincunx.errors import UsageError
from quincunx.recipes.compression.data.alphabet import Alphabet

PAD, ANSWER, END = "P", "?", "#"
"""Fills sequences up; stands where an answer is to be given; ends an answer whose length is part of it."""

Level = Literal["regular", "context-free", "context-sensitive"]


class Sample(NamedTuple):
    """An input and its answer."""

    input: str
    output: str


def same(length: int) -> int:
    """Return the length itself."""
    return length


def one_more(length: int) -> int:
    """Return a place more than the length."""
    return length + 1


def one(length: int) -> int:
    """Return 1, whatever the length."""
    return 1


@dataclass(frozen=True)
class Task:
    """One task."""

    name: str
    level: Level
    """Its place in the Chomsky hierarchy."""
    rule: Callable[[Draws, int], Sample]
    """Draws an input of (about) a length and answers it."""
    input_symbols: str
    output_symbols: str
    """What an answer may consist of, END included where the task has it."""
    slots: Callable[[int], int] = same
    """Input length -> places for the answer; an answer of a task with END may need fewer."""
    shortest: int = 1
    """Inputs have at least so many symbols."""
    odd: bool = False
    """Whether inputs have an odd number of symbols: one less, where an even number is asked for."""
    chance: float = 0.5
    """Accuracy of guessing, as published: END is not counted among the guesses."""

    @property
    def ends(self) -> bool:
        """Whether answers close with END."""
        return END in self.output_symbols

    @cached_property
    def alphabet(self) -> Alphabet:
        """Padding, END (whose id is the eos of all tasks), the place of an answer, then the task's own symbols.

        Input and answer share the ids of symbols they share.
        """
        own = dict.fromkeys(self.input_symbols + self.output_symbols.replace(END, ""))
        return Alphabet(PAD + END + ANSWER + "".join(own), PAD, END)

    def input_length(self, length: int) -> int:
        """Return how many symbols the input has when a length is asked for."""
        return length - 1 if self.odd and length % 2 == 0 else length

    def sample(self, key: int, length: int) -> Sample:
        """Return the example that belongs to a key, its input of the length `input_length(length)`.

        Args:
            key: Any seed; the same one gives the same example.
            length: Symbols of the input.

        Raises:
            UsageError: A length below `shortest`.
        """
        if length < self.shortest:
            raise UsageError(f"{self.name} has inputs of {self.shortest} symbols at least, asked for {length}")
        return self.rule(Draws(key), self.input_length(length))


class Draws:
    """Random numbers by address: streams are numbered, and numbered are the draws within each."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._stream = 0

    def integers(self, below: int, count: int) -> NDArray[np.int64]:
        """Return `count` numbers, each in 0 .. below - 1 [count]: the next stream."""
        stream = counter_hash(np.array(self._stream), self._key)
        self._stream += 1
        return (counter_hash(np.arange(count), stream) % np.uint64(below)).astype(np.int64)

    def integer(self, below: int) -> int:
        """Return a number in 0 .. below - 1: the next stream."""
        return int(self.integers(below, 1)[0])

    def text(self, symbols: str, count: int) -> str:
        """Return `count` symbols, each drawn alike: the next stream."""
        return "".join(symbols[i] for i in self.integers(len(symbols), count).tolist())
