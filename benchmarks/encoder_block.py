"""Time and memory of a whole encoder block under every attention kind, from 512 to 16,384 tokens.

Width 512, 8 heads of 64, MLP 1024, batch 1, float32, forward and backward, in turn within one process; peak memory of
each in a process of its own (Linux). The bound is arithmetic over what one large matrix product reaches, plus, for
hrr-bundled, the bytes that its passes must move over what a triad reaches; its share says how near a kind is to it.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/encoder_block.py

Last comes what batches of like lengths save on ListOps of the Long Range Arena (`--no-bucketing` leaves it out).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from measure import Watch, alternate, growth, in_child, machine, multiply_rate, ratios, spread, table, triad_rate
from torch import nn

from quincunx.data.order import Order
from quincunx.nn.attention import attention_core
from quincunx.nn.attention.layer import AttentionLayer
from quincunx.nn.encoder import EncoderBlock
from quincunx.recipes.long_range.data.listops.generator import Parameters, distinct_examples

WIDTH, HEADS, HEAD, HIDDEN = 512, 8, 64, 1024
SPECTRAL = {"form": "spectral", "compile": True}
KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "softmax": ("softmax", {}),
    "hrr-individual": ("hrr-individual", {}),
    "hrr-quadratic": ("hrr-quadratic", {}),
    "hrr-cleanup": ("hrr-cleanup", {}),
    "hrr-bundled": ("hrr-bundled", {}),
    "hrr-bundled, spectral, compiled": ("hrr-bundled", SPECTRAL),
    "tpr": ("tpr", {}),
    "tpr, retrieval": ("tpr", {"mode": "retrieval"}),
    "none": ("none", {}),
}
PAIRS = ("softmax", "hrr-individual", "hrr-quadratic", "hrr-cleanup")
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)


def block(name: str) -> EncoderBlock:
    """Return a block with this kind of attention."""
    kind, options = KINDS[name]
    torch.manual_seed(0)
    layer = None if kind == "none" else AttentionLayer(WIDTH, attention_core(kind, HEADS, HEAD, options))
    return EncoderBlock(WIDTH, HIDDEN, layer, 0.0)


def step(made: nn.Module, tokens: int) -> Callable[[], object]:
    """Return what computes the block forward and backward on so many tokens."""
    x = torch.randn(1, tokens, WIDTH, requires_grad=True)
    gradient = torch.randn(1, tokens, WIDTH)

    def run() -> None:
        made.zero_grad()
        x.grad = None
        made(x, None).backward(gradient)

    return run


def bound(name: str, tokens: int, rate: float, bandwidth: float) -> float:
    """Return the least seconds that a block's arithmetic and, where it counts, its traffic take."""
    kind, inner = KINDS[name][0], HEADS * HEAD
    products = 2 * WIDTH * HIDDEN + (0 if kind == "none" else 4 * WIDTH * inner)
    operations = 6.0 * tokens * products  # forward, and twice that backward
    traffic = 0.0
    if name in PAIRS:
        operations += 14.0 * tokens**2 * inner
    elif kind == "tpr":
        operations += 12.0 * tokens * inner * HEAD
    elif kind == "hrr-bundled":
        traffic = 16.0 * tokens * inner * 4
    return operations / rate + traffic / bandwidth


def timed(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    watch = Watch()
    work()
    return watch.read().wall


def compare(tokens: int, rounds: int, threads: int, names: list[str]) -> None:
    """Measure all kinds at one length and print their table."""
    rate, bandwidth = multiply_rate(), triad_rate()
    calls = {name: partial(timed, step(block(name), tokens)) for name in names}
    found = alternate(calls, rounds, warmup=1)
    rows: list[list[object]] = []
    for name in names:
        times = spread([1e3 * value for value in found[name]])
        peak = in_child(__file__, "--memory-of", name, "--lengths", tokens, "--threads", threads)
        least = 1e3 * bound(name, tokens, rate, bandwidth)
        faster = ratios(found["softmax"], found[name])
        rows.append(
            [name, f"{times:.1f}", f"{faster:.2f}", f"{least:.1f}", f"{least / times.median:.0%}", f"{peak:.0f}"]
        )
    print(f"\n{tokens:,} tokens; {rate / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s\n")
    head = ["block with", "ms", "softmax / it", "bound, ms", "share", "peak MiB"]
    print(table(head, rows), flush=True)


def bucketing(count: int = 6400, batch: int = 32) -> None:
    """Print how many tokens, padding included, an epoch of ListOps takes with and without batches of like lengths."""
    lengths = np.concatenate([part.lengths for part in distinct_examples(Parameters(), count)])
    rows: list[list[object]] = []
    for name, given in (("batches as they come", None), ("batches of like lengths", lengths)):
        batches = Order(count, batch, 0, lengths=given).epoch(0)
        padded = sum(int(lengths[ids].max()) * len(ids) for ids in batches)
        rows.append([name, f"{padded:,}", f"{padded / lengths.sum():.2f}"])
    rows.insert(0, ["everything padded to 2,000", f"{2000 * count:,}", f"{2000 * count / lengths.sum():.2f}"])
    what = f"{count:,} sequences of mean length {lengths.mean():.0f}, batches of {batch}"
    print(f"\nListOps of 500 to 2,000 tokens, {what}\n")
    print(table(["an epoch with", "tokens computed", "times the tokens there are"], rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-bucketing", action="store_true")
    parser.add_argument("--memory-of", choices=list(KINDS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.memory_of:
        work = step(block(chosen.memory_of), chosen.lengths[0])
        step(block(chosen.memory_of), 64)()
        print(growth(work))
        return
    print(f"{machine(chosen.threads)}; forward and backward, batch 1, float32")
    for tokens in chosen.lengths:
        compare(tokens, chosen.rounds if tokens <= 4096 else 3, chosen.threads, chosen.kinds)
    if not chosen.no_bucketing:
        bucketing()


if __name__ == "__main__":
    main()
