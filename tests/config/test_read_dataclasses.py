"""Files of dataclasses: their literal defaults are the config, whatever would have to be run is refused."""

from __future__ import annotations

import builtins
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.config.document import ConfigError, Document
from quincunx.config.read import read_text

HEAD = "from dataclasses import dataclass, field\nfrom typing import Any, Dict, List, Optional\n"


def read(text: str) -> Document:
    return read_text(text, "args.py", "python")


def refusals(text: str) -> list[tuple[int, int, str, str]]:
    """Return (line, column, message, remedy) of each problem."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [(p.mark.line, p.mark.column, p.message, p.remedy) for p in caught.value.problems if p.mark]


def one(body: str) -> str:
    """Return a file of one class with these lines in it."""
    return "@dataclass\nclass A:\n" + "".join(f"    {line}\n" for line in body.split("\n"))


NESTED = '''
"""Arguments."""

@dataclass
class Data:
    """Where texts are."""
    path: str = 'a/collection.tsv'
    batch_size: int = 1_6
    share: float = -2.5e-1

@dataclass(frozen=True)
class Optimizer:
    _target_: str = "torch.optim.AdamW"
    lr: float = 5e-5

@dataclass
class SGD(Optimizer):
    _target_: str = "torch.optim.SGD"
    momentum: float = 0.9

@dataclass
class Training:
    tags: List[str] = field(default_factory=lambda: ["x", 'y'])
    more: List[str] = field(default_factory=list)
    options: Dict[str, Any] = field(default_factory=dict, metadata={"help": "said" + "here"})
    optimizer: Optimizer = SGD(lr=2e-5)
    other: Optional[Optimizer] = field(default_factory=lambda: Optimizer("torch.optim.Adam", lr=1e-3))
    steps: Optional[int] = field(default=None)
    epochs: int = MISSING

@dataclass
class Config:
    data_args: Optional[Data] = Data(batch_size=8)
    train_args: Training = field(default_factory=Training)
    model: "Optional[Optimizer]"
    note: str
'''


def test_the_class_that_holds_the_others_is_the_tree():
    document = read(HEAD + NESTED)
    assert document.tree == {
        "data_args": {"path": "a/collection.tsv", "batch_size": 8, "share": -0.25},
        "train_args": {
            "tags": ["x", "y"],
            "more": [],
            "options": {},
            "optimizer": {"_target_": "torch.optim.SGD", "lr": 2e-5, "momentum": 0.9},
            "other": {"_target_": "torch.optim.Adam", "lr": 1e-3},
            "steps": None,
        },
        "model": {"_target_": "torch.optim.AdamW", "lr": 5e-5},
    }


def test_every_value_has_the_place_where_it_is_written():
    text = HEAD + NESTED
    document, lines = read(text), text.split("\n")

    def at(path: tuple[str | int, ...], part: str) -> str:
        place = document.places[path]
        mark = place.key if part == "key" else place.value
        assert mark is not None
        return lines[mark.line - 1][mark.column - 1 :]

    assert at(("data_args", "path"), "key").startswith("path: str")
    assert at(("data_args", "path"), "value").startswith("'a/collection.tsv'")
    assert at(("data_args", "batch_size"), "key") == "batch_size=8)"
    assert at(("data_args", "batch_size"), "value") == "8)"
    assert at(("train_args", "optimizer"), "key").startswith("optimizer: Optimizer")
    assert at(("train_args", "optimizer", "momentum"), "value") == "0.9"
    assert at(("train_args", "tags", 1), "value").startswith("'y'")
    assert at((), "value") == "class Config:"


def test_a_class_alone_is_the_tree_and_several_are_blocks():
    assert read("@dataclass\nclass A:\n    x: int = 1\n").tree == {"x": 1}
    text = "@dataclass\nclass A:\n    x: int = 1\n@dataclass\nclass B:\n    y: int = 2\n"
    assert read(text).tree == {"A": {"x": 1}, "B": {"y": 2}}
    # a class that others build on, or that is only an alternative, is no block
    text += "@dataclass\nclass O:\n    _target_: str = 'o'\n@dataclass\nclass C(A):\n    z: int = 3\n"
    assert read(text).tree == {"B": {"y": 2}, "C": {"x": 1, "z": 3}}


def test_fields_come_in_the_order_of_a_call():
    text = "@dataclass\nclass A:\n    x: int = 1\n    y: int = 2\n"
    text += "@dataclass\nclass B(A):\n    z: int = 3\n    x: int = 4\n"
    text += "@dataclass\nclass C:\n    b: B = B(7, 8, 9)\n"
    assert read(text).tree == {"b": {"x": 7, "y": 8, "z": 9}}


def test_a_class_as_a_default_and_as_an_annotation_alone():
    text = "@dataclass\nclass A:\n    x: int = 1\n@dataclass\nclass B:\n    one: Any = A\n    two: A\n    three: int\n"
    assert read(text).tree == {"one": {"x": 1}, "two": {"x": 1}}


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "remedy"),
    [
        (one("x: int = open('f').read()"), 3, 14, "a call", "value"),
        (one("x: Any = __import__('os').system('x')"), 3, 14, "a call", "value"),
        (one("x: str = os.environ['HOME']"), 3, 14, "an expression", "value"),
        (one("x: int = 4 * 8"), 3, 14, "arithmetic", "result"),
        (one("x: str = f'{1}'"), 3, 14, "an f-string", "${path}"),
        (one("x: int = OTHER"), 3, 14, "the name OTHER", "text is written 'OTHER'"),
        (one("x: list = [i for i in y]"), 3, 15, "a comprehension", "list"),
        (one("x: Any = lambda: 1"), 3, 14, "an expression", "value"),
        (one("x: Any = field(default_factory=make)"), 3, 36, "the factory make would have to be run", "lambda"),
        (one("x: Any = field(default_factory=lambda y: 1)"), 3, 36, "the factory would have to be run", "lambda"),
        (one("x: Any = field(default_factory=lambda: f())"), 3, 44, "a call", "value"),
        (one("x: Any = field(defualt=1)"), 3, 28, "field takes no argument defualt", "default="),
        (one("x: Any = field(1)"), 3, 20, "without a name", "default="),
        (one("x: int = 1\nx: int = 2"), 4, 5, "the field x stands twice", "keep one"),
        (one("x = 1"), 3, 5, "this is no field of A", "name: type = value"),
        (one("print('x')"), 3, 5, "this is no field of A", "name: type"),
        (one("x: int = 1\ndef __post_init__(self): boom()"), 4, 5, "the method __post_init__", "take it out"),
        ("class A:\n    x: int = 1\n", 1, 1, "A is not a plain dataclass", "@dataclass"),
        ("@dataclass\n@boom\nclass A:\n    x: int = 1\n", 3, 1, "A is not a plain dataclass", "@dataclass"),
        ("@boom()\nclass A:\n    x: int = 1\n", 2, 1, "A is not a plain dataclass", "@dataclass"),
        ("@dataclass\nclass A(Base):\n    x: int = 1\n", 2, 9, "the base Base is no dataclass", "declare"),
        ("@dataclass\nclass A(metaclass=boom()):\n    x: int = 1\n", 2, 19, "an argument of the class A", "alone"),
        (one("x: int = 1") + "print(1)\n", 4, 1, "a statement", "keep only dataclasses"),
        (one("x: int = 1") + "if x:\n    y()\n", 4, 1, "a statement", "keep only dataclasses"),
        (one("x: int = 1") + "LR = 3\n", 4, 1, "a statement", "keep only dataclasses"),
        (one("x: int = 1") + one("y: int = 1"), 5, 1, "the class A stands twice", "keep one"),
        (one("x: Any = A()"), 3, 14, "A holds itself", "flatten"),
        (one("x: Any = A"), 3, 14, "A holds itself", "flatten"),
        ("@dataclass\nclass A(A):\n    x: int = 1\n", 2, 1, "the bases of A lead back", "flatten"),
        (one("x: int = 1") + "@dataclass\nclass B:\n    a: A = A(y=2)\n", 6, 16, "A has no field `y`", "its fields: x"),
        (one("xlen: int = 1") + "@dataclass\nclass B:\n    a: A = A(xlem=2)\n", 6, 19, "no field", "`xlen`"),
        (one("x: int = 1") + "@dataclass\nclass B:\n    a: A = A(1, 2)\n", 6, 17, "A has 1 fields", "field=value"),
        (one("x: int = 1") + "@dataclass\nclass B:\n    a: A = A(**c)\n", 6, 16, "no field `**`", "its fields"),
        (one("x: int = 1") + "@dataclass\nclass B:\n    a: A = A(1, x=2)\n", 6, 19, "`x` is given twice", "fields"),
        (one("x: int = 1") + "@dataclass\nclass B:\n    a: A = A(x=f())\n", 6, 16, "a call", "value"),
    ],
)
def test_refusals(text: str, line: int, column: int, message: str, remedy: str):
    (found, *others) = refusals(text)
    assert (found[0], found[1]) == (line, column), found
    assert message in found[2] and remedy in found[3]
    assert not others


def test_all_problems_come_in_one_report():
    text = "x = f()\n@dataclass\nclass A:\n    a: int = g()\n    b: int = 1\n    c: str = h\n"
    assert [(line, column) for line, column, *_ in refusals(text)] == [(1, 1), (4, 14), (6, 14)]


def test_classes_that_hold_each_other_many_times_are_bounded():
    classes = [f"@dataclass\nclass C{n}:\n    a: Any = C{n + 1}()\n    b: Any = C{n + 1}()\n" for n in range(40)]
    text = "".join(reversed(["@dataclass\nclass C40:\n    x: int = 1\n", *reversed(classes)]))
    [(_, _, message, _)] = refusals(text)
    assert "more than 10000 settings" in message


def test_long_chains_are_refused_and_do_not_exhaust_the_stack():
    held = "".join(f"@dataclass\nclass C{n}:\n    a: Any = C{n + 1}()\n" for n in range(3000))
    assert any("50 classes within classes" in message for _, _, message, _ in refusals(held + one("x: int = 1")))
    based = "@dataclass\nclass C0:\n    x: int = 1\n"
    based += "".join(f"@dataclass\nclass C{n + 1}(C{n}):\n    x: int = 1\n" for n in range(3000))
    assert any("lead back to it, or too far" in message for _, _, message, _ in refusals(based))
    called = one("x: Any = f" + "()" * 150)
    assert "a call" in refusals(called)[0][2]


def test_nothing_is_executed(monkeypatch: pytest.MonkeyPatch):
    def boom(*arguments: Any, **options: Any) -> None:
        raise AssertionError("executed")

    for name in ("exec", "eval"):
        monkeypatch.setattr(builtins, name, boom)
    monkeypatch.setattr("os.system", boom)
    found = refusals("import os\n" + one("x: Any = field(default_factory=lambda: os.system('x'))") + "os.system('y')\n")
    assert [line for line, *_ in found] == [4, 5]


PLAIN = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=8)
VALUES = st.recursive(
    PLAIN | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_any_literal_default_is_read_as_it_is(values: list[Any]):
    names = [f"f{number}" for number in range(len(values))]
    for form in ("{value!r}", "field(default_factory=lambda: {value!r})", "field(default={value!r}, repr=False)"):
        lines = [f"    {name}: Any = {form.format(value=value)}\n" for name, value in zip(names, values, strict=True)]
        try:
            found = read("@dataclass\nclass A:\n" + "".join(lines)).tree
        except ConfigError as error:  # halves of surrogate pairs
            assert all("surrogate" in problem.message for problem in error.problems)
            continue
        assert found == dict(zip(names, values, strict=True))


def test_orders_of_classes_do_not_matter():
    parts = ["@dataclass\nclass A:\n    x: int = 1\n", "@dataclass\nclass B(A):\n    y: A = A(x=2)\n",
             "@dataclass\nclass C:\n    b: B = B(x=3)\n"]  # fmt: skip
    for order in itertools.permutations(parts):
        assert read("".join(order)).tree == {"b": {"x": 3, "y": {"x": 2}}}
