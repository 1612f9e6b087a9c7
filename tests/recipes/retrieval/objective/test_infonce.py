"""InfoNCE on a masked score matrix against the same written out, and against two libraries."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from quincunx.recipes.retrieval.objective.counts import DIRECTIONS
from quincunx.recipes.retrieval.objective.infonce import info_nce, log_negatives, log_sum_exp_by
from reference import retrieval as reference
from retrieval_toys import drawn, make

D = 7


def vectors(batch, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    counts = len(batch.sides["query"]), len(batch.sides["document"])
    return tuple(torch.randn(n, D, generator=generator, dtype=torch.float64, requires_grad=True) for n in counts)


def losses(objective: Contrastive, queries: Tensor, documents: Tensor, batch) -> dict[str, Tensor]:
    """The objective's sums on given vectors."""
    representations = {"query": {"vector": queries}, "document": {"vector": documents}}
    return objective.loss(torch.nn.Identity(), representations, batch)


def pairs_batch(count: int):
    """One positive for each query, nothing in common."""
    return make(list(range(count)), list(range(count)), [(i, i) for i in range(count)])


@given(
    st.integers(0, 100),
    st.lists(st.sampled_from(sorted(DIRECTIONS)), min_size=1, max_size=4, unique=True),
    st.sampled_from(["each", "together", "joint"]),
    st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_sums_and_gradients_are_those_written_out(seed, directions, form, cosine):
    """Over ragged batches with copies and shared positives, every set of directions, both ways to treat positives."""
    batch = drawn(5, seed, positives=3, negatives=2)
    queries, documents = vectors(batch, seed)
    options = {"partition": "joint" if form == "joint" else "separate"}
    options["positives"] = "each" if form == "joint" else form
    objective = Contrastive(
        directions=directions, similarity="cosine" if cosine else "dot", temperature=0.5, **options
    ).double()
    found = losses(objective, queries, documents, batch)
    wanted = reference.info_nce(
        queries,
        documents,
        reference.World(batch.links),
        directions=directions,
        cosine=cosine,
        temperature=0.5,
        **options,
    )
    for term, value in wanted.items():
        assert found[term].item() == pytest.approx(value.item(), rel=1e-12, abs=1e-12)
        mine, theirs = (torch.autograd.grad(x, [queries, documents], retain_graph=True) for x in (found[term], value))
        for left, right in zip(mine, theirs, strict=True):
            assert torch.allclose(left, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("positives", ["each", "together"])
def test_only_explicit_negatives(positives):
    for seed in range(8):
        batch = drawn(6, seed, positives=2, negatives=3)
        queries, documents = vectors(batch, seed)
        found = losses(Contrastive(in_batch=False, positives=positives).double(), queries, documents, batch)
        world = reference.World(batch.links)
        wanted = reference.info_nce(queries, documents, world, in_batch=False, positives=positives)
        assert found["query_to_document"].item() == pytest.approx(wanted["query_to_document"].item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_pytorch_metric_learning(dtype, temperature):
    """NTXent with queries as anchors, documents as references and ragged positives; several share no document."""
    library = pytest.importorskip("pytorch_metric_learning.losses")
    owners = [0, 0, 0, 1, 2, 2, 3]
    batch = make([0, 1, 2, 3], list(range(7)), [(q, d) for d, q in enumerate(owners)])
    queries, documents = (found.detach().to(dtype).requires_grad_() for found in vectors(batch))
    found = losses(Contrastive(temperature=temperature), queries, documents, batch)["query_to_document"] / 7
    ntxent = library.NTXentLoss(temperature=temperature)
    wanted = ntxent(queries, torch.arange(4), ref_emb=documents, ref_labels=torch.tensor(owners))
    # the library adds the smallest positive number within its logarithm
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    mine, theirs = (torch.autograd.grad(x, [queries, documents]) for x in (found, wanted))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs, strict=True))


class Columns(torch.nn.Module):
    """What sentence-transformers' losses ask of a model when they are given embeddings: nothing."""


JOINT = [names for n in (1, 2, 3, 4) for names in itertools.combinations(sorted(DIRECTIONS), n)]


@pytest.mark.parametrize("explicit", [0, 2])
@pytest.mark.parametrize("directions", [names for names in JOINT if "query_to_document" in names], ids="+".join)
def test_equals_sentence_transformers(directions, explicit):
    """MultipleNegativesRankingLoss in all its directions, joint and per direction, with explicit negatives."""
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    count = 5
    negatives = [(q, count * (1 + k) + q) for k in range(explicit) for q in range(count)]
    batch = make(list(range(count)), list(range(count * (1 + explicit))), [(i, i) for i in range(count)], negatives)
    queries, documents = vectors(batch)
    names = [name.replace("document", "doc") for name in directions]
    per_direction = set(directions) <= {"query_to_document", "document_to_query"}
    for partition, theirs in (("joint", "joint"), ("separate", "per_direction")):
        if theirs == "per_direction" and not per_direction:
            continue  # there it has no such thing
        loss = library.MultipleNegativesRankingLoss(Columns(), directions=names, partition_mode=theirs)
        wanted = loss.compute_loss_from_embeddings([queries, *documents.split(count)], None)
        objective = Contrastive(directions=directions, partition=partition)
        sums = losses(objective, queries, documents, batch)
        weights = objective.weights(batch)
        found = sum(sums[term] / weights[term] * factor for term, factor in objective.coefficients.items())
        assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
        mine, others = (torch.autograd.grad(x, [queries, documents], retain_graph=True) for x in (found, wanted))
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(mine, others, strict=True))


def test_hardness_equals_sentence_transformers():
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    batch = make(list(range(4)), list(range(8)), [(i, i) for i in range(4)], [(i, 4 + i) for i in range(4)])
    queries, documents = vectors(batch)
    loss = library.MultipleNegativesRankingLoss(Columns(), hardness_mode="all_negatives", hardness_strength=3.0)
    wanted = loss.compute_loss_from_embeddings([queries, *documents.split(4)], None)
    found = losses(Contrastive(hardness=3.0), queries, documents, batch)["query_to_document"] / 4
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    plain = losses(Contrastive(), queries, documents, batch)["query_to_document"] / 4
    assert plain.item() < found.item()


def test_directions_are_weighed():
    batch = pairs_batch(4)
    queries, documents = vectors(batch)
    objective = Contrastive(directions={"query_to_document": 3.0, "document_to_query": 1.0}, losses={"infonce": 2.0})
    coefficients = objective.coefficients
    assert (coefficients["query_to_document"], coefficients["document_to_query"]) == (1.5, 0.5)
    sums = losses(objective, queries, documents, batch)
    alone = losses(Contrastive(directions=["document_to_query"]), queries, documents, batch)
    assert sums["document_to_query"].item() == pytest.approx(alone["document_to_query"].item(), rel=1e-12)


def test_an_anchor_without_negatives_has_loss_and_gradient_zero_and_counts():
    """All that query 0 could be compared with is relevant to it; a batch of one pair has nothing to compare."""
    known = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2)]
    batch = make([0, 1, 2], [0, 1, 2], [(0, 0), (1, 1), (2, 2)], known=known)
    queries, documents = vectors(batch)
    objective = Contrastive(similarity="dot", temperature=1.0)
    total = losses(objective, queries, documents, batch)["query_to_document"]
    grad = torch.autograd.grad(total, queries)[0]
    assert grad[0].tolist() == [0.0] * D
    assert torch.isfinite(grad).all()
    assert grad[1:].abs().min() > 0
    assert objective.weights(batch)["query_to_document"] == 3
    alone = pairs_batch(1)
    queries, documents = vectors(alone)
    total = losses(objective, queries, documents, alone)["query_to_document"]
    assert total.item() == 0
    assert torch.autograd.grad(total, queries)[0].tolist() == [[0.0] * D]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_scores_stay_finite(dtype):
    scores = torch.tensor([[4e4, -4e4, 0.0], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    negatives = torch.tensor([[True, True, True], [False, False, False]])
    rows = log_negatives(scores, negatives)
    loss = info_nce(torch.tensor([-4e4, 1.0], dtype=dtype, requires_grad=True), rows)
    assert loss.tolist() == [8e4, 0.0]
    loss.sum().backward()
    assert scores.grad.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_groups_without_values_are_minus_infinity_and_pass_no_gradient():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    found = log_sum_exp_by(values, torch.tensor([2, 2]), 4)
    assert found.tolist()[:2] == [-torch.inf, -torch.inf]
    assert float(found[2]) == pytest.approx(2.3132617)
    info_nce(torch.zeros(4), found).sum().backward()
    assert torch.isfinite(values.grad).all()


def test_half_precision_is_scored_in_full():
    """Vectors from an autocast forward pass: scores would tie, and a temperature of 0.01 would blow that up."""
    batch = pairs_batch(6)
    queries, documents = (found.detach().bfloat16().requires_grad_() for found in vectors(batch))
    wanted = losses(Contrastive(temperature=0.01), queries.float(), documents.float(), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(Contrastive(temperature=0.01), queries, documents, batch)
    assert found["query_to_document"].dtype == torch.float32
    assert found["query_to_document"].item() == wanted["query_to_document"].item()


def test_counts_for_the_log():
    batch = make([0, 1, 2], [0, 1, 2], [(0, 0), (1, 1), (2, 2)], known=[(0, 0), (1, 1), (2, 2), (0, 2)])
    objective = Contrastive(directions=["query_to_document", "document_to_query"])
    sums, weights = losses(objective, *vectors(batch), batch), objective.weights(batch)
    assert (float(sums["masked_pairs"]), weights["masked_pairs"]) == (2, 1)
    assert (float(sums["negatives"]), weights["negatives"]) == (5, 3)
    assert objective.coefficients["masked_pairs"] == objective.coefficients["negatives"] == 0
