"""Documents cut into examples: a context, and what follows it. Nothing is copied: a window is arithmetic on places.

    document   0 1 2 3 4 5 6 7 8 9 a b c d e      15 tokens, the last one eos; context 4, forward 2, overlap 1
    window 0   [c c c c](f f)                     context 0..3, forward 3..5: its first token repeats the context's last
    window 1               [c c c c](f f)         context 6..9, forward 9..b
    window 2                           [c](f f)   the rest: forward keeps its length, the context is what is left

A rest too short for an example of its own takes the tokens that it lacks from the context before:

    document   0 1 2 3 4 5 6                      7 tokens, at least 1 + 1 in an example
    window 0   [c c c](f f)
    window 1             [c](f)                   5 of 6 tokens stay before; a rest of 1 becomes one of 2

So only documents that are too short for any example are left out, and `stream` keeps those too: there all documents of
a split, each ended by eos, are one text that is cut. D documents (or 1), W windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import UsageError
from quincunx.recipes.compression.data.documents import counted
from quincunx.recipes.compression.data.store import Tokens

Ids = NDArray[np.int64]


class Example(NamedTuple):
    """One context and what is predicted after it."""

    context: Ids
    """Token ids [C], C 0 or more."""
    forward: Ids
    """Token ids [L], the `overlap` last ones of the context first, C + L at least 1."""
    document: int
    """Number of the document in its split; of the first one where there are several."""
    offset: int
    """Place of the example's first token in its document."""
    overlap: int = 0
    """Tokens that `forward` repeats."""
    answer: int = 0
    """Tokens of `forward`, its last ones, that answer a labelled example."""
    label: int = -1
    """Which answer they are; -1: there is none."""


@dataclass(frozen=True)
class Shape:
    """How long examples are, in tokens."""

    context: int
    """Of the context at most; 0: there is none, as for a plain language model."""
    forward: int
    """Of what follows at most; 0: nothing, as where a context is only reconstructed."""
    overlap: int = 0
    """Last tokens of the context that the forward part begins with, beyond its own."""
    min_context: int | None = None
    """Shortest context; None: an eighth of `context`, at least 1."""
    min_forward: int | None = None
    """Shortest forward part, likewise."""

    def __post_init__(self) -> None:
        """Raise UsageError for lengths that contradict one another."""
        if self.context < 0 or self.forward < 0 or not self.window:
            raise UsageError(
                f"data.context_length {self.context} and data.forward_length {self.forward} leave no token to predict"
            )
        if not 0 <= self.overlap <= self.context:
            raise UsageError(
                f"data.overlap {self.overlap} repeats more than the context of {self.context} tokens has; lower it"
            )
        for name, least, most in (
            ("context", self.min_context, self.context),
            ("forward", self.min_forward, self.forward),
        ):
            if least is not None and not min(1, most) <= least <= most:
                raise UsageError(
                    f"data.min_{name} {least} does not lie in {min(1, most)} to {most}, the {name}'s length"
                )

    @property
    def window(self) -> int:
        """Tokens of a whole example, each counted once."""
        return self.context + self.forward

    @property
    def shortest_context(self) -> int:
        """Tokens of the shortest context."""
        return self._shortest(self.min_context, self.context)

    @property
    def shortest(self) -> int:
        """Tokens of the shortest example."""
        return self.shortest_context + self._shortest(self.min_forward, self.forward)

    @staticmethod
    def _shortest(given: int | None, length: int) -> int:
        return given if given is not None else min(length, max(1, length // 8))

    def divided(self, size: int) -> tuple[int, int]:
        """Return how many tokens of so many are context, and how many forward: the latter whole before the former."""
        forward = min(self.forward, size - self.shortest_context)
        return size - forward, forward


class Windows:
    """The examples of one split; a `Source` of the loader."""

    def __init__(self, tokens: Tokens, shape: Shape, *, stream: bool = False, limit: int | None = None) -> None:
        """Cut documents.

        Args:
            tokens: Running texts, each ended by eos.
            shape: Lengths of examples.
            stream: Cut the whole split as one text, not each document.
            limit: At most so many examples, the first.
        """
        self.tokens = tokens
        self.shape = shape
        self.stream = stream
        starts, ends = tokens.offsets[:-1], tokens.offsets[1:]
        if stream:
            starts, ends = tokens.offsets[:1], tokens.offsets[-1:]
        self._starts = starts
        self._sizes = ends - starts
        whole, rest = np.divmod(self._sizes, shape.window)
        fits = rest >= shape.shortest
        borrows = (rest > 0) & ~fits & (whole > 0) & (rest + shape.window >= 2 * shape.shortest)
        self._borrows = borrows
        counts = whole + fits + borrows
        self._upto: NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        """Windows before each text [D + 1]."""
        used = np.where(fits | borrows, self._sizes, whole * shape.window)
        self.left_out = int((self._sizes - used).sum())
        """Tokens that are in no example."""
        none = (counts == 0) & (self._sizes > 0)
        self.too_short = int(none.sum())
        """Texts without any example."""
        self._in_short = int(self._sizes[none].sum())
        total = int(self._upto[-1])
        self._count = total if limit is None else min(limit, total)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        """Return an example; IndexError beyond the last."""
        if not 0 <= index < self._count:
            raise IndexError(f"example {index} of {self._count}")
        text = int(np.searchsorted(self._upto, index, side="right")) - 1
        start, size = self._window(text, index - int(self._upto[text]))
        first = int(self._starts[text]) + start
        context, forward = self.shape.divided(size)
        border, overlap = first + context, min(self.shape.overlap, context)
        document, offset = self._place(first)
        return Example(
            self.tokens.between(first, border),
            self.tokens.between(border - overlap, border + forward),
            document,
            offset,
            overlap,
        )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, repeated ones included [W]."""
        shape, numbers = self.shape, np.diff(self._upto)
        sizes = np.full(int(self._upto[-1]), shape.window, np.int64)
        rest = self._sizes % shape.window
        last = self._upto[1:] - 1
        short = (numbers > 0) & ~self._borrows & (rest >= shape.shortest)
        sizes[last[short]] = rest[short]
        sizes[last[self._borrows]] = shape.shortest
        sizes[last[self._borrows] - 1] = (shape.window + rest - shape.shortest)[self._borrows]
        forward = np.minimum(shape.forward, sizes - shape.shortest_context)
        return (sizes + np.minimum(shape.overlap, sizes - forward))[: self._count]

    def said(self, split: str) -> str:
        """Return a sentence on the examples and on what is left out."""
        text = f"{split}: {counted(len(self), 'example')} of {int(self.tokens.offsets[-1]):,} tokens in "
        text += counted(len(self.tokens), "document")
        if not self.left_out:
            return f"{text}; no token is left out."
        reasons: list[str] = []
        if self.too_short:
            reasons.append(f"{self._in_short:,} in {self.too_short:,} that have fewer than {self.shape.shortest}")
        if self.left_out > self._in_short:
            reasons.append(f"{self.left_out - self._in_short:,} in rests too short for an example")
        share = self.left_out / int(self.tokens.offsets[-1])
        advice = "" if self.stream else "; data.packing stream keeps them, documents sharing examples"
        return f"{text}; {self.left_out:,} tokens ({share:.1%}) are left out: {', '.join(reasons)}{advice}."

    def _window(self, text: int, number: int) -> tuple[int, int]:
        """Return where a window of a text starts in it, and how many tokens it has."""
        size, window = int(self._sizes[text]), self.shape.window
        start = number * window
        if not self._borrows[text]:
            return start, min(window, size - start)
        last = int(self._upto[text + 1] - self._upto[text]) - 1
        border = size - self.shape.shortest
        if number == last:
            return border, self.shape.shortest
        return start, (border if number == last - 1 else start + window) - start

    def _place(self, first: int) -> tuple[int, int]:
        """Return the document that a token is of, and its place there."""
        document = int(np.searchsorted(self.tokens.offsets, first, side="right")) - 1
        return document, first - int(self.tokens.offsets[document])


class LabelledPairs:
    """Labelled examples of three parts each: the context, what is asked of it, the answer; a `Source` of the loader.

    None is cut: those longer than the shape allows are left out.
    """

    def __init__(self, tokens: Tokens, shape: Shape, *, limit: int | None = None) -> None:
        """Take the examples that fit: the context into `shape.context`, all else into `shape.forward`.

        Without a context (0) a plain language model reads everything, in `shape.forward` tokens.
        """
        self.tokens = tokens
        self.shape = shape
        sizes = np.diff(tokens.offsets).reshape(-1, 3)
        context, forward = sizes[:, 0], sizes[:, 1] + sizes[:, 2]
        if shape.context:
            fits = (context <= shape.context) & ((forward <= shape.forward) | (shape.forward == 0))
        else:
            fits = context + forward <= shape.forward
        self.longest = (int(context.max(initial=0)), int(forward.max(initial=0)))
        """Tokens of the longest context, and of the longest rest."""
        self.too_long = int((~fits).sum())
        """Examples that are left out."""
        self._kept = np.flatnonzero(fits)[:limit]
        self._sizes = (context + (forward if shape.forward else 0))[self._kept]
        self._sizes = self._sizes + (np.minimum(shape.overlap, context[self._kept]) if shape.forward else 0)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Example:
        """Return an example; IndexError beyond the last."""
        document = int(self._kept[index])
        context, question, answer = (self.tokens.part(document, part) for part in range(3))
        label = int(self.tokens.labels[document])
        if not self.shape.forward:
            return Example(context, context[:0], document, 0)
        if not self.shape.context:
            return Example(context[:0], np.concatenate([context, question, answer]), document, 0, 0, len(answer), label)
        overlap = min(self.shape.overlap, len(context))
        forward = np.concatenate([context[len(context) - overlap :], question, answer])
        return Example(context, forward, document, 0, overlap, len(answer), label)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, repeated ones included [W]."""
        return self._sizes

    def said(self, split: str) -> str:
        """Return a sentence on the examples and on what is left out."""
        text = f"{split}: {len(self):,} of {len(self.tokens):,} labelled examples"
        if not self.too_long:
            return f"{text}."
        context, forward = self.longest
        return (
            f"{text}; {self.too_long:,} are longer than data.context_length {self.shape.context} and "
            f"data.forward_length {self.shape.forward} and left out, for none is cut: the longest has {context} and "
            f"{forward} tokens."
        )
