"""Rules between what is taken of a picture and what is asked about it."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Rule
from quincunx.recipes.vision_language.kinds import is_bart, is_raw, names_task, pretrains, row_width

BOXED = ("refcoco", "vcr")
"""Tasks about boxes."""


def _reductions(config: Any) -> int:
    return sum((config.pictures.grid, config.pictures.line, config.pictures.sparse))


def _names_boxes(config: Any) -> bool:
    """Tell whether boxes of a picture are named or looked at."""
    grounds = pretrains(config) and any(name in config.pretraining.losses for name in ("ground_caption", "refer"))
    return names_task(config, *BOXED) or grounds


def _regions_wanted(config: Any) -> bool:
    masks = pretrains(config) and any(name in config.pretraining.losses for name in ("obj", "attr", "feat"))
    return _names_boxes(config) or config.text.tags or masks


def _expands_wrongly(config: Any) -> bool:
    chosen = config.pictures
    if not (chosen.use and chosen.expand):
        return False
    return not chosen.pooled or _reductions(config) > 0 or chosen.transformer or _names_boxes(config)


PICTURE_RULES: tuple[Rule, ...] = (
    Rule(
        name="one-way-to-fewer-tokens",
        paths=("pictures.line", "pictures.grid", "pictures.sparse"),
        applies=lambda config: config.pictures.use and _reductions(config) > 1,
        message="several ways to fewer visual tokens are on: line {pictures.line}, grid {pictures.grid}, sparse "
        "{pictures.sparse}",
        remedy="keep at most one of pictures.line, pictures.grid and pictures.sparse",
        failing={"pictures.line": True, "pictures.grid": True},
    ),
    Rule(
        name="regions-have-no-grid",
        paths=("pictures.grid", "pictures.features"),
        applies=lambda config: config.pictures.use and config.pictures.grid and config.pictures.features == "butd",
        message="pictures.grid takes the maximum over neighbouring cells, and regions (butd) are no cells of a grid",
        remedy="choose pictures.line or pictures.sparse, or features of a grid",
        failing={"pictures.grid": True},
    ),
    Rule(
        name="named-boxes-stay-apart",
        paths=("pictures.line", "pictures.grid", "pictures.sparse", "data.tasks", "pretraining.losses"),
        applies=lambda config: config.pictures.use and _reductions(config) > 0 and _names_boxes(config),
        message="boxes are named by their numbers, which line, grid and sparse do away with",
        remedy="leave pictures.line, pictures.grid and pictures.sparse out, or the tasks and losses about boxes "
        "(refcoco, "
        "vcr, ground_caption, refer)",
        failing={"pictures.sparse": True, "data.tasks": ["refcoco"]},
    ),
    Rule(
        name="expand-one-vector",
        paths=("pictures.expand", "pictures.pooled", "pictures.transformer", "data.tasks"),
        applies=_expands_wrongly,
        message="pictures.expand makes tokens out of one pooled vector of a picture: pooled is {pictures.pooled}, "
        "transformer "
        "{pictures.transformer}, and nothing may reduce or name regions",
        remedy="set pictures.pooled=true with features of an image encoder, and leave line, grid, sparse, transformer "
        "and "
        "tasks about boxes out; or leave pictures.expand out",
        failing={"pictures.expand": True},
    ),
    Rule(
        name="pictures-change-in-the-model-alone",
        paths=("pictures.augment", "pictures.features"),
        applies=lambda config: config.pictures.augment and not is_raw(config),
        message="pictures.augment changes pictures before they are encoded, and {pictures.features} are stored "
        "features",
        remedy="choose raw_* for pictures.features, or leave pictures.augment out",
        failing={"pictures.augment": True},
    ),
    Rule(
        name="encoders-have-their-widths",
        paths=("pictures.feature_width", "pictures.features"),
        applies=lambda config: (
            config.pictures.feature_width is not None
            and is_raw(config)
            and config.pictures.encoder is None
            and row_width(config) != row_width(_without_width(config))
        ),
        message="pictures.feature_width is {pictures.feature_width}, which {pictures.features} does not give",
        remedy="leave pictures.feature_width out: it follows from the encoder",
        failing={"pictures.features": "raw_RN50", "pictures.feature_width": 512},
    ),
    Rule(
        name="regions-are-needed",
        paths=("text.tags", "data.tasks", "pretraining.losses", "pictures.features"),
        applies=lambda config: config.pictures.use and config.pictures.features != "butd" and _regions_wanted(config),
        message="classes and boxes of regions are asked for (refcoco, vcr, text.tags, or losses about regions), and "
        "pictures.features {pictures.features} has none",
        remedy="choose butd for pictures.features, or leave what needs regions out",
        failing={"text.tags": True, "pictures.features": "RN50"},
    ),
    Rule(
        name="boxes-have-names",
        paths=("pictures.order_embedding", "pictures.boxes", "data.tasks", "pretraining.losses"),
        applies=lambda config: (
            config.pictures.use
            and _names_boxes(config)
            and (not config.pictures.order_embedding or config.pictures.boxes > 100)
        ),
        message="boxes are named by 100 words of their order: order_embedding is {pictures.order_embedding}, boxes "
        "{pictures.boxes}",
        remedy="leave pictures.order_embedding true, and pictures.boxes at 100 or less",
        failing={"pictures.order_embedding": False, "data.tasks": ["refcoco"]},
    ),
    Rule(
        name="tasks-that-need-pictures",
        paths=("pictures.use", "data.tasks", "text.tags", "text.empty"),
        applies=lambda config: (
            not config.pictures.use
            and (names_task(config, "nlvr", *BOXED) or config.text.tags or config.text.empty or pretrains(config))
        ),
        message="pictures.use is false, and nlvr, refcoco, vcr, text.tags, text.empty and pretraining are about "
        "pictures",
        remedy="leave pictures.use true, or these out",
        failing={"pictures.use": False, "data.tasks": ["nlvr"]},
    ),
    Rule(
        name="a-norm-that-is-not-there",
        paths=("pictures.shared_layer_norm", "model.path", "model.build.architecture"),
        applies=lambda config: config.pictures.use and config.pictures.shared_layer_norm and is_bart(config) is False,
        message="pictures.shared_layer_norm is about the norm that BART has after its embeddings, and this backbone "
        "has none",
        remedy="leave it out, or choose a backbone of BART's kind",
        failing={"pictures.shared_layer_norm": True},
    ),
    Rule(
        name="twelve-heads",
        paths=("pictures.transformer", "model.build.width"),
        applies=lambda config: (
            config.pictures.use
            and config.pictures.transformer
            and config.model.path is None
            and config.model.build.width % 12 != 0
        ),
        message="pictures.transformer has 12 heads, which do not divide model.build.width {model.build.width}",
        remedy="choose a width that 12 divides, or leave pictures.transformer out",
        failing={"pictures.transformer": True},
    ),
)


def _without_width(config: Any) -> Any:
    return config.model_copy(update={"pictures": config.pictures.model_copy(update={"feature_width": None})})
