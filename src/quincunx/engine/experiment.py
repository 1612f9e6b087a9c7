"""What a recipe hands to the engine: data, model, objective and evaluators; the engine asks for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from quincunx.config.plan import Plan
from quincunx.config.schema import Sizes
from quincunx.data.batch import Batch
from quincunx.data.loader import Collate, Source
from quincunx.data.order import Arrangement, Order
from quincunx.engine.objective import Objective
from quincunx.engine.runtime import Runtime
from quincunx.metrics.record import Evaluation
from quincunx.seeds import address


def order_of(
    config: Any, count: int, lengths: NDArray[np.integer] | None, seed: int, arrangement: Arrangement | None = None
) -> Order:
    """Return the order in which training takes its examples.

    Args:
        config: Its sections `update`, `budget`, `loading` and `debug` are read.
        count: Examples of an epoch.
        lengths: Tokens of each, for bucketing.
        seed: The run's.
        arrangement: Which examples make up an epoch; None: each once.
    """
    return Order(
        count,
        config.update.batch_size,
        address(seed, "order"),
        lengths=lengths if config.loading.bucketing else None,
        window=config.loading.window,
        accumulation=config.update.accumulation,
        overfit=config.debug.overfit_batch,
        arrangement=arrangement,
        # where an epoch is so many logical batches, the end of a pass over the data ends no update: as the plan counts
        flows=config.budget.batches_per_epoch is not None,
    )


Evaluator = Callable[[nn.Module, Runtime, Plan], Evaluation]
"""Evaluates a model, already in eval mode and without gradients, on one split."""


@dataclass(frozen=True)
class Parts:
    """Model and objective alone: enough to count parameters, estimate memory, or load a checkpoint."""

    model: nn.Module
    objective: Objective
    sample: Callable[[int, int | None], Batch] | None = None
    """`sample(rows, length)` makes a batch of that shape, for estimates; None is the longest that the model takes."""
    notes: Sequence[str] = ()
    """What there is to say of the model, once."""


@dataclass(frozen=True)
class Experiment:
    """Everything that one run trains and evaluates on."""

    config: Any
    """The config with everything decided that it left open (counts, say): what the run folder keeps."""
    parts: Parts
    source: Source
    collate: Collate
    sizes: Sizes
    """What an epoch of training and the evaluations hold; `train` and `groups` as the arrangement has them, if any."""
    evaluators: Mapping[str, Evaluator]
    """Evaluated during training, by split."""
    final_evaluators: Mapping[str, Evaluator] = field(default_factory=dict)
    """Evaluated once at the end, on the best weights, by split."""
    metric: str = "dev/loss"
    """Chooses the best checkpoint unless the config names another."""
    goal: Literal["max", "min"] = "min"
    metrics: Sequence[str] = ()
    """Every `split/name` that the evaluators give, so that a misspelt one is refused before training."""
    chunk_samples: int | None = None
    """The recipe's own limit of examples per chunk, besides `chunking.samples`."""
    notes: Sequence[str] = ()
    """What was decided for the user, said at the start."""
    fingerprints: Mapping[str, Any] = field(default_factory=dict)
    """Hashes of the data, compared when a run is resumed."""
    skipped_rows: Sequence[Mapping[str, Any]] = ()
    artefacts: Mapping[str, str] = field(default_factory=dict)
    """Further text files of the run folder, by name."""
    arrangement: Arrangement | None = None
    """Which examples make up an epoch and a logical batch; None: each once, as shuffled."""

    def __post_init__(self) -> None:
        groups = (self.sizes.train,) if self.arrangement is None else tuple(self.arrangement.groups)
        # the plan counts updates from the sizes, the order makes them from the arrangement
        if sum(groups) != self.sizes.train or groups != (self.sizes.groups or (self.sizes.train,)):
            raise ValueError(f"the arrangement has groups of {groups} examples, the sizes say {self.sizes}")
