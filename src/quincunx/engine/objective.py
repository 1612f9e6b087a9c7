"""What is minimised: the two shapes of objective that the step knows how to cut into chunks exactly.

A *summed* loss is a sum over examples (classification, language modelling). A *represented* loss looks at a whole
logical batch at once (contrastive learning): its rows are encoded chunk by chunk, the loss sees all of them. Neither
ever sees a chunk size or another process. B rows of a logical batch, C rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quincunx.data.batch import Batch


class Objective(nn.Module):
    """Base of both shapes. An objective's parameters and buffers are trained, saved and restored with the model's."""

    terms: tuple[str, ...] = ("loss",)
    """The named terms that `weights` and `loss` return."""
    coefficients: Mapping[str, float] = {}
    """Factor of each named term in the total; 1 where a term is not named."""
    statistics_remedy: str = "put the module in eval mode, or use a norm without batch statistics"
    """What else than whole batches helps where a module of the model computes statistics over a batch that is cut."""

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return what each term counts in this batch (examples, tokens, pairs), from the data alone.

        An update's loss is, term by term, the sum of the losses over the sum of these weights: a short batch, an
        accumulated one or one cut into chunks weighs exactly what is in it.
        """
        raise TypeError(f"{type(self).__name__} must define weights(batch)")

    def pads(self, model: nn.Module, device: torch.device) -> bool:
        """Return whether a chunk's padding is computed; if not, chunks are cut by their tokens alone."""
        return True

    def after_update(self) -> None:
        """Change buffers (a queue, a moving average) once the optimizer has stepped; never called by evaluation."""

    def after_skip(self) -> None:
        """Forget what was noted of an update that a loss scaler skipped."""


class Summed(Objective):
    """A loss that is a sum over examples."""

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return each term's *sum* over the chunk's examples, a scalar tensor."""
        raise TypeError(f"{type(self).__name__} must define loss(model, chunk)")


@dataclass(frozen=True)
class Part:
    """Rows of a logical batch that are encoded alike: the queries, say."""

    role: str
    batch: Batch


Representations = dict[str, dict[str, Tensor]]
"""By role, then by name: a tensor `[B, ...]` of that role's rows, in the batch's order."""


class Represented(Objective):
    """A loss over the representations of a whole logical batch."""

    def parts(self, batch: Batch) -> Sequence[Part]:
        """Return the rows to encode, by role."""
        raise TypeError(f"{type(self).__name__} must define parts(batch)")

    def represent(self, model: nn.Module, rows: Part) -> dict[str, Tensor]:
        """Return named tensors `[C, ...]` for these rows; trailing shapes must not depend on the chunk."""
        raise TypeError(f"{type(self).__name__} must define represent(model, rows)")

    def loss(self, model: nn.Module, representations: Representations, batch: Batch) -> dict[str, Tensor]:
        """Return each term's *sum* over the logical batch, a scalar tensor."""
        raise TypeError(f"{type(self).__name__} must define loss(model, representations, batch)")
