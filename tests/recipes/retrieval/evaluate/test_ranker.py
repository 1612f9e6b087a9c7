"""How models rank: on which device vectors are compared, and what is scored at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from quincunx.nn.poly import ContextCodes
from quincunx.recipes.retrieval.evaluate.ranker import ranker
from quincunx.recipes.retrieval.evaluate.rerank import score_pairs
from quincunx.recipes.retrieval.evaluate.vectors import Limits
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from small_encoders import backbone
from toys import cpu

ELSEWHERE = torch.device("meta")
"""A device that holds shapes and no values: nothing that was computed there can come back."""


class Lists:
    """Token ids as a ranker takes them."""

    def __init__(self, *lengths: int) -> None:
        generator = np.random.default_rng(0)
        self.found = [generator.integers(5, 100, length).astype(np.int32) for length in lengths]
        self.lengths = np.array(lengths)

    def tokens(self, index: int) -> np.ndarray:
        return self.found[index]


def poly(attention: Any) -> PolyEncoder:
    torch.manual_seed(0)
    codes = ContextCodes(16, "codes", 3, "basic", None)
    heads = 2 if attention == "multihead" else None
    return PolyEncoder(TextEncoder(backbone(), "mean"), None, codes, attention=attention, heads=heads).eval()


@pytest.mark.parametrize("attention", ["basic", "sqrt", "multihead"])
def test_a_poly_encoders_vectors_are_compared_where_one_says(attention):
    model = poly(attention)
    by = ranker(model, cpu(), cosine=False)
    queries, texts = Lists(3, 5), Lists(4, 6, 2, 7)
    documents = by.documents(texts)
    found = by.rank(queries, documents, 4)
    assert np.allclose(np.sort(found.scores, 1), np.sort(by.scores(queries, texts).numpy(), 1), atol=1e-5)
    for act in (lambda: by.rank(queries, documents, 4, ELSEWHERE), lambda: by.scores(queries, texts, ELSEWHERE)):
        # what is computed there is asked back in the end; weights left behind would be another error, and before
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            act()
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}, "the model itself stays"


def test_a_copy_of_the_weights_scores_as_they_do(monkeypatch):
    model = poly("multihead")
    by: Any = ranker(model, cpu(), cosine=False)
    queries, documents = by.queries(Lists(3, 5)), by.documents(Lists(4, 6))
    mask = torch.ones(2, 3, dtype=torch.bool)
    wanted = model.score(queries, mask, documents)
    assert by._scorer(torch.device("cpu")) == model.score
    copied = by._scorer(torch.device("cpu", 0))
    assert copied != model.score
    assert torch.equal(copied(queries, mask, documents), wanted)


@pytest.mark.parametrize("make", [lambda: poly("basic"), lambda: BiEncoder(TextEncoder(backbone(), "mean")).eval()])
def test_no_more_texts_are_encoded_at_once_than_one_says(make):
    model = make()
    seen: list[int] = []
    watched = model.document.read
    model.document.read = lambda tokens, lengths: (seen.append(len(tokens)), watched(tokens, lengths))[1]
    texts = Lists(4, 6, 2, 7, 5)
    whole = ranker(model, cpu(), cosine=False).documents(texts)
    parts = ranker(model, cpu(), cosine=False, tokens=Limits(texts=2)).documents(texts)
    assert (seen[0], max(seen[1:])) == (5, 2)
    assert torch.allclose(whole, parts, atol=1e-6)


def test_no_more_pairs_are_scored_at_once_than_one_says():
    shapes: list[int] = []

    def model(tokens: torch.Tensor, lengths: torch.Tensor, types: Any) -> torch.Tensor:
        shapes.append(len(tokens))
        return tokens.sum(1).float()

    class Pairs:
        max_length, padding = 99, 0

        def __call__(self, queries: Any, documents: Any) -> Any:
            return [np.full(len(text), 2, np.int32) for text in documents], None

    texts = ["." * length for length in (3, 9, 4, 4, 7, 1, 2)]
    for limit, most in ((8192, 7), (Limits(texts=3), 3)):
        shapes.clear()
        assert score_pairs(model, Pairs(), [""] * 7, texts, cpu(), limit).tolist() == [2 * len(text) for text in texts]
        assert max(shapes) == most
