"""The objective of bi- and poly-encoders: losses on one masked matrix of scores over a whole logical batch.

Q queries, N documents, M entries of a memory, P positive pairs, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.engine.objective import Part, Representations, Represented
from quincunx.errors import DataError
from quincunx.nn.attention.parts import without_autocast
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from quincunx.recipes.retrieval.objective.counts import DIRECTIONS
from quincunx.recipes.retrieval.objective.distillation import check_teacher, kl_divergence, margin_mse, triples
from quincunx.recipes.retrieval.objective.infonce import info_nce, info_nce_together, log_negatives
from quincunx.recipes.retrieval.objective.masks import Candidates, KnownPairs, Pool
from quincunx.recipes.retrieval.objective.memory import Memory
from quincunx.recipes.retrieval.objective.metric_learning import MetricLearning
from quincunx.recipes.retrieval.objective.options import Options
from quincunx.recipes.retrieval.objective.scores import Temperature
from quincunx.recipes.retrieval.objective.sides import joined, valid_lengths, with_ruler
from quincunx.recipes.retrieval.objective.table import Table


class Contrastive(Represented):
    """InfoNCE, distillation and metric-learning losses of queries and documents that are encoded apart.

    For a positive pair (q, d) with score s, InfoNCE is -log(exp(s) / (exp(s) + sum over negatives)). A direction says
    whose negatives they are and among which texts: `query_to_document` other documents of the query,
    `document_to_query` other queries of the document, `query_to_query` and `document_to_document` texts of one side;
    the positive pair is that of query and document in each of them.

    A pair whose anchor has no negative (alone in its batch, or all others masked) has loss 0 and gradient 0 and counts
    like any other: what a batch weighs then depends on its data alone, and not on what a memory holds.

    Relations: with one positive a query, `query_to_document` is the loss of MultipleNegativesRankingLoss of
    sentence-transformers with scale 1/temperature. Directions of equal weight with `partition` separate are its
    `per_direction`, which allows only the first two; `joint` is its `joint`, in which the positive stands once in the
    denominator for each of the first two directions. `document_to_query` alone is NTXentLoss of pytorch-metric-learning
    with documents as anchors.

    Terms of the log: each loss; `masked_pairs`, what masks removed from a logical batch; `negatives`, those left to an
    anchor of the first direction; with these at work `temperature`, `memory_entries`, `memory_drift`.

    Source: van den Oord et al. 2018 (arXiv 1807.03748); directions: Li et al. 2023 (GTE, arXiv 2308.03281); Matryoshka:
    Kusupati et al. 2022 (arXiv 2205.13147).

    Args:
        one_pass: Encode queries and documents in common chunks: for a model whose sides share all weights.
        poly: The model is a poly-encoder: it scores by itself, so `similarity` must be None.
        keep_states: The poly-encoder keeps every token state, so that its number of codes varies from chunk to chunk.
        similarity: `cosine` or `dot`, of a bi-encoder's vectors.
        temperature: What similarities are divided by.
        learn_temperature: Learn it, from there.
        temperature_range: Smallest and largest learned one.
        losses: By name (`infonce`, `margin_mse`, `kl`, `metric_learning`): the factor of each.
        directions: By name: the weight of each; they are divided by their sum. A sequence means equal weights.
        partition: `separate`: a softmax for each direction. `joint`: one, over the negatives of all.
        positives: `each`: a term for every positive, the others of its anchor left out. `together`: one for every
            anchor, its positives added within the logarithm.
        in_batch: Whether texts of other anchors are negatives; if not, only explicit ones are.
        hardness: Times the similarity, without gradient, is added to the score of every negative: harder ones weigh
            more (Lan et al. 2025, arXiv 2503.04812, equation 5). 0 adds nothing.
        widths: Matryoshka: by number of leading dimensions, the factor of the losses on them, which are added. None:
            all dimensions alone.
        teacher_temperature: Of `kl`.
        metric_learning: The loss called so.
        memory: Vectors of earlier batches.
        known_pairs: `[R, 2]` int64, content hashes of every relevant (query, document) of the training set, to find
            false negatives between batch and memory; None: those within a batch are found.

    Raises:
        UsageError: A value is out of range, or values contradict each other.
    """

    def __init__(
        self,
        *,
        one_pass: bool = False,
        poly: bool = False,
        keep_states: bool = False,
        similarity: str | None = "cosine",
        temperature: float = 0.05,
        learn_temperature: bool = False,
        temperature_range: tuple[float, float] = (0.01, 100.0),
        losses: Mapping[str, float] | None = None,
        directions: Mapping[str, float] | Sequence[str] = ("query_to_document",),
        partition: str = "separate",
        positives: str = "each",
        in_batch: bool = True,
        hardness: float = 0.0,
        widths: Mapping[int, float] | None = None,
        teacher_temperature: float = 1.0,
        metric_learning: MetricLearning | None = None,
        memory: Memory | None = None,
        known_pairs: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.options = Options.of(
            one_pass=one_pass,
            poly=poly,
            keep_states=keep_states,
            similarity=similarity,
            losses=losses,
            directions=directions,
            partition=partition,
            positives=positives,
            in_batch=in_batch,
            hardness=hardness,
            widths=widths,
            teacher_temperature=teacher_temperature,
            metric_learning=metric_learning is not None,
            memory=None if memory is None else memory.kind,
        )
        lowest, highest = temperature_range
        self.temperature = Temperature(temperature, learned=learn_temperature, lowest=lowest, highest=highest)
        self.metric_learning = metric_learning
        self.memory = memory
        self.known_pairs = None if known_pairs is None else KnownPairs(known_pairs)
        self.coefficients = dict(self.options.coefficients)
        notes = ["masked_pairs", "negatives"]
        notes += ["temperature"] if learn_temperature else []
        notes += ["memory_entries"] if memory is not None else []
        notes += ["memory_drift"] if memory is not None and memory.drift is not None else []
        self.terms = (*self.coefficients, *notes)
        self.coefficients.update(dict.fromkeys(notes, 0.0))

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return by term the number of pairs, of anchors (`together`, `kl`), or of triples (`margin_mse`).

        Raises:
            DataError: The batch has no positive pair, or lacks a teacher's score that a loss needs.
        """
        batch = _retrieval(batch)
        ids = batch.sides["query"].ids
        if not len(batch.links["positives"]):
            raise DataError(
                f"a batch of {len(batch)} anchors, the first of them {batch.ids[0]!r}, has no positive pair"
            )
        for loss in ("margin_mse", "kl"):
            if loss in self.options.losses:
                check_teacher(batch.links, ids, loss)
        pairs = batch.links["positives"]
        weights = dict.fromkeys(self.terms, 1.0)
        for term in self.options.losses:
            if term == "margin_mse":
                weights[term] = float(len(triples(pairs, _usable(Pool.of(batch.links)))[0]))
            elif term != "infonce":
                weights[term] = float(len(pairs[:, 0].unique()) if term == "kl" else len(pairs))
        for term in self.options.infonce_terms:
            together = self.options.positives == "together"
            side = 0 if term == "joint" or DIRECTIONS[term][0] == "query" else 1
            weights[term] = float(len(pairs[:, side].unique()) if together else len(pairs))
        side = 0 if DIRECTIONS[self.options.directions[0]][0] == "query" else 1
        weights["negatives"] = float(len(pairs[:, side].unique()))
        if "memory_drift" in weights:
            assert self.memory is not None
            weights["memory_drift"] = float(self.memory.measuring())
        return weights

    def pads(self, model: nn.Module, device: torch.device) -> bool:
        """Return whether the encoders compute padding on the device."""
        asked = getattr(model, "pads", None)  # a model that does not say computes it
        return asked is None or bool(asked(device))

    def parts(self, batch: Batch) -> Sequence[Part]:
        """Return queries and documents, as one part where one pass encodes both, and what the memory has encoded."""
        batch = _retrieval(batch)
        query, document = batch.sides["query"], batch.sides["document"]
        if self.options.keep_states:
            query = with_ruler(query)
        parts = [Part("query", query), Part("document", document)]
        if self.options.one_pass:
            parts = [Part("text", joined(query, document))]
        return parts if self.memory is None else [*parts, *self.memory.parts(batch)]

    def represent(self, model: nn.Module, rows: Part) -> dict[str, Tensor]:
        """Return `vector [C, D]`; of a poly-encoder's queries `codes [C, M, D]` and `mask [C, M]`.

        What the memory has encoded takes no gradient, and drift is measured without dropout.
        """
        tokens, lengths = rows.batch["tokens"], valid_lengths(rows.batch)
        if rows.role in ("key_query", "key_document", "probe"):
            assert self.memory is not None
            encoder = self.memory.encoder(rows.role, model)
            with torch.no_grad(), _evaluating(encoder):
                role = self.memory.watched if rows.role == "probe" else rows.role.removeprefix("key_")
                return {"vector": self._encode(encoder, tokens, lengths, role)}
        if rows.role == "query" and self.options.poly:
            codes, mask = model.encode_query(tokens, lengths)  # pyright: ignore[reportCallIssue]
            if "ruler" in rows.batch.tensors:
                missing = rows.batch["ruler"].shape[1] - codes.shape[1]
                codes, mask = functional.pad(codes, (0, 0, 0, missing)), functional.pad(mask, (0, missing))
            return {"codes": codes, "mask": mask}
        return {"vector": self._encode(model, tokens, lengths, rows.role)}

    def _encode(self, model: nn.Module, tokens: Tensor, lengths: Tensor, role: str) -> Tensor:
        if self.options.poly:
            return model.encode_document(tokens, lengths)  # pyright: ignore[reportCallIssue]
        # in one pass both sides have the same weights, so either name will do
        return model.encode(tokens, lengths, "query" if role == "query" else "document")  # pyright: ignore

    def loss(self, model: nn.Module, representations: Representations, batch: Batch) -> dict[str, Tensor]:
        """Return each term's sum over the logical batch; in training mode, note what is to be stored."""
        batch = _retrieval(batch)
        memory = self.memory
        count = len(batch.sides["query"])
        if self.options.one_pass:
            both = representations["text"]["vector"]
            queries, documents = {"vector": both[:count]}, both[count:]
        else:
            queries, documents = representations["query"], representations["document"]["vector"]
        stored = memory.stored() if memory is not None else {}
        vectors = {side: entries[0] for side, entries in stored.items()}
        identities = {side: entries[1] for side, entries in stored.items()}
        pool = Pool.of(batch.links, identities.get("query"), identities.get("document"), self.known_pairs)
        candidates = {name: pool.candidates(name, self.options.in_batch) for name in self.options.directions}
        sums: dict[str, Tensor] = {}
        with without_autocast(documents):
            for width, factor in self.options.widths.items():
                table = Table(self.options, self.temperature, model, queries, documents, vectors, width)
                for term, total in self._losses(table, pool, candidates, batch).items():
                    sums[term] = sums.get(term, 0) + factor * total
        sums["masked_pairs"] = torch.stack([found.masked for found in candidates.values()]).sum().float()
        sums["negatives"] = candidates[self.options.directions[0]].negatives.sum().float()
        if self.temperature.learned:
            sums["temperature"] = self.temperature.value()
        if memory is not None:
            entries = sum(map(len, vectors.values()))
            sums["memory_entries"] = torch.tensor(float(entries), device=documents.device)
            drift = None
            if self.training:
                fresh = {"document": documents, **({} if self.options.poly else {"query": queries["vector"]})}
                drift = memory.record(model, fresh, representations, batch)
            if drift is not None:
                sums["memory_drift"] = drift
        return sums

    def _losses(
        self, table: Table, pool: Pool, candidates: Mapping[str, Candidates], batch: RetrievalBatch
    ) -> dict[str, Tensor]:
        """Return the sums of all losses at one width."""
        losses = self.options.losses
        found = self._infonce(table, pool, candidates) if "infonce" in losses else {}
        if "margin_mse" in losses or "kl" in losses:
            found.update(self._distillation(table, pool, batch.links))
        if "metric_learning" in losses:
            assert self.metric_learning is not None
            assert table.queries is not None
            # as large as its mean times the pairs: an update's loss is then the mean over its logical batches
            mean = self.metric_learning(table.queries, table.documents, pool, self.options.directions)
            found["metric_learning"] = mean * len(pool.positives)
        return found

    def _infonce(self, table: Table, pool: Pool, candidates: Mapping[str, Candidates]) -> dict[str, Tensor]:
        pairs = table.between[pool.positives[:, 0], pool.positives[:, 1]]
        rows: dict[str, Tensor] = {}
        for name, found in candidates.items():
            scores = table.towards(name, found.anchors)
            hardness = None
            if self.options.hardness:
                similarities = scores.detach() * self.temperature.value().to(scores)
                hardness = similarities * self.options.hardness
            rows[name] = log_negatives(scores, found.negatives, hardness)
        if self.options.partition == "joint":
            parts = torch.stack([rows[name][found.place] for name, found in candidates.items()])
            times = sum(rows != columns for rows, columns in (DIRECTIONS[name] for name in candidates))
            return {"joint": info_nce(pairs, parts.logsumexp(dim=0), max(times, 1)).sum()}
        if self.options.positives == "together":
            return {n: info_nce_together(pairs, c.place, rows[n]).sum() for n, c in candidates.items()}
        return {name: info_nce(pairs, rows[name][found.place]).sum() for name, found in candidates.items()}

    def _distillation(self, table: Table, pool: Pool, links: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        positives, negatives = pool.positives, _usable(pool)
        near, far = (table.between[pairs[:, 0], pairs[:, 1]] for pairs in (positives, negatives))
        taught_near = links["positive_scores"].to(near.dtype)
        scores = links.get("negative_scores", taught_near[:0])
        taught_far = scores[pool.usable_negatives].to(near.dtype)
        if "margin_mse" in self.options.losses:
            i, j = triples(positives, negatives)
            found["margin_mse"] = margin_mse(near[i] - far[j], taught_near[i] - taught_far[j]).sum()
        if "kl" in self.options.losses:
            anchors, place = torch.unique(positives[:, 0], return_inverse=True)
            # queries that drew negatives alone, if any, have nothing to be compared with
            owner = torch.searchsorted(anchors, negatives[:, 0].contiguous()).clamp_(max=len(anchors) - 1)
            own = anchors[owner] == negatives[:, 0]
            divergence = kl_divergence(
                torch.cat([near, far[own]]),
                torch.cat([taught_near, taught_far[own]]),
                torch.cat([place, owner[own]]),
                len(anchors),
                self.options.teacher_temperature,
            )
            found["kl"] = divergence.sum()
        return found

    def after_update(self) -> None:
        """Store the update's vectors, and put a learned temperature back into its range."""
        self.temperature.after_update()
        if self.memory is not None:
            self.memory.after_update()

    def after_skip(self) -> None:
        """Forget what an update recorded that was not applied."""
        if self.memory is not None:
            self.memory.discard()


def _usable(pool: Pool) -> Tensor:
    return pool.explicit[pool.usable_negatives]


def _retrieval(batch: Batch) -> RetrievalBatch:
    if not isinstance(batch, RetrievalBatch):
        raise TypeError(f"expected a RetrievalBatch, found {type(batch).__name__}")
    return batch


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
