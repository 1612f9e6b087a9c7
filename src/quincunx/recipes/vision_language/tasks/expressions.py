"""Expressions that mean one thing of a picture: which of its regions? RefCOCOg (Mao et al. 2016; Nagaraja et al. 2016).

A region is named by its word, `<vis_extra_id_n>` for the n-th token of the picture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quincunx.errors import DataError
from quincunx.metrics.grounding import grounding_accuracy, iou, nearest_region
from quincunx.metrics.record import Evaluation
from quincunx.recipes.vision_language.data.record import Box, Example, Picture
from quincunx.recipes.vision_language.tasks.asking import (
    Answered,
    Asked,
    Found,
    Task,
    Wording,
    evaluation,
    named,
)

ENOUGH = 0.5
"""Overlap with what is meant from which a region is right."""


def region_word(number: int) -> str:
    """Return the word that names a picture's n-th token, from 0."""
    return f"<vis_extra_id_{number}>"


@dataclass(frozen=True)
class Refcoco(Task):
    """The likeliest of the words that name a picture's candidate regions."""

    name: ClassVar[str] = "refcoco"
    words: ClassVar[str] = "visual grounding:"
    found: ClassVar[Found] = "chosen"
    reads: ClassVar[int] = 30
    says: ClassVar[int] = 4

    ground_truth: bool = False
    """Measure among the annotated boxes."""
    detections: bool = False
    """Measure among all regions, as they were detected."""
    shuffle: bool = False
    """Train on regions in a random order."""
    limit: int = 100
    """Regions of a picture that are shown, at most."""

    def learns(self, example: Example) -> bool:
        """Return whether it is known what is meant; where no region is near it, its row weighs nothing."""
        return "box" in example.more

    def ask(
        self,
        example: Example,
        wording: Wording,
        pictures: Sequence[Picture] = (),
        row: int = 0,
        draw: np.random.Generator | None = None,
    ) -> Asked:
        """Return the expression with the region that overlaps most with what is meant, if one does by half."""
        source = self.text_of(example.text, wording, pictures)
        regions = _regions(example, pictures[0], self.limit) if pictures else None
        if regions is None:
            raise DataError(f"refcoco, example {example.uid}: its picture must be given")
        order = tuple(map(int, draw.permutation(len(regions)))) if self.shuffle and draw is not None else None
        shown = regions if order is None else regions[list(order)]
        allowed = self._candidates(example, shown) if draw is None else range(len(shown))
        choices = tuple(region_word(number) for number in allowed)
        if not self.learns(example):
            return Asked(source, choices=choices, order=order)
        best, overlap = nearest_region(example.more["box"], shown)
        return Asked(source, region_word(best), float(overlap >= ENOUGH), choices, order)

    def measure(self, answers: Sequence[Answered]) -> Evaluation:
        """Return the share of regions that overlap what is meant by half or more, and the mean overlap."""
        by_name = named(answers)
        targets = {uid: each.example.more["box"] for uid, each in by_name.items()}
        found = {uid: self.box_of(each) for uid, each in by_name.items()}
        return evaluation(grounding_accuracy(targets, found), answers)

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """Return a list of boxes."""
        rows = [{"uid": each.example.uid, "box": list(self.box_of(each))} for each in answers]
        return "refcoco.json", json.dumps(rows)

    def box_of(self, answer: Answered) -> Box:
        """Return the box of the region that was chosen."""
        if answer.picture is None:
            raise DataError(f"refcoco, example {answer.example.uid}: its picture must be given")
        number = int(answer.text.removeprefix("<vis_extra_id_").removesuffix(">"))
        return answer.picture.regions[number].box

    def _candidates(self, example: Example, regions: np.ndarray) -> Sequence[int]:
        """Return the numbers of the regions that may be chosen: those nearest to the candidate boxes."""
        boxes = example.more.get("candidates")
        if self.detections or not boxes:
            if self.ground_truth and not boxes:
                raise DataError(
                    f"refcoco, example {example.uid}: it has no annotated candidates, which data.refcoco.ground_truth "
                    "asks for; leave it out, or give `candidates`"
                )
            return range(len(regions))
        overlaps = iou(np.asarray(boxes, np.float64)[:, None], regions[None])
        near = {int(row.argmax()) for row in overlaps if row.max() > 0}
        return sorted(near) or range(len(regions))


def _regions(example: Example, picture: Picture, limit: int) -> np.ndarray:
    """Return the boxes of a picture's regions [N, 4]."""
    if not picture.regions:
        raise DataError(
            f"refcoco, example {example.uid}: picture {picture.id} has no regions to choose from; give them in "
            "pictures.jsonl"
        )
    return np.array([region.box for region in picture.regions[:limit]], np.float64)
