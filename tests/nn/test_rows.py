"""Words of rows and positions, and the context that modules share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quincunx.nn.dropout import CounterDropout
from quincunx.nn.rows import (
    CACHED_POSITIONS,
    RowAware,
    RowContext,
    Tokens,
    attach_rows,
    context_of,
    position_words,
    scramble,
    signed,
)
from reference import counter_hash

CPU = torch.device("cpu")


def unsigned(words: torch.Tensor, bits: int) -> list[int]:
    return [word % 2**bits for word in words.tolist()]


def test_words_are_those_of_the_reference():
    words = [0, 1, -1, 2**63 - 1, -(2**63), 123456789123456789]
    assert unsigned(scramble(torch.tensor(words)), 64) == [counter_hash.scramble(word % 2**64) for word in words]
    assert unsigned(position_words(300, CPU), 32) == [counter_hash.position_word(place) for place in range(300)]


def test_scramble_flips_each_bit_half_of_the_time():
    words = torch.randint(-(2**63), 2**63 - 1, (4000,), generator=torch.Generator().manual_seed(0))
    for bit in range(64):
        changed = scramble(words) ^ scramble(words ^ signed(1 << bit))
        rates = torch.stack([((changed >> place) & 1).double().mean() for place in range(64)])
        assert (rates - 0.5).abs().max() < 0.04  # five standard deviations


def test_no_two_positions_share_a_word_and_short_runs_begin_long_ones():
    words = position_words(200_000, CPU)
    assert len(words.unique()) == 200_000
    assert torch.equal(position_words(777, CPU), words[:777])


def test_kept_position_words_are_the_computed_ones(monkeypatch):
    context = RowContext()
    for count in (10, 5, 40, 10):
        assert torch.equal(context.positions(count, CPU), position_words(count, CPU))
    monkeypatch.setattr("quincunx.nn.rows.CACHED_POSITIONS", 20)
    assert torch.equal(context.positions(30, CPU), position_words(30, CPU))
    assert CACHED_POSITIONS * 4 <= 2**26


def test_keys_and_rows_give_different_words_and_any_64_bits_are_a_key():
    context = RowContext()
    seen = []
    for key in (0, 1, 2, -1, 2**63, 2**64 - 2):
        context.set(key, torch.arange(1000))
        seen.append(context.current(1000))
    assert len(torch.cat(seen).unique()) == 6000


def test_attach_numbers_each_module_once_and_shares_one_context():
    shared = CounterDropout(0.1)
    model = nn.Sequential(shared, nn.Linear(2, 2), CounterDropout(0.1), shared)
    objective = nn.Sequential(CounterDropout(0.2))
    context = attach_rows(model, objective)
    modules = [shared, model[2], objective[0]]
    assert [module.layer for module in modules] == [0, 1, 2]
    assert all(module.context is context for module in modules)
    assert attach_rows(nn.Linear(2, 2)) is None


def test_going_back_to_earlier_rows_is_undone_also_after_an_error():
    context = RowContext()
    context.set(1, torch.arange(2))
    earlier = context.words
    context.set(2, torch.arange(3))
    later = context.words
    with pytest.raises(KeyError), context.at(earlier):
        assert context.current(2) is earlier
        raise KeyError
    assert context.current(3) is later


@pytest.mark.parametrize(
    ("rows", "found"), [(torch.arange(3.0), "float32"), (torch.zeros(2, 2, dtype=torch.int64), "2 dim")]
)
def test_rows_of_the_wrong_kind_are_refused(rows, found):
    with pytest.raises(TypeError, match=found):
        RowContext().set(0, rows)


def test_forgotten_or_stale_rows_are_refused():
    dropout = CounterDropout(0.5)
    with pytest.raises(RuntimeError, match="attach_rows"):
        dropout(torch.ones(2, 2))
    context = attach_rows(dropout)
    assert context is not None
    with pytest.raises(RuntimeError, match="before the rows were set"):
        dropout(torch.ones(2, 2))
    context.set(0, torch.arange(3))
    with pytest.raises(RuntimeError, match="set for 3 examples, the module got 2"):
        dropout(torch.ones(2, 2))


def test_members_of_a_row_have_words_of_their_own_wherever_they_stand():
    context = RowContext()
    context.set(3, torch.tensor([5, 9]))
    own = context.known()
    with context.members(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 2])):
        whole = context.current(3)
    assert context.known() is own and len({*whole.tolist(), *own.tolist()}) == 5
    context.set(3, torch.tensor([9]))
    with context.members(torch.tensor([0]), torch.tensor([2])):
        assert context.current(1).tolist() == whole[2:].tolist()


def test_what_is_set_now_comes_back_later_with_its_layout():
    context = RowContext()
    context.set(3, torch.arange(2))
    words, tokens = context.words, Tokens(torch.tensor([0, 1]), torch.tensor([0, 0]))
    with context.laid_out(tokens):
        then = context.as_it_is()
    assert context.tokens is None
    context.set(4, torch.arange(5))
    now = context.words
    with then:
        assert context.words is words and context.tokens is tokens
    assert context.words is now and context.tokens is None


def test_the_context_of_a_model_is_that_of_its_modules():
    model = nn.Sequential(nn.Linear(1, 1), RowAware())
    assert context_of(model) is None
    assert context_of(nn.Sequential(nn.Linear(1, 1))) is None
    assert attach_rows(model) is context_of(model) is not None
