"""The config's sections on the backbone and on what it is given of a picture."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from quincunx.config.schema import Accepts, AnyCase, Section, When, when
from quincunx.recipes.vision_language.config_data import asks
from quincunx.recipes.vision_language.kinds import RAW, is_raw

BUILT = When("model.path is unset", lambda config: config.model.path is None, ("model.path",))
SEES = when("pictures.use", True)
IN_MODEL = When(
    "pictures are used and pictures.features is raw_*", is_raw, ("pictures.use", "pictures.features")
)  # fmt: skip
NORMED = when("pictures.layer_norm", True)
SAMPLED = When(
    "pictures.grid, pictures.line or pictures.sparse is true",
    lambda config: config.pictures.grid or config.pictures.line or config.pictures.sparse,
    ("pictures.grid", "pictures.line", "pictures.sparse"),
)


REGIONS = When(
    "pictures.features is butd, and none of pictures.grid, pictures.line and pictures.sparse is true",
    lambda config: config.pictures.features == "butd" and not SAMPLED.test(config),
    ("pictures.features", *SAMPLED.paths),
)
COUNTED = When(
    "pictures.features is butd, or pictures.grid, pictures.line or pictures.sparse is true",
    lambda config: config.pictures.features == "butd" or SAMPLED.test(config),
    ("pictures.features", *SAMPLED.paths),
)


class Build(Section):
    """The backbone to build, from random weights, where none is loaded."""

    architecture: str = Field(default="t5", min_length=1)
    """Encoder-decoder architecture under its name in transformers: `t5`, `bart`, `mbart`, `pegasus` ..."""
    width: int = Field(default=128, ge=1)
    """Width of token states."""
    num_layers: int = Field(default=2, ge=1)
    """Blocks of the encoder, and of the decoder."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; they divide the width."""
    hidden: int | None = Field(default=None, ge=1)
    """Hidden width of the blocks' feedforwards. Unset: four times the width."""
    vocab_size: int = Field(default=2000, ge=300)
    """Tokens of the tokenizer that is trained on the collection's texts, at most."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Further sizes under the names of the architecture's config in transformers."""


class Model(Section):
    """The encoder-decoder that reads texts and pictures: pretrained, or built from sizes."""

    path: str | None = Field(default=None, min_length=1)
    """Local folder or hub name of a Hugging Face encoder-decoder, for example `t5-base` or `facebook/bart-base`. Unset:
    `build`."""
    tokenizer: str | None = Field(default=None, min_length=1)
    """Another tokenizer, by folder or hub name. Unset: the backbone's, or for a built one a tokenizer trained on the
    collection's texts."""
    build: Annotated[Build, BUILT] = Field(default_factory=Build)
    """The backbone to build where `path` is unset."""
    weights: str | None = Field(default=None, min_length=1)
    """File of weights of a whole model to start from: safetensors, or a `.pth` of tensors alone; the suffix may be left
    out. Missing and unexpected names are listed, and refused unless `init_partial`."""
    from_scratch: bool = False
    """Forget the weights of a pretrained backbone: begin at random, as its own library would."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout everywhere in the backbone: states, attention weights, activations."""
    classifier: bool = False
    """Answer by a head of two layers over the answers of training, not by generating text."""
    gradient_checkpointing: bool = False
    """Keep only each block's input for the backward pass and recompute the rest."""


def _size(value: Any) -> Any:
    """Return `"448,448"`, `"(448, 448)"` or one number as two numbers; other values as they are."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value, value]
    found = re.fullmatch(r"\s*\(?\s*(\d+)\s*[,x]\s*(\d+)\s*\)?\s*", value) if isinstance(value, str) else None
    return [int(found[1]), int(found[2])] if found else value


def _whole(value: Any) -> Any:
    """Return a whole number that is written as a float, as a guide's files have widths, as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _multiple_of(value: list[int]) -> list[int]:
    if any(side % 32 for side in value):
        raise ValueError(f"a side must be a multiple of 32, what the image encoders divide by; found {value}")
    return value


Whole = BeforeValidator(_whole)


class Pictures(Section):
    """What the model is given of a picture: one token for each region or cell of a grid."""

    use: bool = True
    """false: texts alone, with the plain backbone."""
    features: Annotated[
        Literal["butd", "RN50", "RN101", "RN50x4", "ViT", "raw_RN50", "raw_RN101", "raw_RN50x4", "raw_ViT"],
        Accepts("one of butd, RN50, RN101, RN50x4, ViT, raw_RN50, raw_RN101, raw_RN50x4, raw_ViT"),
        SEES,
    ] = "butd"
    """`butd`: stored features of regions; `RN50`, `RN101`, `RN50x4`, `ViT`: stored grids of an image encoder; `raw_*`:
    the pictures themselves, through the encoder in the model."""
    stored: Annotated[
        str, SEES, When("pictures.features is not raw_*", lambda config: config.pictures.features not in RAW,
                        ("pictures.features",)),
    ] | None = Field(default=None, min_length=1)  # fmt: skip
    """File of stored features, made by `quincunx features`. Unset: `features/<pictures.features>.arrow` of the
    collection, pooled `features/<pictures.features>-pooled.arrow`."""
    encoder: Annotated[str, IN_MODEL] | None = Field(default=None, min_length=1)
    """Weights of the image encoder: a folder of transformers, or a file of CLIP's. Unset: random ones."""
    feature_width: Annotated[int, Whole, SEES] | None = Field(default=None, ge=1)
    """Numbers in a row of features. Unset: what the kind of features has (butd, RN50 and RN101 2048, RN50x4 2560, ViT
    768; pooled RN50 1024, RN101 512, RN50x4 640)."""
    box_width: Annotated[int, Whole, SEES] = Field(default=4, ge=4, le=4)
    """Numbers of a box: x1, y1, x2, y2. The area is added to them."""
    image_size: Annotated[
        list[Annotated[int, Field(ge=32)]], BeforeValidator(_size), AfterValidator(_multiple_of),
        Accepts("height and width in pixels: 448, [448, 448] or \"448,448\""), IN_MODEL,
    ] = Field(default_factory=lambda: [448, 448], min_length=2, max_length=2)  # fmt: skip
    """Height and width to which pictures are brought: the shorter side resized, the middle cut out."""
    augment: bool = False
    """Change training pictures at random: mirrored (with the words left and right, and boxes), shifted, erased here and
    there."""
    pooled: Annotated[bool, When(
        "pictures are used and not butd", lambda config: config.pictures.use and config.pictures.features != "butd",
        ("pictures.use", "pictures.features"),
    )] = False  # fmt: skip
    """One token for a picture: what the encoder pools, in place of its grid."""
    order_embedding: Annotated[bool, SEES] = True
    """Add which picture of the example a token is of, and its number in the picture: the embedding of a word
    `<vis_extra_id_n>`, by which texts can name it."""
    layer_norm: Annotated[bool, SEES] = True
    """Norms in the embedding of visual tokens."""
    individual_layer_norm: Annotated[bool, SEES, NORMED] = True
    """A norm for features and one for boxes; false: one on their sum."""
    shared_layer_norm: Annotated[bool, SEES] = False
    """BART: its norm of embeddings goes over texts and visual tokens alike; false: over texts alone."""
    boxes: Annotated[int, SEES, COUNTED] = Field(default=36, ge=1)
    """Visual tokens of a picture: so many regions at most, or what `grid`, `line` or `sparse` leave; a grid is whole
    otherwise."""
    max_boxes: Annotated[int, SEES, REGIONS, asks("caption")] = Field(default=36, ge=1)
    """For captions: so many regions are taken of a picture, at most."""
    embedding_layers: Annotated[int, SEES] = Field(default=0, ge=0)
    """Further layers (linear, ReLU, norm) on features before they are embedded."""
    grid: Annotated[bool, SEES] = False
    """Fewer tokens by the maximum over neighbouring cells of a square grid: as many a side as fit into `boxes`."""
    line: Annotated[bool, SEES] = False
    """Fewer tokens by the maximum over neighbours in their order, to `boxes`."""
    sparse: Annotated[bool, SEES] = False
    """Fewer tokens by choosing `boxes` of them at random, in their order; at evaluation as many, evenly."""
    reduce: Annotated[Literal["max", "mean"], AnyCase, SEES, When(
        "pictures.grid or pictures.line is true", lambda config: config.pictures.grid or config.pictures.line,
        ("pictures.grid", "pictures.line"),
    )] = "max"  # fmt: skip
    """What `grid` and `line` take of neighbours."""
    expand: Annotated[bool, SEES] = False
    """Several tokens out of one pooled vector, as Tsimpoukelli et al. (2021) feed frozen language models."""
    expand_tokens: Annotated[int, SEES, when("pictures.expand", True)] = Field(default=4, ge=1)
    """How many."""
    transformer: Annotated[bool, SEES] = False
    """Two layers of a transformer over the visual tokens before the backbone, with 12 heads."""
