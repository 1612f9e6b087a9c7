"""Small models with random weights, and a batch for each, for all tests of tuners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
ROWS = 4


def bart() -> nn.Module:
    from transformers import BartConfig, BartForConditionalGeneration

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
    }
    return _made(lambda: BartForConditionalGeneration(BartConfig(**sizes)))


def t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

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
    return _made(lambda: T5ForConditionalGeneration(T5Config(**sizes)))


def bert() -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    sizes: Any = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "vocab_size": 40,
        "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return _made(lambda: BertForMaskedLM(BertConfig(**sizes)))


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: Any = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 24,
        "vocab_size": 40,
        "max_position_embeddings": 64,
    }
    return _made(lambda: LlamaForCausalLM(LlamaConfig(**sizes)))


def clip() -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes: Any = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "image_size": 32,
        "patch_size": 8,
    }
    return _made(lambda: CLIPVisionModel(CLIPVisionConfig(**sizes)))


def resnet() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes: Any = {
        "embedding_size": 8,
        "hidden_sizes": [16, 32],
        "depths": [2, 2],
        "layer_type": "bottleneck",
        "num_labels": 5,
    }
    return _made(lambda: ResNetForImageClassification(ResNetConfig(**sizes)))


def _made(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
        for parameter in model.parameters():  # so that no part of a model is nought, as biases and norms are at first
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def inputs_for(model: nn.Module) -> Inputs:
    """Return a batch of four rows of lengths 7, 5, 6 and 3 (or pictures) for a model."""
    generator = torch.Generator().manual_seed(1)
    kind = str(model.config.model_type)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    if kind in ("clip_vision_model", "resnet"):
        return {"pixel_values": torch.randn(ROWS, 3, 32, 32, generator=generator)}
    tokens = torch.randint(4, 40, (ROWS, 7), generator=generator)
    mask = (torch.arange(7) < torch.tensor([7, 5, 6, 3])[:, None]).long()
    found = {"input_ids": tokens * mask + (1 - mask), "attention_mask": mask}
    if kind in ("bart", "t5"):
        found["decoder_input_ids"] = torch.randint(4, 40, (ROWS, 5), generator=generator)
    return found


def output_of(model: nn.Module, inputs: Mapping[str, Any], **more: Any) -> Tensor:
    """Return a model's logits, or its last states where it has none `[B, ...]`."""
    found = model(**inputs, **more)
    return found.logits if "logits" in found else found.last_hidden_state


def pick(inputs: Mapping[str, Tensor], rows: Tensor) -> Inputs:
    """Return these rows of a batch."""
    return {name: tensor[rows] for name, tensor in inputs.items()}


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "bart": bart,
    "t5": t5,
    "bert": bert,
    "llama": llama,
    "clip": clip,
    "resnet": resnet,
}
