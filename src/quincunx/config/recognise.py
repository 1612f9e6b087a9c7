"""Which recipe a file describes, and which of its tasks, told from its keys where it does not say.

A guide's file names no recipe and may nest whole configs by task; both are settled before any key is judged.
"""

from __future__ import annotations

from collections.abc import Sequence

from quincunx.config.document import Document, Place, Problem
from quincunx.config.fields import settings_of
from quincunx.config.names import expand, given_twice, insert
from quincunx.config.paths import KeyPath, dotted, is_mapping
from quincunx.config.schema import RecipeSchema
from quincunx.config.suggest import closest


def infer_recipe(documents: Sequence[Document], schemas: Sequence[RecipeSchema]) -> str | Problem:
    """Return the name of the recipe that layers of a config describe, or the problem that it cannot be told.

    The `recipe` key of the last layer that has one decides; without any, the recipe that recognises the most settings.
    """
    names = [schema.name for schema in schemas]
    for document in reversed(documents):
        if document.has(("recipe",)):
            return _named(document, names)
    scores = {schema.name: _score(documents, schema) for schema in schemas}
    best = max(scores.values(), default=0)
    winners = [name for name, score in scores.items() if score == best]
    if best > 0 and len(winners) == 1:
        return winners[0]
    found = "several recipes have these keys" if best else "no recipe is named, and none is known by the keys found"
    mark = documents[-1].mark(()) if documents else None
    choices = ", ".join(winners if best else names)
    return Problem("error", ("recipe",), mark, found, f"add `recipe:` with one of {choices}")


def unwrap_task(document: Document, schema: RecipeSchema, task: str | None) -> str | Problem | None:
    """Make the chosen task's block the root of a document that nests whole configs by task.

    Returns what to say about it, the problem that stands in the way, or None for a file without such blocks. `task` is
    the task asked for from outside; the file's own `task` key counts as well.
    """
    blocks = task_blocks(document, schema)
    if not blocks:
        return None
    inside = document.get(("task",)) if document.has(("task",)) else None
    if isinstance(inside, str) and task is not None and inside.lower() != task.lower():
        return disagreement(document, ("task",), inside, task)
    wanted = task if task is not None else inside if isinstance(inside, str) else None
    listed, first = ", ".join(blocks), document.mark((blocks[0],))
    if wanted is None and len(blocks) > 1:
        remedy = f"choose one, for example task={blocks[0]}"
        return Problem("error", ("task",), first, f"the file holds several tasks: {listed}", remedy)
    chosen = blocks[0] if wanted is None else next((name for name in blocks if name.lower() == wanted.lower()), None)
    if chosen is None:
        remedy = f"choose one of {listed}" if len(blocks) > 1 else f"leave task={wanted} out, or rename the block"
        message = f"the file has no task `{wanted}`, it holds {listed}"
        return Problem("error", ("task",), first, message, remedy)
    if chosen.lower() not in schema.tasks:
        near = closest(chosen, schema.tasks)
        hint = f"did you mean `{near[0]}`? " if near else ""
        message = f"`{chosen}` is not a task of recipe {schema.name}"
        return Problem("error", ("task",), document.mark((chosen,)), message, f"{hint}known: {', '.join(schema.tasks)}")
    own = (chosen, "task")
    if document.has(own) and str(document.get(own)).lower() != chosen.lower():
        return disagreement(document, own, document.get(own), chosen)
    clash = _take_out(document, chosen, blocks)
    if clash is not None:
        return clash
    others = [name for name in blocks if name != chosen]
    return f"task {chosen.lower()}, " + (f"one of {listed} in the file" if others else "the only one in the file")


def task_blocks(document: Document, schema: RecipeSchema) -> list[str]:
    """Return the root keys that hold a whole config: mappings with a guide's block in them, under no known key."""
    if not is_mapping(document.tree) or not schema.tasks:
        return []
    known = schema.guide_roots | {str(path[0]) for path in settings_of(schema.config)}
    return [
        key
        for key, value in document.tree.items()
        if key not in known and is_mapping(value) and schema.guide_roots & value.keys()
    ]


def _named(document: Document, names: Sequence[str]) -> str | Problem:
    value = document.get(("recipe",))
    if isinstance(value, str) and value in names:
        return value
    near = closest(value, names) if isinstance(value, str) else []
    hint = f"did you mean `{near[0]}`?" if near else f"choose one of {', '.join(names)}"
    mark = document.mark(("recipe",), key=False)
    return Problem("error", ("recipe",), mark, f"there is no recipe `{value}`", hint)


def _score(documents: Sequence[Document], schema: RecipeSchema) -> int:
    """Return how many settings are known: 2 for each, 1 for an unknown one in a known section or guide's block."""
    settings = settings_of(schema.config)
    known = {*settings, *(old for old, _, _ in expand(schema.names, settings))}
    roots = schema.guide_roots | {str(path[0]) for path in settings}
    score = 0
    for document in documents:
        blocks = task_blocks(document, schema)
        for path, _ in document.leaves():
            inner = path[1:] if path[0] in blocks else path
            score += 2 if inner in known else int(inner[:1] != () and inner[0] in roots)
    return score


def disagreement(document: Document, path: KeyPath, inside: object, outside: str) -> Problem:
    """Return the problem that a file names another task than the one asked for."""
    message = f"`{dotted(path)}` is {inside}, but task {outside} is asked for"
    return Problem("error", path, document.mark(path, key=False), message, "let the two agree, or leave one out")


def _take_out(document: Document, chosen: str, blocks: Sequence[str]) -> Problem | None:
    """Put the contents of a task's block at the root, and the task's name under `task`."""
    before = document.copy()
    place = before.places.get((chosen,))
    for name in blocks:
        document.delete((name,))
    for key in before.get((chosen,)):
        if key == "task":
            continue
        for present, written in insert(document, (key,), before, (chosen, key), {}):
            return given_twice(before, present, [present, written])
    if not document.has(("task",)):
        document.put(("task",), chosen, Place(place.key, place.key or place.value) if place else None)
    return None
