"""Small models that read words and pictures, and a batch for them, for tests of the recipe vision_language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tiny_models import _made, bart, t5

ROWS = 4
WIDTH, FEATURES = 16, 6
WORDS = (7, 5, 6, 3)
"""Of each example."""
VISUAL = (4, 6, 0, 3)
"""Rows of features of each example; of the second, four are of a second picture."""


def mbart() -> nn.Module:
    from transformers import MBartConfig, MBartForConditionalGeneration

    sizes: Any = {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "vocab_size": 40,
        "max_position_embeddings": 32,
        "dropout": 0.0,
        "scale_embedding": True,
    }
    return _made(lambda: MBartForConditionalGeneration(MBartConfig(**sizes)))


def pegasus() -> nn.Module:
    from transformers import PegasusConfig, PegasusForConditionalGeneration

    sizes: Any = {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "vocab_size": 40,
        "max_position_embeddings": 32,
        "dropout": 0.0,
        "decoder_start_token_id": 0,
    }
    return _made(lambda: PegasusForConditionalGeneration(PegasusConfig(**sizes)))


def mt5() -> nn.Module:
    from transformers import MT5Config, MT5ForConditionalGeneration

    sizes: Any = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": 2,
        "num_heads": 2,
        "vocab_size": 40,
        "dropout_rate": 0.0,
        "decoder_start_token_id": 0,
    }
    return _made(lambda: MT5ForConditionalGeneration(MT5Config(**sizes)))


BACKBONES: Mapping[str, Callable[[], nn.Module]] = {
    "bart": bart,
    "t5": t5,
    "mbart": mbart,
    "mt5": mt5,
    "pegasus": pegasus,
}


def model_of(backbone: str, *, joint: Any = None, downsample: Any = None, vision: Any = None, **options: Any) -> Any:
    """Return a small model, its weights random, all of them far from nought."""
    from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
    from quincunx.recipes.vision_language.model.visual import make_visual_embedding

    base = BACKBONES[backbone]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        visual = make_visual_embedding(base, FEATURES, **options)
        for parameter in visual.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return VisionLanguageModel(base, visual, downsample=downsample, vision=vision, joint=joint).eval()


def batch() -> dict[str, Tensor]:
    """Return four examples of different sizes; what stands in padding is no number, to be seen where it is read."""
    generator = torch.Generator().manual_seed(1)
    words = torch.arange(7) < torch.tensor(WORDS)[:, None]
    visual = torch.arange(6) < torch.tensor(VISUAL)[:, None]
    tokens = torch.randint(4, 40, (ROWS, 7), generator=generator)
    images = torch.zeros(ROWS, 6, dtype=torch.int64)
    images[1, 2:] = 1
    objects = torch.arange(6).repeat(ROWS, 1)
    objects[1, 2:] -= 2
    boxes = torch.rand(ROWS, 6, 4, generator=generator)
    boxes[..., 2:] = boxes[..., :2] + (1 - boxes[..., :2]) * boxes[..., 2:]
    features = torch.randn(ROWS, 6, FEATURES, generator=generator)
    labels = torch.randint(4, 40, (ROWS, 5), generator=generator)
    labels[1, 3:] = -100
    return {
        "input_ids": tokens.masked_fill(~words, 1),
        "attention_mask": words.long(),
        "features": features.masked_fill(~visual[..., None], float("nan")),
        "boxes": boxes.masked_fill(~visual[..., None], float("nan")),
        "visual_mask": visual.long(),
        "image_ids": images,
        "object_ids": objects,
        "labels": labels,
    }


def alone(inputs: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    """Return one example of the batch, without padding."""
    words, visual = WORDS[row], VISUAL[row]
    found: dict[str, Tensor] = {}
    for name, tensor in inputs.items():
        size = {"input_ids": words, "attention_mask": words, "labels": tensor.shape[1]}.get(name, visual)
        found[name] = tensor[row : row + 1, :size]
    return found


def wider(inputs: Mapping[str, Tensor], words: int = 2, visual: int = 3) -> dict[str, Tensor]:
    """Return the batch with more padding."""
    found: dict[str, Tensor] = {}
    for name, tensor in inputs.items():
        more = {"input_ids": words, "attention_mask": words, "labels": 0}.get(name, visual)
        value = float("nan") if tensor.is_floating_point() else 0
        padding = torch.full((len(tensor), more, *tensor.shape[2:]), value, dtype=tensor.dtype)
        found[name] = torch.cat([tensor, padding], 1)
    return found
