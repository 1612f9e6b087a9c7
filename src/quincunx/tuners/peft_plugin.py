"""The methods of this package as methods of the library peft, whose files, named adapters and loading then serve them.

peft takes new methods from its own source only; it looks them up in plain dictionaries, though, and asks of a type no
more than to be a string with `value` and `name`. `peft_tuner.py` says what else is used of it.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)

from quincunx.errors import UsageError
from quincunx.tuners.composite.tuner import CompositeTuner
from quincunx.tuners.methods import METHODS
from quincunx.tuners.peft_tuner import PREFIX, Tuner


class MethodName(str):
    """A method's name as peft and transformers expect a type: a string with `value` and `name`."""

    @property
    def value(self) -> str:
        """The plain string, which is written to files."""
        return str(self)

    @property
    def name(self) -> str:
        """The same in capitals, as peft's own types are called."""
        return str(self).upper()


def register() -> None:
    """Make the methods of this package known to peft; a second call changes nothing.

    Raises:
        UsageError: peft has a method of its own by one of the names.
    """
    known: dict[Any, Any] = PEFT_TYPE_TO_CONFIG_MAPPING
    for name in METHODS:
        kind = MethodName(name.upper())
        if known.get(kind) is config_class(name):
            continue
        if kind in known:
            raise UsageError(f"peft has a method {name} of its own now: this package needs an older peft")
        known[kind] = config_class(name)
        PEFT_TYPE_TO_TUNER_MAPPING[kind] = tuner_class(name)  # pyright: ignore[reportArgumentType]
        PEFT_TYPE_TO_PREFIX_MAPPING[kind] = PREFIX  # pyright: ignore[reportArgumentType]


@cache
def config_class(name: str) -> type[Any]:
    """Return the class of a method's options with peft's own beside them."""
    options: Any = METHODS[name].config
    kind = MethodName(name.upper())

    def finish(self: Any) -> None:
        options.__post_init__(self)
        self.peft_type = kind

    made = dataclasses.make_dataclass(
        f"Peft{options.__name__}",
        [("trained", list[str], dataclasses.field(default_factory=list))],
        bases=(options, PeftConfig),
        namespace={"__post_init__": finish, "__doc__": options.__doc__, "__module__": __name__},
    )
    return made


@cache
def tuner_class(name: str) -> type[Tuner]:
    """Return the tuner of a method."""
    method = METHODS[name]
    base: type[Tuner] = CompositeTuner if name == "composite" else Tuner
    made: Any = type(
        f"{name.title().replace('_', '')}Tuner", (base,), {"method": method, "uses_shared_state": method.shares}
    )
    return made


def accept_tasks(model: Any) -> Any:
    """Let a `PeftModel` take `tasks=[...]` in `generate` too, as it does in calls, and return it."""
    model.special_peft_forward_args = {*model.special_peft_forward_args, "tasks"}
    return model
