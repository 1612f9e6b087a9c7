"""Which rows a collection gives for each loss, that batches are drawn by address, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.pretraining.build import LOSSES, losses_of, taken
from quincunx.recipes.vision_language.pretraining.grounding import region_text
from quincunx.recipes.vision_language.pretraining.measured import OF_REGIONS, SAID, kinds_of
from quincunx.recipes.vision_language.pretraining.read import read_pretraining, uses_markers
from quincunx.recipes.vision_language.pretraining.said import Denoise
from quincunx.recipes.vision_language.pretraining.texts import texts_of

PICTURES = 16
"""Of the world's training split."""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    rows = lines(path)
    for row in rows:
        edit(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    """A copy of the world to be damaged."""
    return copytree(world, tmp_path / "copy", ignore=lambda folder, names: {"images", "features"} & {*names})


def rows_by_task(rows: Any) -> Iterator[tuple[str, str, int]]:
    for part, size in zip(rows.parts, rows.sizes, strict=True):
        yield part.task.name, part.examples.path.parent.name, size


def counts(rows: Any) -> dict[str, int]:
    found = Counter[str]()
    for name, _, size in rows_by_task(rows):
        found[name] += size
    return dict(found)


def test_the_losses_are_those_of_the_config(config_of: Callable[..., Any]) -> None:
    field = type(config_of().pretraining).model_fields["losses"]
    assert {*field.annotation.__args__[0].__args__} == {*SAID, *OF_REGIONS}  # pyright: ignore[reportOptionalMemberAccess]
    assert {*kinds_of((*SAID, *OF_REGIONS))} == {*LOSSES}
    assert kinds_of(["feat", "lm", "obj"]) == ("regions", "lm")
    for markers in (True, False):
        made = losses_of(config_of(), markers=markers)
        assert [loss.name for loss in made.values()] == [*made] == [*kinds_of(config_of().pretraining.losses)]
    assert losses_of(config_of(), markers=False)["lm"].words == "denoise text:"


def test_every_example_is_a_row_of_every_loss_that_it_fits(world: Path, config_of: Callable[..., Any]) -> None:
    found = read_pretraining(config_of(pretraining={"ground_copies": 3}))
    files = {task: lines(world / task / "train.jsonl") for task in ("caption", "vqa", "gqa", "refcoco", "mmt", "nlvr")}
    sizes = {task: len(rows) for task, rows in files.items()}
    sentences = {
        "caption": sizes["caption"],
        "mmt": sizes["mmt"],
        "nlvr": sum(row["answers"] == ["true"] for row in files["nlvr"]),
        "refcoco": sum(" " in row["text"] for row in files["refcoco"]),
    }
    pictures = {row["id"]: row["regions"] for row in lines(world / "pictures.jsonl")}
    unique = sum(
        1 in Counter((each["attribute"], each["name"]) for each in pictures[row["pictures"][0]]).values()
        for row in files["caption"]
    )
    assert counts(found.splits.train) == {
        "lm": sum(sentences.values()),
        "qa": sizes["vqa"] + sizes["gqa"],
        "itm": sizes["caption"],
        "caption": sizes["caption"],
        "ground_caption": 3 * PICTURES,
        "refer": 3 * unique,
        "regions": sentences["caption"] + sentences["mmt"] + sentences["nlvr"] + sizes["refcoco"],
    }
    assert found.splits.tasks == ("lm", "qa", "itm", "caption", "ground_caption", "refer", "regions")
    assert {part.number for part in found.splits.train.parts} == {*range(7)}
    assert counts(found.splits.dev)["ground_caption"] == 8, "copies are for training"
    assert found.words is not None
    assert {*found.words.names} == {each["name"] for row in files["caption"] for each in pictures[row["pictures"][0]]}


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({}, {"lm": 4, "itm": 1, "caption": 1, "regions": 4}),
        ({"itm_captions_only": False}, {"lm": 4, "itm": 6, "caption": 1, "regions": 4}),
        ({"caption_captions_only": False}, {"lm": 4, "itm": 1, "caption": 4, "regions": 4}),
        ({"captions_only": True, "itm_captions_only": False, "caption_captions_only": False},
         {"lm": 1, "itm": 1, "caption": 1, "regions": 1}),
        ({"coco_only": True, "itm_captions_only": False, "caption_captions_only": False},
         {"lm": 1, "itm": 1, "caption": 1, "regions": 1}),
    ],
)  # fmt: skip
def test_texts_are_of_the_sources_that_are_asked_for(
    config_of: Callable[..., Any], settings: dict[str, Any], taken: dict[str, int]
) -> None:
    config = config_of(["lm", "itm", "caption", "feat"], pretraining=settings)
    tasks: dict[str, set[str]] = {}
    for name, task, _ in rows_by_task(read_pretraining(config).splits.train):
        tasks.setdefault(name, set()).add(task)
    assert {name: len(each) for name, each in tasks.items()} == taken


def test_batches_are_drawn_by_seed_and_row(make: Callable[..., Any]) -> None:
    made = make(pretraining={"object_mask_rate": 0.5})
    numbers = made.some(2)
    batch = made.batch(numbers)
    for row in (0, 5, len(numbers) - 1):
        alone = made.asking([made.found.splits.train[numbers[row]]], [numbers[row]], [row], 5)
        own = batch.select([row])
        assert all(torch.equal(own[name], tensor) for name, tensor in alone.tensors.items() if tensor.numel())
    again, other = made.batch(numbers), made.batch(numbers, seed=6)
    assert all(torch.equal(batch[name], again[name]) for name in batch.tensors)
    assert not torch.equal(batch["region_places"], other["region_places"])
    assert batch["labels"].shape != other["labels"].shape or not torch.equal(batch["labels"], other["labels"])
    place = next(number for number in numbers if made.found.splits.train[number].task.name == "regions")
    same = made.asking([made.found.splits.train[place]] * 20, [place] * 20, range(20), 5)["region_places"]
    assert len({tuple(row) for row in same.tolist()}) > 1, "rows draw apart"
    is_region = torch.tensor([made.found.splits.train[number].task.name == "regions" for number in numbers])
    hidden = (batch["region_places"] >= 0).sum(1)
    shown = batch["visual_mask"].sum(1)
    assert torch.equal(hidden, torch.where(is_region, (shown // 2).clamp(min=1), 0))
    assert ((batch["labels"] != -100).any(1) == ~is_region).all()


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_texts_are_tokens_of_their_own(make: Callable[..., Any], architecture: str) -> None:
    """Markers, masks and regions' words are single tokens, and what a picture shows is in the vocabulary."""
    made = make(["lm", "ground_caption", "refer"], architecture=architecture)
    tokenizer: Any = made.asking.asking.texts.tokenizer
    batch = made.batch(made.some(6))
    assert not (batch["input_ids"] == tokenizer.unk_token_id).any()
    assert not (batch["labels"] == tokenizer.unk_token_id).any()
    assert (batch["input_ids"] == tokenizer.convert_tokens_to_ids("<vis_extra_id_0>")).any()
    mask = "<extra_id_0>" if architecture == "t5" else tokenizer.mask_token
    assert (batch["input_ids"] == tokenizer.convert_tokens_to_ids(mask)).any()
    assert ((batch["labels"] == tokenizer.convert_tokens_to_ids("<extra_id_1>")).any()) == (architecture == "t5")


def test_rows_of_regions_mean_those_of_the_features(make: Callable[..., Any]) -> None:
    made = make(["ground_caption", "obj"], pictures={"feature_width": 12, "boxes": 2})
    made_of: Any = made.found.splits.train
    for number in range(0, len(made_of), 7):
        item = made_of[number]
        assert len(item.features[0]) <= 2
        batch = made.asking([item], [number], [0], 5)
        if item.task.name == "regions":
            region = item.pictures[0].regions[int(batch["region_places"][0, 0])]
            assert made.found.words.names[int(batch["region_names"][0, 0])] == region.name
        else:
            asked = item.task.ask(item.example, made.asking.asking.wording, item.pictures)
            place = int(asked.source.split("_")[-1].removesuffix(">"))
            assert place < 2
            assert asked.target == region_text(item.pictures[0].regions[place])


def test_swapped_texts_are_of_other_pictures(make: Callable[..., Any]) -> None:
    made = make(["itm"], pretraining={"itm_captions_only": False})
    rows = made.found.splits.train
    about: dict[str, set[str]] = {}
    for number in range(len(rows)):
        for text in texts_of(rows[number].example):
            about.setdefault(text, set()).update(rows[number].example.pictures)
    right = 0
    for number in range(3 * len(rows)):
        item, draw = rows[number % len(rows)], np.random.Generator(np.random.Philox(number))
        asked = item.task.ask(item.example, made.asking.asking.wording, item.pictures, 0, draw)
        text = asked.source.removeprefix("image text match: ")
        own = text in texts_of(item.example)
        assert own == (asked.target == "true")
        assert own or about[text] - {*item.example.pictures}
        right += own
    assert abs(right / len(rows) / 3 - 0.5) < 0.1


def test_a_part_of_the_examples_is_used(config_of: Callable[..., Any]) -> None:
    few = read_pretraining(config_of(["caption", "refer"], data={"train_top": 3, "dev_top": 0.5}))
    assert counts(few.splits.train)["caption"] == 3
    assert counts(few.splits.dev)["caption"] == 4
    limited = read_pretraining(config_of(["caption"], debug={"limit": 2}))
    assert counts(limited.splits.train) == counts(limited.splits.dev) == {"caption": 2}
    assert taken(10, 0.3, 1).tolist() == sorted({*taken(10, 0.3, 1).tolist()})
    assert len(taken(10, 0.01, 1)) == 1
    assert taken(10, 0.3, 1).tolist() != taken(10, 0.3, 2).tolist()
    for top in (0, -2, 2.5):
        with pytest.raises(UsageError, match=r"data\.train_top and data\.dev_top are -1"):
            taken(10, top, 1)


def test_splits_have_several_names(copy: Path, config_of: Callable[..., Any]) -> None:
    (copy / "caption" / "dev.jsonl").rename(copy / "caption" / "val.jsonl")
    config = config_of(["caption", "qa"], path=copy, data={"dev": ["valid"], "test": ["dev"]})
    found = read_pretraining(config)
    assert counts(found.splits.dev) == counts(found.splits.test)
    assert counts(found.splits.dev)["caption"] == 8
    with pytest.raises(
        DataError, match=r"no texts to pretrain on in the split blue: expected blue\.jsonl of caption or"
    ):
        read_pretraining(config_of(path=copy, data={"train": ["blue"]}))


def test_losses_that_cannot_be_measured_are_noted(copy: Path, config_of: Callable[..., Any]) -> None:
    for task in ("vqa", "gqa"):
        (copy / task / "dev.jsonl").unlink()
    found = read_pretraining(config_of(["caption", "qa"], path=copy))
    assert found.splits.notes == ("data.dev has no example for qa, which cannot be measured there",)
    with pytest.raises(DataError, match=r"no example of data\.dev fits any of the losses qa"):
        read_pretraining(config_of(["qa"], path=copy))


@pytest.mark.parametrize("losses", [["obj"], ["feat"], ["ground_caption"], ["refer"]])
def test_pictures_without_regions_are_refused(copy: Path, config_of: Callable[..., Any], losses: list[str]) -> None:
    change(copy / "pictures.jsonl", lambda row: row.pop("regions"))
    with pytest.raises(
        DataError, match=r"copy, split train: nothing to learn from for .* needs .*regions.*or leave it"
    ):
        read_pretraining(config_of(losses, path=copy))


def test_regions_without_names_are_left_out_or_refused(copy: Path, config_of: Callable[..., Any]) -> None:
    def nameless(row: dict[str, Any]) -> None:
        for region in row["regions"][:1] if row["id"].endswith("3") else row["regions"]:
            del region["name"]

    change(copy / "pictures.jsonl", nameless)
    found = read_pretraining(config_of(["ground_caption", "obj", "attr"], path=copy))
    kept = [row for row in lines(copy / "pictures.jsonl") if any("name" in each for each in row["regions"])]
    pictures = {part.examples[place].uid for part in found.splits.train.parts if part.task.name == "ground_caption"
                for place in part.chosen.tolist()}  # fmt: skip
    assert pictures == {row["id"] for row in kept if "train" in row["file"]}
    change(copy / "pictures.jsonl", lambda row: [each.pop("name", None) for each in row["regions"]])
    with pytest.raises(DataError, match="nothing to learn from for ground_caption"):
        read_pretraining(config_of(["ground_caption"], path=copy))
    with pytest.raises(
        DataError, match=r"pictures\.jsonl: no region of a training picture has a name, .* leave obj out"
    ):
        read_pretraining(config_of(["obj"], path=copy))
    assert read_pretraining(config_of(["attr", "feat"], path=copy)).words is not None
    change(copy / "pictures.jsonl", lambda row: [each.pop("attribute") for each in row["regions"]])
    with pytest.raises(DataError, match="has an attribute, which the loss attr is to find"):
        read_pretraining(config_of(["attr"], path=copy))


def test_collections_without_texts_are_refused(copy: Path, config_of: Callable[..., Any]) -> None:
    for path in (copy / "caption").iterdir():
        path.unlink()
    with pytest.raises(
        DataError, match=r"for itm, caption of pretraining\.losses: itm needs texts of two pictures or more"
    ):
        read_pretraining(config_of(["lm", "itm", "caption"], path=copy))
    with pytest.raises(
        DataError, match=r"no texts to pretrain on in the split train: expected train\.jsonl of caption;"
    ):
        read_pretraining(config_of(["lm"], path=copy, pretraining={"captions_only": True}))
    one = lines(copy / "mmt" / "train.jsonl")[0]
    for task in ("vqa", "gqa", "refcoco", "nlvr"):
        (copy / task / "train.jsonl").unlink()
    (copy / "mmt" / "train.jsonl").write_text(json.dumps(one) + "\n")
    config = config_of(["lm", "itm"], path=copy, pretraining={"itm_captions_only": False})
    with pytest.raises(DataError, match="nothing to learn from for itm of"):
        read_pretraining(config)


def test_the_backbone_says_how_words_are_restored() -> None:
    def of(kind: str, mask: str | None) -> bool:
        return uses_markers(SimpleNamespace(config=SimpleNamespace(model_type=kind)), SimpleNamespace(mask_token=mask))

    assert [of("t5", None), of("mt5", "[MASK]"), of("pegasus", None)] == [True] * 3
    assert [of("bart", "<mask>"), of("pegasus", "<mask>")] == [False] * 2


def test_what_was_read_goes_by_the_backbone(make: Callable[..., Any]) -> None:
    made = make(["lm", "itm"], pretraining={"word_mask_rate": 0.3, "captions_only": True})
    tokenizer: Any = SimpleNamespace(mask_token="<mask>")
    other = made.found.beside(SimpleNamespace(config=SimpleNamespace(model_type="bart")), tokenizer)
    for rows in (other.splits.train, other.splits.dev):
        assert [part.task for part in rows.parts if part.task.name == "lm"] == [Denoise(True, False, 0.3)]
    back = other.beside(made.model.language_model, tokenizer).splits
    assert [part.task for part in back.train.parts] == [part.task for part in made.found.splits.train.parts]
    assert other.splits.test is None
