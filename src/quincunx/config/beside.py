"""What stands beside the settings of one run: `ranges` and `sweep`, which make many runs of a config.

Neither is a setting of any recipe, so both are taken out of every layer before its keys are judged, and merged,
overridden and kept with their places in a document of their own. What they mean is read by `quincunx.sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from quincunx.config.document import Document, Problem
from quincunx.config.names import given_twice, insert
from quincunx.config.override import Override, apply_override
from quincunx.config.paths import KeyPath, dotted, is_mapping, walk

RANGES, SWEEP = "ranges", "sweep"
ROOTS = (RANGES, SWEEP)
"""Root keys of a config file that are no settings of a run."""

RESERVED = ("low", "high", "log", "step", "n", "values", "when")
"""Keys within a range that say how it runs; all others are settings."""


def take_out(layer: Document) -> Document:
    """Return what a layer has beside its settings, taken out of it."""
    found = Document({})
    for root in ROOTS:
        if layer.has((root,)):
            found.graft((root,), layer, (root,))
            layer.delete((root,))
    return found


def join(outer: Document, inner: Document) -> list[Problem]:
    """Put what stands in a task's block beside what stands at the root of the same file; what clashes is a problem."""
    problems: list[Problem] = []
    for root in ROOTS:
        if inner.has((root,)):
            clashes = list(insert(outer, (root,), inner, (root,), {}))
            problems += [given_twice(inner, path, [written]) for path, written in clashes]
    return problems


def lay_over(below: Document, above: Document) -> None:
    """Lay a later layer over an earlier one: a range is replaced whole, the settings of `sweep` one by one."""
    for root in ROOTS:
        if not above.has((root,)):
            continue
        if root == RANGES and is_mapping(above.get((RANGES,))) and below.has((RANGES,)):
            for key in above.get((RANGES,)):
                below.graft((RANGES, key), above, (RANGES, key))
        else:
            below.overlay((root,), above, (root,))


def in_two_files(own: Document, further: Sequence[Document]) -> list[Problem]:
    """Return the problem that a config has ranges, and a file of ranges is given as well."""
    second = next((each for each in further if each.has((RANGES,))), None)
    if second is None or not own.has((RANGES,)):
        return []
    message = f"the config has `ranges`, and so has a second file ({second.mark((RANGES,))})"
    remedy = "leave one of them out: the file from the command, or ~ranges; one range is changed by ranges.NAME=[...]"
    return [Problem("error", (RANGES,), own.mark((RANGES,)), message, remedy)]


def leave_out(document: Document, prefix: str) -> None:
    """Take the keys that begin so, which are comments, out of both, and out of what is zipped in the ranges."""
    for root in ROOTS:
        tree = document.get((root,)) if document.has((root,)) else None
        for path, _ in list(walk(tree)) if is_mapping(tree) else []:
            if len(path) <= 2 and str((*path,)[-1]).startswith(prefix) and document.has((root, *path)):
                document.delete((root, *path))


def change(document: Document, change: Override, known: Callable[[KeyPath], bool]) -> Document:
    """Return the document with an override of `ranges` or `sweep` applied; `known` tells the settings there are.

    A setting is one key in `ranges`, dots included, so `ranges.optimizer.learning_rate=[...]` has two parts.
    Raises ConfigError as `apply_override` does.
    """
    root = change.path[:1]
    if root == (RANGES,) and len(change.path) > 1:
        change = replace(change, path=_path_of(document, change.path, known))
    whole = change.kind == "set" and root == (RANGES,) and len(change.path) <= 2
    if whole and (len(change.path) == 2 or is_mapping(change.value)):
        changed = document.copy()
        layer = Document({})
        layer.graft(change.path, change.content)
        if not changed.has((RANGES,)) or not is_mapping(changed.get((RANGES,))):
            changed.put((RANGES,), {}, change.place)
        lay_over(changed, layer)
        return changed
    return apply_override(document, change)


def _path_of(document: Document, path: KeyPath, known: Callable[[KeyPath], bool]) -> KeyPath:
    """Return where an override of a range leads, its setting's parts put together as one key."""
    end = 1
    while end < len(path) and isinstance(path[end], str):
        end += 1
    words = path[1:end]
    written = [size for size in range(len(words), 0, -1) if document.has((RANGES, dotted(words[:size])))]
    reserved = [size for size in range(1, len(words)) if words[size] in RESERVED]
    size = written[0] if written else len(words) if known(words) or not reserved else reserved[0]
    inner = words[size:]
    if inner and inner[0] == "when":
        inner = ("when", dotted(inner[1:])) if inner[1:] else inner
    elif inner and not (len(inner) == 1 and inner[0] in RESERVED):
        inner = (dotted(inner),)
    return (RANGES, dotted(words[:size]), *inner, *path[end:])


def refusal(document: Document) -> Problem:
    """Return the problem that a config of many runs is given where one run is meant."""
    root = RANGES if document.has((RANGES,)) else SWEEP
    said = "makes this a sweep of many runs" if root == RANGES else "is about a sweep of many runs"
    roots = " ".join(f"~{each}" for each in ROOTS if document.has((each,)))
    ranges = "" if root == RANGES else " RANGES.json"
    remedy = f"quincunx sweep FILE{ranges} runs it; for one run leave it out, in the file or by {roots}"
    message = f"`{root}` {said}, and one run is asked for"
    return Problem("error", (root,), document.mark((root,)), message, remedy)


def split(changes: Sequence[Override]) -> tuple[list[Override], list[Override]]:
    """Return the overrides of a run's settings, and those of what stands beside them."""
    roots: list[KeyPath] = [(root,) for root in ROOTS]
    ours = [each for each in changes if each.path[:1] not in roots]
    return ours, [each for each in changes if each.path[:1] in roots]
