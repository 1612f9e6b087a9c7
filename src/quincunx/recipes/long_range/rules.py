"""Rules between the settings of the long_range recipe."""

from __future__ import annotations

from quincunx.config.schema import Rule, Sizes
from quincunx.config.sections.rules import RULES as SHARED_RULES

AVAILABLE_KINDS = ("softmax", "none")

RULES: tuple[Rule, ...] = (
    Rule(
        name="attention-kind-available",
        paths=("attention.kind",),
        applies=lambda config: config.attention.kind not in (None, *AVAILABLE_KINDS),
        message="attention kind {attention.kind} is not available in this version",
        remedy="choose softmax or none",
        failing={"attention.kind": "hrr-bundled"},
    ),
    Rule(
        name="lengths-in-order",
        paths=("data.max_length", "data.min_length"),
        applies=lambda config: config.data.path is None and config.data.max_length < config.data.min_length + 2,
        message="no sequence is longer than data.min_length ({data.min_length}) and shorter than data.max_length "
        "({data.max_length})",
        remedy="raise data.max_length, or lower data.min_length",
        failing={"data.min_length": 50, "data.max_length": 51},
    ),
    Rule(
        name="classes-of-listops",
        paths=("encoder.num_classes",),
        applies=lambda config: config.task == "listops" and config.encoder.num_classes < 10,
        message="ListOps has 10 classes (the digits), encoder.num_classes is {encoder.num_classes}",
        remedy="set encoder.num_classes to 10",
        failing={"encoder.num_classes": 9},
    ),
    Rule(
        name="vocabulary-holds-the-data",
        paths=("encoder.vocab_size",),
        applies=lambda config, sizes: (
            sizes.vocabulary is not None
            and config.encoder.vocab_size < sizes.vocabulary + (config.encoder.pooling == "cls")
        ),
        message="encoder.vocab_size ({encoder.vocab_size}) is too small: the task's token ids, and one more for "
        "pooling cls, do not fit",
        remedy="for ListOps 17 is enough with pooling mean, 18 with cls",
        failing={"encoder.vocab_size": 17, "encoder.pooling": "cls"},
        stage="sized",
        sizes=Sizes(train=100, vocabulary=17),
    ),
    Rule(
        name="sequences-are-cut",
        paths=("encoder.max_seq_len",),
        applies=lambda config, sizes: sizes.longest is not None and sizes.longest > config.encoder.max_seq_len,
        message="the longest sequences are cut to encoder.max_seq_len ({encoder.max_seq_len} tokens), which changes "
        "the answer of a ListOps expression",
        remedy="raise encoder.max_seq_len, or use shorter sequences",
        failing={"encoder.max_seq_len": 100},
        severity="warning",
        stage="sized",
        sizes=Sizes(train=100, longest=1999),
    ),
    *SHARED_RULES,
)
