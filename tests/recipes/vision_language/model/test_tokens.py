"""Words for regions: where they stand, what they cost, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from bart_base import BASE, NEW_TOKENS, bart_base
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.tokens import add_visual_tokens
from tiny_models import MODELS


def tokenizer_of(words: int, extra: list[str] | None = None) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{n}" for n in range(words - 4 - len(extra or []))), *(extra or [])]
    own = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    own.pre_tokenizer = WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


def with_words(name: str, seed: int = 0) -> tuple[Any, Any]:
    tokenizer, backbone = tokenizer_of(40), MODELS[name]()
    assert add_visual_tokens(tokenizer, backbone, seed=seed) == 200
    return tokenizer, backbone


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_the_last_words_name_regions_and_the_others_stay(name: str) -> None:
    before: Any = MODELS[name]()
    tokenizer, backbone = with_words(name)
    assert len(tokenizer) == 240 == backbone.get_input_embeddings().weight.shape[0] == backbone.config.vocab_size
    for number in (0, 1, 57, 99):
        assert tokenizer.convert_tokens_to_ids(f"<vis_extra_id_{number}>") == 239 - number
        assert tokenizer.convert_tokens_to_ids(f"<extra_id_{number}>") == 139 - number
    assert tokenizer("w1 <vis_extra_id_3> w2").input_ids == [5, 236, 6]
    assert torch.equal(backbone.get_input_embeddings().weight[:40], before.get_input_embeddings().weight)
    assert backbone.get_output_embeddings().weight is backbone.get_input_embeddings().weight
    out = backbone(input_ids=torch.tensor([[5, 236, 6]]), decoder_input_ids=torch.tensor([[4, 4]])).logits
    assert out.shape == (1, 2, 240)


@pytest.mark.parametrize(("name", "std"), [("bart", 0.02), ("t5", 1.0)])
def test_new_embeddings_begin_as_others_do_and_by_their_seed(name: str, std: float) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    new = with_words(name)[1].get_input_embeddings().weight[40:]
    assert torch.equal(torch.get_rng_state(), state)
    assert 0.9 * std < float(new.detach().std()) < 1.1 * std
    assert torch.equal(with_words(name)[1].get_input_embeddings().weight[40:], new)
    assert not torch.equal(with_words(name, seed=1)[1].get_input_embeddings().weight[40:], new)


def test_a_second_call_changes_nothing() -> None:
    tokenizer, backbone = with_words("bart")
    weight = backbone.get_input_embeddings().weight
    assert add_visual_tokens(tokenizer, backbone) == 0
    assert backbone.get_input_embeddings().weight is weight and len(tokenizer) == 240


def test_words_that_are_there_already_and_unused_embeddings_are_used() -> None:
    """As T5's: it has the words of span corruption, and a few more embeddings than words."""
    tokenizer, backbone = tokenizer_of(136, [f"<extra_id_{n}>" for n in reversed(range(100))]), MODELS["t5"]()
    backbone.resize_token_embeddings(140, mean_resizing=False)  # pyright: ignore[reportCallIssue]
    kept = backbone.get_input_embeddings().weight.detach().clone()  # pyright: ignore[reportCallIssue]
    assert add_visual_tokens(tokenizer, backbone) == 100
    now = backbone.get_input_embeddings().weight  # pyright: ignore[reportCallIssue]
    assert now.shape[0] == 236 and torch.equal(now[:140], kept)


def test_bart_base_has_the_published_number_of_new_parameters() -> None:
    with torch.device("meta"):
        backbone: Any = bart_base()
        tokenizer = tokenizer_of(50_265)
        assert add_visual_tokens(tokenizer, backbone) == 200
    assert sum(each.numel() for each in backbone.parameters()) == BASE + NEW_TOKENS == BASE + 153_600


def test_a_vocabulary_that_cannot_end_with_them_is_refused() -> None:
    tokenizer = tokenizer_of(40, ["<vis_extra_id_3>"])
    with pytest.raises(UsageError, match="must be the last words"):
        add_visual_tokens(tokenizer, MODELS["bart"]())
    assert len(tokenizer) == 40
    with pytest.raises(UsageError, match="has 41 words, the backbone 40 embeddings"):
        add_visual_tokens(tokenizer_of(41), MODELS["bart"]())
