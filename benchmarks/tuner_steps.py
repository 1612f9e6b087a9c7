"""Time of a training step with adapters: ours against peft's LoRA, and a batch of mixed tasks against one for each.

Random weights of the shape of MiniLM (6 layers of 384) and of BART-base (6 + 6 layers of 768). A step is forward,
backward and AdamW on what is trained. Contestants take turns in one process and are compared round by round.

`lora`: task_lora against peft's LoRA of the same rank at the same maps (query and value). `bottleneck`: of as many
parameters as that LoRA, after attention and feedforward. Mixed: four tasks with adapters of their own in one batch,
each example routed to its task's, against the same examples in four batches of one task each, one update in all.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/tuner_steps.py [--rounds 15] [--backbones minilm bart]
        [--products]
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from measure import Seconds, Watch, alternate, machine, ratios, spread, table
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from quincunx.nn.routing import routed
from quincunx.tuners.peft_plugin import config_class, register
from quincunx.tuners.task_linear import task_linear

THEIRS, LORA, BOTTLENECK = "peft, LoRA", "quincunx, task_lora", "quincunx, bottleneck"
BARS = {LORA: 1.05, BOTTLENECK: 1.05}
"""How many times as long as peft's LoRA each may take."""
MIXED, APART = "one batch of four tasks", "four batches of one task each"
BAR = 1.3
"""How many times as fast the mixed batch is to be."""
TASKS = ["one", "two", "three", "four"]
RANK = 48
SHAPES = {"minilm": (32, 64), "bart": (16, 32)}
"""Examples of a batch and their tokens."""
MIXES = ((8, 8), (16, 16), (32, 32), (32, 64))
"""The same of batches of four tasks: what is saved is what a pass costs beside its tokens."""


def backbone(kind: str) -> nn.Module:
    """Return a model with random weights."""
    from transformers import BartConfig, BartModel, BertConfig, BertModel

    if kind == "bart":
        return BartModel(BartConfig(dropout=0.0))
    sizes: Any = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    return BertModel(
        BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), add_pooling_layer=False
    )


def maps(kind: str) -> list[str]:
    """Return what peft calls the queries and values."""
    return ["q_proj", "v_proj"] if kind == "bart" else ["query", "value"]


def with_adapters(kind: str, name: str, tasks: list[str]) -> Any:
    """Return a model with a contestant's adapters."""
    torch.manual_seed(0)
    model: Any = backbone(kind)
    if name == THEIRS:
        return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=maps(kind)))
    if name == LORA:
        return get_peft_model(model, config_class("task_lora")(rank=RANK, alpha=RANK, tasks=tasks))
    width = model.config.hidden_size
    lora = 2 * width * RANK * len([path for path, _ in model.named_modules() if path.endswith(tuple(maps(kind)))])
    sites = 30 if kind == "bart" else 12
    wide = round((lora / sites - width) / (2 * width + 1))
    return get_peft_model(model, config_class("bottleneck")(reduction_factor=width / wide, tasks=tasks))


class Trained:
    """A model, what it is fed, and its optimizer."""

    def __init__(self, kind: str, name: str, tasks: list[str], shape: tuple[int, int] | None = None) -> None:
        self.model = with_adapters(kind, name, tasks).train()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4)
        rows, length = shape or SHAPES[kind]
        self.tokens = torch.randint(5, 30_000, (rows, length), generator=torch.Generator().manual_seed(1))

    @property
    def parameters(self) -> int:
        """How many are trained."""
        return sum(parameter.numel() for parameter in self.trained)

    def step(self, batches: Sequence[tuple[Tensor, Tensor | None]]) -> Seconds:
        """Return what an update from these batches takes, each with the tasks of its examples."""
        watch = Watch()
        for tokens, tasks in batches:
            with routed(self.model, tasks):
                self.model(input_ids=tokens).last_hidden_state.square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return watch.read()


def against_peft(kind: str, rounds: int) -> list[list[str]]:
    """Return rows of a table: each contestant beside peft's LoRA."""
    made = {name: Trained(kind, name, []) for name in (THEIRS, LORA, BOTTLENECK)}
    work: dict[str, Callable[[], Seconds]] = {
        name: partial(each.step, [(each.tokens, None)]) for name, each in made.items()
    }
    found = {name: [each.wall for each in values] for name, values in alternate(work, rounds, warmup=3).items()}
    return [
        [
            kind,
            name,
            f"{made[name].parameters:,}",
            f"{spread([1000 * each for each in values]):.0f}",
            "" if name == THEIRS else f"{ratios(values, found[THEIRS]):.3f} (bar {BARS[name]})",
        ]
        for name, values in found.items()
    ]


def mixed(kind: str, rounds: int) -> list[list[str]]:
    """Return rows of a table: mixed batches beside batches of one task."""
    rows: list[list[str]] = []
    for name, shape in product((LORA, BOTTLENECK), MIXES):
        each = Trained(kind, name, TASKS, shape)
        tasks = torch.arange(len(each.tokens)) % len(TASKS)
        apart = [(each.tokens[tasks == task], tasks[tasks == task]) for task in range(len(TASKS))]
        work: dict[str, Callable[[], Seconds]] = {
            MIXED: partial(each.step, [(each.tokens, tasks)]),
            APART: partial(each.step, apart),
        }
        found = {one: [value.wall for value in values] for one, values in alternate(work, rounds, warmup=3).items()}
        times = [f"{spread([1000 * value for value in found[one]]):.0f}" for one in (MIXED, APART)]
        rows.append(
            [kind, name, "{} x {}".format(*shape), *times, f"{ratios(found[APART], found[MIXED]):.2f} (bar {BAR})"]
        )
    return rows


def by_task(x: Tensor, weight: Tensor, bias: Tensor, tasks: Tensor) -> Tensor:
    """Return what `task_linear` does, by examples sorted by task and one product for each task."""
    order = torch.argsort(tasks)
    counts = torch.bincount(tasks, minlength=len(weight)).tolist()
    parts = x[order].split(counts)
    found = torch.cat([nn.functional.linear(part, w, b) for part, w, b in zip(parts, weight, bias, strict=True)])
    return found[torch.argsort(order)]


def products(rounds: int) -> list[list[str]]:
    """Return rows of a table: ways to a map of each example's own task, forward and backward."""
    ways: dict[str, Callable[..., Tensor]] = {
        "one map for all": lambda x, weight, bias, tasks: nn.functional.linear(x, weight[0], bias[0]),
        "batched products": task_linear,
        "sorted, a product a task": by_task,
    }
    rows: list[list[str]] = []
    for (examples, length), (inner, outer) in product(MIXES, ((384, RANK), (RANK, 384))):
        x = torch.randn(examples, length, inner, requires_grad=True)
        weight = torch.randn(len(TASKS), outer, inner, requires_grad=True)
        bias = torch.randn(len(TASKS), outer, requires_grad=True)
        tasks = torch.arange(examples) % len(TASKS)

        def work(way: Callable[..., Tensor], *arguments: Tensor) -> float:
            watch = Watch()
            for _ in range(10):
                way(*arguments).sum().backward()
            return watch.read().cpu / 10

        found = alternate({name: partial(work, way, x, weight, bias, tasks) for name, way in ways.items()}, rounds, 3)
        times = [f"{spread([1000 * value for value in found[name]]):.2f}" for name in ways]
        rows.append([f"{examples} x {length}", f"{inner} to {outer}", *times])
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--backbones", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--products", action="store_true", help="only ways to a map of each example's own task")
    options = parser.parse_args()
    if options.products:
        print(machine(torch.get_num_threads()) + "\n")
        head = ["examples x tokens", "map", "one map for all", "batched products", "sorted, a product a task"]
        print(table(head, products(options.rounds)))
        return
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore", FutureWarning)  # of names that peft uses and transformers gives up
    register()
    print(machine(torch.get_num_threads()) + "\n")
    rows = [row for kind in options.backbones for row in against_peft(kind, options.rounds)]
    print(table(["backbone", "adapters", "parameters", "milliseconds a step", "times peft's LoRA"], rows) + "\n")
    rows = [row for kind in options.backbones for row in mixed(kind, options.rounds)]
    print(table(["backbone", "adapters", "examples x tokens", f"ms: {MIXED}", f"ms: {APART}", "times as fast"], rows))


if __name__ == "__main__":
    main()
