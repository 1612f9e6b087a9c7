"""Rules between what is asked, how it is read and answered, and how weights begin and move."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

from quincunx.config.schema import Rule
from quincunx.recipes.vision_language.kinds import has_task, is_bart, is_raw, pretrains

PLACEHOLDER = re.compile(r"\s*(#|<|\.\.\.|todo\b|none\b|path/to\b)", re.IGNORECASE)
"""How a path begins that somebody was still to write."""
CLASSIFIED = ("vqa", "gqa", "cls", "nlvr")
"""Tasks whose answers are few."""


def _twice(config: Any) -> bool:
    return any(count > 1 for count in Counter(config.data.tasks).values())


def _of_ours(config: Any, name: str) -> Any:
    """Return a setting of our own optimizer or schedule; None where there is a `_target_` in its place."""
    section, _, key = name.partition(".")
    return getattr(getattr(config, section), key, None)


def _is_classifying_wrongly(config: Any) -> bool:
    named = config.data.tasks
    return config.model.classifier and (pretrains(config) or len(named) != 1 or named[0] not in CLASSIFIED)


TRAINING_RULES: tuple[Rule, ...] = (
    Rule(
        name="a-collection-is-needed",
        paths=("data.path",),
        applies=lambda config: config.data.path is None,
        message="data.path is unset: there is nothing to learn from",
        remedy="name the folder of a collection; `quincunx data import` makes one of one's own files or public ones, "
        "`quincunx data shapeworld --out FOLDER` renders one",
        failing={"data.path": None},
    ),
    Rule(
        name="a-task-once",
        paths=("data.tasks",),
        applies=_twice,
        message="data.tasks names a task twice",
        remedy="name each once",
        failing={"data.tasks": ["vqa", "vqa"]},
    ),
    Rule(
        name="weights-of-tasks",
        paths=("mixing.weights", "mixing.sampling", "data.tasks"),
        applies=lambda config: (
            config.mixing.sampling == "weights"
            and len(config.data.tasks) != 1
            and (
                not config.mixing.weights or bool({*config.mixing.weights} - {*config.data.tasks} and config.data.tasks)
            )
        ),
        message="mixing.weights must have a weight for each task, and for no other",
        remedy="give each task of data.tasks its weight, as vqa: 2 and caption: 1",
        failing={"mixing.sampling": "weights"},
    ),
    Rule(
        name="mixing-by-updates-needs-a-number",
        paths=("mixing.stop", "budget.batches_per_epoch"),
        applies=lambda config: (
            config.mixing.stop == "updates"
            and config.mixing.sampling != "roundrobin"
            and config.budget.batches_per_epoch is None
        ),
        message="mixing.stop updates ends an epoch after budget.batches_per_epoch, which is unset",
        remedy="set budget.batches_per_epoch",
        failing={"mixing.stop": "updates", "mixing.sampling": "uniform"},
    ),
    Rule(
        name="candidates-of-one-kind",
        paths=("data.refcoco.ground_truth", "data.refcoco.detections"),
        applies=lambda config: (
            has_task(config, "refcoco") and config.data.refcoco.ground_truth and config.data.refcoco.detections
        ),
        message="candidates are either the annotated boxes or the detector's, and both are asked for",
        remedy="keep one of data.refcoco.ground_truth and data.refcoco.detections",
        failing={"data.refcoco.ground_truth": True, "data.refcoco.detections": True},
    ),
    Rule(
        name="a-classifier-has-one-task",
        paths=("model.classifier", "data.tasks"),
        applies=_is_classifying_wrongly,
        message="model.classifier chooses among the answers of one task with few of them (vqa, gqa, cls or nlvr)",
        remedy="name that task alone in data.tasks, or leave model.classifier out",
        failing={"model.classifier": True},
    ),
    Rule(
        name="a-classifier-learns-all-answers",
        paths=("model.classifier", "data.vqa.draw"),
        applies=lambda config: config.model.classifier and config.data.vqa.draw,
        message="a classifier learns all scored answers of a question at once, and data.vqa.draw draws one to generate",
        remedy="leave one of them out",
        failing={"model.classifier": True, "data.vqa.draw": True, "data.tasks": ["vqa"]},
    ),
    Rule(
        name="captions-have-no-questions",
        paths=("pretraining.captions_only", "pretraining.coco_only", "pretraining.losses"),
        applies=lambda config: (
            pretrains(config)
            and "qa" in config.pretraining.losses
            and (config.pretraining.captions_only or config.pretraining.coco_only)
        ),
        message="the loss qa needs questions, and captions alone are used: captions_only {pretraining.captions_only}, "
        "coco_only {pretraining.coco_only}",
        remedy="leave qa out of pretraining.losses, or captions_only and coco_only",
        failing={"objective": "pretraining", "pretraining.losses": ["lm", "qa"], "pretraining.captions_only": True},
    ),
    Rule(
        name="a-mask-word-is-needed",
        paths=("text.caption", "model.path", "model.build.architecture"),
        applies=lambda config: (
            has_task(config, "caption") and config.text.caption in ("denoise", "mask") and is_bart(config) is False
        ),
        message="text.caption {text.caption} needs a tokenizer with a mask token, as BART's kind has; this backbone "
        "has none",
        remedy="choose span, or a backbone of BART's kind",
        failing={"text.caption": "mask"},
    ),
    Rule(
        name="an-empty-text-is-empty",
        paths=("text.empty", "text.caption", "text.task_prompts", "text.tags"),
        applies=lambda config: (
            config.text.empty and (config.text.caption is not None or config.text.task_prompts or config.text.tags)
        ),
        message="text.empty leaves captions without any text, and text.caption, task_prompts or tags put some there",
        remedy="keep one",
        failing={"text.empty": True, "text.tags": True},
    ),
    Rule(
        name="weights-are-still-to-be-named",
        paths=("model.weights",),
        applies=lambda config: config.model.weights is not None and PLACEHOLDER.match(config.model.weights) is not None,
        message="model.weights is {model.weights}, which stands for a path that was never written",
        remedy="name a file of weights, or leave it out",
        failing={"model.weights": "#TODO"},
    ),
    Rule(
        name="weights-or-none",
        paths=("model.weights", "init_from", "model.from_scratch"),
        applies=lambda config: (
            config.model.from_scratch and (config.model.weights is not None or config.init_from is not None)
        ),
        message="model.from_scratch forgets weights, and weights to start from are named",
        remedy="keep one of them",
        failing={"model.from_scratch": True, "model.weights": "there.safetensors"},
    ),
    Rule(
        name="weights-once",
        paths=("model.weights", "init_from"),
        applies=lambda config: config.model.weights is not None and config.init_from is not None,
        message="model.weights and init_from both name weights to start from",
        remedy="keep one of them",
        failing={"model.weights": "there.safetensors", "init_from": "runs/there"},
    ),
    Rule(
        name="scratch-and-frozen",
        paths=("model.from_scratch", "unfreeze.language_model"),
        applies=lambda config: config.model.from_scratch and config.unfreeze.language_model is False,
        message="the backbone begins at random (model.from_scratch) and is never trained (unfreeze.language_model "
        "false)",
        remedy="set unfreeze.language_model=true, or leave model.from_scratch out",
        failing={"model.from_scratch": True, "unfreeze.language_model": False},
        severity="warning",
    ),
    Rule(
        name="a-rate-for-images",
        paths=("optimizer.separate_vision", "pictures.features"),
        applies=lambda config: bool(_of_ours(config, "optimizer.separate_vision")) and not is_raw(config),
        message="optimizer.separate_vision is about the image encoder, which is not in the model with "
        "{pictures.features}",
        remedy="choose raw_* for pictures.features, or leave it out",
        failing={"optimizer.separate_vision": True},
    ),
    Rule(
        name="moments-once",
        paths=("optimizer.betas", "optimizer.beta1", "optimizer.beta2"),
        applies=lambda config: (
            _of_ours(config, "optimizer.betas") is not None
            and (config.optimizer.beta1 != 0.9 or config.optimizer.beta2 != 0.999)
        ),
        message="optimizer.betas gives both decay rates, and beta1 or beta2 one of them again",
        remedy="keep betas, or beta1 and beta2",
        failing={"optimizer.betas": [0.9, 0.98], "optimizer.beta1": 0.8},
    ),
    Rule(
        name="nothing-to-sort-by-length",
        paths=("loading.bucketing",),
        applies=lambda config: config.loading.bucketing,
        message="loading.bucketing puts examples of like length together, and here lengths are not known before texts "
        "are put: they are short, and pictures have one size",
        remedy="leave it out; chunking cuts batches by length all the same",
        failing={"loading.bucketing": True},
    ),
    Rule(
        name="no-deepspeed-yet",
        paths=("compute.deepspeed",),
        applies=lambda config: config.compute.deepspeed is not None,
        message="compute.deepspeed: training through DeepSpeed is not there yet",
        remedy="leave it out: several processes share a batch by compute.processes, and memory is saved by chunking",
        failing={"compute.deepspeed": "zero.json"},
    ),
    Rule(
        name="the-rank-is-the-launcher's",
        paths=("compute.local_rank",),
        applies=lambda config: (
            config.compute.local_rank != -1 and str(config.compute.local_rank) != os.environ.get("LOCAL_RANK")
        ),
        message="compute.local_rank is {compute.local_rank}, which no launcher has given this process",
        remedy="leave it at -1: quincunx train, or torchrun, gives each process its own",
        failing={"compute.local_rank": 7},
    ),
    Rule(
        name="several-or-one",
        paths=("compute.processes", "compute.multi_gpu", "compute.distributed"),
        applies=lambda config: (
            config.compute.processes == 1 and (config.compute.multi_gpu or config.compute.distributed)
        ),
        message="compute.processes is 1, and multi_gpu or distributed asks for several",
        remedy="keep one of them",
        failing={"compute.processes": 1, "compute.distributed": True},
    ),
)
