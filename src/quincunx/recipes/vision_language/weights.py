"""Starting from a file of weights of a whole model: one of this recipe's, or VL-T5's and VL-BART's as published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from quincunx.engine.checkpoint import load_weights
from quincunx.errors import CheckpointError, UsageError
from quincunx.recipes.vision_language.model.published import from_published, is_published
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
from quincunx.recipes.vision_language.model.vision.clip_weights import read_tensors

SUFFIXES = (".safetensors", ".pth", ".pt")
"""Tried in this order where a name has none of them."""


def load_file(model: VisionLanguageModel, path: Path, *, partial: bool = False) -> list[str]:
    """Give a model, before adapters are put into it, the weights of a file; return what to say about it.

    Args:
        model: The model.
        path: A safetensors file, or a `.pth` of tensors alone; its suffix may be left out.
        partial: Whether names that are missing or unexpected are only listed.

    Raises:
        UsageError: There is no such file, it holds something else, or names or shapes do not fit.
    """
    found = find_file(path)
    tensors = read_tensors(found)
    notes = [f"weights from {found}"]
    if is_published(tensors):
        tensors = from_published(tensors, model)
        notes.append("their names are those of VL-T5 and VL-BART, whose boxes had another area: see docs")
    else:
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    try:
        return [*notes, *load_weights(model, with_tied(tensors, model), str(found), partial=partial)]
    except CheckpointError as error:
        raise UsageError(f"model.weights: {error}\nA run with adapters is named in init_from") from error


def find_file(path: Path) -> Path:
    """Return the file of a name that may lack its suffix; UsageError where there is none."""
    path = path.expanduser()
    tried = [path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES)]
    for each in tried:
        if each.is_file():
            return each
    names = ", ".join(each.name for each in tried[1:])
    raise UsageError(f"model.weights: there is no file {path}, nor any of {names} beside it")


def with_tied(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return weights with those that a file leaves out because the model has them under several names."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    found = dict(tensors)
    for same in names.values():
        there = next((found[name] for name in same if name in found), None)
        if there is not None:
            found |= {name: there for name in same if name not in found}
    return found
