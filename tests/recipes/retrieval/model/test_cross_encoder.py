"""The cross-encoder: one score a pair, padding without effect, type ids where the model has them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import DataError, UsageError
from quincunx.nn.pretrained import build_backbone
from quincunx.recipes.retrieval.data.tokenizing import PairTokenizer
from quincunx.recipes.retrieval.model.cross_encoder import CrossEncoder
from small_encoders import SENTENCES, SIZES, backbone, tokenizer


def cross(architecture: str = "bert", **options: bool) -> CrossEncoder:
    torch.manual_seed(0)
    settings = {"architecture": architecture, **SIZES[architecture]}
    model = build_backbone(settings, tokenizer(), dropout=0.0, attention_dropout=0.0, scorer=True)
    return CrossEncoder(model, **options).eval()


def pairs() -> list[tuple[Tensor, Tensor]]:
    """Return tokens and types of three pairs of different lengths."""
    queries, documents = [SENTENCES[0][:9], "fox", "quick"], [SENTENCES[1][:8], "dog", SENTENCES[2][:14]]
    tokens, types = PairTokenizer(tokenizer(), 24)(queries, documents)
    assert types is not None
    rows = zip(tokens, types, strict=True)
    return [(torch.from_numpy(ids).long(), torch.from_numpy(kinds).long()) for ids, kinds in rows]


def padded(rows: list[Tensor], size: int, filling: int) -> Tensor:
    table = torch.full((len(rows), size), filling)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "distilbert", "modernbert", "gpt2"])
def test_padding_changes_no_score(architecture):
    model = cross(architecture)
    rows = pairs()
    tokens, types = padded([ids for ids, _ in rows], 24, 77), padded([kinds for _, kinds in rows], 24, 1)
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    scores = model(tokens, lengths, types)
    assert scores.shape == (3,) and lengths.unique().numel() > 1
    for row, (ids, kinds) in enumerate(rows):
        alone = model(ids[None], lengths[row : row + 1], kinds[None])
        assert torch.allclose(scores[row], alone[0], atol=1e-6)
    assert scores.std() > 1e-2


def test_type_ids_reach_the_models_that_have_them_and_no_other():
    (ids, kinds), *_ = pairs()
    length = torch.tensor([len(ids)])
    for architecture, typed in (("bert", True), ("distilbert", False), ("mpnet", False)):
        model = cross(architecture)
        assert model.typed == typed
        same = torch.allclose(model(ids[None], length, kinds[None]), model(ids[None], length))
        assert same == (not typed)


def test_the_score_is_the_architectures_own_head():
    (ids, kinds), *_ = pairs()
    model = cross()
    expected = model.model(input_ids=ids[None], token_type_ids=kinds[None]).logits[:, 0]
    assert torch.equal(model(ids[None], torch.tensor([len(ids)]), kinds[None]), expected)


def test_every_parameter_is_trained_with_and_without_checkpointing():
    rows = pairs()
    tokens = padded([ids for ids, _ in rows], 24, 0)
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    gradients = []
    for switched in (False, True):
        model = cross(gradient_checkpointing=switched).train()
        model(tokens, lengths).square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients, strict=True))


def test_errors():
    with pytest.raises(DataError, match="30 tokens is longer than the 24 positions"):
        cross()(torch.full((1, 30), 5), torch.tensor([30]))
    with pytest.raises(UsageError, match="this one has 2 labels"):
        CrossEncoder(backbone())


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "gpt2"])
def test_scores_are_float32_whatever_the_precision(architecture):
    model = cross(architecture)
    (ids, kinds), *_ = pairs()
    exact = model(ids[None], torch.tensor([len(ids)]), kinds[None])
    with torch.autocast("cpu", torch.bfloat16):
        score = model(ids[None], torch.tensor([len(ids)]), kinds[None])
    assert score.dtype == torch.float32
    assert score != score.bfloat16().float(), "a score of eight bits"
    torch.testing.assert_close(score, exact, rtol=0.1, atol=0.02)
