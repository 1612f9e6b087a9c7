"""From a dotted path to the object it names, judged: only optimizers and learning-rate schedules may be built.

The object is judged, not the spelling of its path, because re-exports make any spelling possible; what else may be
built is named in code or on the command line. Torch is never imported here, only by the path that asks for it.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quincunx.config.document import KeyPath, dotted
from quincunx.errors import UsageError

Kind = Literal["optimizer", "schedule"]

TRANSFORMERS_SCHEDULE = re.compile(r"get_\w+_schedule\w*")
BASES: Mapping[Kind, tuple[str, str]] = {
    "optimizer": ("torch.optim.optimizer", "Optimizer"),
    "schedule": ("torch.optim.lr_scheduler", "LRScheduler"),
}
WANTED: Mapping[Kind, str] = {
    "optimizer": "a subclass of torch.optim.Optimizer",
    "schedule": "a subclass of torch.optim.lr_scheduler.LRScheduler or a transformers.get_..._schedule... function",
}
METRIC_SCHEDULES = ("get_reduce_on_plateau_schedule", "get_greedy_schedule")


@dataclass(frozen=True)
class TargetProblem:
    """One thing wrong with a node: where (relative to the node), what, and what to do."""

    path: KeyPath
    message: str
    remedy: str = ""

    def below(self, path: KeyPath) -> TargetProblem:
        """Return the problem as seen from a node further up."""
        return TargetProblem(path + self.path, self.message, self.remedy)


class TargetError(UsageError):
    """A `_target_` node cannot be used; `problems` hold the places relative to the node."""

    def __init__(self, problems: Iterable[TargetProblem]) -> None:
        self.problems = tuple(problems)
        lines: list[str] = []
        for problem in self.problems:
            lines.append(f"{dotted(problem.path) or '_target_'}: {problem.message}")
            if problem.remedy:
                lines.append(f"    {problem.remedy}")
        super().__init__("\n".join(lines))


def locate(path: str, allowed: Sequence[str]) -> Any:
    """Return the object at a dotted path: modules are imported as far as the path goes, then attributes looked up.

    An attribute that is a module ends the search, and so do private names and, unless `allowed` names the path,
    Python's standard library. Raises TargetError.
    """
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise refusal(
            f"{path!r} is not the dotted path of a class or function", "write it in full, for example torch.optim.SGD"
        )
    if private := [part for part in parts if part.startswith("_")]:
        raise refusal(f"{path} leads through the private name {private[0]}", "use the public path")
    if parts[0] in sys.stdlib_module_names and path not in allowed:
        # refused before it is imported: some of these modules act when they are
        raise refusal(f"{path} belongs to Python's standard library, which has no optimizers or schedules")
    found: Any = _import(parts[0], path)
    for end, part in enumerate(parts[1:], start=1):
        prefix = ".".join(parts[:end])
        found = _attribute(found, prefix, part, path)
        if isinstance(found, types.ModuleType) and sys.modules.get(f"{prefix}.{part}") is not found:
            raise refusal(
                f"{path} leads through {prefix} into the module {found.__name__}, which is not part of it",
                "give the path under which the object itself is published",
            )
    return found


def _attribute(found: Any, prefix: str, part: str, path: str) -> Any:
    try:
        return getattr(found, part)
    except AttributeError:
        if isinstance(found, types.ModuleType):
            return _import(f"{prefix}.{part}", path, parent=found)
        raise refusal(f"{prefix} has no attribute {part}", suggestion(part, dir(found), f"{prefix}.")) from None
    except (Exception, SystemExit) as error:  # modules that load their parts lazily may fail here in any way
        raise refusal(f"{prefix}.{part} cannot be loaded: {said(error)}") from error


def _import(name: str, path: str, parent: types.ModuleType | None = None) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise refusal(f"{name} cannot be imported: {said(error)}", f"install {error.name}") from error
        if parent is not None:
            prefix, _, part = name.rpartition(".")
            raise refusal(f"{prefix} has no {part}", suggestion(part, dir(parent), f"{prefix}.")) from None
        raise refusal(f"{path}: the module {name} is not installed", _how_to_install(name)) from None
    except (Exception, SystemExit) as error:
        raise refusal(f"{name} cannot be imported: {said(error)}") from error


def _how_to_install(module: str) -> str:
    if module == "transformers":
        return "pip install 'quincunx[transformers]'"
    near = difflib.get_close_matches(module, ("torch", "transformers"), 1, 0.75)
    # a misspelt name must not become advice to install whatever goes by it
    return f"did you mean {near[0]}?" if near else f"if its package bears the same name: pip install {module}"


def judge(found: Any, path: str, kind: Kind | None, allowed: Sequence[str]) -> None:
    """Raise TargetError unless the object may be built and the engine can use it.

    `kind` is what the place takes, None (an argument of another node) both; an object whose path is in `allowed` may be
    anything that can be called.
    """
    actual = kind_of(found)
    if path in allowed:
        if not callable(found):
            raise refusal(f"{path} is {repr(found)[:40]} and cannot be called")
    elif actual is None:
        wanted = " or ".join(WANTED[place] for place in WANTED if kind in (place, None))
        if isinstance(found, types.ModuleType):
            candidates = [name for name, value in vars(found).items() if kind_of(value)]
            near = suggestion(path.rpartition(".")[2], candidates, f"{path}.")
            raise refusal(f"{path} is a module, not {wanted}", near or "name the class or function in it")
        what = "a class" if isinstance(found, type) else "a function" if callable(found) else repr(found)[:40]
        raise refusal(f"{path} is {what}, not {wanted}", f"if you trust it: --allow-target {path}")
    elif kind is not None and actual != kind:
        raise refusal(f"{path} is for the {actual}, this is the place of the {kind}", f"move it to {actual}")
    if reason := _unusable(found, actual):
        raise refusal(f"{path} {reason}", "choose another")


def kind_of(found: Any) -> Kind | None:
    """Return what an object builds by what it is, whatever path led to it; None for anything else."""
    if isinstance(found, type):
        bases: dict[Kind, type | None] = {"optimizer": _base("optimizer"), "schedule": _base("schedule")}
        return next((kind for kind, base in bases.items() if base is not None and issubclass(found, base)), None)
    return "schedule" if _is_transformers_schedule(found) else None


def _base(kind: Kind) -> type | None:
    """Return torch's base class, None while torch is not loaded: nothing can be a subclass of it then."""
    module, name = BASES[kind]
    return getattr(sys.modules.get(module), name, None)


def _is_transformers_schedule(found: Any) -> bool:
    module = sys.modules.get("transformers.optimization")
    return (
        isinstance(found, types.FunctionType)
        and TRANSFORMERS_SCHEDULE.fullmatch(found.__name__) is not None
        and found.__module__ == "transformers.optimization"
        and getattr(module, found.__name__, None) is found
    )


def _unusable(found: Any, actual: Kind | None) -> str | None:
    """Return why the engine cannot drive an optimizer or schedule, or None."""
    if not isinstance(found, type):
        by_metric = actual == "schedule" and found.__name__ in METRIC_SCHEDULES
        return "needs a metric at every step; rates here depend on the update alone" if by_metric else None
    if actual is None:
        return None
    if found is _base(actual):
        return "is the abstract base, which has no rule of its own"
    needed = step_requirement(found)
    if actual == "optimizer":
        if found.__module__ == "torch.optim.sparse_adam":
            return "takes sparse gradients only, and the engine's are dense"
        return f"needs {needed} at every step, but the engine computes each gradient once" if needed else None
    names = [parameter.name for parameter in parameters_of(found) or ()]
    if "optimizer" in names[1:]:
        return f"takes {names[0]} before the optimizer: it combines schedules, which a config cannot build"
    return f"needs {needed} at every step; rates here depend on the update alone" if needed else None


def step_requirement(owner: type) -> str | None:
    """Return the first argument that `step` of this class cannot do without (`closure`, `metrics`), or None."""
    step = getattr(owner, "step", None)
    found = (parameters_of(step) or [])[1:] if callable(step) else []
    return next((parameter.name for parameter in found if is_required(parameter)), None)


def parameters_of(target: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the parameters of a callable, None where it has no signature to read (some compiled ones)."""
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None


def is_required(parameter: inspect.Parameter) -> bool:
    """Tell whether a call must give this parameter."""
    star = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not star


def suggestion(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """Return "did you mean ...?" with the nearest choice, letter case aside, or nothing when none is near."""
    by_lower = {choice.lower(): choice for choice in choices if not choice.startswith("_") or word.startswith("_")}
    near = difflib.get_close_matches(word.lower(), by_lower, 1, 0.6)
    return f"did you mean {prefix}{by_lower[near[0]]}?" if near else ""


def said(error: BaseException) -> str:
    """Return another library's error on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def refusal(message: str, remedy: str = "") -> TargetError:
    """Return the error that a node's path itself cannot be used."""
    return TargetError([TargetProblem(("_target_",), message, remedy)])
