"""Contrastive training beside sentence-transformers: examples a second, memory, and whether the gradient is the same.

A BERT of MiniLM's shape (6 layers of 384), batches of 64 pairs, passages of 106 tokens in the mean and 358 at most,
queries of 14. First every contestant takes one step of plain gradient descent on the same batch, which shows its loss
and its gradient; then all train by AdamW, in turn within one process; then each once more in a process of its own, for
the memory that it needs.

    OMP_NUM_THREADS=2 python benchmarks/contrastive_training.py [--rounds 5] [--dropout 0.1]

Without dropout, by default, everybody's loss and gradient are the same, which is checked; pretrained encoders come with
it.

Version 6.0 of sentence-transformers pads queries to the length of the passages, later ones do not; for that one:

    python -m pip install --no-deps --target old sentence-transformers==6.0.0
    PYTHONPATH=old OMP_NUM_THREADS=2 python benchmarks/contrastive_training.py
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from contrastive_job import BATCH, Job, Trained, make, ours, sentence_transformers
from measure import alternate, growth, in_child, machine, ratios, spread, table

UPDATES = 4
"""Of each training, the first not timed."""
BASE = "sentence-transformers, MultipleNegativesRankingLoss"
CACHED = "sentence-transformers, its cached loss"
OURS = "quincunx, float32"
REPLAYED = "quincunx, float32, chunks of 2,048 tokens replayed"
DEFAULT = "quincunx, as it comes"

REPLAY = {"chunking.tokens": 2048, "chunking.graphs": "replay"}
CONTESTANTS: dict[str, Callable[..., Trained]] = {
    BASE: sentence_transformers,
    CACHED: partial(sentence_transformers, cached=True),
    OURS: partial(ours, **{"compute.precision": "float32"}),
    REPLAYED: partial(ours, **{"compute.precision": "float32"}, **REPLAY),
    DEFAULT: ours,
}


def trained(name: str, job: Job, sgd: bool = False) -> Trained:
    """Return what a contestant makes of the job in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return CONTESTANTS[name](job, Path(folder), sgd=sgd)


def same(folder: Path) -> str:
    """Return a table of how far losses and gradients are from those of sentence-transformers."""
    job = make(folder / "one", BATCH, seed=1)
    found = {name: trained(name, job, sgd=True) for name in CONTESTANTS}
    base = found[BASE]
    scale = _difference(base.weights, _start(job))
    rows: list[list[str]] = []
    for name, one in found.items():
        # both took one step of rate 1 from the same weights: weights differ by what gradients differ by
        apart = _difference(one.weights, base.weights) / scale
        rows.append([name, f"{one.losses[0]:.6f}", f"{abs(one.losses[0] / base.losses[0] - 1):.1e}", f"{apart:.1e}"])
    return table(["", "loss", "relative difference", "of the gradient, by its norm"], rows)


def _start(job: Job) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(next(job.encoder.glob("**/model.safetensors")))


def _difference(some: object, others: object) -> float:
    assert isinstance(some, dict)
    assert isinstance(others, dict)
    names = sorted(set(some) & set(others))
    if len(names) < 90:
        raise SystemExit(f"only {len(names)} weights have the same names: {sorted(some)[:3]}, {sorted(others)[:3]}")
    return float(torch.stack([(some[n].double() - others[n].double()).square().sum() for n in names]).sum().sqrt())


def main() -> None:
    """Print what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.0, help="the encoder's; above 0 losses are not compared")
    parser.add_argument("--memory", choices=CONTESTANTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one").mkdir()
        if chosen.memory is not None:
            trained(chosen.memory, make(folder / "one", BATCH, dropout=chosen.dropout))  # what it brings in for good
            (folder / "more").mkdir()
            job = make(folder / "more", 3 * BATCH, seed=2, dropout=chosen.dropout)
            sys.stdout.write(f"{growth(lambda: trained(chosen.memory, job), 1)}\n")
            return
        import sentence_transformers as peer

        where = f"{machine(torch.get_num_threads())}; sentence-transformers {peer.__version__}"
        sys.stdout.write(f"{where}; dropout {chosen.dropout:g}\n\n")
        if not chosen.dropout:
            sys.stdout.write(f"{same(folder)}\n\n")
        (folder / "timed").mkdir()
        job = make(folder / "timed", UPDATES * BATCH, dropout=chosen.dropout)
        took = alternate({name: partial(trained, name, job) for name in CONTESTANTS}, chosen.rounds, warmup=0)
        walls = {name: [one.took.wall for one in each] for name, each in took.items()}
        rows: list[list[str]] = []
        for contestant, seconds in walls.items():
            memory = in_child(__file__, "--memory", contestant, "--dropout", str(chosen.dropout))
            rows.append(
                [
                    contestant,
                    f"{spread([BATCH / each for each in seconds]):.1f}",
                    f"{ratios(walls[BASE], seconds):.2f}",
                    f"{ratios(walls[CACHED], seconds):.2f}",
                    f"{spread([one.took.cpu for one in took[contestant]]):.1f}",
                    f"{memory:,.0f}",
                ]
            )
        head = ["", "examples/s", "times the first", "times the second", "CPU s an update", "memory, MiB"]
        sys.stdout.write(table(head, rows) + "\n")


if __name__ == "__main__":
    main()
