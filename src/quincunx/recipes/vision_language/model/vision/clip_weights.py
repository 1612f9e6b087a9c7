"""Weights of CLIP's ResNets from the files in which they are published or kept, without running what is in them.

An archive of TorchScript as OpenAI has them, a safetensors file, or one of `torch.save` with tensors alone; of a whole
CLIP the image encoder is taken. Positions are scaled to another size of pictures, and really put in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile

import torch
from torch import Tensor
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.data.pixels import Size
from quincunx.recipes.vision_language.model.vision import torchscript
from quincunx.recipes.vision_language.model.vision.clip_resnet import SIZES, ClipResNet, Sizes, grid_of

POSITIONS = "attnpool.positional_embedding"
_PREFIXES = ("visual.", "model.visual.", "module.visual.", "vision_model.", "")
_FIRST = "conv1.weight"


def load(encoder: ClipResNet, path: str | Path) -> None:
    """Put the weights of a file into an encoder, in place.

    Args:
        encoder: Of the sizes that the weights have; its attention is left alone where it has none.
        path: An archive of TorchScript, a safetensors file, or one of `torch.save` with tensors alone.

    Raises:
        UsageError: The file is missing or damaged, or has other weights than this encoder.
    """
    path = Path(path).expanduser()
    state = image_weights(read_tensors(path), path)
    found = sizes_of(state, path)
    if found != encoder.sizes:
        known = next((word for word, sizes in SIZES.items() if sizes == found), None)
        told = (
            f"those of {known}" if known else f"those of a network with {found.layers} blocks and {found.stem} channels"
        )
        raise UsageError(f"{path} has weights, and they are {told}, not of {encoder.origin.kind}: name the right one")
    if encoder.visual.attnpool is None:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("attnpool.")}
    else:
        state[POSITIONS] = resized_positions(state[POSITIONS], grid_of(encoder.image_size))
    wanted = encoder.visual.state_dict()
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    wrong = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    for names, what in ((missing, "lacks"), (unexpected, "has besides"), (wrong, "has in other shapes")):
        if names:
            some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise UsageError(f"{path} {what} {some}: it is no file of {encoder.origin.kind}, or not whole")
    encoder.visual.load_state_dict(state, strict=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU; errors as in `load`."""
    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(path)
            except SafetensorError as error:
                raise UsageError(f"{path} is no safetensors file, or was cut short: {error}") from None
        if torchscript.is_archive(path):
            return torchscript.read_archive(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"there is no file of weights {path}: name a safetensors file, or one of torch.save") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (RuntimeError, UnpicklingError, EOFError, ValueError, BadZipFile) as error:
        # what torch says of a file that it refuses to run tells people to run it
        why = "something else is in it" if isinstance(error, UnpicklingError) else str(error).splitlines()[0]
        raise UsageError(
            f"{path} is no file of tensors alone, or was cut short ({why}): name a safetensors file, or one of "
            "torch.save with tensors by name"
        ) from error
    state = found.get("state_dict", found) if isinstance(found, Mapping) else None
    if state is None or not all(isinstance(name, str) and isinstance(each, Tensor) for name, each in state.items()):
        raise UsageError(f"{path} holds {type(found).__name__}, expected tensors by name")
    return dict(state)


def image_weights(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the weights of the image encoder in float32, by their names in it; UsageError where there is none."""
    for prefix in _PREFIXES:
        if f"{prefix}{_FIRST}" in tensors and f"{prefix}layer1.0.{_FIRST}" in tensors:
            return {
                name.removeprefix(prefix): each.float() if each.is_floating_point() else each
                for name, each in tensors.items()
                if name.startswith(prefix)
            }
    some = ", ".join([*tensors][:3]) or "nothing"
    raise UsageError(
        f"{path} has no ResNet of CLIP, whose weights are named visual.conv1.weight, visual.layer1.0.conv1.weight and "
        f"so on; it has {some}"
    )


def sizes_of(state: Mapping[str, Tensor], path: Path) -> Sizes:
    """Return the sizes of the network that weights are of; UsageError where they lack what tells them."""
    try:
        layers = [len({name.split(".")[1] for name in state if name.startswith(f"layer{n}.")}) for n in range(1, 5)]
        side = math.isqrt(len(state[POSITIONS]) - 1) * 32
        first, second, third, fourth = layers
        pooled = len(state["attnpool.c_proj.weight"])
        return Sizes((first, second, third, fourth), len(state["conv3.weight"]), pooled, side)
    except KeyError as error:
        raise UsageError(f"{path} lacks {error.args[0]}: it is no whole ResNet of CLIP") from None


def resized_positions(positions: Tensor, grid: Size) -> Tensor:
    """Return positions `[1 + h * w, C]` for another grid: the mean's own stays, the others are scaled (bicubic).

    Args:
        positions: `[1 + s * s, C]`, of a square grid.
        grid: h and w.
    """
    side = math.isqrt(len(positions) - 1)
    if (side, side) == grid:
        return positions
    first, rest = positions[:1], positions[1:]
    square = rest.T.reshape(1, -1, side, side)
    scaled = functional.interpolate(square, grid, mode="bicubic", align_corners=False)
    return torch.cat([first, scaled.flatten(2)[0].T])
