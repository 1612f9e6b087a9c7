"""Which units are left out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.recipes.compression.blotch import choose, spans, units
from quincunx.recipes.compression.blotch.choose import dropped
from reference import blotching as plain

STEP = 9
"""The separator of these texts."""


def texts(*steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of so many blotchable steps of two tokens each, `1 9`, between a problem `2 2 9` and an answer `3`."""
    rows = [[2, 2, STEP] + [1, STEP] * count + [3] for count in steps]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([len(row) for row in rows])


def drawn(keep: torch.Tensor) -> list[str]:
    return ["".join(".#"[kept] for kept in row) for row in keep.long().tolist()]


def shares(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_p_0_leaves_out_nothing_and_p_1_all_between_problem_and_answer():
    tokens, lengths = texts(3, 1, 0)
    cut = units(tokens, lengths, STEP)
    for spacing in ("random", "equal", "geometric"):
        keep = [
            drawn(choose(cut, shares(p, p, p), keys=torch.tensor([1, 2, 3]), spacing=spacing, mean_run=1.5))
            for p in (0, 1)
        ]
        assert keep == [
            ["##########", "######....", "####......"],
            ["###......#", "###..#....", "####......"],
        ]


def test_equal_spacing_against_a_golden_drawn_by_hand():
    tokens, lengths = texts(5, 5, 5, 5, 1, 4)
    cut = units(tokens, lengths, STEP)
    keep = choose(cut, shares(0.2, 0.4, 0.5, 0.7, 0.5, 0.1), keys=torch.zeros(6, dtype=torch.int64), spacing="equal")
    assert drawn(keep) == [
        "#######..#####",  # one of five: the middle one
        "#####..##..###",  # two: 1 + floor(5/4), 1 + floor(15/4)
        "###..##..##..#",  # 2.5 is three: 1 + floor(5/6), floor(15/6), floor(25/6)
        "###....##....#",  # 3.5 is four: 1 + floor(5/8), floor(15/8), floor(25/8), floor(35/8)
        "###..#........",  # the only one, counts of one are no exception
        "############..",  # 0.4 is none
    ]


def test_equal_spacing_is_the_same_in_single_precision_and_for_every_key():
    last = torch.full((4,), 6)
    single = torch.tensor([0.7, 0.7, 0.3, 0.3])
    found = dropped(last, single, 7, keys=torch.tensor([1, 2, 3, 4]), spacing="equal")
    assert found.sum(1).tolist() == [4, 4, 2, 2]
    assert torch.equal(found[0], found[1]) and torch.equal(found[2], found[3])


def test_neighbours_stay_when_blotches_are_not_contiguous():
    tokens, lengths = texts(5, 4)
    keys = torch.tensor([1, 2])
    for spacing in ("random", "equal"):
        keep = choose(units(tokens, lengths, STEP), shares(1, 1), keys=keys, spacing=spacing, contiguous=False)
        assert drawn(keep)[0] == "###..##..##..#"
    assert drawn(keep)[1] == "#####..##..#.."  # equal: of 4 the middles of two halves


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([0, 0.1, 0.25, 0.5, 0.7, 0.9, 1]), st.integers(0, 2**63 - 1)),
        min_size=1,
        max_size=5,
    ),
    spacing=st.sampled_from(["random", "equal", "geometric"]),
    contiguous=st.booleans(),
    mean_run=st.sampled_from([1.0, 1.5, 3.0]),
)
def test_choices_are_those_of_the_reference_whatever_stands_beside_them(rows, spacing, contiguous, mean_run):
    contiguous = contiguous or spacing == "geometric"
    last, p, keys = (torch.tensor(column) for column in zip(*rows, strict=True))
    found = dropped(last, p, 10, keys=keys, spacing=spacing, contiguous=contiguous, mean_run=mean_run)
    for row, (units_of, share, key) in enumerate(rows):
        wanted = plain.left_out(units_of, share, key, spacing, contiguous, mean_run)
        assert set(found[row].nonzero().flatten().tolist()) == wanted
        if not contiguous:
            assert not bool((found[row, 1:] & found[row, :-1]).any())
    alone = dropped(last[-1:], p[-1:], 15, keys=keys[-1:], spacing=spacing, contiguous=contiguous, mean_run=mean_run)
    assert torch.equal(alone[0, :10], found[-1])


@pytest.mark.parametrize(("spacing", "p"), [("random", 0.3), ("equal", 0.3), ("geometric", 0.3), ("geometric", 0.8)])
def test_the_share_left_out_is_p(spacing, p):
    rows, steps = 3000, 20
    found = dropped(
        torch.full((rows,), steps + 1), torch.full((rows,), p), steps + 2, keys=torch.arange(rows), spacing=spacing
    )[:, 1:-1].double()
    assert float(found.mean()) == pytest.approx(p, abs=0.01)
    if spacing != "equal":  # at every place, the first and the last included
        assert float((found.mean(0) - p).abs().max()) < 0.05


def test_runs_have_the_given_mean_length_and_random_choices_those_of_chance():
    rows, steps = 2000, 200
    last, p, keys = torch.full((rows,), steps + 1), torch.full((rows,), 0.25), torch.arange(rows)

    def mean_run(found: torch.Tensor) -> float:
        begins = found[:, 1:] & ~found[:, :-1]
        return float(found.sum() / begins.sum())

    assert mean_run(dropped(last, p, steps + 2, keys=keys)) == pytest.approx(1 / 0.75, rel=0.02)
    for run in (1.0, 2.0, 5.0):
        found = dropped(last, p, steps + 2, keys=keys, spacing="geometric", mean_run=run)
        assert mean_run(found) == pytest.approx(run, rel=0.03)  # cut off at the ends, hence not exactly


def test_without_neighbours_a_share_of_p_over_1_plus_p_is_left_out():
    found = dropped(torch.full((500,), 201), torch.full((500,), 0.5), 202, keys=torch.arange(500), contiguous=False)
    assert float(found[:, 1:-1].double().mean()) == pytest.approx(1 / 3, abs=0.01)


def test_runs_cannot_be_asked_for_without_neighbours():
    with pytest.raises(ValueError, match="cannot be combined with contiguous false"):
        dropped(torch.tensor([4]), shares(0.5), 5, keys=torch.tensor([0]), spacing="geometric", contiguous=False)


def test_one_step_is_left_out_whatever_the_share():
    tokens, lengths = texts(3, 1, 2)
    cut = units(tokens, lengths, STEP)
    keys = torch.tensor([1, 2, 3])
    found = {step: drawn(choose(cut, shares(0, 1, 0.5), keys=keys, step=step)) for step in (1, 2, 4)}
    assert found == {
        1: ["###..#####", "###..#....", "###..###.."],
        2: ["#####..###", "######....", "#####..#.."],
        4: ["##########", "######....", "########.."],  # 4 is the answer of the first, and it stays
    }


def test_single_tokens_are_dropped_in_the_blotchable_area_alone():
    tokens, lengths = texts(400, 2)
    cut = units(tokens, lengths, STEP)
    keep = choose(cut, shares(0, 0), keys=torch.tensor([5, 6]), token_p=0.3)
    inside = cut.droppable
    assert bool(keep[:1][~inside[:1]].all()) and bool(keep[1, :3].all()) and bool(keep[1, 7])
    assert float(keep[0][inside[0]].double().mean()) == pytest.approx(0.7, abs=0.06)
    both = choose(cut, shares(0.5, 0.5), keys=torch.tensor([5, 6]), token_p=0.3)
    units_alone = choose(cut, shares(0.5, 0.5), keys=torch.tensor([5, 6]))
    assert torch.equal(both, units_alone & keep)
    assert drawn(choose(cut, shares(0, 0), keys=torch.tensor([5, 6]), token_p=1.0))[1][:8] == "###....#"


def test_whole_units_are_dropped_and_padding_never_stays():
    cut = spans(torch.tensor([50, 37, 0]), 50, 5)
    keep = choose(cut, shares(0.5, 0.5, 0.5), keys=torch.tensor([1, 2, 3]))
    for row in range(3):
        for unit in range(int(cut.numbers[row].max()) + 1):
            of_unit = keep[row][cut.numbers[row] == unit]
            assert bool(of_unit.all()) or not bool(of_unit.any())
    assert not bool(keep[cut.numbers == -1].any())
    assert 0 < int(keep[:2].sum()) < 87


@given(p=st.floats(0, 1), key=st.integers(0, 2**62), lengths=st.lists(st.integers(1, 20), min_size=1, max_size=3))
def test_something_always_stays(p, key, lengths):
    cut = spans(torch.tensor(lengths), 20, 2)
    keys = torch.arange(len(lengths)) + key
    keep = choose(cut, torch.full((len(lengths),), p), keys=keys, token_p=0.5)
    assert bool(keep[:, 0].all())
