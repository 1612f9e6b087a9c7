"""A small world, its configs, and models with tokenizers of their own, for tests of pretraining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx.data.batch import Batch
from quincunx.recipes.vision_language import assemble
from quincunx.recipes.vision_language.collate import Asking, Texts
from quincunx.recipes.vision_language.config import VisionLanguageConfig
from quincunx.recipes.vision_language.data.world.generate import generate
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
from quincunx.recipes.vision_language.pretraining.collate import PretrainingAsking
from quincunx.recipes.vision_language.pretraining.heads import add_region_heads
from quincunx.recipes.vision_language.pretraining.objective import Pretraining
from quincunx.recipes.vision_language.pretraining.read import Found, read_pretraining
from quincunx.recipes.vision_language.read import wording_of

ALL = ["lm", "qa", "itm", "caption", "ground_caption", "refer", "obj", "attr", "feat"]
FEATURES = 12


@dataclass(frozen=True)
class Made:
    """A config's data, model and objective."""

    config: Any
    found: Found
    model: VisionLanguageModel
    asking: PretrainingAsking
    objective: Pretraining

    def batch(self, numbers: Any, seed: int = 5) -> Batch:
        """Return a batch of training rows."""
        numbers = list(numbers)
        rows = self.found.splits.train
        return self.asking([rows[number] for number in numbers], numbers, range(len(numbers)), seed)

    def some(self, each: int = 2) -> list[int]:
        """Return the numbers of a few rows of every part."""
        found, start = [], 0
        for size in self.found.splits.train.sizes:
            found += [start + size * place // each for place in range(min(each, size))]
            start += size
        return found


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    generate(folder, seed=1, counts={"train": 16, "dev": 8}, size=64, feature_width=FEATURES)
    return folder


@pytest.fixture(scope="session")
def config_of(world: Path) -> Callable[..., Any]:
    """Return a function that makes a decided config of the world."""

    def make(losses: list[str] = ALL, *, architecture: str = "t5", path: Path = world, **changes: Any) -> Any:
        build = {"architecture": architecture, "width": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 400}
        sections: dict[str, Any] = {
            "objective": "pretraining",
            "seed": 3,
            "data": {"path": str(path), **changes.pop("data", {})},
            "pretraining": {"losses": losses, **changes.pop("pretraining", {})},
            "pictures": {"feature_width": FEATURES, "stored": str(world / "features" / "butd.arrow")},
            "model": {"build": build, "dropout": 0.0},
        }
        return VisionLanguageConfig.model_validate({**sections, **changes})

    return make


@pytest.fixture(scope="session")
def make(config_of: Callable[..., Any]) -> Callable[..., Made]:
    """Return a function that makes data, model and objective of a config, weights far from nought."""

    def made(losses: list[str] = ALL, **changes: Any) -> Made:
        config = config_of(losses, **changes)
        found = read_pretraining(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            language = assemble.language_of(config, lambda: found.splits.texts(wording_of(config, None)))
            model = assemble.bare_model(config, language, found.splits.most_pictures)[0]
            if found.words is not None:
                add_region_heads(model, found.words, losses)
            for parameter in model.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
        texts = Texts(language.tokenizer, language.begins, config.text.max_length)
        asking = Asking(texts, wording_of(config, language.tokenizer), True, FEATURES)
        whole = PretrainingAsking(asking, found.words, config.pretraining.object_mask_rate)
        return Made(config, found, model.eval(), whole, Pretraining(losses))

    return made


@pytest.fixture(scope="session")
def restored() -> Callable[[str, str], str]:
    """Return a function that puts hidden words back."""
    return put_back


def put_back(source: str, target: str) -> str:
    """Return the text that a source and a target with markers came from, marker by marker."""
    assert target.split(maxsplit=1)[0] == "<extra_id_0>"
    number = 0
    while f"<extra_id_{number + 1}>" in target:
        hidden = target.split(f"<extra_id_{number}> ")[1].split(f" <extra_id_{number + 1}>", maxsplit=1)[0]
        source = source.replace(f"<extra_id_{number}>", hidden, 1)
        number += 1
    assert target.endswith(f"<extra_id_{number}>")
    assert "<extra_id_" not in source
    return source
