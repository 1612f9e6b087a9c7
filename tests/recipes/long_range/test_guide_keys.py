"""Every key of guide 004, in the guide's own form, does what the guide says of it: changing it is seen in training."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from guide_files import LISTOPS
from quincunx import load, train
from quincunx.config.read import read_text
from quincunx.engine.runtime import choose_dtype, native
from quincunx.recipes.long_range import model as models
from quincunx.recipes.long_range.names import KINDS, NAMES

GUIDE: dict[str, Any] = {
    "dataset": {"train": 24, "dev": 10, "test": 6},
    "model": {
        "learn_pos_emb": True,
        "tied_weights": False,
        "embedding_dim": 8,
        "transformer_hidden_dim": 12,
        "head_dim": 4,
        "num_head": 2,
        "num_layers": 2,
        "vocab_size": 18,
        "max_seq_len": 30,
        "dropout_prob": 0.1,
        "attention_dropout": 0.1,
        "pooling_mode": "MEAN",
        "num_classes": 10,
    },
    "training": {
        "mixed_precision": False,
        "batch_size": 8,
        "lr_scheduler": "exp_decay",
        "learning_rate": 0.01,
        "learning_rate_decay": 0.9,
        "weight_decay": 0,
        "num_epochs": 2,
        "num_eval_steps": 1000,
        "warmup_steps": 2,
        "final_div_factor": 100,
    },
    "gpu_memory": {"softmax": 8, "hrr-individual": 8, "hrr-bundled": 16, "hrr-quadratic": 8, "tpr": 8},
    "extra_attn_config": {kind: {"attention_grad_checkpointing": False} for kind in KINDS},
}
"""The guide's block in small: 3 updates an epoch, 6 in all."""

OURS = (
    "seed=11",
    "data.min_length=4",
    "data.max_length=24",
    "data.max_depth=3",
    "data.max_arguments=4",
    "log.every=1",
    "evaluate.every=null",
    "checkpoint.every=null",
    "compute.threads=1",
    "compute.device=cpu",
)


@dataclass
class Seen:
    """What is seen of one run."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    parameters: int = 0
    plan: dict[str, Any] = field(default_factory=dict)
    evaluated: dict[str, int] = field(default_factory=dict)
    """Examples by split."""
    chunks: list[int] = field(default_factory=list)
    """Examples in each forward pass of training."""
    cores: int = 0
    """How often an attention core was computed in training, backward passes included."""
    config: Any = None


@pytest.fixture(scope="module")
def observe(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> Iterator[Callable[..., Seen]]:
    """Return a function that trains the guide's block with changes, once for the same ones, and says what was seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUINCUNX_CACHE", str(data_cache))
        patch.setattr("quincunx.launch.write_report", lambda folder: None)
        yield functools.cache(lambda *changes: learn(tmp_path_factory.mktemp("run") / "r", dict(changes)))


def learn(folder: Path, changes: dict[str, Any]) -> Seen:
    kind = changes.pop("kind", "softmax")
    tree = {"listops": copy.deepcopy(GUIDE)}
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        node = tree["listops"]
        for part in parents:
            node = node[part]
        assert last in node, "a key of the guide"
        node[last] = value
    seen = Seen()
    with pytest.MonkeyPatch.context() as spies:
        spy(spies, seen)
        run = train(tree, *OURS, f"attention.kind={kind}", f"run.dir={folder}")
    metrics: Any = run.metrics()
    logged = {name: [line["value"] for line in metrics if (line["split"], line["name"]) == ("train", name)]
               for name in ("learning_rate", "loss")}  # fmt: skip
    seen.rates, seen.losses = logged["learning_rate"], logged["loss"]
    seen.plan = json.loads((folder / "plan.json").read_text())
    seen.parameters = seen.plan["parameters"]["total"]
    for path in (folder / "evaluations").iterdir():
        [text] = json.loads(path.read_text())["notes"]
        seen.evaluated[path.name.split("-")[0]] = int(re.findall(r"(\d+) examples\)", text)[0])
    seen.config = run.config
    return seen


def spy(patch: pytest.MonkeyPatch, seen: Seen) -> None:
    """Watch the real model: how many examples it gets at once, and how often its attention is computed."""
    forward, build = models.LongRangeClassifier.forward, models.attention_core

    def watched(self: Any, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        if self.training:
            seen.chunks.append(len(tokens))
        return forward(self, tokens, *rest)

    def core(*arguments: Any) -> Any:
        made = build(*arguments)
        made.register_forward_pre_hook(lambda module, _: setattr(seen, "cores", seen.cores + module.training))
        return made

    patch.setattr(models.LongRangeClassifier, "forward", watched)
    patch.setattr(models, "attention_core", core)


Check = Callable[[Seen, Seen], bool]


@dataclass(frozen=True)
class Case:
    """A changed key, over a base that lets it act."""

    value: Any
    acts: Check
    """Whether what was seen before and after is what the guide says."""
    base: dict[str, Any] = field(default_factory=dict)


def other_losses(before: Seen, after: Seen) -> bool:
    """Something else is learnt, by the same rates, with the same number of parameters."""
    return before.losses != after.losses and before.rates == after.rates and before.parameters == after.parameters


def wider(more: int) -> Check:
    return lambda before, after: after.parameters - before.parameters == more and before.losses != after.losses


def rates(*wanted: float) -> Check:
    def act(before: Seen, after: Seen) -> bool:
        assert after.rates == pytest.approx(wanted, rel=1e-9)
        return before.rates != after.rates and before.losses != after.losses

    return act


def counted(split: str, value: int) -> Check:
    def act(before: Seen, after: Seen) -> bool:
        assert before.evaluated[split] == before.plan["sizes"]["evaluation"][split] == GUIDE["dataset"][split]
        return after.evaluated[split] == after.plan["sizes"]["evaluation"][split] == value

    return act


def in_chunks(before: Seen, after: Seen) -> bool:
    """Of 8 examples at most 3 at once, nearly even; the same gradient."""
    assert before.chunks == [8] * 6
    assert after.chunks == [3, 3, 2] * 6
    assert after.plan["chunk_samples"] == after.plan["evaluation_batch"] == 3
    return after.losses == pytest.approx(before.losses, rel=1e-5)


def recomputed(before: Seen, after: Seen) -> bool:
    """Twice in each of 2 layers and 6 updates; values and gradients as before."""
    return (before.cores, after.cores) == (12, 24) and before.losses == after.losses and before.rates == after.rates


def half_where_native(before: Seen, after: Seen) -> bool:
    assert (before.config.compute.precision, after.config.compute.precision) == ("float32", "auto")
    device = torch.device("cpu")
    half = native(torch.bfloat16, device)
    assert choose_dtype(before.config.compute, device) == torch.float32
    assert choose_dtype(after.config.compute, device) == (torch.bfloat16 if half else torch.float32)
    assert after.losses == pytest.approx(before.losses, rel=0.05)
    return (before.losses != after.losses) == half


BLOCK = (8 + 8) + 3 * (8 * 8 + 8) + (8 * 8 + 8) + (8 + 8) + (8 * 12 + 12) + (12 * 8 + 8)
"""Parameters of one block: norm, three projections, the one back, norm, and the two of the MLP."""

CASES: dict[str, Case] = {
    "dataset.train": Case(16, lambda b, a: (b.plan["train_examples"], a.plan["train_examples"]) == (24, 16)
                          and (len(b.losses), len(a.losses)) == (6, 4) and (sum(b.chunks), sum(a.chunks)) == (48, 32)),
    "dataset.dev": Case(7, counted("dev", 7)),
    "dataset.test": Case(4, counted("test", 4)),
    "model.learn_pos_emb": Case(False, wider(-30 * 8)),
    "model.tied_weights": Case(True, wider(-BLOCK)),
    "model.embedding_dim": Case(10, lambda b, a: a.parameters > b.parameters and a.losses != b.losses),
    # one hidden number more: what leads to it, its bias and what it leads to, in both blocks and the classifier
    "model.transformer_hidden_dim": Case(13, wider(2 * (8 + 1 + 8) + (8 + 1 + 10))),
    "model.head_dim": Case(5, wider(2 * (3 * 2 * (8 + 1) + 2 * 8))),
    "model.num_head": Case(3, wider(2 * (3 * 4 * (8 + 1) + 4 * 8))),
    "model.num_layers": Case(3, wider(BLOCK)),
    "model.vocab_size": Case(20, wider(2 * 8)),
    "model.max_seq_len": Case(40, wider(10 * 8)),
    "model.dropout_prob": Case(0.3, other_losses),
    "model.attention_dropout": Case(0.3, other_losses),
    "model.pooling_mode": Case("CLS", wider(8)),
    "model.num_classes": Case(12, wider(2 * (12 + 1))),
    "training.mixed_precision": Case(True, half_where_native),
    "training.batch_size": Case(12, lambda b, a: (len(b.losses), len(a.losses)) == (6, 4)
                                and (a.plan["batch_size"], a.plan["updates_per_epoch"]) == (12, 2)
                                and sum(a.chunks) == sum(b.chunks) == 48),
    "training.lr_scheduler": Case("fixed", rates(*[0.01] * 6)),
    "training.learning_rate": Case(0.002, rates(*[0.002] * 3, *[0.0018] * 3)),
    "training.learning_rate_decay": Case(0.5, rates(*[0.01] * 3, *[0.005] * 3)),
    "training.weight_decay": Case(5, other_losses),
    "training.num_epochs": Case(3, lambda b, a: (len(b.losses), len(a.losses)) == (6, 9)
                                and a.rates == pytest.approx([*b.rates, *[0.0081] * 3])),
    "training.num_eval_steps": Case(1, lambda b, a: b.evaluated == {"dev": 10, "test": 6}
                                    and a.evaluated == {"dev": 8, "test": 6} and a.losses == b.losses),
    "training.warmup_steps": Case(4, rates(0.0025, 0.005, 0.0075, 0.01, 0.01, 0.0001),
                                  {"training.lr_scheduler": "linear"}),
    "training.final_div_factor": Case(4, rates(0.005, 0.01, 0.01, 0.008125, 0.004375, 0.0025),
                                      {"training.lr_scheduler": "cos"}),
    **{f"gpu_memory.{kind}": Case(3, in_chunks, {"kind": kind}) for kind in KINDS},
    **{f"extra_attn_config.{kind}.attention_grad_checkpointing": Case(True, recomputed, {"kind": kind})
       for kind in KINDS},
}  # fmt: skip


def leaves(text: str) -> set[str]:
    """Return the keys of a file in the guide's form, below its task."""
    return {".".join(map(str, path[1:])) for path, _ in read_text(text, "guide.py", "python").leaves()}


def test_no_key_of_the_guide_is_forgotten():
    assert set(CASES) == {name.old for name in NAMES if name.guide == "004"} == leaves(LISTOPS)


@pytest.mark.parametrize("key", CASES)
def test_changing_it_does_what_the_guide_says(observe: Callable[..., Seen], key: str):
    case = CASES[key]
    before = observe(*case.base.items())
    after = observe(*case.base.items(), (key, case.value))
    assert case.acts(before, after)


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("exp_decay", [0.01] * 3 + [0.009] * 3),
        ("linear", [0.005, 0.01, 0.01, 0.0067, 0.0034, 0.0001]),
        ("cos", [0.005, 0.01, 0.01, 0.0001 + 0.0099 * 0.75, 0.0001 + 0.0099 * 0.25, 0.0001]),
    ],
)
def test_every_schedule_of_the_guide(observe: Callable[..., Seen], schedule: str, wanted: list[float]):
    assert observe(("training.lr_scheduler", schedule)).rates == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("key", "value"),
    [("training.warmup_steps", 4), ("training.final_div_factor", 7), ("gpu_memory.tpr", 3),
     ("extra_attn_config.tpr.attention_grad_checkpointing", True)],
)  # fmt: skip
def test_where_a_key_does_not_act_it_changes_nothing(observe: Callable[..., Seen], key: str, value: Any):
    before, after = observe(), observe((key, value))
    assert (after.losses, after.rates, after.chunks, after.cores) == (
        before.losses, before.rates, before.chunks, before.cores,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_as_many_parameters_and_learns(observe: Callable[..., Seen], kind: str):
    seen = observe(("kind", kind)) if kind != "softmax" else observe()
    # embeddings, positions, blocks, the last norm, the classifier
    assert seen.parameters == 18 * 8 + 30 * 8 + 2 * BLOCK + (8 + 8) + (8 * 12 + 12) + (12 * 10 + 10)
    assert len(seen.losses) == 6
    assert seen.losses[0] != seen.losses[-1]
    if kind != "softmax":
        assert seen.losses != observe().losses, "attention of another kind"


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_guides_own_block_too(kind: str):
    """At the guide's sizes; nothing is trained."""
    from quincunx.recipes import recipe_of

    document = read_text(LISTOPS, "guide.py", "python")
    loaded = load(document.tree, f"attention.kind={kind}")
    recipe = recipe_of("long_range")
    config, _ = recipe.decide(loaded.config)
    with torch.device("meta"):
        model = recipe.parts(config).model
    block = 2 * 512 + 4 * (512 * 512 + 512) + 2 * 512 + (512 * 1024 + 1024) + (1024 * 512 + 512)
    head = (512 * 1024 + 1024) + (1024 * 10 + 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == 32 * 512 + 2000 * 512 + block + 1024 + head
    assert recipe.chunk_samples(config) == {"softmax": 16, "hrr-bundled": 64}.get(kind, 32)
