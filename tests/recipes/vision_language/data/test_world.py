"""The shape world: every answer is true by a reader of its own, answers are spread, and all is a function of a seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.features import Features
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.record import TASKS, Example, Region
from quincunx.recipes.vision_language.data.world import generate
from quincunx.recipes.vision_language.data.world.draw import RGB, boxes_of, draw
from quincunx.recipes.vision_language.data.world.generate import examples_of
from quincunx.recipes.vision_language.data.world.regions import region_features
from quincunx.recipes.vision_language.data.world.scene import (
    COLOURS,
    HELD_OUT,
    PATTERNS,
    SHAPES,
    Scene,
    Thing,
    make_scene,
)
from reference import shapeworld as reading

COUNT = 320
"""Scenes of a split that texts are checked on."""


def things_of(scene: Scene) -> reading.Things:
    names = ("shape", "colour", "size", "pattern", "x", "y")
    return [{name: getattr(thing, name) for name in names} for thing in scene.things]


@pytest.fixture(scope="module", params=["train", "heldout"])
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    return [make_scene(5, request.param, number) for number in range(COUNT)]


def made(task: str, scenes: list[Scene]) -> list[Example]:
    return [
        example for start in range(0, len(scenes), 8) for example in examples_of(5, 96, task, scenes[start : start + 8])
    ]


@pytest.fixture
def pictures(scenes: list[Scene]) -> dict[str, reading.Things]:
    return {scene.id: things_of(scene) for scene in scenes}


def majority(answers: list[str]) -> float:
    """Return how often one is right who always says the same."""
    return max(Counter(answers).values()) / len(answers)


def test_questions_are_answered_truly(scenes, pictures):
    examples = made("vqa", scenes)
    assert len(examples) == 2 * COUNT
    kinds = Counter(example.more["question_type"] for example in examples)
    assert set(kinds) == {"what colour", "what shape", "how many", "is there", "is the"}
    for example in examples:
        said = example.more["annotations"]
        true = reading.answer(example.text, pictures[example.pictures[0]])
        assert example.answers[0].text == true == Counter(said).most_common(1)[0][0], example
        assert len(said) == 10 and said.count(true) >= 6
        assert {answer.text: answer.weight for answer in example.answers} == {
            text: min(1, count / 3) for text, count in Counter(said).items()
        }
        wanted = "yes/no" if true in ("yes", "no") else "number" if true.isdigit() else "other"
        assert example.more["answer_type"] == wanted
    assert majority([example.answers[0].text for example in examples]) < 0.3
    for kind, limit in {
        "is there": 0.58,
        "is the": 0.58,
        "how many": 0.45,
        "what colour": 0.25,
        "what shape": 0.3,
    }.items():
        answers = [each.answers[0].text for each in examples if each.more["question_type"] == kind]
        assert majority(answers) < limit, (kind, Counter(answers))
    assert any(len(example.answers) > 1 for example in examples)


def test_compositional_questions_are_answered_truly(scenes, pictures):
    examples = made("gqa", scenes)
    assert len(examples) > 1.95 * COUNT
    for example in examples:
        things = pictures[example.pictures[0]]
        assert [answer.text for answer in example.answers] == [reading.answer(example.text, things)], example
        assert execute(example.more["program"], things) == example.answers[0].text
        assert set(example.more["types"]) == {"structural", "semantic", "detailed"} and example.more["group"]
    assert majority([example.answers[0].text for example in examples]) < 0.3
    kinds = Counter(example.more["types"]["structural"] for example in examples)
    assert set(kinds) == {"query", "verify", "choose", "logical", "compare"} and min(kinds.values()) > 0.04 * COUNT
    for kind in ("verify", "logical", "compare"):
        answers = [each.answers[0].text for each in examples if each.more["types"]["structural"] == kind]
        assert majority(answers) < 0.65, (kind, Counter(answers))
    assert any(len(example.more["program"]) >= 4 and example.text.count(" of the ") >= 2 for example in examples)


def execute(program: list[dict], things: reading.Things) -> str:
    """Run a program by its description, on its form as JSON."""
    results: list = []
    for step in json.loads(json.dumps(program)):
        op, on = step["op"], step.get("on")
        fit = [thing for thing in things if all(thing[k] == v for k, v in step.get("where", {}).items())]
        if op == "select":
            results.append(fit)
        elif op == "relate":
            (other,) = results[on]
            results.append([one for one in fit if one is not other and reading.is_side(one, other, step["relation"])])
        elif op == "exist":
            results.append(reading.yes(bool(results[on])))
        elif op in ("and", "or"):
            said = [results[i] == "yes" for i in on]
            results.append(reading.yes(all(said) if op == "and" else any(said)))
        elif op == "same":
            (one,), (other,) = (results[i] for i in on)
            results.append(reading.yes(one[step["attribute"]] == other[step["attribute"]]))
        else:
            (one,) = results[on]
            value = one[step["attribute"]]
            results.append(reading.yes(value == step["value"]) if op == "verify" else value)
    return results[-1]


def test_statements_come_in_groups_of_two_true_and_two_false(scenes, pictures):
    examples = made("nlvr", scenes)
    assert len(examples) > 0.95 * COUNT
    groups: dict[str, list[Example]] = {}
    for example in examples:
        left, right = (pictures[name] for name in example.pictures)
        assert example.answers[0].text == str(reading.holds(example.text, left, right)).lower(), example
        groups.setdefault(example.more["identifier"], []).append(example)
    for group in groups.values():
        assert len({example.text for example in group}) == 1
        assert len({example.pictures for example in group}) == 4
        assert Counter(example.answers[0].text for example in group) == {"true": 2, "false": 2}
    answers = {number: [g[number].answers[0].text for g in groups.values()] for number in range(4)}
    assert all(majority(each) < 0.7 for each in answers.values()), "the place in a group does not tell"


def test_expressions_mean_one_box(scenes, pictures):
    examples = made("refcoco", scenes)
    assert len(examples) == 2 * COUNT
    by_id = {scene.id: scene for scene in scenes}
    shared = longer = 0
    for example in examples:
        scene, things = by_id[example.pictures[0]], pictures[example.pictures[0]]
        place = next(i for i, thing in enumerate(things) if thing is reading.only(example.text, things))
        assert example.more["box"] == list(boxes_of(scene, 96)[place]), example
        others = [thing for i, thing in enumerate(things) if i != place]
        shared += any(other[name] == things[place][name] for other in others for name in ("shape", "colour"))
        longer += len(example.text.split()) > 2
    assert min(shared, longer) > 0.6 * len(examples), "most have a distractor and need more than a word"


def test_one_answer_and_one_reason_are_right(scenes, pictures):
    examples = made("vcr", scenes)
    assert len(examples) > 0.97 * COUNT
    for example in examples:
        things, more = pictures[example.pictures[0]], example.more
        meant = reading.farthest(example.text, things)
        right = [reading.which(choice, things) == [meant] for choice in more["choices"]]
        assert right.count(True) == 1 and right[more["label"]] and len(set(more["choices"])) == 4
        true = [reading.describes(reason, things) for reason in more["rationales"]]
        assert true.count(True) == 1 and true[more["rationale_label"]] and len(set(more["rationales"])) == 4
    for key in ("label", "rationale_label"):
        assert majority([example.more[key] for example in examples]) < 0.33


def test_captions_are_five_true_sentences(scenes, pictures):
    for example in made("caption", scenes):
        texts = [answer.text for answer in example.answers]
        assert len(set(texts)) == 5 and texts == list(example.more["references"])
        for text in texts:
            assert reading.describes(text, pictures[example.pictures[0]]), (text, example.pictures)


def test_translations_can_be_read_back(scenes, pictures):
    examples = made("mmt", scenes)
    assert len(examples) == COUNT and len({example.text for example in examples}) > 0.9 * COUNT
    for example in examples:
        assert reading.back(example.answers[0].text) == example.text
        assert reading.describes(example.text, pictures[example.pictures[0]]), example.text


def test_classes_are_spread(scenes):
    examples = made("cls", scenes)
    for scene, example in zip(scenes, examples, strict=True):
        assert example.answers[0].text == max(scene.things, key=lambda thing: thing.radius).shape
    assert majority([example.answers[0].text for example in examples]) < 0.25


def test_held_out_pairs_are_nowhere_else(scenes):
    shown = [{(thing.colour, thing.shape) for thing in scene.things} for scene in scenes]
    texts: list[str] = []
    for task in TASKS:
        for example in made(task, scenes):
            texts += [example.text, *(answer.text for answer in example.answers)]
            texts += [text for value in example.more.values() if isinstance(value, list) for text in map(str, value)]
    said = set().union(*map(reading.mentioned_pairs, texts))
    if scenes[0].split == "heldout":
        assert all(len(pairs & HELD_OUT) == 1 for pairs in shown)
        assert said >= HELD_OUT
    else:
        assert not HELD_OUT & set().union(*shown) and not HELD_OUT & said
        assert len(set().union(*shown)) == len(COLOURS) * len(SHAPES) - len(HELD_OUT), "all others occur"


def test_a_scene_is_a_function_of_its_number():
    assert [make_scene(5, "train", n) for n in range(9)] == [make_scene(5, "train", n) for n in reversed(range(9))][
        ::-1
    ]
    others = [make_scene(6, "train", 0), make_scene(5, "dev", 0), make_scene(5, "train", 1)]
    assert make_scene(5, "train", 0) not in others
    pixels = draw(make_scene(5, "train", 0), 5, 96)
    assert np.array_equal(pixels, draw(make_scene(5, "train", 0), 5, 96))
    assert pixels.shape == (96, 96, 3) and pixels.dtype == np.uint8


def test_things_stand_apart_and_look_different():
    for number in range(200):
        scene = make_scene(1, "train", number)
        assert 2 <= len(scene.things) <= 6 and len({thing.looks for thing in scene.things}) == len(scene.things)
        assert scene.things[0].radius > max(thing.radius for thing in scene.things[1:])
        for i, one in enumerate(scene.things):
            for other in scene.things[:i]:
                assert np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 128])
def test_boxes_are_tight_and_colours_show(shape: str, size: int):
    """Pixels of a saturated colour are inside the box, and reach each of its sides."""
    for colour in ("red", "blue", "green"):
        thing = Thing(shape, colour, "large", PATTERNS[0], 0.4, 0.6, 0.17, 8.0)
        scene = Scene("train", 3, (thing,))
        pixels = draw(scene, 0, size).astype(int)
        (box,) = boxes_of(scene, size)
        strong = np.abs(pixels - pixels.mean(axis=2, keepdims=True)).max(axis=2) > 30
        rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert np.abs(np.array(found) - box).max() <= 2.5, (shape, colour)  # tips are thin
        assert np.abs(pixels[strong].max(axis=0) - RGB[colour]).max() < 45


def test_patterns_and_backgrounds_are_not_flat():
    thing = Thing("square", "red", "large", "striped", 0.5, 0.5, 0.2, 0.0)
    striped = draw(Scene("train", 0, (thing,)), 0, 96).astype(int)[42:54, 42:54, 0]
    assert striped.max() - striped.min() > 90
    corner = draw(Scene("train", 0, (thing,)), 0, 96)[:12, :12]
    assert corner.std() > 3


def test_the_smallest_shapes_differ_by_many_pixels():
    masks = {}
    for shape in SHAPES:
        thing = Thing(shape, "red", "small", "plain", 0.5, 0.5, 0.07, 0.0)
        masks[shape] = draw(Scene("train", 0, (thing,)), 0, 64)[..., 0] > 140
    for one in SHAPES:
        for other in SHAPES:
            if one != other:
                assert (masks[one] != masks[other]).sum() >= 8, (one, other)


def test_region_features_tell_more_than_nothing():
    """A linear reader, trained on some crops, names colours and shapes of others better than chance, not perfectly."""
    rows, colours, shapes = [], [], []
    for number in range(500):
        scene = make_scene(0, "train", number)
        regions = [Region(box) for box in boxes_of(scene, 96)]
        rows.append(region_features(draw(scene, 0, 96), regions))
        colours += [COLOURS.index(thing.colour) for thing in scene.things]
        shapes += [SHAPES.index(thing.shape) for thing in scene.things]
    features = np.concatenate(rows).astype(np.float64)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    half = len(features) // 2
    for labels, least, most in ((colours, 0.5, 1.0), (shapes, 0.4, 0.98)):
        wanted = np.eye(max(labels) + 1)[labels]
        weights = np.linalg.lstsq(features[:half], wanted[:half], rcond=None)[0]
        right = ((features[half:] @ weights).argmax(axis=1) == np.array(labels)[half:]).mean()
        assert least < right < most, right
    assert rows[0].dtype == np.float16 and np.abs(features).max() < 20
    pixels = draw(make_scene(0, "train", 0), 0, 96)
    assert region_features(pixels, []).shape == (0, 64)
    assert region_features(pixels, [Region((0, 0, 5, 5))] * 40, width=8).shape == (36, 8)
    one, other = (region_features(pixels, [Region((0, 0, 50, 50))], seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


COUNTS = {"train": 16, "dev": 8, "heldout": 8}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "one"
    generate(folder, seed=3, counts=COUNTS, size=64, feature_width=16)
    return folder


def test_a_written_world_reads_as_a_collection(world: Path):
    collection = Collection(world)
    assert len(collection.pictures) == 32 and set(collection.splits) == set(TASKS)
    scenes = [json.loads(line) for line in (world / "scenes.jsonl").read_text().splitlines()]
    things = {scene["id"]: scene["things"] for scene in scenes}
    manifest = json.loads((world / "shapeworld.json").read_text())
    for task, splits in collection.splits.items():
        assert splits == ("dev", "heldout", "train")
        for split in splits:
            examples = collection.examples(task, split)
            assert len(examples) == manifest["examples"][task][split] > 0
            if task in ("vqa", "gqa"):
                for example in examples:
                    assert reading.answer(example.text, things[example.pictures[0]]) == example.answers[0].text
    features = Features(world / "features/butd.arrow", width=16)
    for picture in collection.pictures.values():
        with Image.open(collection.file_of(picture)) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (picture.height, picture.width, 3) == (64, 64, 3)
        assert [(region.name, region.attribute) for region in picture.regions] == [
            (thing["shape"], thing["colour"]) for thing in things[picture.id]
        ]
        assert np.array_equal(features[picture.id], region_features(pixels, picture.regions, 16, 3))


def test_a_whole_world_is_kept_and_a_broken_one_made_again(world: Path, tmp_path: Path):
    before = {path: path.stat().st_mtime_ns for path in sorted(world.rglob("*")) if path.is_file()}
    again = generate(world, seed=3, counts=COUNTS, size=64, feature_width=16)
    assert {path: path.stat().st_mtime_ns for path in sorted(world.rglob("*")) if path.is_file()} == before
    other = generate(tmp_path / "other", seed=3, counts=COUNTS, size=64, feature_width=16)
    assert other == again
    (tmp_path / "other/vqa/dev.jsonl").unlink()
    seen: list[tuple[int, int]] = []
    mended = generate(
        tmp_path / "other", seed=3, counts=COUNTS, size=64, feature_width=16, on_progress=lambda *at: seen.append(at)
    )
    assert mended == again and seen[-1] == (32, 32)
    for path in before:
        if path.suffix == ".jsonl":
            assert path.read_bytes() == (tmp_path / "other" / path.relative_to(world)).read_bytes()


def test_a_larger_world_begins_with_a_smaller_one(world: Path, tmp_path: Path):
    generate(tmp_path / "more", seed=3, counts={"train": 24}, size=64, tasks=["vqa", "nlvr"], feature_width=None)
    for name in ("vqa/train.jsonl", "nlvr/train.jsonl", "pictures.jsonl"):
        fewer, more = ((root / name).read_text().splitlines() for root in (world, tmp_path / "more"))
        fewer = [line for line in fewer if '"train-' in line]
        assert more[: len(fewer)] == fewer and len(more) > len(fewer)
    assert not (tmp_path / "more/features").exists() and not (tmp_path / "more/gqa").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"counts": {"train": 7}}, "no pictures or at least 8, found: train 7"),
        ({"counts": {"train": 0}}, "at least 8, found: none"),
        ({"counts": {"trian": 8}}, "no split trian; expected train, dev, test, heldout"),
        ({"size": 32}, "64 to 128 pixels on a side, found 32"),
        ({"tasks": ["vqa", "vgq"]}, "no task vgq; expected some of vqa"),
        ({"feature_width": 0}, "width of features is 1 or more, found 0"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, settings: dict, reason: str):
    with pytest.raises(UsageError, match=reason):
        generate(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_data_of_others_are_not_touched(world: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="made with other settings"):
        generate(world, seed=4, counts=COUNTS, size=64, feature_width=16)
    (tmp_path / "pictures.jsonl").write_text("mine")
    with pytest.raises(UsageError, match=r"already holds pictures.jsonl, not made by this generator"):
        generate(tmp_path, counts=COUNTS)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write shape world"):
        generate(tmp_path / "file/below", counts=COUNTS)


def test_the_verb_says_what_it_made(cli, work: Path):
    counts = ("--train", 8, "--dev", 8, "--test", 0, "--heldout", 8)
    said = cli("data", "shapeworld", "--out", "world", "--seed", 2, *counts, "--size", 64, "--tasks", "vqa,nlvr")
    assert said.code == 0, said.err
    assert "world: 24 pictures of 64 x 64 pixels (train 8, dev 8, heldout 8)" in said.out
    assert "vqa: train 16, dev 16, heldout 16" in said.out
    assert Collection(work / "world").splits == {
        "vqa": ("dev", "heldout", "train"),
        "nlvr": ("dev", "heldout", "train"),
    }
    assert Collection(work / "world").features == ("butd",)
    bare = cli("data", "shapeworld", "--out", "bare", *counts, "--tasks", "cls", "--feature-width", 0)
    assert bare.code == 0 and not (work / "bare/features").exists()
    failed = cli("data", "shapeworld", "--out", "new", "--tasks", "vqa,quiz")
    assert (failed.code, failed.out) == (2, "") and "no task quiz" in failed.err
