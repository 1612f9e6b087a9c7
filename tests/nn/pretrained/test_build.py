"""Encoders built from sizes: their own names, the tokenizer's facts, dropout; what cannot be is refused."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import UsageError
from quincunx.nn.pretrained import build_backbone, train_tokenizer
from quincunx.nn.pretrained.facts import is_causal, padding_id, position_limit, takes_types
from small_encoders import SENTENCES, SIZES, backbone, tokenizer


@pytest.mark.parametrize("architecture", SIZES)
def test_sizes_and_facts_of_the_tokenizer_arrive(architecture):
    model = backbone(architecture)
    made = tokenizer()
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (16, 1)
    assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == len(made)
    assert padding_id(model) == made.pad_token_id == 1
    learned = architecture not in ("modernbert", "t5")
    assert position_limit(model) == (made.model_max_length if learned else None)
    assert takes_types(model) == (architecture in ("bert", "roberta"))
    assert is_causal(model) == (architecture == "gpt2")
    assert not any("pooler" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("architecture", SIZES)
def test_weights_follow_the_seed(architecture):
    one, again, other = (backbone(architecture, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("architecture", SIZES)
def test_dropout_is_set_under_the_architectures_own_names(architecture):
    def chances(value: float) -> set[float]:
        return {module.p for module in backbone(architecture, dropout=value).modules() if hasattr(module, "p")}

    assert chances(0.0) <= {0.0} and 0.3 in chances(0.3) and chances(0.3) <= {0.3}


def test_attention_dropout_is_apart():
    model = build_backbone({"architecture": "bert", **SIZES["bert"]}, tokenizer(), dropout=0.2, attention_dropout=0.4)
    assert (model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob) == (0.2, 0.4)
    with pytest.raises(UsageError, match="must lie in"):
        backbone(dropout=1.0)
    with pytest.raises(UsageError, match="'t5' has no attention_dropout"):
        build_backbone({"architecture": "t5", **SIZES["t5"]}, tokenizer(), attention_dropout=0.1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"architecture": "brt"}, "unknown architecture 'brt'; did you mean .*bert"),
        ({}, "unknown architecture None"),
        ({"architecture": "bert", "hiden_size": 16}, "bert has no size 'hiden_size'; did you mean hidden_size"),
        ({"architecture": "bert", "hidden_size": "wide"}, "sizes of the bert model do not fit"),
        ({"architecture": "bert", "hidden_size": 15, "num_attention_heads": 2}, "no bert model can be built"),
        ({"architecture": "bert", "vocab_size": 20}, "vocab_size is 20, but the tokenizer has 150"),
        ({"architecture": "bart"}, "its encoder cannot be had apart"),
        ({"architecture": "clip"}, "not a text encoder"),
    ],
)
def test_sizes_that_cannot_be_are_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        build_backbone(settings, tokenizer())


def test_a_padding_id_that_the_architecture_would_take_for_another_token_is_refused():
    made = train_tokenizer(SENTENCES, vocabulary=150, max_length=24)
    made.pad_token = "[MASK]"
    with pytest.raises(UsageError, match=r"mpnet numbers positions from the padding id 1, .* pads with 4"):
        build_backbone({"architecture": "mpnet", **SIZES["mpnet"]}, made)


def test_a_head_of_one_score_is_for_encoders_and_decoders_alone():
    for architecture in ("bert", "gpt2"):
        model = build_backbone({"architecture": architecture, **SIZES[architecture]}, tokenizer(), scorer=True)
        assert model.config.num_labels == 1
    with pytest.raises(UsageError, match="needs one of the two alone"):
        build_backbone({"architecture": "t5", **SIZES["t5"]}, tokenizer(), scorer=True)
