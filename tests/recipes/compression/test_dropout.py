"""With dropout on: chunks, plans, kinds of attention and layers computed again give one gradient."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from compression_toys import compressor
from quincunx.config.sections.peft import Peft
from quincunx.engine.step import Step
from quincunx.nn.foreign import recomputing
from quincunx.nn.positions import PositionTable
from quincunx.recipes.compression.model.trained import choose_trained
from quincunx.recipes.compression.objective import Prediction
from recipes.compression.test_objective import ALL, batch, items
from toys import cpu, plan

WHOLE: dict[str, dict[str, Any]] = {
    "gpt2": {"architecture": "gpt2"},
    "llama": {"architecture": "llama"},
    "eager": {"architecture": "gpt2", "attention": "eager"},
    "two passes": {"architecture": "gpt2", "plan": "two_pass"},
    "tokens": {"architecture": "gpt2", "readout": "tokens"},
    "mean pool": {"architecture": "gpt2", "readout": "mean_pool"},
    "a table": {"architecture": "gpt2", "positions": "sinusoidal"},
}


def made(**options: Any) -> Any:
    if options.get("positions") == "sinusoidal":
        options["table"] = PositionTable("sinusoidal", 128, 16, dropout=0.3).double()
    return compressor(slots=2, dropout=0.3, **options).train()


def gradient(model: Any, *, seed: int = 5, **cut: Any) -> Tensor:
    model.zero_grad(set_to_none=True)
    step = Step(model, copy.deepcopy(Prediction(ALL)), cpu(), plan(**cut), seed=seed)
    step.gradient(3, [batch(items(7))])
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("case", WHOLE)
def test_chunks_change_nothing(case: str) -> None:
    model = made(**WHOLE[case])
    whole = gradient(model)
    near = 1e-6 if case == "eager" else 1e-12  # the library's eager attention has its softmax in float32
    for cut in ({"chunk_samples": 1}, {"chunk_samples": 3}, {"chunk_tokens": 60}):
        assert apart(gradient(model, **cut), whole) <= near, cut
    assert apart(gradient(model, seed=6), whole) > 1e-2


def test_one_pass_and_two_are_one() -> None:
    whole = gradient(made(architecture="gpt2"))
    assert apart(gradient(made(architecture="gpt2", plan="two_pass"), chunk_samples=2), whole) <= 1e-12
    assert apart(gradient(made(architecture="gpt2", attention="eager")), whole) <= 1e-6


def test_layers_computed_again_drop_the_same() -> None:
    whole, again = made(architecture="gpt2"), made(architecture="gpt2")
    again.backbone.activation_checkpointing_enable(
        {"use_reentrant": False, "context_fn": partial(recomputing, again.backbone)}
    )
    assert apart(gradient(again, chunk_samples=3), gradient(whole)) <= 1e-12


def test_dropout_of_adapters_belongs_to_row_and_token_too() -> None:
    pytest.importorskip("peft")
    torch.manual_seed(2)
    model = made(architecture="llama")
    options = {"r": 2, "lora_dropout": 0.5, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    choose_trained(model, ["adapters"], Peft(method="lora", options=options))
    for parameter in model.double().parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn_like(parameter)
    whole = gradient(model)
    assert apart(gradient(model, chunk_samples=2), whole) <= 1e-12
    assert apart(gradient(model, seed=6), whole) > 1e-2
