"""Programs over scenes: what a compositional question means, step by step, each step a plain object.

    {"op": "select", "where": {...}}                             all things that a description fits
    {"op": "relate", "on": i, "relation": r, "where": {...}}     those of them that stand so to the one thing of step i
    {"op": "query", "on": i, "attribute": a}                     its colour, shape, size or pattern
    {"op": "verify", "on": i, "attribute": a, "value": v}        yes or no
    {"op": "choose", "on": i, "attribute": a, "values": [v, w]}  the one of the two that it is
    {"op": "exist", "on": i}                                     yes or no
    {"op": "and" | "or", "on": [i, j]}                           of two answers
    {"op": "same", "on": [i, j], "attribute": a}                 yes or no

The last step's result is the answer. The operations are a part of those of GQA (Hudson and Manning 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quincunx.recipes.vision_language.data.world.scene import Scene, Thing, related
from quincunx.recipes.vision_language.data.world.words import select

Step = Mapping[str, Any]


def run(program: Sequence[Step], scene: Scene) -> str:
    """Return the answer of a program; ValueError where a step that asks for one thing finds none or several."""
    results: list[Any] = []
    for step in program:
        results.append(_do(step, results, scene))
    return results[-1]


def _do(step: Step, results: Sequence[Any], scene: Scene) -> Any:
    operation, on = step["op"], step.get("on")
    if operation == "select":
        return select(scene, step["where"])
    if operation == "relate":
        other = _one(results, on)
        found = select(scene, step["where"])
        return [thing for thing in found if thing is not other and related(thing, other, step["relation"])]
    if operation == "exist":
        return _yes(bool(results[step["on"]]))
    if operation in ("and", "or"):
        said = [results[each] == "yes" for each in on or ()]
        return _yes(all(said) if operation == "and" else any(said))
    attribute = step["attribute"]
    if operation == "same":
        first, second = (_one(results, each) for each in on or ())
        return _yes(getattr(first, attribute) == getattr(second, attribute))
    value = getattr(_one(results, on), attribute)
    if operation == "verify":
        return _yes(value == step["value"])
    if operation == "choose" and value not in step["values"]:
        raise ValueError(f"the thing is {value}, neither of {step['values']}")
    return value


def _one(results: Sequence[Any], on: Any) -> Thing:
    found = results[on]
    if len(found) != 1:
        raise ValueError(f"step {on} found {len(found)} things, expected one")
    return found[0]


def _yes(true: bool) -> str:
    return "yes" if true else "no"
