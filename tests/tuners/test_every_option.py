"""No option of a method is accepted without effect: each is seen to act, or is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.examples import known
from quincunx.nn.routing import attach_tasks, routed
from quincunx.tuners.adapter import inject
from quincunx.tuners.single import SINGLE
from tiny_models import MODELS, inputs_for, output_of


def both_sorts() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(4), nn.BatchNorm1d(4))


def two_encoders() -> nn.Module:
    encoders: list[Any] = [MODELS["bart"](), MODELS["bart"]()]
    return nn.ModuleDict({name: each.model.encoder for name, each in zip(("one", "two"), encoders, strict=True)})


KINDS = {**MODELS, "norms of both sorts": both_sorts, "two encoders": two_encoders}
FOLDER = "a folder"
"""Stands for one that a test makes."""
FIRST = "model.encoder.layers.0.fc2"
Options = dict[str, Any]


class Placed:
    """A method's parts in a model, and what is seen of them."""

    def __init__(self, method: str, kind: str, options: Mapping[str, Any], folder: Path) -> None:
        self.folder = folder
        given: Options = {name: str(folder) if value == FOLDER else value for name, value in options.items()}
        torch.manual_seed(0)
        self.config = SINGLE[method].config(**given)
        self.model = KINDS[kind]()
        placement = SINGLE[method].place(self.model, self.config)
        self.model.add_module("quincunx_shared", inject(self.model, placement))
        attach_tasks(self.model, names=getattr(self.config, "tasks", ()))
        self.inputs = inputs_for(self.model) if kind in MODELS else {}
        self.model.eval()

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: each for name, each in self.model.named_parameters() if each.requires_grad}

    def scatter(self) -> None:
        """Give everything that is trained fixed numbers, by its place among what is trained."""
        generator = torch.Generator().manual_seed(7)
        for parameter in self.trained().values():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)

    @contextmanager
    def addressed(self) -> Iterator[None]:
        names = getattr(self.config, "tasks", ())
        with routed(self.model, [names[row % len(names)] for row in range(4)] if names else None):
            yield

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What is trained."""
        return {name: tuple(each.shape) for name, each in self.trained().items()}

    def output(self) -> Tensor:
        self.scatter()
        with torch.no_grad(), self.addressed():
            return output_of(self.model.double(), self.inputs)

    def training(self) -> Tensor:
        """What it gives in training mode."""
        self.scatter()
        torch.manual_seed(1)
        with torch.no_grad(), self.addressed():
            return output_of(self.model.double().train(), self.inputs)

    def start(self) -> list[float]:
        """How far from nought each tensor begins."""
        return [float(each.detach().abs().sum()) for each in self.trained().values()]

    def packs(self) -> bool:
        return self.config.packs

    def files(self) -> dict[str, int]:
        """What lies on the disk after a pass over four examples, and how large it is."""
        with torch.no_grad(), known(self.model, ["a", "b", "c", "d"]):
            output_of(self.model.train(), self.inputs)
        return {path.suffix: path.stat().st_size for path in self.folder.rglob("*.bin")}


SHAPES, OUTPUT, TRAINING, START = Placed.shapes, Placed.output, Placed.training, Placed.start
PACKS, FILES = Placed.packs, Placed.files
Seen = Callable[[Placed], Any]


@dataclass(frozen=True)
class Row:
    """An option of a method."""

    method: str
    option: str
    value: Any
    act: Seen | str
    """What it changes, or what is said where it is refused."""
    base: Options = field(default_factory=dict)
    """Other options beside it, changed or not."""
    model: str = "bart"

    @property
    def id(self) -> str:
        return f"{self.method}-{self.option}-{self.value}"


def residual(method: str, base: Options) -> list[Row]:
    """Return the rows of what every adapter with a bottleneck has."""

    def row(option: str, value: Any, act: Seen | str, **more: Any) -> Row:
        return Row(method, option, value, act, {**base, **more})

    two = {"tasks": ["a", "b"]}
    return [
        row("sites", ["feedforward"], SHAPES),
        row("sites", ["query"], "leave one of them out", target_modules=[FIRST]),
        row("sites", [], "found none"),
        row("target_modules", [FIRST], SHAPES),
        row("leave_out", [0], SHAPES),
        row("leave_out", [FIRST], OUTPUT if method == "hyperformer" else SHAPES),  # whose weights are made in common
        row("leave_out", [7], "leave_out names 7, and there is no such layer"),
        row("reduction_factor", 2.0, SHAPES),
        row("reduction_factors", {"1": 2.0}, SHAPES),
        row("reduction_factors", {"*encoder*.fc2": 2.0}, SHAPES),
        row("reduction_factors", {"7": 2.0}, r"reduction_factors names '7', .* layers are 0, 1, their modules such as"),
        row("reduction_factors", {"*.fc3": 2.0}, r"reduction_factors names '\*\.fc3'"),
        row("activation", "relu", OUTPUT),
        row("norm_before", True, SHAPES),
        row("norm_after", True, SHAPES),
        row("parallel", True, OUTPUT),
        row("scale", 0.5, OUTPUT),
        row("learned_scale", True, SHAPES),
        *(row("gate", word, SHAPES) for word in ("middle_x", "middle_y", "large")),
        row("gate", "small", SHAPES, target_modules=[FIRST]),
        row("gate", "small", "may not see those to come"),
        row("gate_of", "change", OUTPUT, gate="large"),
        row("gate_of", "change", "there is none: set gate"),
        row("gate_width", 3, SHAPES, gate="large"),
        row("gate_width", 3, "gate_width is that of the gate large", gate="middle_y"),
        row("dropout", 0.5, TRAINING),
        row("tasks", ["a", "b"], SHAPES),
        *(
            row(half, True, SHAPES, **two) if method != "hyperformer" else row(half, True, "by the same generators")
            for half in ("share_down", "share_up")
        ),
    ]


BOTTLENECK = {"reduction_factor": 4}
PHM = {"reduction_factor": 4, "hypercomplex_division": 2, "phm_init_range": 0.5}
HYPER = {
    "reduction_factor": 4,
    "tasks": ["a", "b", "c"],
    "projected_task_embedding_dim": 4,
    "task_embedding_dim": 6,
    "hidden_dim": 5,
}
LADDER = {"reduction_factor": 2}
KEEPS = {**LADDER, "cache": FOLDER, "sides": "encoder"}
BOTH = {"encoder_prompt_len": 2, "decoder_prompt_len": 2}
TWO = {"tasks": ["a", "b"]}
MIDDLE = {"adapter_type": "front/middle/back-bottleneck"}
BLOCK = "resnet.encoder.stages.0.layers.0"

ROWS: tuple[Row, ...] = (
    *residual("bottleneck", BOTTLENECK),
    *(Row("bottleneck", "activation", word, OUTPUT) for word in ("gelu", "silu", "tanh", "identity")),
    Row("bottleneck", "tasks", ["a", "b"], PACKS),
    Row("bottleneck", "gate", "small", PACKS, {"target_modules": [FIRST]}),
    *residual("low_rank", BOTTLENECK),
    Row("low_rank", "low_rank_rank", 2, SHAPES, BOTTLENECK),
    *residual("compacter", PHM),
    Row("compacter", "hypercomplex_division", 4, SHAPES, PHM),
    Row("compacter", "factorized_phm", False, SHAPES, PHM),
    Row("compacter", "phm_rank", 2, SHAPES, PHM),
    Row("compacter", "phm_rank", 2, "with factorized_phm=False", {**PHM, "factorized_phm": False}),
    Row("compacter", "phm_rule", "none", SHAPES, PHM),
    Row("compacter", "phm_rule", "tasks", SHAPES, {**PHM, **TWO}),
    Row("compacter", "phm_rule", "tasks", "name at least two tasks", PHM),
    Row("compacter", "factorized_phm_rule", True, SHAPES, PHM),
    Row("compacter", "phm_init_range", 0.25, START, PHM),
    *residual("hyperformer", HYPER),
    Row("hyperformer", "generators", "efficient", SHAPES, HYPER),
    Row("hyperformer", "task_embedding_dim", 7, SHAPES, HYPER),
    Row("hyperformer", "hidden_dim", 7, SHAPES, HYPER),
    Row("hyperformer", "projected_task_embedding_dim", 7, SHAPES, HYPER),
    Row("head", "sites", ["head"], "leave sites and leave_out out"),
    Row("head", "target_modules", [FIRST], SHAPES),
    Row("head", "leave_out", [0], "leave sites and leave_out out"),
    Row("head", "reduction_factor", 4.0, SHAPES),
    Row("head", "reduction_factors", {"0": 4.0}, "rather than reduction_factors"),
    Row("head", "activation", "relu", OUTPUT, BOTTLENECK),
    Row("head", "norm_before", True, SHAPES),
    Row("head", "norm_after", True, SHAPES),
    Row("head", "parallel", False, "leave parallel out"),
    Row("head", "scale", 0.5, OUTPUT),
    Row("head", "learned_scale", True, SHAPES),
    *(Row("head", "gate", word, "not over logits") for word in ("small", "middle_x", "middle_y", "large")),
    Row("head", "gate_of", "change", "there is none"),
    Row("head", "gate_width", 3, "gate_width is that of the gate large"),
    Row("head", "dropout", 0.5, TRAINING),
    Row("head", "tasks", ["a", "b"], SHAPES),
    Row("head", "share_down", True, SHAPES, TWO),
    Row("head", "share_up", True, SHAPES, TWO),
    Row("task_lora", "sites", ["feedforward"], SHAPES),
    Row("task_lora", "sites", ["feedforward"], "leave one of them out", {"target_modules": [FIRST]}),
    Row("task_lora", "target_modules", [FIRST], SHAPES),
    Row("task_lora", "leave_out", [-1], SHAPES),
    Row("task_lora", "rank", 2, SHAPES),
    Row("task_lora", "alpha", 4.0, OUTPUT),
    Row("task_lora", "use_rslora", True, OUTPUT),
    Row("task_lora", "dropout", 0.5, TRAINING),
    Row("task_lora", "biases", "all", SHAPES),
    Row("task_lora", "tasks", ["a", "b"], SHAPES),
    Row("task_lora", "tasks", ["a", "b"], PACKS),
    Row("prefix", "sites", ["cross_attention"], SHAPES),
    Row("prefix", "sites", ["feedforward"], "found 'feedforward'"),
    Row("prefix", "target_modules", ["model.encoder.*"], SHAPES),
    Row("prefix", "leave_out", [0], SHAPES),
    Row("prefix", "prefix_len", 3, SHAPES),
    Row("prefix", "form", "joint", SHAPES),
    Row("prefix", "form", "joint", PACKS),
    Row("prefix", "mid_dim", 5, SHAPES),
    Row("prefix", "std", 0.6, START),
    Row("prefix", "std", 0.6, START, {"mid_dim": 5}),
    Row("prefix", "tasks", ["a", "b"], SHAPES),
    Row("prompts", "sites", ["attention"], "leave sites and leave_out out", BOTH),
    Row("prompts", "target_modules", ["two"], SHAPES, {"encoder_prompt_len": 2}, "two encoders"),
    Row("prompts", "target_modules", ["model.decoder"], "no encoder to put prompts before", BOTH),
    Row("prompts", "leave_out", [0], "leave sites and leave_out out", BOTH),
    Row("prompts", "encoder_prompt_len", 3, SHAPES, {"decoder_prompt_len": 2}),
    Row("prompts", "decoder_prompt_len", 3, SHAPES, {"encoder_prompt_len": 2}),
    Row("prompts", "mid_dim", 5, SHAPES, BOTH),
    Row("prompts", "std", 0.6, START, BOTH),
    Row("prompts", "std", 0.6, START, {**BOTH, "mid_dim": 5}),
    Row("prompts", "tasks", ["a", "b"], SHAPES, BOTH),
    Row("convolution", "sites", ["attention"], "leave sites out", MIDDLE, "resnet"),
    Row("convolution", "target_modules", [BLOCK], SHAPES, MIDDLE, "resnet"),
    Row("convolution", "leave_out", [0], SHAPES, MIDDLE, "resnet"),
    Row("convolution", "adapter_type", "back-bottleneck", SHAPES, {}, "resnet"),
    Row("convolution", "adapter_type", "middle-basic", SHAPES, {}, "resnet"),
    Row("convolution", "reduction_factor", 4.0, SHAPES, MIDDLE, "resnet"),
    Row("convolution", "reduction_factor", 4.0, "has no bottleneck", {"adapter_type": "middle-basic"}, "resnet"),
    Row("convolution", "remove_batch_norm", True, SHAPES, MIDDLE, "resnet"),
    Row("ladder", "sites", ["attention"], "leave sites out", LADDER),
    Row("ladder", "target_modules", ["model.encoder"], SHAPES, LADDER),
    Row("ladder", "leave_out", [0], SHAPES, LADDER),
    Row("ladder", "leave_out", [7], "leave_out names 7, and there is no such layer", LADDER),
    Row("ladder", "sides", "encoder", SHAPES, LADDER),
    Row("ladder", "sides", "decoder", SHAPES, LADDER),
    Row("ladder", "reduction_factor", 4.0, SHAPES, LADDER),
    Row("ladder", "every", 2, SHAPES, LADDER),
    Row("ladder", "num_heads", 2, OUTPUT, LADDER),
    Row("ladder", "feedforward_factor", 2.0, SHAPES, LADDER),
    Row("ladder", "activation", "relu", OUTPUT, LADDER),
    Row("ladder", "temperature", 1.0, OUTPUT, LADDER),
    Row("ladder", "dropout", 0.5, TRAINING, LADDER),
    Row("ladder", "cache", FOLDER, FILES, LADDER),
    Row("ladder", "cache_dtype", "float16", FILES, KEEPS),
    Row("ladder", "cache_dtype", "bfloat16", FILES, KEEPS),
    Row("ladder", "cache_dtype", "float16", "name a folder in cache as well", LADDER),
    Row("ladder", "cache_limit", 1e-9, FILES, KEEPS),
    Row("ladder", "cache_limit", 1.0, "name a folder in cache as well", LADDER),
    Row("bitfit", "sites", ["feedforward"], SHAPES),
    Row("bitfit", "sites", ["feedforward"], "leave one of them out", {"target_modules": [FIRST]}),
    Row("bitfit", "target_modules", [FIRST], SHAPES),
    Row("bitfit", "leave_out", [0], SHAPES),
    Row("norms", "sites", ["feedforward"], "norms trains norms"),
    Row("norms", "target_modules", ["model.encoder.layers.0.*"], SHAPES),
    Row("norms", "leave_out", [0], SHAPES),
    Row("norms", "batch_norms", True, SHAPES, {}, "norms of both sorts"),
)


def place(row: Row, options: Options, folder: Path) -> Placed:
    return Placed(row.method, row.model, options, folder)


@pytest.mark.parametrize("row", [row for row in ROWS if not isinstance(row.act, str)], ids=lambda row: row.id)
def test_an_option_acts(row: Row, tmp_path: Path) -> None:
    assert not isinstance(row.act, str)
    seen: list[Any] = []
    for number, options in enumerate((row.base, {**row.base, row.option: row.value})):
        folder = tmp_path / str(number)
        folder.mkdir()
        seen.append(row.act(place(row, options, folder)))
    first, then = seen
    if isinstance(first, Tensor):
        assert first.shape == then.shape and not torch.allclose(first, then, rtol=1e-6, atol=1e-8)
    else:
        assert first != then


@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(row.act, str)], ids=lambda row: row.id)
def test_an_option_that_cannot_act_is_refused(row: Row, tmp_path: Path) -> None:
    with pytest.raises((ValueError, UsageError), match=str(row.act)):
        place(row, {**row.base, row.option: row.value}, tmp_path)


def test_every_option_of_every_method_is_shown() -> None:
    there = {(method, each.name) for method in SINGLE for each in fields(SINGLE[method].config) if each.init}
    shown = {(row.method, row.option) for row in ROWS}
    assert shown == there


def test_every_word_of_an_option_is_shown() -> None:
    shown = {(row.option, row.value) for row in ROWS if isinstance(row.value, str)}
    for method in SINGLE.values():
        hints = get_type_hints(method.config)
        for each in fields(method.config):
            if get_origin(hints[each.name]) is Literal:
                others = {(each.name, word) for word in get_args(hints[each.name]) if word != each.default}
                assert others <= shown, others - shown
