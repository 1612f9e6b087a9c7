"""Numbers of trunk and branch: pictures drawn by hand, and plain counting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import UsageError
from quincunx.recipes.compression.model.layout import after, needed, number
from reference import compression as reference


def test_slots_continue_after_the_context_and_the_branch_after_them():
    ranks = number(torch.tensor([6, 4]), 2, longest=6, separator=True)
    assert ranks.context.tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    assert ranks.separators.tolist() == [[6], [4]]
    assert ranks.slots.tolist() == ranks.memory.tolist() == [[7, 8], [5, 6]]
    assert ranks.branch.tolist() == ranks.full.tolist() == ranks.total.tolist() == [9, 7]


def test_uniform_slots_stand_in_the_middle_of_their_part():
    ranks = number(torch.tensor([6]), 2, longest=6, separator=True, style="uniform")
    assert ranks.slots.tolist() == [[1, 4]] and ranks.branch.tolist() == [7]
    assert number(torch.tensor([8]), 8, longest=8, style="uniform").slots.tolist() == [list(range(8))]


def test_restart_counts_the_memory_from_nought_and_the_full_branch_after_the_context():
    ranks = number(torch.tensor([5]), 2, longest=5, style="restart")
    assert ranks.slots.tolist() == [[5, 6]] and ranks.memory.tolist() == [[0, 1]]
    assert (ranks.branch.tolist(), ranks.full.tolist()) == ([2], [5])


def test_segments_lie_behind_one_another_with_their_slots():
    segment = torch.tensor([[0, 0, 1, 1, 1]])
    ranks = number(torch.tensor([5]), 2, longest=5, separator=True, segment=segment, segments=2)
    #  c c S k k c c c S  k  k  branch
    #  0 1 2 3 4 5 6 7 8  9 10  11
    assert ranks.context.tolist() == [[0, 1, 5, 6, 7]]
    assert ranks.separators.tolist() == [[2, 8]]
    assert ranks.slots.tolist() == [[3, 4, 9, 10]] and ranks.branch.tolist() == [11]


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=3),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(["continue", "uniform", "restart"]),
)
def test_numbers_are_those_of_counting(rows, slots, separator, style):
    lengths = [sum(sizes) for sizes in rows]
    longest = max(*lengths, 1)
    segment = torch.zeros(len(rows), longest, dtype=torch.int64)
    for row, sizes in enumerate(rows):
        owners = [part for part, size in enumerate(sizes) for _ in range(size)]
        segment[row, : len(owners)] = torch.tensor(owners, dtype=torch.int64)
    ranks = number(
        torch.tensor(lengths), slots, longest=longest, separator=separator, segment=segment, segments=3, style=style
    )
    for row, sizes in enumerate(rows):
        context, separators, placed, first, total = reference.numbers(sizes, slots, separator, style)
        assert ranks.context[row, : lengths[row]].tolist() == context
        assert ranks.separators[row].tolist() == separators
        assert ranks.slots[row].tolist() == placed
        assert (int(ranks.branch[row]), int(ranks.total[row])) == (first, total)


def test_what_follows_stands_after_the_last_that_is_seen():
    positions = torch.tensor([[3, 7, 9], [0, 0, 0]])
    seen = torch.tensor([[True, True, False], [False, False, False]])
    assert after(positions, seen).tolist() == [[8], [0]]
    assert after(torch.tensor([[3.0, 7.5]]), torch.ones(1, 2, dtype=torch.bool)).tolist() == [[8.0]]


def test_a_missing_tensor_is_named():
    with pytest.raises(UsageError, match=r"no slot_positions; it has context"):
        needed({"context": torch.zeros(1)}, "slot_positions")
