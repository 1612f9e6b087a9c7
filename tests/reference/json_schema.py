"""A plain validator for the part of JSON Schema 2020-12 that the config's schema uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
ANNOTATIONS = {"$schema", "$defs", "$comment", "title", "description", "default"}


def accepts(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any] | None = None) -> bool:
    """Tell whether a value is valid; a keyword that this validator does not know raises KeyError."""
    root = schema if root is None else root
    return all(_keyword(name, part, schema, value, root) for name, part in schema.items() if name not in ANNOTATIONS)


def _keyword(  # noqa: PLR0912 - one branch a keyword
    name: str, part: Any, schema: Mapping[str, Any], value: Any, root: Mapping[str, Any]
) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "$ref":
            return accepts(root["$defs"][part.removeprefix("#/$defs/")], value, root)
        case "type":
            return isinstance(value, KINDS[part]) and (part == "boolean" or not isinstance(value, bool))
        case "const":
            return value == part
        case "enum":
            return value in part
        case "anyOf":
            return any(accepts(choice, value, root) for choice in part)
        case "oneOf":
            return sum(accepts(choice, value, root) for choice in part) == 1
        case "allOf":
            return all(accepts(choice, value, root) for choice in part)
        case "if":
            return not accepts(part, value, root) or accepts(schema["then"], value, root)
        case "then":
            return True
        case "minimum":
            return not number or value >= part
        case "exclusiveMinimum":
            return not number or value > part
        case "maximum":
            return not number or value <= part
        case "exclusiveMaximum":
            return not number or value < part
        case "minLength":
            return not isinstance(value, str) or len(value) >= part
        case "pattern":
            return not isinstance(value, str) or re.search(part, value) is not None
        case "minItems":
            return not isinstance(value, list) or len(value) >= part
        case "maxItems":
            return not isinstance(value, list) or len(value) <= part
        case "items":
            return not isinstance(value, list) or all(accepts(part, item, root) for item in value)
        case "properties":
            entries = value.items() if isinstance(value, dict) else ()
            return all(accepts(part[key], entry, root) for key, entry in entries if key in part)
        case "required":
            return not isinstance(value, dict) or set(part) <= set(value)
        case "minProperties":
            return not isinstance(value, dict) or len(value) >= part
        case "propertyNames":
            return not isinstance(value, dict) or all(accepts(part, key, root) for key in value)
        case "not":
            return not accepts(part, value, root)
        case "additionalProperties":
            extra = [key for key in value if key not in schema.get("properties", ())] if isinstance(value, dict) else []
            if isinstance(part, bool):
                return part or not extra
            return all(accepts(part, value[key], root) for key in extra)
        case _:
            raise KeyError(name)
