"""A recipe's objective with the z-regulariser beside its own terms (VL-Adapter, Sung et al., CVPR 2022, lambda_z).

Each text's mean of z squared counts alike, averaged over adapters: from the rows alone, so that chunks, replays and
processes change nothing. The wrapper has the objective's own parameters, buffers and names; evaluation never meets it.
B rows of a logical batch, C rows of a chunk, A adapters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.config.sections.peft import Peft
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.objective import Objective, Part, Representations, Represented, Summed
from quincunx.errors import UsageError
from quincunx.tuners.watching import Watch

Z = "z"
"""The term, and what begins the terms of single adapters: `z/<path>`."""


def regularised(parts: Parts, section: Peft | None, *, compiled: bool = False) -> Parts:
    """Return parts whose objective has the terms that `peft.z_weight` and `peft.track_z` ask for; else as they are.

    A recipe that makes up the section itself calls this; parts that have the terms already stay as they are.

    Args:
        parts: Model and objective.
        section: The config's section `peft`; None: the recipe has none.
        compiled: Whether the model will be compiled.

    Raises:
        UsageError: No adapter of the model has a bottleneck, or the model will be compiled.
    """
    if section is None or not (section.z_weight or section.track_z) or isinstance(parts.objective, _Beside):
        return parts
    named = "peft.z_weight" if section.z_weight else "peft.track_z"
    if compiled:
        raise UsageError(
            f"{named} looks into adapters while they are passed: set compute.compile=false, or leave it out"
        )
    try:
        watch = Watch(parts.model)
    except UsageError as error:
        raise UsageError(f"{named}: {error}") from error
    objective = parts.objective
    if isinstance(objective, Summed):
        return replace(parts, objective=RegularisedSum(objective, watch, section.z_weight, each=section.track_z))
    if isinstance(objective, Represented):
        return replace(parts, objective=RegularisedRows(objective, watch, section.z_weight, each=section.track_z))
    raise TypeError(f"{type(objective).__name__} is neither a Summed nor a Represented objective")


class _Beside(Objective):
    """An objective in another's place, with that one's parameters, buffers and modules under their own names."""

    def __init__(self, inner: Objective, watch: Watch, weight: float, *, each: bool) -> None:
        super().__init__()
        # the very same: a checkpoint then has the names that it has without the regulariser
        self._parameters, self._buffers, self._modules = inner._parameters, inner._buffers, inner._modules
        self.statistics_remedy = inner.statistics_remedy
        self.watch = watch
        self.each = each
        paths = [f"{Z}/{path}" for path in watch.paths] if each else []
        self.terms = (*inner.terms, Z, *paths)
        self.coefficients: Mapping[str, float] = {**inner.coefficients, **dict.fromkeys(paths, 0.0), Z: weight}
        self._base = (inner,)  # in a tuple: its parts are here already

    def train(self, mode: bool = True) -> _Beside:
        """Set the mode, of the objective within too."""
        super().train(mode)
        self._base[0].training = mode
        return self

    def weights(self, batch: Batch) -> dict[str, float]:
        """Return what the objective's terms count, and how many rows the regulariser's do."""
        rows = float(self.rows(batch))
        return {**self._base[0].weights(batch), **dict.fromkeys(self.terms[len(self._base[0].terms) :], rows)}

    def rows(self, batch: Batch) -> int:
        """Return how many rows adapters are passed with for a batch."""
        return len(batch)

    def pads(self, model: nn.Module, device: torch.device) -> bool:
        """Return what the objective says."""
        return self._base[0].pads(model, device)

    def after_update(self) -> None:
        """Let the objective change its buffers."""
        self._base[0].after_update()

    def after_skip(self) -> None:
        """Let the objective forget."""
        self._base[0].after_skip()

    def put(self, losses: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return losses with the regulariser's terms, for each adapter's sum over rows."""
        found = {**losses, Z: torch.stack(list(sums.values())).mean()}
        if self.each:
            found |= {f"{Z}/{path}": value.detach() for path, value in sums.items()}
        return found


class RegularisedSum(_Beside, Summed):
    """A summed objective with the regulariser's terms.

    An objective whose model reads another number of texts than a batch has rows says how many by a method
    `texts(batch) -> int`.

    Args:
        inner: The objective.
        watch: Of the model's adapters.
        weight: Factor of the mean of z squared.
        each: Whether each adapter's mean is a term too.
    """

    def __init__(self, inner: Summed, watch: Watch, weight: float, *, each: bool) -> None:
        super().__init__(inner, watch, weight, each=each)
        self._inner = (inner,)
        self._passed: tuple[str, ...] | None = None

    def rows(self, batch: Batch) -> int:
        """Return how many texts the model reads of a batch."""
        texts: Any = getattr(self._inner[0], "texts", None)
        return len(batch) if texts is None else int(texts(batch))

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        """Return each term's sum over the chunk; UsageError where it is not known which positions are padding."""
        if not model.training:
            return self._inner[0].loss(model, chunk)
        with self.watch.passing() as seen:
            losses = self._inner[0].loss(model, chunk)
        means = seen.means(self.rows(chunk))
        self._passed = same_adapters(self._passed, means)
        return self.put(losses, {path: each.sum() for path, each in means.items()})


class RegularisedRows(_Beside, Represented):
    """A represented objective with the regulariser's terms: each row's means are among its representations.

    Args:
        inner: The objective.
        watch: Of the model's adapters.
        weight: Factor of the mean of z squared.
        each: Whether each adapter's mean is a term too.
    """

    def __init__(self, inner: Represented, watch: Watch, weight: float, *, each: bool) -> None:
        super().__init__(inner, watch, weight, each=each)
        self._inner = (inner,)
        self._passed: dict[str, tuple[str, ...]] = {}
        """By role: the adapters that its rows pass, in the order of the means' columns."""

    def parts(self, batch: Batch) -> Sequence[Part]:
        """Return the objective's rows."""
        return self._inner[0].parts(batch)

    def represent(self, model: nn.Module, rows: Part) -> dict[str, Tensor]:
        """Return the objective's tensors, and the rows' means of z squared `[C, A]` where any were seen."""
        if not model.training:
            return self._inner[0].represent(model, rows)
        with self.watch.passing() as seen:
            found = self._inner[0].represent(model, rows)
        means = seen.means(len(rows.batch))
        if means:  # rows that a memory has encoded, in eval mode or by a copy, pass none
            self._passed[rows.role] = same_adapters(self._passed.get(rows.role), means)
            found = {**found, Z: torch.stack(list(means.values()), 1)}
        return found

    def loss(self, model: nn.Module, representations: Representations, batch: Batch) -> dict[str, Tensor]:
        """Return each term's sum over the logical batch."""
        own = {role: {name: each for name, each in of.items() if name != Z} for role, of in representations.items()}
        losses = self._inner[0].loss(model, own, batch)
        by_adapter: dict[str, list[Tensor]] = {}
        for role, of in representations.items():
            if Z in of:
                for path, column in zip(self._passed[role], of[Z].unbind(1), strict=True):
                    by_adapter.setdefault(path, []).append(column)
        if not by_adapter:
            return losses
        # as large as its mean times the rows: an update's is then the mean over its logical batches
        return self.put(losses, {path: torch.cat(each).mean() * len(batch) for path, each in by_adapter.items()})


def same_adapters(before: tuple[str, ...] | None, means: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the adapters that were passed.

    Raises:
        UsageError: None was, or others than before: a mean over them would depend on the chunk.
    """
    passed = tuple(means)
    if not passed:
        raise UsageError("peft.z_weight and peft.track_z look at adapters, and the model was computed without any")
    if before is not None and before != passed:
        other = next(iter({*before} ^ {*passed}), passed[0])
        raise UsageError(f"the adapter {other} was passed in one chunk and not in another: a mean would depend on that")
    return passed
