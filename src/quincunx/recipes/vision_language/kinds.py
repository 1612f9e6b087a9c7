"""What a vision_language config amounts to, in questions that sections, rules and the recipe all ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

GRIDS = ("RN50", "RN101", "RN50x4", "ViT")
"""Stored grids of CLIP's image encoders."""
RAW = tuple(f"raw_{word}" for word in GRIDS)
"""The same encoders in the model, fed with pictures."""
WIDTHS = {"butd": 2048, "RN50": 2048, "RN101": 2048, "RN50x4": 2560, "ViT": 768}
"""Numbers in a row of features, by kind."""
POOLED_WIDTHS = {"RN50": 1024, "RN101": 512, "RN50x4": 640, "ViT": 512}
"""Numbers in the one pooled row, by encoder."""

ADAPTERS = ("bottleneck", "compacter", "low_rank", "hyperformer")
"""The kinds of adapters of which there is at most one."""
BEARS_BART = ("bart", "mbart", "pegasus", "marian", "blenderbot", "plbart")
"""Architectures of BART's kind: learned positions, a norm after the embeddings."""


def pretrains(config: Any) -> bool:
    """Tell whether the objective is pretraining."""
    return config.objective == "pretraining"


def has_task(config: Any, *tasks: str) -> bool:
    """Tell whether one of these tasks is trained: named, or possibly in the folder where none is named."""
    return config.objective == "tasks" and (not config.data.tasks or any(each in config.data.tasks for each in tasks))


def names_task(config: Any, *tasks: str) -> bool:
    """Tell whether one of these tasks is named."""
    return config.objective == "tasks" and any(each in config.data.tasks for each in tasks)


def routes_of(config: Any) -> Sequence[str]:
    """Return the tasks that examples belong to, in the order of their numbers; texts of pretraining belong to none."""
    return config.data.tasks if config.objective == "tasks" else ()


def points(config: Any) -> bool:
    """Tell whether regions are chosen by a head that points at them."""
    return config.data.refcoco.pointer and has_task(config, "refcoco")


def judged(config: Any) -> list[str]:
    """Return the tasks whose answers are judged in training."""
    chosen = config.log.train_accuracy and config.objective == "tasks"
    return [task for task in ("refcoco", "vcr") if chosen and task in config.data.tasks]


def is_raw(config: Any) -> bool:
    """Tell whether pictures go through an image encoder in the model."""
    return config.pictures.use and config.pictures.features in RAW


def encoder_of(config: Any) -> str:
    """Return the word of the image encoder, without `raw_`."""
    return config.pictures.features.removeprefix("raw_")


def row_width(config: Any) -> int:
    """Return how many numbers a row of features has."""
    if config.pictures.feature_width is not None:
        return int(config.pictures.feature_width)
    kind = encoder_of(config)
    return POOLED_WIDTHS[kind] if config.pictures.pooled and kind in POOLED_WIDTHS else WIDTHS[kind]


def adapters(config: Any) -> list[str]:
    """Return the kinds of adapters that are switched on."""
    return [name for name in ADAPTERS if getattr(config.adapt, name)]


def adapts(config: Any) -> bool:
    """Tell whether the switches of `adapt` put anything into the model."""
    chosen = config.adapt
    switches = (chosen.lora, chosen.vision, chosen.head, chosen.prefix)
    return bool(adapters(config)) or any(switches) or chosen.encoder_prompts > 0 or chosen.decoder_prompts > 0


def architecture(config: Any) -> str | None:
    """Return `t5`, `bart` or another architecture as far as the config's words tell; None where they do not."""
    if config.model.path is None:
        return config.model.build.architecture
    name = config.model.path.rstrip("/").rpartition("/")[2].lower()
    return next((word for word in ("t5", *BEARS_BART) if word in name), None)


def is_bart(config: Any) -> bool | None:
    """Tell whether the backbone is of BART's kind; None where the words do not tell."""
    found = architecture(config)
    return None if found is None else found in BEARS_BART
