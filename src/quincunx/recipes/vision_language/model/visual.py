"""Visual tokens: what a row of features, its box, its picture and its number in the picture are embedded as.

e = f(features) + g([x1, y1, x2, y2, area]) + image_order[k] + object_order[n], as in VL-T5 (Cho et al., ICML 2021); the
object order is the backbone's own embedding of the word `<vis_extra_id_n>`, so that texts can name a region. Boxes are
x1, y1, x2, y2 and the area is theirs; the original took the second and third number for each other.
B examples, N rows, F numbers in a row of features, D width of tokens, V words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.connect import CONNECTORS, check_indices
from quincunx.recipes.vision_language.model.downsample import pool_pictures
from quincunx.recipes.vision_language.model.rows import Rows

NormKind = Literal["layer", "root_mean_square"]
BOX = 5
"""Numbers of a box with its area."""


class RootMeanSquareNorm(nn.RMSNorm):
    """T5's norm, in the precision of its weight: autocast, which sees to layer norms, does not know it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., D]`."""
        return super().forward(x.to(self.weight.dtype))


class VisualEmbedding(nn.Module):
    """Embeds rows of features as tokens of the backbone's width.

    Args:
        feature_width: F.
        width: D.
        connector: A word of `CONNECTORS`.
        norm: Kind of the norms: `layer` beside BART, `root_mean_square` beside T5.
        epsilon: Of the norms.
        layer_norm: Whether there are norms.
        individual_layer_norm: A norm for features and one for boxes; false: one on the sum of everything.
        order_embedding: Add the orders of pictures and of objects.
        images: Pictures that an example may have.
        tokens: Tokens that `expand` makes of a picture.
        options: Of the connector: `further` of layers; `heads`, `depth`, `hidden`, `positions`, `dropout` of the
            transformer.

    Raises:
        UsageError: An unknown word or option, or sizes that do not fit.
    """

    def __init__(
        self,
        feature_width: int,
        width: int,
        *,
        connector: str = "linear",
        norm: NormKind = "layer",
        epsilon: float = 1e-5,
        layer_norm: bool = True,
        individual_layer_norm: bool = True,
        order_embedding: bool = True,
        images: int = 2,
        tokens: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if connector not in CONNECTORS:
            raise UsageError(f"there is no connector {connector!r}; there are {', '.join(CONNECTORS)}")
        kind, options = CONNECTORS[connector], dict(options or {})
        unknown = [name for name in options if name not in kind.options]
        if unknown:
            known = ", ".join(kind.options) or "none"
            raise UsageError(f"the connector {connector} has no option {unknown[0]!r}; it has {known}")
        if min(feature_width, width, images, tokens) < 1:
            raise UsageError(
                f"widths, images and tokens are at least 1, found feature_width {feature_width}, width {width}, "
                f"images {images}, tokens {tokens}"
            )
        if tokens > 1 and not kind.expands:
            raise UsageError(f"the connector {connector} makes one token of a row, not {tokens}: use expand")
        if norm not in ("layer", "root_mean_square"):
            raise UsageError(f"norm must be layer or root_mean_square, found {norm!r}")
        self.feature_width, self.width, self.tokens, self.pools = feature_width, width, tokens, kind.pools
        inner = tokens * width
        make = partial(nn.LayerNorm if norm == "layer" else RootMeanSquareNorm, eps=epsilon)
        own = make if layer_norm and individual_layer_norm else None
        self.features = kind.make(feature_width, inner, own, **options)
        self.box = nn.Linear(BOX, inner)
        self.box_norm = own(inner) if own is not None else nn.Identity()
        self.norm = make(inner) if layer_norm and not individual_layer_norm else nn.Identity()
        self.image_order = nn.Embedding(images, inner) if order_embedding else None
        # of the backbone's width where a row becomes one token; else a row of its own, for the one object there is
        self.object_order = nn.Embedding(1, inner) if order_embedding and kind.expands else None

    def forward(self, rows: Rows, words: nn.Module | None = None) -> Rows:
        """Return the tokens, `[B, N, D]` or what the connector makes of N.

        Args:
            rows: Features `[B, N, F]` and what belongs to them.
            words: The backbone's embedding of words, of which the last rows are `<vis_extra_id_0>`, before it
                `<vis_extra_id_1>` ...; needed with orders.

        Raises:
            UsageError: Features of another width; or no words.
            DataError: More pictures or objects than there are embeddings.
        """
        if rows.features.shape[-1] != self.feature_width:
            raise UsageError(
                f"the visual embedding takes rows of {self.feature_width} numbers, found {rows.features.shape[-1]}: "
                "are these features of another encoder?"
            )
        if self.pools:
            rows = pool_pictures(rows)
        x = self.features(rows.features, rows.mask)
        x = x + self.box_norm(self.box(with_area(rows.boxes).to(self.box.weight.dtype)))
        if self.image_order is not None:
            count = self.image_order.num_embeddings
            check_indices("image_ids", rows.images, rows.mask, count, "build the model for more pictures")
            x = x + self.image_order(rows.images) + self._objects(rows, words)
        x = self.norm(x)
        if self.tokens == 1:
            return rows.with_features(x)
        return _expanded(rows, x, self.tokens)

    def _objects(self, rows: Rows, words: nn.Module | None) -> Tensor:
        if self.object_order is not None:
            return self.object_order(torch.zeros_like(rows.objects))
        if words is None:
            raise UsageError("the order of objects is embedded by the backbone's words: hand them over")
        table: Any = words
        count = int(table.weight.shape[0])
        check_indices("object_ids", rows.objects, rows.mask, count, "keep fewer rows of a picture")
        return words(count - 1 - rows.objects)


def with_area(boxes: Tensor) -> Tensor:
    """Return boxes `[..., 4]` (x1, y1, x2, y2) with their areas: `[..., 5]`."""
    near, far = boxes.chunk(2, -1)
    return torch.cat([boxes, (far - near).prod(-1, keepdim=True)], -1)


def _expanded(rows: Rows, x: Tensor, tokens: int) -> Rows:
    """Return rows with each one's numbers `[B, N, tokens * D]` as so many tokens."""
    number = torch.arange(tokens, device=x.device).repeat(rows.mask.shape[1])
    return Rows(
        x.unflatten(-1, (tokens, -1)).flatten(1, 2),
        rows.boxes.repeat_interleave(tokens, 1),
        rows.mask.repeat_interleave(tokens, 1),
        rows.images.repeat_interleave(tokens, 1),
        number.expand(len(x), -1),
    )


def norm_of(backbone: nn.Module) -> tuple[NormKind, float]:
    """Return the kind and the epsilon of a backbone's own norms."""
    for module in backbone.modules():
        if "norm" in type(module).__name__.lower() and not module._modules:
            names = [name for name in ("variance_epsilon", "eps") if hasattr(module, name)]
            plain = getattr(module, "bias", None) is None
            return ("root_mean_square" if plain else "layer"), float(getattr(module, names[0])) if names else 1e-5
    return "layer", 1e-5


def make_visual_embedding(backbone: Any, feature_width: int, **options: Any) -> VisualEmbedding:
    """Return a visual embedding of a backbone's width, with norms of its kind; options as of `VisualEmbedding`.

    Its weights begin as those of the backbone do (`start`), from torch's generator.
    """
    norm, epsilon = norm_of(backbone)
    made = VisualEmbedding(
        feature_width, backbone.get_input_embeddings().embedding_dim, norm=norm, epsilon=epsilon, **options
    )
    start(made, backbone.config)
    return made


@torch.no_grad()
def start(module: nn.Module, config: Any) -> None:
    """Give linear maps, embeddings and norms the starting values that a backbone's own scheme has for such.

    T5 scales normal numbers by the width that goes into a map, and its embeddings by nothing; others have one standard
    deviation in their config. Numbers come from torch's generator.

    Args:
        module: What is initialised, with everything in it.
        config: The backbone's.
    """
    fixed = getattr(config, "initializer_range", None) or getattr(config, "init_std", None)
    factor = None if fixed else getattr(config, "initializer_factor", None)
    fixed = fixed or 0.02
    for each in module.modules():
        if isinstance(each, nn.Linear):
            nn.init.normal_(each.weight, std=fixed if factor is None else factor / math.sqrt(each.in_features))
            if each.bias is not None:
                nn.init.zeros_(each.bias)
        elif isinstance(each, nn.Embedding):
            nn.init.normal_(each.weight, std=fixed if factor is None else factor)
        elif isinstance(each, nn.LayerNorm | nn.RMSNorm):
            nn.init.ones_(each.weight)
            if getattr(each, "bias", None) is not None:
                nn.init.zeros_(each.bias)  # pyright: ignore[reportArgumentType]
