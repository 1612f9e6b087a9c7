"""Drawn positions drive `position_ids` of transformers models as they stand, the same with and without a cache."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from quincunx.nn.positions.alibi import bias
from quincunx.nn.positions.sampling import lookup, prefix, sample


def tiny(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    ids = {"bos_token_id": None, "eos_token_id": None}
    if name == "gpt2":
        config = GPT2Config(vocab_size=23, n_positions=64, n_embd=16, n_layer=2, n_head=2, **ids)
        return GPT2LMHeadModel(config).double().eval()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=23, max_position_embeddings=64, **sizes, **ids)
    return LlamaForCausalLM(config).double().eval()


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@torch.no_grad()
def test_one_draw_serves_the_prompt_and_every_further_token(name, continuous):
    if name == "gpt2" and continuous:
        pytest.skip("a table of the model's own has rows for whole numbers only")
    model = tiny(name)
    tokens = torch.randint(23, (3, 9), generator=torch.Generator().manual_seed(1))
    keys = torch.tensor([4, 5, 6])
    drawn = sample(torch.full((3,), 9), 9, 64, keys=keys, continuous=continuous)
    ranks = torch.arange(9).expand(3, 9)
    whole = model(tokens, position_ids=lookup(drawn, ranks)).logits
    step = model(tokens[:, :5], position_ids=lookup(drawn, ranks[:, :5]), use_cache=True)
    parts = [step.logits]
    for place in range(5, 9):
        chosen = slice(place, place + 1)
        step = model(
            tokens[:, chosen],
            position_ids=lookup(drawn, ranks[:, chosen]),
            past_key_values=step.past_key_values,
            use_cache=True,
        )
        parts.append(step.logits)
    # rotary angles are computed in single precision by the library
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-10)
    counted = model(tokens, position_ids=prefix(torch.full((3,), 9), 9, 64)).logits
    assert float((counted - whole).abs().max()) > 1e-4


@torch.no_grad()
def test_alibi_as_an_additive_mask_sees_order_and_nothing_else_of_a_model_without_rotation():
    model = tiny("llama")
    tokens = torch.randint(23, (2, 8), generator=torch.Generator().manual_seed(2))
    nowhere = torch.zeros(2, 8, dtype=torch.int64)
    hidden = torch.full((8, 8), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)

    def logits(shift: int, order: torch.Tensor) -> torch.Tensor:
        places = (torch.arange(8) * 3 + shift).expand(2, 8)
        mask = bias(places, places, 2, dtype=torch.float64) + hidden
        return model(tokens[:, order], position_ids=nowhere, attention_mask=mask).logits

    straight = torch.arange(8)
    swapped = torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])
    torch.testing.assert_close(logits(0, straight), logits(11, straight), rtol=0, atol=1e-12)
    assert float((logits(0, straight) - logits(0, swapped))[:, -1].abs().max()) > 1e-6
    plain = hidden.expand(2, 1, 8, 8)
    unordered = [
        model(tokens[:, order], position_ids=nowhere, attention_mask=plain).logits[:, 1]
        for order in (straight, swapped)
    ]
    assert float((unordered[0] - unordered[1]).abs().max()) > 1e-6  # another last token
