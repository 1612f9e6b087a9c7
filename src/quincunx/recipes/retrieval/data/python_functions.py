"""Functions of Python source as pairs of a query and a document: what is said of code, and the code that hides it.

The document is the source without docstring and name; the query what the docstring's first sentence says, or, for
training on functions that say nothing, the words of the name. Either way a query's words seldom stand in its document.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HIDDEN = "hidden"
"""Stands in a document wherever the function's own name stood."""

_TESTS = ("test", "tests", "idle_test", "testing")
_FEWEST_WORDS = 3
_LONGEST_QUERY = 300
_LONGEST_DOCUMENT = 20_000
_ENDS = re.compile(r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bcf\.)(?<!\bvs\.)(?<!\betc\.)(?=\s|$)")

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
"""Words of a name: `HTTPServer2` has three."""

_LONG_STRINGS = ('"""', "'''", "\\")
"""Without one of these no string goes over a line's end."""
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Pair:
    """A function, as query and document."""

    id: str
    """`module:qualified.name:line`."""
    module: str
    query: str
    document: str


def pairs_of(module: str, source: str, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield the pairs of a module's source, in the order of its lines; count what gives none in `skipped`.

    Functions inside a function that gives a pair give none: they stand in its document.

    Raises:
        SyntaxError, ValueError, RecursionError, tokenize.TokenError: The source cannot be parsed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in other people's strings
        tree = ast.parse(source)
    yield from _below(tree, "", module, source.split("\n"), skipped)


def _below(node: ast.AST, prefix: str, module: str, lines: Sequence[str], skipped: Counter[str]) -> Iterator[Pair]:
    # functions stand in blocks of statements alone; most of a tree are expressions
    for child in (child for block in _BLOCKS for child in getattr(node, block, ())):
        if not isinstance(child, _Function | ast.ClassDef):
            yield from _below(child, prefix, module, lines, skipped)
            continue
        name = f"{prefix}{child.name}"
        if isinstance(child, _Function):
            found = _query_and_document(child, lines)
            if not isinstance(found, str):
                yield Pair(f"{module}:{name}:{child.lineno}", module, *found)
                continue
            skipped[found] += 1
        yield from _below(child, f"{name}.", module, lines, skipped)


def names_of(module: str, source: str, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield a pair of every function that does something, but those whose names Python gives: the name's words, and
    the code; count the others in `skipped`.

    A method's query begins with the words of its class. Functions inside functions give pairs as well, which stand in
    the document of the outer one too.

    Raises:
        As `pairs_of`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    lines = source.split("\n")

    def below(node: ast.AST, prefix: str, of: Sequence[str]) -> Iterator[Pair]:
        for child in (child for block in _BLOCKS for child in getattr(node, block, ())):
            if not isinstance(child, _Function | ast.ClassDef):
                yield from below(child, prefix, of)
                continue
            name, words = f"{prefix}{child.name}", name_words(child.name)
            if isinstance(child, _Function):
                document, reason = _document(child, lines)
                if not words or (child.name.startswith("__") and child.name.endswith("__")):
                    document, reason = None, "whose name says nothing"
                if document is None:
                    skipped[reason] += 1
                else:
                    yield Pair(f"{module}:{name}:{child.lineno}", module, " ".join([*of, *words]), document)
                words = ()  # an inner function is no method
            yield from below(child, f"{name}.", words)

    yield from below(tree, "", ())


def name_words(name: str) -> Sequence[str]:
    """Return the words of a name such as readFileName or read_file_name, lowered."""
    return [part.lower() for part in _PARTS.findall(name)]


def _query_and_document(function: _Function, lines: Sequence[str]) -> tuple[str, str] | str:
    """Return what a function gives, or in words why it gives nothing."""
    docstring = ast.get_docstring(function, clean=False)
    if docstring is None:
        return "without a docstring"
    query = first_sentence(docstring)
    if len(query.split()) < _FEWEST_WORDS or not any(letter.isalpha() for letter in query):
        return "with a sentence of fewer than three words"
    if len(query) > _LONGEST_QUERY:
        return f"with a sentence of more than {_LONGEST_QUERY} characters"
    document, reason = _document(function, lines)
    return reason if document is None else (query, document)


def _document(function: _Function, lines: Sequence[str]) -> tuple[str | None, str]:
    """Return a function as a document, or in words why it is none."""
    if not _does_something(function):
        return None, "that do nothing"
    document = hidden_source(function, lines)
    if document is None:
        return None, "with code on the lines of their docstring"
    if len(document) > _LONGEST_DOCUMENT:
        return None, f"of more than {_LONGEST_DOCUMENT:,} characters"
    return document, ""


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring as one line; its first paragraph where no sentence ends in it."""
    paragraph = inspect.cleandoc(docstring).split("\n\n")[0]
    text = " ".join(paragraph.split())
    end = _ENDS.search(text)
    return text[: end.start()] if end else text


def hidden_source(function: _Function, lines: Sequence[str]) -> str | None:
    """Return a function's source, decorators included, without its docstring and with its name replaced by `HIDDEN`.

    All else is kept as it is, but for the indentation, which is taken off. None where the docstring shares a line with
    other code.

    Args:
        function: It has a statement beside its docstring, if it has one.
        lines: The lines of the module's source.
    """
    left_out = range(0)
    if ast.get_docstring(function, clean=False) is not None:
        docstring, following = function.body[0], function.body[1]
        last = docstring.end_lineno or docstring.lineno
        before = lines[docstring.lineno - 1].encode()[: docstring.col_offset]
        if before.strip() or following.lineno <= last:
            return None
        left_out = range(docstring.lineno, last + 1)
    start = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    indent = lines[function.lineno - 1][: len(lines[function.lineno - 1]) - len(lines[function.lineno - 1].lstrip())]
    numbered = enumerate(lines[start - 1 : function.end_lineno], start=start)
    rest = [line for number, line in numbered if number not in left_out]
    inside = _inside_strings(rest) if any(mark in line for line in rest for mark in _LONG_STRINGS) else ()
    kept = [line if number in inside else line.removeprefix(indent) for number, line in enumerate(rest, start=1)]
    return re.sub(rf"(?<!\w){re.escape(function.name)}(?!\w)", HIDDEN, "\n".join(kept)).strip("\n")


def _does_something(function: _Function) -> bool:
    """Tell whether there is more than a docstring, `pass`, `...` or the refusal of an abstract method."""
    return any(
        not (
            isinstance(statement, ast.Pass)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            or (isinstance(statement, ast.Raise) and "NotImplemented" in ast.unparse(statement))
        )
        for statement in function.body
    )


def _inside_strings(lines: Sequence[str]) -> set[int]:
    """Return the lines, from 1, that begin inside a string: what looks like indentation there is the string's own."""
    tokens = tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline)
    strings = (token for token in tokens if tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE"))
    return {line for token in strings for line in range(token.start[0] + 1, token.end[0] + 1)}


def is_test(parts: Sequence[str]) -> bool:
    """Tell by the parts of a module's name whether it belongs to tests, which speak of other code."""
    return any(part in _TESTS or part.startswith("test_") or part.endswith("_test") for part in parts)


def read_source(path: Path) -> str:
    """Return a source file's text with newlines alone as line ends, in the encoding that it declares.

    Raises:
        SyntaxError, UnicodeDecodeError: It declares an unknown encoding, or is not in it.
    """
    data = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding).read()
