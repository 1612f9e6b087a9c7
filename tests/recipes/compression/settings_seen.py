"""What is seen of a config: its batches, model, first losses and evaluations, or the folder of a whole small run."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from quincunx.config.load import load
from quincunx.data.batch import Batch
from quincunx.data.loader import Updates
from quincunx.engine.loop import evaluate
from quincunx.engine.step import Step
from quincunx.metrics.record import Evaluation
from quincunx.recipes.compression.config import SCHEMA
from quincunx.recipes.compression.data.arithmetic import generate
from quincunx.recipes.compression.data.arithmetic.load import counts_of, parameters_of
from quincunx.recipes.compression.data.tasks.export import generate as generate_task
from quincunx.recipes.compression.sources import Read, read
from recipes.compression.runs_made import TEXT
from settings_looked_at import LookedAt, tree_of
from toys import cpu

TEXTS: dict[str, Any] = {
    "data.source": "text",
    "data.path": "@texts",
    "data.document": "line",
    "data.forward_length": 8,
    "data.dev_share": 0.2,
    "data.test_share": 0.2,
    "data.processes": 1,
    "tokenizer.kind": "byte",
}
COMPRESSED: dict[str, Any] = {**TEXTS, "data.context_length": 12, "compress.slots": 3}
ARITHMETIC: dict[str, Any] = {
    "data.source": "arithmetic",
    "arithmetic.train": 24,
    "arithmetic.dev": 4,
    "arithmetic.test": 4,
    "arithmetic.ood": 3,
}
TASKS: dict[str, Any] = {
    "data.source": "tasks",
    "tasks.name": "reverse_string",
    "tasks.max_length": 6,
    "tasks.train": 24,
    "tasks.dev": 4,
    "tasks.test_max_length": 8,
    "tasks.test_per_length": 2,
}
MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "c": ("compressed", COMPRESSED),
    "p": ("plain", TEXTS),
    "a": ("arithmetic", ARITHMETIC),
    "t": ("tasks", TASKS),
}
"""By letter: a name, and the settings of texts with and without compression, of arithmetic, of tasks."""

SMALL: dict[str, Any] = {
    "seed": 3,
    "model.build.num_layers": 2,
    "model.build.width": 16,
    "model.build.num_heads": 2,
    "model.build.hidden": 24,
    "model.build.options": {"initializer_range": 0.3},
    "update.batch_size": 8,
    "budget.updates": 2,
    "compute.device": "cpu",
    "compute.threads": 1,
}
"""Of every config here."""


def write_sets(folder: Path) -> dict[str, str]:
    """Write texts, generated sets and a language model, and return where each is, by name."""
    lines = [f"{number} {line}" for number in range(4) for line in TEXT.splitlines()]
    sets = {"texts": folder / "texts.txt", "folder": folder / "texts", "rows": folder / "rows.jsonl"}
    sets["texts"].write_text("\n".join(lines) + "\n", encoding="utf-8")
    sets["folder"].mkdir()
    for number in range(4):
        part = "\n".join(lines[number::4])
        (sets["folder"] / f"{number}.{'md' if number % 2 else 'txt'}").write_text(f"{part}\n\n{part[::-1]}\n")
    rows = [json.dumps({"text": line, "said": line[::-1]}) for line in lines]
    sets["rows"].write_text("\n".join(rows) + "\n", encoding="utf-8")
    sets["problems"], sets["inputs"] = folder / "problems", folder / "inputs"
    other = load(
        tree_of("compression", {**ARITHMETIC, "arithmetic.seed": 9, **TASKS, "tasks.seed": 9}), schemas=[SCHEMA]
    ).config
    generate(sets["problems"], counts_of(other.arithmetic), parameters_of(other.arithmetic))
    generate_task(sets["inputs"], other.tasks)
    sets["saved"] = folder / "saved"
    whole = Seen({**SMALL, **TEXTS, "data.path": str(sets["texts"]), "model.dtype": "bfloat16"}, folder / "first")
    whole.model.backbone.save_pretrained(sets["saved"])
    whole.found.tokenizer.save_pretrained(sets["saved"])
    return {name: str(path) for name, path in sets.items()}


class Seen(LookedAt):
    """What is seen of settings; each thing is computed when it is first looked at."""

    recipe = "compression"

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        super().__init__({"data.cache": str(folder.parent / "cache"), **settings}, folder)

    @property
    def backbone(self) -> Any:
        return self.model.backbone

    @cached_property
    def found(self) -> Read:
        """The data, with the words that it is made of."""
        return read(self.config)

    def look(self) -> None:
        self.terms

    def batches(self, update: int) -> list[Any]:
        """Return an update's logical batches, as the engine takes them."""
        return Updates(self.experiment.source, self.experiment.collate, self.order, 7)[update]

    @property
    def batch(self) -> Batch:
        """The first logical batch."""
        return self.at(0)

    def at(self, update: int) -> Batch:
        """Return the first logical batch of an update."""
        batch = self.batches(update)[0]
        assert batch is not None
        return batch

    @property
    def texts(self) -> list[str]:
        """What is left of the texts of the first batch's first branch."""
        return self.left("plain" if "plain_tokens" in self.batch.tensors else "forward")

    def left(self, branch: str, update: int = 0) -> list[str]:
        """Return what is left of the texts of a branch in the first batch of an update."""
        batch = self.at(update)
        pairs = zip(batch[f"{branch}_tokens"], batch[f"{branch}_seen"], strict=True)
        return [self.found.tokenizer.decode(tokens[seen].tolist()) for tokens, seen in pairs]

    def share(self, update: int) -> float:
        """Return the share of the text's tokens that is left in some batches from an update on."""
        batches = [self.at(each) for each in range(update, update + 3)]
        seen = sum(int(batch["plain_seen"].sum()) for batch in batches)
        return seen / sum(int((batch["plain_tokens"] != 0).sum()) for batch in batches)

    def learn(self, updates: int, rate: float = 0.0) -> list[dict[str, float]]:
        """Return the terms of some updates' losses, plain gradient steps of a rate between them; of a copy."""
        model, objective = copy.deepcopy((self.model, self.objective))
        return self.descend(Step(model.train(), objective.train(), cpu(), self.plan, seed=5), updates, rate)

    @cached_property
    def terms(self) -> dict[str, float]:
        """The terms of the first update's loss."""
        return self.learn(1)[0]

    @cached_property
    def dev(self) -> Evaluation:
        """The evaluation on the development set."""
        return evaluate(self.model, self.experiment.evaluators["dev"], cpu(), self.plan)
