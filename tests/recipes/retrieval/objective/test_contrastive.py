"""The whole objective through the engine: chunks, parts, terms and widths."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from quincunx.engine.step import Step
from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from quincunx.recipes.retrieval.objective.drift import DriftMonitor
from quincunx.recipes.retrieval.objective.keys import KeyEncoder
from quincunx.recipes.retrieval.objective.memory import SIDES, Memory
from quincunx.recipes.retrieval.objective.metric_learning import MetricLearning
from reference import retrieval as reference
from retrieval_toys import Bi, Poly, drawn, known_hashes, make
from toys import WIDTH, cpu, plan

CUTS = [{"chunk_samples": 1}, {"chunk_samples": 4, "graphs": "keep"}, {"chunk_tokens": 17}]
BOTH = ("query_to_document", "document_to_query")


def memory(model: nn.Module | None = None, drift: bool = False, **changes) -> Memory:
    """A memory of 40 documents; `model` gives it a key encoder."""
    sides = SIDES[changes.get("kind", "passages")]
    settings = {
        "size": 40,
        "width": WIDTH,
        "smallest": dict.fromkeys(sides, 30),
        "keys": KeyEncoder(model, 0.9, sides) if model is not None else None,
        "drift": DriftMonitor(40, every=2, threshold=-1.0, sample=8, longest=8) if drift else None,
    }
    return Memory(**{**settings, **changes})


def dual(model: nn.Module | None = None, **changes) -> Memory:
    return memory(model, kind="dual", **changes)


SETTINGS = {
    "plain": lambda model: Contrastive(),
    "learned temperature": lambda model: Contrastive(learn_temperature=True, directions=BOTH),
    "all directions, joint": lambda model: Contrastive(
        directions=["query_to_document", "document_to_query", "query_to_query", "document_to_document"],
        partition="joint",
    ),
    "together, dot": lambda model: Contrastive(
        positives="together", similarity="dot", temperature=2.0, directions=BOTH
    ),
    "explicit negatives alone": lambda model: Contrastive(in_batch=False),
    "hardness": lambda model: Contrastive(hardness=2.0),
    "widths": lambda model: Contrastive(widths={4: 0.5, 12: 1.0}, directions=BOTH),
    "distillation": lambda model: Contrastive(
        losses={"infonce": 1.0, "margin_mse": 0.1, "kl": 0.5}, teacher_temperature=2.0
    ),
    "library": lambda model: Contrastive(
        losses={"metric_learning": 1.0},
        metric_learning=MetricLearning("MultiSimilarityLoss", miner="MultiSimilarityMiner"),
        directions=BOTH,
    ),
    "memory": lambda model: Contrastive(memory=memory(), known_pairs=known_hashes()),
    "memory, widths": lambda model: Contrastive(memory=memory(age_limit=2), widths={5: 1.0, 12: 1.0}),
    "dual memory": lambda model: Contrastive(memory=dual(), directions=BOTH),
    "dual memory, all directions": lambda model: Contrastive(
        memory=dual(), directions=["query_to_document", "document_to_query", "query_to_query", "document_to_document"]
    ),
    "key encoder": lambda model: Contrastive(memory=memory(model)),
    "dual key encoder": lambda model: Contrastive(memory=dual(model), directions=BOTH),
    "drift": lambda model: Contrastive(memory=memory(drift=True)),
    "key encoder, drift": lambda model: Contrastive(memory=memory(model, drift=True)),
}


def batches(update: int, scored: bool = True):
    """Two logical batches of an update, the second shorter."""
    return [drawn(7, 10 * update, scored=scored), drawn(4, 10 * update + 1, scored=scored)]


def train(model: nn.Module, objective: Contrastive, updates: int = 3, **cut):
    """Train for a few updates; return the gradients and sums of all, and the state at the end."""
    model, objective = copy.deepcopy(model), copy.deepcopy(objective)
    step = Step(model, objective, cpu(), plan(**cut), seed=5)
    model.train()
    objective.train()
    optimizer = torch.optim.SGD(step.parameters, lr=0.05)
    found: list[torch.Tensor] = []
    sums: list[dict[str, float]] = []
    for update in range(updates):
        optimizer.zero_grad()
        outcome = step.gradient(update, batches(update))
        found += [p.grad.flatten().clone() for p in step.parameters if p.grad is not None]
        sums.append({term: float(value) for term, value in outcome.sums.items()})
        optimizer.step()
        objective.after_update()
    return torch.cat(found), sums, {**model.state_dict(), **objective.state_dict()}


@pytest.mark.parametrize("sides", ["shared in one pass", "separate"])
@pytest.mark.parametrize("name", SETTINGS)
def test_chunks_leave_gradients_and_state_as_they_are(name, sides):
    """Dropout on, two logical batches an update, over updates in which a memory fills, is used and is measured."""
    torch.manual_seed(0)
    model = Bi(shared=sides != "separate", dropout=0.2).double()
    objective = SETTINGS[name](model).double()
    if sides == "shared in one pass":
        objective.options = copy.copy(objective.options)
        object.__setattr__(objective.options, "one_pass", True)
    whole, sums, state = train(model, objective)
    assert ("memory_entries" in sums[-1]) == ("memory" in name or "key" in name or "drift" in name)
    assert sums[-1].get("memory_entries", 1) > 0
    assert ("memory_drift" in sums[-1]) == ("drift" in name)
    for cut in CUTS:
        found, other, after = train(model, objective, **cut)
        assert float((found - whole).norm() / whole.norm()) <= 1e-12
        for mine, theirs in zip(other, sums, strict=True):
            assert mine == {term: pytest.approx(value, rel=1e-12, abs=1e-12) for term, value in theirs.items()}
        for key, value in state.items():
            assert torch.allclose(after[key].double(), value.double(), rtol=1e-12, atol=1e-13), key


@pytest.mark.parametrize("keep_states", [False, True], ids=["first-m", "all"])
@pytest.mark.parametrize("stored", [False, True], ids=["in batch", "memory"])
def test_chunks_leave_a_poly_encoder_as_it_is(stored, keep_states):
    torch.manual_seed(0)
    model = Poly(None if keep_states else 3, dropout=0.2).double()
    objective = Contrastive(
        poly=True,
        keep_states=keep_states,
        similarity=None,
        temperature=1.0,
        directions=BOTH,
        memory=memory(model, drift=True) if stored else None,
        widths={6: 1.0, 12: 1.0},
    ).double()
    whole, _, _ = train(model, objective)
    for cut in CUTS:
        found, _, _ = train(model, objective, **cut)
        assert float((found - whole).norm() / whole.norm()) <= 1e-12


def test_poly_scores_come_from_the_model():
    """Both directions of one batch, against scores taken apart, with documents of a memory as further columns."""
    torch.manual_seed(0)
    model = Poly(3).double()
    batch, more = drawn(5, 1), drawn(5, 2)
    stored = memory().double()
    objective = Contrastive(poly=True, similarity=None, temperature=2.0, directions=BOTH, memory=stored).double()
    step = Step(model, objective, cpu(), plan(), seed=5)
    step.gradient(0, [more])
    objective.after_update()
    sums = step.gradient(1, [batch]).sums
    codes, mask = model.encode_query(batch.sides["query"]["tokens"], batch.sides["query"]["lengths"])
    documents = model.encode_document(batch.sides["document"]["tokens"], batch.sides["document"]["lengths"])
    old = model.encode_document(more.sides["document"]["tokens"], more.sides["document"]["lengths"])
    identity = more.links["document_keys"].tolist(), more.links["document_hashes"].tolist()
    world = reference.World(batch.links, {"document": (old, *identity)})
    # a score is whatever the model says: each entry of the reference's products, by unit vectors
    scores = model.score(codes, mask, torch.cat([documents, old])) / 2.0
    for direction in BOTH:
        total = 0.0
        for q, d in world.positives:
            row = q if direction == "query_to_document" else d
            columns = world.negatives(direction, row)
            below = [scores[q, j] if direction == "query_to_document" else scores[j, d] for j in columns]
            total += float((torch.logsumexp(torch.stack([scores[q, d], *below]), 0) - scores[q, d]).detach())
        assert float(sums[direction]) == pytest.approx(total, rel=1e-12)


def test_one_pass_is_one_part_with_rows_of_its_own():
    batch = drawn(6, 0)
    queries, documents = batch.sides["query"], batch.sides["document"]
    (part,) = Contrastive(one_pass=True).parts(batch)
    assert part.role == "text"
    assert part.batch.rows.tolist() == list(range(len(queries) + len(documents)))
    assert part.batch.lengths.tolist() == queries.lengths.tolist() + documents.lengths.tolist()
    for row, (side, index) in enumerate(
        [(queries, i) for i in range(len(queries))] + [(documents, i) for i in range(len(documents))]
    ):
        length = int(side.lengths[index])
        assert part.batch["tokens"][row, :length].tolist() == side["tokens"][index, :length].tolist()
    assert [part.role for part in Contrastive().parts(batch)] == ["query", "document"]


def test_one_pass_equals_two():
    torch.manual_seed(0)
    model = Bi().double()
    one, _, _ = train(model, Contrastive(one_pass=True).double(), chunk_samples=4)
    two, _, _ = train(model, Contrastive().double())
    assert float((one - two).norm() / two.norm()) <= 1e-12


def test_matryoshka_is_the_weighted_sum_of_the_losses_on_leading_dimensions():
    torch.manual_seed(0)
    batch = drawn(6, 3)
    queries = torch.randn(len(batch.sides["query"]), 8, dtype=torch.float64)
    documents = torch.randn(len(batch.sides["document"]), 8, dtype=torch.float64)

    def total(width: int, **options) -> float:
        vectors = {"query": {"vector": queries[:, :width]}, "document": {"vector": documents[:, :width]}}
        return float(Contrastive(**options).loss(nn.Identity(), vectors, batch)["query_to_document"])

    found = total(8, widths={2: 0.5, 5: 1.0, 8: 2.0})
    assert found == pytest.approx(0.5 * total(2) + total(5) + 2 * total(8), rel=1e-12)
    with pytest.raises(UsageError, match=r"width of 9 .* vectors have 8"):
        total(8, widths={9: 1.0})


def test_a_learned_temperature_stays_in_its_range_and_keeps_its_gradient():
    torch.manual_seed(0)
    model = Bi().double()
    objective = Contrastive(learn_temperature=True, temperature=0.05, temperature_range=(0.02, 0.06)).double()
    step = Step(model, objective, cpu(), plan(), seed=5)
    (parameter,) = objective.parameters()
    for target, wanted in ((5.0, 0.06), (-50.0, 0.02)):
        with torch.no_grad():
            parameter.fill_(target)
        objective.after_update()
        assert float(objective.temperature.value()) == pytest.approx(wanted)
        parameter.grad = None
        outcome = step.gradient(0, [drawn(5)])
        assert float(parameter.grad) != 0
        assert float(outcome.sums["temperature"]) == pytest.approx(wanted)
    with pytest.raises(UsageError, match=r"0\.5, outside its range"):
        Contrastive(learn_temperature=True, temperature=0.5, temperature_range=(0.02, 0.06))
    with pytest.raises(UsageError, match="temperature must be positive, found 0"):
        Contrastive(temperature=0)


def test_a_batch_without_positives_is_refused():
    with pytest.raises(DataError, match="the first of them 'text-0', has no positive pair"):
        Contrastive().weights(make([0, 1], [0, 1], []))


REFUSED = {
    "losses: found 'infonse'": {"losses": {"infonse": 1.0}},
    "losses: found nothing": {"losses": {}},
    "losses: found -1": {"losses": {"infonce": -1.0}},
    "directions: found 'q2d'": {"directions": ["q2d"]},
    "directions: found nothing": {"directions": []},
    "partition: found 'jointly'": {"partition": "jointly"},
    "positives: found 'sum'": {"positives": "sum"},
    "similarity: found 'euclid'": {"similarity": "euclid"},
    "widths: found 0.0": {"widths": {4: 0.0}},
    "widths are at least 1": {"widths": {0: 1.0}},
    "widths is empty": {"widths": {}},
    "teacher_temperature": {"teacher_temperature": 0.0},
    "hardness is at least 0": {"hardness": -1.0},
    "similarity is 'cosine' and should be None": {"poly": True},
    "poly and one_pass": {"poly": True, "similarity": None, "one_pass": True},
    "poly and the directions query_to_query": {"poly": True, "similarity": None, "directions": ["query_to_query"]},
    "keep_states without poly": {"keep_states": True},
    "joint and positives together": {"partition": "joint", "positives": "together"},
    "one softmax leaves nothing to weigh": {"partition": "joint", "directions": dict(zip(BOTH, (1, 2), strict=True))},
    "no text has any of its side": {"in_batch": False, "directions": ["query_to_query"]},
    "hardness without infonce": {"losses": {"kl": 1.0}, "hardness": 1.0},
    "need each other": {"losses": {"metric_learning": 1.0}},
}


@pytest.mark.parametrize("text", REFUSED)
def test_contradictions_are_refused(text):
    with pytest.raises(UsageError, match=text):
        Contrastive(**REFUSED[text])


def test_contradictions_with_a_memory_are_refused():
    for text, options in {
        "in_batch false and a memory": {"memory": memory(), "in_batch": False},
        "a memory without infonce": {"memory": memory(), "losses": {"kl": 1.0}},
        "none compares anything with documents": {"memory": memory(), "directions": ["document_to_query"]},
        "none compares with queries": {"memory": dual()},
        "a dual memory and poly": {"memory": dual(), "poly": True, "similarity": None, "directions": BOTH},
    }.items():
        with pytest.raises(UsageError, match=text):
            Contrastive(**options)
    library = MetricLearning("TripletMarginLoss")
    losses = {"metric_learning": 1.0}
    with pytest.raises(UsageError, match="poly and metric_learning"):
        Contrastive(poly=True, similarity=None, metric_learning=library, losses=losses)
    with pytest.raises(UsageError, match="in_batch false and metric_learning"):
        Contrastive(in_batch=False, metric_learning=library, losses=losses)
