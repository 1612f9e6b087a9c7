"""What is seen of a config: its batches, model, first losses and evaluations, or the folder of a whole small run."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from quincunx.data.batch import Batch
from quincunx.data.loader import Updates
from quincunx.engine.loop import evaluate
from quincunx.engine.step import Step
from quincunx.metrics.record import Evaluation
from quincunx.recipes.vision_language.data.features import Features, write_features
from quincunx.recipes.vision_language.data.record import TASKS
from settings_looked_at import LookedAt
from toys import cpu
from vision_language_runs import make_world

GRID = 9
"""Cells of the stored grids."""
MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "a": ("all tasks", {"data.tasks": list(TASKS), "mixing.mixed": True}),
    "q": ("questions", {"data.tasks": ["vqa"]}),
    "g": ("grids", {"data.tasks": ["vqa", "caption"], "mixing.mixed": True, "pictures.features": "RN50"}),
    "r": (
        "raw",
        {
            "data.tasks": ["vqa", "cls"],
            "mixing.mixed": True,
            "pictures.features": "raw_RN50",
            "pictures.image_size": [32, 32],
        },
    ),
    "p": (
        "pretraining",
        {
            "objective": "pretraining",
            "pretraining.losses": ["lm", "qa", "itm", "caption", "ground_caption", "refer", "obj", "attr", "feat"],
            "text.max_length": 60,
        },
    ),
    "t": ("texts", {"data.tasks": ["vqa", "mmt"], "mixing.mixed": True, "pictures.use": False}),
}
"""By letter: a name, and the settings of all tasks on regions, one of them, two on stored grids, two on pictures
themselves, two without pictures; and all losses of pretraining."""

SMALL: dict[str, Any] = {
    "seed": 3,
    "data.path": "@world",
    "model.dropout": 0.0,
    "model.build.num_layers": 1,
    "model.build.width": 24,
    "model.build.num_heads": 2,
    "model.build.hidden": 32,
    "generate.max_length": 2,
    "update.batch_size": 8,
    "budget.updates": 2,
    "compute.device": "cpu",
    "compute.threads": 1,
}
"""Of every config here."""


def write_sets(folder: Path) -> dict[str, str]:
    """Write collections, a language model and weights, and return where each is, by name."""
    world = make_world(folder / "world")
    _change(world, "vqa", "train", _written)
    _change(world, "vqa", "dev", _unanswerable)
    _change(world, "vqa", "dev", _bare, to="partly")
    (world / "cls-birds").mkdir()
    for split in ("train", "dev"):
        rows = [json.loads(line) for line in (world / "cls" / f"{split}.jsonl").read_text().splitlines()]
        text = "".join(json.dumps({**row, "classes": ["owl"], "answers": ["owl"]}) + "\n" for row in rows)
        (world / "cls-birds" / f"{split}.jsonl").write_text(text)
    regions = Features(world / "features" / "butd.arrow")
    draw = np.random.Generator(np.random.Philox(5))
    grids = [(name, draw.normal(size=(GRID, 6))) for name in regions]
    write_features(world / "features" / "RN50.arrow", grids, width=6, model="grids")
    again = [(name, draw.normal(size=(len(regions[name]), 8))) for name in regions]
    write_features(folder / "others.arrow", again, width=8, model="others")
    pooled = [(name, rows[:1]) for name, rows in grids]
    write_features(world / "features" / "RN50-pooled.arrow", pooled, width=6, model="pooled")
    chosen = folder / "chosen"
    shutil.copytree(world, chosen)
    _change(chosen, "refcoco", "dev", lambda row: {**row, "candidates": [row["box"]]})
    sets = {"world": world, "chosen": chosen, "others": folder / "others.arrow"}
    sets["saved"], sets["weights"] = folder / "saved", folder / "weights.safetensors"
    whole = Seen({**SMALL, **MODES["q"][1], "data.path": str(world)}, folder / "first")
    weights = {name: each.clone() + 0.1 for name, each in whole.model.state_dict().items()}
    save_file(weights, sets["weights"])
    plain = Seen({**SMALL, **MODES["t"][1], "data.path": str(world), "model.build.width": 12}, folder / "second")
    plain.model.language_model.save_pretrained(sets["saved"])
    plain.tokenizer.save_pretrained(sets["saved"])
    return {name: str(path) for name, path in sets.items()}


def _written(row: dict[str, Any]) -> dict[str, Any]:
    """Return an example as people write: with capitals and articles."""
    said = [f"the {each}" for each in row["annotations"]]
    return {**row, "text": row["text"].capitalize(), "annotations": said}


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    """Return every other example without what is right."""
    if row["uid"].endswith("0"):
        return row
    return {key: row[key] for key in ("uid", "pictures", "text")}


def _unanswerable(row: dict[str, Any]) -> dict[str, Any]:
    if not row["uid"].endswith("0"):
        return row
    return {**row, "answers": ["never said"], "annotations": ["never said"] * 10}


def _change(
    folder: Path, task: str, split: str, change: Callable[[dict[str, Any]], dict[str, Any]], to: str | None = None
) -> None:
    rows = [json.loads(line) for line in (folder / task / f"{split}.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(change(row)) + "\n" for row in rows)
    (folder / task / f"{to or split}.jsonl").write_text(text)


class Seen(LookedAt):
    """What is seen of settings; each thing is computed when it is first looked at."""

    recipe = "vision_language"

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        super().__init__(settings, folder)

    @property
    def asking(self) -> Any:
        found: Any = self.experiment.collate
        return getattr(found, "asking", found)

    @property
    def tokenizer(self) -> Any:
        return self.asking.texts.tokenizer

    def look(self) -> None:
        self.terms

    def batches(self, update: int) -> list[Any]:
        """Return an update's logical batches, as the engine takes them."""
        return Updates(self.experiment.source, self.experiment.collate, self.order, 7)[update]

    @property
    def batch(self) -> Batch:
        """The first logical batch."""
        batch = self.batches(0)[0]
        assert batch is not None
        return batch

    @cached_property
    def every(self) -> Batch:
        """One batch of the first examples of each task."""
        source: Any = self.experiment.source
        starts = np.cumsum([0, *source.sizes[:-1]]).tolist()
        numbers = [start + step for start in starts for step in range(3)]
        return self.experiment.collate([source[number] for number in numbers], numbers, range(len(numbers)), 7)

    @property
    def texts(self) -> list[str]:
        """What is read in that batch."""
        return self.tokenizer.batch_decode(self.every["input_ids"], skip_special_tokens=True)

    @property
    def said(self) -> list[str]:
        """What is to be said in it."""
        labels = self.every["labels"].clamp(min=0)
        return self.tokenizer.batch_decode(labels, skip_special_tokens=True)

    @cached_property
    def tokens(self) -> int:
        """How many visual tokens the encoder reads with that batch."""
        names = ("features", "pixels", "boxes", "visual_mask", "image_ids", "object_ids")
        given = {name: self.every[name] for name in names if name in self.every.tensors}
        words = {name: self.every[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            whole = copy.deepcopy(self.model).eval().encode(**words, **given)
        return whole.states.shape[1] - words["input_ids"].shape[1]

    def learn(self, updates: int, rate: float = 0.0) -> list[dict[str, float]]:
        """Return the terms of some updates' losses, plain gradient steps of a rate between them; of this very model."""
        self.model.train()
        return self.descend(Step(self.model, self.objective.train(), cpu(), self.plan, seed=5), updates, rate)

    @cached_property
    def terms(self) -> dict[str, float]:
        """The terms of the first update's loss."""
        return self.learn(1)[0]

    @cached_property
    def dev(self) -> Evaluation:
        """The evaluation on the development set."""
        return evaluate(self.model, self.experiment.evaluators["dev"], cpu(), self.plan)
