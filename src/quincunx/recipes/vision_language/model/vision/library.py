"""Image encoders of the transformers library: CLIP, SigLIP, DINOv2, ViT, ResNet and others of their form.

Their tokens for the whole picture are left out of the grid. B pictures, H and W height and width, P pixels of a patch,
N tokens, F width.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.pretrained.folder import find_folder, library, refuse_without_weights
from quincunx.nn.pretrained.load import lacking_weights, only_shapes, read_weights, transformers_library
from quincunx.recipes.vision_language.data.pixels import Size
from quincunx.recipes.vision_language.model.vision.encoder import Colours, ImageEncoder, Origin

VIT: Mapping[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "projection_dim": 512,
}  # fmt: skip
"""CLIP's ViT-B/32, which the word ViT means where no folder says otherwise."""
_FOLDER = "a folder of a transformers model that sees (CLIP, SigLIP, DINOv2, ViT, ResNet ...)"


class LibraryEncoder(ImageEncoder):
    """A vision model of the library.

    Args:
        model: Gives `last_hidden_state` `[B, N, F]` or `[B, F, h, w]`, and `pooler_output`.
        origin: Where it comes from.
        image_size: Height and width of pictures.
        projection: What maps the pooled row to where texts are, as CLIP has it; None: it is taken as it is.
        pooled: As in `ImageEncoder`.
        grid: As in `ImageEncoder.use_grid`.

    Raises:
        UsageError: The model does not take pictures of this size.
    """

    def __init__(
        self,
        model: Any,
        origin: Origin,
        image_size: Size,
        *,
        projection: nn.Linear | None = None,
        pooled: bool = False,
        grid: int | None = None,
    ) -> None:
        width = _width(model.config)
        pooled_width = width if projection is None else projection.out_features
        super().__init__(origin, image_size, width=width, pooled_width=pooled_width, pooled=pooled)
        self.visual = model
        self.projection = projection if pooled else None
        own = _own_size(model.config)
        self._options: dict[str, Any] = {}
        if own is not None and own != image_size:
            if "interpolate_pos_encoding" in inspect.signature(model.forward).parameters:
                self._options["interpolate_pos_encoding"] = True
            elif not hasattr(getattr(model, "embeddings", None), "interpolate_pos_encoding"):
                raise UsageError(
                    f"{origin.kind} takes pictures of {own[0]} by {own[1]} pixels alone, found {image_size}"
                )
        self._grid_size = self._measure()
        self.use_grid(grid)

    def cells(self, pixels: Tensor) -> Tensor:
        """Return the grid `[B, F, h, w]`."""
        states = self.visual(pixel_values=pixels, **self._options).last_hidden_state
        if states.ndim == 4:
            return states
        height, width = self._grid_size
        return states[:, states.shape[1] - height * width :].transpose(1, 2).unflatten(2, (height, width))

    def pool(self, pixels: Tensor) -> Tensor:
        """Return what the model pools `[B, F]`."""
        found = self.visual(pixel_values=pixels, **self._options).pooler_output
        if found is None:
            raise UsageError(f"{self.origin.kind} pools nothing: leave pooled out")
        found = found.flatten(1)
        return found if self.projection is None else self.projection(found)

    @property
    def grid_size(self) -> Size:
        """h and w."""
        return self._grid_size

    def _measure(self) -> Size:
        """Return the grid of a picture: by the size of a patch, else by what comes out."""
        patch = getattr(self.visual.config, "patch_size", None)
        height, width = self.image_size
        if isinstance(patch, int) and not hasattr(self.visual.config, "depths"):
            if height % patch or width % patch:
                raise UsageError(
                    f"{self.origin.kind} cuts pictures into patches of {patch} pixels, which do not divide "
                    f"{self.image_size}: choose multiples of {patch}"
                )
            return height // patch, width // patch
        strides = _stride(self.visual.config)
        return -(-height // strides), -(-width // strides)


def load_library(
    path: str | Path, image_size: Size, *, pooled: bool = False, grid: int | None = None, fresh: bool = False
) -> LibraryEncoder:
    """Return the image encoder of a folder or hub name; of a model of pictures and texts its part that sees.

    Args:
        path: Folder with config.json and safetensors weights, or a name on the hub.
        image_size: Height and width of pictures.
        pooled: As in `ImageEncoder`.
        grid: As in `ImageEncoder.use_grid`.
        fresh: Take the form alone: weights are random, from torch's generator.

    Raises:
        UsageError: There is none, it does not see, its files lack weights, or it does not take such pictures.
        MissingExtra: The library is not installed.
    """
    transformers = transformers_library(f"loading {path}")
    folder = find_folder(path)
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} has no config.json: expected {_FOLDER}")
    own: Mapping[str, bool] = {"trust_remote_code": False, "local_files_only": True}
    config = library(f"the config in {folder}", lambda: transformers.AutoConfig.from_pretrained(folder, **own))
    config = getattr(config, "vision_config", config)
    if not fresh and not only_shapes():
        refuse_without_weights(folder)
    mean, std = _colours(folder)
    notes = ("Its weights are random: they were not read, since only its form was asked for.",) if fresh else ()
    origin = Origin(config.model_type, None if fresh else str(path), mean, std, notes)
    if fresh:
        return built(config, origin, image_size, pooled=pooled, grid=grid)
    model, missing = read_weights(_maker(config, pooled, path), folder, config, None)
    lacking = [name for name in missing if pooled or not _pools(name)]
    if lacking:
        raise UsageError(lacking_weights(folder, config, lacking))
    return _wrapped(model, origin, image_size, pooled, grid)


def built(
    config: Any, origin: Origin, image_size: Size, *, pooled: bool = False, grid: int | None = None
) -> LibraryEncoder:
    """Return an image encoder of a config's form with random weights, from torch's generator; errors as above."""
    maker = _maker(config, pooled, origin.kind)
    model = library(f"the encoder {origin.kind}", lambda: _instance(maker, config))
    return _wrapped(model, origin, image_size, pooled, grid)


def clip_vit(image_size: Size, *, pooled: bool = False, grid: int | None = None) -> LibraryEncoder:
    """Return CLIP's ViT-B/32 with random weights, from torch's generator."""
    transformers = transformers_library("the image encoder ViT")
    note = "The weights of ViT are random: no folder of them was named."
    return built(
        transformers.CLIPVisionConfig(**VIT), Origin("ViT", notes=(note,)), image_size, pooled=pooled, grid=grid
    )  # fmt: skip


def _wrapped(model: Any, origin: Origin, image_size: Size, pooled: bool, grid: int | None) -> LibraryEncoder:
    projection = getattr(model, "visual_projection", None)
    inner = model.vision_model if projection is not None else model
    if not pooled:
        _drop_pooler(inner)
    return LibraryEncoder(inner, origin, image_size, projection=projection, pooled=pooled, grid=grid)


def _maker(config: Any, pooled: bool, path: str | Path) -> Any:
    """Return the class that makes the model of a config; UsageError where it does not see."""
    transformers = transformers_library("an image encoder")
    if config.model_type == "clip_vision_model":
        return transformers.CLIPVisionModelWithProjection if pooled else transformers.CLIPVisionModel
    try:
        maker = transformers.MODEL_MAPPING[type(config)]
    except KeyError:
        raise UsageError(f"{path} is of the architecture {config.model_type}; expected {_FOLDER}") from None
    if isinstance(maker, Sequence):
        maker = maker[0]
    if getattr(maker, "main_input_name", "") != "pixel_values":
        raise UsageError(f"{path} ({config.model_type}) reads no pictures; expected {_FOLDER}")
    return maker


def _instance(maker: Any, config: Any) -> Any:
    return maker._from_config(config, dtype=torch.float32)


def _pools(name: str) -> bool:
    """Tell whether a weight serves pooling alone."""
    words = name.split(".")
    return "pooler" in words or "head" in words


def _drop_pooler(model: Any) -> None:
    """Take away what nobody asks for; a norm over the pooled row stays, small as it is."""
    if isinstance(getattr(model, "pooler", None), nn.Module) and any(True for _ in model.pooler.parameters()):
        model.pooler = None
    if getattr(model, "use_head", False) and isinstance(getattr(model, "head", None), nn.Module):
        model.use_head, model.head = False, None


def _colours(folder: Path) -> tuple[Colours, Colours]:
    """Return the mean and deviation of colours that a folder's processor names, CLIP's where it names none."""
    import json

    from quincunx.recipes.vision_language.data.pixels import CLIP_MEAN, CLIP_STD

    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return CLIP_MEAN, CLIP_STD
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        mean, std = (told.get(name, default) for name, default in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD)))
        (m1, m2, m3), (s1, s2, s3) = (map(float, each) for each in (mean, std))
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: image_mean and image_std should be three numbers each ({error})") from error
    return (m1, m2, m3), (s1, s2, s3)


def _width(config: Any) -> int:
    sizes = getattr(config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else config.hidden_size)


def _own_size(config: Any) -> Size | None:
    """Return the size that a model's positions are of, None where it has none."""
    size = getattr(config, "image_size", None)
    if size is None or getattr(config, "hidden_sizes", None):
        return None
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _stride(config: Any) -> int:
    """Return how many pixels a cell is high and wide in a network of stages."""
    patch = getattr(config, "patch_size", 4)
    first = patch if isinstance(patch, int) else int(patch[0])
    return first * 2 ** (len(config.depths) - 1)
