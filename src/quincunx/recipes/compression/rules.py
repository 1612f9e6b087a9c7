"""Rules between the settings of the `compression` recipe; those of one section stand beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quincunx.config.schema import Rule
from quincunx.config.sections.rules import RULES as SHARED_RULES
from quincunx.recipes.compression.config_blotch import BLOTCH_RULES, DECIDING, blotches
from quincunx.recipes.compression.config_generated import RULES as GENERATED_RULES
from quincunx.recipes.compression.config_positions import POSITION_RULES, samples
from quincunx.recipes.compression.kinds import branches, compresses, generated, lengths, slots, weights


def _trains(config: Any) -> tuple[str, ...]:
    return tuple(config.model.train or (("all",) if config.model.path is None else ("new",)))


def _of(rule: Rule) -> Rule:
    """Return a rule of a section of examples by rule, for configs whose data it is."""
    source = rule.paths[0].partition(".")[0]
    applies: Any = rule.applies
    return replace(
        rule,
        # what is read from files is as they are
        applies=lambda config: config.data.source == source and config.data.path is None and applies(config),
        failing={"data.source": source, **rule.failing},
    )


def _adapters(config: Any) -> set[str]:
    """Return the methods of peft's section, those of a composite's parts among them."""
    parts = config.peft.options.get("parts", ()) if config.peft.method == "composite" else ()
    inner = {str(part.get("method")) for part in parts if isinstance(part, dict)} if isinstance(parts, list) else set()
    return {str(config.peft.method)} | inner


RULES: tuple[Rule, ...] = (
    Rule(
        name="files-need-a-path",
        paths=("data.source", "data.path"),
        applies=lambda config: config.data.source in ("text", "jsonl") and config.data.path is None,
        message="data.source {data.source} reads what data.path names, which is unset",
        remedy="set data.path to a file or folder",
        failing={"data.source": "text"},
    ),
    Rule(
        name="tasks-are-whole",
        paths=("data.context_length", "objective.reconstruct_only", "data.source"),
        applies=lambda config: compresses(config) and generated(config) == "tasks",
        message="tasks are answered place by place of the whole input: nothing of it can be compressed",
        remedy="leave data.context_length and objective.reconstruct_only out, or choose another data.source",
        failing={"data.source": "tasks", "data.context_length": 8},
    ),
    Rule(
        name="tasks-are-not-blotched",
        paths=(*DECIDING, "data.source"),
        applies=lambda config: blotches(config) and generated(config) == "tasks",
        message="tasks are answered place by place of the whole input, and blotch leaves some of it out",
        remedy="leave blotch out, or choose another data.source",
        failing={"data.source": "tasks", "blotch.p": 0.5},
    ),
    Rule(
        name="blotching-has-a-text",
        paths=("blotch.scope", "objective.reconstruct_only"),
        applies=lambda config: (
            blotches(config)
            and compresses(config)
            and config.blotch.scope == "forward"
            and not {"forward", "without", "full"} & set(branches(config))
        ),
        message="blotch.scope is forward, and the objective has no text that follows a context",
        remedy="set blotch.scope to context or both, or objective.forward to 1",
        failing={"objective.reconstruct_only": True, "blotch.p": 0.5, "blotch.scope": "forward"},
    ),
    Rule(
        name="one-side-without-compression",
        paths=("blotch.scope", "data.context_length"),
        applies=lambda config: blotches(config) and not compresses(config) and config.blotch.scope == "context",
        message="blotch.scope has no effect: nothing is compressed, and a text without compression is all forward",
        remedy="leave blotch.scope out, or set data.context_length",
        failing={"blotch.p": 0.5, "blotch.scope": "context"},
        severity="warning",
    ),
    Rule(
        name="targets-of-reconstruction",
        paths=("blotch.targets", "objective.reconstruction"),
        applies=lambda config: (
            blotches(config)
            and config.blotch.scope != "forward"
            and config.blotch.targets == "keep"
            and "reconstruction" not in weights(config)
        ),
        message="blotch.targets has no effect: it acts on reconstruction, which the objective does not have",
        remedy="leave blotch.targets out, or set objective.reconstruction",
        failing={"data.context_length": 8, "blotch.p": 0.5, "blotch.targets": "keep"},
        severity="warning",
    ),
    Rule(
        name="something-is-learnt",
        paths=("objective.forward", "objective.reconstruction"),
        applies=lambda config: not weights(config),
        message="every weight of the objective is 0",
        remedy="set objective.forward to 1",
        failing={"data.context_length": 8, "objective.forward": 0.0},
    ),
    Rule(
        name="slots-and-context",
        paths=("compress.slots", "data.context_length"),
        applies=lambda config: (
            compresses(config) and max(slots(config)) * config.compress.segments > lengths(config)[0]
        ),
        message="compress.slots ({compress.slots}) are more than the tokens that they stand for",
        remedy="lower compress.slots, or raise data.context_length",
        failing={"data.context_length": 8, "compress.slots": 9},
    ),
    Rule(
        name="segments-and-context",
        paths=("compress.segments", "data.context_length"),
        applies=lambda config: compresses(config) and config.compress.segments > lengths(config)[0],
        message="compress.segments ({compress.segments}) are more than the context has tokens",
        remedy="lower compress.segments",
        failing={"data.context_length": 4, "compress.segments": 5, "compress.slots": 1},
    ),
    Rule(
        name="one-pass-of-keys",
        paths=("compress.plan", "compress.readout"),
        applies=lambda config: (
            compresses(config) and config.compress.plan == "one_pass" and config.compress.readout != "kv"
        ),
        message="compress.readout {compress.readout} feeds a second pass with what the first has found",
        remedy="leave compress.plan out, or set compress.readout to kv",
        failing={"data.context_length": 8, "compress.plan": "one_pass", "compress.readout": "tokens"},
    ),
    Rule(
        name="keys-stay-where-they-are",
        paths=("compress.positions", "compress.readout"),
        applies=lambda config: (
            compresses(config) and config.compress.positions == "restart" and config.compress.readout == "kv"
        ),
        message="keys hold where they were, so compress.positions restart cannot move them",
        remedy="set compress.positions to continue or uniform, or compress.readout to tokens",
        failing={"data.context_length": 8, "compress.positions": "restart"},
    ),
    Rule(
        name="gradients-stop-between-passes",
        paths=("compress.stop_gradient", "compress.plan"),
        applies=lambda config: (
            compresses(config)
            and config.compress.stop_gradient is not None
            and config.compress.segments > 1
            and (config.compress.plan or "one_pass") == "one_pass"
            and config.compress.readout == "kv"
        ),
        message="compress.stop_gradient cuts between passes, and in one pass there is no between",
        remedy="set compress.plan to two_pass",
        failing={"data.context_length": 8, "compress.segments": 2, "compress.slots": 1, "compress.stop_gradient": 1},
    ),
    Rule(
        name="gradients-stop-before-the-last",
        paths=("compress.stop_gradient", "compress.segments"),
        applies=lambda config: (
            compresses(config)
            and config.compress.stop_gradient is not None
            and config.compress.segments > 1
            and config.compress.join != "concatenate"
            and config.compress.stop_gradient >= config.compress.segments
        ),
        message="compress.stop_gradient ({compress.stop_gradient}) cuts behind the last of compress.segments",
        remedy="lower compress.stop_gradient, or leave it out",
        failing={
            "data.context_length": 8,
            "compress.segments": 2,
            "compress.slots": 1,
            "compress.plan": "two_pass",
            "compress.stop_gradient": 2,
        },
    ),
    Rule(
        name="one-way-to-several-devices",
        paths=("model.device_map", "compute.processes"),
        applies=lambda config: (
            config.model.device_map and config.model.path is not None and config.compute.processes not in (None, 1)
        ),
        message="model.device_map spreads one model over all devices, and compute.processes gives each device its own",
        remedy="set compute.processes to 1, or model.device_map to false",
        failing={"model.path": "gpt2", "data.context_length": 8, "model.device_map": True, "compute.processes": 2},
    ),
    Rule(
        name="checkpointing-keeps-no-keys",
        paths=("model.gradient_checkpointing", "compress.plan"),
        applies=lambda config: (
            compresses(config)
            and config.model.gradient_checkpointing
            and config.compress.readout == "kv"
            and config.compress.plan == "two_pass"
        ),
        message="model.gradient_checkpointing does not keep the keys and values that compress.plan two_pass hands on",
        remedy="set compress.plan to one_pass, or compress.readout to tokens",
        failing={"data.context_length": 8, "model.gradient_checkpointing": True, "compress.plan": "two_pass"},
    ),
    Rule(
        name="contexts-are-causal",
        paths=("model.causal", "model.path"),
        applies=lambda config: not config.model.causal and "plain" in weights(config) and generated(config) != "tasks",
        message="a plain text that is read both ways (model.causal false) shows what is to be predicted",
        remedy="set model.causal to true",
        failing={"model.causal": False},
    ),
    Rule(
        name="new-words-are-trained",
        paths=("blotch.intensity_tokens", "model.train"),
        applies=lambda config: (
            config.blotch.intensity_tokens
            and config.blotch.p_max is not None
            and not {"embeddings", "all"} & set(_trains(config))
        ),
        message="blotch.intensity_tokens are new words, whose embeddings model.train leaves as they are",
        remedy="add embeddings to model.train",
        failing={"blotch.p_max": 0.5, "blotch.intensity_tokens": True, "model.path": "gpt2"},
    ),
    Rule(
        name="new-parameters-exist",
        paths=("model.train", "model.path"),
        applies=lambda config: (
            _trains(config) == ("new",) and not compresses(config) and not config.positions.learnable
        ),
        message="model.train is new, and without compression there is nothing new to train",
        remedy="set data.context_length, or train more: embeddings, head, adapters or all",
        failing={"model.path": "gpt2"},
    ),
    Rule(
        name="parts-beside-adapters",
        paths=("peft.train", "peft.method"),
        applies=lambda config: config.peft.train is not None and config.peft.method is None,
        message="peft.train names what is trained beside adapters, and peft.method names none",
        remedy="set peft.method and model.train=[adapters], or say by model.train what is trained",
        failing={"peft.train": ["lm_head"]},
    ),
    Rule(
        name="adapters-are-asked-for",
        paths=("peft.method", "model.train"),
        applies=lambda config: config.peft.method is not None and not {"lora", "adapters"} & set(_trains(config)),
        message="peft.method is {peft.method}, but model.train has no adapters",
        remedy="add adapters to model.train, or leave peft out",
        failing={"peft.method": "lora"},
    ),
    Rule(
        name="adapters-take-our-masks",
        paths=("peft.method", "peft.options"),
        applies=lambda config: bool({"prompts", "ladder"} & _adapters(config)),
        message="peft has prompts or a ladder, which need masks of two dimensions, and compression has its own",
        remedy="choose prefix in place of prompts; bottleneck, compacter or task_lora in place of a ladder",
        failing={"model.path": "gpt2", "model.train": ["adapters"], "peft.method": "ladder"},
    ),
    Rule(
        name="adapters-have-a-method",
        paths=("model.train", "peft.method"),
        applies=lambda config: "adapters" in _trains(config) and config.peft.method is None,
        message="model.train has adapters, and peft.method says none",
        remedy="set peft.method, for example to bottleneck",
        failing={"model.path": "gpt2", "model.train": ["adapters"]},
    ),
    Rule(
        name="fractions-need-a-table-of-waves",
        paths=("positions.sample", "positions.kind"),
        applies=lambda config: (
            samples(config) == "float"
            and config.positions.kind == "model"
            and config.model.path is None
            and config.model.build.architecture == "gpt2"
        ),
        message="gpt2 has a table of whole positions, and positions.sample float draws between them",
        remedy="set positions.sample to integer, or positions.kind to sinusoidal",
        failing={"positions.sample": "float", "model.build.architecture": "gpt2"},
    ),
    Rule(
        name="validation-has-documents",
        paths=("data.dev_share", "data.test_share"),
        applies=lambda config: config.data.dev_share + config.data.test_share >= 1,
        message="data.dev_share and data.test_share leave nothing to train on",
        remedy="let them add up to less than 1",
        failing={"data.dev_share": 0.5, "data.test_share": 0.5},
    ),
    *(_of(rule) for rule in GENERATED_RULES),
    *BLOTCH_RULES,
    *POSITION_RULES,
    *SHARED_RULES,
)
"""In the order in which they are tried."""
