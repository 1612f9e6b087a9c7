"""The z-regulariser in a model of pictures and words: encoder and decoder, examples of many lengths, in chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("peft", reason="the peft library is not installed")

from quincunx.config.sections.peft import Peft
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.regularised import regularised
from quincunx.engine.step import Outcome, Step
from quincunx.recipes.vision_language.collate import EXAMPLES, UNTRAINED
from quincunx.recipes.vision_language.objective import Saying
from quincunx.tuners.attaching import attach
from toys import cpu, plan
from vision_language_models import VISUAL, WORDS, batch, model_of

TARGETS = (4, 1, 5, 2)
SITES = ["attention", "cross_attention", "feedforward", "key", "value"]


PROMPTS = {"method": "prompts", "encoder_prompt_len": 3, "decoder_prompt_len": 2}


def made(kind: str, *, prompts: bool = False) -> Parts:
    bottleneck: dict[str, Any] = {"reduction_factor": 4.0, "sites": SITES}
    method, options = "bottleneck", bottleneck
    if prompts:
        method, options = "composite", {"parts": [{"method": "bottleneck", **bottleneck}, PROMPTS]}
    section = Peft(method=method, options=options, train=["connector"], z_weight=2.0, track_z=True)
    model = model_of(kind)
    attach(model, section)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.double().parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return regularised(Parts(model.train(), Saying()), section)


def rows() -> Batch:
    inputs = batch()
    generator = torch.Generator().manual_seed(4)
    labels = torch.randint(4, 40, (4, max(TARGETS)), generator=generator)
    said, words, visual = torch.tensor(TARGETS), torch.tensor(WORDS), torch.tensor(VISUAL)
    labels = labels.where(torch.arange(labels.shape[1]) < said[:, None], torch.tensor(UNTRAINED))
    tensors = {name: inputs[name] for name in inputs if not name.startswith(("decoder", "labels"))}
    extents = {name: words if name in ("input_ids", "attention_mask") else visual for name in tensors}
    tensors |= {"labels": labels, "weight": torch.ones(4), "by": torch.full((4,), EXAMPLES)}
    tensors = {name: each.double() if each.is_floating_point() else each for name, each in tensors.items()}
    extents["labels"] = said
    return Batch(tensors, torch.arange(4), list(range(4)), words + visual + said, extents=extents)


def stepped(parts: Parts, size: int | None) -> tuple[Outcome, Tensor]:
    parts.model.zero_grad(set_to_none=True)
    step = Step(parts.model, parts.objective, cpu(), plan(chunk_samples=size), seed=5)
    outcome = step.gradient(1, [rows()])
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in step.parameters]
    return outcome, torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize("prompts", [False, True], ids=["", "prompts"])
@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_chunks_of_any_size_give_the_same(kind: str, prompts: bool) -> None:
    parts = made(kind, prompts=prompts)
    whole, expected = stepped(parts, None)
    paths = [term for term in whole.sums if term.startswith("z/")]
    assert parts.objective.statistics_remedy == Saying().statistics_remedy  # it stands in that one's place
    assert any(".encoder." in path for path in paths) and any(".decoder." in path for path in paths)
    for size in (1, 2, 3):
        outcome, found = stepped(parts, size)
        # cross-entropies are in float32; so is the library's softmax
        assert (found - expected).norm() <= 1e-6 * expected.norm(), size
        for term, value in whole.sums.items():
            assert abs(float(outcome.sums[term] - value)) <= 1e-6 * abs(float(value)), (size, term)


def test_padding_of_what_is_written_does_not_count() -> None:
    parts: Any = made("bart")
    whole, _ = stepped(parts, None)
    parts.objective.watch.positions.of = lambda *_, **__: None
    other, _ = stepped(parts, None)
    path = next(term for term in whole.sums if "decoder.layers.0.fc2" in term)
    assert abs(float(other.sums[path] - whole.sums[path])) > 1e-3 * float(whole.sums[path])
