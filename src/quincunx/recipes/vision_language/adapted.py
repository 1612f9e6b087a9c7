"""From the switches of `adapt` and `unfreeze` to one section `peft`: what they mean in the words of docs/tuners.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quincunx.config.sections.peft import Peft
from quincunx.recipes.vision_language.kinds import adapters

METHODS = {
    "bottleneck": "bottleneck",
    "compacter": "compacter",
    "low_rank": "low_rank",
    "hyperformer": "hyperformer",
}
"""Switch -> method."""
LORA_DROPOUT = 0.1
"""Of LoRA's input, which VL-Adapter has no key for."""
WORDS = {
    "language_model": "language_model",
    "head": "head",
    "layer_norms": "norms",
    "batch_norms": "batch_norms",
    "vision": "vision",
    "vision_last_layer": "vision_last_layer",
}
"""Switch of `unfreeze` -> the word for its parameters."""
HELD = {"hold_batch_norms": "batch_norms", "hold_layer_norms": "layer_norms"}
"""Switch of `unfreeze` -> the word for norms whose statistics are kept."""

Part = dict[str, Any]


def peft_of(config: Any, tasks: Sequence[str], leave_out: Sequence[str] = (), *, biases: bool = True) -> Peft:
    """Return what is put into the model and trained of it, as the section `peft` says it.

    Args:
        config: A vision_language config; its own section `peft` is returned where that names a method.
        tasks: Names of the tasks that parts have weights of their own for, in order.
        leave_out: Full paths of modules that adapters of the language model must not be in, `*` for anything.
        biases: Whether the backbone has biases, which LoRA trains too; T5 has none.

    Returns:
        A composite of all switches; without a method where nothing is put in. The connector (what embeds visual
        tokens) is always trained.
    """
    train = [word for switch, word in WORDS.items() if getattr(config.unfreeze, switch)]
    if config.pictures.use:
        train.append("connector")
    switched = [word for switch, word in HELD.items() if getattr(config.unfreeze, switch)]
    held: list[Any] = list(dict.fromkeys([*config.peft.frozen_statistics, *switched]))
    train = [*(config.peft.train or ()), *train]
    if config.peft.method is not None:
        return config.peft.model_copy(update={"train": train or None, "frozen_statistics": held})
    parts = [_adapter(config, name, tasks, leave_out) for name in adapters(config)] + _others(
        config, tasks, leave_out, biases
    )
    chosen = config.adapt
    if not parts:
        named = config.peft.train is not None or any(getattr(config.unfreeze, switch) for switch in WORDS)
        whole = config.unfreeze.language_model is None and not named
        return Peft(train=None if whole else train, frozen_statistics=held)
    z = {"track_z": True, "z_weight": chosen.z_weight} if chosen.track_z else {}
    return Peft(method="composite", options={"parts": parts}, train=train or None, frozen_statistics=held, **z)


def _adapter(config: Any, name: str, tasks: Sequence[str], leave_out: Sequence[str]) -> Part:
    chosen = config.adapt
    sites = ["attention", "feedforward", *(["cross_attention"] if chosen.cross_attention else [])]
    part: Part = {
        "method": METHODS[name],
        "sites": sites,
        "reduction_factor": chosen.reduction_factor,
        "norm_before": chosen.norm_before,
        "norm_after": chosen.norm_after,
    }
    if leave_out:
        part["leave_out"] = [*leave_out]
    several = not chosen.single and len(tasks) > 1
    if name == "hyperformer":
        part["tasks"] = [*tasks]
        part["generators"] = "efficient" if chosen.efficient else "unique"
        part["projected_task_embedding_dim"] = chosen.projection
        return part
    if several:
        part.update(tasks=[*tasks], share_down=chosen.share_down, share_up=chosen.share_up)
    if name == "low_rank":
        part["low_rank_rank"] = chosen.low_rank_rank
    if name == "compacter":
        over_tasks = chosen.shared_rule_over_tasks and several
        part.update(
            hypercomplex_division=chosen.division,
            factorized_phm=chosen.factorized,
            phm_rank=chosen.phm_rank if chosen.factorized else 1,
            phm_rule="model" if chosen.shared_rule else "tasks" if over_tasks else "none",
            phm_init_range=chosen.init_range,
        )
    return part


def _others(config: Any, tasks: Sequence[str], leave_out: Sequence[str], biases: bool) -> list[Part]:
    """Return what combines with any adapters."""
    chosen, found = config.adapt, list[Part]()
    elsewhere: Part = {"leave_out": [*leave_out]} if leave_out else {}
    several = len(tasks) > 1
    if chosen.lora:
        own = [*tasks] if several and not chosen.single_lora else []
        lora: Part = {"rank": chosen.lora_rank, "alpha": chosen.lora_alpha, "dropout": LORA_DROPOUT}
        lora["biases"] = "all" if biases else "none"
        found.append({"method": "task_lora", "sites": ["query", "value"], **lora, "tasks": own, **elsewhere})
    prompt_tasks = [*tasks] if several and not chosen.single_prompt else []
    if chosen.encoder_prompts or chosen.decoder_prompts:
        lengths = {"encoder_prompt_len": chosen.encoder_prompts, "decoder_prompt_len": chosen.decoder_prompts}
        found.append({"method": "prompts", **lengths, "mid_dim": chosen.prompt_width, "tasks": prompt_tasks})
    if chosen.prefix:
        prefix = {"prefix_len": chosen.prefix_length, "form": "joint", "mid_dim": chosen.prompt_width}
        sites = ["attention", "cross_attention"]
        found.append({"method": "prefix", **prefix, "sites": sites, "tasks": prompt_tasks, **elsewhere})
    if chosen.head:
        found.append({"method": "head"})
    if chosen.vision:
        vision: Part = {"method": "convolution", "adapter_type": chosen.vision_type}
        vision["remove_batch_norm"] = chosen.vision_without_batch_norm
        if not chosen.vision_type.endswith("-basic"):
            vision["reduction_factor"] = chosen.vision_reduction_factor
        found.append(vision)
    return found
