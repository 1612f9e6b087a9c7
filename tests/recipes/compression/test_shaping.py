"""Batches by hand: targets, places and what is seen, with and without blotching, counted and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from quincunx.nn.positions import sampling
from quincunx.recipes.compression.blotch import UNTRAINED
from quincunx.recipes.compression.blotching import Blotching, Curriculum
from quincunx.recipes.compression.shaping import Item, Numbering, Shaping

NO = UNTRAINED


def item(context: Sequence[int], text: Sequence[int], given: int = 0, answers: Sequence[int] | None = None) -> Item:
    ids = [torch.tensor(each, dtype=torch.int64) for each in (context, text)]
    return Item(*ids, given, None if answers is None else torch.tensor(answers))


def shaped(shaping: Shaping, *items: Item, seed: int = 0) -> dict[str, Any]:
    batch = shaping(items, range(len(items)), range(len(items)), seed)
    return {name: tensor.tolist() for name, tensor in batch.tensors.items()}


def test_trunk_and_branches_by_hand() -> None:
    shaping = Shaping(("forward", "reconstruction", "without", "full"), slots=(2,))
    found = shaped(shaping, item([11, 12, 13], [21, 22]), item([14], [23, 24, 25], given=1))
    assert found["context"] == [[11, 12, 13], [14, 0, 0]]
    assert found["context_seen"] == [[True] * 3, [True, False, False]]
    assert found["context_positions"][0] == [0, 1, 2]
    assert found["context_positions"][1][0] == 0
    assert found["slot_positions"] == [[3, 4], [1, 2]]
    assert found["forward_tokens"] == [[21, 22, 0], [23, 24, 25]]
    assert found["forward_seen"] == [[True, True, False], [True] * 3]
    assert found["forward_targets"] == [[21, 22, NO, NO], [NO, 24, 25, NO]], "what is given is not predicted"
    assert found["forward_positions"][0][:3] == [5, 6, 7]
    assert found["forward_positions"][1] == [3, 4, 5, 6]
    assert found["reconstruction_tokens"] == [[11, 12, 13], [14, 0, 0]]
    assert found["reconstruction_targets"] == [[11, 12, 13, NO], [14, NO, NO, NO]]
    for control in ("without", "full"):
        assert found[f"{control}_targets"] == found["forward_targets"]
        assert found[f"{control}_positions"] == found["forward_positions"], "judged at the same places"


def test_a_plain_text_predicts_each_next_token() -> None:
    found = shaped(Shaping(("plain",)), item([], [7, 8, 9], given=2), item([], [5, 6]))
    assert found["plain_tokens"] == [[7, 8, 9], [5, 6, 0]]
    assert found["plain_targets"] == [[NO, 9, NO], [6, NO, NO]]
    assert found["plain_positions"][0] == [0, 1, 2]
    assert "context" not in found


def test_a_plain_text_reads_context_and_what_follows_it_once() -> None:
    found = shaped(Shaping(("forward", "plain"), slots=(1,)), item([1, 2, 3], [3, 4, 5], given=1))
    assert found["plain_tokens"] == [[1, 2, 3, 4, 5]], "the repeated token stands there once"
    assert found["plain_targets"] == [[2, 3, 4, 5, NO]]
    assert found["forward_targets"] == [[NO, 4, 5, NO]]
    alone = shaped(Shaping(("plain",)), item([1, 2, 3], [3, 4, 5], given=1))
    assert alone["plain_tokens"] == found["plain_tokens"]


def test_answers_stand_where_they_are_asked_for() -> None:
    found = shaped(
        Shaping(("plain",)), item([], [3, 4, 9, 9], answers=[NO, NO, 4, 3]), item([], [5, 9], answers=[NO, 5])
    )
    assert found["plain_targets"] == [[NO, NO, 4, 3], [NO, 5, NO, NO]]


BLOTCHED = Blotching(p=1.0, separators=(0,))
STEPS = [1, 0, 2, 3, 0, 4, 5, 0, 6]
"""The first step ends at place 1; two may be left out; the answer is 6."""


@pytest.mark.parametrize("form", ["mask", "excise"])
def test_a_blotched_text_jumps_over_what_is_left_out(form: Any) -> None:
    shaping = Shaping(("plain",), text_blotching=replace(BLOTCHED, form=form))
    found = shaped(shaping, item([], STEPS, given=2))
    seen = [
        (token, target, place)
        for token, target, place, kept in zip(
            *(found[f"plain_{name}"][0] for name in ("tokens", "targets", "positions", "seen")), strict=True
        )
        if kept
    ]
    assert seen == [(1, NO, 0), (0, 6, 1), (6, NO, 2)]
    assert len(found["plain_tokens"][0]) == (9 if form == "mask" else 3)
    hidden = [
        target for target, kept in zip(found["plain_targets"][0], found["plain_seen"][0], strict=True) if not kept
    ]
    assert set(hidden) <= {NO}


@pytest.mark.parametrize("form", ["mask", "excise"])
@pytest.mark.parametrize("restored", [False, True])
def test_a_blotched_context_is_told_again_as_it_was_or_as_it_is(form: Any, restored: bool) -> None:
    shaping = Shaping(
        ("forward", "reconstruction"),
        slots=(2,),
        context_blotching=replace(BLOTCHED, form=form),
        restored=restored,
    )
    found = shaped(shaping, item(STEPS, [7, 8]))
    kept = [t for t, seen in zip(found["context"][0], found["context_seen"][0], strict=True) if seen]
    assert kept == [1, 0, 6]
    assert found["slot_positions"] == [[3, 4]], "as if the steps had never been there"
    wanted = [target for target in found["reconstruction_targets"][0] if target != NO]
    assert wanted == (STEPS if restored else [1, 0, 6])
    assert found["forward_targets"] == [[7, 8, NO]], "only the context is blotched"


def test_what_is_left_out_depends_on_the_seed_and_the_row_alone() -> None:
    shaping = Shaping(("plain",), text_blotching=replace(BLOTCHED, p=0.5))
    long = item([], [1, 0] + [2, 0] * 30 + [3])
    together = shaping([long] * 4, range(4), [0, 1, 2, 3], 5)
    apart = shaping([long] * 2, range(2), [2, 3], 5)
    assert torch.equal(together["plain_seen"][2:], apart["plain_seen"])
    assert not torch.equal(together["plain_seen"][0], together["plain_seen"][1])
    assert not torch.equal(together["plain_seen"], shaping([long] * 4, range(4), [0, 1, 2, 3], 6)["plain_seen"])


def test_a_share_that_rises_is_that_of_the_update() -> None:
    shaping = Shaping(("plain",), text_blotching=replace(BLOTCHED, curriculum=Curriculum(updates=10)))
    assert all(shaped(shaping.at(0), item([], STEPS))["plain_seen"][0])
    assert sum(shaped(shaping.at(10), item([], STEPS))["plain_seen"][0]) == 3


def test_the_level_drawn_is_told_before_the_text() -> None:
    told = Blotching(levels=(0.0, 1.0), level_tokens=(90, 91), separators=(0,))
    found = shaped(Shaping(("plain",), text_blotching=told), *[item([], STEPS, given=2)] * 20)
    first = [row[0] for row in found["plain_tokens"]]
    assert set(first) == {90, 91}
    for token, seen, targets in zip(first, found["plain_seen"], found["plain_targets"], strict=True):
        assert sum(seen) == (10 if token == 90 else 4), "its own token included"
        assert targets[0] == NO and targets[1] == NO


def test_one_draw_numbers_trunk_and_branches() -> None:
    numbering = Numbering("integer", 50)
    found = shaped(Shaping(("forward", "full"), slots=(2,), numbering=numbering), item([1, 2, 3], [4, 5]), seed=3)
    places = [*found["context_positions"][0], *found["slot_positions"][0], *found["forward_positions"][0]]
    assert places == sorted(set(places)), "strictly rising through the whole sequence"
    assert places[-1] < 50 and len(places) == 8
    assert found["full_positions"] == found["forward_positions"]
    other = shaped(Shaping(("forward", "full"), slots=(2,), numbering=numbering), item([1, 2, 3], [4, 5]), seed=4)
    assert other["context_positions"] != found["context_positions"]


def test_numbers_are_drawn_for_what_is_left() -> None:
    numbering = Numbering("float", 100)
    shaping = Shaping(("plain",), numbering=numbering, text_blotching=replace(BLOTCHED, form="excise"))
    masked = replace(shaping, text_blotching=BLOTCHED)
    short, long = (each([item([], STEPS)], [0], [0], 1) for each in (shaping, masked))
    kept = long["plain_seen"][0]
    assert torch.equal(short["plain_positions"][0], long["plain_positions"][0][kept])


@pytest.mark.parametrize("mode", ["even", "prefix"])
def test_evaluation_may_number_without_chance(mode: Any) -> None:
    shaping = Shaping(("plain",), numbering=Numbering("integer", 30, mode))
    found = shaped(shaping, item([], [1, 2, 3, 4]))
    spread = getattr(sampling, mode)(torch.tensor([4]), 4, 30)
    assert found["plain_positions"] == spread.tolist()


def test_segments_are_equal_parts_of_what_is_left() -> None:
    shaping = Shaping(("forward",), slots=(1,), segments=2, separator=True)
    found = shaped(shaping, item([1, 2, 3, 4, 5], [9]), item([6, 7], [8]))
    assert found["context_segment"][0] == [0, 0, 0, 1, 1]
    assert found["context_segment"][1][:2] == [0, 1]
    assert found["context_positions"][0] == [0, 1, 2, 5, 6]
    assert found["separator_positions"][0] == [3, 7]
    assert found["slot_positions"][0] == [4, 8]
    assert found["forward_positions"][0] == [9, 10]


def test_restart_counts_the_second_pass_from_the_slots() -> None:
    found = shaped(Shaping(("forward", "full"), slots=(2,), style="restart"), item([1, 2, 3], [4]))
    assert found["slot_positions"] == [[3, 4]]
    assert found["memory_positions"] == [[0, 1]]
    assert found["forward_positions"] == [[2, 3]]
    assert found["full_positions"] == [[3, 4]]


def test_each_batch_draws_one_of_several_numbers_of_slots() -> None:
    shaping = Shaping(("forward",), slots=(1, 2, 3))
    widths = [len(shaped(shaping, item([1, 2, 3], [4]), seed=seed)["slot_positions"][0]) for seed in range(60)]
    assert set(widths) == {1, 2, 3}
    assert len(shaped(shaping, *[item([1, 2, 3], [4])] * 3, seed=0)["slot_positions"]) == 3


def test_chunks_are_cut_to_their_own_longest_rows() -> None:
    shaping = Shaping(("forward", "reconstruction"), slots=(1,))
    batch = shaping([item([1], [2]), item([3, 4, 5], [6, 7, 8, 9])], range(2), range(2), 0)
    chunk = batch.select([0])
    assert chunk["context"].shape == (1, 1)
    assert chunk["forward_tokens"].shape == (1, 1)
    assert chunk["forward_targets"].tolist() == [[2, NO]]
    assert chunk["reconstruction_positions"].shape == (1, 2)
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [1 + 1 + 2 + 2, 3 + 1 + 5 + 4]
