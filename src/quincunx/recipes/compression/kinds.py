"""What a config asks for, read off its settings: what is compressed, which texts are predicted, how long they are.

Torch-free, and used by the config's own conditions as well as by the recipe.
"""

from __future__ import annotations

from typing import Any

GENERATED = ("arithmetic", "tasks")
"""Sources whose examples are made by rule; the second is followed by a colon and a task's name."""

TERMS = ("forward", "reconstruction", "plain", "without", "full", "distillation")
"""Of the objective, in the order in which they are shown."""

STANDARD = {"forward": 1.0}
"""Weights of the terms where something is compressed and the config names none."""


def generated(config: Any) -> str | None:
    """Return which kind of examples is made by rule, `arithmetic` or `tasks`; None where texts are read."""
    kind = str(config.data.source).partition(":")[0]
    return kind if kind in GENERATED else None


def compresses(config: Any) -> bool:
    """Tell whether anything is compressed."""
    return config.data.context_length is not None or config.objective.reconstruct_only


def lengths(config: Any) -> tuple[int, int]:
    """Return the tokens of a context, and those that are predicted after it."""
    data = config.data
    if config.objective.reconstruct_only:
        return data.forward_length, 0
    return data.context_length or 0, data.forward_length


def weights(config: Any) -> dict[str, float]:
    """Return the weight of each term of the objective that has one above 0."""
    chosen = config.objective
    if chosen.reconstruct_only:
        return {"reconstruction": 1.0}
    if not compresses(config):
        return {"plain": 1.0}
    given = {term: getattr(chosen, term) for term in TERMS}
    if all(weight is None for weight in given.values()):
        return dict(STANDARD)
    return {term: weight for term, weight in given.items() if weight}


def branches(config: Any) -> tuple[str, ...]:
    """Return the texts that the objective predicts, by name."""
    terms = weights(config)
    names = [term for term in terms if term != "distillation"]
    if "distillation" in terms:
        names += [name for name in ("forward", "full") if name not in names]
    return tuple(names)


def slots(config: Any) -> tuple[int, ...]:
    """Return the numbers of compressed tokens that are trained, ascending; none without compression."""
    if not compresses(config):
        return ()
    chosen = config.compress.slots
    if chosen is None:
        return (max(1, lengths(config)[0] // config.compress.segments // 4),)
    return tuple(sorted({chosen} if isinstance(chosen, int) else set(chosen)))
