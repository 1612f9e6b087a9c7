"""Time, memory and exactness of poly-encoder scoring beside the form that builds what each candidate takes.

One query of M codes against many cached candidates, float32: `naive` is softmax attention of all candidates at once,
its mixtures `[N, D]`, and their products with the candidates; `naive in parts` the same for a few thousand candidates
at a time; `fused` is `quincunx.nn.poly.poly_scores`. All take turns in one process; peak memory is what one call adds
to the resident memory of a process of its own. Errors are against the naive form in float64: over the largest product
of the lengths of a code and a candidate, the scale to which products are rounded, and over the largest score, which is
smaller, as the vectors are random.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/poly_scoring.py [--candidates 100000] [--codes 64]

Where other programs keep the processors busy, threads that wait actively make both forms of parts several times slower.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from measure import Watch, alternate, growth, in_child, machine, ratios, spread, table
from torch import Tensor

from quincunx.nn.poly import poly_scores

NAIVE, PARTS, FUSED = "naive", "naive in parts", "fused"
PART = 4096
"""Candidates at a time."""
BAR, EXACT = 2.5, 4e-7


def naive(codes: Tensor, documents: Tensor) -> Tensor:
    """Return the scores `[N]` of documents `[N, D]` that attend over codes `[M, D]`."""
    mixtures = torch.softmax(documents @ codes.T, dim=-1) @ codes
    return (mixtures * documents).sum(dim=-1)


def in_parts(codes: Tensor, documents: Tensor) -> Tensor:
    """Return the same, for PART documents at a time."""
    return torch.cat([naive(codes, part) for part in documents.split(PART)])


def fused(codes: Tensor, documents: Tensor) -> Tensor:
    """Return the same without mixtures."""
    return poly_scores(codes[None], None, documents)[0]


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {NAIVE: naive, PARTS: in_parts, FUSED: fused}


def problem(codes: int, candidates: int, width: int) -> tuple[Tensor, Tensor]:
    """Return codes and candidates whose products are of the size of those of a trained model: some, not one, count."""
    generator = torch.Generator().manual_seed(codes)
    draw = partial(torch.randn, generator=generator)
    return draw(codes, width) / width**0.25, draw(candidates, width) / width**0.25


def timed(form: Callable[[Tensor, Tensor], Tensor], codes: Tensor, documents: Tensor) -> float:
    """Return the seconds of one call."""
    watch = Watch()
    form(codes, documents)
    return watch.read().wall


def peak(name: str, codes: int, candidates: int, width: int) -> float:
    """Return by how many MiB a call raises this process's resident memory."""
    tensors = problem(codes, candidates, width)
    FORMS[name](tensors[0], tensors[1][:PART])
    return growth(lambda: FORMS[name](*tensors), 2)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--codes", type=int, nargs="+", default=[16, 64, 360])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peak", nargs=2, metavar=("FORM", "CODES"), help="measure one's memory, print MiB")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    if chosen.peak:
        print(peak(chosen.peak[0], int(chosen.peak[1]), chosen.candidates, chosen.width))
        return
    print(f"{machine(chosen.threads)}; {chosen.candidates:,} candidates of width {chosen.width}; medians [quartiles]\n")
    rows, missed = [], []
    for count in chosen.codes:
        codes, documents = problem(count, chosen.candidates, chosen.width)
        exact = torch.cat([naive(codes.double(), part.double()) for part in documents.split(PART)])
        scale = float(codes.norm(dim=1).max() * documents.norm(dim=1).max())
        errors = {name: float((form(codes, documents) - exact).abs().max()) for name, form in FORMS.items()}
        runs = {name: partial(timed, form, codes, documents) for name, form in FORMS.items()}
        seconds = alternate(runs, chosen.rounds)
        size = ["--threads", chosen.threads, "--candidates", chosen.candidates, "--width", chosen.width]
        memory = {name: in_child(__file__, *size, "--peak", name, count) for name in FORMS}
        gain = ratios(seconds[NAIVE], seconds[FUSED])
        missed += [f"M = {count}: {gain:.2f} times"] if gain.median < BAR else []
        missed += [f"M = {count}: error {errors[FUSED] / scale:.1e}"] if errors[FUSED] > EXACT * scale else []
        rows.append(
            [
                count,
                *(f"{spread([1e3 * value for value in seconds[name]]):.0f}" for name in FORMS),
                f"{gain:.2f}",
                f"{ratios(seconds[PARTS], seconds[FUSED]):.2f}",
                *(f"{memory[name]:.1f}" for name in FORMS),
                *(f"{errors[name] / scale:.1e}, {errors[name] / exact.abs().max():.1e}" for name in (NAIVE, FUSED)),
            ]
        )
    head = ["codes", *(f"{name}, ms" for name in FORMS), f"{NAIVE} / {FUSED}", f"{PARTS} / {FUSED}"]
    head += [*(f"{name}, MiB" for name in FORMS), f"error of {NAIVE}", f"error of {FUSED}"]
    print(table(head, rows))
    print(f"\nbars: at least {BAR} times the naive form's speed, error at most {EXACT:.0e}: ", end="")
    print("MISSED: " + "; ".join(missed) if missed else "reached")


if __name__ == "__main__":
    main()
