"""What a compressor learns: cross-entropy of each kind of text, and the whole context's predictions for the compressed.

B batch, L branch, T trained tokens, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from quincunx.data.batch import Batch
from quincunx.engine.objective import Summed
from quincunx.recipes.compression.blotch import UNTRAINED
from quincunx.recipes.compression.model.compressor import Compressor

DISTILLATION = "distillation"


class Prediction(Summed):
    """A term for each kind of text, a sum over its tokens that are to be predicted.

    Args:
        weights: By term, above 0: names of branches, and `distillation`, for which the batch holds `forward` and
            `full`.
        label_smoothing: Share of a target's probability that is spread over the vocabulary (Szegedy et al. 2016).
        temperature: Of `distillation` (Hinton et al. 2015, arXiv 1503.02531): logits are divided by it, and the
            divergence is multiplied by its square, so that its gradients keep their size.
    """

    def __init__(self, weights: Mapping[str, float], *, label_smoothing: float = 0.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.terms = tuple(weights)
        self.coefficients = dict(weights)
        self.label_smoothing = label_smoothing
        self.temperature = temperature
        names = [term for term in weights if term != DISTILLATION]
        teaching = [name for name in ("forward", "full") if DISTILLATION in weights and name not in names]
        self.branches = (*names, *teaching)
        """Texts that are computed."""

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return how many tokens are to be predicted, by term."""
        return {
            term: float((batch["forward_targets" if term == DISTILLATION else f"{term}_targets"] != UNTRAINED).sum())
            for term in self.terms
        }

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return each term's sum over the chunk's tokens."""
        compressor = cast("Compressor", model)
        states = cast("dict[str, Tensor]", model(chunk, self.branches))
        losses: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        for name in self.branches:
            # the head is what costs most in a small model: it sees no state that predicts nothing
            chosen, targets = _trained(states[name], chunk[f"{name}_targets"])
            found = compressor.logits(chosen)
            logits[name] = found.float() if found.dtype.itemsize < 4 else found
            if name in self.terms:
                losses[name] = functional.cross_entropy(
                    logits[name], targets, reduction="sum", label_smoothing=self.label_smoothing
                )
        if DISTILLATION in self.terms:
            losses[DISTILLATION] = divergence(logits["full"].detach(), logits["forward"], self.temperature)
        return losses


def _trained(states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states `[T, D]` that predict something, and what: `[T]`, of `[B, L, D]` and `[B, L]`."""
    if isinstance(targets, FakeTensor):  # an estimate of memory has no values to choose by: all of them, the most
        return states.flatten(0, 1), targets.flatten().clamp(min=0)
    trained = targets != UNTRAINED
    return states[trained], targets[trained]


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the sum over tokens of the Kullback-Leibler divergence of two predictions, times the temperature's square.

    Args:
        teacher: Logits `[T, V]`.
        student: Logits `[T, V]` for the same tokens.
        temperature: What both are divided by.
    """
    wanted = torch.log_softmax(teacher / temperature, -1)
    found = torch.log_softmax(student / temperature, -1)
    return functional.kl_div(found, wanted, reduction="sum", log_target=True) * temperature**2
