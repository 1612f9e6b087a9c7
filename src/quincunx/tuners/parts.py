"""Which part of a vision-language model a module belongs to, what a part generates, and whose pictures it sees.

Models of pictures and texts hold an image encoder, a connector and a language model, and rows of the first two are
pictures, as many as there happen to be, where rows of the last are examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from quincunx.errors import UsageError

Part = Literal["vision", "connector", "language", ""]

PARTS: Mapping[Part, tuple[str, ...]] = {
    "vision": (
        "vision_tower", "vision_model", "vision_encoder", "vision_backbone", "vision_embed_tokens", "visual",
        "vis_encoder", "image_encoder", "image_tower",
    ),
    "connector": (
        "multi_modal_projector", "mm_projector", "connector", "qformer", "query_tokens", "language_projection",
        "visual_projection", "text_projection", "image_to_text_projection", "modality_projection", "enc_to_dec_proj",
        "merger", "deepstack_merger_list", "resampler", "perceiver_resampler", "aligner", "visual_embedding",
        "visual_mapper", "image_newline", "logit_scale", "logit_bias",
    ),
    "language": (
        "language_model", "language_backbone", "text_model", "text_encoder", "text_decoder", "text_tower", "lm_head",
    ),
}  # fmt: skip
"""Part of a vision-language model -> what modules that hold it are called."""
BY_INPUT: Mapping[str, Part] = {"pixel_values": "vision", "input_ids": "language"}
"""What a model of transformers is fed first -> what it is a part of, where no name says so."""
PART_WORDS: Mapping[str, Part] = {"language_model": "language", "vision": "vision", "connector": "connector"}
"""Word of options and rules -> the part that it means."""
PICTURES: tuple[Part, ...] = ("vision", "connector")
"""Parts whose rows are pictures, or pieces of them."""


def part_of(model: nn.Module, path: str) -> Part:
    """Return which part of a vision-language model a module or parameter belongs to, empty where nobody knows.

    The innermost name that is known decides (the merger of a vision encoder is a connector), else what the innermost
    model of transformers round it is fed with: all of BART is language, all of ResNet vision.
    """
    words = path.split(".")
    for word in reversed(words):
        for part, names in PARTS.items():
            if word in names:
                return part
    known: Part = BY_INPUT.get(getattr(bare(model), "main_input_name", ""), "")
    for module in _along(model, words):
        known = BY_INPUT.get(getattr(module, "main_input_name", ""), known)
    return known


def sees_its_past_alone(model: nn.Module, path: str) -> bool:
    """Return whether a module is part of a language model that generates and has no encoder of texts beside it.

    Some say so of no module of theirs (GIT, BLIP), and only the model round them can generate.
    """
    words = path.split(".")
    if part_of(model, path) != "language" or "text_encoder" in words:
        return False
    inside = [module for module in (bare(model), *_along(model, words)) if _generates(module)]
    return bool(inside) and not getattr(_config(inside[-1]), "is_encoder_decoder", False)


def writes_of_pictures(model: nn.Module) -> bool:
    """Return whether a model generates words from pictures, so that what its image encoder gives is read by layers."""
    return _generates(bare(model)) and _has_pictures(model)


def output_map(model: nn.Module) -> nn.Module | None:
    """Return the map that gives a model's logits of words, asked of the model, else of the one model in it that has
    such a map (BLIP's decoder); None where there is none, or are several."""
    if (own := _asked(bare(model))) is not None:
        return own
    inside = {id(found): found for module in model.modules() if (found := _asked(module)) is not None}
    return next(iter(inside.values())) if len(inside) == 1 else None


def check_rows(model: nn.Module, paths: Iterable[str], tasks: Sequence[str]) -> None:
    """Refuse weights for each task at modules whose rows are pictures.

    Raises:
        UsageError: One of the modules is in the image encoder or the connector of a vision-language model: an example
            may have several pictures or none, so that nobody knows whose row is whose.
    """
    if not tasks or not _has_pictures(model):
        return
    found = {path: part for path in paths if (part := part_of(model, path)) in PICTURES}
    if found:
        parts = ", ".join(sorted({*found.values()}))
        raise UsageError(
            f"rows of {next(iter(found))} in {type(bare(model)).__name__} are pictures and not examples: nobody knows "
            f"whose task they are of. Leave tasks out, or such parts by leave_out: [{parts}]"
        )


def bare(module: nn.Module) -> nn.Module:
    """Return the module itself of one that has adapters already."""
    while isinstance(inner := module._modules.get("base_layer"), nn.Module):
        module = inner
    return module


def _along(model: nn.Module, words: Sequence[str]) -> Iterator[nn.Module]:
    """Yield the modules that a path goes through, outermost first."""
    module = bare(model)
    for word in words:
        if (child := module._modules.get(word)) is None:
            return
        module = bare(child)
        yield module


def _generates(module: nn.Module) -> bool:
    ask = getattr(module, "can_generate", None)
    return callable(ask) and ask() is True


def _has_pictures(model: nn.Module) -> bool:
    return getattr(_config(bare(model)), "vision_config", None) is not None


def _config(module: nn.Module) -> Any:
    return getattr(module, "config", None)


def _asked(module: nn.Module) -> nn.Module | None:
    ask = getattr(module, "get_output_embeddings", None)
    found = ask() if callable(ask) else None
    return bare(found) if isinstance(found, nn.Module) else None
