"""A collection folder reads back what was written, and every bad line is refused with its place."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.folder import Collection, NoSuchSplit, write_collection
from quincunx.recipes.vision_language.data.record import TASKS, Answer, Example, Picture, Region

PICTURES = [
    Picture("p1", 96, 64, "images/p1.png", (Region((0.0, 1.5, 96.0, 64.0), "cube", "red", 0.25), Region((1, 2, 3, 4)))),
    Picture("p2", 10, 20),
]

EXAMPLES = {
    "vqa": Example("1", "vqa", ("p1",), "what?", (Answer("red"), Answer("blue", 1 / 3)), {"annotations": ["red"] * 10}),
    "gqa": Example("1", "gqa", ("p1",), "is it?", (Answer("yes"),), {"types": {"structural": "verify"}, "group": "g"}),
    "nlvr": Example("1", "nlvr", ("p1", "p2"), "both are", (Answer("false"),), {"identifier": "s1"}),
    "refcoco": Example(
        "1", "refcoco", ("p1",), "the left one", (), {"box": [0, 0, 5, 6.5], "candidates": [[0, 0, 5, 7]]}
    ),
    "vcr": Example("1", "vcr", ("p1",), "why?", (), {"choices": list("abcd"), "label": 3, "rationales": list("efgh")}),
    "caption": Example("1", "caption", ("p2",), "", (Answer("a cube"), Answer("one cube"))),
    "mmt": Example("1", "mmt", (), "a cube", (Answer("ein Würfel"),)),
    "cls": Example("1", "cls", ("p1",), "", (Answer("cube"),), {"classes": ["ball", "cube"]}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A collection with one example of every task."""
    write_collection(tmp_path / "made", PICTURES, {(task, "train"): [one] for task, one in EXAMPLES.items()})
    return tmp_path / "made"


def test_what_was_written_reads_back(folder: Path):
    collection = Collection(folder)
    assert list(collection.pictures) == ["p1", "p2"] and list(collection.pictures.values()) == PICTURES
    assert collection.pictures.sizes.tolist() == [[96, 64], [10, 20]] and collection.pictures.regions.tolist() == [2, 0]
    assert collection.splits == dict.fromkeys(TASKS, ("train",)) and collection.features == ()
    for task, example in EXAMPLES.items():
        found = collection.examples(task, "train")
        assert list(found) == [example] and found[0:1] == [example] and found[-1] == example
        with pytest.raises(IndexError):
            found[1]
    nlvr = collection.examples("nlvr", "train")
    assert (nlvr.picture_places.tolist(), nlvr.picture_offsets.tolist()) == ([0, 1], [0, 2])
    assert "p3" not in collection.pictures and collection.pictures.get("p3") is None
    assert collection.feature_file("butd") == folder / "features/butd.arrow"


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = words.filter(bool)
shares = st.floats(0, 1)


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    width, height = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    edges = st.tuples(st.floats(0, width - 0.5), st.floats(0, height - 0.5))
    boxes = [(x, y, x + 0.25, y + 0.5) for x, y in draw(st.lists(edges, max_size=3))]
    optional = st.none() | names
    regions = tuple(Region(box, draw(optional), draw(optional), draw(shares)) for box in boxes)
    return Picture(draw(names), width, height, draw(optional), regions)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_collection_reads_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    folder = tmp_path_factory.mktemp("any")
    made = data.draw(st.lists(pictures(), min_size=1, max_size=3, unique_by=lambda picture: picture.id))
    known = st.sampled_from([picture.id for picture in made])
    answers = st.lists(st.builds(Answer, words, shares), max_size=3).map(tuple)
    asked = st.builds(
        Example,
        names,
        st.just("vqa"),
        st.lists(known, max_size=2).map(tuple),
        names.filter(str.strip),
        answers,
        st.fixed_dictionaries({}, optional={"annotations": st.lists(words, min_size=1), "elsewhere": st.integers()}),
    )
    examples = data.draw(st.lists(asked, max_size=4, unique_by=lambda example: example.uid))
    write_collection(folder, made, {("vqa", "dev"): examples})
    collection = Collection(folder)
    assert list(collection.pictures.values()) == made
    assert list(collection.examples("vqa", "dev")) == examples
    assert [collection.pictures.at(i) for i in range(len(made))] == made


def test_adding_completes_pictures_and_keeps_splits(folder: Path):
    before = Collection(folder).fingerprint
    fuller = Picture("p2", 10, 20, "images/p2.png", (Region((0, 0, 1, 1)),))
    asked = Example("9", "vqa", ("p3",), "where?")
    count = write_collection(folder, [fuller, Picture("p3", 1, 1)], {("vqa", "test"): [asked]}, add=True)
    collection = Collection(folder)
    assert count == len(collection.pictures) == 3
    assert collection.pictures["p1"] == PICTURES[0] and collection.pictures["p2"] == fuller
    assert collection.splits["vqa"] == ("test", "train") and collection.examples("vqa", "test")[0] == asked
    assert collection.fingerprint != before
    with pytest.raises(UsageError, match="already holds a collection"):
        write_collection(folder, [], {})
    with pytest.raises(UsageError, match=r"vqa/test.jsonl is already there"):
        write_collection(folder, [], {("vqa", "test"): []}, add=True)
    with pytest.raises(DataError, match=r"p1 has 96 x 64 pixels there, and 5 x 5 where"):
        write_collection(folder, [Picture("p1", 5, 5)], {}, add=True)
    assert Collection(folder).pictures["p1"] == PICTURES[0], "what was there is untouched"


def test_the_fingerprint_tells_contents_apart(tmp_path: Path):
    for name, text in (("a", "what?"), ("b", "what?"), ("c", "why?")):
        write_collection(tmp_path / name, PICTURES, {("vqa", "train"): [Example("1", "vqa", (), text)]})
    a, b, c = (Collection(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c


def test_readers_go_through_pickles_and_notice_changes(folder: Path):
    collection = Collection(folder)
    examples, read = collection.examples("vqa", "train"), collection.pictures
    assert read["p1"] == PICTURES[0]
    again, pictures_again = pickle.loads(pickle.dumps((examples, read)))
    assert again[0] == EXAMPLES["vqa"] and pictures_again["p1"] == PICTURES[0]
    cut = pickle.loads(pickle.dumps(examples))
    (folder / "vqa/train.jsonl").write_text("{}")
    with pytest.raises(DataError, match="shorter than when it was first read"):
        cut[0]


GOOD = {"uid": "1", "pictures": ["p1"], "text": "what?"}
BAD_EXAMPLES = [
    ("vqa", '{"uid": ', "no sound JSON"),
    ("vqa", "[1]", r"\[1\]; expected an object"),
    ("vqa", b'{"uid": "\xff"}', "no UTF-8"),
    ("vqa", {**GOOD, "uid": None}, "uid: absent"),
    ("vqa", {**GOOD, "uid": ""}, "uid: empty"),
    ("vqa", {**GOOD, "pictures": "p1"}, "pictures: 'p1'; expected a list"),
    ("vqa", {**GOOD, "pictures": ["p1", "p9"]}, r"pictures\[1\]: there is no picture p9"),
    ("vqa", {**GOOD, "pictures": [[]]}, r"pictures\[0\]: \[\]; expected an id"),
    ("vqa", {**GOOD, "text": " "}, "text: empty; vqa needs one"),
    ("vqa", {**GOOD, "text": 3}, "text: 3; expected a text"),
    ("vqa", {**GOOD, "answer": ["red"]}, "answer: no key of vqa; is answers meant?"),
    ("vqa", {**GOOD, "anotations": ["red"]}, "is annotations meant?"),
    ("vqa", {**GOOD, "answers": "red"}, "answers: 'red'; expected a list"),
    ("vqa", {**GOOD, "answers": [3]}, r"answers\[0\]: 3; expected a text"),
    ("vqa", {**GOOD, "answers": [{"text": "red", "weight": 1.5}]}, r"answers\[0\].weight: 1.5; expected .* 0 to 1"),
    ("vqa", {**GOOD, "answers": ["no", {"text": "a", "weight": True}]}, r"answers\[1\].weight: True"),
    ("vqa", '{"uid": "1", "text": "a", "answers": [{"text": "a", "weight": NaN}]}', "weight: nan"),
    ("vqa", {**GOOD, "answers": [{"words": "red"}]}, "words: no key of answers"),
    ("vqa", {**GOOD, "annotations": []}, "annotations: .*expected a list of texts"),
    ("vqa", {**GOOD, "question_type": 1}, "question_type: 1"),
    ("gqa", {**GOOD, "types": "verify"}, "types: 'verify'; expected an object"),
    ("nlvr", GOOD, "identifier: absent"),
    ("nlvr", {**GOOD, "identifier": "s", "answers": ["yes"]}, "answers: 'yes'; expected true or false"),
    ("nlvr", {**GOOD, "identifier": "s", "answers": ["true", "false"]}, "nlvr has 1 or, where it is hidden, none"),
    ("nlvr", {**GOOD, "identifier": "s", "pictures": ["p1"] * 3}, "pictures: 3; nlvr needs 1 or 2"),
    ("refcoco", GOOD, "box: absent"),
    ("refcoco", {**GOOD, "box": [0, 0, 5]}, "expected .x1, y1, x2, y2. in pixels"),
    ("refcoco", {**GOOD, "box": [5, 0, 4, 3]}, "inverted or empty"),
    ("refcoco", {**GOOD, "box": [0, 0, 97, 3]}, "reaches out of the picture of 96 x 64"),
    ("refcoco", {**GOOD, "box": [-1, 0, 9, 3]}, "reaches out"),
    ("refcoco", {**GOOD, "box": [0, 0, 9, 3], "candidates": [[0, 0, 9, 65]]}, r"candidates\[0\]: .*reaches out"),
    ("refcoco", {**GOOD, "box": [0, 0, 9, 3], "candidates": 3}, "candidates: 3; expected a list of boxes"),
    ("refcoco", {**GOOD, "box": [0, 0, 9, 3], "pictures": []}, "pictures: 0; refcoco needs 1"),
    ("vcr", GOOD, "choices: absent"),
    ("vcr", {**GOOD, "choices": ["a", "b"]}, "choices: 2; expected 4"),
    ("vcr", {**GOOD, "choices": list("abcd"), "label": 4}, "label: 4; expected the right one's number, 0 to 3"),
    (
        "vcr",
        {**GOOD, "choices": list("abcd"), "rationale_label": 1},
        "rationales: absent, but there is rationale_label",
    ),
    ("caption", {"uid": "1"}, "pictures: 0; caption needs 1 or more"),
    ("caption", {**GOOD, "answers": ["a"], "references": ["b"]}, "references: other texts than answers"),
    ("mmt", {"uid": "1", "answers": ["a"]}, "text: empty; mmt needs one"),
    ("cls", {**GOOD, "answers": ["cat"], "classes": ["dog"]}, "answers: 'cat' is none of the 1 classes"),
]


@pytest.mark.parametrize(("task", "line", "reason"), BAD_EXAMPLES, ids=lambda value: str(value)[:40])
def test_bad_examples_are_named(folder: Path, task: str, line: object, reason: str):
    path = folder / task / "bad.jsonl"
    content = line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
    path.write_bytes(b"\n" + content + b"\n")
    with pytest.raises(DataError, match=rf"bad.jsonl: 1 bad line:\n  .*bad.jsonl:2: .*{reason}"):
        Collection(folder).examples(task, "bad")


BAD_PICTURES = [
    ({"id": "a", "width": 5}, "height: absent"),
    ({"id": "a", "width": 0, "height": 5}, "width: 0; expected pixels"),
    ({"id": "a", "width": 5.5, "height": 5}, "width: 5.5"),
    ({"width": 5, "height": 5}, "id: absent"),
    ({"id": "a", "width": 5, "height": 5, "path": "x"}, "path: no key of a picture; there are id"),
    ({"id": "a", "width": 5, "height": 5, "file": 3}, "file: 3"),
    ({"id": "a", "width": 5, "height": 5, "regions": 3}, "regions: 3; expected a list"),
    ({"id": "a", "width": 5, "height": 5, "regions": [3]}, r"regions\[0\]: 3; expected an object"),
    ({"id": "a", "width": 5, "height": 5, "regions": [{"box": [0, 0, 6, 5]}]}, r"regions\[0\].box: .* of 5 x 5"),
    (
        {"id": "a", "width": 5, "height": 5, "regions": [{"box": [0, 4, 5, 4]}]},
        r"regions\[0\].box: .*inverted or empty",
    ),
    ({"id": "a", "width": 5, "height": 5, "regions": [{"box": [0, 0, 1, 1], "class": "x"}]}, "class: no key"),
    ({"id": "a", "width": 5, "height": 5, "regions": [{"box": [0, 0, 1, 1], "confidence": 2}]}, "confidence: 2"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_PICTURES)
def test_bad_pictures_are_named(tmp_path: Path, row: object, reason: str):
    (tmp_path / "pictures.jsonl").write_text('{"id": "ok", "width": 1, "height": 1}\n' + json.dumps(row))
    with pytest.raises(DataError, match=rf"pictures.jsonl:2: .*{reason}"):
        Collection(tmp_path).pictures


def test_ids_come_once(folder: Path):
    path = folder / "vqa" / "bad.jsonl"
    path.write_text("\n".join(json.dumps({**GOOD, "uid": uid}) for uid in ("a", "b", "a", "c", "b")))
    with pytest.raises(DataError, match=r"2 of the uids come again:\n.*:3: uid: a was .*line 1\n.*:5: uid: b .*line 2"):
        Collection(folder).examples("vqa", "bad")
    path = folder / "pictures.jsonl"
    path.write_text(path.read_text() + '{"id": "p1", "width": 1, "height": 1}\n')
    with pytest.raises(DataError, match=r"pictures.jsonl:3: id: p1 was there before, on line 1"):
        Collection(folder).pictures


def test_many_bad_lines_are_counted(folder: Path):
    (folder / "vqa" / "bad.jsonl").write_text("{}\n" * 1000)
    with pytest.raises(DataError, match=r"1,000 bad lines:(\n  .*){20}\n  and 980 more\nExpected one example a line"):
        Collection(folder).examples("vqa", "bad")


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path):
    collection = Collection(folder)
    with pytest.raises(NoSuchSplit, match=r"no split dev of vqa; there are: vqa: train; gqa: train;"):
        collection.examples("vqa", "dev")
    with pytest.raises(UsageError, match="no task vqu; expected one of vqa, gqa"):
        collection.examples("vqu", "dev")
    with pytest.raises(UsageError, match=r"cannot be called '\.\./x'"):
        collection.examples("vqa", "../x")
    with pytest.raises(DataError, match=r"holds no pictures.jsonl; expected a collection"):
        Collection(tmp_path)
    with pytest.raises(DataError, match=r"is no folder with a pictures.jsonl"):
        Collection(tmp_path / "nowhere")
    with pytest.raises(DataError, match="picture p2 has no file"):
        collection.file_of("p2")
    with pytest.raises(DataError, match=r"images/p1.png, does not exist"):
        collection.file_of("p1")
    with pytest.raises(DataError, match="has no picture p7"):
        collection.file_of("p7")
    (folder / "images").mkdir()
    (folder / "images/p1.png").touch()
    assert collection.file_of("p1") == folder / "images/p1.png"


@pytest.mark.parametrize(
    ("pictures", "examples", "reason"),
    [
        ([Picture("a", 0, 1)], [], "picture a: width: 0"),
        ([Picture("a", 1, 1)] * 2, [], "picture a is to be written twice"),
        ([], [Example("1", "gqa", (), "a")], "example 1, 1: task: gqa; expected vqa"),
        ([], [Example("1", "vqa", ("x",), "a")], r"example 1, 1: pictures\[0\]: there is no picture x"),
        ([], [Example("1", "vqa", (), "a")] * 2, "example 2: uid 1 was there before"),
        ([], [Example("1", "vqa", (), "a", (), {"text": "b"})], "text: among the task's own keys"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, pictures, examples, reason: str):
    with pytest.raises(DataError, match=reason):
        write_collection(tmp_path, pictures, {("vqa", "train"): examples})
    assert not (tmp_path / "vqa/train.jsonl").exists() and not list(tmp_path.rglob(".*"))


def test_lines_are_not_kept(tmp_path: Path):
    """Less than a hundred bytes an example, of lines four times as long."""
    count = 3000
    more = {"annotations": ["a rather long answer"] * 10}
    examples = (Example(str(i), "vqa", ("p1",), "what is it?", (Answer("red"),), more) for i in range(count))
    write_collection(tmp_path, PICTURES, {("vqa", "train"): examples})
    collection = Collection(tmp_path)
    collection.pictures
    tracemalloc.start()
    try:
        found = collection.examples("vqa", "train")
        assert len(found) == count
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 100 * count and (tmp_path / "vqa/train.jsonl").stat().st_size > 300 * count
    assert [found[i].uid for i in (0, 17, count - 1)] == ["0", "17", "2999"]
    assert found.picture_offsets.tolist() == list(range(count + 1)) and not np.any(found.picture_places)
