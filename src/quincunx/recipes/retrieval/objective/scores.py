"""From vectors to the scores of the softmax: similarity, temperature, and the leading dimensions of Matryoshka losses.

B rows, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.objective.options import Similarity


class Temperature(nn.Module):
    """What similarities are divided by before the softmax: a constant, or learned as its logarithm.

    A learned one is put back into its range after every update (as Radford et al. 2021, arXiv 2103.00020, clip their
    scale at 100), so that its gradient never vanishes at a border.

    Args:
        value: The constant, or where learning begins.
        learned: Whether it is a parameter.
        lowest: Smallest learned value.
        highest: Largest learned value.

    Raises:
        UsageError: The value is not positive, or a learned one begins outside its range.
    """

    def __init__(self, value: float, *, learned: bool = False, lowest: float = 0.01, highest: float = 100.0) -> None:
        super().__init__()
        if not (value > 0 and math.isfinite(value)):
            raise UsageError(f"the temperature must be positive, found {value}; 0.05 is usual for cosine, 1 for dot")
        if learned and not 0 < lowest <= value <= highest:
            raise UsageError(
                f"a learned temperature begins at {value}, outside its range {lowest} to {highest}; change one of them"
            )
        self.learned = learned
        self._constant = value
        self._range = (math.log(lowest), math.log(highest)) if learned else (0.0, 0.0)
        if learned:
            self.logarithm = nn.Parameter(torch.tensor(math.log(value)))

    def forward(self, similarities: Tensor) -> Tensor:
        """Return similarities, of any shape, divided by the temperature."""
        if self.learned:
            return similarities * self.logarithm.neg().exp().to(similarities.dtype)
        return similarities / self._constant

    def value(self) -> Tensor:
        """Return the temperature, a detached scalar."""
        return self.logarithm.detach().exp() if self.learned else torch.tensor(self._constant, dtype=torch.float64)

    def after_update(self) -> None:
        """Put a learned temperature back into its range."""
        if self.learned:
            with torch.no_grad():
                self.logarithm.clamp_(*self._range)


def prepare(vectors: Tensor, width: int | None, similarity: Similarity | None) -> Tensor:
    """Return the leading `width` dimensions of vectors `[..., D]`, of length 1 where the similarity is cosine.

    Half precision becomes float32 first: scores that are nearly equal would tie in it.

    Raises:
        UsageError: The vectors have fewer dimensions.
    """
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    if width is not None:
        if width > vectors.shape[-1]:
            raise UsageError(
                f"a Matryoshka width of {width} was asked for, the vectors have {vectors.shape[-1]} dimensions; "
                "leave it out or choose smaller ones"
            )
        vectors = vectors[..., :width]
    return functional.normalize(vectors, dim=-1) if similarity == "cosine" else vectors
