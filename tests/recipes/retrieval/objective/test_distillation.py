"""Losses against a teacher: against a peer where all queries have equally many negatives, written out where not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import DataError
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from reference import retrieval as reference
from retrieval_toys import drawn, make


def regular(count: int, each: int):
    """`count` queries with one positive and `each` negatives; the teacher's scores `[count, 1 + each]`."""
    scores = torch.randn(count, 1 + each, generator=torch.Generator().manual_seed(1))
    negatives = [(q, count + k * count + q) for k in range(each) for q in range(count)]
    batch = make(
        list(range(count)),
        list(range(count * (1 + each))),
        [(q, q) for q in range(count)],
        negatives,
        positive_scores=scores[:, 0].tolist(),
        negative_scores=scores[:, 1:].T.flatten().tolist(),
    )
    return batch, scores


def vectors(batch) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    counts = len(batch.sides["query"]), len(batch.sides["document"])
    return tuple(torch.randn(n, 6, generator=generator, dtype=torch.float64, requires_grad=True) for n in counts)


def mean(objective: Contrastive, queries: Tensor, documents: Tensor, batch, term: str) -> Tensor:
    representations = {"query": {"vector": queries}, "document": {"vector": documents}}
    return objective.loss(nn.Identity(), representations, batch)[term] / objective.weights(batch)[term]


@pytest.mark.parametrize("term", ["margin_mse", "kl"])
def test_equals_sentence_transformers(term):
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    batch, scores = regular(4, 3)
    queries, documents = vectors(batch)
    if term == "kl":
        loss = library.DistillKLDivLoss(nn.Identity(), temperature=2.0)
    else:
        loss = library.MarginMSELoss(nn.Identity())
    wanted = loss.compute_loss_from_embeddings([queries, *documents.split(4)], scores.double())
    objective = Contrastive(losses={term: 1.0}, similarity="dot", temperature=1.0, teacher_temperature=2.0)
    found = mean(objective, queries, documents, batch, term)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)
    mine, theirs = (torch.autograd.grad(x, [queries, documents]) for x in (found, wanted))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(mine, theirs, strict=True))


def test_ragged_candidates_written_out():
    """Queries with one or two positives and none to three negatives, some of which are known to be relevant."""
    for seed in range(6):
        batch = drawn(6, seed, positives=2, negatives=3, scored=True)
        queries, documents = vectors(batch)
        scores = queries @ documents.T / 0.5
        world = reference.World(batch.links)
        near = dict(zip(world.positives, batch.links["positive_scores"].tolist(), strict=True))
        far = dict(
            zip(map(tuple, batch.links["negatives"].tolist()), batch.links["negative_scores"].tolist(), strict=True)
        )
        far = {pair: score for pair, score in far.items() if not world.related(*pair)}
        errors = [
            (scores[q, p] - scores[q, n] - (s - t)) ** 2
            for (q, p), s in near.items()
            for (other, n), t in far.items()
            if q == other
        ]
        divergences: list[Tensor] = []
        for query in sorted({q for q, _ in near}):
            columns = [d for q, d in near if q == query] + [d for q, d in far if q == query]
            taught = [s for (q, _), s in near.items() if q == query] + [s for (q, _), s in far.items() if q == query]
            student = functional.log_softmax(scores[query, columns] / 3, 0)
            teacher = functional.softmax(torch.tensor(taught, dtype=torch.float64) / 3, 0)
            divergences.append(9 * functional.kl_div(student, teacher, reduction="sum"))
        objective = Contrastive(
            losses={"margin_mse": 1.0, "kl": 1.0}, similarity="dot", temperature=0.5, teacher_temperature=3.0
        )
        weights = objective.weights(batch)
        assert (weights["margin_mse"], weights["kl"]) == (len(errors), len(divergences))
        for term, parts in (("margin_mse", errors), ("kl", divergences)):
            found = mean(objective, queries, documents, batch, term) * weights[term]
            assert found.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-6)


def test_missing_scores_name_the_query():
    plain = {"query_keys": [4, 5], "document_keys": [0, 1, 2, 3], "positives": [(0, 0), (1, 1)]}
    negatives = [(0, 2), (1, 3)]
    objective = Contrastive(losses={"margin_mse": 1.0})
    both, gone = [1.0, 2.0], [1.0, float("nan")]
    cases = {
        "query 'text-4' has a positive without": {},
        "query 'text-5' has a positive without": {"positive_scores": gone, "negative_scores": both},
        "query 'text-4' has an explicit negative without": {"positive_scores": both},
        "query 'text-5' has an explicit negative without": {"positive_scores": both, "negative_scores": gone},
    }
    for text, scores in cases.items():
        batch = make(**plain, negatives=negatives, **scores)
        with pytest.raises(DataError, match=text):
            objective.weights(batch)
    batch = make(**plain, positive_scores=both)
    del batch.links["negatives"]
    with pytest.raises(DataError, match="query 'text-4' has no explicit negatives"):
        objective.weights(batch)
