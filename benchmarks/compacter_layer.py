"""Time of Compacter's linear map, its Kronecker products factorised, against the same map with its matrix made.

    OMP_WAIT_POLICY=passive python benchmarks/compacter_layer.py --threads 1

The peer makes H = sum_i A_i (x) (L_i R_i) once a pass, with one batched product, and multiplies by it: for these sizes
the fastest way to have H (the reshaped form without it is slower still). Both take turns in one process, with the same
weights. Prints a Markdown table with medians of the ratios within rounds: above 1, the factorised form is faster; by
the clock, and by the time of the processor, which others on the same machine disturb less. The last column is a single
copy of the wider side's numbers: what it takes to touch them once, however little is computed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import Seconds, Watch, alternate, machine, ratios, spread, table
from torch import Tensor
from torch.nn import functional

from quincunx.tuners.compacter.layer import PhmLinear, Rule

RULE_STD = 0.5


def materialised(phm: PhmLinear, x: Tensor) -> Tensor:
    """Return what a factorised map returns, by way of H."""
    assert phm.rule is not None and phm.left is not None
    weights = torch.einsum("ikp,ikq->iqp", phm.left, phm.weight)
    matrix = torch.einsum("iab,iqp->bqap", phm.rule(), weights).flatten(2).flatten(0, 1)
    return functional.linear(x, matrix, phm.bias)


def operations(in_features: int, out_features: int, division: int, rank: int) -> tuple[int, int]:
    """Return the multiplications and additions of a token: factorised, and through H (its making left out)."""
    factorised = 2 * rank * division * (in_features + division * out_features)
    return factorised, 2 * in_features * out_features


def contestant(call: Callable[[Tensor], Tensor], phm: PhmLinear, x: Tensor, *, backward: bool) -> Callable[[], Seconds]:
    """Return what measures one pass."""
    gradient = torch.randn(*x.shape[:-1], phm.bias.shape[-1])

    def run() -> Seconds:
        x.grad = None
        phm.zero_grad(set_to_none=True)
        watch = Watch()
        if backward:
            call(x).backward(gradient)
        else:
            with torch.no_grad():
                call(x)
        return watch.read()

    return run


def copying(x: Tensor) -> Callable[[], Seconds]:
    """Return what measures one copy."""

    def run() -> Seconds:
        watch = Watch()
        x.clone()
        return watch.read()

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compacter's map: factorised against materialised")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--shapes", nargs="+", default=["768,96", "96,768"], metavar="I,O")
    parser.add_argument("--division", type=int, default=4)
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows: list[list[object]] = []
    for text in arguments.shapes:
        entry, out = (int(width) for width in text.split(","))
        rule = Rule(arguments.division, tasks=None, factorized=False, std=RULE_STD)
        phm = PhmLinear(
            entry,
            out,
            division=arguments.division,
            rank=arguments.rank,
            rule=rule,
            own_rule=True,
            tasks=None,
            zero=False,
        )
        x = torch.randn(32, arguments.tokens // 32, entry, requires_grad=True)
        torch.testing.assert_close(phm(x), materialised(phm, x), rtol=1e-3, atol=1e-4)
        counts = operations(entry, out, arguments.division, arguments.rank)
        wide = torch.randn(arguments.tokens, max(entry, out))
        for backward in (False, True):
            found = alternate(
                {
                    "factorised": contestant(phm, phm, x, backward=backward),
                    "copy": copying(wide),
                    "materialised": contestant(lambda x, phm=phm: materialised(phm, x), phm, x, backward=backward),
                },
                arguments.rounds,
                warmup=5,
            )
            busy = {name: [each.cpu for each in values] for name, values in found.items()}
            times = {name: [each.wall * 1e3 for each in values] for name, values in found.items()}
            rows.append(
                [
                    f"{entry} -> {out}",
                    "forward + backward" if backward else "forward",
                    f"{counts[0] / 1e3:.1f} / {counts[1] / 1e3:.1f}",
                    f"{spread(times['factorised']):.2f}",
                    f"{spread(times['materialised']):.2f}",
                    f"{ratios(times['materialised'], times['factorised']):.2f}",
                    f"{ratios(busy['materialised'], busy['factorised']):.2f}",
                    f"{spread(times['copy']):.2f}",
                ]
            )
    print(
        f"{machine(arguments.threads)}; {arguments.tokens} tokens, n = {arguments.division}, rank {arguments.rank}, "
        f"float32, {arguments.rounds} rounds in turn\n"
    )
    print(
        table(
            [
                "map",
                "pass",
                "thousand operations a token, factorised / by H",
                "factorised, ms",
                "by H, ms",
                "ratio",
                "ratio of processor time",
                "copy, ms",
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()
