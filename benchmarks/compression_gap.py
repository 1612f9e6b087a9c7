"""How much of what a context is worth is left when it is compressed? A small model from nothing, on the Python docs.

The documentation of the running Python, 1,024 words made of bytes, two layers of 128. The next 16 tokens are predicted
without the 64 before them, with these compressed, and with all of them, by the same weights, all three trained; the
share of the gap that is recovered is reported over the first 8 positions, where a context is felt, with the bootstrap's
interval over held-out documents. First 4 tokens into one, then ratios of 2 to 32 in one model for each read-out.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/compression_gap.py

About 7 minutes a run on one thread of its own, 12 runs; runs that are finished are not repeated. Several processes:
`--part 1/2` and `--part 2/2`, then once without --part for the tables. All take the same number of updates. With
`--controls 0.5` the yardsticks are trained half as much as what is measured by them, and lag.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Wanted, add_options, evaluation, needs, over_seeds, require, train_all
from measure import machine, table

NAME = "compression-gap"
SEEDS = (1, 2, 3)
UPDATES = 1200
CONTROLS = 1.0
"""Weight of each control in the loss, where the compressed text has 1."""
CONTEXT, TEXT, FIRST = 64, 16, 8
RATIO, RATIOS = 4, (2, 4, 8, 16, 32)
READOUTS = ("kv", "tokens", "mean_pool")
BAR = 0.5
"""What the lower end of each seed's interval is to reach, over the first positions, with keys and values."""
BY_POSITION, BY_SLOTS = 0, -1
"""Places of an evaluation's tables."""


@dataclass(frozen=True)
class Experiment:
    """Where runs are, and how long they train."""

    folder: Path
    updates: int
    controls: float

    def config(self) -> Mapping[str, Any]:
        """Return what all runs share."""
        return {
            "recipe": "compression",
            "data": {"source": "stdlib-text", "context_length": CONTEXT, "forward_length": TEXT, "min_forward": FIRST,
                     "dev_share": 0.02},
            "tokenizer": {"kind": "bpe", "vocabulary": 1024},
            "model": {"build": {"num_layers": 2, "width": 128, "num_heads": 4}},
            "objective": {"forward": 1, "without": self.controls, "full": self.controls},
            "update": {"batch_size": 32},
            "budget": {"updates": self.updates},
            "optimizer": {"learning_rate": 2e-3},
            "schedule": {"kind": "cos", "warmup": max(1, self.updates // 20)},
            "evaluate": {"every": None, "first": FIRST},
            "checkpoint": {"every": 200, "keep": 1},
            "log": {"every": 200},
        }  # fmt: skip

    def one(self, seed: int) -> Wanted:
        """Return a run at one ratio, keys and values kept."""
        return Wanted(self.folder / f"one-{seed}", [f"compress.slots={CONTEXT // RATIO}", f"seed={seed}"])

    def several(self, readout: str, seed: int) -> Wanted:
        """Return a run at all ratios."""
        slots = ",".join(str(CONTEXT // ratio) for ratio in RATIOS)
        changes = [f"compress.slots=[{slots}]", f"compress.readout={readout}", f"seed={seed}"]
        return Wanted(self.folder / f"several-{readout}-{seed}", changes)


def headline(runs: Sequence[Wanted], seeds: Sequence[int]) -> str:
    """Return the tables of the runs at one ratio, and whether the bar is reached."""
    found = [evaluation(run, "test") for run in runs]
    rows: list[list[str]] = []
    for seed, one in zip(seeds, found, strict=True):
        values = one.scalars
        near = [100 * values[f"gap_recovered_first{end}"] for end in ("", "_low", "_high")]
        rows.append(
            [
                str(seed),
                *(f"{values[name]:.3f}" for name in ("loss_without", "loss", "loss_full")),
                f"{100 * values['gap_recovered']:.0f} %",
                f"{near[0]:.0f} % [{near[1]:.0f}, {near[2]:.0f}]",
            ]
        )
    means = over_seeds([100 * one.scalars["gap_recovered_first"] for one in found], 0)
    head = ["seed", "loss without", "compressed", "full", "gap recovered", f"over the first {FIRST}, by documents"]
    lows = [one.scalars["gap_recovered_first_low"] for one in found]
    reached = "reached" if min(lows) >= BAR else "MISSED"
    return (
        f"{RATIO} to one, keys and values of {CONTEXT // RATIO} slots:\n\n{table(head, rows)}\n\n"
        f"over seeds {means} %; bar, every lower end at least {100 * BAR:.0f} %: {reached}\n\n{positions(found)}"
    )


def positions(found: Sequence[Any]) -> str:
    """Return the losses by predicted position, averaged over seeds."""
    tables = [one.tables[BY_POSITION].rows for one in found]
    rows: list[list[str]] = []
    for same in zip(*tables, strict=True):
        low, compressed, high = (float(np.mean([row[column] for row in same])) for column in (1, 2, 3))
        gap = f"{100 * (low - compressed) / (low - high):.0f} %" if low - high > 0.02 else "-"
        rows.append([same[0][0], f"{low:.3f}", f"{compressed:.3f}", f"{high:.3f}", f"{low - high:.3f}", gap])
    head = ["position", "loss without", "compressed", "full", "gap", "recovered"]
    return f"By position, means over seeds (no share of gaps below 0.02 nats):\n\n{table(head, rows)}"


def ratios(experiment: Experiment, readouts: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the table over ratios and read-outs."""
    rows: list[list[str]] = []
    for readout in readouts:
        found = [evaluation(experiment.several(readout, seed), "test").tables[BY_SLOTS] for seed in seeds]
        column = found[0].columns.index(f"first {FIRST}, %")
        by_slots = [{row[0]: row for row in one.rows} for one in found]
        cells: list[str] = []
        for ratio in RATIOS:
            shares = [rows_of[CONTEXT // ratio][column] for rows_of in by_slots]
            cells.append("-" if "-" in shares else over_seeds([float(share) for share in shares], 0))
        told = [rows_of[CONTEXT // RATIO][found[0].columns.index("bytes kept")] for rows_of in by_slots]
        rows.append([readout, *cells, f"{told[0]:,}"])
    head = ["kept", *(f"{ratio} to one" for ratio in RATIOS), f"bytes at {RATIO}"]
    return (
        f"Gap recovered over the first {FIRST} positions, %, ratios in one model (mean and 95 % t-interval over seeds):"
        f"\n\n{table(head, rows)}"
    )


def main() -> None:
    """Train what is not trained yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME, pilot=False)
    parser.add_argument("--readouts", nargs="*", choices=READOUTS, default=list(READOUTS), help="of the second table")
    parser.add_argument("--updates", type=int, default=UPDATES, help=f"of each run; default: {UPDATES}")
    parser.add_argument(
        "--controls", type=float, default=CONTROLS, help=f"weight of each control in the loss; default: {CONTROLS}"
    )
    chosen = parser.parse_args()
    needs(transformers="quincunx[transformers]")
    folder = NAME if chosen.updates == UPDATES else f"{NAME}-{chosen.updates}"
    folder += "" if chosen.controls == CONTROLS else f"-controls-{chosen.controls:g}"
    experiment = Experiment(chosen.out / folder, chosen.updates, chosen.controls)
    seeds = chosen.seeds or SEEDS
    single = [experiment.one(seed) for seed in seeds]
    wanted = [*single, *(experiment.several(readout, seed) for seed in seeds for readout in chosen.readouts)]
    train_all(experiment.config(), wanted, chosen.part)
    if chosen.part is None:
        require(wanted, "call this again without --part")
        minutes = sum(run.minutes for run in wanted)
        print(f"\n{machine(torch.get_num_threads())}; {chosen.updates:,} updates of 32 examples; {minutes:.0f} minutes")
        print(f"\n{headline(single, seeds)}")
        if chosen.readouts:
            print(f"\n{ratios(experiment, chosen.readouts, seeds)}")


if __name__ == "__main__":
    main()
