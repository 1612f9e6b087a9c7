"""Does asynchronous successive halving find what a grid finds, and for how many updates less?

A study on ListOps (5 to 40 symbols): five learning rates, three attention kinds, two depths, 30 configurations of
UPDATES updates each. The same study by grid and by `sweep.pruner: asha`, three seeds of everything; both are ordinary
sweeps, started as a user starts them. Updates are counted by the sweep's own table; what a run promoted by ASHA reaches
is, bit for bit, what the grid's run of the same configuration reaches.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/sweep_asha.py

Sweeps that are finished are not repeated; one that was killed goes on.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import machine, table

from quincunx.config.write import yaml_text

NAME = "sweep-asha"
SEEDS = (1, 2, 3)
UPDATES, FIRST, FACTOR = 540, 60, 3
BAR = 1 / 3

STUDY: Mapping[str, Any] = {
    "recipe": "long_range",
    "task": "listops",
    "data": {"train": 12000, "dev": 2000, "test": 500}
    | {"min_length": 5, "max_length": 40, "max_depth": 4, "max_arguments": 5},
    "encoder": {"embedding_dim": 64, "hidden_dim": 128, "head_dim": 32, "num_heads": 2, "num_layers": 2}
    | {"vocab_size": 18, "max_seq_len": 64, "dropout": 0.0, "attention_dropout": 0.0},
    "update": {"batch_size": 64},
    "budget": {"updates": UPDATES},
    "schedule": {"kind": "cos", "warmup": 20},
    "evaluate": {"every": None},
    "checkpoint": {"every": None, "keep": 1, "best": False},
    "log": {"every": 60},
    "ranges": {
        "optimizer.learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
        "attention.kind": ["softmax", "hrr-individual", "none"],
        "encoder.num_layers": [1, 2],
    },
}
PRUNERS: Mapping[str, Mapping[str, Any]] = {
    "grid": {"pruner": "none"},
    "asha": {"pruner": "asha", "pruning": {"first": FIRST, "factor": FACTOR}},
}


@dataclass(frozen=True)
class Ended:
    """What a sweep came to."""

    best: float
    settings: str
    updates: int
    hours: float


def sweep(folder: Path, seed: int, pruner: str) -> Ended:
    """Run a sweep, or what is left of it, and return what it came to."""
    path = folder / f"{pruner}-{seed}"
    config = folder / f"{pruner}-{seed}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml_text({**STUDY, "seed": seed, "sweep": {"dir": str(path), **PRUNERS[pruner]}}))
    subprocess.run([sys.executable, "-m", "quincunx", "sweep", str(config)], check=True, stdout=subprocess.DEVNULL)
    with (path / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    done = [row for row in rows if row["state"] == "done"]
    first = min(done, key=lambda row: int(row["rank"]))
    chosen = ", ".join(str(first[name]) for name in STUDY["ranges"])
    seconds = sum(float(row["seconds"]) for row in rows)
    return Ended(float(first["value"]), chosen, sum(int(row["update"]) for row in rows), seconds / 3600)


def main() -> None:
    """Run both kinds of sweep for each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help=f"folder in which {NAME}/ is made; default: runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    rows: list[list[object]] = []
    shares: list[float] = []
    equal = True
    for seed in options.seeds:
        grid, asha = (sweep(options.out / NAME, seed, pruner) for pruner in PRUNERS)
        shares.append(asha.updates / grid.updates)
        equal &= asha.best >= grid.best
        for name, ended in (("grid", grid), ("asha", asha)):
            share = f"{ended.updates / grid.updates:.3f}"
            rows.append([seed, name, f"{ended.best:.4f}", ended.settings, ended.updates, share, f"{ended.hours:.2f}"])
    print(machine("1 a run"))
    print(table(["seed", "sweep", "best dev/accuracy", "of", "updates", "of the grid's", "hours of runs"], rows))
    met = max(shares) <= BAR
    print(
        f"\nat most {BAR:.2f} of the grid's updates: {'yes' if met else 'no'}; best as good: {'yes' if equal else 'no'}"
    )


if __name__ == "__main__":
    main()
