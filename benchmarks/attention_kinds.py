"""What every attention kind learns on a small task of the Long Range Arena, beside no attention and the baselines.

Trains one config once per seed and kind, on the same data, and compares the runs; runs that are finished already are
not repeated, and one that was cut off goes on. Training runs are deterministic, so that several processes may share the
work: `--part 1/2` and `--part 2/2` train every other run, and calling it once more without prints the table.

    OMP_NUM_THREADS=2 python benchmarks/attention_kinds.py                                  # ListOps, 20 to 100 tokens
    OMP_NUM_THREADS=2 python benchmarks/attention_kinds.py --suite listops-long
    OMP_NUM_THREADS=2 python benchmarks/attention_kinds.py --suite positions             # learned and fixed ones
    OMP_NUM_THREADS=2 python benchmarks/attention_kinds.py --suite pathfinder
    OMP_NUM_THREADS=2 python benchmarks/attention_kinds.py --suite text --data FOLDER       # movie reviews, JSON lines
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from experiments import Wanted, add_options, train_all
from measure import machine

from quincunx.report.compare import compare, render

BUNDLED = "attention.options.hrr-bundled"
TPR = "attention.options.tpr"

VARIANTS: dict[str, tuple[str, ...]] = {
    "softmax": ("attention.kind=softmax",),
    "softmax-fixed": ("attention.kind=softmax", "encoder.positions=fixed"),
    "none": ("attention.kind=none",),
    "hrr-individual": ("attention.kind=hrr-individual",),
    "hrr-quadratic": ("attention.kind=hrr-quadratic",),
    "hrr-cleanup": ("attention.kind=hrr-cleanup",),
    "hrr-bundled": ("attention.kind=hrr-bundled",),
    "hrr-bundled-repaired": (
        "attention.kind=hrr-bundled",
        f"{BUNDLED}.gate=mean_preserving",
        f"{BUNDLED}.read=true",
    ),
    "tpr": ("attention.kind=tpr",),
    "tpr-retrieval": ("attention.kind=tpr", f"{TPR}.mode=retrieval", f"{TPR}.denominator=norm"),
}
"""Name -> what it changes; `repaired` and `retrieval` are the forms that carry other tokens' content."""


@dataclass(frozen=True)
class Suite:
    """One comparison."""

    config: Path
    variants: Sequence[str]
    seeds: Sequence[int]
    changes: Sequence[str] = ()


EXAMPLES = Path("examples/long_range")
SUITES = {
    "listops": Suite(
        EXAMPLES / "listops_short.yaml", tuple(kind for kind in VARIANTS if kind != "softmax-fixed"), (1, 2, 3)
    ),
    "positions": Suite(EXAMPLES / "listops_short.yaml", ("softmax", "softmax-fixed"), (1, 2, 3)),
    "listops-long": Suite(EXAMPLES / "listops_long.yaml", ("softmax", "hrr-cleanup", "none"), (1,)),
    "pathfinder": Suite(EXAMPLES / "pathfinder_small.yaml", ("softmax", "hrr-cleanup"), (1, 2, 3)),
    "text": Suite(
        EXAMPLES / "text_reviews.yaml",
        ("softmax", "hrr-cleanup", "hrr-bundled-repaired"),
        (1, 2, 3),
        ("encoder.max_seq_len=1000", "data.test=400"),  # so that a run takes minutes, and an answer means something
    ),
}


def main() -> None:
    """Train what is not trained yet, then print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, default="listops")
    add_options(parser, "SUITE", pilot=False)
    parser.add_argument("--data", type=Path, help="folder of the task's files, where it is not generated")
    parser.add_argument("--kinds", nargs="+", choices=VARIANTS)
    chosen = parser.parse_args()
    suite = SUITES[chosen.suite]
    folder = chosen.out / chosen.suite
    # seed by seed, so that what slows the machine down meets all kinds
    wanted = [(seed, kind) for seed in chosen.seeds or suite.seeds for kind in chosen.kinds or suite.variants]
    data = [] if chosen.data is None else [f"data.path={chosen.data}"]
    runs = [
        Wanted(folder / f"{kind}-{seed}", (f"seed={seed}", *suite.changes, *VARIANTS[kind], *data))
        for seed, kind in wanted
    ]
    train_all(suite.config, runs, chosen.part)
    if chosen.part is None:
        found = compare([run.path for run in runs], against="softmax", tables=True)
        print(f"\n{machine(torch.get_num_threads())}; {suite.config}\n\n{render(found, 'markdown')}")


if __name__ == "__main__":
    main()
