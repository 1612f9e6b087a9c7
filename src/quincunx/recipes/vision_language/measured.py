"""What an evaluation measures, known without data."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Metrics
from quincunx.recipes.vision_language.data.record import TASKS
from quincunx.recipes.vision_language.kinds import pretrains
from quincunx.recipes.vision_language.pretraining.measured import measures_of

MEASURES: dict[str, tuple[str, ...]] = {
    "vqa": ("accuracy",),
    "gqa": ("accuracy", "consistency", "validity", "plausibility"),
    "nlvr": ("accuracy", "consistency"),
    "refcoco": ("accuracy", "iou"),
    "vcr": ("both", "answer", "rationale"),
    "caption": (
        "cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "cider_plain", "meteor_lite",
    ),
    "mmt": ("bleu", "chrf"),
    "cls": ("accuracy", "exact"),
}  # fmt: skip
"""Task -> its measures; gqa's further ones where the questions say what they need."""


def metrics_of(config: Any) -> Metrics:
    """Return the measures of a config's tasks, and `score`, the mean of each one's main measure; or of its losses."""
    if pretrains(config):
        return Metrics("dev/loss", "min", measures_of(config.pretraining.losses))
    tasks = config.data.tasks or TASKS
    return Metrics("dev/score", "max", ("score", *(f"{task}/{name}" for task in tasks for name in MEASURES[task])))
