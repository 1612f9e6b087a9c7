"""Ranges as a file writes them: lists that are crossed, groups that are zipped, spans between two numbers.

Only their form is judged here; whether the settings exist and accept the values is for `checking`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from quincunx.config.beside import RESERVED
from quincunx.config.document import Document, Problem
from quincunx.config.paths import KeyPath, PathSyntaxError, dotted, is_list, is_mapping, parse_path, walk
from quincunx.config.suggest import closest
from quincunx.config.wording import show
from quincunx.sweep.choosing.space import Condition, Listed, Range, Span, canonical

FORMS = "write a list of values, a mapping with low and high, or a mapping of lists that go together"
_IN_SPAN = ("low", "high", "log", "step", "n", "when")
SPELLINGS = {"min": "low", "max": "high", "from": "low", "to": "high", "lower": "low", "upper": "high"}
"""What other programs call the ends of a span."""


class Settings(Protocol):
    """What is to be known of the settings that there are."""

    def knows(self, path: KeyPath) -> bool:
        """Tell whether there is such a setting, under any of its names."""
        ...

    def is_whole(self, path: KeyPath) -> bool:
        """Tell whether a setting that takes numbers means something else by whole ones."""
        ...


def read_ranges(document: Document, at: KeyPath, settings: Settings) -> tuple[tuple[Range, ...], list[Problem]]:
    """Return the ranges that stand at a path of a document, those that can be read, and every mistake at its place.

    Conditions have the settings as they are written; they may be ranged or not. A span between whole numbers is one of
    whole numbers, but where its setting takes any number all the same.
    """
    reader = _Reader(document, settings)
    tree = document.get(at) if document.has(at) else {}
    if not is_mapping(tree):
        reader.refuse(at, f"`{dotted(at)}` is a mapping from settings to ranges, found {show(tree)}", FORMS, key=False)
        return (), reader.problems
    if not tree:
        reader.refuse(at, f"`{dotted(at)}` holds no range", "give at least one setting a list of values")
    found = [reader.range(str(name), (*at, name)) for name in tree]
    return tuple(each for each in found if each is not None), reader.problems


def setting_path(key: str) -> KeyPath:
    """Return the path of a setting that is written as one key, dots included."""
    try:
        return parse_path(key)
    except PathSyntaxError:
        return (key,)


def value_path(document: Document, at: KeyPath, one: Range, key: str, position: Any) -> KeyPath:
    """Return where a value of a range stands: a choice in its list, an end of a span, else the range itself."""
    above: KeyPath = (*at, one.name)
    if isinstance(one, Span):
        end = {one.low: "low", one.high: "high"}.get(position)
        return (*above, end) if end else above
    if is_list(document.get(above)):
        return (*above, position)
    return (*above, "values", position) if document.has((*above, "values")) else (*above, key, position)


def key_path(document: Document, at: KeyPath, one: Range, key: str) -> KeyPath:
    """Return where a setting of a range is named."""
    grouped = isinstance(one, Listed) and document.has((*at, one.name, key)) and one.keys != (one.name,)
    return (*at, one.name, key) if grouped else (*at, one.name)


def when_path(at: KeyPath, one: Range, key: str) -> KeyPath:
    """Return where a condition of a range stands."""
    return (*at, one.name, "when", key)


def is_number(value: Any) -> bool:
    """Tell whether a plain value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Reader:
    """Reads ranges one by one and collects what is wrong with them."""

    def __init__(self, document: Document, settings: Settings) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._settings = settings

    def refuse(self, path: KeyPath, message: str, remedy: str, *, key: bool = True) -> None:
        self.problems.append(Problem("error", path, self._document.mark(path, key=key), message, remedy))

    def range(self, name: str, path: KeyPath) -> Range | None:
        """Return one range, None where it cannot be read."""
        value = self._document.get(path)
        before = len(self.problems)
        for below, text in [((), value), *walk(value)]:
            if isinstance(text, str) and "${" in text:
                remedy = "write the value; a setting of the config may refer to a ranged one, run by run"
                self.refuse((*path, *below), f"`{text}`: there are no references within ranges", remedy, key=False)
        found = None
        if is_list(value):
            found = self._listed(name, path, path, ())
        elif not is_mapping(value) or not value:
            instead = f"write [{show(value)}], or set it in the config" if _is_scalar(value) else FORMS
            self.refuse(path, f"`{name}` has no range: found {show(value)}", instead, key=False)
        elif "values" in value:
            found = self._values(name, path, value)
        elif self._is_span(value):
            found = self._span(name, path, value)
        else:
            found = self._group(name, path, value)
        return found if len(self.problems) == before else None

    def _is_span(self, value: Mapping[str, Any]) -> bool:
        ends = {"low", "high", "step", "n", *SPELLINGS} & value.keys()
        return any(not is_list(value[key]) and not is_mapping(value[key]) for key in ends)

    def _listed(self, name: str, path: KeyPath, at: KeyPath, when: tuple[Condition, ...]) -> Listed | None:
        values = self._list(name, at)
        if values is None:
            return None
        self._refuse_doubles(name, [(value,) for value in values], at)
        return Listed(name, (name,), tuple((value,) for value in values), when)

    def _list(self, name: str, path: KeyPath) -> list[Any] | None:
        value = self._document.get(path)
        if not is_list(value):
            self.refuse(path, f"`{name}`: expected a list of values, found {show(value)}", FORMS, key=False)
        elif not value:
            remedy = "give it a value, or leave the range out"
            self.refuse(path, f"`{name}`: the list is empty, so there would be no run", remedy, key=False)
        else:
            return value
        return None

    def _refuse_doubles(self, name: str, rows: list[tuple[Any, ...]], path: KeyPath) -> None:
        seen: dict[Any, int] = {}
        for position, row in enumerate(rows):
            first = seen.setdefault(canonical(list(row)), position)
            if first != position:
                what = show(row[0]) if len(row) == 1 else f"row {position + 1}"
                again = "again" if len(row) == 1 else f"the same as row {first + 1}"
                remedy = "leave it out; sweep.n_seeds runs every configuration several times"
                self.refuse((*path, position), f"`{name}`: {what} is there {again}", remedy, key=False)

    def _values(self, name: str, path: KeyPath, value: Mapping[str, Any]) -> Listed | None:
        for key in value:
            if key not in ("values", "when"):
                remedy = "values stand alone, or with `when`" + (
                    "" if key in RESERVED else f"; did you mean `{key}` as a range of its own?"
                )
                self.refuse((*path, key), f"`{key}` beside the values of `{name}`", remedy)
        return self._listed(name, path, (*path, "values"), self._when(name, path, value))

    def _group(self, name: str, path: KeyPath, value: Mapping[str, Any]) -> Listed | None:
        section = self._misplaced(name, path, value)
        keys = [key for key in value if key != "when"]
        lists = {key: self._list(key, (*path, key)) for key in keys if key not in section}
        if section or not keys or any(values is None for values in lists.values()):
            if not keys:
                self.refuse(path, f"`{name}` has a condition and no values", FORMS)
            return None
        columns = {key: values for key, values in lists.items() if values is not None}
        lengths = {key: len(values) for key, values in columns.items()}
        longest = max(lengths.values())
        if min(lengths.values()) != longest:
            short = next(key for key, length in lengths.items() if length != lengths[keys[0]])
            counted = ", ".join(f"{key} {length}" for key, length in lengths.items())
            remedy = "lists in a mapping go together, one value of each; lists to be crossed stand outside of it"
            self.refuse((*path, short), f"`{name}` zips lists of unequal lengths: {counted}", remedy)
            return None
        rows = list(zip(*columns.values(), strict=True))
        self._refuse_doubles(name, rows, (*path, keys[0]))
        return Listed(name, tuple(keys), tuple(rows), self._when(name, path, value))

    def _misplaced(self, name: str, path: KeyPath, value: Mapping[str, Any]) -> set[str]:
        """Refuse the keys of a section that is taken for a group, and return them."""
        found: set[str] = set()
        for key in value:
            own = setting_path(str(key))
            whole = (*setting_path(name), *own)
            if key != "when" and self._settings.knows(whole) and not self._settings.knows(own):
                found.add(key)
                remedy = f"write `{dotted(whole)}` as one key, without the mapping round it"
                self.refuse((*path, key), f"`{key}` is no setting; a range has its setting's whole name", remedy)
        return found

    def _span(self, name: str, path: KeyPath, value: Mapping[str, Any]) -> Span | None:
        start = len(self.problems)
        for key in value:
            if key not in _IN_SPAN:
                near = SPELLINGS.get(key) or next(iter(closest(key, _IN_SPAN)), None)
                remedy = f"did you mean `{near}`?" if near else f"known here: {', '.join(_IN_SPAN)}"
                self.refuse((*path, key), f"unknown key `{key}` in the span of `{name}`", remedy)
        for key in ("low", "high"):
            if key not in value and len(self.problems) == start:
                remedy = f"write `{key}:`, a number; it is among the values"
                self.refuse(path, f"the span of `{name}` has no `{key}`", remedy)
        for key in ("low", "high", "step"):
            if key in value and not is_number(value[key]):
                self._wrong(name, path, key, "a number")
        if "log" in value and not isinstance(value["log"], bool):
            self._wrong(name, path, "log", "true or false")
        if "n" in value and (not isinstance(value["n"], int) or isinstance(value["n"], bool) or value["n"] < 2):
            self._wrong(name, path, "n", "an int >= 2: how many points, both ends among them")
        when = self._when(name, path, value)
        if len(self.problems) != start:
            return None
        low, high, step, n = value["low"], value["high"], value.get("step"), value.get("n")
        log, numbers = value.get("log", False), [low, high] if step is None else [low, high, step]
        whole = all(isinstance(number, int) for number in numbers)
        if whole and step is None and not self._settings.is_whole(setting_path(name)):
            low, high, whole = float(low), float(high), False
        for where, message, remedy in _contradictions(low, high, log, step, n, whole):
            self.refuse((*path, where), f"`{name}`: {message}", remedy, key=False)
        return Span(name, low, high, log, step, n, whole, when) if len(self.problems) == start else None

    def _wrong(self, name: str, path: KeyPath, key: str, words: str) -> None:
        value = self._document.get((*path, key))
        message = f"`{key}` of `{name}`: expected {words}, found {show(value)}"
        remedy = "remove the quotes" if isinstance(value, str) else f"leave `{key}` out, or write such a value"
        self.refuse((*path, key), message, remedy, key=False)

    def _when(self, name: str, path: KeyPath, value: Mapping[str, Any]) -> tuple[Condition, ...]:
        if "when" not in value:
            return ()
        at, wanted = (*path, "when"), value["when"]
        if not is_mapping(wanted) or not wanted:
            remedy = "write the settings and their values, for example when: {optimizer.kind: adamw}"
            self.refuse(at, f"`when` of `{name}`: expected a mapping, found {show(wanted)}", remedy, key=False)
            return ()
        conditions: list[Condition] = []
        for key, values in wanted.items():
            if is_list(values) and not values:
                remedy = "name the values under which the range acts"
                self.refuse((*at, key), f"`when` of `{name}`: no value of `{key}` is wanted", remedy)
            conditions.append(Condition(str(key), tuple(values) if is_list(values) else (values,)))
        return tuple(conditions)


def _contradictions(
    low: float, high: float, log: bool, step: float | None, n: int | None, whole: bool
) -> Iterator[tuple[str, str, str]]:
    """Yield the key, the message and the remedy for everything that the numbers of a span contradict."""
    if low >= high:
        yield "low", f"low ({show(low)}) is not below high ({show(high)})", "swap them; one value is written [value]"
        return
    if log and low <= 0:
        yield "low", f"log needs low above 0, found {show(low)}", "raise low, or leave log out"
    if log and step is not None:
        remedy = "leave step out, or log; n gives so many points, spread geometrically under log"
        yield "step", "log and step contradict each other", remedy
    elif step is not None and n is not None:
        yield "n", "step and n both say how many points there are", "leave one of them out"
    elif step is not None and not 0 < step <= high - low:
        yield "step", f"expected a step above 0 and at most high - low, found {show(step)}", "make it smaller"
    elif n is not None and whole and n > high - low + 1:
        most = int(high - low + 1)
        remedy = f"make it {most} or smaller"
        yield "n", f"there are {most} whole numbers from {low} to {high}, found n {n}", remedy


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
