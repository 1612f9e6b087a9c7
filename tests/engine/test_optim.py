"""Which parameters are trained, which decay, and what a config's optimizer becomes."""

from __future__ import annotations

import copy
import sys
import types

import pytest
import torch
from torch import nn

from quincunx.config.schema import Target
from quincunx.config.sections.training import AdamW, Update
from quincunx.config.target import TargetError
from quincunx.engine.optim import build_optimizer, can_fuse, split_by_decay, trainable
from quincunx.errors import UsageError


def node(path: str, **arguments: object) -> Target:
    return Target.model_validate({"_target_": path, **arguments})


def names(found: list[tuple[str, nn.Parameter]]) -> set[str]:
    return {name for name, _ in found}


class Scaled(nn.Module):
    """Stands in for an objective with a learned temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.05))


class ScaleNorm(nn.Module):
    """A norm that torch does not know, with a weight of two dimensions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, width))


class NormedLinear(nn.Linear):
    """A linear map whose class name speaks of norms."""


class NormHead(nn.Module):
    """Shares the weight of an embedding."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.weight = embedding.weight


class Mixed(nn.Module):
    """One of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4)
        self.bags = nn.EmbeddingBag(5, 4)
        self.relative_bias = nn.Embedding(3, 2)
        self.linear = nn.Linear(4, 4)
        self.normed = NormedLinear(4, 4)
        self.convolution = nn.Conv1d(4, 4, 3)
        self.lstm = nn.LSTM(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.layer = nn.LayerNorm([2, 4])
        self.rms = nn.RMSNorm(4)
        self.batch = nn.BatchNorm1d(4)
        self.group = nn.GroupNorm(2, 4)
        self.instance = nn.InstanceNorm2d(4, affine=True)
        self.scale = ScaleNorm(4)
        self.class_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.logit_bias = nn.Parameter(torch.zeros(1, 4))
        self.gate = nn.Parameter(torch.zeros(4))
        self.head = NormHead(self.tokens)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


MIXED_DECAY = {
    "tokens.weight",
    "bags.weight",
    "relative_bias.weight",
    "linear.weight",
    "normed.weight",
    "convolution.weight",
    "lstm.weight_ih_l0",
    "lstm.weight_hh_l0",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "class_token",
}
MIXED_SPARED = {
    "linear.bias",
    "normed.bias",
    "convolution.bias",
    "lstm.bias_ih_l0",
    "lstm.bias_hh_l0",
    "attention.in_proj_bias",
    "attention.out_proj.bias",
    "layer.weight",
    "layer.bias",
    "rms.weight",
    "batch.weight",
    "batch.bias",
    "group.weight",
    "group.bias",
    "instance.weight",
    "instance.bias",
    "scale.gain",
    "logit_bias",
    "gate",
}


def test_torch_modules_against_a_list_by_hand() -> None:
    decay, spared = split_by_decay([Mixed(), Scaled()])
    assert names(decay) == MIXED_DECAY
    assert names(spared) == MIXED_SPARED | {"temperature"}


def test_bert_like_model_against_a_list_by_hand() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12
    )
    decay, spared = split_by_decay([transformers.BertForMaskedLM(config)])
    layer = "bert.encoder.layer.0."
    maps = [f"attention.self.{part}" for part in ("query", "key", "value")]
    maps += ["attention.output.dense", "intermediate.dense", "output.dense"]
    embeddings = {f"bert.embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")}
    assert names(decay) == embeddings | {f"{layer}{part}.weight" for part in maps} | {
        "cls.predictions.transform.dense.weight"
    }
    norms = ["bert.embeddings.LayerNorm", f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
    norms.append("cls.predictions.transform.LayerNorm")
    assert names(spared) == (
        {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")}
        | {f"{layer}{part}.bias" for part in maps}
        | {"cls.predictions.transform.dense.bias", "cls.predictions.bias"}
    )


def test_t5_model_against_a_list_by_hand() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(vocab_size=11, d_model=8, d_kv=4, d_ff=12, num_layers=1, num_heads=2)
    decay, spared = split_by_decay([transformers.T5ForConditionalGeneration(config)])
    assert names(spared) == {
        "encoder.block.0.layer.0.layer_norm.weight",
        "encoder.block.0.layer.1.layer_norm.weight",
        "encoder.final_layer_norm.weight",
        "decoder.block.0.layer.0.layer_norm.weight",
        "decoder.block.0.layer.1.layer_norm.weight",
        "decoder.block.0.layer.2.layer_norm.weight",
        "decoder.final_layer_norm.weight",
    }
    relative = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert {"shared.weight", f"encoder.{relative}", f"decoder.{relative}"} <= names(decay)


def test_weight_decay_reaches_exactly_the_first_group() -> None:
    model = Mixed()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.data.add_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer, notes = build_optimizer(AdamW(learning_rate=0.1, weight_decay=0.5), Update(), [model])
    optimizer.step()
    shrunk = {n for n, p in model.named_parameters() if not torch.equal(p.detach(), before[n] + 1.0)}
    assert shrunk == MIXED_DECAY and notes == []
    torch.testing.assert_close(model.linear.weight.detach(), (before["linear.weight"] + 1.0) * 0.95)


def test_group_names_are_in_the_optimizers_state() -> None:
    optimizer, _ = build_optimizer(AdamW(weight_decay=0.1), Update(), [Mixed()])
    saved = optimizer.state_dict()["param_groups"]
    assert [(group["name"], group["weight_decay"]) for group in saved] == [("decay", 0.1), ("no_decay", 0.0)]
    single, _ = build_optimizer(AdamW(weight_decay=0.1), Update(no_decay=False), [Mixed()])
    assert [(group["name"], group["weight_decay"]) for group in single.param_groups] == [("decay", 0.1)]
    assert len(single.param_groups[0]["params"]) == len(MIXED_DECAY | MIXED_SPARED)
    only_scales, _ = build_optimizer(AdamW(), Update(), [Scaled()])
    assert [group["name"] for group in only_scales.param_groups] == ["no_decay"]


def test_our_settings_reach_the_optimizer() -> None:
    config = AdamW(learning_rate=0.3, weight_decay=0.2, betas=[0.5, 0.6], eps=1e-3)
    optimizer, _ = build_optimizer(config, Update(), [Mixed()])
    assert {name: optimizer.defaults[name] for name in ("lr", "weight_decay", "betas", "eps")} == {
        "lr": 0.3,
        "weight_decay": 0.2,
        "betas": (0.5, 0.6),
        "eps": 1e-3,
    }


def test_shared_parameters_are_trained_once_and_frozen_ones_not_at_all() -> None:
    model = Mixed()
    found = trainable([model, model.tokens, nn.ModuleList([model])])
    assert len(found) == len({id(parameter) for _, parameter in found}) == len(MIXED_DECAY | MIXED_SPARED)
    assert not any(name.startswith("frozen") for name, _ in found)


@pytest.mark.parametrize("config", [AdamW(), node("torch.optim.SGD", lr=0.1)])
@pytest.mark.parametrize(
    ("model", "reason"),
    [(nn.Linear(2, 2).requires_grad_(False), "all 2 parameter tensors are frozen"), (nn.ReLU(), "has no parameters")],
)
def test_nothing_to_train(config: AdamW | Target, model: nn.Module, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        build_optimizer(config, Update(), [model])


class Transposed(nn.Module):
    """A parameter that does not lie in memory row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).view(2, 3).t())


def test_fused_kernels_only_where_they_are_right() -> None:
    """The fused CPU kernel reads memory flat, so a gradient of another layout would meet the wrong weights."""
    model = Transposed()
    gradient = torch.arange(6.0).view(3, 2) + 1
    expected = nn.Parameter(model.weight.detach().clone().contiguous())
    expected.grad = gradient.clone()
    torch.optim.AdamW([expected], lr=0.1, weight_decay=0.3, foreach=False).step()
    optimizer, _ = build_optimizer(AdamW(learning_rate=0.1, weight_decay=0.3), Update(), [model])
    model.weight.grad = gradient.clone()
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), expected.detach())
    assert not can_fuse(list(model.parameters()))
    assert can_fuse(list(Mixed().parameters()))
    assert not can_fuse([nn.Parameter(torch.zeros(2, device="meta"))])
    assert not can_fuse([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])


@pytest.mark.parametrize(
    "config",
    [AdamW(learning_rate=0.01, weight_decay=0.1), node("torch.optim.NAdam", lr=0.01), node("torch.optim.Adafactor")],
)
def test_an_optimizer_goes_on_bit_for_bit_from_its_state(config: AdamW | Target) -> None:
    torch.manual_seed(0)
    data = torch.randn(8, 6, 5)

    def advance(model: nn.Module, optimizer: torch.optim.Optimizer, updates: range) -> None:
        for update in updates:
            optimizer.zero_grad()
            model(data[update]).square().sum().backward()
            optimizer.step()

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2))
        return model, build_optimizer(config, Update(), [model])[0]

    model, optimizer = fresh()
    advance(model, optimizer, range(4))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    advance(model, optimizer, range(4, 8))
    again, resumed = fresh()
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    advance(again, resumed, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_target_optimizers_get_the_plain_parameters_unless_no_decay_is_asked_for() -> None:
    model = Mixed()
    config = node("torch.optim.SGD", lr=0.1, momentum=0.9, weight_decay=0.2)
    plain, notes = build_optimizer(config, Update(), [model, Scaled()])
    assert type(plain) is torch.optim.SGD and plain.defaults["momentum"] == 0.9 and notes == []
    (group,) = plain.param_groups
    assert len(group["params"]) == len(MIXED_DECAY | MIXED_SPARED) + 1 and group["weight_decay"] == 0.2
    grouped, _ = build_optimizer(config, Update(no_decay=True), [model])
    assert [(g["name"], g["weight_decay"]) for g in grouped.param_groups] == [("decay", 0.2), ("no_decay", 0.0)]


def test_no_decay_without_weight_decay_is_a_contradiction() -> None:
    with pytest.raises(TargetError, match=r"torch\.optim\.Rprop has no weight_decay"):
        build_optimizer(node("torch.optim.Rprop"), Update(no_decay=True), [Mixed()])


def test_a_partial_node_is_completed() -> None:
    optimizer, _ = build_optimizer(node("torch.optim.SGD", lr=0.5, _partial_=True), Update(), [Mixed()])
    assert type(optimizer) is torch.optim.SGD and optimizer.defaults["lr"] == 0.5


def test_transformers_optimizers() -> None:
    pytest.importorskip("transformers")
    optimizer, notes = build_optimizer(node("transformers.AdamW", lr=1e-3), Update(), [Mixed()])
    assert type(optimizer) is torch.optim.AdamW and "gone from transformers 5" in notes[0]
    config = node("transformers.Adafactor", lr=1e-3, relative_step=False, scale_parameter=False)
    found, _ = build_optimizer(config, Update(no_decay=True), [Mixed()])
    assert type(found).__module__ == "transformers.optimization"
    assert [group["name"] for group in found.param_groups] == ["decay", "no_decay"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("torch.optim.LBFGS", "needs closure at every step"),
        ("torch.optim.SparseAdam", "sparse"),
        ("torch.optim.Adm", "did you mean"),
        ("os.system", "standard library"),
    ],
)
def test_refusals(path: str, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        build_optimizer(node(path), Update(), [Mixed()])


def test_what_an_allowed_function_gives_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("workbench")

    def make(params: object, what: str) -> object:
        made = {"sgd": torch.optim.SGD, "lbfgs": torch.optim.LBFGS}.get(what)
        return made(params, lr=0.1) if made else what  # type: ignore[arg-type]

    make.__module__, make.__qualname__ = "workbench", "make"
    module.__dict__["make"] = make
    monkeypatch.setitem(sys.modules, "workbench", module)
    allowed = ["workbench.make"]
    optimizer, _ = build_optimizer(node("workbench.make", what="sgd"), Update(), [Mixed()], allowed)
    assert type(optimizer) is torch.optim.SGD
    with pytest.raises(TargetError, match="needs closure"):
        build_optimizer(node("workbench.make", what="lbfgs"), Update(), [Mixed()], allowed)
    with pytest.raises(TargetError, match=r"gives str, not a torch\.optim\.Optimizer"):
        build_optimizer(node("workbench.make", what="nothing"), Update(), [Mixed()], allowed)
    with pytest.raises(TargetError, match="is a function"):
        build_optimizer(node("workbench.make", what="sgd"), Update(), [Mixed()])
