"""Cutting by count, by tokens and by length."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quincunx.engine.chunks import cheapest, cheapest_of_parts, cut

lengths_of_batches = st.lists(st.integers(0, 50), min_size=1, max_size=40)


@given(lengths_of_batches, st.integers(1, 50), st.one_of(st.none(), st.integers(1, 200)))
def test_every_position_once_and_never_above_a_limit(lengths, samples, tokens):
    chunks = cut(len(lengths), torch.tensor(lengths), samples, tokens) or [torch.arange(len(lengths))]
    assert sorted(torch.cat(chunks).tolist()) == list(range(len(lengths)))
    for chunk in chunks:
        longest = max(lengths[i] for i in chunk.tolist())
        assert len(chunk) <= samples
        assert tokens is None or len(chunk) == 1 or len(chunk) * longest <= tokens


@given(st.integers(1, 200), st.integers(1, 60))
def test_by_count_there_are_as_few_chunks_as_can_be_and_they_are_even(count, samples):
    chunks = cut(count, None, samples, None)
    sizes = [len(chunk) for chunk in chunks] if chunks else [count]
    assert len(sizes) == -(-count // samples)
    assert max(sizes) - min(sizes) <= 1


def test_a_chunk_holds_like_lengths():
    chunks = cut(6, torch.tensor([9, 1, 8, 2, 9, 1]), 2, None)
    assert [chunk.tolist() for chunk in chunks] == [[1, 5], [2, 3], [0, 4]]


def test_what_fits_stays_as_it_stands():
    assert cut(5, torch.tensor([3, 1, 4, 1, 5]), 5, None) is None
    assert cut(5, torch.tensor([3, 1, 4, 1, 5]), None, 25) is None
    assert cut(5, torch.tensor([3, 1, 4, 1, 5]), None, 24) is not None


def test_a_token_limit_needs_lengths():
    with pytest.raises(ValueError, match=r"chunking\.tokens needs examples with lengths"):
        cut(5, None, None, 10)


@given(lengths_of_batches, st.integers(1, 20), st.integers(1, 200), st.integers(0, 60))
def test_by_tokens_the_cut_costs_the_least(lengths, samples, tokens, each):
    sizes = np.sort(np.array(lengths[:9]))

    def price(bounds: list[int]) -> int:
        return sum((end - start) * max(1, int(sizes[end - 1])) + each for start, end in pairwise(bounds))

    def allowed(bounds: list[int]) -> bool:
        return all(
            end - start == 1 or (end - start <= samples and (end - start) * max(1, sizes[end - 1]) <= tokens)
            for start, end in pairwise(bounds)
        )

    count = len(sizes)
    every = [
        [0, *inner, count] for parts in range(count) for inner in combinations(range(1, count), parts)
    ]  # fmt: skip
    found = cheapest(sizes, samples, tokens, each)
    assert allowed(found)
    assert price(found) == min(price(bounds) for bounds in every if allowed(bounds))


of_parts = st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=1, max_size=8)


@given(of_parts, st.integers(1, 20), st.integers(1, 200), st.integers(0, 60))
def test_parts_that_are_padded_apart_are_counted_apart(parts, samples, tokens, each):
    sizes = np.array(parts)

    def longest(start: int, end: int) -> int:
        return max(1, int(sizes[start:end].max(0).sum()))

    def price(bounds: list[int]) -> int:
        return sum((end - start) * longest(start, end) + each for start, end in pairwise(bounds))

    def allowed(bounds: list[int]) -> bool:
        return all(
            end - start == 1 or (end - start <= samples and (end - start) * longest(start, end) <= tokens)
            for start, end in pairwise(bounds)
        )

    count = len(sizes)
    every = [[0, *inner, count] for many in range(count) for inner in combinations(range(1, count), many)]
    cost, found = cheapest_of_parts(sizes, samples, tokens, each)
    assert allowed(found)
    assert cost == price(found) == min(price(bounds) for bounds in every if allowed(bounds))


@given(of_parts, st.integers(1, 6), st.integers(1, 100))
def test_by_parts_every_position_is_in_one_chunk_that_is_within_the_limits(parts, samples, tokens):
    sizes = torch.tensor(parts)
    chunks = cut(len(sizes), sizes.sum(1), samples, tokens, 5, sizes)
    chunks = [torch.arange(len(sizes))] if chunks is None else chunks
    assert sorted(torch.cat(chunks).tolist()) == list(range(len(sizes)))
    for chunk in chunks:
        padded = len(chunk) * int(sizes[chunk].amax(0).sum())
        assert len(chunk) == 1 or (len(chunk) <= samples and padded <= tokens)


def test_examples_of_equal_length_and_unlike_parts_are_told_apart():
    few_pictures, many_pictures = [30, 2, 36], [2, 30, 36]
    sizes = torch.tensor([few_pictures, many_pictures] * 8)
    chunks = cut(16, sizes.sum(1), None, 10_000, 64, sizes)
    assert chunks is not None
    assert [chunk.tolist() for chunk in chunks] == [[*range(1, 16, 2)], [*range(0, 16, 2)]]
    assert cut(16, sizes.sum(1), None, 10_000, 64) is None  # by their length alone they are alike


@given(lengths_of_batches, st.integers(1, 50), st.integers(1, 200))
def test_where_padding_is_not_computed_tokens_alone_count(lengths, samples, tokens):
    chunks = cut(len(lengths), torch.tensor(lengths), samples, tokens, None) or [torch.arange(len(lengths))]
    assert sorted(torch.cat(chunks).tolist()) == list(range(len(lengths)))
    for chunk in chunks:
        held = [lengths[i] for i in chunk.tolist()]
        assert len(chunk) == 1 or (len(chunk) <= samples and sum(held) <= tokens)
        assert len(chunk) == 1 or len(chunk) * max(held) <= 8 * tokens


def test_where_padding_is_not_computed_unlike_lengths_come_together():
    assert cut(4, torch.tensor([30, 1, 2, 3]), None, 40, None) is None
    assert cut(4, torch.tensor([30, 1, 2, 3]), None, 40, 0) is not None
