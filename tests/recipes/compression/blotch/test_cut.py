"""Units: between separators, or spans."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quincunx.recipes.compression.blotch import either, spans, units
from reference import blotching as plain

SYMBOLS = "E0123456789+*=;."
EQUALS, SEMICOLON, PAD = SYMBOLS.index("="), SYMBOLS.index(";"), SYMBOLS.index(".")


def encode(*texts: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts without padding as ids `[B, S]` and lengths."""
    longest = max(map(len, texts))
    ids = [[SYMBOLS.index(symbol) for symbol in text.ljust(longest, ".")] for text in texts]
    return torch.tensor(ids), torch.tensor([len(text) for text in texts])


def drawn(numbers: torch.Tensor) -> list[str]:
    return ["".join("-" if unit < 0 else str(unit) for unit in row) for row in numbers.tolist()]


def test_units_against_a_golden_drawn_by_hand():
    texts = ["12+3*2=3*2+12=6+12=18E", "1+1=2E", "12345", "1=2=", "=", ""]
    found = units(*encode(*texts), EQUALS)
    assert drawn(found.numbers) == [
        "0000000111111122222333",
        "000011----------------",
        "00000-----------------",
        "0011------------------",
        "0---------------------",
        "----------------------",
    ]
    assert found.last.tolist() == [3, 1, 0, 2, 1, 0]
    assert drawn(found.droppable.long()) == [
        "0000000111111111111000",
        "0000000000000000000000",
        "0000000000000000000000",
        "0011000000000000000000",  # nothing follows the last separator: U_1 is a step like any other
        "0000000000000000000000",
        "0000000000000000000000",
    ]


def test_separators_in_the_padding_do_not_count():
    tokens, _ = encode("1=2=3===")
    assert units(tokens, torch.tensor([5]), EQUALS).last.tolist() == [2]
    assert drawn(units(tokens, torch.tensor([5]), EQUALS).numbers) == ["00112---"]


def test_several_tokens_may_separate():
    assert drawn(units(*encode("1=2;3=4"), [EQUALS, SEMICOLON]).numbers) == ["0011223"]
    assert drawn(units(*encode("1=2;3=4"), EQUALS).numbers) == ["0011112"]


@given(
    rows=st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=4),
    separators=st.sets(st.integers(0, 4), min_size=1, max_size=2),
)
def test_units_are_those_of_the_reference(rows, separators):
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64).view(
        len(rows), longest
    )
    found = units(tokens, torch.tensor([len(row) for row in rows]), sorted(separators))
    for row, tokens_of in enumerate(rows):
        numbers, last = plain.cut(tokens_of, separators)
        assert found.numbers[row].tolist() == numbers + [-1] * (longest - len(numbers))
        assert int(found.last[row]) == last


def test_fixed_spans_against_a_golden_drawn_by_hand():
    found = spans(torch.tensor([8, 3, 4, 0]), 10, 3)
    assert drawn(found.numbers) == ["00011122--", "000-------", "0001------", "----------"]
    assert found.last.tolist() == [2, 0, 1, 0]
    assert drawn(found.droppable.long())[0] == "0001110000"


def test_geometric_spans_are_those_of_the_reference_and_do_not_depend_on_the_length():
    keys = torch.arange(20)
    whole = spans(torch.full((20,), 60), 60, 4.5, keys=keys)
    for row in range(20):
        assert whole.numbers[row].tolist() == plain.spans(60, 4.5, row)
    short = spans(torch.full((20,), 31), 40, 4.5, keys=keys)
    assert torch.equal(short.numbers[:, :31], whole.numbers[:, :31])
    assert bool((short.numbers[:, 31:] == -1).all())


def test_geometric_spans_have_the_given_length_on_average():
    found = spans(torch.full((50,), 2000), 2000, 4.0, keys=torch.arange(50))
    assert 50 * 2000 / float((found.last + 1).sum()) == pytest.approx(4, rel=0.03)
    # memoryless: of the spans that have 2 tokens, as many have a third as of those that have 1 have a second
    sizes = torch.cat([torch.bincount(row) for row in found.numbers])
    assert float((sizes > 2).sum() / (sizes > 1).sum()) == pytest.approx(0.75, abs=0.02)
    assert float((sizes > 1).sum() / len(sizes)) == pytest.approx(0.75, abs=0.02)


def test_spans_below_one_token_are_refused():
    with pytest.raises(ValueError, match=r"at least 1 token, found 0\.5"):
        spans(torch.tensor([4]), 4, 0.5)


def test_texts_without_steps_to_leave_out_fall_back_on_spans():
    tokens, lengths = encode("1=23=45", "1234567", "12=3456")
    found = either(units(tokens, lengths, EQUALS), spans(lengths, 7, 2))
    assert drawn(found.numbers) == ["0011122", "0011223", "0011223"]
    assert found.last.tolist() == [2, 3, 3]
