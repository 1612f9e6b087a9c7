"""Rules between the switches of adapters, and between them and what else is trained."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Rule
from quincunx.recipes.vision_language.kinds import adapters, adapts, is_raw, pretrains


def _per_task(config: Any) -> bool:
    """Tell whether some part has weights for each task."""
    chosen = config.adapt
    dense = chosen.bottleneck or chosen.compacter or chosen.low_rank
    prompted = chosen.encoder_prompts > 0 or chosen.decoder_prompts > 0 or chosen.prefix
    return (
        (dense and not chosen.single)
        or chosen.hyperformer
        or (chosen.lora and not chosen.single_lora)
        or (prompted and not chosen.single_prompt)
    )


def _shares(config: Any) -> bool:
    """Tell whether some part is shared by several tasks that nothing in the text tells apart."""
    chosen = config.adapt
    dense = chosen.bottleneck or chosen.compacter or chosen.low_rank
    prompted = chosen.encoder_prompts > 0 or chosen.decoder_prompts > 0
    several = config.objective == "tasks" and len(config.data.tasks) > 1
    shared = (dense and chosen.single) or (chosen.lora and chosen.single_lora) or (prompted and chosen.single_prompt)
    return several and shared and not config.text.task_prompts


def _in_images(config: Any) -> bool:
    chosen = config.unfreeze
    return config.adapt.vision or chosen.vision or chosen.vision_last_layer or chosen.batch_norms


def _trains_nothing(config: Any) -> bool:
    chosen = config.unfreeze
    parts = (chosen.head, chosen.layer_norms, chosen.batch_norms, chosen.vision, chosen.vision_last_layer)
    adapted = adapts(config) or config.peft.method is not None or config.peft.train is not None
    return not config.pictures.use and chosen.language_model is False and not any(parts) and not adapted


ADAPT_RULES: tuple[Rule, ...] = (
    Rule(
        name="nothing-is-trained",
        paths=("unfreeze.language_model", "pictures.use"),
        applies=_trains_nothing,
        message="the language model is frozen, there are no adapters and no pictures whose embedding would be trained",
        remedy="leave unfreeze.language_model out, or switch adapters on",
        failing={"unfreeze.language_model": False, "pictures.use": False},
    ),
    Rule(
        name="one-kind-of-adapters",
        paths=("adapt.bottleneck", "adapt.compacter", "adapt.low_rank", "adapt.hyperformer"),
        applies=lambda config: len(adapters(config)) > 1,
        message="several kinds of adapters are on, and they stand at the same places",
        remedy="keep one of adapt.bottleneck, compacter, low_rank, hyperformer; LoRA, prompts, head and vision "
        "adapters "
        "combine with any (peft.method composite puts several kinds at places of your choice)",
        failing={"adapt.bottleneck": True, "adapt.compacter": True},
    ),
    Rule(
        name="a-hyperformer-needs-a-form",
        paths=("adapt.hyperformer", "adapt.unique", "adapt.efficient"),
        applies=lambda config: config.adapt.hyperformer and config.adapt.unique == config.adapt.efficient,
        message="a hyperformer has either networks for each kind of module (unique) or one for all (efficient); unique "
        "is {adapt.unique}, efficient {adapt.efficient}",
        remedy="set exactly one of adapt.unique and adapt.efficient to true",
        failing={"adapt.hyperformer": True},
    ),
    Rule(
        name="sharing-both-halves-is-single",
        paths=("adapt.share_down", "adapt.share_up"),
        applies=lambda config: (
            bool({"bottleneck", "compacter", "low_rank"} & {*adapters(config)})
            and not config.adapt.single
            and config.adapt.share_down
            and config.adapt.share_up
        ),
        message="with both maps shared every task has the same adapter, as adapt.single gives it for less bookkeeping",
        remedy="set adapt.single, or share one half",
        failing={"adapt.bottleneck": True, "adapt.share_down": True, "adapt.share_up": True},
        severity="warning",
    ),
    Rule(
        name="a-rule-over-tasks-needs-tasks",
        paths=("adapt.shared_rule_over_tasks", "data.tasks"),
        applies=lambda config: (
            config.adapt.compacter
            and config.adapt.shared_rule_over_tasks
            and not config.adapt.shared_rule
            and not config.adapt.single
            and len(config.data.tasks) == 1
        ),
        message="adapt.shared_rule_over_tasks ties what several tasks have, and there is one",
        remedy="leave it out, or name several tasks",
        failing={
            "adapt.compacter": True,
            "adapt.shared_rule": False,
            "adapt.shared_rule_over_tasks": True,
            "data.tasks": ["vqa"],
        },
    ),
    Rule(
        name="pretraining-has-no-tasks",
        paths=("adapt.single", "adapt.hyperformer", "adapt.single_lora", "adapt.single_prompt", "objective"),
        applies=lambda config: pretrains(config) and _per_task(config),
        message="parts with weights for each task need examples that belong to tasks, and those of pretraining do not",
        remedy="set adapt.single, adapt.single_lora or adapt.single_prompt, or objective=tasks",
        failing={"objective": "pretraining", "adapt.bottleneck": True},
    ),
    Rule(
        name="shared-parts-want-prompts",
        paths=("adapt.single", "adapt.single_lora", "adapt.single_prompt", "text.task_prompts"),
        applies=_shares,
        message="one set of weights serves several tasks, and nothing in a text says which task it is of",
        remedy="set text.task_prompts=true",
        failing={"adapt.bottleneck": True, "adapt.single": True, "data.tasks": ["vqa", "caption"]},
        severity="warning",
    ),
    Rule(
        name="z-needs-a-bottleneck",
        paths=("adapt.track_z",),
        applies=lambda config: config.adapt.track_z and not adapters(config),
        message="adapt.track_z looks at what adapters hold in their bottlenecks, and there is no such adapter",
        remedy="switch one on (adapt.bottleneck, compacter, low_rank or hyperformer), or leave adapt.track_z out",
        failing={"adapt.track_z": True},
    ),
    Rule(
        name="image-encoder-is-not-in-the-model",
        paths=(
            "adapt.vision",
            "unfreeze.vision",
            "unfreeze.vision_last_layer",
            "unfreeze.batch_norms",
            "pictures.features",
        ),
        applies=lambda config: _in_images(config) and not is_raw(config),
        message="the image encoder is not in the model: pictures.features {pictures.features} are stored",
        remedy="choose raw_RN50, raw_RN101, raw_RN50x4 or raw_ViT for pictures.features, or leave its adapters and "
        "what "
        "is unfrozen of it out",
        failing={"adapt.vision": True},
    ),
    Rule(
        name="convolutions-in-a-transformer",
        paths=("adapt.vision", "unfreeze.batch_norms", "pictures.features"),
        applies=lambda config: (
            is_raw(config)
            and config.pictures.features == "raw_ViT"
            and (config.adapt.vision or config.unfreeze.batch_norms)
        ),
        message="the image encoder is a transformer: it has neither convolutional blocks nor batch norms",
        remedy="choose raw_RN50, raw_RN101 or raw_RN50x4, or leave adapt.vision and unfreeze.batch_norms out",
        failing={"adapt.vision": True, "pictures.features": "raw_ViT"},
    ),
    Rule(
        name="adapters-beside-a-trained-model",
        paths=("unfreeze.language_model",),
        applies=lambda config: (
            config.unfreeze.language_model is True and (adapts(config) or config.peft.method is not None)
        ),
        message="the whole language model is trained besides the adapters: they are no longer a small part of what is",
        remedy="leave unfreeze.language_model out to train the adapters alone",
        failing={"unfreeze.language_model": True, "adapt.bottleneck": True},
        severity="warning",
    ),
    Rule(
        name="adapt-or-peft",
        paths=(
            "peft.method",
            "adapt.bottleneck",
            "adapt.compacter",
            "adapt.low_rank",
            "adapt.hyperformer",
            "adapt.lora",
        ),
        applies=lambda config: config.peft.method is not None and adapts(config),
        message="peft.method {peft.method} says what is put into the model, and the switches of adapt say it too",
        remedy="keep one; several methods at once are the parts of peft.method composite",
        failing={"peft.method": "lora", "adapt.bottleneck": True},
    ),
)
