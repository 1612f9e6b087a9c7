"""What training of retrieval models must be, seen from whole runs and from what a config builds."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx import Run, load, train
from quincunx.config.document import ConfigError
from quincunx.engine.checkpoint import Checkpoints
from quincunx.engine.experiment import Experiment
from quincunx.engine.optim import build_optimizer
from quincunx.engine.step import Step
from quincunx.recipes import recipe_of
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from recipes.retrieval.collections_made import config_of, write_collection
from toys import cpu, plan

ANCHORS = 45
"""Queries that are trained on, of 50: the others are the development set."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("collection") / "data", train=50, test=10)


@dataclass
class World:
    """Where runs are made."""

    data: Path
    folder: Path

    def config(self, name: str = "run", **changes: object) -> dict[str, object]:
        usual = {"evaluate__every": None, "log__every": 1, "update__batch_size": 8}
        return config_of(self.data, self.folder / name, self.folder / "cache", **{**usual, **changes})

    def train(self, name: str = "run", **changes: object) -> Run:
        return train(self.config(name, **changes))

    def build(self, **changes: object) -> Experiment:
        """Return what a config is built to, nothing trained."""
        recipe = recipe_of("retrieval")
        config, _ = recipe.decide(load(self.config(**changes)).config)
        torch.manual_seed(0)
        return recipe.build(config)


@pytest.fixture
def world(data: Path, tmp_path: Path) -> World:
    return World(data, tmp_path)


def step_of(built: Experiment) -> Step:
    return Step(built.parts.model.train(), built.parts.objective.train(), cpu(), plan(), seed=1)


def batch_of(built: Experiment, *anchors: int) -> Any:
    return built.collate(list(anchors), list(anchors), range(len(anchors)), 0)


@pytest.mark.parametrize("share", ["all", "backbone", "nothing"])
@pytest.mark.parametrize("mode", ["bi-encoder", "poly-encoder"])
def test_shared_encoder_identity(world, mode, share):
    """Shared means the same object; the document encoder is trained, whether it is shared or not."""
    projection = {"encoder__projection": 8} if share == "backbone" else {}
    built = world.build(mode=mode, encoder__share=share, **projection)
    model: Any = built.parts.model
    assert (model.query.backbone is model.document.backbone) == (share != "nothing")
    if mode == "bi-encoder":
        assert (model.query is model.document) == (share == "all")
    optimizer, _ = build_optimizer(built.config.optimizer, built.config.update, [model, built.parts.objective])
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    before = {name: parameter.detach().clone() for name, parameter in model.document.named_parameters()}
    assert before
    assert all(id(parameter) in trained for parameter in model.document.parameters())
    step_of(built).gradient(0, [batch_of(built, *range(8))])
    optimizer.step()
    table = model.document.backbone.get_input_embeddings().weight
    assert any(not torch.equal(parameter, before[name]) for name, parameter in model.document.named_parameters())
    assert torch.equal(table, model.query.backbone.get_input_embeddings().weight) == (share != "nothing")


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder__projection": 8, "encoder__pooling": "attention", "objective__learn_temperature": True},
        {"encoder__share": "backbone", "encoder__projection": 8},
        {"encoder__share": "nothing", "memory__use": True, "memory__size": 16, "memory__momentum": 0.9},
        {
            "mode": "poly-encoder",
            "poly__attention": "multihead",
            "poly__final_attention": "multihead",
            "poly__heads": 2,
        },
        {"mode": "cross-encoder"},
    ],
    ids=lambda changes: ", ".join(map(str, changes.values())),
)
def test_optimizer_covers_every_trainable_tensor_once(world, changes):
    built = world.build(**changes)
    modules = [built.parts.model, built.parts.objective]
    optimizer, _ = build_optimizer(built.config.optimizer, built.config.update, modules)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    wanted = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
    assert len(held) == len({id(parameter) for parameter in held}), "each once"
    assert {id(parameter) for parameter in held} == set(wanted)
    step = step_of(built)
    step.gradient(0, [batch_of(built, *range(8))])
    assert all(parameter.grad is not None for parameter in held), "what is trained has something to learn"
    copies = [p for name, p in built.parts.objective.named_parameters() if "keys" in name]
    assert bool(copies) == ("memory__momentum" in changes) and not any(copy.requires_grad for copy in copies)


@dataclass
class Seen:
    """What losses of training were asked for."""

    pairs: list[int]
    sums: list[float]
    modes: list[bool]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Watch the losses of logical batches, and the mode of every module while they are computed."""
    found = Seen([], [], [])
    original = Contrastive.loss

    @functools.wraps(original)
    def loss(self: Contrastive, model: nn.Module, representations: Any, batch: Any) -> dict[str, Tensor]:
        sums = original(self, model, representations, batch)
        found.pairs.append(len(batch.links["positives"]))
        found.sums.append(float(next(iter(sums.values())).detach()))
        found.modes.append(all(module.training for module in model.modules()))
        return sums

    monkeypatch.setattr(Contrastive, "loss", loss)
    return found


def test_first_and_tail_accumulation_windows(world, seen):
    """45 anchors by 7 are 6 batches of 7 and one of 3: updates of 3, 3 and 1 of them, in every epoch; none is lost."""
    run = world.train(update__batch_size=7, update__accumulation=3)
    assert seen.pairs == [7, 7, 7, 7, 7, 7, 3] * 2
    losses = dict(run.metrics("train/loss"))
    assert list(losses) == [1, 2, 3, 4, 5, 6], "updates are counted, and not their batches"
    windows = [slice(0, 3), slice(3, 6), slice(6, 7), slice(7, 10), slice(10, 13), slice(13, 14)]
    for update, window in enumerate(windows, 1):
        assert losses[update] == pytest.approx(sum(seen.sums[window]) / sum(seen.pairs[window]), rel=1e-5)


def test_the_gradient_of_a_window_is_the_mean_over_its_examples(world):
    """A short batch weighs what is in it, in the first window as in the last."""
    built = world.build()
    batches = [batch_of(built, *range(7)), batch_of(built, *range(7, 14)), batch_of(built, 20, 21, 22)]
    step = step_of(built)
    outcome = step.gradient(0, batches)
    found = [parameter.grad.clone() for parameter in step.parameters]
    assert outcome.weights["query_to_document"] == 17
    wanted = [torch.zeros_like(parameter) for parameter in step.parameters]
    for batch in batches:
        for parameter in step.parameters:
            parameter.grad = None
        step.gradient(0, [batch])
        for number, parameter in enumerate(step.parameters):
            wanted[number] += parameter.grad * len(batch) / 17
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_train_mode_after_eval(world, seen, monkeypatch):
    """Evaluated before training and after every update: dropout acts in training all the same, and in no evaluation."""
    measured: list[bool] = []
    original = BiEncoder.encode

    def encode(self: BiEncoder, *arguments: Any) -> Tensor:
        if not torch.is_grad_enabled():
            measured.append(any(module.training for module in self.modules()))
        return original(self, *arguments)

    monkeypatch.setattr(BiEncoder, "encode", encode)
    often = {"evaluate__every": 1, "evaluate__at_start": True}
    dropped = world.train("dropped", encoder__dropout=0.3, budget__epochs=1, **often)
    assert len(seen.modes) == 6 and all(seen.modes)
    assert len(measured) > 6 and not any(measured)
    never = world.train("never", encoder__dropout=0.3, budget__epochs=1)
    assert dropped.metrics("train/loss") == never.metrics("train/loss")
    without = world.train("without", budget__epochs=1)
    assert without.metrics("train/loss")[0] != never.metrics("train/loss")[0], "dropout acts from the first update on"


def objective_of(run: Run) -> dict[str, Tensor]:
    return dict(Checkpoints(run.folder.checkpoints).load(run.checkpoint("last")).weights["objective"])


MEMORY = {"memory__use": True, "memory__kind": "dual", "objective__directions": ["q->d", "d->q"]}


def test_eval_leaves_queue_untouched(world):
    """Neither its entries nor their number, order and age; and the losses after it are those without it."""
    settings = {**MEMORY, "memory__size": 20, "memory__warmup": 2, "memory__momentum": 0.9, "budget__epochs": 1}
    never = world.train("never", **settings)
    often = world.train("often", **settings, evaluate__every=1, evaluate__at_start=True)
    kept, other = objective_of(never), objective_of(often)
    assert kept.keys() == other.keys()
    assert int(kept["memory.queues.document.filled"]) == 20
    for name, value in kept.items():
        assert torch.equal(other[name], value), name
    assert often.metrics("train/loss") == never.metrics("train/loss")


def test_queue_gradient_non_zero(world):
    """Batches of one pair have no negatives of their own: all there is to learn comes from the queue."""
    built = world.build(update__batch_size=1, memory__use=True, memory__size=4, memory__warmup=0)
    step, objective = step_of(built), built.parts.objective
    norms: list[float] = []
    for update in range(3):
        for parameter in step.parameters:
            parameter.grad = None
        step.gradient(update, [batch_of(built, update)])
        objective.after_update()
        norms.append(float(torch.stack([p.grad.norm() for p in step.parameters if p.grad is not None]).norm()))
    assert norms[0] == 0
    assert norms[1] > 1e-3
    assert norms[2] > 1e-3


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, 8),
        ({"data__positives": 3}, 24),
        ({"data__negatives": 2}, 24),
        ({"data__anchor": "document", "data__positives": 3, "memory__kind": "queries",
          "objective__directions": ["d->q"]}, 24),
    ],
)  # fmt: skip
def test_queue_smaller_than_a_step_is_rejected(world, changes, needed):
    """One entry fewer than a logical batch may bring is an error, before anything is read; as many is enough."""
    settings = {"memory__use": True, **changes}
    with pytest.raises(ConfigError, match=rf"memory\.size \({needed - 1}\) is less than what one logical batch brings"):
        load(world.config(**settings, memory__size=needed - 1))
    assert load(world.config(**settings, memory__size=needed)).config.memory.size == needed
    assert not (world.folder / "run").exists()


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_warm_up_0_1_n_boundary(world, warmup):
    """So many updates have the loss without a memory, the next has it with a memory that is as full as it can be."""
    short = {"budget__epochs": 1, "budget__stop_at": 5}
    plain = dict(world.train("plain", **short).metrics("train/loss"))
    run = world.train("run", **short, memory__use=True, memory__size=20, memory__warmup=warmup)
    found, entries = dict(run.metrics("train/loss")), dict(run.metrics("train/memory_entries"))
    first = max(warmup, 1) + 1  # the first update of all has nothing to remember
    for update in range(1, 6):
        assert entries[update] == (0 if update < first else min(20, 8 * (update - 1)))
    assert [found[update] for update in range(1, first)] == [plain[update] for update in range(1, first)]
    assert found[first] > plain[first]


@pytest.mark.parametrize(
    ("every", "wanted"),
    [
        ("epoch", [3, 6]),
        (1, [1, 2, 3, 4, 5, 6]),
        (1.0, [3, 6]),  # an epoch, where 1 is an update
        (0.5, [2, 3, 5, 6]),  # at or after 1.5, 3, 4.5, 6
        (1e-9, [1, 2, 3, 4, 5, 6]),  # at least an update apart
        (4, [4, 6]),  # longer than an epoch of 3 updates: fires all the same, and at the end
    ],
)
def test_eval_freq_int_float_epoch_incl_tiny_floats_and_longer_than_an_epoch(world, every, wanted):
    """45 anchors by 8 are 6 batches, by 2 of them 3 updates an epoch."""
    run = world.train(evaluate__every=every, update__accumulation=2, evaluate__measures=["recip_rank"])
    assert [update for update, _ in run.metrics("dev/recip_rank")] == wanted


def test_python_3_11_config_construction(tmp_path):
    """Instances as defaults of dataclasses, which Python 3.11 refuses to run, are read without being run."""
    text = (Path(__file__).parent / "config/guide_001_args.txt").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="mutable default"):
        exec(compile(text, "args.py", "exec"), {"__name__": __name__})
    (tmp_path / "args.py").write_text(text, encoding="utf-8")
    config = load(tmp_path / "args.py").config
    assert (config.update.batch_size, config.optimizer.model_extra["lr"]) == (24, 3e-5)
    first, second = (RetrievalConfig(recipe="retrieval", data={"path": "d"}) for _ in range(2))  # pyright: ignore
    assert first == second
    for name in ("memory", "evaluate", "optimizer", "log"):
        assert getattr(first, name) is not getattr(second, name), "no config shares a section with another"


ALONE = """
import importlib, json, pkgutil, socket, sys

def refuse(*arguments, **options):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = refuse
import quincunx.recipes.retrieval as package

for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(found.name)
import torch

from quincunx import train

assert not torch.cuda.is_available() and not torch.cuda.is_initialized()
run = train(json.load(open(sys.argv[1])))
print("trained", {str(value.device) for value in run.model().state_dict().values()}, run.predict([{"text": "ask1x1"}]))
"""


def test_cpu_only_import_and_run(world):
    """Every module is imported and a model with a memory trained in a process that sees neither GPU nor network."""
    config = world.config(memory__use=True, memory__size=20, memory__momentum=0.9, budget__epochs=1)
    config["compute"] = {"threads": 1}
    (world.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ALONE, str(world.folder / "config.json")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert "trained {'cpu'}" in result.stdout


KEY = "0123456789abcdef" * 2 + "feedbeef"


def test_no_secret_in_saved_config(world, monkeypatch):
    """A key in the file that the config names, with space round it: nothing that the run writes holds it."""
    pytest.importorskip("wandb", reason="needs wandb (pip install 'quincunx[wandb]')")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(world.folder / "home"))
    (world.folder / "key.txt").write_text(f"\n  {KEY} \n", encoding="utf-8")
    wandb = {"use": True, "mode": "offline", "credentials": str(world.folder / "key.txt"), "project": "p"}
    run = world.train(log__wandb=wandb, budget__epochs=1)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in files) and (run.path / "config.yaml") in files
    for path in files:
        content = path.read_bytes()
        assert KEY.encode() not in content and KEY[:20].encode() not in content, path
    assert str(world.folder / "key.txt") in (run.path / "config.yaml").read_text(), "the place of the key is kept"
