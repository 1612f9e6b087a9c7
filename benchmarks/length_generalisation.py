"""Do positions that are sampled at random let a small transformer answer inputs longer than any that it was trained on?

Five tasks of Delétang et al. (2022, arXiv 2207.02098): trained on inputs of up to 20 symbols, measured on 21 to 50, the
share of right answer symbols at each length averaged over the lengths. The idea is that of Ruoss et al. (2023, arXiv
2305.16843); their models are larger, their inputs longer, and they train some hundred times as long, so these figures
are a reduced protocol of our own. Every run takes the same number of updates.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/length_generalisation.py [--tasks bucket_sort]

About 1.3 minutes a run of bucket_sort on one thread of its own, 90 runs in all; runs that are finished are not
repeated. Several processes: `--part 1/2` and `--part 2/2`, then once without --part for the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from experiments import Wanted, add_options, evaluation, measured, needs, over_seeds, require, train_all
from measure import machine, table

NAME = "length-generalisation"
TASKS = ("bucket_sort", "reverse_string", "duplicate_string", "missing_duplicate_string", "even_pairs")
SEEDS = (1, 2, 3)
UPDATES = 1500
NUMBERS = 2048
"""Positions are sampled from so many."""
SAMPLED = f"positions.size={NUMBERS}"
POSITIONS: dict[str, Sequence[str]] = {
    "sinusoidal": ("positions.kind=sinusoidal", SAMPLED),
    "sinusoidal-sampled": ("positions.kind=sinusoidal", "positions.sample=integer", SAMPLED),
    "random-table": ("positions.kind=random", SAMPLED),
    "rope": ("positions.kind=rope",),
    "rope-sampled": ("positions.kind=rope", "positions.sample=integer", SAMPLED),
    "alibi": ("positions.kind=alibi",),
}
LABELS = {
    "sinusoidal": "sinusoidal",
    "sinusoidal-sampled": "sinusoidal, sampled",
    "random-table": "random table, sampled",
    "rope": "rotary",
    "rope-sampled": "rotary, sampled",
    "alibi": "ALiBi",
}
SPREAD, EVEN = ("sinusoidal-sampled", "random-table", "rope-sampled"), "positions.evaluate=even"
"""Measured a second time, with positions where draws stand on average in place of a draw."""
PLAIN, RANDOM = "sinusoidal", ("sinusoidal-sampled", "random-table")
MOST, LEAST = 0.35, 0.9
"""On bucket_sort: what plain sinusoidal positions may reach, and what random ones must."""


@dataclass(frozen=True)
class Experiment:
    """Where runs are, and how long they train."""

    folder: Path
    updates: int

    def config(self) -> Mapping[str, Any]:
        """Return what all runs share."""
        return {
            "recipe": "compression",
            "data": {"source": "tasks"},
            "tasks": {"max_length": 20, "test_max_length": 50, "test_per_length": 64, "train": 64 * self.updates},
            "model": {"causal": False, "build": {"num_layers": 2, "width": 64, "num_heads": 4}},
            "update": {"batch_size": 64},
            "budget": {"updates": self.updates},
            "optimizer": {"learning_rate": 1e-3},
            "schedule": {"kind": "cos", "warmup": max(1, self.updates // 15)},
            "evaluate": {"every": None},
            "checkpoint": {"every": self.updates, "keep": 1},
            "log": {"every": 250},
        }

    def run(self, task: str, positions: str, seed: int) -> Wanted:
        """Return one run."""
        changes = [f"tasks.name={task}", *POSITIONS[positions], f"seed={seed}", f"tasks.seed={seed}"]
        return Wanted(self.folder / f"{task}-{positions}-{seed}", changes)


def report(experiment: Experiment, tasks: Sequence[str], positions: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the tables of long inputs, and of inputs as long as in training."""
    parts: list[str] = []
    splits = {"test": "inputs of 21 to 50 symbols", "dev": "of 1 to 20, as in training"}
    for split, said in splits.items():
        rows: list[list[str]] = []
        for kind in positions:
            runs = [[experiment.run(task, kind, seed) for seed in seeds] for task in tasks]
            found = [[_accuracy(run, split) for run in each] for each in runs]
            rows.append([LABELS[kind], *map(over_seeds, found)])
            if kind in SPREAD and split == "test":
                even = [[measured(run, split, EVEN).scalars["accuracy"] for run in each] for each in runs]
                rows.append([f"{LABELS[kind]}, evenly spread when measured", *map(over_seeds, even)])
        chance = [evaluation(experiment.run(task, positions[0], seeds[0]), split).scalars["chance"] for task in tasks]
        rows.append(["chance", *(f"{each:.3f}" for each in chance)])
        parts.append(f"Share of right answer symbols, {said}:\n\n{table(['positions', *tasks], rows)}")
    minutes = [experiment.run(task, kind, seed).minutes for task in tasks for kind in positions for seed in seeds]
    parts.append(
        f"{experiment.updates:,} updates of 64 examples, {len(seeds)} seeds (mean, 95 % t-interval); "
        f"{sum(minutes):.0f} minutes in all"
    )
    if "bucket_sort" in tasks and PLAIN in positions and set(RANDOM) & set(positions):
        parts.append(_verdict(experiment, [kind for kind in RANDOM if kind in positions], seeds))
    return "\n\n".join(parts)


def _verdict(experiment: Experiment, random: Sequence[str], seeds: Sequence[int]) -> str:
    means = {
        kind: sum(_accuracy(experiment.run("bucket_sort", kind, seed), "test") for seed in seeds) / len(seeds)
        for kind in (PLAIN, *random)
    }
    best = max(random, key=lambda kind: means[kind])
    reached = means[best] >= LEAST and means[PLAIN] <= MOST
    return (
        f"bar on bucket_sort, {LABELS[best]} at least {LEAST} and {LABELS[PLAIN]} at most {MOST}: {means[best]:.3f} "
        f"and {means[PLAIN]:.3f}, {'reached' if reached else 'MISSED'}"
    )


def _accuracy(run: Wanted, split: str) -> float:
    return evaluation(run, split).scalars["accuracy"]


def main() -> None:
    """Train what is not trained yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME, pilot=False)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--positions", nargs="+", choices=POSITIONS, default=list(POSITIONS))
    parser.add_argument("--updates", type=int, default=UPDATES, help=f"of each run; default: {UPDATES}")
    chosen = parser.parse_args()
    needs(transformers="quincunx[transformers]")
    folder = NAME if chosen.updates == UPDATES else f"{NAME}-{chosen.updates}"
    experiment, seeds = Experiment(chosen.out / folder, chosen.updates), chosen.seeds or SEEDS
    # seed by seed, so that what slows the machine down meets all kinds
    wanted = [experiment.run(task, kind, seed) for task in chosen.tasks for seed in seeds for kind in chosen.positions]
    train_all(experiment.config(), wanted, chosen.part)
    if chosen.part is None:
        require(wanted, "call this again without --part")
        where = machine(torch.get_num_threads())
        print(f"\n{where}\n\n{report(experiment, chosen.tasks, chosen.positions, seeds)}")


if __name__ == "__main__":
    main()
