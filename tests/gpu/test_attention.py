"""Bundled attention on a CUDA device, where torch.compile generates Triton kernels: `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quincunx.nn.attention.hrr import packed_basis
from quincunx.nn.attention.hrr_bundled import HrrBundledAttention
from reference import hrr as reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CASES = [
    {"form": "rfft"},
    {"form": "spectral"},
    {"form": "spectral", "compile": True},
    {"form": "spectral", "causal": True},
    {"form": "spectral", "compile": True, "causal": True},
    {"form": "spectral", "compile": True, "read": True, "gate": "mean_preserving"},
]


def exact(core: HrrBundledAttention, tensors: list[Tensor], valid: Tensor, factors: Tensor) -> list[Tensor]:
    """Output and gradients of the plain loop in float64, for inputs in the core's own form."""
    basis = torch.eye(core.head_dim, dtype=torch.float64)
    if core.form == "spectral":
        basis = packed_basis(core.head_dim, torch.float64)
    q, k, v = (x.detach().cpu().double().requires_grad_() for x in tensors)
    gain = None if core.read_gain is None else core.read_gain.detach().cpu().double()
    options = {name: core.options[name] for name in ("mask_trace", "score", "gate")}
    out = reference.bundled(q @ basis, k @ basis, v @ basis, valid, causal=core.causal, gain=gain, **options) @ basis.T
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), factors.double())]


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3), (torch.float64, 1e-12)]
)
@pytest.mark.parametrize("options", CASES, ids=str)
def test_values_and_gradients_against_the_plain_loop(options, dtype, bound):
    torch.manual_seed(0)
    core = HrrBundledAttention(2, 16, **options).cuda()
    valid = torch.arange(24) < torch.tensor([24, 9, 0])[:, None]
    for length in (24, 17):
        tensors = [torch.randn(3, 2, length, 16).to("cuda", dtype).requires_grad_() for _ in range(3)]
        factors = torch.randn(3, 2, length, 16).to(dtype)
        mask = valid[:, :length].contiguous()
        out = core(*tensors, mask.cuda())
        assert out.dtype == dtype
        found = [out.detach(), *torch.autograd.grad(out, tensors, factors.cuda())]
        for mine, theirs in zip(found, exact(core, tensors, mask, factors), strict=True):
            assert (mine.cpu().double() - theirs).norm() <= bound * theirs.norm()
