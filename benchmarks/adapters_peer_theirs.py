"""Adapters of the library `adapters`, as `adapters_peer.py` starts it: in another Python, for that library needs an
older transformers than ours.

    peer/bin/python adapters_peer_theirs.py FOLDER

FOLDER holds `request.json` (models by their classes and sizes, variants by model, config class and options), the
weights of each model as MODEL.safetensors, and `inputs.safetensors`. Written beside them: what each model gives without
adapters as MODEL-base.safetensors; the weights of each variant's adapters, made up, and what the model gives with them,
as VARIANT-weights.safetensors and VARIANT-outputs.safetensors; and `versions.json`.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import adapters  # pyright: ignore[reportMissingImports]
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

NAME = "peer"
STD = 0.3
"""Of the adapters' weights: far from where theirs begin, so that every part of them matters."""


def built(description: dict[str, Any], weights: Path) -> Any:
    """Return a model with the weights that came."""
    config = getattr(transformers, description["config"])(**description["sizes"])
    model = getattr(transformers, description["model"])(config)
    model.load_state_dict(load_file(weights))
    return model.eval()


def outputs(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the last hidden states of a model's stacks, in both precisions."""
    found: dict[str, Tensor] = {}
    for dtype in (torch.float32, torch.float64):
        with torch.no_grad():
            given = model.to(dtype)(**inputs)
        for key in ("last_hidden_state", "encoder_last_hidden_state"):
            if key in given:
                found[f"{dtype}/{key}"] = given[key].contiguous()
    model.float()
    return found


def own_weights(model: Any, generator: torch.Generator) -> dict[str, Tensor]:
    """Fill the weights of the adapters and return them by name."""
    for name, parameter in model.named_parameters():
        if f".{NAME}." in name:
            parameter.data = STD * torch.randn(parameter.shape, generator=generator)
    return {name: value.clone() for name, value in model.state_dict().items() if f".{NAME}." in name}


def main() -> None:
    folder = Path(sys.argv[1])
    logging.disable(logging.WARNING)
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    inputs = {
        name: {key: value for key, value in load_file(folder / "inputs.safetensors").items() if key in model["inputs"]}
        for name, model in request["models"].items()
    }
    for name, model in request["models"].items():
        base = built(model, folder / f"{name}.safetensors")
        save_file(outputs(base, inputs[name]), folder / f"{name}-base.safetensors")
    for number, (name, variant) in enumerate(request["variants"].items()):
        kind = variant["model"]
        model = built(request["models"][kind], folder / f"{kind}.safetensors")
        adapters.init(model)
        model.add_adapter(NAME, config=getattr(adapters, variant["config"])(**variant["options"]))
        model.set_active_adapters(NAME)
        weights = own_weights(model.eval(), torch.Generator().manual_seed(number))
        save_file(weights, folder / f"{name}-weights.safetensors")
        save_file(outputs(model, inputs[kind]), folder / f"{name}-outputs.safetensors")
    versions = {module.__name__: module.__version__ for module in (adapters, transformers, torch)}
    (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")


if __name__ == "__main__":
    main()
