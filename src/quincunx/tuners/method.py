"""What every method of this package has: options, and a function that says what goes where in a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from quincunx.tuners.adapter import Placement


@dataclass
class TunerConfig:
    """Options of every method; those of peft's own config classes come beside them in `peft_plugin.py`."""

    sites: list[str] | None = None
    """What the modules to adapt are for: attention, cross_attention, feedforward, query, key, value, head. Unset: the
    method's own choice."""
    target_modules: list[str] | None = None
    """Full paths of modules in place of `sites`, `*` for anything."""
    leave_out: list[int | str] = field(default_factory=list[int | str])
    """Layers without adapters, by number (negative: from the end of their stack), full paths of modules, or parts of a
    vision-language model: language_model, vision, connector."""

    def __post_init__(self) -> None:
        """Check the options, and whatever a class beside this one checks; raises ValueError."""
        if self.sites is not None and self.target_modules is not None:
            raise ValueError("sites and target_modules both say which modules are adapted: leave one of them out")
        for name in ("sites", "target_modules"):
            if getattr(self, name) == []:
                raise ValueError(f"{name} says which modules are adapted, found none: name some, or leave it out")
        beside = getattr(super(), "__post_init__", None)
        if beside is not None:
            beside()

    @property
    def packs(self) -> bool:
        """Whether several texts may be laid behind one another in one row: parts that look at a row as one example's
        would take them for one."""
        return not getattr(self, "tasks", ())


def check_tasks(tasks: Sequence[str]) -> None:
    """Raise ValueError where a task is named twice."""
    if len({*tasks}) < len(tasks):
        raise ValueError(f"tasks names one twice: {', '.join(tasks)}")


def check_dropout(dropout: float) -> None:
    """Raise ValueError where a probability of dropout is none, or drops everything."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, found {dropout}")


@dataclass(frozen=True)
class Method:
    """A method of parameter-efficient fine-tuning."""

    config: type[TunerConfig]
    place: Callable[[nn.Module, Any], Placement]
    """Makes the parts for a model and a config of that class; raises UsageError where they do not suit each other."""
    shares: bool = False
    """Whether its parts use something in common. transformers' own `add_adapter` refuses such methods."""
