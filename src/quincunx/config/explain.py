"""What every setting means, in every form that people read it: terminal, reference page, JSON.

All of it is derived from the section classes and the recipes' tables of names, so it cannot fall behind them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quincunx.config.fields import levels_of, settings_of
from quincunx.config.jsonschema import json_schema
from quincunx.config.names import expand, present_path
from quincunx.config.paths import KeyPath, PathSyntaxError, dotted, is_list, parse_path
from quincunx.config.schema import RecipeSchema
from quincunx.config.suggest import Vocabulary
from quincunx.config.wording import show
from quincunx.errors import UsageError

__all__ = ["Entry", "as_json", "entries", "explain_text", "json_schema", "markdown"]

WIDTH = 110

MARKDOWN_COMMAND = "quincunx explain --markdown"


@dataclass(frozen=True)
class Entry:
    """One setting or section, explained."""

    recipe: str
    path: str
    type: str
    """The accepted values in words: `int >= 1`, `one of mean, cls`, `section`."""
    default: Any
    """The value when nothing is set, as plain containers; None for a section and for a required setting."""
    doc: str
    aliases: tuple[str, ...]
    """Every older name under which the setting is accepted, as a dotted path."""
    guide_keys: tuple[str, ...]
    """The guides' keys that it serves, for example `004:training.final_div_factor`."""
    matters_when: str
    """Under which other settings it acts; empty for always."""


def entries(schema: RecipeSchema) -> list[Entry]:
    """Return every section and setting of a recipe, explained, in declaration order."""
    settings = settings_of(schema.config)
    aliases: dict[KeyPath, dict[str, None]] = {}
    guide_keys: dict[KeyPath, dict[str, None]] = {}
    for old, new, name in expand(schema.names, settings):
        aliases.setdefault(new, {}).setdefault(dotted(old))
        if name.guide is not None:
            guide_keys.setdefault(new, {}).setdefault(f"{name.guide}:{dotted(old)}")
    return [
        Entry(
            recipe=schema.name,
            path=dotted(path),
            type=setting.words + (" (required)" if setting.required else ""),
            default=None if setting.sections else setting.default,
            doc=setting.doc,
            aliases=tuple(aliases.get(path, ())),
            guide_keys=tuple(guide_keys.get(path, ())),
            matters_when=" and ".join(condition.text for condition in setting.conditions),
        )
        for path, setting in settings.items()
    ]


def as_json(schemas: Sequence[RecipeSchema]) -> list[dict[str, Any]]:
    """Return the entries of every recipe as plain containers, for `--json`."""
    return [
        {**asdict(entry), "aliases": list(entry.aliases), "guide_keys": list(entry.guide_keys)}
        for schema in schemas
        for entry in entries(schema)
    ]


def explain_text(schema: RecipeSchema, path: str | None = None) -> str:
    """Return the explanation of one setting, of a section with its settings, or (no path) of the whole recipe.

    A guide's name leads to the setting that serves it. Raises UsageError, with a suggestion, for an unknown path.
    """
    known = {entry.path: entry for entry in entries(schema)}
    if path is None:
        head = [f"recipe {schema.name}: {schema.summary}", ""]
        return "\n".join([*head, *_listing(known, ""), "", "quincunx explain SECTION or SECTION.SETTING says more"])
    settings = settings_of(schema.config)
    try:
        parts = tuple(part for part in parse_path(path) if isinstance(part, str))
    except PathSyntaxError as error:
        raise UsageError(f"`{path}` is no path: {error}\n    write a setting as in encoder.num_layers") from error
    present = dotted(present_path(parts, schema.names))
    if present in known:
        said = [f"{path} is an older name of {present}", ""] if present != path else []
        entry = known[present]
        full = _section(entry, known) if settings[tuple(present.split("."))].sections else _full(entry)
        return "\n".join([*said, *full])
    older = [(old, new) for old, new, _ in expand(schema.names, settings)]
    block = [(old, new) for old, new in older if old[: len(parts)] == parts]
    if block:
        width = max(len(dotted(old)) for old, _ in block)
        lines = [f"  {dotted(old):<{width}}  {dotted(new)}" for old, new in dict.fromkeys(block)]
        return "\n".join([f"{path} is a block of older names; each is served by the setting beside it", "", *lines])
    advice = Vocabulary.of(settings, older).advise(parts)
    remedy = advice or f"quincunx explain lists the sections: {', '.join(levels_of(schema.config)[()])}"
    raise UsageError(f"recipe {schema.name} has no setting `{path}`\n    {remedy}")


def is_beside(path: str, beside: RecipeSchema) -> bool:
    """Tell whether a path leads to what stands in files of any recipe besides its settings."""
    return path.partition(".")[0].partition("[")[0] in levels_of(beside.config)[()]


def markdown(schemas: Sequence[RecipeSchema], beside: RecipeSchema | None = None) -> str:
    """Return the reference page of every recipe's settings, and of what may stand beside them."""
    lines = [
        "# Config reference",
        "",
        f"Written by `{MARKDOWN_COMMAND}` from the section classes: change a docstring there, not this page.",
        "",
        "A value is given in a file (`section:` with its settings below), or behind it on the command line as",
        "`section.setting=value`. Unknown keys are refused. *Guide names* are accepted in place of the present ones.",
    ]
    for schema in [*schemas, *([] if beside is None else [beside])]:
        listed = entries(schema)
        levels = levels_of(schema.config)
        by_path = {entry.path: entry for entry in listed}
        lines += ["", f"## {schema.name}", "", f"{schema.summary}."]
        for level, keys in levels.items():
            inside = [by_path[dotted((*level, key))] for key in keys]
            fields = [entry for entry in inside if not entry.type.startswith("section")]
            if level:
                lines += ["", f"### {schema.name}: `{dotted(level)}`", "", by_path[dotted(level)].doc]
            if fields:
                lines += ["", "| setting | type | default | meaning |", "|---|---|---|---|"]
                lines += [_row(entry) for entry in fields]
    return "\n".join(lines) + "\n"


def _row(entry: Entry) -> str:
    meaning = [entry.doc]
    if entry.matters_when:
        meaning.append(f"*Acts when* {entry.matters_when}.")
    if entry.aliases:
        meaning.append(f"*Guide names:* {_names(entry, '`')}.")
    default = "" if entry.type.endswith("(required)") else f"`{_shown(entry.default)}`"
    cells = [f"`{entry.path}`", entry.type, default, " ".join(meaning)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _names(entry: Entry, quote: str = "") -> str:
    """Return the older names of a setting, each with the number of the guide that has it."""
    guides: dict[str, list[str]] = {alias: [] for alias in entry.aliases}
    for key in entry.guide_keys:
        guide, _, alias = key.partition(":")
        guides.setdefault(alias, []).append(guide)
    return ", ".join(
        f"{quote}{alias}{quote}" + (f" (guide {', '.join(numbers)})" if numbers else "")
        for alias, numbers in guides.items()
    )


def _full(entry: Entry) -> Iterator[str]:
    yield entry.path
    yield from textwrap.wrap(entry.doc, WIDTH, initial_indent="  ", subsequent_indent="  ")
    yield ""
    yield f"  type     {entry.type}"
    if not entry.type.endswith("(required)"):
        yield f"  default  {_shown(entry.default)}"
    if entry.matters_when:
        yield f"  acts     when {entry.matters_when}"
    if entry.aliases:
        yield from textwrap.wrap(
            _names(entry), WIDTH, initial_indent="  names    ", subsequent_indent=" " * 11, break_on_hyphens=False
        )
    yield f"  set it   {entry.path}=VALUE on the command line"


def _section(entry: Entry, known: Mapping[str, Entry]) -> Iterator[str]:
    yield f"{entry.path} ({entry.type})"
    yield from textwrap.wrap(entry.doc, WIDTH, initial_indent="  ", subsequent_indent="  ")
    yield ""
    yield from _listing(known, f"{entry.path}.")


def _listing(known: Mapping[str, Entry], prefix: str) -> list[str]:
    """Return one line for each setting and section directly below a prefix."""
    rows: list[tuple[str, str, str]] = []
    for path, entry in known.items():
        key = path.removeprefix(prefix)
        if path.startswith(prefix) and "." not in key:
            section = entry.type.startswith("section")
            bare = section or entry.type.endswith("(required)")
            kind = "section" if section else entry.type if bare else f"{entry.type} [{_shown(entry.default)}]"
            rows.append((key, kind, entry.doc))
    names = max((len(key) for key, _, _ in rows), default=0)
    kinds = min(max((len(kind) for _, kind, _ in rows), default=0), 40)
    return [_line(f"  {key:<{names}}  {kind:<{kinds}}  ", doc) for key, kind, doc in rows]


def _line(head: str, doc: str) -> str:
    room = max(WIDTH - len(head), 24)
    return (head + (doc if len(doc) <= room else textwrap.shorten(doc, room, placeholder=" ..."))).rstrip()


def _shown(default: Any) -> str:
    if is_list(default):
        return "[" + ", ".join(show(item) for item in default) + "]"
    return "unset" if default is None else show(default).strip('"') or '""'
