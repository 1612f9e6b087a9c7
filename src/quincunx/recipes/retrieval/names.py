"""The keys of guides 000 and 001 and where each is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from quincunx.config.schema import Name
from quincunx.config.sections.names import SHARED_NAMES
from quincunx.config.wording import show

SECTIONS_000: Mapping[str, tuple[str, ...]] = {
    "paths": ("paths", "Paths"),
    "q_model": ("q_model", "Q_model"),
    "d_model": ("d_model", "D_model"),
    "training": ("training", "Training"),
    "evaluation": ("evaluation", "Evaluation"),
    "logging": ("logging", "Logging"),
    "cross_batch_memory": ("cross_batch_memory", "CrossBatchMemory"),
    "wandb": ("wandb", "Wandb"),
}
"""Guide 000's sections, each as its files and as its text spell it."""

SECTIONS_001: Mapping[str, tuple[str, ...]] = {
    "data_args": ("data_args", "DataArguments"),
    "model_args": ("model_args", "ModelArguments"),
    "train_args": ("train_args", "TrainingArguments"),
}
"""Guide 001's groups, and the classes that a file without a class round them has as blocks."""

Transform = Callable[[Any], Any]


def mode(value: Any) -> Any:
    """Return a mode in our spelling; the guide's own list of them has a letter missing."""
    word = spelled(value)
    return "bi-encoder" if word == "bi-enoder" else word


def spelled(value: Any) -> Any:
    """Return a word as ours are spelled: small letters, dashes. Other values are returned as they are."""
    return value.strip().lower().replace("_", "-").replace(" ", "-") if isinstance(value, str) else value


def or_nothing(value: Any) -> Any:
    """Return null for the empty text, by which the guide leaves something out."""
    return None if value == "" else value


def or_empty(value: Any) -> Any:
    """Return an empty list for null."""
    return [] if value is None else value


def or_no_text(value: Any) -> Any:
    """Return the empty text for null."""
    return "" if value is None else value


def at_least_one(value: Any) -> Any:
    """Return a number of logical batches; like the guide, take what is below 1 for 1."""
    return max(1, value) if type(value) is int else value


def when_tokenized(lazy: Any) -> str:
    """Return the word for the guide's `lazy_tokenize`."""
    return "lazy" if _boolean(lazy) else "eager"


def credentials(path: Any) -> Any:
    """Return the file of the key; the guide's word `default` means one beside its code, here the usual places."""
    return None if path in ("", "default") else path


def as_text(value: Any) -> Any:
    """Return a version, which files also write as a number, as text."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {show(value)}")  # noqa: TRY004 - the contract of Name
    return value


KEYS_000: tuple[tuple[str, str, Transform | None], ...] = (
    ("paths.dataset_path", "data.path", None),
    ("paths.save_path", "run.dir", or_nothing),
    ("q_model.path", "encoder.path", or_nothing),
    ("q_model.special_tokens", "encoder.special_tokens", or_empty),
    ("q_model.model_args.num_poly_codes", "poly.codes", None),
    ("d_model.path", "document.path", or_nothing),
    ("d_model.special_tokens", "document.special_tokens", or_empty),
    ("training.batch_size", "update.batch_size", None),
    ("training.num_pos", "data.positives", None),
    ("training.epochs", "budget.epochs", None),
    ("training.lr", "optimizer.learning_rate", None),
    ("training.mode", "mode", mode),
    ("training.use_torch_compile", "compute.compile", None),
    ("training.accumulation_steps", "update.accumulation", at_least_one),
    ("evaluation.eval_freq", "evaluate.every", None),
    ("evaluation.eval_accumulation", "evaluate.pool", None),
    ("evaluation.batch_size", "evaluate.batch_size", None),
    ("evaluation.faiss_device", "evaluate.device", None),
    ("logging.print_freq", "log.every", None),
    ("cross_batch_memory.use", "memory.use", None),
    ("cross_batch_memory.buffer_size", "memory.size", None),
    ("cross_batch_memory.warmup", "memory.warmup", None),
    ("wandb.use", "log.wandb.use", None),
    ("wandb.credential_path", "log.wandb.credentials", credentials),
    ("wandb.project_name", "log.wandb.project", or_nothing),
)
"""Guide 000: its key, the setting that serves it, and what becomes of the value."""

EARLIER_000: tuple[tuple[str, str, Transform | None], ...] = (("training.eval_freq", "evaluate.every", None),)
"""Where earlier files in the guide's form have a key."""

KEYS_001: tuple[tuple[str, str, Transform | None], ...] = (
    ("data_args.batch_size", "update.batch_size", None),
    ("data_args.val_batch_size", "evaluate.batch_size", None),
    ("data_args.num_workers", "loading.workers", None),
    ("data_args.cache_dir", "data.cache", or_nothing),
    ("data_args.collection_path", "data.train.corpus", None),
    ("data_args.query_path", "data.train.queries", None),
    ("data_args.qrels_path", "data.train.qrels", None),
    ("data_args.val_collection_path", "data.dev.corpus", or_nothing),
    ("data_args.val_query_path", "data.dev.queries", or_nothing),
    ("data_args.val_qrels_path", "data.dev.qrels", or_nothing),
    ("data_args.lazy_tokenize", "data.tokenization", when_tokenized),
    ("data_args.query_max_length", "query.max_length", None),
    ("data_args.passage_max_length", "document.max_length", None),
    ("model_args.tokenizer_name_or_path", "encoder.tokenizer.path", or_nothing),
    ("model_args.model_name_or_path", "encoder.path", or_nothing),
    ("model_args.embedding_dim", "encoder.embedding_dim", None),
    ("model_args.load_checkpoint_path", "init_from", or_nothing),
    ("train_args.name_prefix", "run.name", or_nothing),
    ("train_args.version", "run.version", as_text),
    ("train_args.save_dir", "run.root", or_nothing),
    ("train_args.notes", "run.note", or_no_text),
    ("train_args.tags", "log.wandb.tags", or_empty),
    ("train_args.steps_between_save", "checkpoint.every", None),
    ("train_args.steps_between_val", "evaluate.every", None),
    ("train_args.save_checkpoints", "checkpoint.during_training", None),
    ("train_args.log", "log.wandb.use", None),
    ("train_args.verbose", "log.console", None),
    ("train_args.optimizer", "optimizer", None),
    ("train_args.lr_scheduler", "schedule", None),
    ("train_args.max_epochs", "budget.epochs", None),
    ("train_args.gradient_accumulation_steps", "update.accumulation", at_least_one),
    ("train_args.gradient_clipping", "update.clip_norm", None),
    ("train_args.run_val_check", "evaluate.at_start", None),
)
"""Guide 001, likewise."""


def _names(
    guide: str | None, sections: Mapping[str, tuple[str, ...]], keys: tuple[tuple[str, str, Transform | None], ...]
) -> Iterator[Name]:
    """Yield a name for every key in every spelling of its section."""
    for old, new, transform in keys:
        section, _, key = old.partition(".")
        for spelling in sections[section]:
            yield Name(f"{spelling}.{key}", new, guide=guide, transform=transform)


NAMES: tuple[Name, ...] = (
    *_names("000", SECTIONS_000, KEYS_000),
    *_names(None, SECTIONS_000, EARLIER_000),
    *_names("001", SECTIONS_001, KEYS_001),
    *SHARED_NAMES,
)

GUIDE_ROOTS = frozenset(name for table in (SECTIONS_000, SECTIONS_001) for each in table.values() for name in each)
