"""Where soft prompts go, what is refused and why, and how many parameters they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bart_base import added, percent
from quincunx.errors import UsageError
from quincunx.tuners.prompts.config import PromptsConfig
from quincunx.tuners.prompts.model import find_stacks, place
from reference.tuners_prompts import vectors
from tiny_models import MODELS


def test_stacks() -> None:
    found = {name: [(each.path, each.decodes) for each in find_stacks(MODELS[name]())] for name in MODELS}
    assert found["bart"] == [("model.encoder", False), ("model.decoder", True)]
    assert found["t5"] == [("encoder", False), ("decoder", True)]
    assert found["llama"] == [("model", True)]
    assert not (found["bert"] or found["clip"] or found["resnet"])


def test_stacks_may_be_named() -> None:
    config = PromptsConfig(encoder_prompt_len=2, decoder_prompt_len=2, target_modules=["*.encoder", "model.decoder"])
    assert [*place(MODELS["bart"](), config).adapters] == [
        "model.encoder", "model.encoder.embed_positions", "model.encoder.layernorm_embedding", "model.decoder",
    ]  # fmt: skip
    config = PromptsConfig(encoder_prompt_len=2, target_modules=["encoder"])
    placement = place(MODELS["t5"](), config)
    assert [*placement.adapters] == ["encoder", "decoder"]  # the decoder sees the longer states
    assert placement.notes == ("2 prompts before encoder",)


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (MODELS["bert"], {"encoder_prompt_len": 2}, "no encoder or decoder that takes inputs_embeds.*prefix"),
        (MODELS["llama"], {"encoder_prompt_len": 2}, "encoder_prompt_len is 2.*no encoder.*use decoder_prompt_len"),
        (lambda: MODELS["llama"]().model, {"decoder_prompt_len": 2}, "LlamaModel is itself the stack.*prompt_tuning"),
        (
            MODELS["t5"],
            {"encoder_prompt_len": 2, "target_modules": ["encodr"]},
            "no encoder or decoder encodr.*encoder",
        ),
        (
            MODELS["t5"],
            {"decoder_prompt_len": 2, "target_modules": ["encoder"]},
            "decoder_prompt_len is 2.*no decoder",
        ),
    ],
)
def test_what_cannot_be_placed_says_why(make: Callable[[], Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        place(make(), PromptsConfig(**options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of them above 0; found 0 and 0"),
        ({"encoder_prompt_len": -1, "decoder_prompt_len": 2}, "found -1 and 2"),
        ({"encoder_prompt_len": 1, "mid_dim": -3}, "mid_dim must be above 0"),
        ({"encoder_prompt_len": 1, "std": 0.0}, "std must be above 0"),
        ({"encoder_prompt_len": 1, "tasks": ["a", "a"]}, "tasks names one twice"),
        ({"encoder_prompt_len": 1, "sites": ["attention"]}, "leave sites and leave_out out"),
        ({"encoder_prompt_len": 1, "leave_out": [0]}, "leave sites and leave_out out"),
    ],
)
def test_options_that_cannot_be_had(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PromptsConfig(**options)


@pytest.mark.parametrize(("tasks", "share"), [(0, 1.997), (4, 4.533)])
def test_published_shares_of_what_is_trained(tasks: int, share: float) -> None:
    """40 prompts before the encoder, 800 between the maps; each task has prompts and maps of its own; no norms."""
    config = PromptsConfig(encoder_prompt_len=40, mid_dim=800, tasks=[f"task {n}" for n in range(tasks)])
    count = added(place, config)
    assert count == max(tasks, 1) * (40 * 768 + (768 * 800 + 800) + (800 * 768 + 768)) == max(tasks, 1) * 1_261_088
    assert round(percent(count, own=0), 3) == share


@torch.no_grad()
def test_the_numbers_at_the_start_are_as_spread_as_asked_for() -> None:
    torch.manual_seed(0)
    for mid in (None, 64):
        config = PromptsConfig(encoder_prompt_len=400, mid_dim=mid, std=0.5)
        part: Any = place(MODELS["t5"](), config).adapters["encoder"]
        assert 0.42 < float(vectors(part.prompt, 0).std()) < 0.58
