"""Guide 004's keys and where each is served."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Name
from quincunx.config.sections.names import SHARED_NAMES
from quincunx.config.wording import show

KINDS = ("softmax", "hrr-individual", "hrr-bundled", "hrr-quadratic", "tpr")
"""The attention kinds for which the guide has rows."""


def positions(learned: Any) -> str:
    """Return the position kind for the guide's `learn_pos_emb`."""
    if not isinstance(learned, bool):
        raise ValueError(f"expected true or false, found {show(learned)}")  # noqa: TRY004 - the contract of Name
    return "learned" if learned else "fixed"


def precision(mixed: Any) -> str:
    """Return the precision for the guide's `mixed_precision`."""
    if not isinstance(mixed, bool):
        raise ValueError(f"expected true or false, found {show(mixed)}")  # noqa: TRY004 - the contract of Name
    return "auto" if mixed else "float32"


def _guide(old: str, new: str, transform: Any = None) -> Name:
    return Name(old, new, guide="004", transform=transform)


NAMES: tuple[Name, ...] = (
    _guide("dataset.train", "data.train"),
    _guide("dataset.dev", "data.dev"),
    _guide("dataset.test", "data.test"),
    _guide("model.learn_pos_emb", "encoder.positions", positions),
    _guide("model.tied_weights", "encoder.tied_weights"),
    _guide("model.embedding_dim", "encoder.embedding_dim"),
    _guide("model.transformer_hidden_dim", "encoder.hidden_dim"),
    _guide("model.head_dim", "encoder.head_dim"),
    _guide("model.num_head", "encoder.num_heads"),
    _guide("model.num_layers", "encoder.num_layers"),
    _guide("model.vocab_size", "encoder.vocab_size"),
    _guide("model.max_seq_len", "encoder.max_seq_len"),
    _guide("model.dropout_prob", "encoder.dropout"),
    _guide("model.attention_dropout", "encoder.attention_dropout"),
    _guide("model.pooling_mode", "encoder.pooling"),
    _guide("model.num_classes", "encoder.num_classes"),
    _guide("training.mixed_precision", "compute.precision", precision),
    _guide("training.batch_size", "update.batch_size"),
    _guide("training.lr_scheduler", "schedule.kind"),
    _guide("training.learning_rate", "optimizer.learning_rate"),
    _guide("training.learning_rate_decay", "schedule.decay"),
    _guide("training.weight_decay", "optimizer.weight_decay"),
    _guide("training.num_epochs", "budget.epochs"),
    _guide("training.num_eval_steps", "evaluate.max_batches"),
    _guide("training.warmup_steps", "schedule.warmup"),
    _guide("training.final_div_factor", "schedule.final_div_factor"),
    *(_guide(f"gpu_memory.{kind}", f"chunking.samples_by_kind.{kind}") for kind in KINDS),
    *(
        _guide(f"extra_attn_config.{kind}.attention_grad_checkpointing", f"attention.options.{kind}.grad_checkpointing")
        for kind in KINDS
    ),
    Name("gpu_memory.*", "chunking.samples_by_kind.*"),
    Name("extra_attn_config.*.attention_grad_checkpointing", "attention.options.*.grad_checkpointing"),
    *SHARED_NAMES,
)
