"""`_target_` nodes: what is refused and why, what the signature check says, and what reaches the built object."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from quincunx.config.schema import Target
from quincunx.config.target import TargetError, build, check_target, resolve


def node(path: str, **arguments: object) -> Target:
    return Target.model_validate({"_target_": path, **arguments})


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))]


def said(config: Target, kind: str = "optimizer", **options: object) -> str:
    """Everything that is wrong with a node, as one text."""
    found = check_target(config, kind, **options)  # type: ignore[arg-type]
    return "\n".join(f"{problem.path} {problem.message} | {problem.remedy}" for problem in found)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An installed module `shop` with things that a config might name."""
    import os

    module = types.ModuleType("shop")

    class Mine(torch.optim.SGD):
        pass

    def recipe(params: object, *, text: str = "", table: object = None, inner: object = None) -> dict[str, object]:
        return {"params": params, "text": text, "table": table, "inner": inner}

    def part(size: int, extra: object = None) -> tuple[str, int, object]:
        return ("part", size, extra)

    def get_forged_schedule(optimizer: object) -> str:
        return "forged"

    get_forged_schedule.__module__ = "transformers.optimization"
    module.__dict__.update(
        Mine=Mine,
        recipe=recipe,
        part=part,
        get_forged_schedule=get_forged_schedule,
        os=os,
        AdamW=torch.optim.AdamW,
        value=3,
    )
    for found in (Mine, recipe, part):
        found.__module__, found.__qualname__ = "shop", found.__name__
    monkeypatch.setitem(sys.modules, "shop", module)
    return module


@pytest.mark.parametrize("kind", ["optimizer", "schedule"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("os.system", "standard library"),
        ("subprocess.Popen", "standard library"),
        ("builtins.eval", "standard library"),
        ("antigravity.webbrowser.open", "standard library"),
        ("torch.optim.optimizer.os.system", "torch.optim.optimizer has no os"),
        ("torch.optim.optimizer.warnings.warn", "is not part of it"),
        ("torch.optim.adamw.os.system", "torch.optim.adamw has no os"),
        ("torch.nn.modules.module.functools.partial", "is not part of it"),
        ("torch.hub.load", "is a function, not"),
        ("torch.load", "is a function, not"),
        ("torch.nn.Linear", "is a class, not"),
        ("torch.optim.SGD.step", "is a function, not"),
        ("torch.optim.sgd", "is a module, not"),
        ("torch.optim.SGD.__init__.__globals__", "private name __init__"),
        ("torch.optim._adafactor.Adafactor", "private name _adafactor"),
        ("quincunx.__main__.main", "private name __main__"),
        ("quincunx.config.target.build", "is a function, not"),
        ("transformers.get_scheduler", "is a function, not"),
        ("transformers.AutoModel.from_pretrained", "not"),
        ("shop.get_forged_schedule", "is a function, not"),
        ("shop.os.system", "is not part of it"),
        ("shop.value", "is 3, not"),
        ("SGD", "not the dotted path"),
        ("torch.optim.", "not the dotted path"),
        ("torch..SGD", "not the dotted path"),
        ("${x}.SGD", "not the dotted path"),
    ],
)
def test_nothing_else_is_reached(shop: types.ModuleType, path: str, reason: str, kind: str) -> None:
    config = node(path)
    problems = check_target(config, kind)  # type: ignore[arg-type]
    assert len(problems) == 1 and problems[0].path == ("_target_",)
    assert reason in problems[0].message
    with pytest.raises(TargetError, match=r"_target_: "):
        resolve(config, kind)  # type: ignore[arg-type]
    with pytest.raises(TargetError):
        build(config, kind, parameters())  # type: ignore[arg-type]


def test_refused_standard_library_is_not_even_imported() -> None:
    script = (
        "import sys; from quincunx.config.schema import Target; from quincunx.config.target import check_target;"
        "assert check_target(Target.model_validate({'_target_': 'this.s'}), 'optimizer');"
        "assert 'this' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_importing_the_module_needs_neither_torch_nor_hydra() -> None:
    script = (
        "import sys, quincunx.config.target; print([m for m in ('torch', 'hydra', 'omegaconf') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True).stdout.strip()
        == "[]"
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("torch.optim.LBFGS", "needs closure at every step"),
        ("torch.optim.SparseAdam", "sparse gradients only"),
        ("torch.optim.Optimizer", "abstract base"),
        ("torch.optim.lr_scheduler.StepLR", "this is the place of the optimizer"),
    ],
)
def test_optimizers_that_the_engine_cannot_drive(path: str, reason: str) -> None:
    assert reason in said(node(path))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", "needs metrics at every step"),
        ("transformers.get_reduce_on_plateau_schedule", "needs a metric at every step"),
        ("transformers.get_greedy_schedule", "needs a metric at every step"),
        ("torch.optim.lr_scheduler.LRScheduler", "abstract base"),
        ("torch.optim.lr_scheduler.ChainedScheduler", "takes schedulers before the optimizer"),
        ("torch.optim.AdamW", "this is the place of the schedule"),
    ],
)
def test_schedules_that_the_engine_cannot_drive(path: str, reason: str) -> None:
    assert reason in said(node(path), "schedule")


def test_what_counts_is_the_object_not_its_path(shop: types.ModuleType) -> None:
    assert resolve(node("shop.AdamW"), "optimizer").target is torch.optim.AdamW
    assert resolve(node("shop.Mine"), "optimizer").target is shop.Mine
    assert resolve(node("torch.optim.sgd.SGD"), "optimizer").target is torch.optim.SGD


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("torch.optim.AdmW", "did you mean torch.optim.AdamW?"),
        ("torch.optim.adamW", "did you mean torch.optim.AdamW?"),
        ("torch.optm.SGD", "did you mean torch.optim?"),
        ("trch.optim.SGD", "did you mean torch?"),
        ("torch.optim.sgd", "did you mean torch.optim.sgd.SGD?"),
        ("nowhere_to_be_found.Adam", "pip install nowhere_to_be_found"),
    ],
)
def test_near_misses_are_answered_with_a_suggestion(path: str, remedy: str) -> None:
    (problem,) = check_target(node(path), "optimizer")
    assert remedy in problem.remedy


def test_a_misspelt_torch_is_not_advice_to_install_a_stranger() -> None:
    assert "pip install" not in said(node("trch.optim.SGD"))


def test_a_missing_transformers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "transformers.optimization", None)
    text = said(node("transformers.get_cosine_schedule_with_warmup", num_warmup_steps=1), "schedule")
    assert "transformers is not installed" in text and "pip install 'quincunx[transformers]'" in text


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('broken\\ninside')", "broken inside"),
        ("raise SystemExit('leave')", "leave"),
        ("import absent_library", "absent_library"),
    ],
)
def test_a_module_that_fails_to_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    (tmp_path / "faulty_module.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = said(node("faulty_module.Thing"))
    assert "faulty_module cannot be imported" in text and reason in text


def test_the_allow_list_is_exact_and_comes_from_the_caller(shop: types.ModuleType) -> None:
    config = node("shop.recipe", text="a", allowed=["shop.recipe"])
    assert "is a function" in said(config)
    assert "is a function" in said(
        node("shop.recipe"), allowed=["shop", "recipe", "shop.reci", "shop.recipe.x", "shop.*"]
    )
    assert said(node("shop.recipe", text="a"), allowed=["shop.recipe"]) == ""
    assert build(node("shop.recipe", text="a"), "optimizer", [1], allowed=["shop.recipe"])["text"] == "a"
    assert "cannot be called" in said(node("shop.value"), allowed=["shop.value"])
    assert "not part of it" in said(node("shop.os.system"), allowed=["shop.os.system"])


def test_hydras_own_list_still_stands_behind_ours() -> None:
    with pytest.raises(TargetError, match=r"Hydra refuses os\.system"):
        build(node("os.system"), "optimizer", "true", allowed=["os.system"])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (node("torch.optim.AdamW", lrr=1.0), ["('lrr',) torch.optim.AdamW takes no argument lrr | did you mean lr?"]),
        (node("torch.optim.AdamW", weight_decy=1.0), ["did you mean weight_decay?"]),
        (node("torch.optim.SGD", learning_rate=1.0), ["('learning_rate',)", "it takes lr, momentum, dampening"]),
        (node("torch.optim.SGD", lrr=1.0, momentm=0.1), ["did you mean lr?", "did you mean momentum?"]),
        (node("torch.optim.SGD", params=[]), ["('params',) params is passed by the engine | leave it out"]),
        (node("torch.optim.SGD", _args_=[0.1], lr=0.1), ["('lr',) lr is given twice"]),
        (
            node("torch.optim.SGD", _args_=[0.1] * 6),
            ["('_args_',) torch.optim.SGD takes at most 5 arguments by position here, found 6"],
        ),
        (node("torch.optim.SGD", _partal_=True), ["_partal_ is not one of Hydra's keys | did you mean _partial_?"]),
    ],
)
def test_arguments_are_checked_against_the_signature(config: Target, expected: list[str]) -> None:
    text = said(config)
    assert all(part in text for part in expected), text
    with pytest.raises(TargetError):
        build(config, "optimizer", parameters())


def test_missing_arguments_are_named_unless_the_engine_or_a_later_call_gives_them() -> None:
    step = "torch.optim.lr_scheduler.StepLR"
    assert "needs step_size | add step_size" in said(node(step), "schedule")
    assert said(node(step, step_size=2), "schedule") == ""
    assert said(node(step, _partial_=True), "schedule") == ""
    cosine = "transformers.get_cosine_schedule_with_warmup"
    text = said(node(cosine), "schedule")
    assert "needs num_warmup_steps |" in text and "num_training_steps" not in text
    with pytest.raises(TargetError, match="needs num_training_steps"):
        build(node(cosine, num_warmup_steps=1), "schedule", torch.optim.SGD(parameters(), lr=0.1))


def test_all_problems_come_together_with_the_text_of_each() -> None:
    with pytest.raises(TargetError) as caught:
        build(node("torch.optim.lr_scheduler.StepLR", stepsize=3, gama=0.1), "schedule", object())
    assert {problem.path for problem in caught.value.problems} == {("stepsize",), ("gama",), ("_target_",)}
    assert caught.value.exit_code == 2 and "did you mean gamma?" in str(caught.value)


def test_what_the_target_itself_refuses_is_said_without_a_traceback() -> None:
    with pytest.raises(TargetError, match=r"torch\.optim\.SGD refuses its arguments: Invalid learning rate: -1"):
        build(node("torch.optim.SGD", lr=-1.0), "optimizer", parameters())
    with pytest.raises(TargetError, match=r"Muon refuses its arguments"):
        build(node("torch.optim.Muon"), "optimizer", parameters())


def test_real_optimizers_get_every_argument() -> None:
    sgd = build(node("torch.optim.SGD", lr=0.1, momentum=0.9, nesterov=True), "optimizer", parameters())
    assert type(sgd) is torch.optim.SGD
    assert {name: sgd.defaults[name] for name in ("lr", "momentum", "nesterov")} == {
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": True,
    }
    nadam = build(node("torch.optim.NAdam", betas=[0.8, 0.9], momentum_decay=1e-3), "optimizer", parameters())
    assert list(nadam.defaults["betas"]) == [0.8, 0.9] and nadam.defaults["momentum_decay"] == 1e-3
    adafactor = build(node("torch.optim.Adafactor", d=2.0), "optimizer", parameters())
    assert type(adafactor) is torch.optim.Adafactor and adafactor.defaults["d"] == 2.0
    positional = build(node("torch.optim.SGD", _args_=[0.25, 0.5]), "optimizer", parameters())
    assert (positional.defaults["lr"], positional.defaults["momentum"]) == (0.25, 0.5)


def test_partial_waits_for_the_rest() -> None:
    waiting = build(node("torch.optim.SGD", lr=0.5, _partial_=True), "optimizer")
    assert isinstance(waiting, functools.partial)
    assert waiting(parameters(), momentum=0.1).defaults["lr"] == 0.5


@pytest.mark.parametrize("convert", ["none", "partial", "object", "all"])
def test_arguments_arrive_as_the_plain_values_of_the_config(shop: types.ModuleType, convert: str) -> None:
    table = {"a": "${b}", "list": ["???", "\\${c}", {"deep": None}], "rate": 1e-4, "on": True}
    config = node("shop.recipe", text="${oc.env:HOME}", table=table, _convert_=convert)
    given = parameters()
    built = build(config, "optimizer", given, allowed=["shop.recipe"])
    assert built["text"] == "${oc.env:HOME}" and built["table"] == table
    assert type(built["table"]) is dict and type(built["table"]["list"]) is list
    assert built["params"] is given
    notes = resolve(config, "optimizer", ["shop.recipe"]).notes
    assert ("_convert_" in "".join(notes)) == (convert == "none")


def test_nested_nodes_follow_the_same_rule(shop: types.ModuleType) -> None:
    inner = {"_target_": "shop.part", "size": 2, "extra": [{"_target_": "shop.part", "_args_": [1]}]}
    config = node("shop.recipe", inner={"deep": [inner]})
    assert "('inner', 'deep', 0, '_target_') shop.part is a function" in said(config, allowed=["shop.recipe"])
    built = build(config, "optimizer", None, allowed=["shop.recipe", "shop.part"])
    assert built["inner"] == {"deep": [("part", 2, [("part", 1, None)])]}
    wrong = node("shop.recipe", inner={"_target_": "shop.part", "sze": 2})
    text = said(wrong, allowed=["shop.recipe", "shop.part"])
    assert "('inner', 'sze')" in text and "did you mean size?" in text and "needs size" in text
    malformed = node("shop.recipe", inner={"_target_": "shop.part", "size": 1, "_partial_": "yes"})
    assert "('inner', '_partial_')" in said(malformed, allowed=["shop.recipe", "shop.part"])
    hidden = node("shop.recipe", inner={"_target_": "os.system", "command": "true"})
    assert "standard library" in said(hidden, allowed=["shop.recipe"])


def test_nested_nodes_stay_as_they_are_without_recursion(shop: types.ModuleType) -> None:
    inner = {"_target_": "os.system", "command": "true"}
    config = node("shop.recipe", inner=inner, _recursive_=False)
    assert build(config, "optimizer", None, allowed=["shop.recipe"])["inner"] == inner


def test_schedules_of_schedules_are_refused_with_a_way_out() -> None:
    parts = [
        {"_target_": "torch.optim.lr_scheduler.LinearLR", "total_iters": 2},
        {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 8},
    ]
    config = node("torch.optim.lr_scheduler.SequentialLR", schedulers=parts, milestones=[2])
    problems = check_target(config, "schedule")
    assert [problem.path for problem in problems] == [("schedulers", 0, "_target_"), ("schedulers", 1, "_target_")]
    assert all("needs optimizer" in problem.message and "cannot hold" in problem.remedy for problem in problems)


def test_the_adamw_that_transformers_dropped() -> None:
    config = node("transformers.AdamW", lr=1e-5, correct_bias=True, no_deprecation_warning=True)
    resolved = resolve(config, "optimizer")
    assert resolved.target is torch.optim.AdamW
    assert "gone from transformers 5" in resolved.notes[0] and "weight_decay=0.0" in resolved.notes[0]
    built = build(config, "optimizer", parameters())
    assert type(built) is torch.optim.AdamW
    assert {name: built.defaults[name] for name in ("lr", "eps", "weight_decay")} == {
        "lr": 1e-5,
        "eps": 1e-6,
        "weight_decay": 0.0,
    }
    own = build(
        node("transformers.optimization.AdamW", _args_=[1e-5, [0.8, 0.9], 1e-7], weight_decay=0.1),
        "optimizer",
        parameters(),
    )
    assert (own.defaults["eps"], own.defaults["weight_decay"]) == (1e-7, 0.1)
    assert "takes no argument correct_bias" in said(node("transformers.AdamW", correct_bias=False))


def test_numbers_of_the_engine_cannot_be_given_a_second_time() -> None:
    config = node("transformers.get_linear_schedule_with_warmup", num_warmup_steps=1, num_training_steps=5)
    optimizer = torch.optim.SGD(parameters(), lr=0.1)
    with pytest.raises(TargetError, match="num_training_steps is passed by the engine"):
        build(config, "schedule", optimizer, num_training_steps=10)
