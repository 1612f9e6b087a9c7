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
from pathlib import Path
from typing import Any

import torch
from measure import alternate, machine, ratios, spread, table
from vision_language_steps import Trained

from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.world.generate import generate
from quincunx.recipes.vision_language.model.vision.build import build_encoder
from quincunx.recipes.vision_language.model.vision.extract import extract

RUNNING, STORED = "the encoder in every step", "stored features"
BAR = 3.0
SIZE = (224, 224)
TOKENS = 36


def config(folder: Path, pictures: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment on a collection; `pictures` are settings of that section."""
    return {
        "recipe": "vision_language",
        "seed": 0,
        "data": {"path": str(folder), "tasks": ["vqa"]},
        "model": {"build": {"width": 512, "num_layers": 6, "num_heads": 8, "hidden": 2048}, "dropout": 0.0},
        "pictures": pictures,
        "adapt": {"bottleneck": True, "single": True, "reduction_factor": 8},
        "update": {"batch_size": 32},
    }


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
        raw = {"features": "raw_RN50", "image_size": list(SIZE), "grid": True, "boxes": TOKENS}
        contestants = {
            RUNNING: Trained(config(folder, raw)),
            STORED: Trained(config(folder, {"features": "RN50"})),
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
