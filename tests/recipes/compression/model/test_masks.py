"""Masks: drawn by hand, by plain loops, and what may never be in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quincunx.recipes.compression.model import layout, masks
from reference import compression as reference


def ones(count: int, rows: int = 1) -> torch.Tensor:
    return torch.ones(rows, count, dtype=torch.bool)


def places(count: int, rows: int = 1) -> torch.Tensor:
    return torch.arange(count).expand(rows, -1)


def drawn(text: str) -> str:
    """Return a picture without its margins."""
    lines = [line.strip() for line in text.strip("\n").splitlines()]
    return "\n".join(line for line in lines if line)


def shown(tokens: layout.Tokens, sight: masks.Sight, **options: Any) -> str:
    return drawn(masks.picture(tokens, sight, **options))


def one_segment(causal: bool = True, seen: torch.Tensor | None = None) -> layout.Tokens:
    context = ones(3) if seen is None else seen
    return layout.joined(
        [
            layout.context(context, places(3, len(context)), causal=causal),
            layout.separators(places(1, len(context)), 3),
            layout.slots(places(2, len(context)), 1, 3, causal=causal),
            layout.branch("forward", 0, ones(2, len(context)), places(3, len(context)), causal=causal),
            layout.branch("full", 1, ones(1, len(context)), places(2, len(context)), causal=causal),
            layout.branch("plain", 2, ones(2, len(context)), places(2, len(context)), causal=causal),
        ]
    )


CAUSAL = """
   c c c S k k > x x > y > z
c  # . . . . . . . . . . . .
c  # # . . . . . . . . . . .
c  # # # . . . . . . . . . .
S  # # # # . . . . . . . . .
k  # # # # # . . . . . . . .
k  # # # # # # . . . . . . .
>  . . . . # # # . . . . . .
x  . . . . # # # # . . . . .
x  . . . . # # # # # . . . .
>  # # # . . . . . . # . . .
y  # # # . . . . . . # # . .
>  . . . . . . . . . . . # .
z  . . . . . . . . . . . # #
"""
APART = """
   c c c S k k
c  # . . . . .
c  # # . . . .
c  # # # . . .
S  # # # # . .
k  # # # # # .
k  # # # # . #
"""
BOTH_WAYS = """
   c c c S k k > x x > y > z
c  # # # . . . . . . . . . .
c  # # # . . . . . . . . . .
c  # # # . . . . . . . . . .
S  # # # # . . . . . . . . .
k  # # # # # # . . . . . . .
k  # # # # # # . . . . . . .
>  . . . . # # # . . . . . .
x  . . . . # # # # . . . . .
x  . . . . # # # # # . . . .
>  # # # . . . . . . # . . .
y  # # # . . . . . . # # . .
>  . . . . . . . . . . . # #
z  . . . . . . . . . . . # #
"""
SEGMENTS = {
    "accumulate": """
   c c c c k k c c c c > x > y
c  # . . . . . . . . . . . . .
c  # # . . . . . . . . . . . .
c  . . # . # . . . . . . . . .
c  . . # # # . . . . . . . . .
k  # # . . # . . . . . . . . .
k  . . # # # # . . . . . . . .
c  . . . . . . # . . . . . . .
c  . . . . . . # # . . . . . .
c  . . . . . . # # # . . . . .
c  . . . . . . # # # # . . . .
>  . . . . # # . . . . # . . .
x  . . . . # # . . . . # # . .
>  . . . . . . # # # # . . # .
y  . . . . . . # # # # . . # #
""",
    "concatenate": """
   c c c c k k > x
c  # . . . . . . .
c  # # . . . . . .
c  . . # . . . . .
c  . . # # . . . .
k  # # . . # . . .
k  . . # # . # . .
>  . . . . # # # .
x  . . . . # # # #
""",
    "recurrent": """
   c c c c k k > x
c  # . . . . . . .
c  # # . . . . . .
c  . . # . # . . .
c  . . # # # . . .
k  # # . . # . . .
k  . . # # # # . .
>  . . . . . # # .
x  . . . . . # # #
""",
}


def test_trunk_and_branches_as_drawn():
    assert shown(one_segment(), masks.Sight()) == drawn(CAUSAL)


def test_slots_that_do_not_see_one_another_still_see_themselves():
    trunk = [layout.context(ones(3), places(3)), layout.separators(places(1), 3), layout.slots(places(2), 1, 3)]
    assert shown(layout.joined(trunk), masks.Sight(mutual=False)) == drawn(APART)


def test_read_both_ways_predicted_texts_stay_causal():
    assert shown(one_segment(causal=False), masks.Sight()) == drawn(BOTH_WAYS)


@pytest.mark.parametrize("join", SEGMENTS)
def test_segments_as_drawn(join):
    segment = torch.tensor([[0, 0, 1, 1]])
    parts = [layout.context(ones(4), places(4), segment), layout.slots(places(2), 2, 4)]
    if join == "accumulate":
        parts.append(layout.context(ones(4), places(4), stream=layout.WHOLE))
    parts.append(layout.branch("forward", 0, ones(1), places(2)))
    if join == "accumulate":
        parts.append(layout.branch("full", 1, ones(1), places(2)))
    assert shown(layout.joined(parts), masks.Sight(join=join, segments=2)) == drawn(SEGMENTS[join])


def test_padding_is_seen_by_itself_alone_and_marked():
    seen = torch.tensor([[True, True, False], [True, True, True]])
    tokens = one_segment(seen=seen)
    found = masks.opened(tokens, masks.Sight())
    assert found.shape[0] == 2 and found[0, :, 2].nonzero().flatten().tolist() == [2]
    assert torch.equal(found[1], masks.opened(one_segment(), masks.Sight())[0])
    column = [line[3:].split()[2] for line in masks.picture(tokens, masks.Sight(), row=0).splitlines()[1:]]
    assert column == ["-", "-", "#", *["-"] * 10]


def test_words_stand_at_the_rows_of_a_picture():
    lines = masks.picture(one_segment(), masks.Sight(), words=[f"w{i}" for i in range(13)]).splitlines()
    assert lines[7] == "w6   . . . . # # # . . . . . ." and lines[12].startswith("w11")


def test_masks_are_additive_finite_and_leave_no_row_empty():
    nobody = torch.zeros(1, 3, dtype=torch.bool)
    tokens = layout.joined([layout.context(nobody, places(3)), layout.slots(places(2), 1, 3)])
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        mask = masks.additive(masks.opened(tokens, masks.Sight(mutual=False)), dtype)
        assert mask.dtype == dtype and mask.shape == (1, 1, 5, 5) and bool(mask.isfinite().all())
        assert bool((mask == 0).any(-1).all())
        assert bool(((torch.zeros(1, 1, 5, 5, dtype=dtype) + mask).softmax(-1)).isfinite().all())
        assert set(mask.flatten().tolist()) == {0.0, torch.finfo(dtype).min}


def test_a_window_hides_what_lies_so_far_back():
    tokens = layout.branch("plain", 0, ones(4), torch.tensor([[0, 1, 5, 6]]))
    found = masks.opened(tokens, masks.Sight(), window=5)[0].int().tolist()
    assert found == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_queries_may_be_the_last_tokens_alone():
    tokens = one_segment()
    whole = masks.opened(tokens, masks.Sight())
    assert torch.equal(masks.opened(tokens, masks.Sight(), 6), whole[:, 6:])


def test_linear_biases_stand_where_keys_are_seen():
    tokens = layout.joined(
        [layout.memory(ones(2), torch.tensor([[0, 3]])), layout.branch("forward", 0, ones(0), torch.tensor([[5]]))]
    )
    bias = masks.linear_bias(tokens, 2, 2, torch.float64)
    mask = masks.additive(masks.opened(tokens, masks.Sight(), 2), torch.float64, bias)
    slopes = torch.tensor([2.0**-4, 2.0**-8], dtype=torch.float64)
    assert torch.equal(mask[0, :, 0], -slopes[:, None] * torch.tensor([5.0, 2.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("join", ["accumulate", "concatenate", "recurrent"])
def test_masks_are_those_of_plain_loops(causal, mutual, join):
    segments = 3
    segment = torch.tensor([[0, 0, 1, 2, 2, 2], [0, 1, 1, 1, 1, 2]])
    kinds = ["forward", "full", "reconstruction", "without", "plain"]
    parts = [
        layout.context(ones(6, 2), places(6, 2), segment, causal=causal),
        layout.separators(places(3, 2), 6),
        layout.slots(places(6, 2), segments, 6, causal=causal),
        layout.context(ones(6, 2), places(6, 2), causal=causal, stream=layout.WHOLE),
        *(
            layout.branch(kind, number, ones(2, 2), places(3 - (kind == "plain"), 2), causal=causal)
            for number, kind in enumerate(kinds)
        ),
    ]
    found = masks.opened(layout.joined(parts), masks.Sight(mutual, join, segments))
    for row in range(2):
        described = [{"part": "context", "segment": int(segment[row, i]), "place": i} for i in range(6)]
        described += [{"part": "separator", "segment": i, "place": 0} for i in range(3)]
        described += [{"part": "slot", "segment": i // 2, "place": i % 2} for i in range(6)]
        described += [{"part": "whole", "segment": 0, "place": i} for i in range(6)]
        for kind in kinds:
            described += [{"part": kind, "kind": kind, "segment": 0, "place": i} for i in range(3 - (kind == "plain"))]
        expected = [
            [reference.sees(q, k, mutual=mutual, join=join, segments=segments, causal=causal) for k in described]
            for q in described
        ]
        assert found[row].tolist() == expected
