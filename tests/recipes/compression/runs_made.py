"""Runs of the recipe `compression` small enough for tests: half a second each."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEXT = """The bridge over the river was built in the spring. Boats pass below it in the morning.
In the evening the gate is closed, and the lamps are lit along the water.
Nobody knows who planted the five trees, four of them round the fifth.
A path leads from the gate to the trees, and from there back to the bridge.
The ferryman counts the boats that pass, and writes the number into a book.
When the river is high the boats stay where they are, and the book stays empty.
Children climb the trees in the summer. In the winter they slide on the ice below.
The lamps were first lit with oil, then with gas, and now they light themselves.
"""

SMALL: dict[str, Any] = {
    "recipe": "compression",
    "seed": 3,
    "data": {"source": "text", "document": "line", "context_length": 12, "forward_length": 8, "dev_share": 0.2,
             "test_share": 0.2, "processes": 1},
    "tokenizer": {"kind": "byte"},
    "model": {"build": {"num_layers": 2, "width": 16, "num_heads": 2, "hidden": 24}},
    "compress": {"slots": 3},
    "update": {"batch_size": 8},
    "budget": {"updates": 4},
    "optimizer": {"learning_rate": 0.01},
    "evaluate": {"every": None, "max_batches": 2},
    "checkpoint": {"every": None},
    "log": {"every": 1},
    "compute": {"threads": 1, "device": "cpu"},
}  # fmt: skip


def write_texts(folder: Path, copies: int = 6) -> Path:
    """Write texts of many different lines and return their file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{number} {line}" for number in range(copies) for line in TEXT.splitlines()]
    path = folder / "texts.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def config_of(home: Path, run: str = "run", changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the small config over texts in `home`, its run there too, with dotted changes."""
    tree = copy.deepcopy(SMALL)
    texts = home / "texts.txt"
    tree["data"] |= {"path": str(texts if texts.exists() else write_texts(home)), "cache": str(home / "cache")}
    tree["run"] = {"dir": str(home / run)}
    for dotted, value in (changes or {}).items():
        *parents, last = dotted.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def metrics(run: Path) -> dict[str, list[float]]:
    """Return what a run tracked, by `split/name`."""
    found: dict[str, list[float]] = {}
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(f"{row['split']}/{row['name']}", []).append(row["value"])
    return found
