"""Public data sets in their own forms become collections."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from public_files import GOOD, PLAIN, Put, refcoco_files
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.importers import import_data
from quincunx.recipes.vision_language.data.record import Answer, Example, Region


def test_vqa(put: Put, pictures, tmp_path: Path):
    said = ["yes"] * 7 + ["no"] * 2 + ["maybe"]
    questions = put(
        "v2_OpenEnded_mscoco_val2014_questions.json",
        {
            "info": {},
            "questions": [
                {"image_id": 262148, "question": "Is it red?", "question_id": 262148000},
                {"image_id": 42, "question": "How many?", "question_id": 42000},
            ],
        },
    )
    answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i, answer in enumerate(said)]
    rest = {"multiple_choice_answer": "yes", "question_type": "is it", "answer_type": "yes/no"}
    annotations = put(
        "annotations.json",
        {
            "annotations": [
                {"question_id": 42000, "image_id": 42, "answers": [{"answer": "2"}] * 10, **rest},
                {"question_id": 262148000, "image_id": 262148, "answers": answers, **rest},
            ]
        },
    )
    folder = pictures("val2014/COCO_val2014_000000262148.jpg", "val2014/COCO_val2014_000000000042.jpg")
    found = import_data("vqa", [questions, annotations], tmp_path / "out", pictures=folder)
    assert (found.examples, found.pictures, found.missing) == ({("vqa", "dev"): 2}, 2, 0)
    collection = Collection(tmp_path / "out")
    first = collection.examples("vqa", "dev")[0]
    assert first == Example(
        "262148000",
        "vqa",
        ("COCO_val2014_000000262148",),
        "Is it red?",
        (Answer("yes"), Answer("no", 2 / 3), Answer("maybe", 1 / 3)),
        {"annotations": said, "question_type": "is it", "answer_type": "yes/no"},
    )
    picture = collection.pictures["COCO_val2014_000000262148"]
    assert (picture.width, picture.height) == (40, 30)
    with Image.open(collection.file_of(picture)) as image:
        assert image.size == (40, 30)
    hidden = import_data("vqa", [questions], tmp_path / "out", split="test")
    assert hidden.examples == {("vqa", "test"): 2}, "pictures of the collection are known"
    assert collection.examples("vqa", "test")[0].answers == ()


def test_vqa_of_lines_with_text_alone(tmp_path: Path):
    """Real questions and answers of VQA v2, without their pictures."""
    if "QUINCUNX_DATA" not in os.environ:
        pytest.skip("QUINCUNX_DATA names no data folder")
    path = Path(os.environ["QUINCUNX_DATA"]) / "vqa2_text/valid.jsonl"
    found = import_data("vqa", [path], tmp_path / "out", text_only=True)
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert found.examples == {("vqa", "dev"): len(rows)} and found.pictures == 0
    examples = Collection(tmp_path / "out").examples("vqa", "dev")
    for row, example in zip(rows, examples, strict=True):
        assert (example.uid, example.text) == (str(row["question_id"]), row["question"])
        assert example.more["annotations"] == row["answers"]
        counts = {text: row["answers"].count(text) for text in row["answers"]}
        assert {answer.text: answer.weight for answer in example.answers} == {
            text: min(1, count / 3) for text, count in counts.items()
        }


def test_gqa(put: Put, pictures, tmp_path: Path):
    question = {
        "question": "Is the sky dark?",
        "imageId": "2354786",
        "answer": "yes",
        "fullAnswer": "Yes, it is.",
        "isBalanced": True,
        "groups": {"global": None, "local": "06-sky_dark"},
        "types": {"detailed": "verifyAttr", "semantic": "attr", "structural": "verify"},
        "semantic": [{"operation": "select", "dependencies": [], "argument": "sky (2486325)"}],
    }
    path = put("val_balanced_questions.json", {"05515938": question, "1": {"question": "a?", "imageId": "n1"}})
    import_data("gqa", [path], tmp_path / "out", pictures=pictures("2354786.jpg", "n1.jpg"))
    first, second = Collection(tmp_path / "out").examples("gqa", "dev")
    assert (first.uid, first.pictures, first.answers) == ("05515938", ("2354786",), (Answer("yes"),))
    assert first.more == {
        "types": question["types"],
        "group": "06-sky_dark",
        "program": question["semantic"],
    }
    assert (second.answers, second.more) == ((), {})


def test_lxmert_lists(put: Put, pictures, tmp_path: Path):
    folder = pictures("COCO_val2014_000000000042.jpg", "dev-1-0-img0.png", "dev-1-0-img1.png")
    rows = [
        {
            "answer_type": "other",
            "img_id": "COCO_val2014_000000000042",
            "label": {"net": 1, "tennis net": 0.3},
            "question_id": 9,
            "question_type": "what is",
            "sent": "What is it?",
        }
    ]
    out = tmp_path / "out"
    import_data("lxmert-vqa", [put("minival.json", rows)], out, pictures=folder)
    (example,) = Collection(out).examples("vqa", "dev")
    assert example.answers == (Answer("net"), Answer("tennis net", 0.3))
    assert example.more == {"answer_type": "other", "question_type": "what is"}
    gqa = [{"img_id": "COCO_val2014_000000000042", "label": {"pipe": 1.0}, "question_id": "07", "sent": "What?"}]
    import_data("lxmert-gqa", [put("testdev.json", gqa)], out)
    assert Collection(out).examples("gqa", "test")[0].answers == (Answer("pipe"),)
    nlvr = [
        {
            "identifier": f"dev-1-0-{n}",
            "img0": "dev-1-0-img0",
            "img1": "dev-1-0-img1",
            "label": n,
            "sent": "b",
            "uid": n,
        }
        for n in (0, 1)
    ]
    import_data("lxmert-nlvr", [put("valid.json", nlvr)], out, pictures=folder)
    examples = Collection(out).examples("nlvr", "dev")
    assert [example.answers[0].text for example in examples] == ["false", "true"]
    assert examples[0].more == {"identifier": "dev-1-0"} and examples[0].pictures == ("dev-1-0-img0", "dev-1-0-img1")


def test_nlvr2(put: Put, pictures, tmp_path: Path):
    rows = [
        {"identifier": f"test1-7-{pair}-2", "sentence": "Two dogs.", "label": label, "left_url": "http://a"}
        for pair, label in enumerate(["True", "False"])
    ]
    path = put("test1.json", "".join(json.dumps(row) + "\n" for row in rows))
    names = [f"test1-7-{pair}-img{side}.png" for pair in (0, 1) for side in (0, 1)]
    import_data("nlvr2", [path], tmp_path / "out", pictures=pictures(*names), split="test1")
    one, two = Collection(tmp_path / "out").examples("nlvr", "test1")
    assert one.pictures == ("test1-7-0-img0", "test1-7-0-img1") and one.answers == (Answer("true"),)
    assert one.more == two.more == {"identifier": "test1-7-2"} and two.answers == (Answer("false"),)


def test_nlvr(tmp_path: Path):
    """The published development set: one picture of three boxes, whose objects are where the regions say."""
    if "QUINCUNX_DATA" not in os.environ:
        pytest.skip("QUINCUNX_DATA names no data folder")
    folder = Path(os.environ["QUINCUNX_DATA"]) / "nlvr"
    found = import_data("nlvr", [folder / "dev.jsonl"], tmp_path / "out", pictures=folder, skip_missing=True)
    collection = Collection(tmp_path / "out")
    examples = collection.examples("nlvr", "dev")
    assert found.examples == {("nlvr", "dev"): len(examples)} and len(examples) > 900
    groups = {example.more["identifier"] for example in examples}
    assert len(examples) / 4.5 < len(groups) < len(examples) / 2.5
    share = sum(example.answers[0].text == "true" for example in examples) / len(examples)
    assert 0.4 < share < 0.65
    colours = {"blue": (0, 153, 255), "yellow": (255, 255, 0), "black": (0, 0, 0)}
    seen = 0
    for picture in list(collection.pictures.values())[:60]:
        with Image.open(collection.file_of(picture)) as image:
            pixels = image.convert("RGB")
        assert pixels.size == (picture.width, picture.height) == (400, 100)
        for region in picture.regions:
            x1, y1, x2, y2 = region.box
            middle = pixels.getpixel((int(x1 + x2) // 2, min(int(y1 + 0.7 * (y2 - y1)), 99)))
            assert isinstance(middle, tuple)
            wanted = colours[str(region.attribute)]
            seen += max(abs(a - b) for a, b in zip(middle, wanted, strict=True)) < 40
    total = sum(len(picture.regions) for picture in list(collection.pictures.values())[:60])
    assert seen > 0.97 * total, "objects that others cover apart"


def test_nlvr_in_its_first_form(put: Put, pictures, tmp_path: Path):
    rep = [[{"type": "square", "color": "#0099ff", "size": 20, "x_loc": 90, "y_loc": 5}], [], []]
    row = {"identifier": "77-3", "sentence": "One.", "label": "false", "structured_rep": rep, "directory": "1"}
    path = put("dev.json", json.dumps(row) + "\n")
    import_data("nlvr", [path], tmp_path / "out")
    collection = Collection(tmp_path / "out")
    (example,) = collection.examples("nlvr", "dev")
    assert example.more == {"identifier": "77"} and example.pictures == ("dev-77-3-0",)
    assert collection.pictures["dev-77-3-0"].regions == (Region((90, 5, 100, 25), "square", "blue"),)


def karpathy_file() -> dict:
    def picture(number: int, split: str, *texts: str) -> dict:
        sentences = [{"raw": text, "tokens": text.split(), "imgid": number, "sentid": 9} for text in texts]
        file = {"filepath": "val2014", "filename": f"COCO_val2014_{number:012d}.jpg", "cocoid": number}
        return {**file, "split": split, "sentences": sentences}

    return {
        "dataset": "coco",
        "images": [
            picture(1, "train", "A cat.", "One cat. "),
            picture(2, "restval", "A dog."),
            picture(3, "val", "A cow."),
            picture(4, "test", "A pig.", "A pig."),
        ],
    }


def test_karpathy(put: Put, pictures, tmp_path: Path):
    folder = pictures(*(f"COCO_val2014_{number:012d}.jpg" for number in range(1, 5)))
    path = put("dataset_coco.json", karpathy_file())
    found = import_data("karpathy", [path], tmp_path / "out", pictures=folder)
    assert found.examples == {("caption", "train"): 2, ("caption", "dev"): 1, ("caption", "test"): 1}
    train = Collection(tmp_path / "out").examples("caption", "train")
    assert [example.uid for example in train] == ["1", "2"]
    assert train[0].answers == (Answer("A cat."), Answer("One cat.")) and train[0].text == ""
    assert train[0].more["references"] == ["A cat.", "One cat."]
    only = import_data("karpathy", [path], tmp_path / "only", pictures=folder, split="test")
    assert only.examples == {("caption", "test"): 1} and only.pictures == 1


@pytest.mark.parametrize("with_files", [False, True])
def test_refcoco(put: Put, pictures, tmp_path: Path, with_files: bool):
    folder = pictures("train2014/COCO_train2014_000000000005.jpg") if with_files else None
    found = import_data("refcoco", refcoco_files(put), tmp_path / "out", pictures=folder)
    assert found.examples == {("refcoco", "train"): 1, ("refcoco", "dev"): 1, ("refcoco", "testA"): 1}
    collection = Collection(tmp_path / "out")
    (example,) = collection.examples("refcoco", "dev")
    assert example == Example(
        "20", "refcoco", ("COCO_train2014_000000000005",), "Left dog", (), {"box": [20, 0, 40, 30], "ref": "2"}
    )
    (picture,) = collection.pictures.values()
    assert picture.regions == (Region((1, 2, 11, 22), "dog"), Region((20, 0, 40, 30), "cat"))
    assert (picture.file is not None) == with_files


def test_refcoco_of_python_2(put: Put, tmp_path: Path):
    """Its strings are bytes."""
    path, instances = refcoco_files(put)

    def old(value: Any) -> Any:
        if isinstance(value, dict):
            return {old(key): old(each) for key, each in value.items()}
        if isinstance(value, list):
            return [old(each) for each in value]
        return value.encode() if isinstance(value, str) else value

    path.write_bytes(pickle.dumps(old(pickle.loads(path.read_bytes())), protocol=2))
    found = import_data("refcoco", [path, instances], tmp_path / "out")
    assert sum(found.examples.values()) == 3


def test_pickles_are_not_run(put: Put, tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "harm"),))

    path, instances = refcoco_files(put)
    path.write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(DataError, match="nothing of the file was run"):
        import_data("refcoco", [path, instances], tmp_path / "out")
    assert not (tmp_path / "harm").exists() and not (tmp_path / "out").exists()


def vcr_row() -> dict:
    return {
        "img_fn": "movie/1.jpg",
        "metadata_fn": "movie/1.json",
        "objects": ["person", "person", "chair"],
        "question": ["Why", "is", [0, 1], "here", "?"],
        "answer_choices": [["On", [2], "."], ["b"], ["c"], ["d"]],
        "answer_label": 0,
        "rationale_choices": [["e"], ["f"], ["g"], ["h"]],
        "rationale_label": 3,
        "annot_id": "val-0",
    }


def test_vcr(put: Put, pictures, tmp_path: Path):
    folder = pictures("movie/1.jpg")
    about = {"boxes": [[0, 0, 9, 9, 0.9], [1, 1, 41, 9, 0.8], [5, 5, 9, 9, 1.0]], "width": 40, "height": 30}
    (folder / "movie/1.json").write_text(json.dumps(about))
    import_data("vcr", [put("val.jsonl", [vcr_row()])], tmp_path / "out", pictures=folder)
    collection = Collection(tmp_path / "out")
    (example,) = collection.examples("vcr", "dev")
    assert example.text == "Why is person0 and person1 here ?"
    assert example.more["choices"] == ["On chair2 .", "b", "c", "d"] and example.more["label"] == 0
    assert example.more["rationales"] == list("efgh") and example.more["rationale_label"] == 3
    regions = collection.pictures[example.pictures[0]].regions
    assert regions[1] == Region((1, 1, 40, 9), "person", None, 0.8)
    with pytest.raises(UsageError, match="vcr needs --pictures"):
        import_data("vcr", [put("val.jsonl", [vcr_row()])], tmp_path / "new")
    for key, value, reason in (
        ("question", ["Who", [3]], r"val.jsonl:1: question or choices: \[3\]; expected a word, or numbers below 3"),
        ("objects", ["person"], r"1.json: boxes: 3 for 1 objects"),
        ("metadata_fn", "../../secret.json", "lies outside of"),
        ("answer_choices", [["a"]], "val.jsonl:1: vcr/dev: example val-0: choices: 1; expected 4"),
        ("answer_label", 7, "label: 7; expected the right one's number"),
    ):
        with pytest.raises(DataError, match=reason):
            import_data("vcr", [put("val.jsonl", [{**vcr_row(), key: value}])], tmp_path / "new", pictures=folder)


def test_multi30k(put: Put, pictures, tmp_path: Path):
    files = [put("train.en", "A man .\nA dog.\n"), put("train.de", "Ein Mann .\nEin Hund.\n")]
    found = import_data("multi30k", files, tmp_path / "text")
    assert (found.examples, found.pictures) == ({("mmt", "train"): 2}, 0)
    names = put("train_images.txt", "1007.jpg#0\n1009.jpg\n")
    import_data("multi30k", [*files, names], tmp_path / "out", pictures=pictures("1007.jpg", "1009.jpg"))
    assert Collection(tmp_path / "out").examples("mmt", "train")[0] == Example(
        "1", "mmt", ("1007",), "A man .", (Answer("Ein Mann ."),)
    )
    with pytest.raises(DataError, match=r"train.de has 1 lines, .*train.en 2; expected one for one"):
        import_data("multi30k", [files[0], put("train.de", "Ein Mann .\n")], tmp_path / "new")
    with pytest.raises(UsageError, match="found 1 files"):
        import_data("multi30k", files[:1], tmp_path / "new")


@pytest.mark.parametrize("splits", [False, True])
def test_classes(pictures, tmp_path: Path, splits: bool):
    names = ("polar_bear/1.jpg", "polar_bear/2.png", "cat/1.jpg")
    folder = pictures(*(f"{split}/{name}" for split in ("train", "val") for name in names) if splits else names)
    found = import_data("classes", [folder], tmp_path / "out")
    collection = Collection(tmp_path / "out")
    if splits:
        assert found.examples == {("cls", "train"): 3, ("cls", "dev"): 3} and found.pictures == 6
    else:
        assert found.examples == {("cls", "train"): 3} and found.pictures == 3
    answers = [example.answers[0].text for example in collection.examples("cls", "train")]
    assert sorted(answers) == ["cat", "polar bear", "polar bear"]
    assert all(example.more["classes"] == ["cat", "polar bear"] for example in collection.examples("cls", "train"))
    for example in collection.examples("cls", "train"):
        file = collection.file_of(example.pictures[0])
        assert file.parent.name.replace("_", " ") == example.answers[0].text
    with pytest.raises(DataError, match="has no folders of classes"):
        import_data("classes", [folder / "cat" if not splits else folder / "train/cat"], tmp_path / "new")
    with pytest.raises(UsageError, match="classes takes one folder"):
        import_data("classes", [folder, folder], tmp_path / "new")


def test_plain_lines(put: Put, tmp_path: Path):
    rows = [
        {"picture": "a.png", "question": "What?", "answer": "red", "source": "mine"},
        {"pictures": ["a.png", "b.png"], "question": "Why?", "answers": ["a", "a", "b"], "id": "mine-2"},
        {"pictures": [], "question": "Hidden?"},
    ]
    path = put("train.jsonl", rows)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (7, 5)).save(path.parent / name)
    import_data("plain", [path], tmp_path / "out")
    first, second, third = Collection(tmp_path / "out").examples("vqa", "train")
    assert first == Example("1", "vqa", ("a",), "What?", (Answer("red"),), {"source": "mine"})
    assert second == Example("mine-2", "vqa", ("a", "b"), "Why?", (Answer("a", 2 / 3), Answer("b", 1 / 3)))
    assert (third.uid, third.pictures, third.answers) == ("3", (), ())
    captions = put("dev.jsonl", [{"image": "b.png", "captions": ["x", "y"]}])
    found = import_data("plain", [captions], tmp_path / "out", task="caption", pictures=captions.parent)
    assert found.examples == {("caption", "dev"): 1} and found.pictures == 2
    with pytest.raises(UsageError, match="no task quiz"):
        import_data("plain", [path], tmp_path / "new", task="quiz")


def test_lines_of_text_alone(put: Put, tmp_path: Path):
    """Sentences to translate have no pictures, and a question may do without them where that is said."""
    path = put("train.jsonl", [{"question": "a?", "answer": "b"}])
    import_data("plain", [path], tmp_path / "mmt", task="mmt")
    import_data("plain", [path], tmp_path / "vqa", text_only=True)
    for task in ("mmt", "vqa"):
        (example,) = Collection(tmp_path / task).examples(task, "train")
        assert (example.pictures, example.answers) == ((), (Answer("b"),))


def test_files_go_to_the_splits_that_their_names_say(put: Put, pictures, tmp_path: Path):
    """Each to its own where none is said, all to the one that is."""
    folder = pictures("1.jpg", "a-1-0-img0.jpg", "a-1-0-img1.jpg")
    (folder / "1.json").write_text(json.dumps({"boxes": [[0, 0, 9, 9]] * 3, "width": 40, "height": 30}))
    rep = [[{"type": "square", "color": "yellow", "size": 9, "x_loc": 1, "y_loc": 1}], [], []]
    pair = {"identifier": "a-1-0-2", "img0": "a-1-0-img0", "img1": "a-1-0-img1", "sent": "b", "sentence": "b"}
    asked = {"img_id": "1", "sent": "a?", "label": {"b": 1}}
    own = {"img_fn": "1.jpg", "metadata_fn": "1.json"}

    def rows(*names: str) -> list[dict[str, Any]]:
        return [{**PLAIN, "id": name} for name in names]

    made: dict[str, tuple[str, Callable[[str], Any]]] = {
        "plain": ("vqa", rows),
        "gqa": ("gqa", lambda name: {name: {"question": "a?", "imageId": "1"}}),
        "nlvr": ("nlvr", lambda name: [{"identifier": name, "sentence": "b", "image": "1", "structured_rep": rep}]),
        "nlvr2": ("nlvr", lambda name: [{**pair, "identifier": f"a-{name[-1]}-0-2"}]),
        "vcr": ("vcr", lambda name: [{**vcr_row(), **own, "annot_id": name}]),
        "lxmert-vqa": ("vqa", lambda name: [{**asked, "question_id": name}]),
        "lxmert-gqa": ("gqa", lambda name: [{**asked, "question_id": name}]),
        "lxmert-nlvr": ("nlvr", lambda name: [{**pair, "uid": name}]),
    }
    lines = ("plain", "nlvr", "nlvr2", "vcr")
    for kind, (task, content) in made.items():
        options = {} if kind == "nlvr" else {"pictures": folder}
        files = [
            put(f"{kind}/{name}.json{'l' * (kind in lines)}", content(f"{name}{number}"))
            for number, name in enumerate(("val", "test_a", "test_b"), start=1)
        ]
        if kind == "nlvr2":
            pictures(*(f"a-{number}-0-img{side}.jpg" for number in "123" for side in (0, 1)))
        found = import_data(kind, files, tmp_path / kind, **options)
        assert found.examples == {(task, "dev"): 1, (task, "test"): 2}, kind
        dev, test = (Collection(tmp_path / kind).examples(task, split) for split in ("dev", "test"))
        assert len({example.uid for example in (*dev, *test)}) == 3, kind
        found = import_data(kind, files, tmp_path / "one" / kind, split="mine", **options)
        assert found.examples == {(task, "mine"): 3}, kind
    unsaid = put("more.jsonl", rows("4"))
    with pytest.raises(UsageError, match=r"more.jsonl: its name does not say which split"):
        import_data("plain", [put("train.jsonl", rows("1")), unsaid], tmp_path / "new", pictures=folder)


def test_lines_without_names_are_numbered_within_their_split(put: Put, pictures, tmp_path: Path):
    files = [put(f"{name}.jsonl", [PLAIN, PLAIN]) for name in ("val", "test", "val_more")]
    import_data("plain", files, tmp_path / "out", pictures=pictures("1.jpg"))
    collection = Collection(tmp_path / "out")
    assert [example.uid for example in collection.examples("vqa", "dev")] == ["1", "2", "3", "4"]
    assert [example.uid for example in collection.examples("vqa", "test")] == ["1", "2"]


def test_files_that_are_read_together_are_of_one_split(put: Put, tmp_path: Path):
    sentences = [put("train.en", "A man.\n"), put("val.de", "Ein Mann.\n")]
    with pytest.raises(
        UsageError, match=r"val.de is of dev by its name and .*train.en of train, but they are read tog"
    ):
        import_data("multi30k", sentences, tmp_path / "out")
    lines = [put(f"{name}.jsonl", [GOOD]) for name in ("train", "val")]
    with pytest.raises(UsageError, match=r"val.jsonl is of dev"):
        import_data("vqa", lines, tmp_path / "out", text_only=True)
    found = import_data("multi30k", sentences, tmp_path / "out", split="train")
    assert found.examples == {("mmt", "train"): 1}


def test_one_picture_has_one_id_in_all_data_sets(put: Put, pictures, tmp_path: Path):
    """VQA names it by number, Karpathy by file, LXMERT by stem: features are stored once."""
    folder = pictures(*(f"val2014/COCO_val2014_{number:012d}.jpg" for number in range(1, 5)))
    out = tmp_path / "out"
    import_data("karpathy", [put("dataset_coco.json", karpathy_file())], out, pictures=folder)
    questions = put("val.jsonl", [{"question_id": 7, "image_id": 3, "question": "a?", "answers": ["b"]}])
    import_data("vqa", [questions], out, pictures=folder)
    collection = Collection(out)
    assert len(collection.pictures) == 4
    assert collection.examples("vqa", "dev")[0].pictures == collection.examples("caption", "dev")[0].pictures
