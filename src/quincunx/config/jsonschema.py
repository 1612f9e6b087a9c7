"""The JSON Schema by which editors complete and check a config file while it is written.

It describes the canonical form. A file in a guide's own form is another form: editors would underline its keys, while
the reader accepts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from quincunx.config.fields import settings_of
from quincunx.config.schema import RecipeSchema

DIALECT = "https://json-schema.org/draft/2020-12/schema"

BASE = {
    "description": "File or files that this one builds on, relative to it; what is said here wins.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def json_schema(schemas: Sequence[RecipeSchema], beside: RecipeSchema | None = None) -> dict[str, Any]:
    """Return one JSON Schema (2020-12) for the config files of all recipes, chosen by the word at `recipe`.

    Unknown keys are refused at every depth but among the arguments of a `_target_`. `beside` has the root keys that may
    stand in a file of any recipe besides its settings.
    """
    definitions: dict[str, Any] = {}
    others: dict[str, Any] = {}
    if beside is not None:
        for key, part in _node(beside, definitions)["properties"].items():
            definitions[f"{beside.name}.{key}"] = part
            others[key] = {"$ref": f"#/$defs/{beside.name}.{key}"}
    for schema in schemas:
        node = _node(schema, definitions)
        node["properties"] = {"base": BASE, **node["properties"], **others}
        definitions[schema.name] = node
    head: dict[str, Any] = {
        "$schema": DIALECT,
        "title": "Quincunx config",
        "$comment": "The canonical form; a guide's own form, and ${path} in place of a number, are read as well.",
    }
    references = {schema.name: {"$ref": f"#/$defs/{schema.name}"} for schema in schemas}
    if len(references) == 1:
        return {**head, **next(iter(references.values())), "$defs": definitions}
    choices = [
        {"if": {"properties": {"recipe": {"const": name}}, "required": ["recipe"]}, "then": reference}
        for name, reference in references.items()
    ]
    known = {"properties": {"recipe": {"enum": list(references)}}}
    unnamed = [{"required": ["recipe"]}, *references.values()]
    return {**head, "type": "object", **known, "allOf": choices, "anyOf": unnamed, "$defs": definitions}


def _node(schema: RecipeSchema, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a config class, and add those of its sections to the definitions."""
    prefix = f"{schema.name}."
    node = schema.config.model_json_schema(by_alias=True, ref_template=f"#/$defs/{prefix}{{model}}")
    definitions.update({prefix + name: part for name, part in node.pop("$defs", {}).items()})
    _describe(node, schema.config, definitions, set())
    return node


def _describe(node: dict[str, Any], model: type[BaseModel], definitions: Mapping[str, Any], seen: set[int]) -> None:
    """Give every property of a model's schema, and those below it, the docstring of its field."""
    if id(node) in seen:
        return
    seen.add(id(node))
    for path, setting in settings_of(model).items():
        *above, key = path
        if above:
            continue
        entry = node["properties"][key]
        entry.pop("title", None)
        if setting.doc:
            entry["description"] = setting.doc
        for part in _referenced(entry, definitions):
            for section in setting.sections:
                if part.get("title") == section.__name__:
                    _describe(part, section, definitions, seen)


def _referenced(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part in (entry, *entry.get("anyOf", ()), *entry.get("oneOf", ()), *entry.get("allOf", ())):
        reference = part.get("$ref")
        if reference is not None:
            yield definitions[reference.removeprefix("#/$defs/")]
