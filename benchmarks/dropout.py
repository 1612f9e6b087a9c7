"""Time of our counter-hash dropout against torch's, forward and backward, measured in turn in the same process.

    OMP_NUM_THREADS=2 python benchmarks/dropout.py --threads 2

Prints a Markdown table: median time of each and the median of the paired ratios with its quartiles. Below 1, ours is
faster.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from quincunx.nn.dropout import CounterDropout
from quincunx.nn.rows import attach_rows

SHAPES = ("64,40,64", "32,100,128", "8,2000,512", "32,1000,256")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Return the wall time of one call in seconds, work queued on the device included."""
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def pairs(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, *, p: float, rounds: int, compiled: bool
) -> list[tuple[float, float]]:
    """Return seconds (ours, torch's) of each round, the order alternating from round to round."""
    ours = CounterDropout(p)
    context = attach_rows(ours)
    assert context is not None
    rows = torch.arange(shape[0], device=device)
    x = torch.randn(shape, dtype=dtype, device=device, requires_grad=True)
    gradient = torch.randn_like(x)
    call: Callable[[Tensor], Tensor] = torch.compile(ours) if compiled else ours

    def theirs(x: Tensor) -> Tensor:
        return functional.dropout(x, p)

    peer: Callable[[Tensor], Tensor] = torch.compile(theirs) if compiled else theirs
    key = 0

    def step_ours() -> None:
        nonlocal key
        key += 1
        context.set(key, rows)  # part of the price, though a model pays it once for all its layers
        call(x).backward(gradient)
        x.grad = None

    def step_theirs() -> None:
        peer(x).backward(gradient)
        x.grad = None

    for _ in range(5):
        step_ours()
        step_theirs()
    results = []
    for number in range(rounds):
        if number % 2:
            second = timed(step_theirs, device)
            results.append((timed(step_ours, device), second))
        else:
            results.append((timed(step_ours, device), timed(step_theirs, device)))
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time of counter-hash dropout against torch's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="B,S,D")
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=DTYPES)
    parser.add_argument("--p", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile both")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(
        f"torch {torch.__version__}, {machine}, {arguments.threads} threads, p = {arguments.p}, forward + backward, "
        f"{arguments.rounds} rounds in turn{', both compiled' if arguments.compile else ''}\n"
    )
    print("| shape | dtype | ours, ms | torch, ms | ratio | quartiles |\n|---|---|---|---|---|---|")
    for text in arguments.shapes:
        shape = tuple(int(size) for size in text.split(","))
        for name in arguments.dtypes:
            results = pairs(
                shape, DTYPES[name], device, p=arguments.p, rounds=arguments.rounds, compiled=arguments.compile
            )
            ours, theirs = (statistics.median(column) * 1e3 for column in zip(*results, strict=True))
            low, ratio, high = statistics.quantiles([mine / other for mine, other in results], n=4)
            print(
                f"| {text} | {name} | {ours:.2f} | {theirs:.2f} | {ratio:.2f} | {low:.2f} to {high:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
