"""Beginning from scratch: all weights of backbone and visual embedding drawn anew, by the backbone's own scheme."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
from quincunx.recipes.vision_language.model.visual import start
from quincunx.seeds import address

DONE = "_is_hf_initialized"
"""What transformers marks finished modules and weights by."""


def initialise(model: VisionLanguageModel, seed: int) -> None:
    """Draw the weights of a model anew; an image encoder keeps its own.

    Linear maps, embeddings and norms of the visual embedding get what the backbone's scheme has for such, so that
    nothing keeps numbers as large as 1 in front of a norm.

    Args:
        model: Before adapters are put into it.
        seed: Equal seeds give equal weights.

    Raises:
        UsageError: There are adapters, which would be lost or, worse, kept.
    """
    adapted = [path for path, _ in model.named_modules() if "base_layer" in path.split(".") or "quincunx_" in path]
    if adapted:
        raise UsageError(f"the model has adapters ({adapted[0]}): initialise it before they are put into it")
    backbone: Any = model.language_model
    for module in backbone.modules():
        _forget(module)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            _forget(tensor)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(address(seed, "from scratch"))
        backbone.init_weights()
        if model.visual_embedding is not None:
            start(model.visual_embedding, backbone.config)


def _forget(owner: nn.Module | torch.Tensor) -> None:
    if hasattr(owner, DONE):
        delattr(owner, DONE)
