"""Time of training on batches of mixed tasks against VL-Adapter's way, a batch for each task: the same examples.

Questions of two kinds, statements on two pictures, captions: so many examples of each, from a rendered world, with 36
stored visual tokens a picture (random numbers, which take the time of real ones), bottleneck adapters in a frozen
backbone of T5-small's shape, float32. Forward, backward and AdamW are timed, reading is not. Contestants take turns in
one process and are compared round by round:

four batches     a pass for each task, padded by itself; adapters of a task are plain maps of their own, as VL-Adapter
                 has them, so that nothing is routed; gradients add up to one update
four updates     the same with an update after each, as VL-Adapter trains: four AdamW steps
mixed            one pass, one update, each example routed to its task's adapters
mixed in chunks  the same, examples of like length together where that saves more padding than a further pass costs
                 (`chunking.tokens` at the size of the batch, so that memory limits nothing)

The first and the last two have one gradient: by how much theirs differ is said, and the script ends with 1 where that
is above a bar in float64 (at the smallest batch). Four updates are another training, and stand for its time alone.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/mixed_batches.py [--rounds 9] [--batches 4 16 64]
        [--tokens 36] [--small]
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Watch, alternate, machine, ratios, spread, table
from torch import Tensor, nn
from torch.nn import functional

from quincunx.config.load import load
from quincunx.config.plan import make_plan
from quincunx.data.batch import Batch
from quincunx.data.order import permutation
from quincunx.engine.experiment import Experiment
from quincunx.engine.optim import build_optimizer
from quincunx.engine.runtime import Runtime, start_runtime
from quincunx.engine.step import Step
from quincunx.nn.routing import TaskRouted, attach_tasks
from quincunx.recipes import recipe_of, schemas
from quincunx.recipes.vision_language.data.features import write_features
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.world.generate import generate
from quincunx.seeds import address
from quincunx.tuners.task_linear import TaskLinear

FOUR, APART = "four batches", "four updates"
MIXED, CHUNKED = "mixed", "mixed in chunks"
BAR = 1e-6
"""Relative distance of two gradients in float64 that count as equal."""
TASKS = ["vqa", "gqa", "nlvr", "caption"]
OWN, SHARED = "each task's own", "one set for all"
SETS = 3
"""Different batches, which take turns."""
T5_SMALL = {"width": 512, "num_layers": 6, "num_heads": 8, "hidden": 2048}
TINY = {"width": 32, "num_layers": 2, "num_heads": 2, "hidden": 64}


class OfOneTask(TaskRouted):
    """The maps of a `TaskLinear`, apart: a batch of one task goes through that task's map alone."""

    def __init__(self, routed: TaskLinear) -> None:
        super().__init__()
        assert routed.bias is not None
        self.weights = nn.ParameterList([nn.Parameter(each.detach().clone()) for each in routed.weight])
        self.biases = nn.ParameterList([nn.Parameter(each.detach().clone()) for each in routed.bias])

    def forward(self, x: Tensor) -> Tensor:
        """Return what the map of the batch's task gives."""
        task = int(self.tasks(x)[0])
        return functional.linear(x, self.weights[task], self.biases[task])


def with_maps_apart(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which every task's adapters are modules of their own."""
    found = copy.deepcopy(model)
    for path, module in list(found.named_modules()):
        if isinstance(module, TaskLinear) and module.weight.ndim == 3:
            parent, _, name = path.rpartition(".")
            setattr(found.get_submodule(parent), name, OfOneTask(module))
    attach_tasks(found)
    return found


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradients by the names that parameters have where tasks are routed."""
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, OfOneTask):
            found[f"{path}.weight"] = torch.stack([_gradient(each) for each in module.weights])
            found[f"{path}.bias"] = torch.stack([_gradient(each) for each in module.biases])
        elif not isinstance(module, nn.ParameterList):
            own = module.named_parameters(recurse=False)
            found |= {f"{path}.{name}": _gradient(each) for name, each in own if each.requires_grad}
    return found


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the relative L2 distance over all gradients."""
    if one.keys() != other.keys():
        raise ValueError(f"gradients of other parameters: {sorted(one.keys() ^ other.keys())}")
    apart = sum(float((one[name].double() - other[name].double()).square().sum()) for name in one)
    return (apart / sum(float(each.double().square().sum()) for each in other.values())) ** 0.5


@dataclass(frozen=True)
class Work:
    """The same examples, both ways."""

    mixed: Batch
    by_task: list[Batch]

    @property
    def limit(self) -> int:
        """Tokens of the mixed batch, padding included: no chunk is above it."""
        assert self.mixed.lengths is not None
        return len(self.mixed) * int(self.mixed.lengths.max())

    def double(self) -> Work:
        """Return it in float64."""
        return Work(_double(self.mixed), [_double(batch) for batch in self.by_task])


def _double(batch: Batch) -> Batch:
    tensors = {name: each.double() if each.is_floating_point() else each for name, each in batch.tensors.items()}
    return replace(batch, tensors=tensors)


def padded(batches: Sequence[Batch]) -> int:
    """Return how many positions are computed of batches: visual tokens, words read and words said."""
    return sum(len(batch) * sum(batch[n].shape[1] for n in ("visual_mask", "input_ids", "labels")) for batch in batches)


class Trained:
    """A model with an optimizer of its own, and the steps that it is trained by."""

    def __init__(self, made: Experiment, model: nn.Module, runtime: Runtime, limit: int) -> None:
        self.model, objective = model.train(), made.parts.objective
        plan = make_plan(made.config, made.sizes, None)
        self.whole = Step(model, objective, runtime, plan, 0)
        self.chunked = Step(model, objective, runtime, replace(plan, chunk_tokens=limit), 0)
        self.optimizer, _ = build_optimizer(made.config.optimizer, made.config.update, (model, objective))
        self.numbers = count()

    def gradient(self, step: Step, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Return the gradients of an update."""
        self.optimizer.zero_grad()
        step.gradient(0, batches)
        return gradients(self.model)

    def timed(self, step: Step, updates: Iterator[list[list[Batch]]]) -> float:
        """Return the seconds of the next updates, each of so many batches."""
        todo = next(updates)
        watch = Watch()
        for batches in todo:
            self.optimizer.zero_grad()
            step.gradient(next(self.numbers), batches)
            self.optimizer.step()
        return watch.read().wall


def experiment_of(folder: Path, sizes: dict[str, int], adapters: str) -> Experiment:
    """Return model and data; what is trained does not begin at zero, so that every gradient is there."""
    single = adapters == SHARED
    config: dict[str, Any] = {
        "recipe": "vision_language",
        "seed": 0,
        "data": {"path": str(folder), "tasks": TASKS},
        "model": {"build": sizes, "dropout": 0.0},
        "pictures": {"features": "RN50"},
        "adapt": {"bottleneck": True, "single": single, "reduction_factor": 8},
        "text": {"task_prompts": single},
        "mixing": {"mixed": True},
        "compute": {"device": "cpu"},
    }
    recipe = recipe_of("vision_language")
    decided, _ = recipe.decide(load(config, schemas=schemas()).config)
    torch.manual_seed(0)
    made = recipe.build(decided)
    with torch.no_grad():
        for parameter in made.parts.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return made


def work_of(made: Experiment, size: int, number: int) -> Work:
    """Return a mixed batch of so many examples of each task in turn, and the same task by task."""
    ends = np.cumsum([0, *made.source.sizes]).tolist()  # pyright: ignore[reportAttributeAccessIssue]
    drawn = [
        begin + permutation(end - begin, address(0, "drawn", task, number))[:size]
        for task, (begin, end) in enumerate(pairwise(ends))
    ]
    if any(len(each) < size for each in drawn):
        raise SystemExit(f"the world has too few examples for batches of {size}: {np.diff(ends).tolist()}")
    ids: list[int] = np.stack(drawn, 1).ravel().tolist()
    mixed = made.collate([made.source[each] for each in ids], ids, range(len(ids)), address(0, "collate", number))
    return Work(mixed, [mixed.select((mixed["tasks"] == task).nonzero()[:, 0]) for task in range(len(TASKS))])


def turns(works: Sequence[Work], mixed: bool, updates: int = 1) -> Iterator[list[list[Batch]]]:
    """Yield the updates of one work after another, for ever."""
    for number in count():
        work = works[number % len(works)]
        if mixed:
            yield [[work.mixed]]
        else:
            yield [work.by_task] if updates == 1 else [[batch] for batch in work.by_task]


def differences(routed: Trained, apart: Trained, work: Work) -> list[float]:
    """Return how far the gradients of the mixed batch, whole and in chunks, are from that of the four batches."""
    wanted = apart.gradient(apart.whole, work.by_task)
    return [distance(routed.gradient(step, [work.mixed]), wanted) for step in (routed.whole, routed.chunked)]


def compare(made: Experiment, runtime: Runtime, size: int, rounds: int) -> list[str]:
    """Return cells of a row of the table: positions, gradients in float32, what updates take."""
    works = [work_of(made, size, number) for number in range(SETS)]
    limit = max(work.limit for work in works)
    routed = Trained(made, copy.deepcopy(made.parts.model), runtime, limit)
    apart = Trained(made, with_maps_apart(made.parts.model), runtime, limit)
    apart_by = max(differences(routed, apart, works[0]))
    found = alternate(
        {
            FOUR: partial(apart.timed, apart.whole, turns(works, mixed=False)),
            APART: partial(apart.timed, apart.whole, turns(works, mixed=False, updates=4)),
            MIXED: partial(routed.timed, routed.whole, turns(works, mixed=True)),
            CHUNKED: partial(routed.timed, routed.chunked, turns(works, mixed=True)),
        },
        rounds,
        warmup=1,
    )
    cuts = routed.chunked.cut(works[0].mixed)
    chunks = [works[0].mixed] if cuts is None else [works[0].mixed.select(part) for part in cuts]
    positions = [padded(batches) for batches in (works[0].by_task, [works[0].mixed], chunks)]
    return [
        f"4 x {size}",
        " / ".join(f"{each:,}" for each in positions) + f" ({len(chunks)})",
        f"{apart_by:.1e}",
        *(f"{spread([1000 * each for each in values]):.0f}" for values in found.values()),
        *(f"{ratios(found[theirs], found[ours]):.2f}" for ours in (MIXED, CHUNKED) for theirs in (FOUR, APART)),
    ]


def check(made: Experiment, runtime: Runtime, size: int) -> float:
    """Return the largest distance of gradients in float64."""
    work = work_of(made, size, 0).double()
    routed = Trained(made, copy.deepcopy(made.parts.model).double(), runtime, work.limit)
    apart = Trained(made, with_maps_apart(made.parts.model).double(), runtime, work.limit)
    return max(differences(routed, apart, work))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", help="examples of each task; default: 4 16 64")
    parser.add_argument("--tokens", type=int, default=36, help="visual tokens of a picture")
    parser.add_argument("--small", action="store_true", help="a tiny model and little data, to try the script")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    sizes, width = (TINY, 32) if options.small else (T5_SMALL, 2048)
    batches: list[int] = options.batches or ([4] if options.small else [4, 16, 64])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "world"
        pictures = max(40, 4 * max(batches))
        generate(folder, counts={"train": pictures, "dev": 8}, size=64, tasks=TASKS, feature_width=None)
        draw = np.random.default_rng(0)
        names = [*Collection(folder).pictures]
        made_up = ((name, draw.standard_normal((options.tokens, width), np.float32)) for name in names)
        write_features(folder / "features" / "RN50.arrow", made_up, width=width, model="random numbers")
        print(machine(torch.get_num_threads()) + "\n")
        rows: list[list[str]] = []
        worst = 0.0
        for adapters in (OWN, SHARED):
            made = experiment_of(folder, sizes, adapters)
            runtime = start_runtime(made.config.compute)
            found = check(made, runtime, min(batches))
            print(f"{adapters}: gradients in float64 differ by {found:.1e}", flush=True)
            worst = max(worst, found)
            for size in batches:
                rows.append([adapters, *compare(made, runtime, size, options.rounds)])
                print(f"measured: {', '.join(rows[-1])}", file=sys.stderr, flush=True)
            runtime.close()
    ways = [f"ms: {name}" for name in (FOUR, APART, MIXED, CHUNKED)]
    faster = [f"{ours} over {theirs}" for ours in (MIXED, CHUNKED) for theirs in (FOUR, APART)]
    print(
        f"\npositions, padding included: {FOUR} / {MIXED} / {CHUNKED} (their number); gradients: relative distance to"
    )
    print(f"those of {FOUR}, float32; last: times as fast\n")
    print(table(["adapters", "examples", "positions", "gradients", *ways, *faster], rows))
    if worst > BAR:
        sys.exit(f"gradients differ by {worst:.1e} in float64, above {BAR:.0e}")


if __name__ == "__main__":
    main()
