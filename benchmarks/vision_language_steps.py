"""A vision-language experiment that can be taken an update further, for benchmarks of time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
from measure import Watch
from torch import Tensor

from quincunx.config.load import load
from quincunx.config.plan import make_plan
from quincunx.data.loader import Updates
from quincunx.engine.experiment import order_of
from quincunx.engine.optim import build_optimizer
from quincunx.engine.runtime import start_runtime
from quincunx.engine.step import Step
from quincunx.recipes import recipe_of, schemas


class Trained:
    """An experiment at its beginning, updates drawn as a run draws them.

    Args:
        config: Of the recipe `vision_language`.
        changes: Settings otherwise than there.
    """

    def __init__(self, config: Mapping[str, Any], changes: Sequence[str] = ()) -> None:
        loaded = load(config, [*changes], schemas=schemas())
        recipe = recipe_of("vision_language")
        decided, _ = recipe.decide(loaded.config)
        torch.manual_seed(0)
        made = recipe.build(decided)
        self.runtime = start_runtime(decided.compute)
        plan = make_plan(made.config, made.sizes, None)
        self.parts = made.parts
        self.step = Step(self.parts.model.train(), self.parts.objective, self.runtime, plan, 0)
        modules = (self.parts.model, self.parts.objective)
        self.optimizer, _ = build_optimizer(made.config.optimizer, made.config.update, modules)
        order = order_of(made.config, made.sizes.train, None, 0, made.arrangement)
        self.data = Updates(made.source, made.collate, order, 0)
        self.numbers = count()

    @property
    def parameters(self) -> tuple[int, int]:
        """How many parameters of the model are trained, and how many there are."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self.parts.model.parameters()]
        return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)

    def update(self) -> float:
        """Return the seconds of one update."""
        number = next(self.numbers)
        watch = Watch()
        self.optimizer.zero_grad()
        self.step.gradient(number, self.data[number])
        self.optimizer.step()
        return watch.read().wall

    def held(self) -> tuple[int, int, int]:
        """Return the bytes that autograd keeps in one update, of gradients, and of the optimizer's states."""
        number = next(self.numbers)
        own = {parameter.untyped_storage().data_ptr() for parameter in self.parts.model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        self.optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self.step.gradient(number, self.data[number])
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        gradients = sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None)
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return sum(kept.values()), gradients, sum(state.nbytes for state in states if isinstance(state, Tensor))
