"""Cross-entropy over classes, summed over examples."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.engine.objective import Summed


class Classification(Summed):
    """Cross-entropy between the model's logits and the labels; every example counts the same."""

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return the number of examples."""
        return {"loss": float(len(batch))}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return the sum of the examples' cross-entropies, computed in float32 from logits `[C, classes]`."""
        # looked up where the lengths are plain numbers: neither a device is waited for nor a traced model asked
        padded = chunk.lengths is None or min(chunk.lengths.tolist()) < chunk["tokens"].shape[1]
        logits = model(chunk["tokens"], chunk["lengths"], padded)
        return {"loss": functional.cross_entropy(logits.float(), chunk["labels"], reduction="sum")}
