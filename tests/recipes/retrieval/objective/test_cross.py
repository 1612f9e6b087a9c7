"""Losses of a cross-encoder on ragged lists of candidates, written out, and through the engine in chunks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch, pad
from quincunx.engine.step import Step
from quincunx.errors import DataError, RunError, UsageError
from quincunx.recipes.retrieval.data.cross_source import pairs_of
from quincunx.recipes.retrieval.objective.cross import KINDS, CrossEncoding
from toys import VOCABULARY, Encoder, cpu, plan


class Reader(nn.Module):
    """A score for each pair, from a toy encoder and the types."""

    padding = 0

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = Encoder(dropout)
        self.kinds = nn.Embedding(2, 1)
        self.head = nn.Linear(12, 1)

    def forward(self, tokens: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        assert types is not None
        valid = torch.arange(tokens.shape[1]) < lengths[:, None]
        return self.head(self.encoder(tokens, lengths))[:, 0] + (self.kinds(types)[..., 0] * valid).sum(1)


def lists(labels: list[list[float]], seed: int = 0) -> Batch:
    """Queries with a candidate for each label: pairs of 2 to 6 tokens packed one after another."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(map(len, labels))
    lengths = torch.zeros(len(labels), longest, dtype=torch.int64)
    mask, table = torch.zeros(len(labels), longest, dtype=torch.bool), torch.zeros(len(labels), longest)
    rows, types = [], []
    for row, grades in enumerate(labels):
        counts = torch.randint(2, 7, (len(grades),), generator=generator)
        lengths[row, : len(grades)], mask[row, : len(grades)] = counts, True
        table[row, : len(grades)] = torch.tensor(grades)
        rows.append(torch.randint(1, VOCABULARY, (int(counts.sum()),), generator=generator))
        types.append(torch.randint(0, 2, (int(counts.sum()),), generator=generator))
    tensors = {"tokens": pad(rows), "types": pad(types), "lengths": lengths, "mask": mask, "labels": table}
    whole = lengths.sum(1)
    ids = [f"query-{row}" for row in range(len(labels))]
    return Batch(tensors, torch.arange(len(labels)), ids, whole, frozenset({"tokens", "types"}))


RAGGED = [[1, 0, 0, 0], [1, 2, 0], [1], [3, 0], [1, 1]]
"""One query has no negatives but itself, another two positives and none."""


def written_out(kind: str, scores: list[Tensor], **options) -> tuple[Tensor, float]:
    total, count = scores[0].sum() * 0, 0.0
    weight = options.get("positive_weight", 1.0)
    for row, grades in zip(scores, RAGGED, strict=True):
        near = [s for s, grade in zip(row, grades, strict=True) if grade > 0]
        far = [s for s, grade in zip(row, grades, strict=True) if grade == 0]
        if kind == "pointwise":
            total = total - sum(weight * functional.logsigmoid(s) for s in near)
            total = total - sum(functional.logsigmoid(-s) for s in far)
            count += weight * len(near) + len(far)
        elif kind == "listwise":
            total = total + sum(torch.logsumexp(torch.stack([s, *far]), 0) - s for s in near)
            count += len(near)
        else:
            for s in near:
                for other in far:
                    margin = s - other
                    hinge = (options.get("margin", 1.0) - margin).clamp(min=0)
                    total = total + (functional.softplus(-margin) if kind == "pairwise" else hinge)
                    count += 1
    return total, count


@pytest.mark.parametrize("options", [{}, {"margin": 0.3}, {"positive_weight": 3.0}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_weights_written_out(kind, options):
    torch.manual_seed(0)
    model, batch = Reader().double(), lists(RAGGED)
    objective = CrossEncoding(kind=kind, **options)
    pairs = pairs_of(batch, 0)
    flat = model(pairs.tokens, pairs.lengths, pairs.types)
    wanted, count = written_out(kind, list(flat.split([len(row) for row in RAGGED])), **options)
    found = objective.loss(model, batch)["loss"]
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert objective.weights(batch) == {"loss": count}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_leave_the_gradient_as_it_is(kind, dropout):
    """With dropout too: each pair has a mask of its own, by its query's row and its place in the list."""
    torch.manual_seed(0)
    model, objective = Reader(dropout).double(), CrossEncoding(kind=kind)
    batches = [lists(RAGGED), lists(RAGGED[:2], 1)]

    def gradient(**cut) -> Tensor:
        one = copy.deepcopy(model)
        step = Step(one, objective, cpu(), plan(**cut), seed=5)
        step.gradient(0, batches)
        return torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])

    whole = gradient()
    for cut in ({"chunk_samples": 1}, {"chunk_samples": 2}, {"chunk_tokens": 25}):
        assert float((gradient(**cut) - whole).norm() / whole.norm()) <= 1e-12


def test_grades_may_be_targets():
    torch.manual_seed(0)
    model, batch = Reader().double(), lists([[3, 1, 0], [2]])
    objective = CrossEncoding(kind="pointwise", highest_grade=4)
    pairs = pairs_of(batch, 0)
    scores = model(pairs.tokens, pairs.lengths, pairs.types)
    targets = torch.tensor([0.75, 0.25, 0.0, 0.5], dtype=torch.float64)
    wanted = functional.binary_cross_entropy_with_logits(scores, targets, reduction="sum")
    assert objective.loss(model, batch)["loss"].item() == pytest.approx(wanted.item(), rel=1e-12)
    assert objective.weights(batch) == {"loss": 4}
    with pytest.raises(DataError, match=r"query 'query-0' has a document of grade 3; with highest_grade=2"):
        CrossEncoding(kind="pointwise", highest_grade=2).weights(batch)


def test_lists_without_negatives_teach_nothing():
    model, batch = Reader().double(), lists([[1], [1, 1]])
    step = Step(model, CrossEncoding(kind="listwise"), cpu(), plan(), seed=5)
    outcome = step.gradient(0, [batch])
    assert float(outcome.sums["loss"]) == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in step.parameters)
    with pytest.raises(RunError, match="nothing to learn from"):
        Step(model, CrossEncoding(kind="pairwise"), cpu(), plan(), seed=5).gradient(0, [batch])


def test_contradictions_are_refused():
    for text, options in {
        "one of pointwise, pairwise, hinge, listwise, found 'triplet'": {"kind": "triplet"},
        "are above 0, found 0": {"margin": 0},
        "highest_grade is for kind pointwise": {"highest_grade": 2.0},
    }.items():
        with pytest.raises(UsageError, match=text):
            CrossEncoding(**options)
