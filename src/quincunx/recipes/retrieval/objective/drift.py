"""How far the encoder has moved away from what a memory holds.

The texts at evenly spaced places of the ring are kept; their vectors, encoded anew, are compared with the stored ones.
M entries of the ring, n kept texts, S tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.errors import UsageError


class DriftMonitor(nn.Module):
    """The tokens of a few entries of a ring, evenly spaced and so of evenly spaced ages.

    Args:
        size: M.
        every: Updates between two measurements.
        threshold: Mean cosine between stored and fresh vectors below which the memory is emptied and filled anew.
        sample: n, at most M.
        longest: S: the largest number of tokens of a document.

    Raises:
        UsageError: A number is out of range.
    """

    tokens: Tensor
    lengths: Tensor
    places: Tensor

    def __init__(self, size: int, *, every: int, threshold: float, sample: int = 32, longest: int) -> None:
        super().__init__()
        if every < 1 or not 1 <= sample <= size or longest < 1 or not -1 <= threshold <= 1:
            raise UsageError(
                f"a drift monitor of a memory of {size} entries was given every={every}, sample={sample}, "
                f"longest={longest}, threshold={threshold}; it needs every and longest of at least 1, a sample of 1 to "
                f"{size}, and a threshold between -1 and 1"
            )
        self.every = every
        self.threshold = threshold
        # by entry of the ring, -1 where its text is not kept; follows from the sizes, so it is not saved
        slots = torch.full((size,), -1)
        places = torch.arange(sample) * size // sample
        slots[places] = torch.arange(sample)
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("tokens", torch.zeros(sample, longest, dtype=torch.int64))
        self.register_buffer("lengths", torch.zeros(sample, dtype=torch.int64))

    slots: Tensor

    def due(self, update: int) -> bool:
        """Tell whether this update, counted from 0, measures."""
        return update > 0 and update % self.every == 0 and bool((self.lengths > 0).any())

    def keep(self, places: Tensor, tokens: Tensor, lengths: Tensor) -> None:
        """Take over the texts that were stored at sampled places of the ring.

        Args:
            places: `[B]`, of the ring.
            tokens: `[B, S']`.
            lengths: `[B]`. A text longer than S is not kept.
        """
        slots = self.slots[places]
        chosen = slots >= 0
        slots, tokens, lengths = slots[chosen], tokens[chosen], lengths[chosen]
        longest = self.tokens.shape[1]
        width = min(tokens.shape[1], longest)
        self.tokens[slots, :width] = tokens[:, :width].to(self.tokens.dtype)
        self.lengths[slots] = torch.where(lengths <= longest, lengths, 0).to(self.lengths.dtype)

    def texts(self) -> Batch:
        """Return the kept texts as a batch."""
        chosen = (self.lengths > 0).nonzero()[:, 0]
        lengths = self.lengths[chosen].cpu()
        tensors = {"tokens": self.tokens[chosen, : int(lengths.max())], "lengths": self.lengths[chosen]}
        rows = torch.arange(len(chosen), device=chosen.device)
        return Batch(tensors, rows, self.places[chosen].tolist(), lengths, frozenset({"tokens"}))

    def measure(self, stored: Tensor, fresh: Tensor) -> Tensor:
        """Return the mean cosine between the ring's vectors `[M, D]` and those of `texts()` encoded anew `[n', D]`."""
        kept = stored[self.places[self.lengths > 0]]
        return functional.cosine_similarity(kept, fresh.detach().to(kept.dtype), dim=1).mean()

    def clear(self) -> None:
        """Forget the texts."""
        self.lengths.zero_()
