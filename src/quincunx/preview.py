"""What a run would do, found without training: the plan with the model's sizes.

Data is read where only it tells how many examples there are; a recipe that declares its sizes is planned without.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from quincunx.config.check import check_sizes
from quincunx.config.document import ConfigError
from quincunx.config.load import Loaded, explicit_paths
from quincunx.config.plan import Plan, make_plan
from quincunx.config.schema import lookup
from quincunx.engine.footprint import count_parameters, estimate_memory
from quincunx.engine.runtime import DTYPES, choose_dtype, find_device
from quincunx.engine.targets import try_targets
from quincunx.errors import RunError
from quincunx.recipes import recipe_of


def preview(loaded: Loaded, allowed: Sequence[str] = ()) -> tuple[Plan, list[str]]:
    """Return the plan of a config and what there is to say.

    `allowed` are the paths that `_target_` may name besides optimizers and schedules. Raises ConfigError when a setting
    shows to be wrong at these sizes, or a `_target_` node cannot be built; DataError for data that cannot be read.
    """
    recipe = recipe_of(loaded.schema.name)
    config, notes = recipe.decide(loaded.config)
    declared = loaded.schema.sizes
    read = None if declared is not None else recipe.build(config, explicit_paths(loaded))
    if read is not None:
        config, sizes, notes = read.config, read.sizes, [*notes, *read.notes]
    else:
        assert declared is not None
        sizes = declared(config)
    problems = check_sizes(config, loaded.schema, sizes, loaded.document)
    plan = make_plan(config, sizes, recipe.chunk_samples(config) if read is None else read.chunk_samples)
    problems += try_targets(config, plan, loaded.document, allowed)
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    notes = [*loaded.notes, *notes, *(problem.render() for problem in problems)]
    path = lookup(config, "data.path")
    if path is not None and read is None:
        notes.append(f"{path} was not read: the numbers of examples are those of the config")
    parts = recipe.parts(config) if read is None else read.parts
    try:
        dtype = choose_dtype(config.compute, find_device(config.compute.device))
    except RunError as error:  # a plan may be made for another machine
        notes.append(f"not on this machine: {error}")
        dtype = DTYPES.get(config.compute.precision, torch.float32)
    return plan.with_model(count_parameters(parts), estimate_memory(parts, plan, dtype)), notes
