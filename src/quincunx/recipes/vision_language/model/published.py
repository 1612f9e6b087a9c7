"""Weights of VL-T5, VL-BART and VL-Adapter, whose visual parts are inside the encoder and called otherwise than here.

What they computed from boxes differs in one number: the area, which they took of the wrong coordinates (`visual.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.connect import Layers
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel

INSIDE = re.compile(r"^(?:module\.)?(?:model\.)?encoder\.visual_embedding\.(?P<rest>.+)$")
FEATURES = re.compile(r"^feat_embedding\.(?P<place>\d+)\.(?P<kind>\w+)$")
PLAIN: Mapping[str, str] = {
    "absolute_vis_pos_embedding.0": "box",
    "absolute_vis_pos_embedding.1": "box_norm",
    "img_order_embedding": "image_order",
    "layer_norm": "norm",
}
"""Module of the published visual embedding -> of ours."""
SHARED = "obj_order_embedding"
"""The backbone's words once more; of its own where one vector becomes several tokens."""


def is_published(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether weights have the published names."""
    return any(INSIDE.match(name) for name in tensors)


def from_published(tensors: Mapping[str, Tensor], model: VisionLanguageModel) -> dict[str, Tensor]:
    """Return published weights under the names that they have in a model; adapters' keep theirs, and fit nothing.

    Args:
        tensors: By their published names.
        model: With a visual embedding built as theirs: same connector, same norms, two pictures.

    Raises:
        UsageError: The model has no visual embedding, or one of another kind.
    """
    visual = model.visual_embedding
    if visual is None:
        raise UsageError("these weights are of a model that sees pictures, and this one reads texts alone")
    if not isinstance(visual.features, Layers):
        raise UsageError("the published transformer over visual tokens is another than this package's: leave it out")
    strides = 2 if isinstance(visual.features.norm, nn.Identity) else 3
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = INSIDE.match(name)
        if match is None:
            plain = name.removeprefix("module.")
            if not any(re.search(each, plain) for each in _ignored(model.language_model)):
                found[f"language_model.{plain}"] = tensor
        elif (ours := _visual(match["rest"], strides, own_order=visual.object_order is not None)) is not None:
            found[f"visual_embedding.{ours}"] = tensor
    return found


def _visual(name: str, strides: int, *, own_order: bool) -> str | None:
    """Return our name of a weight of the published visual embedding; None: it is the backbone's own."""
    if name.startswith(f"{SHARED}."):
        return name.replace(SHARED, "object_order") if own_order else None
    match = FEATURES.match(name)
    if match is not None:
        place, kind = int(match["place"]), match["kind"]
        if place < strides - 1:
            return f"features.{'norm' if place else 'map'}.{kind}"
        # behind the first map: map, ReLU, norm where there are norms, again and again
        number, part = divmod(place - (strides - 1), strides)
        return f"features.further.{number}.{part}.{kind}"
    module, _, kind = name.rpartition(".")
    return f"{PLAIN.get(module, module)}.{kind}"


def _ignored(backbone: nn.Module) -> list[str]:
    """Return patterns of names that old files of such a backbone have, and nobody needs."""
    return list(getattr(backbone, "_keys_to_ignore_on_load_unexpected", None) or ())
