"""Which examples the rows of a batch are, for modules that keep something of each example between epochs.

The engine sets it for each chunk, as it sets tasks; where nothing is set, nothing is kept. An id names what a model is
given, whole: two inputs of one id must be the same. C rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from quincunx.errors import UsageError


class ExampleContext:
    """The ids of the examples at hand; one object shared by all example-aware modules of a model."""

    def __init__(self) -> None:
        self.ids: tuple[int | str, ...] | None = None

    def set(self, ids: Sequence[int | str] | None) -> None:
        """Say which examples the rows of the next passes are `[C]`; None: nobody knows.

        Raises:
            UsageError: An id is neither text nor a whole number.
        """
        if ids is None:
            self.ids = None
            return
        for each in ids:
            if isinstance(each, bool) or not isinstance(each, int | str):
                raise UsageError(f"ids of examples are text or whole numbers, found {each!r} ({type(each).__name__})")
        self.ids = tuple(ids)

    def current(self, batch: int) -> tuple[int | str, ...] | None:
        """Return the id of each of `batch` rows, None where nobody knows.

        Where there are several times as many rows as examples (the beams of a search), each example's rows follow one
        another.

        Raises:
            UsageError: Ids were set for another number of rows.
        """
        if self.ids is None:
            return None
        count = len(self.ids)
        if count == 0 or batch % count:
            raise UsageError(f"ids were set for {count} examples, a module got {batch} rows: set them anew, or None")
        return tuple(each for each in self.ids for _ in range(batch // count))


class ExampleAware(nn.Module):
    """Base of modules that keep something of each example; `attach_examples` gives all of a model one context."""

    examples: ExampleContext | None = None

    def ids(self, batch: int) -> tuple[int | str, ...] | None:
        """Return the id of each of `batch` rows, None where nobody knows."""
        return None if self.examples is None else self.examples.current(batch)


def attach_examples(*models: nn.Module) -> ExampleContext | None:
    """Give every example-aware module in the models one context; None where no module is.

    A context that some of them share already is kept.
    """
    found = [module for model in models for module in model.modules() if isinstance(module, ExampleAware)]
    context = next((module.examples for module in found if module.examples is not None), None) or ExampleContext()
    for module in found:
        module.examples = context
    return context if found else None


@contextmanager
def known(model: nn.Module, ids: Sequence[int | str] | None) -> Iterator[None]:
    """Say for a while which examples the rows are."""
    context = attach_examples(model)
    before = context.ids if context is not None else None
    if context is not None:
        context.set(ids)
    try:
        yield
    finally:
        if context is not None:
            context.ids = before
