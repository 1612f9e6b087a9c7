"""Time and memory of tensor product attention against fused softmax attention, forward and backward, taking turns.

    OMP_NUM_THREADS=2 python benchmarks/attention_tpr.py --threads 2

Prints a Markdown table: median milliseconds with quartiles, what softmax takes over it within the same rounds, and the
most memory above queries, keys and values (output and gradients of all three included: 4 B H S E numbers at the least).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch
from measure import Watch, alternate, machine, ratios, spread, table
from torch import Tensor, nn

from quincunx.nn.attention.softmax import SoftmaxAttention
from quincunx.nn.attention.tpr import TprAttention

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

RETRIEVAL = {"mode": "retrieval"}
LINEAR = {"mode": "retrieval", "feature_map": "elu", "denominator": "keys"}
DELTA = {"mode": "retrieval", "denominator": "norm", "delta": True}
TPR = {"gated": {}, "retrieval, count": RETRIEVAL, "retrieval, elu over keys": LINEAR, "delta, norm": DELTA}


def cores(heads: int, width: int, causal: bool) -> dict[str, nn.Module]:
    """Return the contestants: softmax first, the base of the ratios."""
    found: dict[str, nn.Module] = {"softmax": SoftmaxAttention(heads, width, causal=causal)}
    for name, options in TPR.items():
        found[f"tpr {name}"] = TprAttention(heads, width, causal=causal, **options)
    return found


def peak_memory(call: Callable[[], object], device: torch.device) -> float:
    """Return the most MiB in use above what was before a call, from the system's own account of this process."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # blocks kept from earlier calls would hide what this one needs
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = resident("VmRSS")
    call()
    return (resident("VmHWM") - before) / 2**10


def resident(field: str) -> int:
    """Return a line of this process's memory account in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def measured(
    core: nn.Module, tokens: list[Tensor], gradient: Tensor, repeats: int, device: torch.device, clock: str = "wall"
) -> Callable[[], float]:
    """Return a function that runs a core forward and backward and returns milliseconds of one pass."""

    def run() -> float:
        watch = Watch()
        for _ in range(repeats):
            torch.autograd.grad(core(*tokens, None), tokens, gradient)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return getattr(watch.read(), clock) / repeats * 1e3

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time and memory of tensor product attention against softmax")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-softmax-beyond", type=int, default=16384, help="longer sequences without it")
    parser.add_argument(
        "--clock", default="wall", choices=("wall", "cpu"), help="cpu: of all threads, on a busy machine"
    )
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else machine(arguments.threads)
    print(
        f"{place}; {arguments.dtype}, batch {arguments.batch}, {arguments.heads} heads of width {arguments.width}, "
        f"{'causal, ' if arguments.causal else ''}forward + backward, {arguments.clock} time, "
        f"{arguments.rounds} rounds\n"
    )
    rows = []
    for length in arguments.lengths:
        # laid out as the projections of a layer leave them
        shape = (arguments.batch, length, arguments.heads, arguments.width)
        made = [torch.randn(shape, device=device, dtype=DTYPES[arguments.dtype]) for _ in range(4)]
        *tokens, gradient = (tensor.transpose(1, 2) for tensor in made)
        for tensor in tokens:
            tensor.requires_grad_()
        contestants = cores(arguments.heads, arguments.width, arguments.causal)
        if length > arguments.no_softmax_beyond:
            del contestants["softmax"]
        repeats = max(4096 // length, 1)
        runs = {
            name: measured(core, tokens, gradient, repeats, device, arguments.clock)
            for name, core in contestants.items()
        }
        slow = length > 4096
        times = alternate(runs, 3 if slow else arguments.rounds, warmup=0 if slow else 1)
        for name, core in contestants.items():
            memory = peak_memory(measured(core, tokens, gradient, 1, device), device)
            speed = f"{ratios(times['softmax'], times[name]):.2f}" if "softmax" in times else "not measured"
            rows.append([length, name, f"{spread(times[name]):.1f}", speed, f"{memory:.0f}"])
    print(table(["tokens", "attention", "ms", "softmax's time over it", "peak MiB"], rows))


if __name__ == "__main__":
    main()
