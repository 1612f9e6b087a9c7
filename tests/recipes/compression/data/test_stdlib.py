"""The running Python's documentation, read without importing or running any of it."""

import sysconfig
from pathlib import Path

import pytest

from quincunx.errors import DataError
from quincunx.recipes.compression.data import stdlib
from quincunx.recipes.compression.data.stdlib import docstrings, module_files, stdlib_text, topics

SOURCE = '''"""Module."""
class Box:
    """A box.

    It holds things.
    """
    def put(self, thing, *, twice=False):
        """Put it in."""
        def inner(): "Inside."
if True:
    async def late(): 'Late.'
try:
    pass
except ValueError:
    def handler(): "Handler."
def silent(): return 1
'''


def test_docstrings_come_with_their_names_and_signatures() -> None:
    assert list(docstrings("toy", SOURCE)) == [
        ("toy", "Module."),
        ("class toy.Box", "A box.\n\nIt holds things."),
        ("toy.Box.put(self, thing, *, twice=False)", "Put it in."),
        ("toy.Box.put.inner()", "Inside."),
        ("toy.late()", "Late."),
        ("toy.handler()", "Handler."),
    ]


def test_topics_are_read_as_a_literal() -> None:
    assert topics("# made\ntopics = {'a': 'x ' 'y', 'b': r'\\z'}") == {"a": "x y", "b": "\\z"}
    with pytest.raises(ValueError, match="no table of topics"):
        topics("topics = dict(a=1)")


def test_the_topics_are_those_that_help_prints() -> None:
    from pydoc_data.topics import topics as imported

    path = Path(sysconfig.get_path("stdlib")) / "pydoc_data" / "topics.py"
    assert topics(path.read_text(encoding="utf-8")) == imported


def test_modules_are_found_but_for_tests() -> None:
    found = dict(module_files(Path(sysconfig.get_path("stdlib"))))
    assert {"json", "json.decoder", "argparse", "pydoc_data.topics"} <= set(found)
    assert found["json"].name == "__init__.py"
    assert not [name for name in found if {"test", "tests", "idle_test", "site-packages"} & set(name.split("."))]
    assert list(found) == sorted(found)


def small(monkeypatch: pytest.MonkeyPatch, folder: Path, names: list[str]) -> None:
    """A library of these modules, under the names that Python knows."""
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(folder))
    monkeypatch.setattr(stdlib.sys, "stdlib_module_names", frozenset(names))


def test_a_document_is_a_topic_or_a_module_and_a_docstring_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, tmp_path, ["json", "argparse", "this", "pydoc_data"])
    (tmp_path / "json").mkdir()
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "__init__.py").touch()
    (tmp_path / "pydoc_data" / "topics.py").write_text("topics = {'for': 'Loops.\\n', 'assert': 'Claims.'}")
    (tmp_path / "json" / "__init__.py").write_text(
        'raise SystemExit("run")\ndef dumps(obj):\n  """Write.\n\n  It."""\n'
    )
    (tmp_path / "argparse.py").write_text('"""Arguments."""\ndef twice(): "Arguments."\ndef once(): "Once."\n')
    (tmp_path / "this.py").write_text("not python at all")
    source = stdlib_text()
    assert [(document.name, document.texts[0]) for document in source.read()] == [
        ("topic assert", "Claims.\n"),
        ("topic for", "Loops.\n"),
        ("module argparse", "argparse\n    Arguments.\n\nargparse.once()\n    Once.\n"),
        ("module json", "json.dumps(obj)\n    Write.\n\n    It.\n"),
    ]
    assert [d.texts for d in source.read()] == [d.texts for d in stdlib_text().read()]
    before = source.request
    (tmp_path / "argparse.py").write_text('"""Other arguments."""')
    assert stdlib_text().request != before


def test_a_python_without_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, tmp_path, ["json"])
    with pytest.raises(DataError, match="holds no source of Python's standard library"):
        stdlib_text()
