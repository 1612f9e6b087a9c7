"""Time of an update with a frozen image encoder: its features stored beforehand, against running it in every step.

A rendered world, CLIP's RN50 with random weights (the time is that of real ones) at 224 pixels, 36 visual tokens a
picture, single bottleneck adapters in a backbone of T5-small's width, batches of 32 questions. An update is reading,
forward, backward and AdamW; contestants take turns in one process.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/frozen_vision.py [--rounds 9] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from measure import Watch, alternate, machine, ratios, spread, table

from quincunx.config.load import load
from quincunx.config.plan import make_plan
from quincunx.data.loader import Updates
from quincunx.engine.experiment import order_of
from quincunx.engine.optim import build_optimizer
from quincunx.engine.runtime import start_runtime
from quincunx.engine.step import Step
from quincunx.recipes import recipe_of, schemas
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.world.generate import generate
from quincunx.recipes.vision_language.model.vision.build import build_encoder
from quincunx.recipes.vision_language.model.vision.extract import extract

RUNNING, STORED = "the encoder in every step", "stored features"
BAR = 3.0
SIZE = (224, 224)
TOKENS = 36


class Trained:
    """An experiment that can be taken a step further.

    Args:
        folder: The collection.
        pictures: Settings of the section `pictures`.
    """

    def __init__(self, folder: Path, pictures: dict[str, Any]) -> None:
        config: dict[str, Any] = {
            "recipe": "vision_language",
            "seed": 0,
            "data": {"path": str(folder), "tasks": ["vqa"]},
            "model": {"build": {"width": 512, "num_layers": 6, "num_heads": 8, "hidden": 2048}, "dropout": 0.0},
            "pictures": pictures,
            "adapt": {"bottleneck": True, "single": True, "reduction_factor": 8},
            "update": {"batch_size": 32},
        }
        loaded = load(config, schemas=schemas())
        recipe = recipe_of("vision_language")
        decided, _ = recipe.decide(loaded.config)
        torch.manual_seed(0)
        made = recipe.build(decided)
        self.runtime = start_runtime(decided.compute)
        plan = make_plan(made.config, made.sizes, None)
        parts = made.parts
        self.step = Step(parts.model.train(), parts.objective, self.runtime, plan, 0)
        self.optimizer, _ = build_optimizer(made.config.optimizer, made.config.update, (parts.model, parts.objective))
        order = order_of(made.config, made.sizes.train, None, 0, made.arrangement)
        self.data = Updates(made.source, made.collate, order, 0)
        self.numbers = count()

    def update(self) -> float:
        """Return the seconds of one update."""
        number = next(self.numbers)
        watch = Watch()
        self.optimizer.zero_grad()
        self.step.gradient(number, self.data[number])
        self.optimizer.step()
        return watch.read().wall


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "world"
        generate(folder, counts={"train": 400, "dev": 8}, size=128, tasks=["vqa"])
        torch.manual_seed(0)
        encoder = build_encoder("RN50", SIZE, grid=6)
        done = extract(Collection(folder), encoder, folder / "features" / "RN50.arrow")
        contestants = {
            RUNNING: Trained(folder, {"features": "raw_RN50", "image_size": list(SIZE), "grid": True, "boxes": TOKENS}),
            STORED: Trained(folder, {"features": "RN50"}),
        }
        print(machine(torch.get_num_threads()) + "\n")
        print(f"storing the features of {done.computed} pictures took {done.seconds:.1f} s\n")
        found = alternate({name: partial(each.update) for name, each in contestants.items()}, options.rounds, warmup=2)
        rows = [
            [
                name,
                f"{spread([1000 * value for value in values]):.0f}",
                "" if name == RUNNING else f"{ratios(found[RUNNING], values):.2f} (bar {BAR})",
            ]
            for name, values in found.items()
        ]
        print(table(["", "milliseconds an update", "times as fast"], rows))
        for each in contestants.values():
            each.runtime.close()


if __name__ == "__main__":
    main()
