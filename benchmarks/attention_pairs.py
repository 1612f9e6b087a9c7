"""Time and memory of the attention kinds that compare every token with every other, beside torch's fused softmax.

Forward and backward of the core alone, no projections, in turn within one process; peak memory in a process of its
own for each: how far the resident memory grows over a few steps beyond inputs and libraries (Linux only).

    OMP_NUM_THREADS=2 python benchmarks/attention_pairs.py

The share of the roof is the arithmetic that scores and sums over all pairs take (7 products of S x S x E, as fused
kernels compute the scores twice) over what one large matrix product reaches in the same rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import Watch, alternate, growth, in_child, machine, multiply_rate, ratios, spread, table
from torch import Tensor
from torch.nn import functional

from quincunx.nn.attention.hrr_cleanup import HrrCleanupAttention
from quincunx.nn.attention.hrr_individual import HrrIndividualAttention
from quincunx.nn.attention.hrr_quadratic import HrrQuadraticAttention

HEADS, WIDTH, GROUP = 8, 64, 16
BASE = "softmax, fused"
TIME_BAR, MEMORY_BAR = 1.6, 2.5
"""What hrr-individual and hrr-quadratic may take, times the fused softmax."""
BARRED = ("hrr-individual", "hrr-quadratic")

Core = Callable[[Tensor, Tensor, Tensor], Tensor]


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention by its matrix."""
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1) @ v


def explicit_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Likewise, each token seeing those up to itself."""
    later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(later, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v


def contestants(causal: bool) -> dict[str, Core]:
    """Return the cores, by the names they are shown under."""

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    modules = {
        "hrr-individual": HrrIndividualAttention(HEADS, WIDTH, causal=causal),
        "hrr-quadratic": HrrQuadraticAttention(HEADS, WIDTH, causal=causal),
        f"hrr-quadratic, superposition {GROUP}": HrrQuadraticAttention(
            HEADS, WIDTH, causal=causal, superposition=GROUP
        ),
        "hrr-cleanup": HrrCleanupAttention(HEADS, WIDTH, causal=causal),
    }
    cores: dict[str, Core] = {BASE: fused, "softmax, matrix": explicit_causal if causal else explicit}
    for name, module in modules.items():
        cores[name] = lambda q, k, v, module=module: module(q, k, v, None)
    return cores


def inputs(batch: int, tokens: int) -> list[Tensor]:
    """Return queries, keys, values, and a gradient of the output."""
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(batch, HEADS, tokens, WIDTH, generator=generator) for _ in range(4)]
    return [*(tensor.requires_grad_() for tensor in found[:3]), found[3]]


def step(core: Core, tensors: list[Tensor]) -> None:
    """Go forward and back once."""
    core(*tensors[:3]).backward(tensors[3])
    for tensor in tensors[:3]:
        tensor.grad = None


def growth_of(core: Core, batch: int, tokens: int) -> float:
    """Return how far memory grows over some steps, in MiB, beyond inputs and what a small step leaves behind."""
    tensors = inputs(batch, tokens)
    step(core, inputs(1, 64))
    return growth(lambda: step(core, tensors))


def verdict(value: float, bar: float) -> str:
    """Return whether a bar was reached."""
    return f"{'reached' if value <= bar else 'MISSED'} (bar {bar})"


def report(arguments: argparse.Namespace, tokens: int) -> None:
    """Measure and print one table."""
    cores = contestants(arguments.causal)
    tensors = inputs(arguments.batch, tokens)

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            watch = Watch()
            work()
            return watch.read().wall

        return run

    work = {name: timed(lambda core=core: step(core, tensors)) for name, core in cores.items()}
    found = alternate(work, arguments.rounds)
    roof = multiply_rate()
    options = ["--batch", arguments.batch, "--threads", arguments.threads, "--tokens", tokens]
    options += ["--causal"] if arguments.causal else []
    memory = {name: in_child(__file__, "--memory-of", name, *options) for name in cores}
    rows: list[list[object]] = []
    for name in cores:
        seconds = spread(found[name])
        slots = tokens / GROUP if "superposition" in name else tokens
        pairs = tokens * slots * (0.5 if arguments.causal else 1.0)
        share = 14 * arguments.batch * HEADS * pairs * WIDTH / min(found[name]) / roof
        ratio = ratios(found[name], found[BASE])
        more = memory[name] / memory[BASE]
        barred = name in BARRED and tokens == 2048
        verdicts = [verdict(ratio.median, TIME_BAR), verdict(more, MEMORY_BAR)] if barred else ["", ""]
        times = f"{1e3 * seconds.median:.1f} [{1e3 * seconds.low:.1f}, {1e3 * seconds.high:.1f}]"
        rows.append([name, times, f"{ratio:.2f}", verdicts[0], f"{share:.0%}", f"{memory[name]:.0f}", f"{more:.2f}"])
        rows[-1].append(verdicts[1])
    order = "causal" if arguments.causal else "bidirectional"
    print(
        f"\n{tokens} tokens, batch {arguments.batch}, {HEADS} heads of {WIDTH}, {order}, float32, forward + backward; "
        f"one large product: {roof / 1e9:.0f} GFLOP/s\n"
    )
    print(table(["kind", "ms", "x time", "", "of the roof", "peak MiB", "x memory", ""], rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument(
        "--memory-of", metavar="KIND", help="print one kind's growth of memory in MiB, and nothing else"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        core = contestants(arguments.causal)[arguments.memory_of]
        print(growth_of(core, arguments.batch, arguments.tokens[0]))
        return
    print(f"{machine(arguments.threads)}; {arguments.rounds} rounds in turn, medians and quartiles")
    for tokens in arguments.tokens:
        report(arguments, tokens)


if __name__ == "__main__":
    main()
