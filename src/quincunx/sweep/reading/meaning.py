"""What ranges mean for a recipe: which settings they set, when they act, which combinations are left out.

A setting may be written under any of its names, and its values in a guide's own form; here everything is compared
under the present name and in the present form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from quincunx.config.document import Document, Problem
from quincunx.config.fields import settings_of
from quincunx.config.names import expand, present_path, resolve
from quincunx.config.override import Override
from quincunx.config.paths import KeyPath, dotted, is_list
from quincunx.config.schema import RecipeSchema, lookup
from quincunx.config.suggest import Vocabulary
from quincunx.config.wording import show
from quincunx.sweep.choosing.space import Condition, Exclusion, Range, Span, canonical
from quincunx.sweep.reading.ranges import key_path, setting_path, when_path

FIXED = {"recipe": "a sweep is of one recipe", "run": "every run of a sweep has its folder from the sweep"}
"""Root keys that cannot be ranged, and why."""


@dataclass(frozen=True)
class Names:
    """The settings of a recipe under all of their names."""

    schema: RecipeSchema

    def knows(self, path: KeyPath) -> bool:
        """Tell whether there is such a setting or section, under any of its names."""
        return self.present(path) in settings_of(self.schema.config)

    def is_whole(self, path: KeyPath) -> bool:
        """Tell whether a setting means something else by whole numbers than by others, or is not known."""
        setting = settings_of(self.schema.config).get(self.present(path))
        return setting is None or int in setting.kinds or float not in setting.kinds

    def present(self, path: KeyPath) -> KeyPath:
        """Return the present path of a setting."""
        return present_path(path, self.schema.names)

    def sets(self, path: KeyPath, value: Any) -> dict[KeyPath, Any]:
        """Return the present settings that a value sets which is written at a path, and their values there."""
        if any(isinstance(part, int) for part in path):
            return {self.present(path): value}
        document = Document({})
        document.put(path, value)
        resolve(document, self.schema.names)
        return dict(document.leaves()) or {self.present(path): value}  # what is no value for it is told when it is set

    def value(self, path: KeyPath, value: Any) -> Any:
        """Return the present form of a setting's value."""
        return self.sets(path, value).get(self.present(path), value)

    def advise(self, path: KeyPath) -> str:
        """Return what to write in place of an unknown setting."""
        return self._vocabulary.advise(path) or "quincunx explain lists the settings"

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        settings = settings_of(self.schema.config)
        return Vocabulary.of(settings, [(old, new) for old, new, _ in expand(self.schema.names, settings)])


class Meaning:
    """The ranges of a document, judged against a recipe's names; collects what is wrong."""

    def __init__(self, names: Names, document: Document, at: KeyPath, ranges: Sequence[Range]) -> None:
        self.names = names
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._document = document
        self._at = at
        self._ranges = tuple(ranges)

    @cached_property
    def owners(self) -> dict[KeyPath, tuple[Range, str]]:
        """Present setting -> the range that sets it, and the key under which it does."""
        found: dict[KeyPath, tuple[Range, str]] = {}
        for one in self._ranges:
            for key, value in self._values(one):
                for path in self.names.sets(setting_path(key), value):
                    found.setdefault(path, (one, key))
        return found

    def touches(self, path: KeyPath) -> bool:
        """Tell whether a setting is ranged, or part of what is."""
        return bool(path) and any(_overlap(path, old) for old in self.owners)

    def check_keys(self, n_seeds: int, rungs: bool) -> None:
        """Refuse settings that cannot be ranged, and those that are ranged twice."""
        seen: dict[KeyPath, tuple[Range, str]] = {}
        for one in self._ranges:
            for key in one.keys:
                paths = dict.fromkeys(
                    path
                    for other, value in self._values(one)
                    if other == key
                    for path in self.names.sets(setting_path(key), value)
                )
                self._check_fixed(one, key, paths, n_seeds, rungs)
                clash = next((seen[old] for path in paths for old in seen if _overlap(path, old)), None)
                if clash is not None:
                    mark = self._document.mark(key_path(self._document, self._at, *clash))
                    message = f"one setting in two ranges: `{key}` is ranged as `{clash[1]}` too ({mark})"
                    self._refuse(key_path(self._document, self._at, one, key), message, "keep one of them")
                seen |= dict.fromkeys(paths, (one, key))

    def _check_fixed(self, one: Range, key: str, paths: Mapping[KeyPath, None], n_seeds: int, rungs: bool) -> None:
        at = key_path(self._document, self._at, one, key)
        for path in paths:
            root = str(path[0])
            if root in FIXED:
                self._refuse(at, f"`{key}` cannot be ranged: {FIXED[root]}", "set it in the config, or leave it out")
            elif root in ("ranges", "sweep", "base"):
                self._refuse(at, f"`{key}` is no setting of a run, so it cannot be ranged", "leave it out")
            elif path == ("seed",) and n_seeds > 1:
                remedy = "leave the range out: sweep.n_seeds counts up from the config's seed"
                self._refuse(at, f"`{key}` is ranged, and sweep.n_seeds ({n_seeds}) gives seeds as well", remedy)
            elif path == ("budget", "stop_at") and rungs:
                self._refuse(at, f"`{key}` cannot be ranged: sweep.pruner says where runs stop", "range budget.updates")
            else:
                continue
            return

    def check_overrides(self, changes: Sequence[Override], task: str | None, nested: bool) -> None:
        """Refuse to set what is ranged, on the command line or by the choice of a task."""
        owners = self.owners
        if ("task",) in owners and (task is not None or nested):
            one, key = owners["task",]
            why = (
                f"task {task} is asked for" if task else "the config holds a block for each task, with its own settings"
            )
            remedy = "sweep one task at a time" if nested else "leave one of the two out"
            self._refuse(key_path(self._document, self._at, one, key), f"`{key}` is ranged, and {why}", remedy)
        for change in changes:
            if change.kind == "delete":
                continue
            written = self.names.sets(change.path, change.value) if change.kind == "set" else {change.path: None}
            clash = next(
                (owners[old] for path in map(self.names.present, written) for old in owners if _overlap(path, old)),
                None,
            )
            if clash is not None:
                mark = self._document.mark(key_path(self._document, self._at, *clash))
                remedy = f"leave it out, or change the range by ranges.{clash[1]}=[...]"
                message = f"`{dotted(change.path)}` is set, and ranged as well ({mark})"
                self.problems.append(Problem("error", change.path, change.place.key, message, remedy))

    def conditions(self, config: Any, document: Document) -> tuple[Range, ...]:
        """Return the ranges with conditions on each other alone: those on the config's settings are decided here.

        Args:
            config: The config, None where it is none without the ranges.
            document: What its files set.
        """
        kept: list[Range] = []
        for one in self._ranges:
            conditions, idle = [], ""
            for condition in one.when:
                path = self.names.present(setting_path(condition.key))
                at = when_path(self._at, one, condition.key)
                values = self._as_ranged(path, condition.key, condition.values, at)
                if values is not None:
                    conditions.append(values)
                elif not self._known_to(path, config, document, at):
                    continue
                elif not self._holds(path, condition, config, document):
                    idle = f"{dotted(path)} is {show(self._config_value(path, config, document))}"
            if idle:
                self.notes.append(f"the range {one.name} does not act: {idle}")
            else:
                kept.append(replace(one, when=tuple(conditions)))
        return self._without_circles(self._without_idle(kept))

    def exclusions(
        self, wanted: Sequence[Mapping[str, Any]], document: Document, ranges: Sequence[Range]
    ) -> list[Exclusion]:
        """Return the combinations of `sweep.exclude`; `document` has the section, `ranges` are those that act."""
        found: list[Exclusion] = []
        acting = {key for one in ranges for key in one.keys}
        outer, self._document = self._document, document
        for number, combination in enumerate(wanted):
            at: KeyPath = ("sweep", "exclude", number)
            if not combination:
                self._refuse(
                    at, "an empty combination would leave out everything", "name settings and values", key=False
                )
            conditions: list[Condition] = []
            for key, values in combination.items():
                path = self.names.present(setting_path(key))
                each = tuple(values) if is_list(values) else (values,)
                condition = self._as_ranged(path, key, each, (*at, key))
                if condition is None:
                    names = ", ".join(dict.fromkeys(key for _, key in self.owners.values()))
                    self._refuse(
                        (*at, key), f"`{key}` is not ranged, so there is nothing to leave out", f"ranged are: {names}"
                    )
                else:
                    conditions.append(condition)
            if conditions and all(condition.key in acting for condition in conditions):
                found.append(Exclusion(tuple((condition.key, condition.values) for condition in conditions)))
        self._document = outer
        return found

    def _as_ranged(self, path: KeyPath, key: str, values: Sequence[Any], at: KeyPath) -> Condition | None:
        """Return a condition on a ranged setting, under the key and with the values of its range; None for another."""
        if path not in self.owners:
            return None
        one, owner = self.owners[path]
        wanted = {canonical(self.names.value(setting_path(key), value)): value for value in values}
        if isinstance(one, Span):
            met = {each: value for each, value in wanted.items() if _on(one, value)}
        else:
            choices = [value for name, value in self._values(one) if name == owner]
            formed = [
                (canonical(self.names.sets(setting_path(owner), value).get(path, value)), value) for value in choices
            ]
            met = {each: value for each, value in formed if each in wanted}
        for each, value in wanted.items():
            if each not in met:
                have = _described(one, owner)
                self._refuse(
                    at, f"`{key}` is never {show(value)}: its range is {have}", "name a value that it has", key=False
                )
        return Condition(owner, tuple(met.values()))

    def _known_to(self, path: KeyPath, config: Any, document: Document, at: KeyPath) -> bool:
        key = str(at[-1])
        if any(_overlap(path, old) for old in self.owners):
            remedy = "range the setting itself, or a zipped group in place of the section"
            self._refuse(at, f"`{key}` is ranged with its section, or in parts", remedy)
            return False
        setting = settings_of(self.names.schema.config).get(path)
        if setting is not None and setting.sections:
            self._refuse(at, f"`{key}` is a section, and a condition is on a setting", f"write `{key}.` and a setting")
            return False
        if setting is None and not document.has(path):
            self._refuse(at, f"`{key}` is no setting", self.names.advise(setting_path(key)))
            return False
        return True

    def _config_value(self, path: KeyPath, config: Any, document: Document) -> Any:
        if config is not None:
            return lookup(config, dotted(path))
        setting = settings_of(self.names.schema.config).get(path)
        return document.get(path) if document.has(path) else None if setting is None else setting.default

    def _holds(self, path: KeyPath, condition: Condition, config: Any, document: Document) -> bool:
        found = self._config_value(path, config, document)
        wanted = [self.names.value(setting_path(condition.key), value) for value in condition.values]
        if isinstance(found, str):  # words are read in any case
            return found.lower() in [value.lower() for value in wanted if isinstance(value, str)]
        loose = isinstance(found, float)  # an int may stand for a float
        return any(
            canonical(value) == canonical(found)
            or (loose and isinstance(value, int) and not isinstance(value, bool) and value == found)
            for value in wanted
        )

    def _without_idle(self, ranges: Sequence[Range]) -> list[Range]:
        """Return the ranges without those that depend on one that does not act."""
        kept = list(ranges)
        while True:
            keys = {key for one in kept for key in one.keys}
            idle = [one for one in kept if any(condition.key not in keys for condition in one.when)]
            if not idle:
                return kept
            for one in idle:
                missing = next(condition.key for condition in one.when if condition.key not in keys)
                self.notes.append(f"the range {one.name} does not act: {missing}, on which it depends, is not ranged")
                kept.remove(one)

    def _without_circles(self, ranges: Sequence[Range]) -> tuple[Range, ...]:
        """Return the ranges, without those whose conditions go round in a circle, which is a problem."""
        owner = {key: one for one in ranges for key in one.keys}
        open_, done = list(ranges), set[str]()
        while ready := [one for one in open_ if all(owner[each.key].name in done for each in one.when)]:
            done |= {one.name for one in ready}
            open_ = [one for one in open_ if one.name not in done]
        if open_:
            chain = [open_[0]]
            while len({one.name for one in chain}) == len(chain):
                waiting = {one.name for one in open_}
                chain.append(next(owner[each.key] for each in chain[-1].when if owner[each.key].name in waiting))
            names = [one.name for one in chain][next(i for i, one in enumerate(chain) if one.name == chain[-1].name) :]
            first: KeyPath = (*self._at, names[0], "when")
            message = f"a circle of conditions: {' -> '.join(names)}"
            self._refuse(first, message, "let one of these ranges act in any case")
        return tuple(one for one in ranges if one.name in done)

    def _values(self, one: Range) -> Iterator[tuple[str, Any]]:
        """Yield every setting of a range with each of its values; of a span with one of its ends."""
        if isinstance(one, Span):
            yield one.name, one.low
        else:
            for row in one.choices:
                yield from zip(one.keys, row, strict=True)

    def _refuse(self, path: KeyPath, message: str, remedy: str, *, key: bool = True) -> None:
        self.problems.append(Problem("error", path, self._document.mark(path, key=key), message, remedy))


def _overlap(one: KeyPath, other: KeyPath) -> bool:
    """Tell whether one path is the other, or leads to it."""
    return one[: len(other)] == other[: len(one)]


def _on(one: Span, value: Any) -> bool:
    """Tell whether a span can have exactly this value."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not one.low <= value <= one.high:
        return False
    if one.count is None:
        return one.whole and isinstance(value, int)
    return canonical(one.tidy(value)) == canonical(value)


def _described(one: Range, key: str) -> str:
    """Return the values of a range in words."""
    if isinstance(one, Span):
        points = "numbers" if one.count is None else f"{one.count} points"
        return f"{points} from {show(one.low)} to {show(one.high)}"
    values = [show(row[one.keys.index(key)]) for row in one.choices]
    return ", ".join(values[:8]) + (", ..." if len(values) > 8 else "")
