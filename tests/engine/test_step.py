"""The gradient of an update does not depend on how its logical batches are cut."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn

from quincunx.data.batch import Batch
from quincunx.engine.graphs import Budget
from quincunx.engine.objective import Objective
from quincunx.engine.step import Outcome, Step
from quincunx.errors import RunError
from toys import Contrastive, Encoder, TwoTerms, cpu, labelled, pairs, plan

CUTS = [
    {"chunk_samples": 1},
    {"chunk_samples": 3},
    {"chunk_samples": 7},
    {"chunk_samples": 100},
    {"chunk_tokens": 12},
    {"chunk_tokens": 30, "chunk_samples": 4},
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def gradients(
    model: nn.Module, objective: Objective, batches: list[Batch], **changes: object
) -> tuple[dict[str, Tensor], Outcome]:
    model, objective = copy.deepcopy(model), copy.deepcopy(objective)
    outcome = Step(model, objective, cpu(), plan(**changes), seed=5).gradient(3, batches)
    named = [*model.named_parameters(), *((f"objective.{n}", p) for n, p in objective.named_parameters())]
    return {name: p.grad for name, p in named if p.grad is not None}, outcome


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert found.keys() == wanted.keys()
    difference = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted])
    return float(difference.norm() / torch.cat([value.flatten() for value in wanted.values()]).norm())


@pytest.fixture(params=["summed", "represented"])
def setting(request: pytest.FixtureRequest) -> tuple[nn.Module, Objective, list[Batch]]:
    torch.manual_seed(0)
    if request.param == "summed":
        return Encoder(), TwoTerms(), [labelled(10), labelled(10, 1), labelled(4, 2)]
    return Encoder(), Contrastive(), [pairs(10), pairs(10, 1), pairs(4, 2)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_chunks_leave_the_gradient_as_it_is(setting, cut, dtype):
    """With dropout on, two logical batches and a short one, for every way to cut them."""
    model, objective, batches = setting
    model, objective = model.to(dtype), objective.to(dtype)
    whole, outcome = gradients(model, objective, batches)
    found, other = gradients(model, objective, batches, **cut)
    assert distance(found, whole) <= TOLERANCE[dtype]
    for term, total in outcome.sums.items():
        assert float(other.sums[term]) == pytest.approx(float(total), rel=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("graphs", ["keep", "replay"])
def test_kept_and_replayed_graphs_agree(graphs):
    torch.manual_seed(0)
    model, objective, batches = Encoder().double(), Contrastive().double(), [pairs(10)]
    whole, _ = gradients(model, objective, batches)
    found, _ = gradients(model, objective, batches, chunk_samples=3, graphs=graphs)
    assert distance(found, whole) <= 1e-12


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_graphs_are_kept_while_they_fit_and_replayed_beyond(compiled):
    """Four chunks a side; the gradient is the same to the last bit wherever the limit falls."""

    class Watch(Contrastive):
        def represent(self, model, rows):
            seen.append(rows.role)
            return super().represent(model, rows)

    found, passes = [], []
    for limit in (0, 1, 10_000, 2**30):
        torch.manual_seed(0)
        model, objective, seen = Encoder().double(), Watch().double(), []
        if compiled:
            model.compile(backend="aot_eager", dynamic=True)
        step = Step(model, objective, cpu(), plan(chunk_samples=3, graphs="auto"), seed=5)
        step._graph_limit = limit
        step.gradient(0, [pairs(10)])
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
        passes.append(len(seen))
    assert passes[0] == 16 and passes[-1] == 8, "each chunk once, and once more where it is replayed"
    assert 8 < passes[2] < 16
    for other in found[1:]:
        assert all(torch.equal(other[name], found[0][name]) for name in found[0])


def test_the_budget_counts_each_tensor_once_and_leaves_weights_out():
    layer = nn.Linear(100, 100)
    x = torch.randn(50, 100, requires_grad=True)
    budget = Budget("auto", 10**6, (layer,))
    with budget.counting():
        y = layer(x)
        z = (y * y).sum() + (y * x).sum()
    assert 10**6 - budget.left == 2 * 50 * 100 * 4, "x and y; the weight is in memory anyway"
    assert z.requires_grad
    with Budget("auto", 1, (layer,)).counting():
        layer(x)


def test_a_graph_that_does_not_fit_goes_at_once():
    """Operations like exp save what they gave, which refers back to them."""
    x = torch.randn(50, 100, requires_grad=True)
    with Budget("auto", 1, ()).counting():
        y = torch.softmax(x.exp(), -1)
    given = weakref.ref(y)
    assert given() is y
    del y
    assert given() is None


def test_summed_gradient_is_that_of_the_written_out_loss():
    """Against autograd on sums over weights, written out by hand, dropout off."""
    torch.manual_seed(0)
    model, objective = Encoder(dropout=0.0).double(), TwoTerms().double()
    batches = [labelled(10), labelled(3, 1)]
    found, _ = gradients(model, objective, batches, chunk_samples=2)
    losses = [objective.loss(model, batch) for batch in batches]
    tokens = sum(float(batch["lengths"].sum()) for batch in batches)
    total = sum(loss["classes"] for loss in losses) / 13 + 0.1 * sum(loss["size"] for loss in losses) / tokens
    named = dict(model.named_parameters()) | {f"objective.{n}": p for n, p in objective.named_parameters()}
    wanted = dict(zip(named, torch.autograd.grad(total, list(named.values())), strict=True))
    assert distance(found, wanted) <= 1e-12


def test_represented_gradient_is_that_of_the_written_out_loss():
    """Against autograd through the whole batch at once; two logical batches weigh by their pairs."""
    torch.manual_seed(0)
    model, objective = Encoder(dropout=0.0).double(), Contrastive().double()
    batches = [pairs(10), pairs(4, 1)]
    found, _ = gradients(model, objective, batches, chunk_samples=3)
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        encoded = {part.role: objective.represent(model, part) for part in objective.parts(batch)}
        total = total + objective.loss(model, encoded, batch)["loss"] / 14
    named = dict(model.named_parameters()) | {f"objective.{n}": p for n, p in objective.named_parameters()}
    wanted = dict(zip(named, torch.autograd.grad(total, list(named.values())), strict=True))
    assert distance(found, wanted) <= 1e-12


def test_masks_change_from_update_to_update_and_batch_to_batch():
    torch.manual_seed(0)
    model, objective = Encoder().double(), TwoTerms().double()
    step = Step(model, objective, cpu(), plan(), seed=5)
    sums = []
    for update in (0, 1):
        outcome = step.gradient(update, [labelled(10)])
        sums.append(float(outcome.sums["classes"]))
    twice = step.gradient(0, [labelled(10), labelled(10)])
    assert sums[0] != sums[1]
    assert float(twice.sums["classes"]) != pytest.approx(2 * sums[0], abs=1e-9)


def test_two_roles_draw_different_masks_for_the_same_row():
    """A query and a document in row 0 with the same tokens must not be dropped alike."""
    torch.manual_seed(0)
    model, seen = Encoder(dropout=0.5).double(), {}

    class Watch(Contrastive):
        def loss(self, model, representations, batch):
            seen.update({role: values["vector"].detach() for role, values in representations.items()})
            return super().loss(model, representations, batch)

    batch = pairs(6)
    same = {**batch.tensors, "document_tokens": batch["query_tokens"], "document_lengths": batch["query_lengths"]}
    Step(model, Watch().double(), cpu(), plan(), seed=5).gradient(0, [Batch(same, batch.rows, batch.ids)])
    assert not torch.allclose(seen["query"], seen["document"])


def test_foreign_dropout_repeats_for_the_same_chunks_and_ignores_the_global_generator():
    class Foreign(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.late_drop = nn.Dropout(0.3), nn.Dropout(0.3)

    torch.manual_seed(0)
    model, objective = Foreign().double(), Contrastive().double()
    first, _ = gradients(model, objective, [pairs(10)], chunk_samples=3, graphs="replay")
    torch.rand(17)
    second, _ = gradients(model, objective, [pairs(10)], chunk_samples=3, graphs="replay")
    kept, _ = gradients(model, objective, [pairs(10)], chunk_samples=3, graphs="keep")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert distance(kept, first) <= 1e-12


def test_batch_statistics_refuse_a_cut_batch():
    class WithStatistics(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.statistics = nn.BatchNorm1d(WIDTH_OF_STATISTICS)

        def forward(self, tokens, lengths):
            return self.statistics(super().forward(tokens, lengths))

    model, objective = WithStatistics(), TwoTerms()
    gradients(model, objective, [labelled(10)])
    with pytest.raises(RunError, match=r"statistics \(BatchNorm1d\).*eval mode"):
        gradients(model, objective, [labelled(10)], chunk_samples=4)
    model.statistics.eval()
    gradients(model, objective, [labelled(10)], chunk_samples=4)


WIDTH_OF_STATISTICS = 12


def test_an_update_without_weight_is_refused():
    class Nothing(TwoTerms):
        def weights(self, batch):
            return {"classes": 0.0, "size": 0.0}

    with pytest.raises(RunError, match="nothing to learn from"):
        gradients(Encoder(), Nothing(), [labelled(4)])
