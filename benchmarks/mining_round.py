"""One round of hard-negative mining on SciFact: all-MiniLM-L6-v2 fine-tuned with and without what it mined.

For each seed three steps: train without explicit negatives (the runs of retrieval_finetune.py, which are taken over
where they are there), mine with what that gave, and train again from the pretrained weights, as many updates of as
many claims, each claim now with one of its mined negatives besides. Both read the same claims; those kept for the
pilot nobody trains on. Mining: ranks 1 to 100, no negative above 95 % of the positive's score, the 5 hardest of the
rest (TopK-PercPos with the share that arXiv:2407.15831 found best), fixed before any test claim was looked at. The
learning rate is that of retrieval_finetune.py's pilot. `--precision bf16` trains all of them in that precision.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/mining_round.py [--out runs] [--data FOLDER]

FOLDER is SciFact as a BEIR folder; unset, scifact below QUINCUNX_DATA. Steps that are finished are not repeated, runs
that were cut off go on. Several processes: first `--pilot --part 1/2` and `--pilot --part 2/2`, then the same without
--pilot, then once without --part for the table. `--small` tries it all on a corner of the data.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Wanted, add_options, evaluation, less, needs, of_part, over_seeds, require, train_all
from measure import machine, table
from retrieval_finetune import BFLOAT, MEASURE, MODULE, OURS, PACKAGE, Experiment, small_corner
from retrieval_finetune import NAME as FINETUNE

from quincunx.index.mined import Rules
from quincunx.metrics.intervals import student_interval
from quincunx.recipes.retrieval.mine import mine
from quincunx.recipes.retrieval.mine_kept import REPORT, TRAIN
from quincunx.report.mined import page
from quincunx.runs import read_json

NAME = "mining-round"
SEEDS = (1, 2, 3, 4, 5)
RULES = Rules(ranks=(1, 100), num=5, relative_margin=0.05)


@dataclass(frozen=True)
class Round:
    """The runs and mined files of one learning rate."""

    experiment: Experiment
    folder: Path
    rate: float
    updates: int
    who: str = OURS
    """Whose runs: ours in float32, or in bf16."""

    def without(self, seed: int) -> Wanted:
        """Return the run without explicit negatives."""
        return self.experiment.run(self.who, self.rate, seed, self.updates)

    def mined(self, seed: int) -> Path:
        """Return the folder of what that run mined."""
        return self.folder / "mined" / f"{self.who}-{self.rate:g}-{seed}"

    def with_them(self, seed: int) -> Wanted:
        """Return the run with explicit negatives."""
        changes = [
            *self.without(seed).changes,
            f"data.train.path={self.mined(seed) / TRAIN}",
            # that file has no claims of the pilot, and no more are to be taken out of it: this takes their place, and
            # nobody looks at what is measured on it
            f"data.dev.path={self.experiment.data}",
            "data.dev.split=train",
            "data.negatives=1",
        ]
        return Wanted(self.folder / "runs" / f"{self.who}-mined-{self.rate:g}-{seed}", changes)

    def all(self, seeds: Sequence[int]) -> list[Wanted]:
        """Return all runs of some seeds."""
        return [run for seed in seeds for run in (self.without(seed), self.with_them(seed))]

    def missing(self, seed: int) -> list[str]:
        """Return the steps of one seed that are not done."""
        done = {
            "without": self.without(seed).finished,
            "mine": (self.mined(seed) / REPORT).is_file(),
            "with": self.with_them(seed).finished,
        }
        return [step for step, there in done.items() if not there]

    def do(self, step: str, seed: int) -> None:
        """Do one step of one seed."""
        if step == "mine":
            claims = self.experiment.collections().train[0]
            mine(claims, self.mined(seed), run=self.without(seed).path, rules=RULES, page=page)
        else:
            run = self.without(seed) if step == "without" else self.with_them(seed)
            train_all(self.experiment.config(), [run])

    def report(self, seeds: Sequence[int]) -> str:
        """Return the tables."""
        arms = {"without": self.without, "with mined negatives": self.with_them}
        found = {
            name: [dict(evaluation(run(seed), "test").values[MEASURE]) for seed in seeds] for name, run in arms.items()
        }
        means = {name: [float(np.mean([*one.values()])) for one in values] for name, values in found.items()}
        rows: list[list[object]] = []
        for name, run in arms.items():
            each = ", ".join(f"{mean:.4f}" for mean in means[name])
            minutes = np.median([run(seed).minutes for seed in seeds])
            rows.append([name, each, over_seeds(means[name], 4), f"{minutes:.1f}"])
        with_them, without = found["with mined negatives"], found["without"]
        gaps = [a - b for a, b in zip(means["with mined negatives"], means["without"], strict=True)]
        lines = ["", f"With less without: {' p '.join(less(with_them, without, 4))} over claims (seeds averaged first)"]
        if len(gaps) > 1:
            over = student_interval(gaps)
            lines.append(f"and {over.value:+.4f} [{over.low:+.4f}, {over.high:+.4f}] over seeds (paired).")
        head = ["", "each seed", f"test nDCG@10, {len(seeds)} seeds", "minutes, evaluation included"]
        mined = [[seed, *mined_of(read_json(self.mined(seed) / REPORT))] for seed in seeds]
        columns = ["seed", "negatives", "claims with fewer than 5", "dropped: relevant", "too near", "median margin"]
        said = f"{len(without[0])} test claims; {self.updates} updates, rate {self.rate:g}, {self.who}"
        return "\n".join([said, "", table(head, rows), *lines, "", table(columns, mined)])


def mined_of(report: Mapping[str, Any]) -> list[str]:
    """Return a row of what was mined."""
    queries, dropped = report["queries"], report["candidates"]["dropped"]
    counts = (report["negatives"], queries["fewer"] + queries["none"], dropped["known"], dropped["relative_margin"])
    return [*(f"{count:,}" for count in counts), f"{report['margins']['negatives'].get('median', float('nan')):.3f}"]


def alone(*job: object) -> None:
    """Do one job in a process of its own, which gives its memory back; SystemExit where it stops."""
    code = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--job", *map(str, job)], check=False).returncode
    if code:
        raise SystemExit(code)


def main() -> None:
    """Make what is not there yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME)
    parser.add_argument("--data", type=Path, help="SciFact as a BEIR folder")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--small", action="store_true", help="a corner of the data, to see that it works")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    needs(**{MODULE: PACKAGE})
    data = chosen.data or Path(os.environ.get("QUINCUNX_DATA", ".")) / "scifact"
    if not (data / "corpus.jsonl").is_file():
        raise SystemExit(f"no {data / 'corpus.jsonl'}: give the folder with --data, or its parent in QUINCUNX_DATA")
    small = "-small" if chosen.small else ""
    base = chosen.out / f"{FINETUNE}{small}"
    experiment = Experiment(small_corner(data, base) if chosen.small else data, base, chosen.small, emulated=False)
    updates, seeds = experiment.updates(), chosen.seeds or SEEDS
    pilots = experiment.pilots(updates)
    if chosen.job and chosen.job[0] == "pilot":
        train_all(experiment.config(), [pilots[float(chosen.job[1])]])
        return
    if not chosen.job and (chosen.pilot or chosen.part is None):
        for rate, run in of_part([*pilots.items()], chosen.part):
            if not run.finished:
                alone("pilot", rate)
    if chosen.pilot and not chosen.job:
        return
    require([*pilots.values()], "call this with --pilot first")
    who = BFLOAT if chosen.precision == "bf16" else OURS
    one = Round(experiment, chosen.out / f"{NAME}{small}", experiment.best_rate(updates), updates, who)
    if chosen.job:
        one.do(chosen.job[0], int(chosen.job[1]))
        return
    for seed in of_part(seeds, chosen.part):
        for step in one.missing(seed):
            alone(step, seed)
    if chosen.part is None:
        require(one.all(seeds), "call this again")
        print(f"\n{machine(torch.get_num_threads())}\n\n{one.report(seeds)}")


if __name__ == "__main__":
    main()
