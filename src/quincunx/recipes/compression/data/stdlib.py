"""The running Python's own documentation as a corpus: there on every machine, nothing to fetch.

Documents are the language reference's topics (those that `help("assert")` prints) and, for each module of the standard
library, its docstrings with the names and signatures they belong to. Sources are parsed; none is imported or run.
"""

from __future__ import annotations

import ast
import inspect
import io
import platform
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from quincunx.errors import DataError
from quincunx.recipes.compression.data.documents import Document, Documents, files_hash

FORMAT = 1
"""Raised whenever the same Python would give other documents."""

_TESTS = ("test", "tests", "idle_test", "testing")
_TOPICS = "pydoc_data.topics"

_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def stdlib_text() -> Documents:
    """Return the documentation of the running Python.

    Raises:
        DataError: This Python comes without the source of its library.
    """
    library = Path(sysconfig.get_path("stdlib"))
    modules = list(module_files(library))
    if not modules:
        raise DataError(
            f"{library} holds no source of Python's standard library, which data.source stdlib-text reads; name texts "
            "of your own by data.source text and data.path"
        )
    request = {
        "source": "stdlib-text",
        "format": FORMAT,
        "python": platform.python_version(),
        "files": files_hash(modules),
    }
    notes = [] if any(name == _TOPICS for name, _ in modules) else [f"{library} holds no {_TOPICS}; it is left out."]
    read = cache(lambda: list(_documents(modules)))  # a few MB, which take seconds to parse and are read several times
    return Documents(
        f"the documentation of Python {platform.python_version()}", request, lambda: iter(read()), notes=notes
    )


def module_files(library: Path) -> Iterator[tuple[str, Path]]:
    """Yield (module, file) for the source files of the standard library but tests, sorted by module."""
    found: list[tuple[str, Path]] = []
    for name in sys.stdlib_module_names:
        single, package = library / f"{name}.py", library / name
        if single.is_file():
            found.append((name, single))
        elif (package / "__init__.py").is_file():
            for path in package.rglob("*.py"):
                inner = path.relative_to(package).with_suffix("").parts
                found.append((".".join([name, *(part for part in inner if part != "__init__")]), path))
    return iter(sorted(each for each in found if not _is_test(each[0].split("."))))


def topics(source: str) -> dict[str, str]:
    """Return the topics that the source of `pydoc_data.topics` holds, by name; ValueError where it has another form."""
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="topics")], value=ast.Dict()):
                return ast.literal_eval(node.value)
            case _:
                continue
    raise ValueError("no table of topics")


def docstrings(module: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield (heading, docstring) for a module and what it defines, in the order of the lines.

    Raises:
        SyntaxError, ValueError, RecursionError: The source cannot be parsed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in other people's strings
        tree = ast.parse(source)
    if text := ast.get_docstring(tree):
        yield module, text
    yield from _below(tree, module)


def _below(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Named):
            name = f"{prefix}.{child.name}"
            if text := ast.get_docstring(child):
                yield f"class {name}" if isinstance(child, ast.ClassDef) else f"{name}({_arguments(child)})", text
            yield from _below(child, name)
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _below(child, prefix)


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return ast.unparse(function.args)


def _documents(modules: Sequence[tuple[str, Path]]) -> Iterator[Document]:
    """Yield the topics, then each module's docstrings as one document; a docstring comes once in all of them."""
    seen = set[str]()
    for module, path in modules:
        if module == _TOPICS:
            try:
                found = topics(_source(path))
            except (OSError, SyntaxError, ValueError):
                continue
            yield from (Document(f"topic {name}", (text.strip("\n") + "\n",)) for name, text in sorted(found.items()))
    for module, path in modules:
        paragraphs: list[str] = []
        try:
            for heading, text in docstrings(module, _source(path)):
                if text not in seen:
                    seen.add(text)
                    paragraphs.append(f"{heading}\n{_indented(inspect.cleandoc(text))}\n")
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue  # templates and files of another Python
        if paragraphs:
            yield Document(f"module {module}", ("\n".join(paragraphs),))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line.strip() else "" for line in text.split("\n"))


def _is_test(parts: Sequence[str]) -> bool:
    """Tell by the parts of a module's name whether it is a test, or a file that no import could name."""
    return any(part in _TESTS or part.startswith("test_") or not part.isidentifier() for part in parts)


def _source(path: Path) -> str:
    data = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding).read()
