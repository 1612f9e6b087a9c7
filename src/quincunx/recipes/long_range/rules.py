"""Rules between the settings of the long_range recipe."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Rule, Sizes, Target, lookup
from quincunx.config.sections.attention import ATTENTION_RULES
from quincunx.config.sections.rules import RULES as SHARED_RULES
from quincunx.recipes.long_range.tasks import TASKS, needed_vocabulary, pretrains, usual_length


def _too_small(config: Any, sizes: Sizes) -> bool:
    chosen = config.encoder.vocab_size
    return chosen is not None and chosen < needed_vocabulary(config)


def _too_long(config: Any, sizes: Sizes) -> bool:
    longest, room = sizes.longest, config.encoder.max_seq_len
    return longest is not None and room is not None and longest > room


def _pretraining_updates(config: Any, sizes: Sizes) -> int:
    chosen = config.pretraining
    if chosen.updates is not None:
        return chosen.updates
    batches = -(-sizes.train * TASKS[config.task].parts // config.update.batch_size)
    return -(-batches // config.update.accumulation) * chosen.epochs


def _too_narrow(config: Any) -> bool:
    encoder = config.encoder
    if encoder.position_sampling == "none" or encoder.position_range is None:
        return False
    return encoder.position_range < (encoder.max_seq_len or usual_length(config))


def _cut(config: Any) -> bool:
    return (config.data.overlong or TASKS[config.task].overlong) == "truncate"


RULES: tuple[Rule, ...] = (
    Rule(
        name="data-is-needed",
        paths=("data.path", "task"),
        applies=lambda config: config.data.path is None and not TASKS[config.task].generated,
        message="task {task} needs data.path: its examples cannot be generated",
        remedy="set data.path to a folder of its files; quincunx explain data.path says which",
        failing={"task": "text"},
    ),
    Rule(
        name="lengths-in-order",
        paths=("data.max_length", "data.min_length"),
        applies=lambda config: (
            config.task == "listops"
            and config.data.path is None
            and config.data.max_length < config.data.min_length + 2
        ),
        message="no sequence is longer than data.min_length ({data.min_length}) and shorter than data.max_length "
        "({data.max_length})",
        remedy="raise data.max_length, or lower data.min_length",
        failing={"data.min_length": 50, "data.max_length": 51},
    ),
    Rule(
        name="classes-of-the-task",
        paths=("encoder.num_classes",),
        applies=lambda config: (
            config.encoder.num_classes is not None
            and config.task != "text"
            and config.encoder.num_classes < TASKS[config.task].classes
        ),
        message="encoder.num_classes is {encoder.num_classes}, task {task} has more classes",
        remedy="leave encoder.num_classes unset: it then follows from the task",
        failing={"encoder.num_classes": 9},
    ),
    Rule(
        name="cls-sees-nothing-causally",
        paths=("encoder.pooling", "attention.causal"),
        applies=lambda config: (
            config.attention.causal and config.attention.kind != "none" and config.encoder.pooling == "cls"
        ),
        message="the cls token comes first, so under attention.causal it sees no other token",
        remedy="set encoder.pooling to mean, or attention.causal to false",
        failing={"attention.causal": True, "encoder.pooling": "cls"},
    ),
    Rule(
        name="positions-have-room",
        paths=("encoder.position_range", "encoder.max_seq_len"),
        applies=_too_narrow,
        message="encoder.position_range ({encoder.position_range}) is less than the tokens of the longest sequence",
        remedy="raise encoder.position_range, leave it unset (three times encoder.max_seq_len), or lower "
        "encoder.max_seq_len",
        failing={"encoder.position_sampling": "integer", "encoder.position_range": 99, "encoder.max_seq_len": 100},
    ),
    *ATTENTION_RULES,
    Rule(
        name="pretraining-has-one-length",
        paths=("pretraining.updates", "pretraining.epochs"),
        applies=lambda config: config.pretraining.epochs is not None and config.pretraining.updates is not None,
        message="pretraining.epochs and pretraining.updates both say how long pretraining goes on",
        remedy="keep one of them",
        failing={"pretraining.epochs": 1, "pretraining.updates": 10},
    ),
    Rule(
        name="pretraining-is-a-start-of-its-own",
        paths=("init_from", "pretraining.epochs", "pretraining.updates"),
        applies=lambda config: pretrains(config) and config.init_from is not None,
        message="init_from and pretraining both say which weights training starts from",
        remedy="keep one of them",
        failing={"pretraining.epochs": 1, "init_from": "runs/one"},
    ),
    Rule(
        name="adapters-need-a-trained-trunk",
        paths=("peft.method", "peft.train"),
        applies=lambda config: (
            (config.peft.method is not None or config.peft.train is not None)
            and config.init_from is None
            and not pretrains(config)
        ),
        message="peft leaves the trunk at the random values that it is built with",
        remedy="begin with a trained one by init_from or pretraining, or train all of it",
        failing={"peft.method": "bottleneck"},
    ),
    Rule(
        name="pretraining-sets-our-rate",
        paths=("pretraining.learning_rate",),
        applies=lambda config: (
            pretrains(config) and config.pretraining.learning_rate is not None and isinstance(config.optimizer, Target)
        ),
        message="pretraining.learning_rate cannot be handed to an optimizer given by _target_",
        remedy="leave it unset: pretraining then uses the optimizer as it stands",
        failing={
            "pretraining.epochs": 1,
            "pretraining.learning_rate": 0.1,
            "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
        },
    ),
    Rule(
        name="warmup-fills-pretraining",
        paths=("schedule.warmup", "pretraining.updates", "pretraining.epochs"),
        applies=lambda config, sizes: (
            pretrains(config)
            and lookup(config, "schedule.kind") in ("linear", "cos")
            and config.schedule.warmup >= _pretraining_updates(config, sizes)
        ),
        message="schedule.warmup ({schedule.warmup} updates) leaves no update of pretraining, which has the same "
        "schedule over its own updates, to the schedule itself",
        remedy="lower schedule.warmup, or pretrain longer",
        failing={"schedule.kind": "cos", "schedule.warmup": 10, "pretraining.updates": 10, "budget.updates": 50},
        stage="sized",
        sizes=Sizes(train=100),
    ),
    Rule(
        name="vocabulary-holds-the-data",
        paths=("encoder.vocab_size",),
        applies=_too_small,
        message="encoder.vocab_size ({encoder.vocab_size}) is too small: the task's token ids, one more for pooling "
        "cls, and one more for the mask of pretraining do not fit",
        remedy="leave it unset: it then is what the task needs (17 for listops, 257 for the others)",
        failing={"encoder.vocab_size": 17, "encoder.pooling": "cls"},
        stage="sized",
        sizes=Sizes(train=100, vocabulary=17),
    ),
    Rule(
        name="sequences-do-not-fit",
        paths=("encoder.max_seq_len", "data.max_length", "data.resolution"),
        applies=lambda config, sizes: _too_long(config, sizes) and not _cut(config),
        message="sequences are longer than encoder.max_seq_len ({encoder.max_seq_len} tokens), and a cut would change "
        "their answer",
        remedy="raise encoder.max_seq_len, use shorter sequences, or set data.overlong to truncate",
        failing={"encoder.max_seq_len": 100},
        stage="sized",
        sizes=Sizes(train=100, longest=1999),
    ),
    Rule(
        name="sequences-are-cut",
        paths=("encoder.max_seq_len",),
        applies=lambda config, sizes: (
            _too_long(config, sizes) and _cut(config) and TASKS[config.task].overlong == "error"
        ),
        message="the longest sequences are cut to encoder.max_seq_len ({encoder.max_seq_len} tokens), which changes "
        "their answer",
        remedy="raise encoder.max_seq_len, or use shorter sequences",
        failing={"encoder.max_seq_len": 100, "data.overlong": "truncate"},
        severity="warning",
        stage="sized",
        sizes=Sizes(train=100, longest=1999),
    ),
    *SHARED_RULES,
)
