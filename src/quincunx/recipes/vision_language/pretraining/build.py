"""The losses of a config, and their rows: every example once an epoch for each loss that it fits, as in VL-T5.

An example with several captions gives one of them each time, drawn. A picture with named regions is an example of the
losses about single regions, `pretraining.ground_copies` times an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import permutation
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.asked_rows import Part
from quincunx.recipes.vision_language.data.folder import Collection, Examples
from quincunx.recipes.vision_language.data.record import Example
from quincunx.recipes.vision_language.pretraining.grounding import GroundCaption, PictureExamples, Refer
from quincunx.recipes.vision_language.pretraining.measured import GROUNDING, REGIONS, kinds_of
from quincunx.recipes.vision_language.pretraining.regions import Regions
from quincunx.recipes.vision_language.pretraining.said import (
    Answering,
    Captioning,
    Denoise,
    Loss,
    Matching,
    Spans,
)
from quincunx.recipes.vision_language.pretraining.texts import Pool

Files = Sequence[tuple[Examples, NDArray[np.int64]]]
"""Files of examples, and the places of those that are used."""

LOSSES: dict[str, type[Loss]] = {
    "lm": Spans,
    "qa": Answering,
    "itm": Matching,
    "caption": Captioning,
    "ground_caption": GroundCaption,
    "refer": Refer,
    REGIONS: Regions,
}
"""Kind -> its class; `lm` is `Denoise` beside backbones of BART's kind."""


def losses_of(config: Any, *, markers: bool) -> dict[str, Loss]:
    """Return the kinds of rows of a config with their settings, in the order of its losses.

    Args:
        config: Its sections `pretraining` and `pictures` are read.
        markers: Whether masked words are restored span by span, by their markers, as T5 is used to; else by saying the
            whole text.
    """
    chosen = config.pretraining
    alone = only_captions(config)
    ground = {"grounded": chosen.grounded, "limit": config.pictures.boxes, "weight": chosen.ground_weight}
    made: dict[str, dict[str, Any]] = {
        "lm": {"captions": alone, "rate": chosen.word_mask_rate},
        "qa": {"one_prefix": chosen.one_question_prefix},
        "itm": {"captions": alone or chosen.itm_captions_only, "questions": True},
        "caption": {"captions": alone or chosen.caption_captions_only},
        "ground_caption": ground,
        "refer": ground,
        REGIONS: {"captions": alone},
    }
    kinds = {**LOSSES, "lm": Spans if markers else Denoise}
    return {name: kinds[name](**made[name]) for name in kinds_of(chosen.losses)}


def only_captions(config: Any) -> bool:
    """Return whether texts of the task `caption` alone are used."""
    return config.pretraining.captions_only or config.pretraining.coco_only


def parts_of(
    losses: dict[str, Loss], files: Files, pictures: PictureExamples, *, copies: int = 1, limit: int | None = None
) -> list[Part]:
    """Return the rows of every loss on some files, those of one loss and one file together.

    Args:
        losses: By kind.
        files: Of one or several splits.
        pictures: Those that the files' examples are about.
        copies: How often each picture is an example of the losses about single regions.
        limit: Rows of a part, at most.
    """
    parts: list[Part] = []

    def add(number: int, loss: Loss, examples: Any, chosen: NDArray[np.int64]) -> None:
        if len(chosen := chosen[:limit]):
            parts.append(Part(loss, number, examples, chosen))

    about_pictures = {name: loss for name, loss in losses.items() if name in GROUNDING}
    about_texts = {name: loss for name, loss in losses.items() if name not in GROUNDING}
    grounding = _fitting(about_pictures, pictures, np.arange(len(pictures)))
    by_file = [(examples, _fitting(about_texts, examples, chosen)) for examples, chosen in files]
    for number, (name, loss) in enumerate(losses.items()):
        if name in GROUNDING:
            add(number, loss, pictures, np.tile(grounding[name], copies))
            continue
        fitting = [(examples, chosen[name]) for examples, chosen in by_file]
        if name == REGIONS:
            fitting = [(examples, _with_regions(examples, chosen, pictures)) for examples, chosen in fitting]
        made = loss
        if isinstance(loss, Matching):
            pool = Pool([(examples, chosen) for examples, chosen in fitting if len(chosen)])
            if pool.pictures < 2:
                continue
            made = replace(loss, pool=pool)
        for examples, chosen in fitting:
            add(number, made, examples, chosen)
    return parts


def pictures_of(collection: Collection, files: Files, limit: int) -> PictureExamples:
    """Return the pictures that examples are about, each once."""
    places = [
        examples.picture_places[examples.picture_offsets[place] : examples.picture_offsets[place + 1]]
        for examples, chosen in files
        for place in chosen.tolist()
    ]
    found = np.unique(np.concatenate(places)) if places else np.zeros(0, np.int64)
    return PictureExamples(collection, found, limit)


def taken(count: int, top: float, seed: int) -> NDArray[np.int64]:
    """Return which of a file's examples are used: -1 all, a share of them drawn by the seed, or the first so many."""
    places = np.arange(count)
    if top == -1:
        return places
    if 0 < top <= 1:
        return np.sort(permutation(count, seed)[: max(1, round(top * count))])
    if top > 1 and float(top).is_integer():
        return places[: int(top)]
    raise UsageError(f"data.train_top and data.dev_top are -1, a share in (0, 1] or a number of examples; found {top}")


def _fitting(
    losses: Mapping[str, Loss], examples: Sequence[Example], places: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Return the places of the examples that fit each loss, each example read once."""
    found: dict[str, list[int]] = {name: [] for name in losses}
    for place in places.tolist() if losses else ():
        example = examples[place]
        for name, loss in losses.items():
            if loss.fits(example):
                found[name].append(place)
    return {name: np.array(fitting, np.int64) for name, fitting in found.items()}


def _with_regions(examples: Examples, places: NDArray[np.int64], pictures: PictureExamples) -> NDArray[np.int64]:
    """Return the examples of whose pictures at least one has regions."""
    counts = pictures.collection.pictures.regions
    starts, ends = examples.picture_offsets[places], examples.picture_offsets[places + 1]
    kept = [
        bool(counts[examples.picture_places[start:end]].any())
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    return places[np.array(kept, bool)]
