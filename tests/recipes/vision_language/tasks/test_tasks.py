"""Every task's texts, targets, draws, measures and leaderboard files, on examples that can be checked by hand."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from quincunx.config.schema import lookup
from quincunx.errors import DataError
from quincunx.recipes.vision_language.config import VisionLanguageConfig
from quincunx.recipes.vision_language.data.record import TASKS as WORDS
from quincunx.recipes.vision_language.data.record import Answer, Example, Picture, Region
from quincunx.recipes.vision_language.tasks import TASKS, Answered, Wording
from quincunx.recipes.vision_language.tasks.captions import Caption, Translation
from quincunx.recipes.vision_language.tasks.choices import Vcr
from quincunx.recipes.vision_language.tasks.classes import Classification
from quincunx.recipes.vision_language.tasks.expressions import Refcoco
from quincunx.recipes.vision_language.tasks.questions import Gqa, Vqa
from quincunx.recipes.vision_language.tasks.statements import Nlvr

PLAIN, OWN = Wording(prompt="vqa: ", post_prompt=""), Wording(task_prompts=True)
DOG = Region((0, 0, 10, 10), "dog")
BALL = Region((20, 20, 30, 30), "ball")
PICTURE = Picture("p", 40, 40, regions=(DOG, BALL, DOG))


def example(task: str, text: str = "", answers: list[Any] | None = None, **more: Any) -> Example:
    weights = [(each, 1.0) if isinstance(each, str) else each for each in answers or []]
    return Example("7", task, ("p",), text, tuple(Answer(*each) for each in weights), more)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def answered(examples: list[Example], said: list[str]) -> list[Answered]:
    rows = enumerate(zip(examples, said, strict=True))
    return [Answered(replace(one, uid=str(number)), text, picture=PICTURE) for number, (one, text) in rows]


def test_the_tasks_are_those_of_config_and_records() -> None:
    assert tuple(TASKS) == WORDS
    field = VisionLanguageConfig.model_fields["data"].annotation
    assert field is not None
    assert get_args(field.model_fields["tasks"].annotation)[0].__args__ == WORDS
    assert all(task.name == name for name, task in TASKS.items())
    assert lookup(VisionLanguageConfig(), "data.tasks") == []


@pytest.mark.parametrize(
    ("task", "given", "plain", "own"),
    [
        (Vqa(), example("vqa", "what is it?"), "vqa: what is it?", "vqa: what is it?"),
        (Gqa(), example("gqa", "what is it?"), "vqa: what is it?", "gqa: what is it?"),
        (Nlvr(), example("nlvr", "Two dogs."), "Two dogs.", "nlvr: Two dogs."),
        (Refcoco(), example("refcoco", "the dog", box=[0, 0, 9, 9]), "the dog", "visual grounding: the dog"),
        (Caption(), example("caption"), "vqa:", "caption:"),
        (Translation(), example("mmt", "A dog."), "A dog.", "translate: A dog."),
        (Classification(), example("cls"), "", "cls:"),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else None,
)
def test_texts_have_the_prompt_or_the_words_of_their_task(task: Any, given: Example, plain: str, own: str) -> None:
    assert task.ask(given, PLAIN, [PICTURE]).source == plain
    assert task.ask(given, OWN, [PICTURE]).source == own
    tagged = task.ask(given, replace(OWN, tags=True, lowercase=True), [PICTURE]).source
    assert tagged == f"{own.lower()} tags: dog ball"


def test_post_prompts_follow_questions_alone() -> None:
    wording = replace(PLAIN, post_prompt="answer:")
    assert Vqa().ask(example("vqa", "why?"), wording).source == "vqa: why? answer:"
    assert Nlvr().ask(example("nlvr", "Why not."), wording).source == "Why not."


@pytest.mark.parametrize(
    ("how", "source"),
    [("span", "span prediction: <extra_id_0>"), ("denoise", "denoise: <m>"), ("mask", "<m>"), (None, "vqa:")],
)
def test_captions_are_asked_for_in_each_of_their_ways(how: Any, source: str) -> None:
    wording = replace(PLAIN, caption=how, mask="<m>")
    assert Caption().ask(example("caption"), wording).source == source
    assert Caption().ask(example("caption"), replace(PLAIN, empty=True)).source == ""


def test_the_tokenizers_own_words_stay_as_they_are_in_lower_case() -> None:
    wording = replace(PLAIN, caption="denoise", mask="[MASK]", lowercase=True, tags=True)
    upper = Picture("p", 40, 40, regions=(replace(DOG, name="DOG"),))
    assert Caption().ask(example("caption"), wording, [upper]).source == "denoise: [MASK] tags: dog"


def test_an_answer_is_drawn_by_its_weight_and_weighs_as_much() -> None:
    one = example("vqa", "?", [("red", 1.0), ("blue", 0.6), ("no", 0.0), ("pink", 0.4)])
    rows = [Vqa().ask(one, PLAIN, draw=generator(seed)) for seed in range(2000)]
    weights = {"red": 1.0, "blue": 0.6, "pink": 0.4}
    assert all(row.weight == weights[row.target or ""] for row in rows)
    counts = Counter(row.target for row in rows)
    for answer, weight in weights.items():
        assert abs(counts[answer] / 2000 - weight / 2) < 0.04
    assert Vqa().ask(one, PLAIN).target is None
    assert not Vqa().learns(example("vqa", "?", [("no", 0.0)]))


def test_one_voice_in_ten_counts_whole_and_is_brought_into_form_where_asked() -> None:
    said = ["The Red"] * 3 + ["blue"] * 7
    one = example("vqa", "?", ["blue"], annotations=said)
    rows = [Vqa(one_voice=True).ask(one, PLAIN, draw=generator(seed)) for seed in range(2000)]
    assert {row.weight for row in rows} == {1.0}
    assert abs(Counter(row.target for row in rows)["The Red"] / 2000 - 0.3) < 0.04
    formed = {Vqa(one_voice=True, normalize=True).ask(one, PLAIN, draw=generator(seed)).target for seed in range(50)}
    assert formed == {"red", "blue"}
    assert not Vqa(one_voice=True).learns(example("vqa", "?", ["blue"]))


def test_vqa_is_measured_by_people_or_by_weights() -> None:
    people = example("vqa", "?", ["red"], annotations=["red"] * 2 + ["blue"] * 8, answer_type="other")
    found = Vqa().measure(answered([people, people], ["red", "blue"]))
    # two of ten said red: to each of them one fellow agrees, to the other eight two do
    assert found.scalars["accuracy"] == pytest.approx(((2 * 1 / 3 + 8 * 2 / 3) / 10 + 1) / 2)
    assert found.tables[0].rows == [["other", 2, pytest.approx(found.scalars["accuracy"], abs=1e-4)]]
    soft = example("vqa", "?", [("red", 1.0), ("blue", 0.3)])
    assert Vqa().measure(answered([soft, soft, soft], ["red", "Blue", "no"])).scalars["accuracy"] == pytest.approx(
        1.3 / 3
    )
    with pytest.raises(DataError, match="does not say what is right"):
        Vqa().measure(answered([example("vqa", "?")], ["red"]))


def test_statements_are_right_alone_and_together() -> None:
    rows = [example("nlvr", "s", [truth], identifier=group) for truth, group in
            [("true", "a"), ("false", "a"), ("true", "b"), ("false", "b")]]  # fmt: skip
    found = Nlvr().measure(answered(rows, ["true", "false", "true", "true"]))
    assert found.scalars == {"accuracy": 0.75, "consistency": 0.5}
    assert Nlvr().ask(rows[0], PLAIN).choices == ("true", "false")
    assert Nlvr().submission(answered(rows[:2], ["true", "false"])) == ("nlvr.csv", "0,True\n1,False\n")


def test_a_reference_of_a_caption_is_drawn_evenly_and_all_are_measured_against() -> None:
    one = example("caption", references=["a red dog", "a dog in red", "one dog"], answers=None)
    drawn = Counter(Caption().ask(one, PLAIN, draw=generator(seed)).target for seed in range(1500))
    assert set(drawn) == set(one.more["references"])
    assert all(abs(count / 1500 - 1 / 3) < 0.05 for count in drawn.values())
    other = example("caption", references=["two blue balls on a table", "balls"])
    perfect = Caption().measure(answered([one, other], ["a red dog", "two blue balls on a table"]))
    wrong = Caption().measure(answered([one, other], ["two blue balls", "a red dog"]))
    assert next(iter(perfect.scalars)) == "cider"
    assert perfect.scalars["rouge_l"] == pytest.approx(1)
    assert perfect.scalars["cider"] > 1 > wrong.scalars["cider"]
    name, text = Caption().submission(answered([one], ["a dog"]))
    assert (name, json.loads(text)) == ("captions.json", [{"image_id": "p", "caption": "a dog"}])


def test_an_expression_means_the_region_that_overlaps_most_or_none() -> None:
    near = example("refcoco", "the ball", box=[21, 21, 31, 31])
    asked = Refcoco().ask(near, PLAIN, [PICTURE])
    assert (asked.target, asked.weight) == ("<vis_extra_id_1>", 1.0)
    assert asked.choices == ("<vis_extra_id_0>", "<vis_extra_id_1>", "<vis_extra_id_2>")
    assert Refcoco().ask(example("refcoco", "x", box=[12, 12, 19, 19]), PLAIN, [PICTURE]).weight == 0.0
    few = replace(near, more={**near.more, "candidates": [[1, 1, 9, 9], [19, 19, 29, 29]]})
    assert Refcoco().ask(few, PLAIN, [PICTURE]).choices == ("<vis_extra_id_0>", "<vis_extra_id_1>")
    assert len(Refcoco(detections=True).ask(few, PLAIN, [PICTURE]).choices) == 3
    with pytest.raises(DataError, match="no annotated candidates"):
        Refcoco(ground_truth=True).ask(near, PLAIN, [PICTURE])
    found = Refcoco().measure(answered([near, near], ["<vis_extra_id_1>", "<vis_extra_id_0>"]))
    assert found.scalars["accuracy"] == 0.5
    with pytest.raises(DataError, match="no regions"):
        Refcoco().ask(near, PLAIN, [Picture("p", 40, 40)])


def test_shuffled_regions_take_their_names_along() -> None:
    near = example("refcoco", "the ball", box=[20, 20, 30, 30])
    for seed in range(8):
        asked = Refcoco(shuffle=True).ask(near, PLAIN, [PICTURE], draw=generator(seed))
        assert asked.order is not None
        assert sorted(asked.order) == [0, 1, 2]
        assert asked.target == f"<vis_extra_id_{asked.order.index(1)}>"
    assert Refcoco(shuffle=True).ask(near, PLAIN, [PICTURE]).order is None


def test_four_answers_and_four_reasons_are_judged_one_by_one() -> None:
    one = example(
        "vcr", "why?", choices=["a", "b", "c", "d"], label=2, rationales=["e", "f", "g", "h"], rationale_label=0
    )
    task = Vcr()
    assert task.rows(one) == 8
    rows = [task.ask(one, OWN, row=row) for row in range(8)]
    assert [row.target for row in rows] == ["false", "false", "true", "false", "true", "false", "false", "false"]
    assert rows[1].source == "vcr qa: question: why? answer: b"
    assert rows[5].source == "vcr qar: question: why? answer: c rationale: f"
    both = (0, 0, 5, 0, 3, 0, 0, 0)
    answer = (0, 0, 5, 0, 0, 0, 0, 1)
    found = task.measure([Answered(replace(one, uid=str(i)), scores=scores) for i, scores in enumerate((both, answer))])
    assert found.scalars == {"both": 0.5, "answer": 1.0, "rationale": 0.5}
    name, text = task.submission([Answered(one, scores=both)])
    assert name == "vcr.csv"
    values = [float(value) for value in text.splitlines()[1].split(",")[1:]]
    assert sum(values[:4]) == pytest.approx(1, abs=1e-5)
    assert np.argmax(values[:4]) == 2
    short = example("vcr", "why?", choices=["a", "b", "c", "d"], label=2)
    assert task.rows(short) == 4
    assert task.measure([Answered(short, scores=(0, 0, 1, 0))]).scalars == {"both": 1.0, "answer": 1.0}


def test_classes_are_right_word_for_word_or_but_for_capitals() -> None:
    rows = [example("cls", answers=["Red fox"]), example("cls", answers=["cat"])]
    found = Classification().measure(answered(rows, ["red  fox", "dog"]))
    assert found.scalars == {"accuracy": 0.5, "exact": 0.0}
    assert found.tables[0].rows == [["Red fox", 1, 1.0], ["cat", 1, 0.0]]
    assert Classification().submission(answered(rows[:1], ["a,b"]))[1] == 'uid,picture,class\n0,p,"a,b"\n'


def test_translations_and_chains_are_measured_and_handed_in() -> None:
    one = example("mmt", "a dog runs on the grass", ["ein hund rennt im gras"])
    assert Translation().measure(answered([one], ["ein hund rennt im gras"])).scalars["bleu"] == pytest.approx(1)
    assert Translation().submission(answered([one], ["ein\nhund"])) == ("translations.txt", "ein hund\n")
    chain = [example("gqa", "?", ["red"], types={"structural": "query"}), example("gqa", "?", ["yes"])]
    found = Gqa().measure(answered(chain, ["red", "no"]))
    assert found.scalars["accuracy"] == 0.5
    assert json.loads(Gqa().submission(answered(chain, ["red", "no"]))[1])[0] == {
        "questionId": "0",
        "prediction": "red",
    }
    assert json.loads(Vqa().submission(answered([one], ["red"]))[1]) == [{"question_id": 0, "answer": "red"}]
