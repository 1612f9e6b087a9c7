"""Where LoRA goes: the query and value maps of every attention, unless other sites are named."""

from __future__ import annotations

from torch import nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.parts import check_rows
from quincunx.tuners.sites import QUERY, VALUE, Found, bare, describe, find_sites, input_width_of, width_of
from quincunx.tuners.task_lora.config import TaskLoraConfig
from quincunx.tuners.task_lora.layer import TaskLora


def place(model: nn.Module, config: TaskLoraConfig) -> Placement:
    """Return a part for each site, and the names of the model's biases where they are trained.

    Raises:
        UsageError: A site is no linear map, or has rows of no task of their own, or the model has no biases to train.
    """
    found = find_sites(
        model, config.sites or (QUERY, VALUE), patterns=config.target_modules, leave_out=config.leave_out
    )
    check_rows(model, (site.path for site in found), config.tasks)
    placement = Placement(notes=(describe(found),))
    for site in found:
        placement.adapters[site.path] = _lora(model, site, config)
    if config.biases == "all":
        placement.trained = biases(model)
        if not placement.trained:
            raise UsageError(f"{type(model).__name__} has no biases: leave the option biases out")
    return placement


def biases(model: nn.Module) -> tuple[str, ...]:
    """Return the names of all biases of a model's own, as they were before anything was put into it."""
    found: list[str] = []
    for name, _ in model.named_parameters():
        words = name.split(".")
        if words[-1] == "bias" and not any(word.startswith("quincunx_") for word in words):
            found.append(".".join(word for word in words if word != "base_layer"))
    return tuple(found)


def _lora(model: nn.Module, site: Found, config: TaskLoraConfig) -> TaskLora:
    module = bare(model.get_submodule(site.path))
    transposed = type(module).__name__ == "Conv1D"
    if not (isinstance(module, nn.Linear) or transposed):
        raise UsageError(f"{site.path} is a {type(module).__name__}: LoRA changes linear maps, name some of those")
    weight = module.weight
    tied = next((path for path, other in model.named_modules() if other is not module and _has(other, weight)), "")
    return TaskLora(
        input_width_of(module), width_of(module), rank=config.rank, scale=config.scale, dropout=config.dropout,
        tasks=config.tasks, transposed=transposed, tied=tied,
    )  # fmt: skip


def _has(module: nn.Module, weight: object) -> bool:
    return any(parameter is weight for parameter in module._parameters.values())
