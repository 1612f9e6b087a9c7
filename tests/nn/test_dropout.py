"""Dropout by counter hash: its address, its statistics, and what may be done with it."""

from __future__ import annotations

import math
from shutil import which

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from quincunx.nn import dropout as module
from quincunx.nn.dropout import CounterDropout, kept, row_words, threshold
from quincunx.nn.rows import RowContext, attach_rows, position_words
from reference.counter_hash import is_kept, row_word


def attached(p: float, leading: int = 1, key: int = 7, rows: int = 4) -> tuple[CounterDropout, RowContext]:
    dropout = CounterDropout(p, leading)
    context = attach_rows(dropout)
    assert context is not None
    context.set(key, torch.arange(rows))
    return dropout, context


def mask(p: float, rows: torch.Tensor, length: int, key: int = 11, *, layer: int = 0, salt: int = 0) -> torch.Tensor:
    """Kept elements `[rows, length]` as float64 ones and zeros."""
    context = RowContext()
    context.set(key, rows)
    words = row_words(context.current(len(rows)), layer, salt)
    return kept(words, position_words(length, rows.device), threshold(p), 1.0, torch.float64)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.93])
def test_each_decision_is_that_of_the_reference_bit_for_bit(p):
    rows = [3, 0, 2**40 + 1]
    model = nn.Sequential(CounterDropout(0.3), CounterDropout(p), CounterDropout(p, leading=3))
    context = attach_rows(model)
    assert context is not None
    for key in (0, 2**64 - 3):
        context.set(key, torch.tensor(rows))
        flat = model[1](torch.ones(3, 40, 7), salt=5)
        deep = model[2](torch.ones(3, 4, 5, 6), salt=1)
        for r, row in enumerate(rows):
            for s in range(40):
                for d in range(7):
                    assert bool(flat[r, s, d]) == is_kept(p, row_word(key, row, 1, 5), s * 7 + d)
            for h in range(4):
                for t in range(5):
                    for s in range(6):
                        assert bool(deep[r, h, t, s]) == is_kept(p, row_word(key, row, 2, 1, h, t), s)


def test_a_mask_depends_on_its_row_only_not_on_chunk_order_or_neighbours():
    dropout, context = attached(0.4)
    x = torch.randn(6, 5, 8)
    context.set(3, torch.arange(6))
    whole = dropout(x)
    for order in ([0], [5, 2], [4, 3, 1]):
        context.set(3, torch.tensor(order))
        assert torch.equal(dropout(x[order]), whole[order])


def test_a_mask_does_not_depend_on_padding():
    dropout, _ = attached(0.4)
    x = torch.randn(4, 50, 8)
    assert torch.equal(dropout(x[:, :13]), dropout(x)[:, :13])
    deep, _ = attached(0.4, leading=3)
    weights = torch.rand(4, 2, 30, 30)
    assert torch.equal(deep(weights[:, :, :9, :9]), deep(weights)[:, :, :9, :9])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_slicing_and_size_change_nothing(dtype, monkeypatch):
    dropout, _ = attached(0.2, rows=10)
    x = torch.randn(10, 1000, dtype=dtype)
    whole = dropout(x)
    for size in (7, 999, 1000, 2500):
        monkeypatch.setattr(module, "SLICE", size)
        assert torch.equal(dropout(x), whole)


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.25, 0.9])
def test_kept_values_are_divided_by_the_chance_to_be_kept(p):
    dropout, _ = attached(p)
    x = torch.randn(4, 20_000, dtype=torch.float64)
    y = dropout(x)
    scales = (y / x)[y != 0]
    assert (scales - 1 / (1 - p)).abs().max() * (1 - p) < 1e-8
    # exactly unbiased: the realised chance, a multiple of 2**-32, times the scale is one
    assert (dropout.limit + 2**31) / 2**32 * dropout.scale == pytest.approx(1, abs=1e-15)


def test_masks_are_the_same_in_every_precision_and_half_precision_scales_without_bias():
    dropout, _ = attached(0.1)
    x = torch.rand(4, 5000) + 0.5
    single = dropout(x)
    assert single.dtype == torch.float32
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        y = dropout(x.to(dtype))
        assert y.dtype == dtype
        assert torch.equal(y != 0, single != 0)
        nearest = (x.to(dtype).double() * dropout.scale).to(dtype)
        assert torch.equal(y[y != 0], nearest[y != 0])


def test_without_effect_the_input_itself_is_returned_and_no_rows_are_needed():
    x = torch.randn(2, 3)
    assert CounterDropout(0.0)(x) is x
    assert CounterDropout(0.9).eval()(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_a_probability_out_of_range_is_refused(p):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        CounterDropout(p)


def test_the_least_and_greatest_probabilities_still_drop_and_keep():
    assert threshold(2**-40) == 2**31 - 1
    assert threshold(1 - 2**-40) == -(2**31) + 1


# Statistics at fixed keys: each figure is a standard normal deviate of a fair mask, so 4.5 is far outside.


def deviate(a: torch.Tensor, b: torch.Tensor, p: float) -> float:
    """Correlation of two masks of the same shape, in standard deviations of the independent case."""
    keep = 1 - p
    return float(((a - keep) * (b - keep)).sum() / (p * keep * math.sqrt(a.numel())))


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("key", [0, 1, 2**63 + 5])
def test_mean_and_variance_over_all_rows_and_positions(p, key):
    m = mask(p, torch.arange(64), 4096, key)
    variance = p * (1 - p)
    assert abs(float((m - (1 - p)).sum()) / math.sqrt(variance * m.numel())) < 4.5
    for axis, count, others in ((0, 4096, 64), (1, 64, 4096)):
        chi_square = float(((m.sum(axis) - others * (1 - p)) ** 2 / (others * variance)).sum())
        assert abs(chi_square - count) / math.sqrt(2 * count) < 4.5


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_neighbours_of_every_kind_are_independent(p):
    rows, length = torch.arange(128), 4096
    m = mask(p, rows, length)
    pairs = {
        "next layer": mask(p, rows, length, layer=1),
        "next salt": mask(p, rows, length, salt=1),
        "salt in place of layer": mask(p, rows, length, salt=2),
        "next key": mask(p, rows, length, key=12),
        "key in the upper half": mask(p, rows, length, key=11 + 2**32),
        "far rows": mask(p, rows + 2**33, length),
    }
    assert {name: z for name, other in pairs.items() if abs(z := deviate(m, other, p)) > 4.5} == {}
    for step in (1, 2, 3, 4, 7, 8, 16, 64, 128, 512, 1000, 2048):
        assert abs(deviate(m[:, step:], m[:, :-step], p)) < 4.5, f"positions {step} apart"
    for step in (1, 2, 8, 64):
        assert abs(deviate(m[step:], m[:-step], p)) < 4.5, f"rows {step} apart"
        assert abs(deviate(m[1:, step:], m[:-1, :-step], p)) < 4.5, f"next row, positions {step} apart"


def test_every_pair_of_rows_and_of_positions_is_independent():
    for m in (mask(0.1, torch.arange(200), 20_000), mask(0.1, torch.arange(20_000), 200).T):
        centred = m - 0.9
        z = (centred @ centred.T / (0.09 * math.sqrt(m.shape[1]))).fill_diagonal_(0)
        assert z.abs().max() < 5.5  # the largest of 20,000
        assert float(z.std()) == pytest.approx(1, abs=0.05)


def test_patterns_of_eight_neighbouring_positions_are_equally_frequent():
    m = mask(0.5, torch.arange(200), 8000).to(torch.int64)
    patterns = (m.view(-1, 8) << torch.arange(8)).sum(1)
    counts = torch.bincount(patterns, minlength=256).double()
    expected = len(patterns) / 256
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - 255) / math.sqrt(2 * 255) < 4.5


def test_no_mask_occurs_twice():
    rows = torch.arange(2000)
    masks = [mask(0.5, rows, 64, key=key, layer=layer) for key in range(5) for layer in range(4)]
    assert len(torch.cat(masks).unique(dim=0)) == 40_000


# What may be done with it.


def test_gradients_first_second_and_forward():
    dropout, _ = attached(0.3, rows=3)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(dropout, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: dropout(x) ** 3, (x,))


def test_function_transforms():
    dropout, _ = attached(0.3, rows=3)
    x = torch.randn(3, 4)
    factors = dropout(torch.ones(3, 4))
    gradient = torch.func.grad(lambda x: dropout(x).sum())(x)
    assert torch.equal(gradient, factors)
    assert torch.equal(torch.func.vmap(dropout)(torch.stack([x, -x])), torch.stack([x * factors, -x * factors]))


def test_autocast_leaves_the_dtype():
    dropout, _ = attached(0.3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dropout(torch.ones(4, 3)).dtype == torch.float32
        assert dropout(torch.ones(4, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_recomputation_in_the_backward_pass_draws_the_same_mask():
    dropout, _ = attached(0.5)
    x = torch.randn(4, 100, requires_grad=True)
    y = checkpoint(lambda x: dropout(x).exp(), x, use_reentrant=False)
    y.sum().backward()
    factors = dropout(torch.ones_like(x)).detach()
    assert torch.allclose(x.grad, factors * y.detach(), atol=1e-6)
    assert 0 < (factors == 0).sum() < 400


def test_compiled_masks_are_the_same_and_new_keys_do_not_compile_again():
    compilations = []

    def backend(graph, _inputs):
        compilations.append(graph)
        return graph.forward

    dropout, context = attached(0.3)
    torch.compiler.reset()
    compiled = torch.compile(dropout, backend=backend, fullgraph=True)
    for key, rows, length in ((1, 4, 9), (2, 4, 9), (2**63, 4, 9), (4, 3, 12), (5, 6, 31), (6, 7, 5), (-1, 2, 8)):
        context.set(key, torch.arange(rows) + key % 5)
        x = torch.randn(rows, length, 3)
        assert torch.equal(compiled(x), dropout(x))
    assert len(compilations) == 2  # fixed sizes first, then any size


@pytest.mark.slow
def test_masks_of_generated_code_are_the_same():
    if which("g++") is None and which("clang++") is None:
        pytest.skip("needs a C++ compiler")
    for leading in (1, 3):
        dropout, context = attached(0.3, leading)
        torch.compiler.reset()
        compiled = torch.compile(dropout, dynamic=True)
        for key in range(3):
            context.set(key, torch.arange(4))
            x = torch.randn(4, 3, 30 + key, 7)
            assert torch.equal(compiled(x), dropout(x))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_masks_are_the_same_on_a_gpu(dtype):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    dropout, context = attached(0.3)
    x = torch.randn(4, 1000, 33, dtype=dtype)
    here = dropout(x)
    assert torch.equal(dropout(x.cuda()).cpu(), here)  # rows on the CPU are followed
    context.set(7, torch.arange(4).cuda())
    assert torch.equal(dropout(x.cuda()).cpu(), here)
