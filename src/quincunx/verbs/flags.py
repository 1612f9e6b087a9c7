"""Settings given as flags (`--lr 3e-4`, `--RefCOCO_GT`), as people type them to scripts, turned into overrides.

Only names of settings are turned, under any of their names in any recipe: whether the config has such a setting is
told where the override is applied, with its place. A verb's own options never come here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_CHANGE = re.compile(r"[A-Za-z_][\w.\[\]-]*\+?=.*|~[^/]+", re.DOTALL)
"""What is an override by its looks, and so no value of the flag before it."""
_NUMBER = re.compile(r"-(\d|\.\d|\.inf$)")


def as_changes(words: Sequence[str], left: Collection[str], known: Collection[str]) -> list[str]:
    """Return the words of a command line, flags that name settings written as overrides: `--lr 3e-4` as `lr=3e-4`.

    The value of `--name` is what stands behind `=`, else the next word; where there is none, or it begins with a dash
    and is no number, or is an override itself, the value is `true`. Values are read as those of overrides are.

    Args:
        words: The words as they were typed.
        left: Those of them that are no options of the verb.
        known: Names of settings, dotted; see `setting_names`. Flags of other names stay as they are.
    """
    found: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        name, given, value = word.removeprefix("--").partition("=")
        if word == "--":
            return [*found, *words[at - 1 :]]
        if not (word.startswith("--") and word in left and name in known):
            found.append(word)
            continue
        if not given:
            has_value = at < len(words) and _is_value(words[at])
            value = words[at] if has_value else "true"
            at += has_value
        # an option before it that may take a value, such as --resume, would take the change for one
        behind = len(found)
        while behind and found[behind - 1].startswith("--") and found[behind - 1] not in left:
            behind -= 1
        waiting, found = found[behind:], [*found[:behind], f"{name}={value}"]
        found += waiting
    return found


def setting_names() -> frozenset[str]:
    """Return every name of every setting of every recipe, present and older, dotted; of a sweep's settings too."""
    from quincunx.config.fields import settings_of
    from quincunx.config.names import expand
    from quincunx.config.paths import dotted
    from quincunx.recipes import schemas
    from quincunx.sweep.reading.described import BESIDE

    found = set[str]()
    for schema in (*schemas(), BESIDE):
        settings = settings_of(schema.config)
        found.update(dotted(path) for path, setting in settings.items() if not setting.sections)
        found.update(dotted(old) for old, _, _ in expand(schema.names, settings))
    return frozenset(found)


def refusal(unknown: Sequence[str], usage: str, known: Collection[str]) -> str:
    """Return what is said of words that are neither options nor settings, in argparse's words, with what is near.

    Args:
        unknown: The words.
        usage: The verb's usage, which has its own options.
        known: Names of settings that may be given as flags; empty for a verb that takes none.
    """
    from quincunx.config.suggest import closest

    text = f"unrecognized arguments: {' '.join(unknown)}"
    options = [option.removeprefix("--") for option in re.findall(r"--[A-Za-z][\w-]*", usage)]
    names = [word.removeprefix("--").partition("=")[0] for word in unknown if word.startswith("--")]
    short = set(re.findall(r"(?<![\w-])-([A-Za-z])\b", usage))
    near: list[str] = []
    for name in names:
        if name in short:
            near.append(f"-{name}")
        elif found := closest(name, [*options, *sorted(known)]):
            near.append(f"--{found[0]}")
    return f"{text}; did you mean {' '.join(dict.fromkeys(near))}?" if near else text


def _is_value(word: str) -> bool:
    return not _CHANGE.fullmatch(word) and (not word.startswith("-") or _NUMBER.match(word) is not None)
