"""What is missing or wrong in files of public data sets is said with its place, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from public_files import GOOD, PLAIN, Put, refcoco_files
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.folder import Collection, write_collection
from quincunx.recipes.vision_language.data.importers import KINDS, import_data
from quincunx.recipes.vision_language.data.record import Picture, Region
from quincunx.verbs.data import IMPORTED


def test_pictures_known_by_features_alone(put: Put, pictures, tmp_path: Path):
    """Their ids are kept, whatever a file is called, and they get their file when one is named."""
    out = tmp_path / "out"
    known = Picture("42", 40, 30, None, (Region((0, 0, 5, 5), "dog"),))
    write_collection(out, [known], {})
    questions = put("val.jsonl", [{"question_id": 7, "image_id": 42, "question": "a?", "answers": ["b"]}])
    import_data("vqa", [questions], out, pictures=pictures("COCO_val2014_000000000042.jpg"))
    (picture,) = Collection(out).pictures.values()
    assert picture.id == "42" and picture.regions == known.regions and picture.file is not None


def test_missing_pictures(put: Put, pictures, tmp_path: Path):
    rows = [{"question_id": n, "image_id": n, "question": "a?", "answers": ["b"]} for n in (1, 2, 3)]
    path, folder = put("val.jsonl", rows), pictures("1.jpg", "3.jpg")
    with pytest.raises(DataError, match=r"val.jsonl:2: there is no picture 2 in .*pictures; --skip-missing leaves"):
        import_data("vqa", [path], tmp_path / "out", pictures=folder)
    assert not (tmp_path / "out").exists(), "nothing is written where something is wrong"
    with pytest.raises(DataError, match=r"no picture 1 in .*; say with --pictures where"):
        import_data("vqa", [path], tmp_path / "out")
    found = import_data("vqa", [path], tmp_path / "out", pictures=folder, skip_missing=True)
    assert (found.examples, found.missing, found.pictures) == ({("vqa", "dev"): 2}, 1, 2)
    with pytest.raises(DataError, match="no examples; 3 pictures are not there"):
        import_data("vqa", [path], tmp_path / "new", skip_missing=True)
    assert not (tmp_path / "new").exists()
    pictures("more/1.jpg")
    with pytest.raises(DataError, match=r"picture 1 may be 1.jpg or more/1.jpg"):
        import_data("vqa", [path], tmp_path / "new", pictures=folder)
    (folder / "2.jpg").write_bytes(b"no picture")
    (folder / "more/1.jpg").unlink()
    with pytest.raises(DataError, match=r"2.jpg is no picture that can be read"):
        import_data("vqa", [path], tmp_path / "new", pictures=folder)


def test_turned_pictures_have_the_size_that_is_seen(put: Put, tmp_path: Path):
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif[274] = 6
    path = put("train.jsonl", [{"picture": "a.jpg", "question": "a?"}])
    image.save(path.parent / "a.jpg", exif=exif)
    import_data("plain", [path], tmp_path / "out")
    assert Collection(tmp_path / "out").pictures.sizes.tolist() == [[30, 40]]


@pytest.mark.parametrize(
    ("kind", "name", "content", "reason"),
    [
        ("vqa", "val.json", "{", r"val.json: no sound JSON"),
        ("vqa", "val.json", {"annotations": []}, r"val.json: .*; expected a list or an object with questions"),
        ("vqa", "val.json", [3], r"val.json: \[0\]: 3; expected an object"),
        ("vqa", "val.jsonl", [{**GOOD, "question": None}], "val.jsonl:1: question: absent; expected a text"),
        ("vqa", "val.jsonl", [GOOD, {**GOOD, "question_id": None}], "val.jsonl:2: question_id: None; expected an id"),
        ("vqa", "val.jsonl", [GOOD, GOOD], "val.jsonl:2: vqa/dev: the example 1 comes twice, first at .*val.jsonl:1$"),
        ("vqa", "val.jsonl", [{**GOOD, "answers": [3]}], "val.jsonl:1: answers: 3; expected a text"),
        ("vqa", "val.jsonl", [{**GOOD, "answers": "b"}], "val.jsonl:1: answers: 'b'; expected a list"),
        ("vqa", "val.jsonl", [{**GOOD, "question": " "}], "val.jsonl:1: vqa/dev: example 1: text: empty"),
        ("vqa", "val.jsonl", [], "val.jsonl: no examples: the file is empty"),
        ("gqa", "val.json", "\n \n", "val.json: no examples: the file is empty"),
        ("gqa", "val.json", [1], "expected an object of questions by id"),
        ("gqa", "val.json", {"1": 3}, "val.json: 1: 3; expected an object"),
        ("gqa", "val.json", {"1": {"imageId": "1", "question": "a?", "types": 3}}, "1: types: 3; expected an object"),
        ("lxmert-vqa", "val.json", [{"label": {"a": 2}}], r"\[0\]: label: a has 2; expected a score from 0 to 1"),
        ("karpathy", "a.json", {"images": [{"split": "train"}]}, r"images\[0\]: sentences: absent; expected a list"),
        ("nlvr2", "dev.json", '{"identifier": "a"}', "dev.json:1: identifier: a; expected split-set-pair-sentence"),
        ("nlvr", "dev.json", '{"identifier": "a-0", "sentence": "b", "label": "yes"}', "label: 'yes'; expected true"),
        ("nlvr", "dev.json", '{"identifier": "a", "structured_rep": [3]}', "structured_rep: 3; expected a list of obj"),
        (
            "plain",
            "train.jsonl",
            [{**PLAIN, "answer": 3}],
            'train.jsonl:1: answer: 3; expected a text or a list of texts: write "3", in quotes',
        ),
        ("plain", "train.jsonl", [{**PLAIN, "answers": ["a", True]}], 'a list of texts: write "true", in quotes'),
        ("plain", "train.jsonl", [{**PLAIN, "answer": {}}], "answer: {}; expected a text or a list of texts$"),
        (
            "plain",
            "train.jsonl",
            [PLAIN, {"picture": "1.jpg", "query": "a?"}],
            "train.jsonl:2: question: absent; vqa needs a text. The line has picture, query; expected question, text, ",
        ),
        ("plain", "train.jsonl", [{"picture": "1.jpg", "Qestion": "a?"}], r"did you mean question by Qestion\?"),
        (
            "plain",
            "train.jsonl",
            [{"question": "a?", "pictrue": "1.jpg"}],
            r"train.jsonl:1: picture: absent; vqa asks about one; where there is none, write \"pictures\": \[\]\. "
            r"The line has question, pictrue; .*did you mean picture by pictrue\?",
        ),
        ("plain", "train.jsonl", [{"question": "a?", "picture": None}], "picture: absent"),
        ("plain", "train.jsonl", [{**PLAIN, "answr": "b"}], r"answer: absent; .*did you mean answer by answr\?"),
    ],
)
def test_wrong_values_are_placed(put: Put, pictures, tmp_path: Path, kind: str, name: str, content: Any, reason: str):
    with pytest.raises(DataError, match=reason):
        folder = None if kind == "nlvr" else pictures("1.jpg")
        import_data(kind, [put(name, content)], tmp_path / "out", pictures=folder)
    assert not (tmp_path / "out").exists()


def test_wrong_references_are_placed(put: Put, tmp_path: Path):
    path, instances = refcoco_files(put)
    whole = json.loads(instances.read_text())
    for change, reason in (
        ({"annotations": []}, r"refs\(unc\).p\[0\]: ann_id: 70 of picture 5 is not in .*instances.json"),
        ({"categories": []}, r"annotations\[0\]: category_id: 1 is none of the categories"),
        ({"images": []}, r"annotations\[0\]: image_id: 5 is none of the images"),
        (
            {"annotations": [{**whole["annotations"][0], "bbox": [50, 0, 5, 5]}]},
            r"bbox: .* out of the picture of 40 x 30",
        ),
        ({"annotations": [{**whole["annotations"][0], "bbox": [1, 2]}]}, r"bbox: \[1, 2\]; expected x, y, width"),
    ):
        instances.write_text(json.dumps({**whole, **change}))
        with pytest.raises(DataError, match=reason):
            import_data("refcoco", [path, instances], tmp_path / "out")


def test_wrong_calls_are_refused(put: Put, pictures, tmp_path: Path):
    path, out = put("questions.jsonl", [GOOD]), tmp_path / "out"
    with pytest.raises(UsageError, match="nothing is imported as coco; expected one of plain, classes, vqa"):
        import_data("coco", [path], out)
    with pytest.raises(UsageError, match="its name does not say which split it is; say it with --split"):
        import_data("vqa", [path], out, pictures=pictures("1.jpg"))
    with pytest.raises(UsageError, match="text only: no pictures are looked for"):
        import_data("vqa", [path], out, text_only=True, pictures=pictures("1.jpg"))
    with pytest.raises(UsageError, match="karpathy has no meaning without pictures"):
        import_data("karpathy", [path], out, text_only=True)
    with pytest.raises(UsageError, match="only plain takes one"):
        import_data("vqa", [path], out, task="vqa")
    with pytest.raises(UsageError, match="cannot be called 'a/b'"):
        import_data("vqa", [path], out, split="a/b", text_only=True)
    with pytest.raises(UsageError, match="found 3 files"):
        import_data("vqa", [path] * 3, out, text_only=True)
    with pytest.raises(UsageError, match="vqa needs files: VQA v2: a file of questions and one of annotations"):
        import_data("vqa", [], out)
    with pytest.raises(DataError, match="is no folder of pictures"):
        import_data("vqa", [path], out, pictures=tmp_path / "nowhere")
    for kind, split in (("gqa", "dev"), ("gqa", None), ("plain", None), ("classes", None)):
        with pytest.raises(DataError, match=r"nowhere.json does not exist"):
            import_data(kind, [path, tmp_path / "no folder/nowhere.json"], out, split=split)
    with pytest.raises(DataError, match=r"in is a folder; plain takes files: JSON lines: \{\"picture\""):
        import_data("plain", [path.parent], out)
    import_data("vqa", [path], out, split="dev", text_only=True)
    with pytest.raises(UsageError, match=r"vqa/dev.jsonl is already there"):
        import_data("vqa", [path], out, split="dev", text_only=True)
    assert all((importer.__doc__ or "").strip() for importer in KINDS.values())


def test_the_verb_imports(put: Put, pictures, cli, work: Path):
    rows = [{"question_id": n, "image_id": n, "question": "a?", "answers": ["b"]} for n in (1, 2)]
    said = cli("data", "import", "vqa", put("val.jsonl", rows), "--out", "c", "--pictures", pictures("1.jpg"))
    assert said.code == 1 and "val.jsonl:2: there is no picture 2" in said.err and not (work / "c").exists()
    said = cli("data", "import", "vqa", put("val.jsonl", rows), "--out", "c", "--text-only", "--split", "mine")
    assert (said.code, said.out) == (0, "c: vqa/mine: 2 examples\nc: 0 pictures\n")
    options = ("--pictures", pictures("1.jpg"), "--skip-missing")
    said = cli("data", "import", "vqa", put("val.jsonl", rows), "--out", "c", *options)
    assert said.out == "c: vqa/dev: 1 examples\nc: 1 pictures; left out: the examples of 1 that are not there\n"
    refused = cli("data", "import", "coco", put("val.jsonl", rows), "--out", "c")
    assert refused.code == 2 and "nothing is imported as coco" in refused.err
    assert set(IMPORTED) == set(KINDS), "help says what there is, without importing it"
    assert cli("data", "import", "detections", put("a.tsv", "x"), "--out", "c").code == 1
