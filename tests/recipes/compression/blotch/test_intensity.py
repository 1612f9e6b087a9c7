"""How much is left out: levels, and a share that rises over training."""

from __future__ import annotations

import pytest
import torch

from quincunx.recipes.compression.blotch import curriculum, draw_levels, levels, shares
from quincunx.seeds import address


def test_levels_hold_both_ends_and_even_steps_between():
    assert levels(0.2, 0.8, 4) == pytest.approx((0.2, 0.4, 0.6, 0.8))
    assert levels(0, 1, 2) == (0.0, 1.0)
    assert levels(0.5, 0.5) == (0.5,) and levels(0.5, 0.5, 3) == (0.5, 0.5, 0.5)
    # unset: steps of a tenth
    assert levels(0.1, 0.7) == pytest.approx((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    assert len(levels(0, 1)) == 11
    assert levels(0.3, 0.34) == (0.3, 0.34)


@pytest.mark.parametrize("bounds", [(0.5, 0.2), (-0.1, 0.2), (0.2, 1.1)])
def test_bounds_out_of_order_are_refused(bounds):
    with pytest.raises(ValueError, match="0 <= p_min <= p_max <= 1"):
        levels(*bounds)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_levels_for_two_ends_are_refused(count):
    with pytest.raises(ValueError, match="cannot hold both"):
        levels(0.1, 0.9, count)


def test_levels_are_drawn_evenly_by_key_alone():
    keys = torch.tensor([address(0, "blotch", row) for row in range(5000)])
    drawn = draw_levels(keys, 5)
    counts = torch.bincount(drawn, minlength=5)
    assert len(counts) == 5 and float(((counts - 1000) ** 2 / 1000).sum()) < 24  # 4 degrees of freedom
    assert torch.equal(draw_levels(keys[40:60], 5), drawn[40:60])
    assert shares(torch.tensor([2, 0, 2]), (0.1, 0.2, 0.3)).tolist() == [0.3, 0.1, 0.3]


def test_the_curriculum_goes_straight_from_the_initial_to_the_final_share():
    found = [curriculum(update, p=0.9, updates=4, initial=0.1, begin=2) for update in range(9)]
    assert found == pytest.approx([0.1, 0.1, 0.1, 0.3, 0.5, 0.7, 0.9, 0.9, 0.9])


def test_the_curriculum_in_stages_takes_equal_steps():
    found = [curriculum(update, p=1.0, updates=6, begin=1, stages=3) for update in range(9)]
    assert found == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1, 1, 1])


def test_without_updates_the_share_is_there_at_once():
    assert [curriculum(update, p=0.4, updates=0, begin=3) for update in (0, 2, 3, 4)] == [0, 0, 0.4, 0.4]
