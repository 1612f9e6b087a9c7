"""Addressed seeds: fixed for ever, and different wherever the address differs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.seeds import address, draw_seed

PARTS = st.lists(st.integers() | st.text(max_size=6), max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((0,), 5920599543411634557),
        ((1,), 4808362183231528786),
        ((1, "order", 0), 4157588099591083376),
        ((1, "order", 1), 9197683381497188683),
        ((1, "1"), 184996443163331143),
        ((1, 1), 3126758592245932165),
        ((-5, "é", 2**70), 6185221829871024546),
    ],
)
def test_values_never_change(parts: tuple[Any, ...], expected: int) -> None:
    # Runs that were finished long ago depend on these numbers: a change here is a change of every experiment.
    assert address(*parts) == expected


@given(first=PARTS, second=PARTS)
def test_different_addresses_give_different_seeds(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    assert (address(7, *first) == address(7, *second)) == (first == second)
    assert 0 <= address(7, *first) < 2**63


def test_parts_are_not_run_together() -> None:
    spellings = [("ab",), ("a", "b"), ("a", "", "b"), (1, 2), (12,), ("1", 2), (1, "2"), ("12",), ("i1",), ()]
    assert len({address(3, *parts) for parts in spellings}) == len(spellings)


@pytest.mark.parametrize("part", [True, 1.0, None, b"a", (1,)])
def test_other_types_are_refused_by_name(part: Any) -> None:
    with pytest.raises(TypeError, match=type(part).__name__):
        address(1, part)


def test_bits_are_balanced() -> None:
    seeds = [address(0, "worker", index) for index in range(4000)]
    for bit in range(63):
        share = sum(seed >> bit & 1 for seed in seeds) / len(seeds)
        assert abs(share - 0.5) < 0.05, f"bit {bit}"


def test_drawn_seeds_are_short_and_fresh() -> None:
    seeds = {draw_seed() for _ in range(100)}
    assert len(seeds) > 95
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert max(seeds) > 2**27
