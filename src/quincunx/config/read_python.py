"""Python literals -> document: a dict, the inside of one, `name = {...}`, or dataclasses; parsed, never executed.

Any name, call or computation is refused with its place, because a config that has to be run cannot be checked first.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from typing import Any, NamedTuple, TypeGuard

from quincunx.config.document import ConfigError, Document, Mark, Place, Problem, SourceText, salvage
from quincunx.config.paths import KeyPath, dotted

MAX_DEPTH = 100
"""Levels of nesting."""

_FRAGMENT = re.compile(r"""(?:\s|#[^\r\n]*)*+(?:"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')\s*:""")
_STATEMENT = re.compile(r"""[ \t]*(?:["'{\[]|[A-Za-z_]\w*[ \t]*=(?!=))""")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"\s*(?:#.*)?")

_REMEDIES: dict[type[ast.AST], tuple[str, str]] = {
    ast.Call: ("a call", "write the value that it gives; dict(a=1) is {'a': 1}"),
    ast.JoinedStr: ("an f-string", "write the text; ${path} refers to another setting"),
    ast.Set: ("a set", "write a list in [ ], or key: value pairs"),
    ast.BinOp: ("arithmetic", "write the result"),
    ast.UnaryOp: ("an operator", "write the result"),
    ast.BoolOp: ("an operator", "write the result"),
    ast.Compare: ("a comparison", "write True or False"),
    ast.Attribute: ("a name", "write its value, in quotes if it is text"),
    ast.Starred: ("an unpacked value", "write its items out"),
    ast.ListComp: ("a comprehension", "write the list out"),
    ast.DictComp: ("a comprehension", "write the entries out"),
}
_STATEMENTS: dict[type[ast.stmt], str] = {
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.Expr: "a value without a name",
}
_SPELLINGS = {"true": "True", "false": "False", "null": "None", "none": "None", "nan": "None", "inf": "a number"}


class _Parsed(NamedTuple):
    """A syntax tree; `shift` is how many columns its first line stands too far right."""

    tree: ast.Module | ast.expr
    shift: int


class _Failure(NamedTuple):
    """What Python's parser says against a text, and where."""

    reason: str
    mark: Mark


def read_python(source: SourceText) -> Document | None:
    """Return the document in a Python literal file, None when it holds nothing; ConfigError with all problems found.

    Accepted: one dict literal; the inside of one, without its braces; assignments of dicts to names, of which a
    single one is the tree itself and several are a mapping of names; dataclasses (see `read_dataclasses`). Tuples
    become lists.
    """
    parsed = _parse(source)
    if isinstance(parsed, _Failure):
        raise ConfigError([_explain(parsed, source)])
    reader = Reader(source, parsed.shift)
    document = reader.module(parsed.tree) if isinstance(parsed.tree, ast.Module) else reader.whole(parsed.tree)
    if reader.problems:
        raise ConfigError(reader.problems, salvage(document, reader.problems))
    return document


def _parse(source: SourceText) -> _Parsed | _Failure:
    """Parse a text as a module, as the inside of a dict, or as an indented literal: whichever it is."""
    module = _attempt(source, "", "")
    if isinstance(module, _Parsed):
        return module
    if _FRAGMENT.match(source.text):
        return _attempt(source, "{", "\n}")
    indented = re.match(r"\s+[{\[]", source.text)
    return _attempt(source, "(", "\n)") if indented else module


def _attempt(source: SourceText, opener: str, closer: str) -> _Parsed | _Failure:
    """Parse a text, between brackets of ours if given; they also make its indentation irrelevant."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd backslashes in texts, which are read as Python reads them
            if not opener:
                return _Parsed(ast.parse(source.text), 0)
            return _Parsed(ast.parse(opener + source.text + closer, mode="eval").body, len(opener))
    except SyntaxError as error:
        line, column = error.lineno or 1, max(error.offset or 1, 1)
        beyond = line > len(source.source.lines)
        if closer and (line == column == 1 or (beyond and "unmatched" not in error.msg)):
            # A bracket of the text was left open and took our closer: without it the parser says which.
            return _attempt(source, opener, "")
        if beyond:
            return _Failure("a closing bracket too many", source.mark(len(source.text.rstrip()) - 1))
        shift = len(opener) if line == 1 else 0
        return _Failure(error.msg, Mark(source.source, line, max(column - shift, 1)))
    except (RecursionError, MemoryError, ValueError):
        return _Failure(f"more than {MAX_DEPTH} levels of nesting", source.mark(0))


def _explain(failure: _Failure, source: SourceText) -> Problem:
    """Return the problem for a text that does not parse: prose before the literal, or what Python's parser says."""
    lines = source.source.lines
    written = [number for number, line in enumerate(lines) if not _BLANK.fullmatch(line)]
    prose = bool(written) and not _STATEMENT.match(lines[written[0]])
    for number in [number for number in written[1:] if prose and _STATEMENT.match(lines[number])][:3]:
        rest = SourceText("\n".join(lines[number:]), source.source.name)
        if isinstance(_parse(rest), _Parsed):
            last = max(before for before in written if before < number)
            which = f"line {written[0] + 1}" if last == written[0] else f"lines {written[0] + 1} to {last + 1}"
            message = f"{which}: prose before the literal"
            return Problem(
                "error", (), Mark(source.source, written[0] + 1, 1), message, f"delete {which}, or begin with #"
            )
    remedy = "look here and just before: a comma, a colon, a quote or a bracket may be missing"
    return Problem("error", (), failure.mark, f"not a Python literal: {failure.reason}", remedy)


class Reader:
    """Turns a syntax tree into values; whatever is no literal becomes a problem."""

    def __init__(self, source: SourceText, shift: int) -> None:
        self.problems: list[Problem] = []
        self._source = source.source
        self._shift = shift
        self.places: dict[KeyPath, Place] = {}

    def whole(self, node: ast.expr) -> Document:
        """Return the document of a single literal."""
        return Document(self.value(node, (), None), self.places)

    def module(self, module: ast.Module) -> Document | None:
        """Return the document of a file of statements; None when there are none but a docstring."""
        body = module.body[1:] if ast.get_docstring(module, clean=False) is not None else module.body
        words = [each for each in body if isinstance(each, ast.Expr) and isinstance(each.value, ast.Name)]
        for word in words:
            self.complain(word, "a word that is neither key nor value", "delete it, or begin the line with #")
        body = [each for each in body if each not in words]
        if not body:
            return None
        if any(isinstance(each, ast.ClassDef) for each in body):
            from quincunx.config.read_dataclasses import read_dataclasses

            return Document(read_dataclasses(body, self), self.places)
        if len(body) == 1 and isinstance(body[0], ast.Expr):
            return self.whole(body[0].value)
        named = [found for statement in body if (found := self._assignment(statement))]
        if len(body) == 1 and named:
            return self.whole(named[0][1])
        self.places[()] = Place(None, self.mark(body[0]))
        tree: dict[str, Any] = {}
        for target, value in named:
            if target.id in tree:
                self._refuse_twice(target, (target.id,))
            tree[target.id] = self.value(value, (target.id,), self.mark(target))
        return Document(tree, self.places)

    def _assignment(self, statement: ast.stmt) -> tuple[ast.Name, ast.Dict] | None:
        """Return name and dict of `name = {...}`; complain about any other statement."""
        target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
        if isinstance(statement, ast.AnnAssign):
            target = statement.target
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name):
            if isinstance(statement.value, ast.Dict):
                return target, statement.value
            self.complain(statement, f"{target.id} is not given a dict", "put the setting inside one: name = {...}")
            return None
        kind = _STATEMENTS.get(type(statement), "a statement")
        self.complain(statement, f"{kind}: this file is read, not executed", "keep only `name = {...}` with literals")
        return None

    def mark(self, node: ast.expr | ast.stmt) -> Mark:
        """Return where a node stands."""
        line = self._source.lines[node.lineno - 1]
        shift = self._shift if node.lineno == 1 else 0
        column = len(line.encode()[: max(node.col_offset - shift, 0)].decode())  # Python counts bytes
        return Mark(self._source, node.lineno, column + 1)

    def complain(self, node: ast.expr | ast.stmt, message: str, remedy: str, path: KeyPath = ()) -> None:
        """Note a problem at a node."""
        self.problems.append(Problem("error", path, self.mark(node), message, remedy))

    def _refuse_twice(self, key: ast.expr, path: KeyPath) -> None:
        first = self.places[path].key
        line = f"; the first is on line {first.line}" if first else ""
        self.complain(key, f"the key {dotted(path)} stands twice{line}", "keep one of them", path)

    def value(self, node: ast.expr, path: KeyPath, key: Mark | None) -> Any:
        """Return the value of a literal and note the places of it and all it holds."""
        self.places[path] = Place(key, self.mark(node))
        if isinstance(node, ast.Dict | ast.List | ast.Tuple) and len(path) >= MAX_DEPTH:
            self.complain(node, f"more than {MAX_DEPTH} levels of nesting", "flatten the file", path)
        elif isinstance(node, ast.Dict):
            return self._dict(node, path)
        elif isinstance(node, ast.List | ast.Tuple):
            return [self.value(item, (*path, position), None) for position, item in enumerate(node.elts)]
        elif isinstance(node, ast.Constant):
            return self._constant(node, node.value, path)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd) and _is_number(node.operand):
            value = self._constant(node, node.operand.value, path)
            return -value if isinstance(node.op, ast.USub) else value
        elif isinstance(node, ast.Name) and node.id in _SPELLINGS:
            self.complain(node, f"`{node.id}` is not Python's spelling", f"write {_SPELLINGS[node.id]}", path)
        elif isinstance(node, ast.Name):
            self.complain(node, f"the name {node.id}", f"names are not looked up; text is written '{node.id}'", path)
        else:
            what, remedy = _REMEDIES.get(type(node), ("an expression", "write the value itself"))
            self.complain(node, f"{what}: this file is read, not executed", remedy, path)
        return None

    def _dict(self, node: ast.Dict, path: KeyPath) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                self.complain(value, "`**` does not unpack here", "write the entries out, or use `base:`", path)
            elif not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
                remedy = f"write it in quotes: '{ast.unparse(key)}'"
                self.complain(key, f"the key {ast.unparse(key)} is not text", remedy, path)
            else:
                here = (*path, key.value)
                if key.value in tree:
                    self._refuse_twice(key, here)
                self._constant(key, key.value, here)
                tree[key.value] = self.value(value, here, self.mark(key))
        return tree

    def _constant(self, node: ast.expr, value: object, path: KeyPath) -> Any:
        if isinstance(value, float) and math.isinf(value):
            self.complain(node, "a number too large for a float", "write a number in range", path)
        elif value is not None and not isinstance(value, str | int | float):
            what = "bytes" if isinstance(value, bytes) else "`...`" if value is ... else "a complex number"
            self.complain(node, f"{what} in a config", "write text or a real number", path)
            return 0
        elif isinstance(value, str) and _SURROGATE.search(value):
            remedy = "write the character itself, or its \\U escape of eight digits"
            self.complain(node, "half of a surrogate pair (\\ud800 to \\udfff)", remedy, path)
        return value


def _is_number(node: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
