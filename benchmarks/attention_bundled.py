"""Time and memory of `hrr-bundled` attention in its forms beside torch's fused softmax attention, forward and backward.

The core alone, batch 1, float32, queries, keys and values `[1, heads, tokens, width]`. All take turns in one process,
and so do a copy and a triad (a + 2 b) of large arrays, whose bandwidth sets the limit: the spectral form has to move 16
arrays of the size of the queries. Peak memory is what one step adds to the resident memory of a process of its own.

    OMP_NUM_THREADS=2 python benchmarks/attention_bundled.py [--threads 2] [--lengths 512 2048 16384] [--rounds 9]

Everything is measured twice: with the C library's allocator as it comes, which maps every array of 32 MiB or more anew
and lets the system clear it, and told to keep freed blocks (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_), as
programs on a CPU should be run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from measure import Seconds, Watch, alternate, machine, ratios, spread, table
from torch import Tensor
from torch.nn import functional

from quincunx.nn.attention import attention_core

SOFTMAX, RFFT, EAGER, COMPILED = "softmax, fused", "rfft", "spectral", "spectral, compiled"
CORES = {RFFT: {}, EAGER: {"form": "spectral"}, COMPILED: {"form": "spectral", "compile": True}}
COPY, TRIAD = "copy", "triad"
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
ARRAYS = 16
"""Arrays of the size of the queries that the spectral form reads or writes, forward and backward."""
LARGE = 1 << 25
"""Numbers of an array that bandwidth is measured with: 128 MiB, beyond any cache."""
BARS = (
    (2048, "times softmax's speed", 40.0),
    (16384, "times softmax's speed", 150.0),
    (2048, "times rfft's speed", 3.0),
    (16384, "times rfft's speed", 3.0),
    (2048, "times the limit", 2.5),
    (16384, "times the limit", 2.5),
)
REPEAT = 0.1
"""Seconds that a contestant's turn lasts at least, in repeated steps."""


def step(name: str, heads: int, width: int, length: int) -> Callable[[], Tensor]:
    """Return one step forward and backward of a contestant on inputs of its own; it returns the output."""
    generator = torch.Generator().manual_seed(length)
    q, k, v, gradient = (torch.randn(1, heads, length, width, generator=generator) for _ in range(4))
    tensors = [x.requires_grad_() for x in (q, k, v)]
    if name == SOFTMAX:
        attend = functional.scaled_dot_product_attention
    else:
        core = attention_core("hrr-bundled", heads, width, CORES[name])
        attend = partial(core, valid=None)

    def run() -> Tensor:
        out = attend(*tensors)
        torch.autograd.grad(out, tensors, gradient)
        return out.detach()

    return run


def repeated(run: Callable[[], object]) -> Callable[[], Seconds]:
    """Return what takes the time of a step, over as many steps as last long enough to be timed."""
    run()
    start = time.perf_counter()
    run()
    count = max(1, round(REPEAT / (time.perf_counter() - start)))

    def turn() -> Seconds:
        watch = Watch()
        for _ in range(count):
            run()
        return watch.read() / count

    return turn


def bandwidths() -> dict[str, Callable[[], object]]:
    """Return a copy and a triad of large arrays into one that is there already."""
    a, b, c = (torch.ones(LARGE) for _ in range(3))
    return {COPY: lambda: c.copy_(a), TRIAD: lambda: torch.add(a, b, alpha=2.0, out=c)}


def peak(name: str, heads: int, width: int, length: int) -> float:
    """Return by how many MiB one step of a contestant raises this process's resident memory."""
    step(name, heads, width, 96)()  # what is loaded or generated once
    if name == COMPILED:
        step(name, heads, width, 160)()
    run = step(name, heads, width, length)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """Return a line of this process's memory status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def measure(chosen: argparse.Namespace) -> None:
    """Measure with this process's allocator and print the tables."""
    torch.set_num_threads(chosen.threads)
    heads, width = chosen.heads, chosen.width
    agree = [step(name, heads, width, 512)() for name in (EAGER, COMPILED)]
    if not torch.allclose(*agree, atol=1e-6, rtol=1e-4):
        raise SystemExit("the compiled form does not give what the eager one gives")
    rows, found = [], {}
    for length in chosen.lengths:
        contestants = {name: repeated(step(name, heads, width, length)) for name in (SOFTMAX, *CORES)}
        contestants |= {name: repeated(run) for name, run in bandwidths().items()}
        rounds = chosen.rounds if length < 8192 else max(3, chosen.rounds // 3)
        taken = alternate(contestants, rounds, warmup=0)  # each has run in `repeated` already
        wall = {name: [each.wall for each in results] for name, results in taken.items()}
        rates = {COPY: spread(wall[COPY]).median / 2, TRIAD: spread(wall[TRIAD]).median / 3}
        seconds = min(rates.values()) / LARGE  # to move one number
        limit = ARRAYS * heads * width * length * seconds
        busy = [each.cpu / each.wall for each in taken[COMPILED]]
        facts = {
            "times softmax's speed": ratios(wall[SOFTMAX], wall[COMPILED]),
            "times rfft's speed": ratios(wall[RFFT], wall[COMPILED]),
            "times the limit": spread([value / limit for value in wall[COMPILED]]),
        }
        found |= {(length, what): value for what, value in facts.items()}
        rows.append(
            [
                f"{length:,}",
                *(f"{spread([1e3 * value for value in wall[name]]):.2f}" for name in (SOFTMAX, *CORES)),
                f"{1e3 * limit:.2f} ({4e-9 / seconds:.0f} GB/s)",
                *(f"{value:.1f}" for value in facts.values()),
                f"{100 / facts['times the limit'].median:.0f} %",
                f"{spread(busy).median:.1f}",
            ]
        )
    head = ["tokens", *(f"{name}, ms" for name in (SOFTMAX, *CORES)), "limit, ms"]
    head += ["softmax / compiled", "rfft / compiled", "compiled / limit", "share of the limit", "cores busy"]
    print(table(head, rows), flush=True)
    for length, what, bar in BARS:
        if (length, what) in found:
            value = found[length, what].median
            met = value <= bar if "limit" in what else value >= bar
            sense = "at most" if "limit" in what else "at least"
            print(f"\nbar at {length:,} tokens: {sense} {bar:g} {what}: {value:.1f}, {'reached' if met else 'MISSED'}")


def memory(chosen: argparse.Namespace) -> None:
    """Print what one step of each adds to memory, each in a process of its own."""
    rows = []
    for length in chosen.lengths:
        sizes = []
        for name in (SOFTMAX, *CORES):
            command = [sys.executable, __file__, "--threads", str(chosen.threads), "--peak", name, str(length)]
            command += ["--heads", str(chosen.heads), "--width", str(chosen.width)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            sizes.append(f"{json.loads(done.stdout):.0f}")
        queries = 4 * chosen.heads * chosen.width * length / 2**20
        rows.append([f"{length:,}", f"{queries:.0f}", *sizes])
    head = ["tokens", "queries, MiB", *(f"{name}, MiB" for name in (SOFTMAX, *CORES))]
    print("\nPeak memory of a step; its four results alone are four times the queries\n")
    print(table(head, rows), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--rounds", type=int, default=9, help="a third of it from 8,192 tokens on, at least 3")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--allocator", choices=["as it comes", "keeps", "both"], default="both")
    parser.add_argument("--peak", nargs=2, metavar=("CONTESTANT", "TOKENS"), help="measure one's memory, print MiB")
    chosen = parser.parse_args(arguments)
    if chosen.peak:
        torch.set_num_threads(chosen.threads)
        print(json.dumps(peak(chosen.peak[0], chosen.heads, chosen.width, int(chosen.peak[1]))))
        return
    if chosen.allocator != "both":
        measure(chosen)
        return
    print(f"{machine(chosen.threads)}; {chosen.heads} heads of width {chosen.width}; medians [quartiles]")
    own = sys.argv[1:] if arguments is None else list(arguments)
    for allocator, settings in (("as it comes", {}), ("keeps", KEEP)):
        print(f"\nAllocator {'as it comes' if not settings else 'keeps freed blocks'}\n", flush=True)
        command = [sys.executable, __file__, *own, "--allocator", allocator]
        subprocess.run(command, check=True, env=os.environ | settings)
    memory(chosen)


if __name__ == "__main__":
    main()
