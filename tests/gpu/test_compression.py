"""The compressing model on a CUDA device: run by hand where there is one (`pytest -m gpu`)."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from compression_toys import batch, compressor
from quincunx.recipes.compression.answers.generate import Sampling, generate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BRANCHES = ["forward", "reconstruction", "without", "full", "plain"]
SHAPES = [
    ({}, {}),
    ({"segments": 2, "separator": True}, {"segments": 2, "separator": True}),
    ({"readout": "tokens"}, {}),
]


def there(name, tensors):
    seen = tensors[f"{name}_seen"]
    return seen if name == "plain" else torch.cat([seen.new_ones(len(seen), 1), seen], 1)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize(("options", "shape"), SHAPES)
def test_states_are_those_of_the_cpu_and_of_both_plans(architecture, options, shape):
    model, tensors = compressor(architecture, **options), batch(**shape)
    expected = {name: each.detach() for name, each in model.states(tensors, BRANCHES).items()}
    model.cuda()
    moved = {name: each.cuda() for name, each in tensors.items()}
    for plan in ("one_pass", "two_pass") if "readout" not in options else ("two_pass",):
        found = model.states(moved, BRANCHES, plan)
        for name in BRANCHES:
            kept = there(name, tensors)
            assert float((found[name].detach().cpu() - expected[name])[kept].abs().max()) < 1e-5
        sum(each.square().sum() for each in found.values()).backward()
        assert all(each.grad.isfinite().all() for each in model.parameters() if each.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_no_nan_and_nearly_the_same(dtype):
    model = compressor("llama", segments=2).float().cuda()
    tensors = {name: each.cuda() for name, each in batch(segments=2, wider=2).items()}
    expected = model.states(tensors, BRANCHES)
    with torch.autocast("cuda", dtype):
        mixed = model.states(tensors, BRANCHES)
    pure = model.to(dtype).states(tensors, BRANCHES)
    for found in (mixed, pure):
        for name in BRANCHES:
            kept = there(name, tensors)
            assert found[name].isfinite().all()
            assert float((found[name].float() - expected[name])[kept].detach().abs().mean()) < 0.05


@pytest.mark.parametrize("readout", ["kv", "mean_pool"])
def test_generation_is_the_same_with_and_without_cache(readout):
    model = compressor("gpt2", readout=readout).cuda()
    compressed = model.compress({name: each.cuda() for name, each in batch().items()})
    options = {"most": 8, "sampling": Sampling(0.8, top_p=0.9), "keys": torch.tensor([3, 4, 5])}
    found = generate(model, compressed, **options).tokens
    assert found.is_cuda and torch.equal(found, generate(model, compressed, cached=False, **options).tokens)
    on_cpu = generate(model.cpu(), compressed.to("cpu"), **options).tokens
    assert torch.equal(found.cpu(), on_cpu)
