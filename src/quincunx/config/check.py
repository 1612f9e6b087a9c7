"""A document judged against a recipe's schema: every problem found, placed, and told with its remedy.

pydantic says which values are wrong, `wording` says it in our words; unknown keys get a suggestion, and the rest of the
file is still judged: rules between keys, and settings that have no effect under the chosen switches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from quincunx.config.document import Document, Problem
from quincunx.config.fields import Setting, settings_of
from quincunx.config.names import expand
from quincunx.config.paths import KeyPath, dotted, is_mapping
from quincunx.config.schema import RecipeSchema, RowsOf, Rule, Sizes, lookup, plain
from quincunx.config.suggest import Vocabulary
from quincunx.config.wording import show, unknown_key, wrong_value

NEUTRAL = (False, None, -1, 0, "")
"""Values by which people switch something off: never worth a warning."""

ROUNDS = 4
"""How often offending values are taken out and the rest is judged again."""


@dataclass(frozen=True)
class Checked:
    """The outcome of a check: the config when nothing is wrong, and everything that there is to say."""

    config: Any
    problems: tuple[Problem, ...]


def check(
    document: Document,
    schema: RecipeSchema,
    *,
    written: Mapping[KeyPath, KeyPath] | None = None,
    others: Sequence[RecipeSchema] = (),
    missing: Collection[KeyPath] = (),
) -> Checked:
    """Judge a resolved document and return the config with all problems: errors, warnings and notes.

    `written` maps a present path to the path under which the file has it, so that messages speak of what stands there;
    `others` are the further recipes, for keys that belong to one of them; `missing` are paths whose value was already
    found wrong and left out, so that no rule is judged by the default in its place.
    """
    judge = _Judge(schema, written or {}, others)
    tree = document.copy().tree
    if not is_mapping(tree):
        found = f"a config is a mapping of settings, found {show(tree)}"
        return Checked(None, (Problem("error", (), document.mark(()), found, "write `key: value` lines"),))
    problems: list[Problem] = []
    dropped: set[KeyPath] = set()
    config: Any = None
    for _ in range(ROUNDS):
        try:
            config = schema.config.model_validate(tree)
            break
        except ValidationError as error:
            located = judge.locate(error)
            fresh = [path for path in located if path not in dropped]
            for path in fresh:
                problems.extend(judge.describe(document, path, located[path]))
            dropped.update(located)
            if not fresh or [path for path in fresh if not _drop(tree, path)]:
                break
    if config is not None:
        problems.extend(_broken_rules(schema.rules, config, document, dropped.union(missing)))
        problems.extend(inert(config, schema, document, written or {}))
    errors = any(problem.severity == "error" for problem in problems)
    return Checked(None if errors else config, tuple(problems))


def check_sizes(config: Any, schema: RecipeSchema, sizes: Sizes, document: Document) -> list[Problem]:
    """Return the problems of the rules that need the sizes of data or backbone."""
    return list(_broken_rules(schema.rules, config, document, set(), sizes))


def inert(
    config: Any, schema: RecipeSchema, document: Document, written: Mapping[KeyPath, KeyPath] | None = None
) -> list[Problem]:
    """Return a warning for each setting in the file that has no effect, and a note for rows of other choices.

    A setting at its default, or at a value that switches it off, is passed over in silence.
    """
    settings = settings_of(schema.config)
    problems: list[Problem] = []
    for path, setting in settings.items():
        if not setting.conditions or setting.sections or not document.has(path):
            continue
        owner = lookup(config, dotted(path[:-1])) if path[:-1] else config
        if not isinstance(owner, setting.owner):
            continue  # an argument of a `_target_` that bears the same name
        if _is_silent(getattr(owner, setting.name), setting):
            continue
        idle = next((condition for condition in setting.conditions if not condition.test(config)), None)
        if idle is not None:
            states = [f"{other} is {plain(lookup(config, other))}" for other in idle.paths]
            reason = f"it acts when {idle.text}" + (f", and {' and '.join(states)}" if states else "")
            label = _label(path, written or {})
            remedy = f"leave {dotted((written or {}).get(path, path))} out, or change what it depends on"
            problems.append(Problem("warning", path, document.mark(path), f"{label} has no effect: {reason}", remedy))
    return problems + _waiting_rows(config, settings, document, written or {})


def _waiting_rows(
    config: Any, settings: Mapping[KeyPath, Setting], document: Document, written: Mapping[KeyPath, KeyPath]
) -> list[Problem]:
    """Return one note for each choice whose tables have rows of other choices."""
    waiting: dict[RowsOf, list[KeyPath]] = {}
    for path, setting in settings.items():
        if setting.rows is not None and document.has(path) and is_mapping(document.get(path)):
            chosen = lookup(config, setting.rows.path) or setting.rows.unset
            for row in [(*path, key) for key in document.get(path) if key != chosen]:
                below = [settings[leaf] for leaf in settings if leaf[: len(row)] == row and document.has(leaf)]
                values = [(lookup(config, dotted(each.path)), each) for each in below if not each.sections]
                if not all(_is_silent(value, each) for value, each in values):
                    waiting.setdefault(setting.rows, []).append(row)
    notes: list[Problem] = []
    for choice, rows in waiting.items():
        tables: dict[KeyPath, list[str]] = {}
        for row in rows:
            origin = next((origin for path, origin in written.items() if path[: len(row)] == row), row)
            tables.setdefault(origin[: origin.index(row[-1])], []).append(str(row[-1]))
        chosen = lookup(config, choice.path) or choice.unset
        listed = "; ".join(f"{dotted(table)}: {', '.join(keys)}" for table, keys in tables.items())
        message = f"{choice.path} is {plain(chosen)}; rows that wait for another one: {listed}"
        notes.append(Problem("note", rows[0], document.mark(rows[0]), message))
    return notes


def _is_silent(value: Any, setting: Setting) -> bool:
    return value in NEUTRAL or value == setting.default


class _Judge:
    """pydantic's errors turned into problems, for one schema."""

    def __init__(
        self, schema: RecipeSchema, written: Mapping[KeyPath, KeyPath], others: Sequence[RecipeSchema]
    ) -> None:
        self.schema = schema
        self.settings = settings_of(schema.config)
        self.written = written
        self.others = [other for other in others if other.name != schema.name]
        self._vocabulary: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """Every known key; put together when the first unknown one turns up."""
        if self._vocabulary is None:
            older = [(old, new) for old, new, _ in expand(self.schema.names, self.settings)]
            self._vocabulary = Vocabulary.of(self.settings, older)
        return self._vocabulary

    def locate(self, error: ValidationError) -> dict[KeyPath, list[Any]]:
        """Return pydantic's errors by the path in the tree that each one is about."""
        located: dict[KeyPath, list[Any]] = {}
        for entry in error.errors(include_url=False, include_input=False):
            located.setdefault(self._path(entry["loc"]), []).append(entry)
        return located

    def _path(self, loc: Sequence[str | int]) -> KeyPath:
        """Return the path in the tree for a path of pydantic's, which also names members of unions."""
        path: KeyPath = ()
        tagged = False
        for part in loc:
            if tagged:  # the tag of the union's member that was chosen
                tagged = False
                continue
            setting = self.settings.get(path)
            if (path and setting is None) or (setting is not None and not setting.sections and isinstance(part, str)):
                break  # below a plain value only positions in a list are real
            path = (*path, part)
            following = self.settings.get(path)
            tagged = following is not None and following.tagged
        return path

    def describe(self, document: Document, path: KeyPath, errors: Sequence[Any]) -> Iterator[Problem]:
        """Yield the problem at a path; for an unknown guide's block, one for each key that is left in it."""
        kinds = {entry["type"] for entry in errors}
        if kinds & {"extra_forbidden", "invalid_key"}:
            yield from self._unknown(document, path)
            return
        if kinds == {"missing"}:
            label, words = dotted(path), self.settings[path].words if path in self.settings else "a value"
            yield Problem("error", path, document.mark(path), f"`{label}` is missing", f"it takes {words}")
            return
        setting = self._setting(path)
        reasons = [str(entry["ctx"]["error"]) for entry in errors if entry["type"] == "value_error"]
        message, remedy = wrong_value(_label(path, self.written), setting, path, document, reasons)
        yield Problem("error", path, document.mark(path, key=False), message, remedy)

    def _setting(self, path: KeyPath) -> Setting:
        while path not in self.settings:
            path = path[:-1]
        return self.settings[path]

    def _unknown(self, document: Document, path: KeyPath) -> Iterator[Problem]:
        value = document.get(path)
        if is_mapping(value) and value and self.vocabulary.levels.get(path) and path not in self.settings:
            for key in value:
                yield from self._unknown(document, (*path, key))
            return
        shown = self.written.get(path, path)
        advice = self.vocabulary.advise(path, value) or self._of_another_recipe(path)
        # a section that only the command line names has no place of its own, but what was typed below it has
        placed = next((known for known in document.places if known[: len(path)] == path), path)
        yield Problem("error", path, document.mark(placed), *unknown_key(shown, path, value, self.vocabulary, advice))

    def _of_another_recipe(self, path: KeyPath) -> str:
        for other in self.others:
            known = settings_of(other.config)
            if path in known or any(path == old for old, _, _ in expand(other.names, known)):
                return f"`{dotted(path)}` is a setting of recipe {other.name}, not of {self.schema.name}"
        return ""


def _label(path: KeyPath, written: Mapping[KeyPath, KeyPath]) -> str:
    for end in range(len(path), 0, -1):
        if path[:end] in written:
            return f"`{dotted(written[path[:end]] + path[end:])}` (`{dotted(path)}`)"
    return f"`{dotted(path)}`"


def _drop(tree: dict[str, Any], path: KeyPath) -> bool:
    """Take the setting at a path out of a tree, a whole list for one of its items; tell whether anything went."""
    node = tree
    for position, part in enumerate(map(str, path)):
        below = node.get(part)
        if position == len(path) - 1 or not is_mapping(below):
            return node.pop(part, path) is not path
        node = below
    return False


_PLACEHOLDER = re.compile(r"\{([\w.-]+)\}")


def _broken_rules(
    rules: Sequence[Rule], config: Any, document: Document, dropped: set[KeyPath], sizes: Sizes | None = None
) -> Iterator[Problem]:
    """Yield the problem of each rule of the stage that applies and whose settings are not already wrong themselves."""
    for rule in rules:
        if (rule.stage == "sized") != (sizes is not None):
            continue
        paths: list[KeyPath] = [tuple(path.split(".")) for path in rule.paths]
        if any(path[: len(wrong)] == wrong or wrong[: len(path)] == path for path in paths for wrong in dropped):
            continue
        applies: Callable[..., bool] = rule.applies
        if not (applies(config) if sizes is None else applies(config, sizes)):
            continue
        given = [path for path in paths if document.has(path)]
        marks = [document.mark(path) for path in given]
        message = _filled(rule.message, config)
        elsewhere = [f"{dotted(path)}: {mark}" for path, mark in zip(given[1:], marks[1:], strict=True) if mark]
        if elsewhere:
            message += f" ({', '.join(elsewhere)})"
        place = given[0] if given else paths[0]
        mark = document.mark(place, key=False) if given else None
        yield Problem(rule.severity, place, mark, message, _filled(rule.remedy, config))


def _filled(text: str, config: Any) -> str:
    return _PLACEHOLDER.sub(lambda match: plain(lookup(config, match[1])), text)
