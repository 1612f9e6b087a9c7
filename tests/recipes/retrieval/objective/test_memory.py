"""Vectors of earlier batches as further columns: when they take part, what they hold, and what watches them."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn
from torch.nn import functional

from quincunx.engine.checkpoint import load_weights
from quincunx.engine.step import Step
from quincunx.errors import RunError, UsageError
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from quincunx.recipes.retrieval.objective.drift import DriftMonitor
from quincunx.recipes.retrieval.objective.keys import KeyEncoder
from quincunx.recipes.retrieval.objective.masks import Identity
from quincunx.recipes.retrieval.objective.memory import SIDES, Memory
from quincunx.recipes.retrieval.objective.queue import Queue
from reference import retrieval as reference
from retrieval_toys import Bi, Poly, drawn, known_hashes, make
from toys import WIDTH, Encoder, cpu, plan

BOTH = ("query_to_document", "document_to_query")


def memory(**changes) -> Memory:
    """A memory of 40; `smallest` as a number is meant for every side."""
    stored = SIDES.get(changes.get("kind", "passages"), ())
    smallest = changes.pop("smallest", 20)
    if isinstance(smallest, int):
        smallest = dict.fromkeys(stored, smallest)
    return Memory(**{"size": 40, "width": WIDTH, "smallest": smallest, **changes})


def started(objective: Contrastive, model: nn.Module | None = None, **cut):
    torch.manual_seed(0)
    model = model or Bi().double()
    objective.double().train()
    return model, Step(model, objective, cpu(), plan(**cut), seed=5)


def run(step: Step, objective: Contrastive, update: int, *batches) -> dict[str, float]:
    """One update without a change of weights; return its sums."""
    for parameter in step.parameters:
        parameter.grad = None
    outcome = step.gradient(update, list(batches))
    objective.after_update()
    return {term: float(value) for term, value in outcome.sums.items()}


def pair(first: int, count: int = 2):
    """A batch of queries and documents `first`, `first + 1`, ..., each relevant to the other of its number."""
    keys = list(range(first, first + count))
    return make(keys, keys, [(i, i) for i in range(count)])


def test_a_ring_holds_the_newest():
    queue = Queue(5, 2)
    stored: list[tuple[float, int]] = []
    for stamp, count in enumerate([2, 2, 3, 5, 1]):
        values = torch.arange(count) + 10.0 * stamp
        identity = Identity(values.long() + 100, values.long() + 200)
        queue.add(values[:, None].expand(count, 2), identity, stamp)
        stored = [*stored, *((float(value), stamp) for value in values)][-5:]
        vectors, names = queue.entries()
        assert len(queue) == len(stored)
        assert sorted(vectors[:, 0].tolist()) == sorted(value for value, _ in stored)
        assert (names.keys - 100).tolist() == (names.hashes - 200).tolist() == vectors[:, 0].tolist()
        for oldest in range(stamp + 2):
            young = queue.entries(oldest)[0][:, 0].tolist()
            assert sorted(young) == sorted(value for value, when in stored if when >= oldest)
    queue.clear()
    assert len(queue.entries()[0]) == 0


def test_the_loss_is_the_softmax_with_stored_columns():
    """Two updates of two logical batches, then one against everything that they held, written out."""
    objective = Contrastive(memory=memory(), known_pairs=known_hashes(), learn_temperature=True)
    model, step = started(objective)
    old = [drawn(4, seed) for seed in (1, 2, 3, 4)]
    run(step, objective, 0, *old[:2])
    run(step, objective, 1, *old[2:])
    batch = drawn(5, 5)
    found = run(step, objective, 2, batch)
    stored = [
        (model.encode(*_inputs(one, "document"), "document"), one.links["document_keys"], one.links["document_hashes"])
        for one in old
    ]
    vectors, keys, hashes = (torch.cat(parts)[-40:] for parts in zip(*stored, strict=True))
    entries = {"document": (vectors.detach(), keys.tolist(), hashes.tolist())}
    relevant = [(q, d) for q, d in known_hashes().tolist()]
    world = reference.World(batch.links, entries, relevant)
    queries, documents = (model.encode(*_inputs(batch, side), side) for side in ("query", "document"))
    wanted = reference.info_nce(queries, documents, world, stored=entries)["query_to_document"]
    # the learned temperature is a float32 logarithm of 0.05
    assert found["query_to_document"] == pytest.approx(wanted.item(), rel=1e-6)
    assert found["memory_entries"] == len(vectors)
    plain = reference.info_nce(queries, documents, reference.World(batch.links))["query_to_document"]
    assert wanted.item() > plain.item() * 1.05


def test_a_dual_memory_serves_both_directions():
    dual = memory(kind="dual")
    objective = Contrastive(memory=dual, directions=BOTH)
    model, step = started(objective)
    old, batch = drawn(6, 1), drawn(5, 2)
    run(step, objective, 0, old)
    found = run(step, objective, 1, batch)
    entries = {
        side: (
            model.encode(*_inputs(old, side), side).detach(),
            old.links[f"{side}_keys"].tolist(),
            old.links[f"{side}_hashes"].tolist(),
        )
        for side in ("query", "document")
    }
    queries, documents = (model.encode(*_inputs(batch, side), side) for side in ("query", "document"))
    world = reference.World(batch.links, entries)
    wanted = reference.info_nce(queries, documents, world, stored=entries, directions=BOTH)
    for direction in BOTH:
        assert found[direction] == pytest.approx(wanted[direction].item(), rel=1e-12)


def _inputs(batch, side: str):
    return batch.sides[side]["tokens"], batch.sides[side]["lengths"]


def test_a_memory_of_queries_serves_documents_that_look_for_queries():
    """The form of guide 000: documents are anchors, and queries of earlier batches their further negatives."""
    objective = Contrastive(memory=memory(kind="queries"), directions=["document_to_query"])
    model, step = started(objective)
    old, batch = drawn(6, 1), drawn(5, 2)
    run(step, objective, 0, old)
    found = run(step, objective, 1, batch)
    keys, hashes = (old.links[f"query_{name}"].tolist() for name in ("keys", "hashes"))
    entries = {"query": (model.encode(*_inputs(old, "query"), "query").detach(), keys, hashes)}
    queries, documents = (model.encode(*_inputs(batch, side), side) for side in ("query", "document"))
    world = reference.World(batch.links, entries)
    wanted = reference.info_nce(queries, documents, world, stored=entries, directions=["document_to_query"])
    plain = reference.info_nce(queries, documents, reference.World(batch.links), directions=["document_to_query"])
    assert found["document_to_query"] == pytest.approx(wanted["document_to_query"].item(), rel=1e-12)
    assert wanted["document_to_query"].item() > plain["document_to_query"].item() * 1.05


def test_anchors_learn_from_stored_columns_and_the_columns_take_no_gradient():
    """One pair alone has nothing to learn from but the memory."""
    objective = Contrastive(memory=memory())
    model, step = started(objective, Bi(shared=False).double())
    sums = run(step, objective, 0, pair(0, 1))
    assert sums["query_to_document"] == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in step.parameters)
    run(step, objective, 1, pair(5, 4))
    sums = run(step, objective, 2, pair(0, 1))
    assert sums["memory_entries"] == 5
    assert sums["negatives"] == 4  # its own document, stored at the first update, is masked
    assert sums["masked_pairs"] == 1
    assert sums["query_to_document"] > 0
    assert float(model.query.embedding.weight.grad.abs().sum()) > 0
    assert float(model.document.embedding.weight.grad.abs().sum()) > 0  # of the positive
    assert not any(buffer.requires_grad for buffer in objective.buffers())


@pytest.mark.parametrize("warmup", [0, 1, 2, 4])
def test_the_warm_up_is_so_many_updates_of_the_plain_loss(warmup):
    """Then the memory is there at once, full of what came last; the first update of all has nothing stored."""
    objective, plain = Contrastive(memory=memory(size=8, smallest=4, warmup=warmup)), Contrastive()
    _, step = started(objective)
    _, other = started(plain)
    for update in range(7):
        batches = [pair(4 * update, 4)]
        found, wanted = run(step, objective, update, *batches), run(other, plain, update, *batches)
        if update < max(warmup, 1):
            assert found["memory_entries"] == 0
            assert found["query_to_document"] == wanted["query_to_document"]
        else:
            assert found["memory_entries"] == min(8, 4 * update)
            assert found["query_to_document"] > wanted["query_to_document"]


def test_nothing_is_encoded_for_the_memory_before_it_would_last():
    """A key encoder costs a forward pass: during a long warm-up there is none until the last updates."""
    objective = Contrastive(memory=memory(size=8, smallest=4, warmup=9, keys=KeyEncoder(Bi(), 0.9)))
    _, step = started(objective)
    roles = []
    for update in range(11):
        roles.append(len(objective.parts(pair(0, 4))))
        run(step, objective, update, pair(4 * update, 4))
    assert roles == [2] * 7 + [3] * 4


def test_entries_older_than_the_limit_take_no_part():
    objective = Contrastive(memory=memory(age_limit=2))
    _, step = started(objective)
    entries = [run(step, objective, update, pair(3 * update, 3))["memory_entries"] for update in range(5)]
    assert entries == [0, 3, 6, 6, 6]


def test_logical_batches_are_stored_in_order_once_the_update_is_applied():
    objective = Contrastive(memory=memory(size=8, smallest=4))
    _, step = started(objective)
    step.gradient(0, [pair(0, 3), pair(3, 3), pair(6, 4)])
    queue = objective.memory.queue("document")
    assert len(queue) == 0
    objective.after_update()
    # 0 to 9 in a ring of 8
    assert queue.keys.tolist() == [8, 9, 2, 3, 4, 5, 6, 7]
    assert int(queue.position) == 2
    assert int(objective.memory.updates) == 1


def test_an_update_that_is_not_applied_leaves_nothing():
    objective = Contrastive(memory=memory())
    _, step = started(objective)
    step.gradient(0, [pair(0, 3)])
    objective.after_skip()
    step.gradient(1, [pair(3, 2)])
    objective.after_update()
    assert objective.memory.queue("document").entries()[1].keys.tolist() == [3, 4]
    assert int(objective.memory.updates) == 1


def test_evaluation_neither_uses_nor_changes_it():
    objective = Contrastive(memory=memory(keys=KeyEncoder(Bi().double(), 0.9), drift=_drift()), learn_temperature=True)
    model, step = started(objective)
    for update in range(3):
        run(step, objective, update, pair(4 * update, 4))
    before = copy.deepcopy(objective.state_dict())
    objective.eval()
    batch = pair(0, 4)
    assert [part.role for part in objective.parts(batch)] == ["query", "document"]
    with torch.no_grad():
        encoded = {part.role: objective.represent(model, part) for part in objective.parts(batch)}
        found = objective.loss(model, encoded, batch)
        wanted = Contrastive().loss(model, encoded, batch)
    assert float(found["query_to_document"]) == pytest.approx(float(wanted["query_to_document"]), rel=1e-6)
    assert float(found["memory_entries"]) == 0
    objective.train()
    for key, value in objective.state_dict().items():
        assert torch.equal(value, before[key]), key
    # nor does it leave anything behind for the next update
    objective.after_update()
    assert torch.equal(objective.memory.queue("document").vectors, before["memory.queues.document.vectors"])


def _drift(**changes) -> DriftMonitor:
    return DriftMonitor(40, **{"every": 2, "threshold": 0.5, "sample": 8, "longest": 8, **changes})


@pytest.mark.parametrize("kind", ["passages", "queries", "dual"])
def test_a_resumed_memory_goes_on_bit_for_bit(kind):
    def fresh():
        torch.manual_seed(1)
        model = Bi(shared=False, dropout=0.2)
        keys = KeyEncoder(model, 0.9, SIDES[kind])
        objective = Contrastive(memory=memory(keys=keys, drift=_drift(), kind=kind), directions=BOTH)
        model.train()
        objective.train()
        return model, objective, Step(model, objective, cpu(), plan(chunk_samples=3), seed=5)

    def go(model, objective, step, start, stop):
        optimizer = torch.optim.SGD(step.parameters, lr=0.1)
        for update in range(start, stop):
            optimizer.zero_grad()
            step.gradient(update, [drawn(5, update), drawn(4, update + 50)])
            optimizer.step()
            objective.after_update()

    model, objective, step = fresh()
    go(model, objective, step, 0, 4)
    saved = copy.deepcopy((model.state_dict(), objective.state_dict()))
    go(model, objective, step, 4, 7)
    other, again, step = fresh()
    load_weights(other, saved[0], "model")
    load_weights(again, saved[1], "objective")
    go(other, again, step, 4, 7)
    for mine, theirs in ((other, model), (again, objective)):
        for key, value in theirs.state_dict().items():
            assert torch.equal(mine.state_dict()[key], value), key


def test_the_key_encoder_is_a_moving_average_that_begins_after_the_first_update():
    objective = Contrastive(memory=memory(keys=KeyEncoder(Bi(shared=False, dropout=0.3), 0.75)))
    model, step = started(objective, Bi(shared=False, dropout=0.3).double())
    model.train()
    weights = []
    for update in range(3):
        for parameter in model.parameters():
            parameter.data.add_(0.01 * (update + 1))
        run(step, objective, update, pair(3 * update, 3))
        weights.append(copy.deepcopy(model.document.state_dict()))
    wanted = {key: value.clone() for key, value in weights[0].items()}
    for later in weights[1:]:
        wanted = {key: 0.75 * value + 0.25 * later[key] for key, value in wanted.items()}
    keys = objective.memory.keys
    for key, value in keys.model.document.state_dict().items():
        assert torch.allclose(value, wanted[key], atol=1e-14)
    assert isinstance(keys.model.query, nn.Identity)  # it stores documents only
    assert not keys.model.training
    assert not any(parameter.requires_grad for parameter in keys.parameters())
    # the first batch is not stored, the second was encoded by what the encoder was before it, without dropout
    vectors, identity = objective.memory.queue("document").entries()
    assert identity.keys.tolist() == [3, 4, 5, 6, 7, 8]
    plain = Encoder().double().eval()
    plain.load_state_dict(weights[0])
    assert torch.allclose(vectors[:3], plain(*_inputs(pair(3, 3), "document")), atol=1e-12)


def test_what_the_key_encoder_encodes_is_not_encoded_again_when_graphs_are_replayed():
    objective = Contrastive(memory=memory(keys=KeyEncoder(Bi().double(), 0.9)))
    _, step = started(objective, chunk_samples=2, graphs="replay")
    run(step, objective, 0, pair(0, 4))
    calls = []
    objective.memory.keys.model.document.register_forward_hook(lambda *_: calls.append(1))
    run(step, objective, 1, pair(4, 4))
    assert len(calls) == 2


def test_a_shared_or_separate_encoder_is_copied_as_it_is():
    keys = KeyEncoder(Bi(shared=True), 0.9, ("document", "query"))
    assert keys.model.query is keys.model.document
    keys = KeyEncoder(Bi(shared=False), 0.9, ("document", "query"))
    assert keys.model.query is not keys.model.document
    assert keys.train().model.training is False
    with pytest.raises(UsageError, match=r"at least 0 and below 1, found 1\.0"):
        KeyEncoder(Bi(), 1.0)


def test_the_drift_is_the_mean_cosine_of_evenly_spaced_entries_with_their_texts_encoded_anew():
    drift = _drift(every=3, sample=4)
    objective = Contrastive(memory=memory(drift=drift))
    model, step = started(objective, Bi(dropout=0.4).double())
    model.train()
    measured = []
    stored, texts = [], []
    for update in range(4):
        batch = pair(10 * update, 10)
        if update == 3:
            stored = objective.memory.queue("document").vectors.clone()
            for parameter in model.parameters():
                parameter.data.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
        else:
            texts.append(batch)
        measured.append(run(step, objective, update, batch).get("memory_drift"))
    model.eval()
    fresh = torch.cat([model.encode(*_inputs(batch, "document"), "document") for batch in texts])
    places = [0, 10, 20]  # the fourth, 30, is not filled yet
    wanted = functional.cosine_similarity(stored[places], fresh[places], dim=1).mean()
    assert measured[:3] == [None] * 3
    assert measured[3] == pytest.approx(wanted.item(), rel=1e-12)
    assert model.document.drop.training is False


def test_modes_are_put_back_after_a_measurement():
    objective = Contrastive(memory=memory(drift=_drift(every=1)))
    model, step = started(objective, Bi(dropout=0.4).double())
    model.train()
    model.document.drop.eval()
    modes = [module.training for module in model.modules()]
    run(step, objective, 0, pair(0, 4))
    assert "memory_drift" in run(step, objective, 1, pair(4, 4))
    assert [module.training for module in model.modules()] == modes


def test_a_memory_that_has_drifted_is_emptied_pauses_and_resumes_when_it_is_full(caplog):
    drift = DriftMonitor(8, every=1, threshold=0.9, sample=4, longest=8)
    objective = Contrastive(memory=memory(size=8, smallest=4, drift=drift))
    model, step = started(objective)
    entries = []
    with caplog.at_level(logging.WARNING, logger="quincunx"):
        for update in range(8):
            if update == 3:
                for parameter in model.parameters():
                    parameter.data.copy_(torch.randn(parameter.shape, dtype=torch.float64))
            entries.append(run(step, objective, update, pair(4 * update, 4))["memory_entries"])
    # measured in update 3, whose own entries are the first of the new filling; full after update 4
    assert entries == [0, 4, 8, 8, 0, 8, 8, 8]
    paused, resumed = (record.getMessage() for record in caplog.records)
    assert paused.startswith("update 4: stored vectors have a mean cosine of ")
    assert "below memory.drift's threshold of 0.900" in paused
    assert resumed == "update 5: the memory is full again and takes part in the loss"


def test_the_drift_is_measured_once_an_update():
    objective = Contrastive(memory=memory(drift=_drift(every=1)))
    _, step = started(objective)
    run(step, objective, 0, pair(0, 4))
    batches = [pair(4, 4), pair(8, 4)]
    outcome = step.gradient(1, batches)
    assert outcome.weights["memory_drift"] == 2
    assert float(outcome.sums["memory_drift"]) / 2 == pytest.approx(1.0)
    assert [part.role for part in objective.parts(pair(12, 4))] == ["query", "document"]


def test_texts_longer_than_the_monitor_keeps_are_left_out():
    drift = DriftMonitor(4, every=1, threshold=0.0, sample=4, longest=3)
    drift.keep(torch.tensor([0, 1, 2]), torch.ones(3, 5, dtype=torch.int64), torch.tensor([2, 5, 3]))
    assert drift.texts()["tokens"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert drift.texts().lengths.tolist() == [2, 3]


def test_a_poly_encoder_stores_documents():
    objective = Contrastive(poly=True, similarity=None, temperature=1.0, memory=memory())
    model, step = started(objective, Poly().double())
    run(step, objective, 0, pair(0, 4))
    found = run(step, objective, 1, pair(4, 4))
    assert found["memory_entries"] == 4
    assert found["negatives"] == 4 * 7
    vectors = objective.memory.queue("document").vectors[:4]
    assert torch.equal(vectors, model.encode_document(*_inputs(pair(0, 4), "document")))


def test_what_cannot_be_is_refused():
    cases = {
        "40 texts of side document is smaller than one logical batch, which holds up to 41": {"smallest": 41},
        "40 texts of side query is smaller .* 41": {"kind": "dual", "smallest": {"document": 9, "query": 41}},
        "of kind passages or queries or dual, found 'both'": {"kind": "both"},
        "dual stores document and query, but smallest names document": {"kind": "dual", "smallest": {"document": 9}},
        "queries stores query, but smallest names nothing": {"kind": "queries", "smallest": {}},
        "warmup=-1": {"warmup": -1},
        "age_limit=0": {"age_limit": 0},
        "a drift monitor of 40 entries watches a memory of 50": {"size": 50, "drift": _drift()},
    }
    for text, changes in cases.items():
        with pytest.raises(UsageError, match=text):
            memory(**changes)
    for changes in ({"every": 0}, {"sample": 41}, {"sample": 0}, {"longest": 0}, {"threshold": 1.5}):
        with pytest.raises(UsageError, match="a drift monitor of a memory of 40 entries was given"):
            _drift(**changes)


def test_a_batch_larger_than_was_promised_stops_the_run():
    objective = Contrastive(memory=memory(size=4, smallest=4))
    _, step = started(objective)
    with pytest.raises(RunError, match="5 texts of side document, the memory holds 4"):
        step.gradient(0, [pair(0, 5)])
