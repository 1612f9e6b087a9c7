"""Parameter-efficient methods beside training everything: a small model that knows some tasks of a world learns others.

For each seed an encoder-decoder is trained whole on chains of steps, expressions and captions of a rendered world,
then frozen, and every method adapts it to other tasks on other pictures, questions with ten noisy annotators and
classes of what is largest, all with about as many trained parameters, a twentieth of the model's at most. The
learning rate of each is chosen on the development split, with a seed of its own. Then the time of an update of each,
in turn in one process, and what it holds: tensors that autograd keeps, gradients, the optimizer's states.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/vision_language_methods.py [--out runs] [--methods ...]

Runs that are finished are not repeated, runs that were cut off go on. Several processes: `--part 1/2` and `--part 2/2`
with --before, then with --pilot, then with neither, then once without --part for the tables. `--small` tries it all on
few pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Wanted, add_options, evaluation, needs, over_seeds, require, train_all
from measure import alternate, machine, ratios, spread, table
from vision_language_steps import Trained

from quincunx.metrics.intervals import student_interval
from quincunx.recipes.vision_language.data.world.generate import generate
from quincunx.recipes.vision_language.measured import MEASURES

NAME = "vision-language-methods"
TASKS = {"before": ("gqa", "refcoco", "caption"), "after": ("vqa", "cls")}
COUNTS = {"before": {"train": 10_000, "dev": 200, "test": 200}, "after": {"train": 3000, "dev": 400, "test": 1000}}
FEW = {"train": 80, "dev": 16, "test": 16}
"""Pictures of each world; of both where it is only to be seen that all works."""
EPOCHS = {"before": 8, "after": 6}
MAIN = [*(f"{task}/{MEASURES[task][0]}" for task in TASKS["after"]), "score"]
"""What an evaluation is compared by: each task's main measure, and their mean."""
SEEDS, PILOT_SEED = (1, 2, 3), 101
WIDTH = 128
BAR, SHARE = 0.01, 0.05
"""How much less than everything trained a single bottleneck may reach, with which share of the parameters."""

FROZEN = ("unfreeze.language_model=false",)
ADAPTER = ("adapt.bottleneck=true", "adapt.reduction_factor=8.5", "unfreeze.layer_norms=true")


def by_peft(method: str, train: Sequence[str] = ("norms",), **options: Any) -> tuple[str, ...]:
    """Return the settings of a method that the guide's switches have no word for."""
    trained = [f"peft.train={json.dumps([*train])}"] if train else []
    return (f"peft.method={method}", f"peft.options={json.dumps(options)}", *trained)


@dataclass(frozen=True)
class Method:
    """One way to adapt a model."""

    label: str
    changes: Sequence[str]
    rates: Sequence[float] = (3e-3, 1e-2)


LOWER = (1e-3, 3e-3, 1e-2)
"""Rates of methods that the highest makes diverge."""
WHOLE, SINGLE, ENCODER_ONLY = "whole", "bottleneck", "bottleneck-encoder"
METHODS: dict[str, Method] = {
    WHOLE: Method("everything", (), (3e-4, 1e-3, 3e-3)),
    "connector": Method("what embeds pictures, alone", FROZEN),
    "norms": Method("layer norms", (*FROZEN, "unfreeze.layer_norms=true")),
    SINGLE: Method("bottleneck, one for all tasks", (*ADAPTER, "adapt.single=true")),
    "bottleneck-tasks": Method(
        "bottleneck, one a task", ("adapt.bottleneck=true", "adapt.reduction_factor=17", "unfreeze.layer_norms=true")
    ),
    "bottleneck-half": Method(
        "bottleneck, the way down shared",
        ("adapt.bottleneck=true", "adapt.reduction_factor=12", "adapt.share_down=true", "unfreeze.layer_norms=true"),
    ),
    ENCODER_ONLY: Method(
        "bottleneck, in the encoder only", by_peft("bottleneck", reduction_factor=3.3, leave_out=["*decoder*"])
    ),
    "gate-large": Method(
        "the same, gated (`large`)", by_peft("bottleneck", reduction_factor=6.8, gate="large", leave_out=["*decoder*"])
    ),
    "gate-small": Method(
        "the same, gated (`small`)", by_peft("bottleneck", reduction_factor=3.3, gate="small", leave_out=["*decoder*"])
    ),
    "compacter": Method(
        "Compacter, one for all",
        (
            "adapt.compacter=true",
            "adapt.single=true",
            "adapt.reduction_factor=4.2",
            "adapt.division=2",
            "adapt.factorized=false",
            "unfreeze.layer_norms=true",
        ),
    ),
    "hyperformer": Method(
        "hyperformer",
        by_peft(
            "hyperformer",
            tasks=[*TASKS["after"]],
            reduction_factor=8.5,
            task_embedding_dim=16,
            hidden_dim=16,
            projected_task_embedding_dim=2,
        ),
    ),
    "lora": Method("LoRA, one for all", ("adapt.lora=true", "adapt.single_lora=true", "adapt.lora_rank=14"), LOWER),
    "lora-tasks": Method("LoRA, one a task", ("adapt.lora=true", "adapt.lora_rank=7"), LOWER),
    "prefix": Method("gated prefix", by_peft("prefix", prefix_len=36)),
    "prompts": Method(
        "prompts", ("adapt.encoder_prompts=20", "adapt.single_prompt=true", "adapt.prompt_width=230",
                    "unfreeze.layer_norms=true")
    ),
    "ladder": Method("ladder beside both stacks", by_peft("ladder", train=())),
}  # fmt: skip
"""About as many trained parameters as the single bottleneck's each, where a method can have so many."""


@dataclass(frozen=True)
class Experiment:
    """What is run, on what, and where."""

    folder: Path
    small: bool

    def worlds(self) -> None:
        """Render both worlds, the second with pictures of its own."""
        for seed, (stage, counts) in enumerate(COUNTS.items()):
            generate(
                self.folder / f"world-{stage}", counts=FEW if self.small else counts, tasks=TASKS[stage], seed=seed
            )

    def config(self, stage: str) -> dict[str, Any]:
        """Return what all runs of a stage share."""
        data = {"path": str(self.folder / f"world-{stage}"), "train": "train", "dev": "dev", "test": "test"}
        return {
            "recipe": "vision_language",
            "data": {**data, "tasks": [*TASKS[stage]]},
            "text": {"task_prompts": True},
            "model": {
                "build": {"width": WIDTH, "num_layers": 3, "num_heads": 4, "vocab_size": 400},
                "tokenizer": None,
                "dropout": 0.0,
            },
            "pictures": {"features": "butd", "boxes": 6},
            "mixing": {"mixed": True},
            "update": {"batch_size": 64, "clip_norm": 1.0},
            "budget": {"epochs": 1 if self.small else EPOCHS[stage]},
            "schedule": {"kind": "linear"},
            "evaluate": {"every": None},
            "checkpoint": {"every": "epoch", "keep": 1},
            "log": {"every": 100},
        }

    def before(self, seed: int) -> Wanted:
        """Return the run that learns the first tasks."""
        return Wanted(self.folder / "before" / str(seed), [f"seed={seed}", "optimizer.learning_rate=1e-3"])

    def run(self, name: str, rate: float, seed: int, *, pilot: bool = False) -> Wanted:
        """Return a method's run; pilots begin at the first seed's model."""
        model = self.before(SEEDS[0] if pilot else seed).path
        changes = [
            *METHODS[name].changes,
            f"seed={seed}",
            f"optimizer.learning_rate={rate}",
            f"init_from={model}",
            "init_partial=true",
            f"model.tokenizer={model / 'language'}",
        ]
        return Wanted(self.folder / ("pilot" if pilot else "runs") / f"{name}-{rate:g}-{seed}", changes)

    def pilots(self, names: Sequence[str]) -> list[Wanted]:
        """Return the runs by which learning rates are chosen."""
        return [self.run(name, rate, PILOT_SEED, pilot=True) for name in names for rate in METHODS[name].rates]

    def rate(self, name: str) -> float:
        """Return a method's best learning rate on the development split."""
        runs = {rate: self.run(name, rate, PILOT_SEED, pilot=True) for rate in METHODS[name].rates}
        return max(runs, key=lambda rate: evaluation(runs[rate], "dev").scalars["score"])

    def chosen(self, name: str, seeds: Sequence[int]) -> list[Wanted]:
        """Return a method's runs at that rate."""
        rate = self.rate(name)
        return [self.run(name, rate, seed) for seed in seeds]


def accuracies(experiment: Experiment, names: Sequence[str], seeds: Sequence[int]) -> tuple[str, list[float]]:
    """Return the table of test accuracies, and what a single bottleneck falls short by, seed by seed."""
    found = {name: [evaluation(run, "test").scalars for run in experiment.chosen(name, seeds)] for name in names}
    scores = {name: [one["score"] for one in each] for name, each in found.items()}
    rows: list[list[object]] = []
    for name in names:
        apart = [100 * (a - b) for a, b in zip(scores[name], scores[WHOLE], strict=True)]
        columns = [over_seeds([100 * one[key] for one in found[name]], 1) for key in MAIN]
        less = "" if name == WHOLE else over_seeds(apart, 1)
        rows.append([METHODS[name].label, f"{experiment.rate(name):g}", *columns, less])
    head = ["trained", "rate", *MAIN, "less everything"]
    short = [b - a for a, b in zip(scores.get(SINGLE, []), scores[WHOLE], strict=False)]
    return table(head, rows), short


def costs(experiment: Experiment, names: Sequence[str], rounds: int) -> tuple[str, dict[str, float]]:
    """Return the table of times and bytes, and each method's share of trained parameters."""
    contestants = {
        name: Trained(experiment.config("after"), experiment.run(name, METHODS[name].rates[0], SEEDS[0]).changes)
        for name in names
    }
    found = alternate({name: partial(each.update) for name, each in contestants.items()}, rounds, warmup=2)
    rows: list[list[object]] = []
    shares: dict[str, float] = {}
    for name, each in contestants.items():
        trained, all_of_them = each.parameters
        shares[name] = trained / all_of_them
        kept, gradients, states = (count / 2**20 for count in each.held())
        rows.append(
            [
                METHODS[name].label,
                f"{trained:,}",
                f"{100 * shares[name]:.2f} %",
                f"{spread([1000 * value for value in found[name]]):.0f}",
                "" if name == WHOLE else f"{ratios(found[name], found[WHOLE]):.2f}",
                f"{kept + gradients + states:.1f}",
                f"{kept:.1f} + {gradients:.1f} + {states:.1f}",
            ]
        )
        each.runtime.close()
    head = ["trained", "parameters", "share", "ms an update", "of everything's", "MiB", "graph, gradients, states"]
    return table(head, rows), shares


def main() -> None:
    """Train what is not trained yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME)
    parser.add_argument("--before", action="store_true", help="only the runs that learn the first tasks")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=9, help="of the measurement of time; 0 leaves it out")
    parser.add_argument("--small", action="store_true", help="few pictures, to see that it works")
    chosen = parser.parse_args()
    needs(transformers="quincunx[transformers]", pyarrow="pyarrow")
    experiment = Experiment(chosen.out / (f"{NAME}-small" if chosen.small else NAME), chosen.small)
    experiment.worlds()
    names, seeds = list(dict.fromkeys([WHOLE, *chosen.methods])), chosen.seeds or SEEDS
    before = [experiment.before(seed) for seed in dict.fromkeys([SEEDS[0], *seeds])]
    pilots = experiment.pilots(names)
    if chosen.before or chosen.part is None:
        train_all(experiment.config("before"), before, chosen.part)
    if chosen.before:
        return
    require(before, "call this with --before first")
    if chosen.pilot or chosen.part is None:
        train_all(experiment.config("after"), pilots, chosen.part)
    if chosen.pilot:
        return
    require(pilots, "call this with --pilot first")
    # seed by seed, so that what slows the machine down meets all methods
    wanted = [experiment.chosen(name, [seed])[0] for seed in seeds for name in names]
    train_all(experiment.config("after"), wanted, chosen.part)
    if chosen.part is not None:
        return
    print(f"\n{machine(torch.get_num_threads())}; {len(seeds)} seeds\n")
    text, short = accuracies(experiment, names, seeds)
    print(text)
    if not chosen.rounds:
        return
    text, shares = costs(experiment, names, chosen.rounds)
    print(f"\n{text}")
    if short:
        mean = float(np.mean(short))
        reached = "reached" if mean <= BAR and shares[SINGLE] <= SHARE else "MISSED"
        interval = student_interval(short) if len(short) > 1 else None
        said = f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else ""
        print(
            f"\nA single bottleneck with {100 * shares[SINGLE]:.2f} % of the parameters is {100 * mean:.1f}{said} "
            f"points short of everything; bar, {100 * BAR:.0f} point at most with {100 * SHARE:.0f} %: {reached}"
        )


if __name__ == "__main__":
    main()
