"""Losses and miners of pytorch-metric-learning by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from quincunx.recipes.retrieval.objective.masks import Pool
from quincunx.recipes.retrieval.objective.metric_learning import MetricLearning, allowed_pairs, common_labels
from reference import retrieval as reference
from retrieval_toys import drawn, make

losses = pytest.importorskip("pytorch_metric_learning.losses")

PAIRS = [
    "AngularLoss", "CircleLoss", "ContrastiveLoss", "FastAPLoss", "GeneralizedLiftedStructureLoss", "HistogramLoss",
    "InstanceLoss", "IntraPairVarianceLoss", "LiftedStructureLoss", "MarginLoss", "MultiSimilarityLoss", "NCALoss",
    "NPairsLoss", "NTXentLoss", "PNPLoss", "RankedListLoss", "SignalToNoiseRatioContrastiveLoss", "SmoothAPLoss",
    "SupConLoss", "ThresholdConsistentMarginLoss", "TripletMarginLoss", "TupletMarginLoss",
]  # fmt: skip
OPTIONS = {"RankedListLoss": {"margin": 1.0, "Tn": 1.0}, "HistogramLoss": {"n_bins": 10}}
MINERS = {
    "AngularMiner": {"angle": 1},
    "BatchEasyHardMiner": {},
    "BatchHardMiner": {},
    "DistanceWeightedMiner": {},
    "HDCMiner": {},
    "MultiSimilarityMiner": {},
    "PairMarginMiner": {},
    "TripletMarginMiner": {},
    "UniformHistogramMiner": {},
}


def vectors(batch):
    generator = torch.Generator().manual_seed(2)
    counts = len(batch.sides["query"]), len(batch.sides["document"])
    return tuple(torch.randn(n, 6, generator=generator, requires_grad=True) for n in counts)


def library(name: str, **more) -> Contrastive:
    metric = MetricLearning(name, OPTIONS.get(name), **more)
    return Contrastive(losses={"metric_learning": 1.0}, metric_learning=metric, similarity="dot")


@pytest.mark.parametrize("name", PAIRS)
def test_every_loss_over_pairs_gives_a_gradient(name):
    """Clean pairs: labels alone say the same as the pairs, so the library called by itself is what is wanted."""
    batch = make(list(range(5)), list(range(5)), [(i, i) for i in range(5)])
    queries, documents = vectors(batch)
    objective = library(name)
    representations = {"query": {"vector": queries}, "document": {"vector": documents}}
    total = objective.loss(nn.Identity(), representations, batch)["metric_learning"]
    assert objective.weights(batch)["metric_learning"] == 5
    grads = torch.autograd.grad(total, [queries, documents])
    assert all(torch.isfinite(grad).all() and float(grad.abs().sum()) > 0 for grad in grads)


@pytest.mark.parametrize("miner", [None, "MultiSimilarityMiner", "TripletMarginMiner"])
@pytest.mark.parametrize("name", ["NTXentLoss", "TripletMarginLoss", "ContrastiveLoss", "CircleLoss"])
def test_equals_the_library_with_references(name, miner):
    """Queries as anchors, documents as references, labels by query; ragged positives."""
    from pytorch_metric_learning import miners

    owners = [0, 0, 0, 1, 2, 2, 3]
    batch = make([0, 1, 2, 3], list(range(7)), [(q, d) for d, q in enumerate(owners)])
    queries, documents = vectors(batch)
    labels, others = torch.arange(4), torch.tensor(owners)
    mined = None if miner is None else getattr(miners, miner)()(queries, labels, documents, others)
    wanted = getattr(losses, name)()(queries, labels, mined, ref_emb=documents, ref_labels=others)
    representations = {"query": {"vector": queries}, "document": {"vector": documents}}
    objective = library(name, miner=miner)
    found = objective.loss(nn.Identity(), representations, batch)["metric_learning"] / 7
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("miner", MINERS)
def test_miners_choose_among_allowed_pairs(miner):
    seen: list[tuple[torch.Tensor, ...]] = []
    chosen = 0

    class Watch(losses.TripletMarginLoss):
        def forward(self, embeddings, labels, indices_tuple):
            seen.append(indices_tuple)
            return super().forward(embeddings, labels, indices_tuple)

    for seed in range(6):
        batch = drawn(6, seed, positives=3, negatives=3)
        metric = MetricLearning("TripletMarginLoss", miner=miner, miner_options=MINERS[miner])
        metric.loss = Watch()
        pool = Pool.of(batch.links)
        torch.manual_seed(0)
        metric(*vectors(batch), pool, ["query_to_document", "document_to_query"])
        a, p, b, n = allowed_pairs(pool, ["query_to_document", "document_to_query"])
        near, far = set(zip(a.tolist(), p.tolist(), strict=True)), set(zip(b.tolist(), n.tolist(), strict=True))
        for mined in seen:
            chosen += sum(len(part) for part in mined)
            left = list(mined) if len(mined) == 4 else [mined[0], mined[1], mined[0], mined[2]]
            assert set(zip(left[0].tolist(), left[1].tolist(), strict=True)) <= near
            assert set(zip(left[2].tolist(), left[3].tolist(), strict=True)) <= far
        seen.clear()
    assert chosen > 0


def test_pairs_and_labels_honour_the_masks():
    for seed in range(20):
        batch = drawn(6, seed, positives=3, negatives=3)
        pool, world = Pool.of(batch.links), reference.World(batch.links)
        count = len(pool.queries)
        a, p, b, n = allowed_pairs(pool, ["query_to_document"])
        assert list(zip(a.tolist(), (p - count).tolist(), strict=True)) == world.positives
        queries = sorted({q for q, _ in world.positives})
        wanted = [(q, d) for q in queries for d in world.negatives("query_to_document", q)]
        assert list(zip(b.tolist(), (n - count).tolist(), strict=True)) == wanted
        labels = common_labels(pool).tolist()
        for query in range(count):
            for document in range(len(pool.documents)):
                if world.related(query, document):
                    assert labels[query] == labels[count + document]


def test_labels_join_over_any_steps():
    chain = [(i, i) for i in range(9)] + [(i + 1, i) for i in range(8)]
    batch = make(list(range(10)), list(range(10)), [*chain, (9, 9)])
    labels = common_labels(Pool.of(batch.links)).tolist()
    assert labels == [0] * 9 + [9] + [0] * 9 + [9]


def test_refusals_say_why():
    cases = {
        r"no loss 'Foo'; there are AngularLoss, .*TripletMarginLoss": ("Foo", {}),
        "ArcFaceLoss learns a vector for each of a fixed number of classes": ("ArcFaceLoss", {}),
        "SubCenterArcFaceLoss learns a vector": ("SubCenterArcFaceLoss", {}),
        "P2SGradLoss learns a vector": ("P2SGradLoss", {}),
        "VICRegLoss of .* compares no negatives": ("VICRegLoss", {}),
        "DynamicSoftMarginLoss .* changes its state": ("DynamicSoftMarginLoss", {}),
        "CrossBatchMemory .* section memory": ("CrossBatchMemory", {}),
        "cannot be made: .*marginn": ("TripletMarginLoss", {"options": {"marginn": 1}}),
        "no miner 'Bar'": ("TripletMarginLoss", {"miner": "Bar"}),
        "miner MultiSimilarityMiner would have no effect": ("FastAPLoss", {"miner": "MultiSimilarityMiner"}),
    }
    for text, (name, more) in cases.items():
        with pytest.raises(UsageError, match=text):
            MetricLearning(name, **more)


def test_every_loss_of_the_library_is_either_offered_or_refused():
    """A new release must not bring a name that is silently broken."""
    for name, value in vars(losses).items():
        if isinstance(value, type) and name not in PAIRS:
            with pytest.raises(UsageError):
                MetricLearning(name)
