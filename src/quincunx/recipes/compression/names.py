"""Guide 003's keys, and those of the repositories that it came from and led to, with the settings that serve them."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Name
from quincunx.config.sections.names import SHARED_NAMES
from quincunx.config.wording import show
from quincunx.recipes.compression.config_positions import position_kind


def processes(several: Any) -> str | int:
    """Return the number of processes for the guide's `multi_gpu`."""
    return "auto" if _boolean(several) else 1


def source(named: Any) -> Any:
    """Return the source for the guide's `dataset`, whose names are written in any case."""
    return named.lower() if isinstance(named, str) else named


def projection(projected: Any) -> str:
    """Return the projection for `proj_cmpr`."""
    return "linear" if _boolean(projected) else "none"


def readout_layer(layer: Any) -> Any:
    """Return the layer for `cmp_layer`, whose null means the last one."""
    return -1 if layer is None else layer


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {show(value)}")  # noqa: TRY004 - the contract of Name
    return value


KEYS: tuple[tuple[str, str, Any], ...] = (
    ("exp_name", "run.name", None),
    ("save_root", "run.root", None),
    ("data_root", "data.cache", None),
    ("multi_gpu", "compute.processes", processes),
    ("model_parallel", "model.device_map", None),
    ("torch_dtype", "model.dtype", None),
    ("dataset", "data.source", source),
    ("n_data_procs", "data.processes", None),
    ("max_val_loops", "evaluate.max_batches", None),
    ("n_train_loops", "budget.batches_per_epoch", None),
    ("checkpt_mod", "checkpoint.every_batches", None),
    ("n_epochs", "budget.epochs", None),
    ("batch_size", "update.batch_size", None),
    ("lr", "optimizer.learning_rate", None),
    ("l2", "optimizer.weight_decay", None),
    ("seq_len", "data.forward_length", None),
    ("cmp_len", "data.context_length", None),
    ("rmb_only", "objective.reconstruct_only", None),
    ("blotch_p", "blotch.p", None),
    ("posenc_type", "positions.kind", position_kind),
    ("max_posencs", "positions.size", None),
    ("posenc_drop_p", "positions.dropout", None),
    ("learnable_posencs", "positions.learnable", None),
    ("incl_intl_prob", "objective.initial_problem", None),
    ("n_grad_loops", "update.accumulation", None),
)
"""Guide 003: its key, the setting that serves it, and what becomes of the value. `seed` is `seed`."""

SISTERS: tuple[tuple[str, str, Any], ...] = (
    ("learn_posencs", "positions.learnable", None),
    ("n_cmps", "compress.slots", None),
    ("cmp_layer", "compress.layer", readout_layer),
    ("proj_cmpr", "compress.projection", projection),
    ("proj_hid_mult", "compress.projection_factor", None),
    ("sep_cmpr", "compress.separator", None),
    ("seq_overlap", "data.overlap", None),
    ("model_string", "model.path", None),
    ("d_model", "model.build.width", None),
    ("n_heads", "model.build.num_heads", None),
    ("n_layers", "model.build.num_layers", None),
    ("drop_p", "model.dropout", None),
    ("grad_clip", "update.clip_norm", None),
    ("patience", "evaluate.patience", None),
    ("val_batch_size", "evaluate.batch_size", None),
    ("label_smoothing", "objective.label_smoothing", None),
    ("tok_drop_p", "blotch.token_p", None),
    ("blotch_p_min", "blotch.p_min", None),
    ("blotch_p_max", "blotch.p_max", None),
    ("n_btokens", "blotch.levels", None),
    ("contig_blotches", "blotch.contiguous", None),
    ("blotch_spacing", "blotch.spacing", None),
)
"""Keys that the guide's users have from its sister repositories, likewise."""

NAMES: tuple[Name, ...] = (
    *(Name(old, new, guide="003", transform=transform) for old, new, transform in KEYS),
    *(Name(old, new, transform=transform) for old, new, transform in SISTERS),
    *SHARED_NAMES,
)

GUIDE_ROOTS = frozenset(old for old, _, _ in KEYS)
