"""One row or more for every method: what `test_every_tuner.py` tries with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A method with options on a model."""

    method: str
    model: str
    """Of `tiny_models.MODELS`."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str = ""
    """What the options are, in a word."""
    identity: bool = True
    """Whether the model is as it was at the start, bit for bit."""
    restores: bool = True
    """Whether the model is as it was while the adapter is disabled."""
    merges: bool = False
    """Whether the adapter may be merged into the weights."""
    loads_in_transformers: bool = True
    """Whether transformers' own `load_adapter` takes it: not where parts share something."""
    trains_in_eval: bool = True
    """Whether gradients may be compared in eval mode."""

    @property
    def id(self) -> str:
        return "-".join(part for part in (self.method, self.model, self.name) if part)


TASKS = ["colour", "shape", "size"]
HYPER = {"tasks": TASKS, "projected_task_embedding_dim": 4, "task_embedding_dim": 6, "hidden_dim": 5}

SMALL_PHM = {"reduction_factor": 4, "hypercomplex_division": 2, "phm_init_range": 0.5}

ROWS: tuple[Row, ...] = (
    *(Row("bottleneck", model, {"reduction_factor": 4}) for model in ("bart", "t5", "bert", "llama", "clip")),
    Row("bottleneck", "bart", {"reduction_factor": 4, "tasks": TASKS}, "tasks"),
    Row("bottleneck", "t5", {"reduction_factor": 4, "tasks": TASKS, "share_down": True}, "half-shared"),
    Row("bottleneck", "bart", {"reduction_factor": 2, "norm_before": True, "norm_after": True}, "norms"),
    Row("bottleneck", "t5", {"reduction_factor": 2, "parallel": True, "learned_scale": True}, "parallel"),
    Row("bottleneck", "llama", {"reduction_factor": 2, "parallel": True, "scale": 0.5}, "parallel"),
    Row("bottleneck", "bart", {"reduction_factor": 2, "gate": "large", "gate_width": 3}, "gate-large"),
    Row("bottleneck", "t5", {"reduction_factor": 2, "gate": "middle_x", "tasks": TASKS}, "gate-middle_x"),
    Row("bottleneck", "bert", {"reduction_factor": 2, "gate": "small", "parallel": True}, "gate-small"),
    Row(
        "bottleneck",
        "bart",
        {"reduction_factor": 2, "parallel": True, "target_modules": ["*.decoder.layers.*.encoder_attn.v_proj"]},
        "decoder-values",
    ),
    Row("low_rank", "bart", {"reduction_factor": 4}),
    Row("low_rank", "t5", {"reduction_factor": 2, "low_rank_rank": 2, "tasks": TASKS, "share_up": True}, "tasks"),
    Row("compacter", "bart", SMALL_PHM, loads_in_transformers=False),
    Row(
        "compacter",
        "t5",
        {**SMALL_PHM, "phm_rank": 2, "phm_rule": "tasks", "tasks": TASKS, "share_down": True},
        "tasks",
        loads_in_transformers=False,
    ),
    Row(
        "compacter",
        "bart",
        {**SMALL_PHM, "factorized_phm": False, "factorized_phm_rule": True, "phm_rule": "none", "tasks": TASKS},
        "own-rules",
        loads_in_transformers=False,
    ),
    *(Row("task_lora", model, {"alpha": 4.0}, merges=True) for model in ("t5", "llama")),
    Row("task_lora", "bart", {"rank": 2, "biases": "all", "tasks": TASKS}, "tasks", restores=False),
    Row(
        "task_lora",
        "bart",
        {"sites": ["feedforward"], "use_rslora": True, "biases": "all"},
        "biases",
        restores=False,
        merges=True,
    ),
    Row("hyperformer", "bart", {"reduction_factor": 4, **HYPER}, loads_in_transformers=False),
    Row(
        "hyperformer",
        "t5",
        {"reduction_factor": 4, **HYPER, "generators": "efficient", "norm_before": True, "norm_after": True},
        "efficient",
        loads_in_transformers=False,
    ),
    Row(
        "hyperformer",
        "llama",
        {"reduction_factor": 4, **HYPER, "parallel": True, "learned_scale": True},
        "parallel",
        loads_in_transformers=False,
    ),
    Row("convolution", "resnet"),
    Row("convolution", "resnet", {"adapter_type": "front/middle/back/transition-bottleneck"}, "everywhere"),
    Row(
        "convolution",
        "resnet",
        {"adapter_type": "front/back/transition-bottleneck", "remove_batch_norm": True},
        "without-norms",
    ),
    Row("convolution", "resnet", {"adapter_type": "front/middle/back-basic"}, "basic"),
    Row(
        "convolution",
        "resnet",
        {"adapter_type": "front/middle/back-basic", "remove_batch_norm": True},
        "basic-without-norms",
        merges=True,
    ),
    *(Row("head", model, {"reduction_factor": 4}) for model in ("bart", "t5", "bert", "llama")),
    Row("head", "bart", {"reduction_factor": 4, "tasks": TASKS, "norm_before": True, "norm_after": True}, "tasks"),
    Row("head", "t5", {"reduction_factor": 4, "tasks": TASKS, "share_up": True}, "half-shared"),
    Row("bitfit", "bart", restores=False, merges=True),
    Row("norms", "t5", restores=False, merges=True),
    Row("norms", "resnet", {"batch_norms": True}, restores=False, merges=True),
    # prompts and a joint prefix are attended to from the start, whatever numbers they begin with
    Row("prompts", "bart", {"encoder_prompt_len": 3, "decoder_prompt_len": 2}, identity=False),
    Row("prompts", "t5", {"encoder_prompt_len": 2, "decoder_prompt_len": 3}, identity=False),
    Row("prompts", "bart", {"encoder_prompt_len": 2, "mid_dim": 5, "tasks": TASKS}, "tasks", identity=False),
    Row("prompts", "llama", {"decoder_prompt_len": 2, "tasks": TASKS}, "tasks", identity=False),
    *(
        Row("prefix", model, {"prefix_len": 3}, loads_in_transformers=False)
        for model in ("bart", "t5", "bert", "llama", "clip")
    ),
    Row(
        "prefix",
        "t5",
        {"prefix_len": 3, "mid_dim": 5, "tasks": TASKS, "sites": ["attention", "cross_attention"]},
        "tasks",
        loads_in_transformers=False,
    ),
    *(
        Row(
            "prefix",
            model,
            {"prefix_len": 3, "form": "joint", "mid_dim": 5},
            "joint",
            identity=False,
            loads_in_transformers=False,
        )
        for model in ("bart", "t5", "bert", "llama", "clip")
    ),
    Row(
        "prefix",
        "bart",
        {"prefix_len": 3, "form": "joint", "tasks": TASKS, "sites": ["cross_attention"]},
        "joint-tasks",
        identity=False,
        loads_in_transformers=False,
    ),
    *(Row("ladder", model, {"reduction_factor": 4}) for model in ("bart", "t5", "bert", "llama", "clip")),
    Row("ladder", "bart", {"reduction_factor": 2, "sides": "decoder", "every": 2, "num_heads": 2}, "decoder"),
    Row("ladder", "t5", {"reduction_factor": 4, "sides": "encoder", "leave_out": [0]}, "encoder"),
    Row(
        "composite",
        "bart",
        {
            "parts": [
                {"method": "bottleneck", "reduction_factor": 4, "tasks": TASKS},
                {"method": "task_lora", "rank": 2, "tasks": TASKS},
                {"method": "prompts", "encoder_prompt_len": 2, "tasks": TASKS},
            ]
        },
        identity=False,
        loads_in_transformers=False,
    ),
    Row(
        "composite",
        "t5",
        {
            "parts": [
                {"method": "task_lora", "rank": 2},
                {"method": "task_lora", "rank": 1, "sites": ["feedforward", "query"]},
            ],
            "train": ["norms"],
        },
        "rules",
        restores=False,
        merges=True,
        loads_in_transformers=False,
    ),
    Row(
        "composite",
        "t5",
        {
            "parts": [
                {"method": "lora", "r": 2, "target_modules": ["q", "v"]},
                {"method": "ia3", "target_modules": ["v", "wo"], "feedforward_modules": ["wo"]},
                {"method": "task_lora", "rank": 1, "sites": ["feedforward", "value"]},
            ],
        },
        "of-peft-merged",
        merges=True,
        loads_in_transformers=False,
    ),
    Row(
        "composite",
        "bart",
        {
            "parts": [
                {"method": "lora", "r": 2, "target_modules": ["q_proj", "v_proj"]},
                {"method": "bottleneck", "reduction_factor": 4, "tasks": TASKS},
                {"method": "prefix", "prefix_len": 2, "tasks": TASKS},
                {"method": "ia3", "target_modules": ["v_proj", "fc2"], "feedforward_modules": ["fc2"]},
            ],
        },
        "of-peft",
        loads_in_transformers=False,
    ),
)
