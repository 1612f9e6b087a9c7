"""Small models and objectives of both shapes, on which the engine's properties are shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.config.plan import Plan, interval
from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch, pad
from quincunx.engine.objective import Part, Representations, Represented, Summed
from quincunx.engine.runtime import Runtime
from quincunx.nn.dropout import CounterDropout

WIDTH = 12
VOCABULARY = 20


class Encoder(nn.Module):
    """Embeddings, two layers with dropout, a mean over the valid tokens: `[B, S] -> [B, WIDTH]`."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.drop = CounterDropout(dropout)
        self.norm = nn.LayerNorm(WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.late_drop = CounterDropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        hidden = self.norm(self.drop(functional.gelu(self.first(self.embedding(tokens)))))
        valid = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        mean = (hidden * valid[..., None]).sum(1) / lengths[:, None].clamp(min=1)
        return self.late_drop(self.second(mean))


class TwoTerms(Summed):
    """A cross-entropy over examples and a squared norm weighed by tokens: two terms with weights of their own."""

    terms = ("classes", "size")
    coefficients = {"size": 0.1}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 5)

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"classes": float(len(batch)), "size": float(batch["lengths"].sum())}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        states = model(chunk["tokens"], chunk["lengths"])
        logits = self.head(states)
        return {
            "classes": functional.cross_entropy(logits, chunk["labels"], reduction="sum"),
            "size": (states.square().sum(1) * chunk["lengths"]).sum(),
        }


class Contrastive(Represented):
    """InfoNCE from queries to documents, in-batch and queued negatives, learned temperature."""

    def __init__(self, queue: int = 6) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(-0.5))
        self.register_buffer(
            "queue", functional.normalize(torch.linspace(-1, 1, queue * WIDTH).view(queue, WIDTH), dim=1)
        )
        self._pending: list[Tensor] = []

    def weights(self, batch: Batch) -> dict[str, float]:
        return {"loss": float(len(batch))}

    def parts(self, batch: Batch) -> Sequence[Part]:
        return [Part("query", side(batch, "query")), Part("document", side(batch, "document"))]

    def represent(self, model: nn.Module, rows: Part) -> dict[str, Tensor]:
        return {"vector": functional.normalize(model(rows.batch["tokens"], rows.batch["lengths"]), dim=1)}

    def loss(self, model: nn.Module, representations: Representations, batch: Batch) -> dict[str, Tensor]:
        queries, documents = representations["query"]["vector"], representations["document"]["vector"]
        self._pending.append(documents.detach())
        candidates = torch.cat([documents, self.queue.to(documents.dtype)])
        scores = queries @ candidates.T * self.log_temperature.neg().exp()
        targets = torch.arange(len(queries), device=scores.device)
        return {"loss": functional.cross_entropy(scores, targets, reduction="sum")}

    def after_update(self) -> None:
        joined = torch.cat([*reversed(self._pending), self.queue.to(self._pending[0].dtype)])
        self.queue.copy_(joined[: len(self.queue)])
        self._pending.clear()


def side(batch: Batch, name: str) -> Batch:
    """Return one side of a batch of pairs as a batch of its own."""
    tensors = {"tokens": batch[f"{name}_tokens"], "lengths": batch[f"{name}_lengths"]}
    return Batch(tensors, batch.rows, batch.ids, batch[f"{name}_lengths"], frozenset({"tokens"}))


def labelled(count: int, seed: int = 0) -> Batch:
    """Return sequences of 1 to 9 tokens with one of five labels."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (count,), generator=generator)
    tokens = pad([torch.randint(1, VOCABULARY, (int(n),), generator=generator) for n in lengths])
    labels = torch.randint(0, 5, (count,), generator=generator)
    tensors = {"tokens": tokens, "lengths": lengths, "labels": labels}
    return Batch(tensors, torch.arange(count), list(range(count)), lengths, frozenset({"tokens"}))


def pairs(count: int, seed: int = 0) -> Batch:
    """Return pairs of sequences."""
    query, document = labelled(count, seed), labelled(count, seed + 1000)
    tensors = {
        f"{name}_{key}": value[key]
        for name, value in (("query", query), ("document", document))
        for key in ("tokens", "lengths")
    }
    return Batch(tensors, query.rows, query.ids)


def plan(**changes: object) -> Plan:
    """Return a plan without chunks; `changes` replaces fields."""
    fields: dict[str, object] = {
        "train_examples": 10,
        "batch_size": 10,
        "accumulation": 1,
        "batches_per_epoch": 1,
        "updates_per_epoch": 1,
        "total_updates": 1,
        "stop_at": 1,
        "log_every": 1,
        "evaluate_every": interval(None, 1),
        "checkpoint_every": interval(None, 1),
        "chunk_samples": None,
        "chunk_tokens": None,
        "graphs": "auto",
        "graph_memory": None,
        "evaluation_batch": 10,
        "evaluation_limit": None,
        "sizes": Sizes(train=10),
    }
    return Plan(**{**fields, **changes})  # pyright: ignore[reportArgumentType]


def cpu() -> Runtime:
    """Return one process on the CPU in full precision."""
    return Runtime(torch.device("cpu"), torch.float32)
