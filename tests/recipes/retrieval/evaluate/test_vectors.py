"""Encoding gives each text its own vector, in its own place, within the budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quincunx.recipes.retrieval.evaluate.vectors import WINDOW, Limits, batches, encode_texts
from toys import cpu


class Texts:
    """Ragged sequences whose lengths are known exactly, or only roughly."""

    def __init__(self, count: int, *, exact: bool = True) -> None:
        generator = np.random.default_rng(0)
        self.found = [generator.integers(1, 50, size).astype(np.int32) for size in generator.integers(0, 30, count)]
        self.lengths = np.array([len(found) if exact else generator.integers(1, 30) for found in self.found])

    def __len__(self) -> int:
        return len(self.found)

    def tokens(self, index: int) -> np.ndarray:
        return self.found[index]


def sums(tokens: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    valid = torch.arange(tokens.shape[1]) < lengths[:, None]
    return (tokens * valid).sum(1, dtype=torch.float64), lengths


@pytest.mark.parametrize("exact", [True, False], ids=["lengths known", "lengths estimated"])
@pytest.mark.parametrize("only", [None, [5, 3, 5, 2900]])
def test_every_text_has_its_vector_in_its_place(exact, only):
    texts = Texts(WINDOW + 900, exact=exact)
    totals, lengths = encode_texts(sums, texts, cpu(), tokens=100, only=only)
    chosen = [texts.found[i] for i in (range(len(texts)) if only is None else only)]
    assert totals.tolist() == [int(found.sum()) for found in chosen]
    assert totals.dtype == torch.float32
    assert lengths.tolist() == [len(found) for found in chosen]


def test_batches_keep_to_the_budget_and_hold_texts_of_like_length():
    texts = Texts(500)
    seen, padding = [], 0
    for places, tokens, lengths in batches(texts, np.arange(500), 90):
        assert tokens.numel() <= 90
        padding += tokens.numel() - int(lengths.sum())
        seen += places.tolist()
    assert sorted(seen) == list(range(500))
    assert padding < 0.05 * sum(texts.lengths)


def test_a_limit_of_texts_holds_besides_that_of_tokens():
    texts = Texts(500)
    shapes = [tokens.shape for _, tokens, _ in batches(texts, np.arange(500), Limits(90, 7))]
    assert max(rows for rows, _ in shapes) == 7
    assert all(rows * width <= 90 for rows, width in shapes)
    assert max(rows for rows, _ in (tokens.shape for _, tokens, _ in batches(texts, np.arange(500), 90))) > 7
    whole, _ = encode_texts(sums, texts, cpu())
    parts, _ = encode_texts(sums, texts, cpu(), tokens=Limits(texts=3))
    assert torch.equal(whole, parts)


def test_nothing_to_encode_is_refused():
    with pytest.raises(ValueError, match="no texts"):
        encode_texts(sums, Texts(0), cpu())
