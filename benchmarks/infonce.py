"""InfoNCE of a batch of pairs against NTXent of pytorch-metric-learning and MultipleNegativesRankingLoss of
sentence-transformers, forward and backward, taking turns.

    OMP_NUM_THREADS=2 python benchmarks/infonce.py --batch 512

Ours is the whole objective as training calls it: masks by identity, content and relevance, and the counts for the log.
Prints a Markdown table: median milliseconds with quartiles, what each takes over ours within the same rounds, the
growth of resident memory in a process of its own, and the differences of loss and gradient from ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import Watch, alternate, growth, in_child, machine, ratios, spread, table
from torch import Tensor, nn

from quincunx.data.batch import Batch
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from quincunx.recipes.retrieval.objective.contrastive import Contrastive

TEMPERATURE = 0.05
OURS, NTXENT, RANKING = "quincunx", "pytorch-metric-learning", "sentence-transformers"

Loss = Callable[[Tensor, Tensor], Tensor]


def ours(count: int) -> Loss:
    """Return the mean loss of queries `[B, D]` with documents `[B, D]`, as the engine computes it."""
    rows = torch.arange(count)
    pairs = torch.stack([rows, rows], dim=1)
    side = Batch({"tokens": torch.ones(count, 1), "lengths": torch.ones(count)}, rows, list(range(count)))
    links = {"positives": pairs, "known": pairs, "negatives": pairs[:0]}
    for name, start in (("query", 0), ("document", 1 << 20)):
        links |= {f"{name}_keys": rows, f"{name}_hashes": rows + start}
    sides = {"query": side, "document": side}
    batch = RetrievalBatch({}, rows, list(range(count)), sides=sides, links=links)
    objective = Contrastive(temperature=TEMPERATURE)
    term = "query_to_document"

    def call(queries: Tensor, documents: Tensor) -> Tensor:
        weight = objective.weights(batch)[term]
        encoded = {"query": {"vector": queries}, "document": {"vector": documents}}
        return objective.loss(nn.Identity(), encoded, batch)[term] / weight

    return call


def ntxent(count: int) -> Loss:
    """Return the same of pytorch-metric-learning: queries are anchors, documents are references."""
    from pytorch_metric_learning.losses import NTXentLoss

    loss, labels = NTXentLoss(temperature=TEMPERATURE), torch.arange(count)
    return lambda queries, documents: loss(queries, labels, ref_emb=documents, ref_labels=labels.clone())


def ranking(count: int) -> Loss:
    """Return the same of sentence-transformers, which masks nothing."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    loss = MultipleNegativesRankingLoss(nn.Identity(), scale=1 / TEMPERATURE)  # pyright: ignore[reportArgumentType]
    return lambda queries, documents: loss.compute_loss_from_embeddings([queries, documents], torch.empty(0))


MAKE: dict[str, Callable[[int], Loss]] = {OURS: ours, NTXENT: ntxent, RANKING: ranking}


def vectors(count: int, width: int) -> list[Tensor]:
    """Return queries and documents."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, width, generator=generator).requires_grad_() for _ in range(2)]


def step(loss: Loss, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Return loss and gradients."""
    value = loss(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs)


def timed(loss: Loss, inputs: list[Tensor], repeats: int, clock: str) -> Callable[[], float]:
    """Return a function that returns milliseconds of one forward and backward pass."""

    def run() -> float:
        watch = Watch()
        for _ in range(repeats):
            step(loss, inputs)
        return getattr(watch.read(), clock) / repeats * 1e3

    return run


def memory(name: str, count: int, width: int) -> float:
    """Return the MiB by which forward and backward let this process grow; libraries are loaded before."""
    small, large = vectors(8, width), vectors(count, width)
    step(MAKE[name](8), small)
    loss = MAKE[name](count)
    return growth(lambda: step(loss, large), steps=1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="InfoNCE against two libraries")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--clock", default="wall", choices=("wall", "cpu"), help="cpu: of all threads, on a busy machine"
    )
    parser.add_argument("--memory", choices=MAKE, help="print the growth of this one alone, in MiB")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        print(memory(arguments.memory, arguments.batch, arguments.width))
        return
    print(
        f"{machine(arguments.threads)}; batch {arguments.batch}, width {arguments.width}, float32, forward + backward, "
        f"{arguments.clock} time, {arguments.rounds} rounds\n"
    )
    inputs = vectors(arguments.batch, arguments.width)
    losses = {name: make(arguments.batch) for name, make in MAKE.items()}
    wanted = step(losses[OURS], inputs)
    differences: dict[str, list[str]] = {}
    for name, loss in losses.items():
        found = step(loss, inputs)
        gap = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found[1:], wanted[1:], strict=True))
        differences[name] = [f"{abs(float(found[0] - wanted[0])):.1e}", f"{gap:.1e}"]
    runs = {name: timed(loss, inputs, 1 if name == NTXENT else 20, arguments.clock) for name, loss in losses.items()}
    times = alternate(runs, arguments.rounds, warmup=0)  # the comparison above was one
    script = ["--threads", arguments.threads, "--batch", arguments.batch, "--width", arguments.width, "--memory"]
    grown = {name: in_child(__file__, *script, name) for name in MAKE}
    rows = [
        [name, f"{spread(found):.2f}", f"{ratios(found, times[OURS]):.1f}", f"{grown[name]:.1f}", *differences[name]]
        for name, found in times.items()
    ]
    head = ["loss", "ms", "times ours", "MiB grown", "loss differs by", "gradient differs by, of its largest"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
