"""Does a model that was trained on solutions with steps left out solve sums in fewer steps, and as well?

A small language model from nothing learns to add two numbers of up to two digits in writing, a digit at a time, one
token a character. Vanilla sees every step. Blotching leaves out whole steps: always the same, evenly spread, a share
that rises from none; or any, a share that differs from text to text and that a token before the text names. Token drop
leaves out single tokens in their place. All solve the same unseen problems token by token at temperature 0, the
blotching with named shares once for each, the last of which leaves nothing but the answer. Every run takes the same
number of updates.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/blotching_arithmetic.py

About six minutes a run on one thread of its own, 15 runs; runs that are finished are not repeated. Several processes:
`--part 1/2` and `--part 2/2`, then once without --part for the table.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Wanted, add_options, measured, needs, over_seeds, require, train_all
from measure import machine, table

NAME = "blotching-arithmetic"
SEEDS = (1, 2, 3)
UPDATES = 8000
PROBLEMS = 512
"""Of the test split, solved by every run."""
INTENSITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
TOKEN_SHARE, STEP_SHARE = 0.3, 0.6
DECAY = 0.5
"""Weight decay of one variant more: what is left out evenly is learnt by heart before it is computed."""
BASE, DROPS, BLOTCHES, EVENLY, DECAYED = "vanilla", "token-drop", "blotching", "evenly", "evenly-decayed"


def variants(updates: int) -> dict[str, Sequence[str]]:
    """Return what each variant sets in a run of so many updates."""
    evenly = (
        f"blotch.p={STEP_SHARE}",
        "blotch.spacing=equal",
        f"blotch.curriculum.updates={3 * updates // 8}",
        "blotch.form=excise",
    )
    return {
        BASE: (),
        DROPS: (f"blotch.token_p={TOKEN_SHARE}", "blotch.form=excise"),
        BLOTCHES: (
            f"blotch.p_max={INTENSITIES[-1]}",
            f"blotch.levels={len(INTENSITIES)}",
            "blotch.intensity_tokens=true",
            "blotch.form=excise",
        ),
        EVENLY: evenly,
        DECAYED: (*evenly, f"optimizer.weight_decay={DECAY}"),
    }


LABELS = {
    BASE: "vanilla",
    DROPS: f"token drop, {100 * TOKEN_SHARE:.0f} %",
    BLOTCHES: "blotching, asked to leave out",
    EVENLY: f"blotching, evenly, {100 * STEP_SHARE:.0f} %",
    DECAYED: f"the same, weight decay {DECAY:g}",
}
LEARNT = 0.8
"""What vanilla is to solve, so that there is an accuracy to lose."""
SHORTER = 0.5
"""Of vanilla's length, which a solution is to have at most with no less accuracy."""


@dataclass(frozen=True)
class Experiment:
    """Where runs are, and how long they train."""

    folder: Path
    updates: int

    def config(self) -> Mapping[str, Any]:
        """Return what all runs share."""
        return {
            "recipe": "compression",
            "data": {"source": "arithmetic"},
            "arithmetic": {"max_num": 99, "max_entities": 2, "train": 8_000, "dev": 256, "test": PROBLEMS, "ood": 0},
            "model": {"build": {"num_layers": 3, "width": 128, "num_heads": 4}},
            "update": {"batch_size": 16, "clip_norm": 1.0},
            "budget": {"updates": self.updates},
            "optimizer": {"learning_rate": 2e-3, "betas": [0.9, 0.98]},
            "schedule": {"kind": "cos", "warmup": max(1, self.updates // 25)},
            "evaluate": {"every": None, "generate": 128},
            "checkpoint": {"every": 250, "keep": 1},
            "log": {"every": 250},
        }

    def run(self, name: str, seed: int) -> Wanted:
        """Return a variant's run."""
        return Wanted(self.folder / f"{name}-{seed}", [*variants(self.updates)[name], f"seed={seed}"])


@dataclass(frozen=True)
class Row:
    """What one variant, at one intensity, came to in each seed."""

    label: str
    found: Sequence[Mapping[str, float]]

    def of(self, name: str) -> list[float]:
        """Return a scalar of each seed."""
        return [one[name] for one in self.found]

    def mean(self, name: str) -> float:
        """Return its mean."""
        return float(np.mean(self.of(name)))


def rows_of(experiment: Experiment, seeds: Sequence[int]) -> list[Row]:
    """Return what every variant came to, solving problems where that was not done yet."""
    rows: list[Row] = []
    for name, label in LABELS.items():
        asked = [f"evaluate.generate={PROBLEMS}"]
        for share in INTENSITIES if name == BLOTCHES else (None,):
            changes = asked if share is None else [*asked, f"evaluate.blotch_p={share}"]
            found = [measured(experiment.run(name, seed), "test", *changes).scalars for seed in seeds]
            rows.append(Row(label if share is None else f"{label} {100 * share:.0f} %", found))
    return rows


def report(rows: Sequence[Row]) -> str:
    """Return the table, and whether solutions are halved."""
    base = rows[0]
    lines: list[list[str]] = []
    halved: list[str] = []
    for row in rows:
        apart = [a - b for a, b in zip(row.of("answer_accuracy"), base.of("answer_accuracy"), strict=True)]
        length = row.mean("solution_tokens") / base.mean("solution_tokens")
        lines.append(
            [
                row.label,
                over_seeds(row.of("answer_accuracy")),
                "" if row is base else over_seeds(apart),
                f"{row.mean('soundness'):.3f}",
                f"{row.mean('solution_tokens'):.1f}",
                f"{row.mean('solution_steps'):.1f}",
                f"{length:.2f}",
            ]
        )
        if row is not base and length <= SHORTER and float(np.mean(apart)) + _error(row, base) >= 0:
            halved.append(row.label)
    head = [
        "",
        "right answers",
        "less vanilla's, by seed",
        "every step right",
        "tokens",
        "steps",
        "of vanilla's length",
    ]
    said = f"reached by {'; '.join(halved)}" if halved else "MISSED"
    if base.mean("answer_accuracy") < LEARNT:
        said = "vanilla solves too few problems to tell: train longer"
    return f"{table(head, lines)}\n\nbar, at most {SHORTER} of the length at no loss beyond chance: {said}"


def _error(row: Row, base: Row) -> float:
    """Return half the 95 % interval of the difference of two shares of right answers, over problems and seeds."""
    shares = [each.mean("answer_accuracy") for each in (row, base)]
    return 1.96 * math.sqrt(sum(share * (1 - share) for share in shares) / (PROBLEMS * len(row.found)))


def main() -> None:
    """Train what is not trained yet, solve what is not solved yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME, pilot=False)
    parser.add_argument("--updates", type=int, default=UPDATES, help=f"of each run; default: {UPDATES}")
    chosen = parser.parse_args()
    needs(transformers="quincunx[transformers]")
    folder = NAME if chosen.updates == UPDATES else f"{NAME}-{chosen.updates}"
    experiment, seeds = Experiment(chosen.out / folder, chosen.updates), chosen.seeds or SEEDS
    # seed by seed, so that what slows the machine down meets all variants
    wanted = [experiment.run(name, seed) for seed in seeds for name in LABELS]
    train_all(experiment.config(), wanted, chosen.part)
    if chosen.part is None:
        require(wanted, "call this again without --part")
        minutes = sum(run.minutes for run in wanted)
        print(f"\n{machine(torch.get_num_threads())}; {chosen.updates:,} updates of 16 problems; {minutes:.0f} minutes")
        print(f"{PROBLEMS} problems; mean and 95 % t-interval over {len(seeds)} seeds")
        print(f"\n{report(rows_of(experiment, seeds))}")


if __name__ == "__main__":
    main()
