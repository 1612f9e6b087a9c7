"""JSON, with `//` and `/* */` comments and trailing commas -> document.

A scanner of our own, because every slip in a hand-written file is to be named with its place and its repair, all in
one report: where it is plain how reading goes on, it goes on.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from quincunx.config.document import ConfigError, Document, Mark, Place, Problem, SourceText, salvage
from quincunx.config.paths import KeyPath, dotted

MAX_DEPTH = 100
"""Levels of nesting."""

MAX_PROBLEMS = 50
"""After so many slips the text is no JSON, and reading stops."""

_GAP = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*[\s\S]*?\*/)*+")
_PLAIN_STRING = re.compile(r'"([^"\\\x00-\x1f]*)"')
_CHUNK = re.compile(r'[^"\\\x00-\x1f]+')
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\\r\n]|\\.)*)'")
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_INT = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[\w$.+\-]+")
_MEMBER = re.compile(r"""(?:"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*'|[\w$.\-]+)[ \t]*:""")
_VALUE_WORD = re.compile(r"(?:true|false|null|True|False|None|[-+.]?[0-9][\w.+\-]*)(?![\w$])")
_STRAY = re.compile(r"""(?:[^\s,\[\]{}"'/]|/(?![/*]))+(?:[ \t]+(?:[^\s,\[\]{}"'/]|/(?![/*]))+)*""")
_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)

_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SPELLINGS = {
    "None": "null", "undefined": "null", "nil": "null", "NULL": "null", "Null": "null",
    "True": "true", "TRUE": "true", "yes": "true", "False": "false", "FALSE": "false", "no": "false",
}  # fmt: skip


def read_json(source: SourceText) -> Document | None:
    """Return the document in a JSON text, None when it holds nothing; ConfigError with all problems found."""
    scanner = _Scanner(source)
    try:
        found = scanner.root()
    except _Stop:
        found = None
    if scanner.problems:
        raise ConfigError(scanner.problems, salvage(found, scanner.problems))
    return found


class _Stop(Exception):
    """Reading cannot go on; the reason is among the problems."""


class _Scanner:
    """Reads a text from left to right; `at` is the offset of the next character."""

    def __init__(self, source: SourceText) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._text = source.text
        self._places: dict[KeyPath, Place] = {}
        self._at: int = 0

    def root(self) -> Document | None:
        """Read the whole text: one value with nothing but comments around it."""
        first = self._text[_GAP.match(self._text).end() :]  # pyright: ignore[reportOptionalMemberAccess]
        if not first.startswith(("{", "[")):
            self._refuse_prose(first)
        self._gap()
        if not self._next():
            return None
        document = Document(self._value((), None), self._places)
        end = self._at
        self._gap()
        if self._next():
            remedy = "remove it: a file holds one { ... } and comments"
            self._complain(self._at, f"text after the final `{self._text[end - 1]}`", remedy)
        return document

    def _refuse_prose(self, first: str) -> None:
        """Stop, with the repair, when the text begins with something else than a JSON value."""
        start = len(self._text) - len(first)
        fences = list(_FENCE.finditer(self._text))
        brace = re.search(r"^[ \t]*\{", first, re.MULTILINE)
        if len(fences) > 1 and start <= fences[0].start():
            lines = [self._source.mark(fence.start()).line for fence in fences[:2]]
            self._stop(
                start,
                "this is a page with a JSON block in it, not a JSON file",
                f"keep the lines {lines[0] + 1} to {lines[1] - 1}, those between the ``` marks",
            )
        if _MEMBER.match(first):
            self._stop(start, "the outer braces are missing", "put { before the first line and } after the last")
        if brace and not first.startswith("#"):
            last = self._source.mark(start + brace.start()).line - 1
            self._stop(start, "text before the opening {", f"delete it up to line {last}, or begin each line with //")

    def _complain(self, offset: int, message: str, remedy: str, path: KeyPath = ()) -> None:
        self.problems.append(Problem("error", path, self._source.mark(offset), message, remedy))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def _stop(self, offset: int, message: str, remedy: str, path: KeyPath = ()) -> NoReturn:
        self._complain(offset, message, remedy, path)
        raise _Stop

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _gap(self) -> None:
        """Go on to the next character that is neither white space nor comment."""
        while True:
            match = _GAP.match(self._text, self._at)
            self._at = match.end() if match else self._at
            letter = self._next()
            if letter == "#":
                line = re.compile(r"[^\r\n]*").match(self._text, self._at)
                self._complain(self._at, "a # comment", "JSON comments begin with // or stand between /* and */")
                self._at = line.end() if line else self._at
            elif self._text.startswith("/*", self._at):
                self._stop(self._at, "the comment that begins here is never closed", "close it with */")
            elif letter and (letter.isspace() or letter == "\ufeff"):
                self._complain(self._at, f"the invisible character U+{ord(letter):04X}", "replace it by a plain space")
                self._at += 1
            else:
                return

    def _value(self, path: KeyPath, key: Mark | None) -> Any:
        """Read a value and note the places of it and all it holds."""
        start = self._at
        self._places[path] = Place(key, self._source.mark(start))
        letter = self._next()
        if letter in ("{", "["):
            if len(path) >= MAX_DEPTH:
                self._stop(start, f"more than {MAX_DEPTH} levels of nesting", "flatten the file", path)
            self._at += 1
            return self._members(start, path) if letter == "{" else self._items(start, path)
        if letter in ('"', "'"):
            return self._string(path)
        return self._word(self._run("a value", "the value", path), start, path)

    def _word(self, word: str, start: int, path: KeyPath) -> Any:
        """Return the value of an unquoted run of letters and digits."""
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if _FLOAT.fullmatch(word):
            try:
                value = int(word) if _INT.fullmatch(word) else float(word)
            except ValueError:
                self._complain(start, f"a whole number of {len(word)} digits is too long", "write it in quotes", path)
                return None
            if isinstance(value, float) and math.isinf(value):
                self._complain(start, f"{word} is too large for a float", "write a number in range", path)
            return value
        if word in _SPELLINGS:
            self._complain(start, f"`{word}` is not JSON's spelling", f"write {_SPELLINGS[word]}", path)
        elif word.lstrip("+-") in ("NaN", "Infinity", "nan", "inf"):
            self._complain(
                start, f"JSON has no `{word}`", "write null or a finite number, or use YAML (.nan, .inf)", path
            )
        elif word.lstrip("+-.")[:1].isdigit():
            self._complain(start, f"`{word}` is not a JSON number", _number_remedy(word), path)
        else:
            self._complain(start, f"the text `{word}` has no quotes", f'write "{word}"', path)
        return None

    def _items(self, start: int, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        closed = self._begin("]")
        while not closed:
            begin = self._at
            items.append(self._value((*path, len(items)), None))
            closed = self._follow(start, "]", begin)
        return items

    def _members(self, start: int, path: KeyPath) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        closed = self._begin("}")
        while not closed:
            begin = self._at
            key = self._key(path)
            mark = self._source.mark(begin)
            here = (*path, key)
            if key in tree:
                first = self._places[here].key or mark
                message = f"the key {dotted(here)} stands twice; the first is on line {first.line}"
                self._complain(begin, message, "keep one of them", here)
            if self._colon(key):
                begin = self._at
                tree[key] = self._value(here, mark)
            closed = self._follow(start, "}", begin)
        return tree

    def _key(self, path: KeyPath) -> str:
        letter, start = self._next(), self._at
        if letter in ('"', "'"):
            return self._string(path, key=True)
        word = self._run("a key", '"key": value', path)
        self._complain(start, f"the key {word} has no quotes", f'write "{word}"', (*path, word))
        return word

    def _run(self, wanted: str, form: str, path: KeyPath) -> str:
        """Read an unquoted run of letters and digits; where there is none, stop and say what was wanted."""
        start, letter = self._at, self._next()
        word = _WORD.match(self._text, start)
        if not word:
            found = f"`{letter}`" if letter else "the end of the file"
            self._stop(
                start, f"{wanted} was expected, found {found}", f"write {form}, or remove what asks for it", path
            )
        self._at = word.end()
        return word[0]

    def _colon(self, key: str) -> bool:
        """Read the colon after a key; return whether a value follows."""
        self._gap()
        end = self._at
        if self._next() == ":":
            self._at += 1
            self._gap()
            if self._next() not in (",", "}"):
                return True
        elif self._next() == "=":
            self._complain(end, f'`=` after the key "{key}"', "write a colon")
            self._at += 2 if self._text.startswith("=>", end) else 1
            self._gap()
            return True
        elif self._next() not in (",", "}", ""):
            self._complain(end, f'missing colon after the key "{key}"', "put a colon between key and value")
            return True
        self._complain(self._at, f'the key "{key}" has no value', "write its value, or remove the key")
        return False

    def _begin(self, closer: str) -> bool:
        """Read on from an opening bracket; return whether the collection ends at once."""
        self._gap()
        while self._next() == ",":
            self._complain(self._at, "a comma with nothing before it", "remove it")
            self._at += 1
            self._gap()
        return self._closes(closer)

    def _closes(self, closer: str) -> bool:
        if self._next() != closer:
            return False
        self._at += 1
        return True

    def _follow(self, opened: int, closer: str, begin: int) -> bool:
        """Read what stands between an entry and the next one; return whether the collection was closed instead."""
        while True:
            end = self._at
            self._gap()
            letter = self._next()
            if letter == ",":
                self._at += 1
                self._gap()
                while self._next() == ",":
                    self._complain(self._at, "doubled comma", "remove one")
                    self._at += 1
                    self._gap()
                return self._closes(closer)
            if letter == closer:
                return self._closes(closer)
            if letter == ";":
                self._complain(self._at, "a semicolon between entries", "write a comma")
                self._at += 1
                self._gap()
                return self._closes(closer)
            if not letter or letter in "]}":
                at = self._source.mark(opened)
                found = f"found `{letter}`" if letter else "the file ends"
                message = f"the `{self._text[opened]}` of line {at.line}, column {at.column} is not closed: {found}"
                self._stop(self._at if letter else opened, message, f"close it with `{closer}`")
            if self._begins_entry(closer):
                shown = re.compile(r'"[^"\r\n]*"?|\S').match(self._text, self._at)
                self._complain(end, f"missing comma before {shown[0] if shown else letter}", "put a comma here")
                return False
            self._stray(closer, begin, end)

    def _begins_entry(self, closer: str) -> bool:
        if closer == "}":
            return _MEMBER.match(self._text, self._at) is not None
        return self._next() in "\"'{[" or _VALUE_WORD.match(self._text, self._at) is not None

    def _stray(self, closer: str, begin: int, end: int) -> None:
        """Name something that stands after a complete value, and read past it."""
        value = self._text[begin:end]
        after = f"after the value {value}" if len(value) <= 40 and value.isprintable() else "after this value"
        if self._next() in "\"'{[":
            self._complain(self._at, f"a second value {after}", "remove one of them")
            self._value(("?", self._at), None)
            return
        stray = _STRAY.match(self._text, self._at)
        words = stray[0] if stray else self._next()
        what = "a word" if words.isidentifier() else "stray text:"
        self._complain(self._at, f"{what} `{words}` {after}", "remove it, or choose one value")
        self._at += len(words)
        self._gap()
        if self._next() and self._next() in "\"'{[" and (closer == "]" or not self._begins_entry(closer)):
            self._value(("?", self._at), None)  # the other side of an `or`

    def _string(self, path: KeyPath, *, key: bool = False) -> str:
        plain = _PLAIN_STRING.match(self._text, self._at)
        if plain:
            self._at = plain.end()
            return plain[1]
        start = self._at
        single = _SINGLE_QUOTED.match(self._text, start)
        if single:
            self._at = single.end()
            remedy = f"write {json.dumps(single[1], ensure_ascii=False)}"
            self._complain(start, "single quotes: JSON text stands in double quotes", remedy, path)
            return single[1]
        pieces: list[str] = []
        self._at += 1
        while self._next() != '"':
            chunk = _CHUNK.match(self._text, self._at)
            letter = self._next()
            if chunk:
                pieces.append(chunk[0])
                self._at = chunk.end()
            elif letter == "\\":
                pieces.append(self._escape(path))
            elif letter in ("", "\n", "\r"):
                remedy = f"close it with {self._text[start]}; a line break inside a text is written \\n"
                self._complain(start, "the text that begins here is not closed on its line", remedy, path)
                if key or not (pieces and pieces[-1].rstrip().endswith(",")):
                    raise _Stop
                self._at = self._text.rindex(",", start, self._at)  # most likely the comma after the value
                return "".join(pieces)
            else:
                written = json.dumps(letter).strip('"')
                self._complain(
                    self._at, f"the control character U+{ord(letter):04X} in a text", f"write {written}", path
                )
                self._at += 1
        self._at += 1
        return "".join(pieces)

    def _escape(self, path: KeyPath) -> str:
        """Read one escape of a string; a surrogate pair is one character."""
        start = self._at
        letter = self._text[start + 1 : start + 2]
        if letter == "u":
            code = _HEX.match(self._text, start + 2)
            low = _HEX.match(self._text, start + 8) if self._text.startswith("\\u", start + 6) else None
            self._at = code.end() if code else start + 2
            if not code:
                self._complain(start, "\\u without four hexadecimal digits", "write for example \\u00e9", path)
                return ""
            high = int(code[0], 16)
            if not 0xD800 <= high < 0xE000:
                return chr(high)
            if low and high < 0xDC00 and 0xDC00 <= int(low[0], 16) < 0xE000:
                self._at = low.end()
                return chr(0x10000 + (high - 0xD800) * 0x400 + int(low[0], 16) - 0xDC00)
            message = f"\\u{code[0]} is half of a surrogate pair without its other half"
            self._complain(start, message, "write both halves, or the character itself", path)
            return ""
        self._at = start + 2 if letter in _ESCAPES else start + 1
        if letter not in _ESCAPES:
            self._complain(start, f"`\\{letter}` is not an escape of JSON", "write a backslash as \\\\", path)
        return _ESCAPES.get(letter, "\\")


def _number_remedy(word: str) -> str:
    digits = word.lstrip("+").replace("_", "")
    if re.fullmatch(r"-?0+[0-9]+(\.[0-9]*)?", digits):
        return f'write it without leading zeros, or in quotes if it is a name: "{word}"'
    for repaired in (digits, digits.replace(".", "0.", 1), f"{digits}0", digits.replace(".e", ".0e")):
        if _FLOAT.fullmatch(repaired):
            return f"write {repaired}"
    if digits[:2].lower() == "0x":
        return f"write it in decimal{': ' + str(int(digits, 16)) if re.fullmatch('0[xX][0-9a-fA-F]+', digits) else ''}"
    return f'write a plain decimal number, or text in quotes: "{word}"'
