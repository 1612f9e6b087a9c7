"""The library's cache, as we use it: these tests tell when a new version changes what we rely on."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from compression_toys import backbone
from quincunx.nn.pretrained.cache import cut, kept, new_cache


def states(model, tokens, cache, first=0):
    return model.base_model(
        input_ids=tokens[:, first:],
        position_ids=torch.arange(first, tokens.shape[1])[None],
        attention_mask=torch.ones(1, tokens.shape[1], dtype=torch.int64),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_what_was_kept_can_be_cut_and_gone_on_with(architecture):
    model = backbone(architecture)
    tokens = torch.tensor([[5, 9, 80, 33, 12]])
    cache = new_cache()
    whole = states(model, tokens, cache)
    layers = kept(cache)
    assert [tuple(keys.shape[2:]) for keys, _ in layers] == [(5, 8), (5, 8)]
    found = states(model, tokens, new_cache(cut(layers, 0, 3)), 3)
    assert float((found - whole[:, 3:]).detach().abs().max()) < 1e-6
    assert torch.equal(cut(layers, -2)[1][1], layers[1][1][:, :, 3:])


def test_layers_with_windows_keep_everything_too():
    model = backbone("mistral")
    cache = new_cache()
    states(model, torch.arange(5, 15)[None], cache)
    assert {keys.shape[2] for keys, _ in kept(cache)} == {10}  # the window is 4


def test_gradients_flow_into_what_was_kept_and_the_giver_keeps_its_own():
    model = backbone("gpt2")
    tokens = torch.tensor([[5, 9, 80]])
    cache = new_cache()
    states(model, tokens[:, :2], cache)
    given = tuple((keys.detach().requires_grad_(), values.detach().requires_grad_()) for keys, values in kept(cache))
    states(model, tokens, new_cache(given), 2).sum().backward()
    assert all(float(tensor.grad.abs().max()) > 0 for tensor in given[1])
    assert {keys.shape[2] for keys, _ in given} == {2}


def test_a_cache_that_keeps_nothing_is_refused():
    with pytest.raises(ValueError, match="kept no keys and values"):
        kept(new_cache())
