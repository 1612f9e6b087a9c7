"""`_target_` nodes: a dotted path in a config becomes an optimizer or a learning-rate schedule, and nothing else.

What the path leads to is judged, not how it is spelt: the object must be an optimizer or a schedule, or be named in
code or on the command line; its signature is checked before anything is built; Hydra then locates and calls it.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from quincunx.config.document import KeyPath
from quincunx.config.locate import (
    Kind,
    TargetError,
    TargetProblem,
    is_required,
    judge,
    locate,
    parameters_of,
    refusal,
    said,
    step_requirement,
    suggestion,
)
from quincunx.config.schema import Target

__all__ = ["Kind", "Resolved", "TargetError", "TargetProblem", "build", "check_target", "resolve", "step_requirement"]

PROVIDED: Mapping[Kind, tuple[str, ...]] = {"optimizer": (), "schedule": ("num_training_steps",)}
"""Arguments that the engine fills in by name where the target takes them and the config does not give them."""

HYDRA_KEYS = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")


@dataclass(frozen=True)
class Resolved:
    """What a node's path leads to."""

    path: str
    """The path that was followed, after renaming."""
    target: Callable[..., Any]
    notes: tuple[str, ...] = ()
    """Sentences for the person who started the run."""

    def unset(self, node: Target, positional: int = 1) -> list[str]:
        """Return the names of the parameters that a node leaves open, behind the engine's `positional` ones."""
        names = [parameter.name for parameter in parameters_of(self.target) or ()]
        return [name for name in names[positional + len(node.arguments) :] if name not in (node.model_extra or {})]


@dataclass(frozen=True)
class Renamed:
    """A path that is gone, the one in its place, and what keeps the old meaning."""

    path: str
    reason: str
    order: tuple[str, ...]
    """Names of the positional arguments that follow the engine's."""
    defaults: Mapping[str, Any]
    """Old defaults, filled in where the config gives nothing."""
    dropped: Mapping[str, tuple[Any, ...]]
    """Old arguments that are left out when they have one of these values, because they change nothing any more."""


TRANSFORMERS_ADAMW = Renamed(
    path="torch.optim.AdamW",
    reason="gone from transformers 5",
    order=("lr", "betas", "eps", "weight_decay"),
    defaults={"eps": 1e-6, "weight_decay": 0.0},
    dropped={"correct_bias": (True,), "no_deprecation_warning": (True, False)},
)
RENAMED: Mapping[str, Renamed] = {
    "transformers.AdamW": TRANSFORMERS_ADAMW,
    "transformers.optimization.AdamW": TRANSFORMERS_ADAMW,
}


def resolve(node: Target, kind: Kind | None, allowed: Sequence[str] = ()) -> Resolved:
    """Follow a node's path and judge what it leads to; imports its modules, builds nothing.

    `kind` is what the place takes; None, for a node among another's arguments, admits both. `allowed` are full dotted
    paths that code or the command line vouches for, never the config that is being read.
    Raises TargetError when the path leads nowhere or to anything but an optimizer or schedule of this kind.
    """
    notes: list[str] = []
    path = node.target
    if renamed := RENAMED.get(path):
        kept = ", ".join(f"{name}={value!r}" for name, value in _old_defaults(node, renamed).items())
        suffix = f", with the old defaults {kept}" if kept else ""
        notes.append(f"{path} is {renamed.reason}: {renamed.path} is used in its place{suffix}")
        path = renamed.path
    if node.convert == "none":
        notes.append(
            "_convert_ none would pass containers that no checkpoint can hold: plain lists and dicts are passed"
        )
    found = locate(path, allowed)
    judge(found, path, kind, allowed)
    return Resolved(path, found, tuple(notes))


def check_target(
    node: Target,
    kind: Kind | None,
    allowed: Sequence[str] = (),
    *,
    positional: int = 1,
    provided: Collection[str] | None = None,
) -> list[TargetProblem]:
    """Return everything wrong with a node, nested nodes included; imports its modules, builds nothing.

    `positional` is the number of arguments that the engine passes first (the parameters, or the optimizer), `provided`
    the names of those it passes by keyword (by default those of PROVIDED); `kind` and `allowed` as for `resolve`.
    """
    problems: list[TargetProblem] = []
    try:
        resolved = resolve(node, kind, allowed)
    except TargetError as error:
        problems.extend(error.problems)
    else:
        if provided is None:
            provided = PROVIDED[kind] if kind else ()
        problems.extend(_signature_problems(resolved, _current(node), positional, provided))
    for path, mapping in _nested(node):
        try:
            found = check_target(Target.model_validate(mapping), None, allowed, positional=0)
        except ValidationError as error:
            found = [TargetProblem(detail["loc"], detail["msg"]) for detail in error.errors()]
        problems.extend(problem.below(path) for problem in found)
    return problems


def build(node: Target, kind: Kind | None, *positional: Any, allowed: Sequence[str] = (), **extra: Any) -> Any:
    """Return what a node describes: its target called with `positional`, then `_args_`, then its keys and `extra`.

    `_partial_` gives a `functools.partial` of that call; nested nodes are built first unless `_recursive_` is false.
    Arguments reach the target as the plain values of the config: text such as `${x}` or `???` stays text.
    Raises TargetError with everything that `check_target` finds, and when the target itself refuses its arguments.
    """
    from hydra.utils import instantiate  # a fifth of a second, which only runs should pay

    problems = check_target(node, kind, allowed, positional=len(positional), provided=extra)
    problems += [_passed_by_engine(name) for name in extra if name in (node.model_extra or {})]
    if problems:
        raise TargetError(problems)
    resolved = resolve(node, kind, allowed)
    node = _current(node)
    arguments, keywords = node.arguments, dict(node.model_extra or {})
    if node.recursive:
        arguments, keywords = _build_nested(arguments, allowed), _build_nested(keywords, allowed)
    try:
        # Only the path goes through Hydra's containers: they would take `${x}` for an interpolation, `???` for a gap.
        waiting = instantiate({"_target_": resolved.path, "_partial_": True})
    except Exception as error:
        raise refusal(f"Hydra refuses {resolved.path}: {said(error)}") from error
    if waiting.func is not resolved.target:
        raise refusal(f"{resolved.path} leads Hydra to another object than the one that was judged")
    call = functools.partial(waiting, *positional, *arguments, **keywords, **extra)
    if node.partial:
        return call
    try:
        return call()
    except Exception as error:
        raise TargetError([TargetProblem((), f"{resolved.path} refuses its arguments: {said(error)}")]) from error


def _signature_problems(
    resolved: Resolved, node: Target, positional: int, provided: Collection[str]
) -> Iterator[TargetProblem]:
    parameters = parameters_of(resolved.target)
    if parameters is None:
        return  # no signature to read (a compiled callable): the call itself will tell
    kinds = {parameter.kind for parameter in parameters}
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    count = positional + len(node.arguments)
    if count > len(places) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        room = max(0, len(places) - positional)
        yield TargetProblem(
            ("_args_",) if node.arguments else ("_target_",),
            f"{resolved.path} takes at most {room} arguments by position here, found {len(node.arguments)}",
            "give arguments by name",
        )
    taken = places[:count]
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in taken]
    keywords = node.model_extra or {}
    for name in keywords:
        if name in taken[:positional]:
            yield _passed_by_engine(name)
        elif name in taken:
            yield TargetProblem((name,), f"{name} is given twice: by name, and by position in _args_", "keep one")
        elif re.fullmatch(r"_\w+_", name) and name not in named:
            yield TargetProblem((name,), f"{name} is not one of Hydra's keys", suggestion(name, HYDRA_KEYS))
        elif name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            remedy = suggestion(name, named) or "it takes " + (", ".join(named) or "no arguments by name")
            yield TargetProblem((name,), f"{resolved.path} takes no argument {name}", remedy)
    missing = [p.name for p in parameters if is_required(p) and p.name not in (*taken, *keywords, *provided)]
    if missing and not node.partial:
        remedy = f"add {' and '.join(missing)}"
        if positional == 0 and {"optimizer", "params"} & set(missing):
            remedy = (
                "a config cannot hold the optimizer or parameters that a nested node needs: use a single schedule "
                "(ours has a warm-up), or a function of your own that combines them, with --allow-target"
            )
        yield TargetProblem(("_target_",), f"{resolved.path} needs {' and '.join(missing)}", remedy)


def _build_nested(value: Any, allowed: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_build_nested(item, allowed) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        mapping = cast("dict[str, Any]", value)
        if "_target_" in mapping:
            return build(Target.model_validate(mapping), None, allowed=allowed)
        return {key: _build_nested(item, allowed) for key, item in mapping.items()}
    return value


def _nested(node: Target) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Yield the outermost `_target_` mappings among a node's arguments, each with its path."""

    def walk(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
        if isinstance(value, list):
            for index, item in enumerate(cast("list[Any]", value)):
                yield from walk(item, (*path, index))
        elif isinstance(value, dict):
            mapping = cast("dict[str, Any]", value)
            if "_target_" in mapping:
                yield path, mapping
            else:
                for key, item in mapping.items():
                    yield from walk(item, (*path, key))

    if node.recursive:
        yield from walk(node.arguments, ("_args_",))
        yield from walk(dict(node.model_extra or {}), ())


def _old_defaults(node: Target, renamed: Renamed) -> dict[str, Any]:
    given = {*(node.model_extra or {}), *renamed.order[: len(node.arguments)]}
    return {name: value for name, value in renamed.defaults.items() if name not in given}


def _current(node: Target) -> Target:
    """Return the node with the arguments that keep the meaning of a renamed target; other nodes as they are."""
    renamed = RENAMED.get(node.target)
    if renamed is None:
        return node
    keywords = {
        name: value for name, value in (node.model_extra or {}).items() if value not in renamed.dropped.get(name, ())
    }
    keywords.update(_old_defaults(node, renamed))
    plain = node.model_dump(by_alias=True, include={"target", "convert", "partial", "arguments", "recursive"})
    return Target.model_validate({**plain, **keywords, "_target_": renamed.path})


def _passed_by_engine(name: str) -> TargetProblem:
    return TargetProblem((name,), f"{name} is passed by the engine", "leave it out")
