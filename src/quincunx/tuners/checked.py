"""Whether options are of the types that a method's config class says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from quincunx.tuners.method import TunerConfig


def ill_typed(config: type[TunerConfig], options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is of another type than a method's options are: the option, and what to say."""
    hints, wrong = get_type_hints(config), list[tuple[str, str]]()
    for name, value in options.items():
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            each = error.errors()[0]
            wrong.append((name, f"{name}: {each['msg']}, found {each['input']!r}"))
    return wrong


def options_of(config: type[TunerConfig]) -> list[str]:
    """Return the names of a method's options."""
    return [field.name for field in fields(config) if field.init]
