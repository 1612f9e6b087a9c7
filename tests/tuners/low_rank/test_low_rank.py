"""Low-rank adapters against plain matrices, and their size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bart_base import added
from quincunx.nn.routing import routed
from quincunx.tuners.low_rank.config import LowRankConfig
from quincunx.tuners.low_rank.layer import LowRankLinear
from quincunx.tuners.low_rank.model import place
from reference.tuners_compacter import by_example
from tiny_models import MODELS


@pytest.mark.parametrize("rank", [1, 3])
def test_a_map_is_its_two_factors_one_after_the_other(rank: int) -> None:
    torch.manual_seed(0)
    linear = LowRankLinear(6, 4, rank=rank, tasks=3, zero=False).double()
    nn.init.normal_(linear.expand.bias)
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    order = [2, 0, 0, 1]
    with routed(linear, order):
        found = linear(x)
    weights = [(b @ a).T for a, b in zip(linear.project.weight, linear.expand.weight, strict=True)]
    assert all(torch.linalg.matrix_rank(weight) == rank for weight in weights)
    torch.testing.assert_close(found, by_example(x, weights, list(linear.expand.bias), order))


def test_it_begins_with_products_like_dense_weights() -> None:
    for rank in (1, 8):
        linear = LowRankLinear(400, 300, rank=rank, tasks=None, zero=False)
        product = linear.expand.weight @ linear.project.weight
        assert float(product.detach().std()) == pytest.approx(0.02, rel=0.15)


def test_an_adapter_by_its_formula() -> None:
    torch.manual_seed(0)
    model = MODELS["bart"]()
    adapter = place(model, LowRankConfig(reduction_factor=4, low_rank_rank=2)).adapters["model.encoder.layers.0.fc2"]
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    w = dict(adapter.named_parameters())
    x = torch.randn(2, 3, 24)
    base = model.get_submodule("model.encoder.layers.0.fc2")

    def linear(x: Tensor, part: str) -> Tensor:
        return x @ w[f"{part}.project.weight"].T @ w[f"{part}.expand.weight"].T + w[f"{part}.expand.bias"]

    h = base(x)
    expected = h + linear(functional.gelu(linear(h, "down"), approximate="tanh"), "up")
    torch.testing.assert_close(adapter(base, x), expected, rtol=1e-4, atol=1e-4)


def test_sizes() -> None:
    rank_one = 30 * (768 + 96 + 96 + 96 + 768 + 768)
    assert added(place, LowRankConfig(reduction_factor=8)) == rank_one
    thrice = LowRankConfig(reduction_factor=8, low_rank_rank=3, tasks=["a", "b"], share_down=True)
    assert added(place, thrice) == 30 * (3 * (768 + 96) + 96 + 2 * (3 * (96 + 768) + 768))


def test_a_rank_of_nothing() -> None:
    with pytest.raises(ValueError, match="low_rank_rank must be at least 1, found 0"):
        LowRankConfig(low_rank_rank=0)
