"""ListOps of 20 to 100 tokens: what softmax attention learns in minutes on a CPU, beside no attention and the oracles.

Trains the example config once per seed and kind, on the same data; runs that are finished already are not repeated, and
one that was cut off goes on.

    OMP_NUM_THREADS=2 python benchmarks/listops_short.py
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
from measure import machine, table
from rich.console import Console

from quincunx import Run, train
from quincunx.console import ConsoleCallback
from quincunx.metrics.intervals import student_interval

BAR = 10.0
"""Points above the root-operator oracle that softmax must reach."""


def runs(config: Path, out: Path, kind: str, seeds: list[int]) -> Iterator[Run]:
    """Yield the run of each seed, trained to its end."""
    for seed in seeds:
        folder = out / f"{kind}-{seed}"
        done = (folder / "summary.json").is_file() and Run(folder).summary["state"] == "finished"
        if not done:
            print(f"{folder}:", flush=True)
            changes = (f"seed={seed}", f"attention.kind={kind}", f"run.dir={folder}")
            begun = (folder / "config.yaml").is_file()
            train(config, *changes, resume=begun, callbacks=[ConsoleCallback(Console())])
        yield Run(folder)


def last(run: Run, name: str) -> float:
    """Return the last value of a metric."""
    return [line["value"] for line in run.metrics() if f"{line['split']}/{line['name']}" == name][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("examples/long_range/listops_short.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/listops_short"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--kinds", nargs="+", default=["softmax", "none"])
    chosen = parser.parse_args()

    # seed by seed, so that what slows the machine down meets both kinds
    found: dict[str, list[Run]] = {kind: [] for kind in chosen.kinds}
    for seed in chosen.seeds:
        for kind in chosen.kinds:
            found[kind].extend(runs(chosen.config, chosen.out, kind, [seed]))

    rows: list[list[object]] = []
    reached: dict[str, float] = {}
    for kind, trained in found.items():
        accuracies = [100 * last(run, "test/accuracy") for run in trained]
        oracle = 100 * last(trained[0], "test/root_operator_oracle")
        mean = statistics.fmean(accuracies)
        reached[kind] = mean - oracle
        if len(accuracies) > 1:
            interval = student_interval(accuracies)
            text = f"{mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"
        else:
            text = f"{mean:.1f}"
        minutes = [run.summary["seconds"] / 60 for run in trained]
        rows.append(
            [
                kind,
                ", ".join(f"{value:.1f}" for value in accuracies),
                text,
                f"{oracle:.1f}",
                f"{mean - oracle:+.1f}",
                f"{100 * last(trained[0], 'test/majority_class'):.1f}",
                ", ".join(f"{value:.1f}" for value in minutes),
            ]
        )
    seeds = ", ".join(map(str, chosen.seeds))
    print(
        f"\n{machine(torch.get_num_threads())}; test accuracy in percent, seeds {seeds}; 95 % t-interval over seeds\n"
    )
    head = ["attention", "each seed", "mean", "root-operator oracle", "above it", "majority class", "minutes per run"]
    print(table(head, rows))
    if "softmax" in reached:
        verdict = "reached" if reached["softmax"] >= BAR else "MISSED"
        print(f"\nbar: softmax at least {BAR:g} points above the root-operator oracle: {verdict}")


if __name__ == "__main__":
    main()
