"""What is read and said for each loss, on examples that can be checked by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.record import Answer, Example, Picture, Region
from quincunx.recipes.vision_language.pretraining.grounding import GroundCaption, Refer, region_text
from quincunx.recipes.vision_language.pretraining.regions import Regions
from quincunx.recipes.vision_language.pretraining.said import Answering, Captioning, Denoise, Matching, Spans
from quincunx.recipes.vision_language.pretraining.texts import Pool, texts_of
from quincunx.recipes.vision_language.tasks import Wording

WORDING = Wording(prompt="never seen: ", task_prompts=False)
BOX = (0.0, 0.0, 9.0, 9.0)
PICTURE = Picture(
    "p",
    40,
    40,
    regions=(
        Region(BOX, "Cube", "red"),
        Region(BOX),
        Region(BOX, "ball"),
        Region(BOX, "cube", "Red"),
        Region(BOX, None, "blue"),
        Region(BOX, "ball", "green"),
    ),
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def example(task: str, text: str = "", answers: Sequence[Any] = (), uid: str = "7", **more: Any) -> Example:
    given: list[Any] = [(each, 1.0) if isinstance(each, str) else each for each in answers]
    pictures = more.pop("pictures", ("p",))
    return Example(uid, task, pictures, text, tuple(Answer(*each) for each in given), more)


class Listed(list[Example]):
    """Examples in a list, in place of a file's."""

    @property
    def picture_places(self) -> np.ndarray:
        return np.array([int(name[1:] or 0) for each in self for name in each.pictures], np.int64)

    @property
    def picture_offsets(self) -> np.ndarray:
        return np.cumsum([0, *(len(each.pictures) for each in self)])


def pool(*examples: Example) -> Pool:
    half = len(examples) // 2
    parts: Any = [(Listed(rows), np.arange(len(rows))) for rows in (examples[:half], examples[half:])]
    return Pool(parts)


def test_texts_are_those_about_pictures() -> None:
    caption = example("caption", "", ["A  dog"], references=["A  dog", "one Dog ", " "])
    assert texts_of(caption) == ["A dog", "one Dog"]
    assert texts_of(caption, lowercase=True) == ["a dog", "one dog"]
    assert texts_of(example("caption", "", ["A dog"])) == ["A dog"]
    assert texts_of(example("vqa", "Why ?", ["red"])) == ["Why ?"]
    assert texts_of(example("nlvr", "Two dogs.", ["true"])) == ["Two dogs."]
    assert texts_of(example("nlvr", "Two dogs.", ["false"])) == texts_of(example("nlvr", "Two dogs.")) == []
    assert texts_of(example("mmt", "A dog", ["Ein Hund"])) == ["A dog"]
    for task in ("cls", "vcr"):
        assert texts_of(example(task, "a dog", ["dog"])) == []
    assert texts_of(example("mmt", "A dog", pictures=())) == []


def test_masked_words_come_back(restored: Callable[[str, str], str]) -> None:
    one = example("caption", "", [], references=["A red Cube left of a Ball", "a ball"])
    texts = Counter[str]()
    for seed in range(40):
        asked = Spans(rate=0.4).ask(one, WORDING, [PICTURE], draw=generator(seed))
        assert asked.source.startswith("span prediction: ")
        assert asked.target is not None
        texts[restored(asked.source.removeprefix("span prediction: "), asked.target)] += 1
    assert {*texts} == {"A red Cube left of a Ball", "a ball"}
    assert min(texts.values()) >= 10
    wording = replace(WORDING, mask="[MASK]", lowercase=True, tags=True)
    asked = Denoise(rate=0.4).ask(replace(one, more={"references": ["A Ball"]}), wording, [PICTURE])
    assert asked.target == "a ball"
    assert asked.source in (
        "denoise text: [MASK] ball tags: cube ball cube",
        "denoise text: a [MASK] tags: cube ball cube",
    )


def test_one_word_alone_is_not_masked() -> None:
    assert Spans().fits(example("caption", "", ["a dog"]))
    assert not Spans().fits(example("caption", "", ["a dog", "dog"]))


@pytest.mark.parametrize("loss", [Spans, Captioning, Matching, Regions])
def test_losses_take_texts_of_their_kinds(loss: Any) -> None:
    caption, other = example("caption", "", ["a dog"]), example("mmt", "a dog")
    question = example("gqa", "a dog?", ["no"])
    assert [loss().fits(one) for one in (caption, other, question)] == [True, True, False]
    assert [loss(captions=True).fits(one) for one in (caption, other, question)] == [True, False, False]
    assert loss(questions=True).fits(question)
    assert not loss(captions=True, questions=True).fits(question)
    with pytest.raises(DataError, match=r"nlvr, example 7: it has no text, which the loss \w+ needs"):
        loss().one(example("nlvr", "x", ["false"]), WORDING, generator())


def test_answers_are_drawn_by_their_weight_and_weigh_the_same() -> None:
    one = example("vqa", "What?", [("Red", 1.0), ("blue", 0.5)])
    rows = [Answering().ask(one, replace(WORDING, post_prompt="answer:"), draw=generator(n)) for n in range(900)]
    assert {row.source for row in rows} == {"vqa: What? answer:"}
    assert {row.weight for row in rows} == {1.0}
    assert abs(Counter(row.target for row in rows)["Red"] / 900 - 2 / 3) < 0.05
    other = example("gqa", "What?", ["Red"])
    assert Answering().ask(other, WORDING).source == "gqa: What?"
    asked = Answering(one_prefix=True).ask(other, replace(WORDING, lowercase=True))
    assert (asked.source, asked.target) == ("vqa: what?", "red")
    assert not Answering().fits(example("gqa", "What?"))
    assert not Answering().fits(example("caption", "", ["a dog"]))


def test_half_of_the_texts_are_another_pictures() -> None:
    own = [example("caption", "", ["a dog", "one dog"], "1", pictures=("p1",)), example("mmt", "the dog", uid="2",
           pictures=("p1",))]  # fmt: skip
    others = [example("caption", "", ["a CAT", "A Dog"], "3", pictures=("p2",)),
              example("nlvr", "two birds", ["true"], "4", pictures=("p3", "p1"))]  # fmt: skip
    loss = Matching(pool=pool(*own, *others))
    assert loss.pool.pictures == 3
    found = Counter[tuple[str, str | None]]()
    for seed in range(400):
        asked = loss.ask(own[0], WORDING, draw=generator(seed))
        found[asked.source.removeprefix("image text match: "), asked.target] += 1
    # neither a text of the same picture, nor one in common with its own
    assert {*found} == {("a dog", "true"), ("one dog", "true"), ("a CAT", "false")}
    assert abs(found["a CAT", "false"] / 400 - 0.5) < 0.08
    lowered = {loss.ask(own[0], replace(WORDING, lowercase=True), draw=generator(seed)).source for seed in range(20)}
    assert "image text match: a cat" in lowered
    with pytest.raises(DataError, match="mmt, example 2: no text about another picture differs"):
        Pool(loss.pool.parts[:1]).another(own[1], generator())
    with pytest.raises(IndexError):
        loss.pool[4]


def test_captions_are_asked_for_by_a_word() -> None:
    asked = Captioning().ask(example("caption", "", ["A  Dog"]), WORDING)
    assert (asked.source, asked.target, asked.weight) == ("caption:", "A Dog", 1.0)


def test_texts_beside_hidden_regions_do_not_name_them() -> None:
    asked = Regions().ask(example("caption", "", ["A dog"]), replace(WORDING, tags=True), [PICTURE])
    assert (asked.source, asked.target) == ("A dog", None)


def test_regions_are_named() -> None:
    texts = [region_text(region) for region in PICTURE.regions]
    assert texts == ["red Cube", "", "ball", "Red cube", "", "green ball"]
    asked = {
        GroundCaption(weight=0.5).ask(example("picture"), WORDING, [PICTURE], draw=generator(n)) for n in range(99)
    }
    expected = {f"caption region: <vis_extra_id_{n}>": text for n, text in enumerate(texts) if text}
    assert {one.source: one.target for one in asked} == expected
    assert {one.weight for one in asked} == {0.5}
    shown = {GroundCaption(limit=2).ask(example("picture"), WORDING, [PICTURE], draw=generator(n)) for n in range(9)}
    assert {(one.source, one.target) for one in shown} == {("caption region: <vis_extra_id_0>", "red Cube")}


def test_a_text_that_several_regions_have_refers_to_none() -> None:
    wording = replace(WORDING, lowercase=True, tags=True)
    asked = {Refer().ask(example("picture"), wording, [PICTURE], draw=generator(n)) for n in range(99)}
    assert {(one.source, one.target) for one in asked} == {
        ("visual grounding: ball", "<vis_extra_id_2>"),
        ("visual grounding: green ball", "<vis_extra_id_5>"),
    }
    assert Refer().usable(["a", "A", ""]) == []


@pytest.mark.parametrize("grounded", [2, 3, 50])
def test_several_regions_have_markers(grounded: int) -> None:
    texts = [region_text(region) for region in PICTURE.regions]
    orders = set()
    for loss, usable in ((GroundCaption(grounded=grounded), 4), (Refer(grounded=grounded), 2)):
        for seed in range(30):
            asked = loss.ask(example("picture"), WORDING, [PICTURE], draw=generator(seed))
            assert asked.target is not None
            sides = asked.source.removeprefix(loss.words).strip(), asked.target
            regions, said = sides if loss.name == "ground_caption" else sides[::-1]
            chosen = [int(word.removeprefix("<vis_extra_id_").removesuffix(">")) for word in regions.split()]
            assert len({*chosen}) == len(chosen) == min(grounded, usable)
            assert said == " ".join(f"<extra_id_{i}> {texts[number]}" for i, number in enumerate(chosen))
            orders.add(tuple(chosen))
    assert len(orders) > 4


def test_pictures_without_names_are_refused() -> None:
    bare = replace(PICTURE, id="q", regions=PICTURE.regions[1:2])
    for loss in (GroundCaption(), Refer()):
        assert not loss.fits(example("picture", answers=["", ""]))
        with pytest.raises(DataError, match=f"picture 7: the loss {loss.name} needs regions with names"):
            loss.ask(example("picture"), WORDING, [bare])
