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
UPDATES, FIRST, EARLIER, FACTOR = 540, 60, 20, 3
TRIALS = 30
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
    "asha-earlier": {"pruner": "asha", "pruning": {"first": EARLIER, "factor": FACTOR}},
    "asha-in-step": {"pruner": "asha", "pruning": {"first": FIRST, "factor": FACTOR, "gather": TRIALS}},
}


@dataclass(frozen=True)
class Ended:
    """What a sweep came to."""

    best: float
    settings: str
    updates: int
    hours: float
    whole: int
    """Trials that were trained to the end."""


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
    updates = sum(int(row["update"]) for row in rows)
    return Ended(float(first["value"]), chosen, updates, seconds / 3600, len(done))


def main() -> None:
    """Run both kinds of sweep for each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help=f"folder in which {NAME}/ is made; default: runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    rows: list[list[object]] = []
    shares: dict[str, list[float]] = {}
    equal: dict[str, bool] = {}
    for seed in options.seeds:
        ended = {name: sweep(options.out / NAME, seed, name) for name in PRUNERS}
        grid = ended["grid"]
        for name, one in ended.items():
            share = one.updates / grid.updates
            shares.setdefault(name, []).append(share)
            equal[name] = equal.get(name, True) and one.best >= grid.best
            rows.append([seed, name, f"{one.best:.4f}", one.settings, one.updates, f"{share:.3f}", one.whole])
    print(machine("1 a run"))
    head = ["seed", "sweep", "best dev/accuracy", "of", "updates", "of the grid's", "trained to the end"]
    print(table(head, rows) + "\n")
    for name, found in shares.items():
        if name != "grid":
            met = "yes" if max(found) <= BAR else "no"
            good = "yes" if equal[name] else "no"
            print(f"{name}: at most {BAR:.2f} of the grid's updates: {met}; best as good: {good}")


if __name__ == "__main__":
    main()
