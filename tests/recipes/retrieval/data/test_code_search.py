from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data import code_search, load_collection
from quincunx.recipes.retrieval.data.code_search import (
    SET,
    chosen,
    distinct,
    fresh,
    generate,
    module_files,
    package_root,
    split_of_module,
    stdlib_roots,
)
from quincunx.recipes.retrieval.data.python_functions import (
    HIDDEN,
    Pair,
    first_sentence,
    is_test,
    names_of,
    pairs_of,
    read_source,
)

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def mined(source: str) -> tuple[list[Pair], Counter[str]]:
    skipped: Counter[str] = Counter()
    return list(pairs_of("m", source, skipped)), skipped


SOURCE = '''
class Box:
    @property
    def weight(self) -> int:
        """Return what the box weighs. In grams.

        More of it.
        """
        text = f"""weight
        of {self.weight}"""  # the weight, weightless
        return self.weights["weight"] + len(text)

    async def open(self, path):
        \'\'\'Open the box e.g. with a key
        of iron\'\'\'

        def inner():
            """Do what is inside of open."""
            return path

        return await self.open(inner())

def outer():
    def inner(a):
        """Return the value of a."""
        return a
    return inner
'''


def test_name_and_docstring_are_hidden_and_the_rest_is_kept():
    pairs, skipped = mined(SOURCE)
    assert [(pair.id, pair.query) for pair in pairs] == [
        ("m:Box.weight:4", "Return what the box weighs."),
        ("m:Box.open:13", "Open the box e.g. with a key of iron"),
        ("m:outer.inner:24", "Return the value of a."),
    ]
    assert pairs[0].document == (
        "@property\n"
        "def hidden(self) -> int:\n"
        '    text = f"""hidden\n'
        '        of {self.hidden}"""  # the hidden, weightless\n'
        '    return self.weights["hidden"] + len(text)'
    )
    # what stands inside a function that gives a pair belongs to its document
    assert '"""Do what is inside of hidden."""' in pairs[1].document
    assert pairs[1].document.startswith("async def hidden(self, path):\n\n    def inner():")
    assert skipped == {"without a docstring": 1}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ('def f():\n    "Only this is said."', "that do nothing"),
        ('def f():\n    "Only this is said."\n    pass', "that do nothing"),
        ('def f():\n    "Only this is said."\n    ...', "that do nothing"),
        ('def f():\n    "Only this is said."\n    raise NotImplementedError("in f")', "that do nothing"),
        ('def f(): "All on one line."; return 1', "with code on the lines of their docstring"),
        ('def f():\n    "Two on one line."; x = 1\n    return x', "with code on the lines of their docstring"),
        ('def f():\n    "Too short."\n    return 1', "with a sentence of fewer than three words"),
        ('def f():\n    "- - -"\n    return 1', "with a sentence of fewer than three words"),
        ('def f():\n    ""\n    return 1', "with a sentence of fewer than three words"),
        (f'def f():\n    "{"much " * 100}"\n    return 1', "with a sentence of more than 300 characters"),
        (f'def f():\n    "Give a long answer."\n    return "{"x" * 20_000}"', "of more than 20,000 characters"),
        ("def f():\n    return 1", "without a docstring"),
    ],
)
def test_what_gives_no_pair_is_counted(function, reason):
    assert mined(function) == ([], {reason: 1})


def test_names_are_queries_of_functions_that_say_nothing_too():
    source = '''
class HTTPServer2:
    def __init__(self):
        self.it = 1

    def readAll_now(self):
        return self.readAll_now

    def __private(self):
        return self

def top():
    """Say what is at the top."""
    def inner_one(a):
        return a
    return inner_one

def _():
    return 1

def later(): ...
'''
    skipped: Counter[str] = Counter()
    found = [(pair.id, pair.query, pair.document) for pair in names_of("m", source, skipped)]
    assert found == [
        ("m:HTTPServer2.readAll_now:6", "http server 2 read all now", "def hidden(self):\n    return self.hidden"),
        ("m:HTTPServer2.__private:9", "http server 2 private", "def hidden(self):\n    return self"),
        ("m:top:12", "top", "def hidden():\n    def inner_one(a):\n        return a\n    return inner_one"),
        ("m:top.inner_one:14", "inner one", "def hidden(a):\n    return a"),
    ]
    assert skipped == {"whose name says nothing": 2, "that do nothing": 1}


def test_names_give_no_code_that_is_asked_for_elsewhere():
    pairs = [Pair(str(n), "m", str(n), document) for n, document in enumerate(("a", "b", "a", "c"))]
    assert [pair.id for pair in fresh(pairs, ["c"])] == ["0", "1"]


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return x.", "Return x."),
        ("Return x. And y.", "Return x."),
        ("\n    Return 1.5 times x!  Not more.\n", "Return 1.5 times x!"),
        ("Return x, i.e. a value, cf. y. Done.", "Return x, i.e. a value, cf. y."),
        ("Return\n    x\n\n    Second paragraph.", "Return x"),
        ("Is it x? Yes.", "Is it x?"),
        ("", ""),
    ],
)
def test_the_first_sentence(docstring, sentence):
    assert first_sentence(docstring) == sentence


def test_only_the_inside_of_strings_keeps_its_indentation():
    source = '''
class A:
    def f(self):
        """Say several things at once."""
        one = ("joined "
            "strings")
        two = "goes \\
        on"
        three = """
        kept"""
        return one, two, three
'''
    (pair,), _ = mined(source)
    kept = 'def hidden(self):\n    one = ("joined "\n        "strings")\n    two = "goes \\\n        on"\n'
    assert pair.document == kept + '    three = """\n        kept"""\n    return one, two, three'


def test_form_feeds_and_line_ends_do_not_shift_lines(tmp_path):
    path = tmp_path / "m.py"
    lines = ("# -*- coding: latin-1 -*-", "\x0c", "def f(a):", "    'Say it in German: grüße.'", "    return 'ü'", "")
    path.write_bytes("\r\n".join(lines).encode("latin-1"))
    pairs, _ = mined(read_source(path))
    assert [(pair.query, pair.document) for pair in pairs] == [
        ("Say it in German: grüße.", f"def {HIDDEN}(a):\n    return 'ü'")
    ]


def test_documents_of_real_modules_are_what_python_reads():
    """Every document parses, as the function without its docstring and with its name replaced."""
    checked = 0
    for name, root in stdlib_roots():
        if name not in ("argparse", "textwrap", "heapq", "dataclasses"):
            continue
        source = read_source(root)
        nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, DEFINITIONS))
        functions = {node.lineno: node for node in nodes}
        for pair in pairs_of(name, source, Counter()):
            function = functions[int(pair.id.rpartition(":")[2])]
            function.body = function.body[1:]
            expected = re.sub(rf"(?<!\w){function.name}(?!\w)", HIDDEN, ast.unparse(function))
            # unparsing writes strings anew: what they hold is compared, not how
            assert ast.dump(ast.parse(pair.document)) == ast.dump(ast.parse(expected))
            checked += 1
    assert checked > 30


def test_tests_are_left_out():
    for module in ("test.support", "idlelib.idle_test.x", "lib2to3.tests", "ctypes.test", "a.test_b", "a.b_test"):
        assert is_test(module.split(".")), module
    assert not is_test(["unittest", "case"]) and not is_test(["doctest"]) and not is_test(["latest"])
    roots = dict(stdlib_roots())
    assert {"json", "heapq", "asyncio"} <= set(roots) and "numpy" not in roots
    files = dict(
        module_files({name: roots[name] for name in ("json", "heapq", "asyncio", "idlelib", "test") if name in roots})
    )
    assert {"json", "json.decoder", "heapq", "asyncio.locks"} <= set(files)
    assert files["json"].name == "__init__.py"
    assert not any("test" in part.split("_") for module in files for part in module.split("."))


def test_no_query_and_no_document_twice():
    rows = [("a", "Same words.", "x"), ("b", "same WORDS.", "y"), ("c", "Other words.", "x"), ("d", "New words.", "z")]
    skipped: Counter[str] = Counter()
    pairs = [Pair(key, "m", query, document) for key, query, document in rows]
    assert [pair.id for pair in distinct(pairs, skipped)] == ["a", "d"]
    assert skipped == {"functions whose sentence another has": 1, "functions whose code another has": 1}


def test_a_limit_is_a_draw_of_the_seed_in_the_old_order():
    pairs = [Pair(f"{n:03}", "m", "q", "d") for n in range(100)]
    some = [pair.id for pair in chosen(pairs, 1, 10)]
    assert len(some) == 10 and some == sorted(some)
    assert some == [pair.id for pair in chosen(pairs, 1, 10)] != [pair.id for pair in chosen(pairs, 2, 10)]
    assert chosen(pairs, 1, 100) == chosen(pairs, 1, None) == pairs


def test_modules_are_split_by_hash_about_as_the_shares_say():
    splits = [split_of_module(f"package.module{n}", 0) for n in range(2000)]
    counts = Counter(splits)
    assert counts["train"] == pytest.approx(1600, abs=80) and counts["dev"] == pytest.approx(200, abs=60)
    assert counts["test"] == pytest.approx(200, abs=60)
    assert splits != [split_of_module(f"package.module{n}", 1) for n in range(2000)]
    # pinned: a module must not change sides when the code changes
    assert [split_of_module(name, 0) for name in PINNED] == list(PINNED.values())


PINNED = {"argparse": "train", "heapq": "train", "json.decoder": "test", "typing": "dev"}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small library in place of Python's own: 40 modules of two functions, one of tests, one that is no Python."""
    root = tmp_path / "library"
    for folder in ("pack", "pack/tests"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").write_text("")
    for n in range(40):
        functions = (
            f'def f{k}(a):\n    """Add {n} and {k} to a number."""\n    return a + {n} + {k} * 100\n' for k in (1, 2)
        )
        (root / f"pack/m{n}.py").write_text("\n".join(functions))
    (root / "pack/tests/t.py").write_text('def f(a):\n    """Add nothing to a number."""\n    return a\n')
    (root / "pack/broken.py").write_text("def f(:\n")
    monkeypatch.setattr(code_search, "stdlib_roots", lambda: iter([("pack", root / "pack")]))
    return root


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


FILES = {
    "corpus.jsonl",
    "queries.jsonl",
    "names.jsonl",
    "qrels/train.tsv",
    "qrels/dev.tsv",
    "qrels/test.tsv",
    SET.manifest_name,
}


def test_a_set_is_a_beir_folder_with_modules_on_one_side(library, tmp_path):
    manifest = generate(tmp_path / "out", seed=3)
    assert names_in(tmp_path / "out") == FILES
    assert manifest.pairs == 80 and manifest.modules == 42
    assert manifest.skipped == {"files that cannot be read": 1}
    modules: dict[str, set[str]] = {}
    for split, count in manifest.counts.items():
        collection = load_collection(tmp_path / "out", split=split)
        assert (len(collection.queries), len(collection.documents)) == (count, 80)
        pairs = collection.positives.pairs.tolist()
        assert all(collection.queries.ids[query] == collection.documents.ids[document] for query, document in pairs)
        modules[split] = {name.partition(":")[0] for name in collection.queries.ids}
    assert not modules["train"] & modules["test"] and not modules["dev"] & (modules["train"] | modules["test"])
    named = [json.loads(line) for line in (tmp_path / "out/names.jsonl").read_text().splitlines()]
    train = load_collection(tmp_path / "out", split="train")
    asked = {train.documents.text(document) for _, document in train.positives.pairs.tolist()}
    # what is said of a function is no matter
    assert {pair["query"] for pair in named} == {"f 1", "f 2"} and {pair["positive"] for pair in named} == asked
    assert manifest.named == len(named) == manifest.counts["train"]
    text = collection.documents.text(0)
    assert text.startswith(f"def {HIDDEN}(a):\n    return a + ") and "Add" not in text


def test_the_same_request_gives_the_same_bytes_and_keeps_what_is_there(library, tmp_path):
    one, two = generate(tmp_path / "one", seed=3), generate(tmp_path / "two", seed=3)
    assert one == two
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    stamp = (tmp_path / "one/corpus.jsonl").stat().st_mtime_ns
    assert generate(tmp_path / "one", seed=3) == one
    assert (tmp_path / "one/corpus.jsonl").stat().st_mtime_ns == stamp
    # what an interrupted or careless hand left is made whole
    (tmp_path / "one/queries.jsonl").write_text("")
    (tmp_path / "one/qrels/dev.tsv").unlink()
    (tmp_path / "one/names.jsonl").unlink()
    assert generate(tmp_path / "one", seed=3) == one
    assert (tmp_path / "one/queries.jsonl").read_bytes() == (tmp_path / "two/queries.jsonl").read_bytes()
    assert names_in(tmp_path / "one") == FILES


def test_other_data_is_left_alone(library, tmp_path):
    generate(tmp_path / "out", seed=3)
    with pytest.raises(UsageError, match="a code search set made with other settings"):
        generate(tmp_path / "out", seed=4)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/corpus.jsonl").write_text("mine")
    with pytest.raises(UsageError, match=r"already holds corpus.jsonl, not made by this generator"):
        generate(tmp_path / "other")
    assert (tmp_path / "other/corpus.jsonl").read_text() == "mine"
    (tmp_path / "out" / SET.manifest_name).write_text("{}")
    with pytest.raises(DataError, match="is not a manifest"):
        generate(tmp_path / "out", seed=3)
    with pytest.raises(UsageError, match="a limit of 0 pairs leaves none"):
        generate(tmp_path / "new", limit=0)
    with pytest.raises(DataError, match="2 pairs leave a split empty"):
        generate(tmp_path / "new", limit=2)
    assert not (tmp_path / "new").exists()


def test_packages_are_mined_beside_the_library(library, tmp_path, monkeypatch):
    (tmp_path / "path/extra").mkdir(parents=True)
    (tmp_path / "path/extra/__init__.py").write_text('def g(a):\n    """Take one from a number."""\n    return a - 1\n')
    (tmp_path / "path/single.py").write_text('def h(a):\n    """Take two from a number."""\n    return a - 2\n')
    monkeypatch.syspath_prepend(tmp_path / "path")
    manifest = generate(tmp_path / "out", packages=["single", "extra"], seed=3)
    assert (manifest.pairs, manifest.packages) == (82, {"extra": "unknown", "single": "unknown"})
    assert "extra" not in sys.modules and "single" not in sys.modules  # read, not run
    with pytest.raises(UsageError, match="no installed package 'nowhere'"):
        generate(tmp_path / "new", packages=["nowhere"])
    with pytest.raises(UsageError, match=r"no installed package '../extra'"):
        package_root("../extra")
    with pytest.raises(UsageError, match="_sre has no Python source"):
        package_root("_sre")


def test_the_verb_says_what_it_made(library, cli, work):
    said = cli("data", "stdlib-code-search", "--out", "out", "--seed", 3, "--limit", 60)
    assert said.code == 0, said.err
    assert "left out: 1 files that cannot be read" in said.out
    assert re.search(
        r"out: 60 pairs \(train \d+, dev \d+, test \d+\), \d+ more of names for training, from 42 modules of the",
        said.out,
    )
    manifest = json.loads((work / "out" / SET.manifest_name).read_text())
    assert (manifest["limit"], manifest["seed"], sum(manifest["counts"].values())) == (60, 3, 60)
    failed = cli("data", "stdlib-code-search", "--out", "new", "--packages", "nowhere, other")
    assert (failed.code, failed.out) == (2, "") and "no installed package 'nowhere'" in failed.err
