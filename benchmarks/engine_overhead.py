"""What the engine costs an update, over a training loop written by hand and beside three other trainers.

All train the same model from the same weights on the same data, in turn within one process; a counter in the model's
`forward` takes the time of stretches of 50 updates in the middle of each training, so that no start or end is counted,
and the median stretch stands for the training.

    python benchmarks/engine_overhead.py [--rounds 11] [--threads 1 2]
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import torch
from measure import alternate, machine, ratios, spread, table
from torch import Tensor, nn
from torch.nn import functional
from trainers import BASE, CONTESTANTS, OURS, Job, Result

from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.model import LongRangeClassifier

BAR = 1.25
"""How many times what the plain loop with a DataLoader takes, for the small model."""
PEERS = ("Accelerate as wrapper", "HF Trainer", "Lightning Trainer")


def perceptron(fused: bool) -> Job:
    """32 numbers, 64 hidden, 10 classes that a linear teacher gives; batches of 8."""
    generator = torch.Generator().manual_seed(0)
    first, last, batch = 100, 1100, 8
    inputs = torch.randn((last + 100) * batch, 32, generator=generator)
    labels = (inputs @ torch.randn(32, 10, generator=generator)).argmax(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    return Job("MLP 32-64-10, batch 8", model, inputs, labels, batch, first, last, 50, fused)


class Sequences(nn.Module):
    """The starter's encoder for sequences of one length."""

    def __init__(self, length: int) -> None:
        super().__init__()
        encoder = {"embedding_dim": 64, "hidden_dim": 128, "head_dim": 32, "num_heads": 2, "num_layers": 2}
        encoder |= {"vocab_size": 18, "max_seq_len": length, "dropout": 0.0, "attention_dropout": 0.0}
        self.model = LongRangeClassifier(LongRangeConfig.model_validate({"encoder": encoder}))

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = torch.full((len(tokens),), tokens.shape[1])
        return self.model(tokens, lengths, padded=False)


def transformer(fused: bool) -> Job:
    """Which digit of 40 tokens is the most frequent; batches of 64."""
    generator = torch.Generator().manual_seed(0)
    first, last, batch, length = 5, 45, 64, 40
    inputs = torch.randint(1, 11, ((last + 5) * batch, length), generator=generator)
    labels = functional.one_hot(inputs - 1, 10).sum(1).argmax(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Sequences(length)
    name = "transformer, width 64, 2 layers, batch 64 of 40 tokens"
    return Job(name, model, inputs, labels, batch, first, last, 5, fused)


@contextmanager
def quiet() -> Iterator[None]:
    """Let the trainers' own output vanish."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def run(contestant: Callable[[Job, Path], Result], job: Job, threads: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder, quiet():
        torch.manual_seed(0)
        found = contestant(job, Path(folder))
    if torch.get_num_threads() != threads:
        raise RuntimeError(f"a trainer changed the number of threads to {torch.get_num_threads()}")
    return found


def compare(job: Job, rounds: int, threads: int) -> None:
    """Measure one job and print its table."""
    torch.set_num_threads(threads)
    found = alternate({name: partial(run, call, job, threads) for name, call in CONTESTANTS.items()}, rounds)
    base = found[BASE]
    rows: list[list[object]] = []
    for name, results in found.items():
        cpu = [each.took.cpu for each in results]
        wall = [each.took.wall for each in results]
        rows.append(
            [
                name,
                f"{spread([1e6 * value for value in cpu]):.0f}",
                f"{ratios(cpu, [each.took.cpu for each in base]):.2f}",
                f"{ratios(wall, [each.took.wall for each in base]):.2f}",
                f"{spread([each.loss for each in results]).median:.4f}",
            ]
        )
    optimizer = "AdamW fused" if job.fused else "AdamW, torch's default"
    print(f"\n{job.name}; {optimizer}; {threads} thread{'' if threads == 1 else 's'}; {rounds} rounds of ", end="")
    print(f"{job.last - job.first:,} updates\n")
    print(table(["", "CPU us per update", "CPU ratio", "wall ratio", "final loss"], rows), flush=True)
    losses = [spread([each.loss for each in results]).median for results in found.values()]
    if max(losses) > 1.25 * min(losses):
        raise SystemExit("the final losses differ: somebody did not do the same work")
    if job.fused and job.batch_size == 8:
        middle = {
            name: ratios([e.took.cpu for e in each], [e.took.cpu for e in base]).median for name, each in found.items()
        }
        print(f"\nbar: {OURS} at most {BAR} times '{BASE}': {'met' if middle[OURS] <= BAR else 'MISSED'}; ", end="")
        print(f"below the other trainers: {'met' if middle[OURS] < min(middle[name] for name in PEERS) else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    print(f"{machine()}; median [quartiles]; ratios to '{BASE}', round by round")
    for threads in chosen.threads:
        for job in (perceptron(fused=True), perceptron(fused=False), transformer(fused=True)):
            compare(job, chosen.rounds, threads)


if __name__ == "__main__":
    main()
