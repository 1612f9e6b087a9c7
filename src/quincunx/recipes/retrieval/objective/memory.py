"""Vectors of earlier batches as further columns of the softmax.

A memory of documents is the cross-batch memory of Wang et al. 2020 (arXiv 1912.06798) with its entries in the same
softmax as the batch; one of both sides keeps the two encoders' gradients in balance, after the idea of Kim et al. 2024
(ContAccum, arXiv 2406.12356), in which stored queries are further anchors: here they are further candidates of the
batch's documents. Vectors that age can teach a model to tell old from new instead of relevant from not: hence the
warm-up, the age limit, the key encoder and the drift monitor. M entries, D width, B texts of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from quincunx.engine.objective import Part, Representations
from quincunx.errors import RunError, UsageError
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from quincunx.recipes.retrieval.objective.drift import DriftMonitor
from quincunx.recipes.retrieval.objective.keys import KeyEncoder
from quincunx.recipes.retrieval.objective.masks import Identity
from quincunx.recipes.retrieval.objective.queue import Queue

log = logging.getLogger("quincunx")

Kind = Literal["passages", "queries", "dual"]
SIDES: Mapping[str, tuple[str, ...]] = {
    "passages": ("document",),
    "queries": ("query",),
    "dual": ("document", "query"),
}
"""What each kind stores; the first of them is what a drift monitor watches."""


class Memory(nn.Module):
    """Queues of vectors, when they are used, and what watches them.

    Entries are collected by logical batch, in order, once an update is applied; a batch never meets its own. They
    are collected during the warm-up too, from when they would still be there at its end, so that the first update
    after it meets a full memory. The first update of all meets none, whatever the warm-up.

    Args:
        kind: `passages` stores documents, `queries` queries, `dual` both.
        size: M, of each side.
        width: D.
        smallest: By side what a logical batch may hold: `counts.smallest_size(...)`; of every side that is stored.
        warmup: Updates with the plain loss.
        age_limit: Updates after which an entry is no longer used; None: it is used until it is overwritten.
        keys: Encodes what is stored; None: the trained encoder's own vectors are.
        drift: Watches the documents, or the queries where they alone are stored; None: nothing does.

    Raises:
        UsageError: A queue is smaller than a logical batch, a number is out of range, or arguments do not go together.
    """

    updates: Tensor
    paused: Tensor

    def __init__(
        self,
        *,
        size: int,
        width: int,
        smallest: Mapping[str, int],
        kind: Kind = "passages",
        warmup: int = 0,
        age_limit: int | None = None,
        keys: KeyEncoder | None = None,
        drift: DriftMonitor | None = None,
    ) -> None:
        super().__init__()
        if kind not in SIDES:
            raise UsageError(f"a memory is of kind {' or '.join(SIDES)}, found {kind!r}")
        if smallest.keys() != set(SIDES[kind]):
            raise UsageError(
                f"a memory of kind {kind} stores {' and '.join(SIDES[kind])}, but smallest names "
                f"{' and '.join(sorted(smallest)) or 'nothing'}"
            )
        if warmup < 0 or (age_limit is not None and age_limit < 1):
            raise UsageError(
                f"a memory was given warmup={warmup}, age_limit={age_limit}; the first is at least 0, the second 1"
            )
        for side, count in smallest.items():
            _require(side, size, count)
        if drift is not None and len(drift.slots) != size:
            raise UsageError(f"a drift monitor of {len(drift.slots)} entries watches a memory of {size}; give one size")
        self.kind = kind
        self.queues = nn.ModuleDict({side: Queue(size, width) for side in SIDES[kind]})
        self.watched = SIDES[kind][0]
        self.warmup = warmup
        self.age_limit = age_limit
        self.keys = keys
        self.drift = drift
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("paused", torch.zeros((), dtype=torch.bool))
        self._pending: list[dict[str, tuple[Tensor, Identity]]] = []
        self._texts: list[tuple[Tensor, Tensor]] = []
        self._measured: Tensor | None = None

    def queue(self, side: str) -> Queue:
        """Return the queue of a side; KeyError where the memory has none."""
        found = self.queues[side]
        assert isinstance(found, Queue)
        return found

    def active(self) -> bool:
        """Tell whether the memory takes part in this update: training, past the warm-up, not paused."""
        return self.training and int(self.updates) >= self.warmup and not bool(self.paused)

    def stored(self) -> dict[str, tuple[Tensor, Identity]]:
        """Return by side the vectors `[m, D]` that take part in this update, and their identities; no empty ones."""
        if not self.active():
            return {}
        oldest = None if self.age_limit is None else int(self.updates) - self.age_limit
        entries = {side: self.queue(side).entries(oldest) for side in SIDES[self.kind]}
        return {side: found for side, found in entries.items() if len(found[0])}

    def parts(self, batch: RetrievalBatch) -> list[Part]:
        """Return what is to be encoded besides the batch itself: for the key encoder, and for the drift monitor."""
        if not self.training:
            return []
        parts: list[Part] = []
        if self.keys is not None and self._collecting(batch):
            parts += [Part(f"key_{side}", batch.sides[side]) for side in SIDES[self.kind]]
        if self._measuring():
            assert self.drift is not None
            parts.append(Part("probe", self.drift.texts()))
        return parts

    def encoder(self, role: str, model: nn.Module) -> nn.Module:
        """Return what encodes a part that `parts` asked for: the key encoder where there is one."""
        return model if self.keys is None else self.keys.model

    def record(
        self, model: nn.Module, vectors: Mapping[str, Tensor], representations: Representations, batch: RetrievalBatch
    ) -> Tensor | None:
        """Take note of a logical batch, to be stored by `after_update`; return the drift where it was measured.

        Args:
            model: What is trained, for the key encoder to follow.
            vectors: By side, the batch's own, `[B, D]`.
            representations: Those of all parts.
            batch: The batch.

        Raises:
            RunError: The batch is larger than the memory.
        """
        if self._measured is None and "probe" in representations:
            assert self.drift is not None
            self._measured = self.drift.measure(self.queue(self.watched).vectors, representations["probe"]["vector"])
        self._model = (model,)  # in a tuple, or the model would become a part of this module
        if not self._collecting(batch):
            return self._measured
        entries: dict[str, tuple[Tensor, Identity]] = {}
        for side in SIDES[self.kind]:
            found = representations[f"key_{side}"]["vector"] if self.keys is not None else vectors[side]
            queue = self.queue(side)
            if len(found) > queue.size:
                raise RunError(
                    f"a logical batch has {len(found)} texts of side {side}, the memory holds {queue.size}; "
                    "make the memory larger or the batch smaller"
                )
            entries[side] = (found.detach(), Identity(batch.links[f"{side}_keys"], batch.links[f"{side}_hashes"]))
        self._pending.append(entries)
        if self.drift is not None:
            texts = batch.sides[self.watched]
            self._texts.append((texts["tokens"], texts["lengths"]))
        return self._measured

    def after_update(self) -> None:
        """Store what was recorded, let the key encoder follow, and empty the memory where the encoder has moved on."""
        now = int(self.updates)
        drifted = self._measured is not None and self.drift is not None and self._measured < self.drift.threshold
        if drifted:
            self._pause(now)
        for number, entries in enumerate(self._pending):
            for side, (vectors, identity) in entries.items():
                places = self.queue(side).add(vectors, identity, now)
                if side == self.watched and self.drift is not None:
                    self.drift.keep(places, *self._texts[number])
        if self.keys is not None and self._model:
            self.keys.follow(self._model[0], first=now == 0)
        self.updates += 1
        if bool(self.paused) and all(len(queue) == queue.size for queue in self._all()):
            self.paused.fill_(False)
            log.warning("update %d: the memory is full again and takes part in the loss", now + 1)
        self.discard()

    def discard(self) -> None:
        """Forget what was recorded of an update that was not applied."""
        self._pending.clear()
        self._texts.clear()
        self._measured = None
        self._model = ()

    _model: tuple[nn.Module, ...] = ()

    def _pause(self, now: int) -> None:
        assert self.drift is not None and self._measured is not None
        log.warning(
            "update %d: stored vectors have a mean cosine of %.3f with fresh ones, below memory.drift's threshold of "
            "%.3f: the memory is emptied and pauses until it is full again",
            now + 1,
            float(self._measured),
            self.drift.threshold,
        )
        for queue in self._all():
            queue.clear()
        self.drift.clear()
        self.paused.fill_(True)

    def _all(self) -> list[Queue]:
        return [self.queue(side) for side in SIDES[self.kind]]

    def measuring(self) -> bool:
        """Tell whether the drift is measured in this update."""
        return self.drift is not None and self.training and not bool(self.paused) and self.drift.due(int(self.updates))

    def _measuring(self) -> bool:
        return self._measured is None and self.measuring()

    def _collecting(self, batch: RetrievalBatch) -> bool:
        """Tell whether this batch is stored: not before its entries would last to the end of the warm-up."""
        if not self.training:
            return False
        now = int(self.updates)
        if self.keys is not None and now == 0:
            return False  # the key encoder begins with the weights after this update
        sizes = [(self.queue(side).size, len(batch.sides[side])) for side in SIDES[self.kind]]
        return any(now + -(-size // count) >= self.warmup for size, count in sizes)


def _require(side: str, size: int, smallest: int) -> None:
    if size < max(smallest, 1):
        raise UsageError(
            f"a memory of {size} texts of side {side} is smaller than one logical batch, which holds up to {smallest}: "
            f"a batch would overwrite itself. Make it {smallest} at least, or the batch smaller"
        )
