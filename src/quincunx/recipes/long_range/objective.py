"""Cross-entropy summed over examples, or over the tokens to be restored."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.engine.objective import Summed
from quincunx.recipes.long_range.source import UNMASKED


class Classification(Summed):
    """Cross-entropy between the model's logits and the labels; every example counts the same."""

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return the number of examples."""
        return {"loss": float(len(batch))}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return the sum of the examples' cross-entropies, computed in float32 from logits `[C, classes]`."""
        logits = classify(model, chunk)
        return {"loss": functional.cross_entropy(logits.float(), chunk["labels"], reduction="sum")}


class Denoising(Summed):
    """Cross-entropy between the model's logits and the masked tokens; every masked token counts the same."""

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return the number of masked tokens."""
        return {"loss": float((batch["targets"] != UNMASKED).sum())}

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return the sum of the tokens' cross-entropies, computed in float32 from logits `[M, vocabulary]`."""
        targets = chunk["targets"]
        chosen = targets != UNMASKED
        logits = model(chunk["tokens"], chunk["lengths"], chosen, **numbers(chunk))
        return {"loss": functional.cross_entropy(logits.float(), targets[chosen], reduction="sum")}


def classify(model: nn.Module, chunk: Batch) -> Tensor:
    """Return the logits `[C, classes]` of a chunk's sequences or pairs."""
    # looked up where the lengths are plain numbers: neither a device is waited for nor a traced model asked
    second = chunk.tensors.get("second_lengths")
    width = chunk["tokens"].shape[1]
    padded = chunk.lengths is None or second is not None or min(chunk.lengths.tolist()) < width
    padded = padded or width == 1  # where an empty sequence takes up its one column of padding
    if second is None:
        return model(chunk["tokens"], chunk["lengths"], padded, **numbers(chunk))
    return model(chunk["tokens"], chunk["lengths"], padded, chunk["second_tokens"], second, **numbers(chunk))


def numbers(chunk: Batch) -> dict[str, Tensor]:
    """Return the positions of a chunk's tokens by the name of the model's argument; none where they are counted."""
    names = ("positions", "second_positions")
    return {name: chunk[name] for name in names if name in chunk.tensors}
