"""Every key of guides 000 and 001 lands where it is served, with its value, in a file and on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from quincunx.config.read import read_text
from quincunx.config.schema import lookup
from quincunx.recipes.retrieval.names import KEYS_000 as GUIDE_KEYS_000
from quincunx.recipes.retrieval.names import KEYS_001 as GUIDE_KEYS_001
from quincunx.recipes.retrieval.names import NAMES, SECTIONS_000, SECTIONS_001
from recipes.retrieval.settings_rows import ROWS, SHARED
from retrieval_guides import ARGS_001, GUIDE_000, GUIDE_001, changed, loaded, tree_of

KEYS_000: dict[str, tuple[Any, str, Any]] = {
    "paths.dataset_path": ("elsewhere", "data.path", "elsewhere"),
    "paths.save_path": ("out/x", "run.dir", "out/x"),
    "q_model.path": ("bert", "encoder.path", "bert"),
    "q_model.special_tokens": (["[Q]"], "encoder.special_tokens", ["[Q]"]),
    "d_model.path": ("bert-d", "document.path", "bert-d"),
    "d_model.special_tokens": (["[D]"], "document.special_tokens", ["[D]"]),
    "training.batch_size": (9, "update.batch_size", 9),
    "training.num_pos": (2, "data.positives", 2),
    "training.epochs": (8, "budget.epochs", 8),
    "training.lr": (3e-4, "optimizer.learning_rate", 3e-4),
    "training.mode": ("Poly-Encoder", "mode", "poly-encoder"),
    "training.use_torch_compile": (True, "compute.compile", True),
    "training.accumulation_steps": (3, "update.accumulation", 3),
    "evaluation.eval_freq": ("epoch", "evaluate.every", "epoch"),
    "evaluation.eval_accumulation": (11, "evaluate.pool", 11),
    "evaluation.batch_size": (13, "evaluate.batch_size", 13),
    "evaluation.faiss_device": ("cuda:1", "evaluate.device", "cuda:1"),
    "logging.print_freq": (17, "log.every", 17),
    "cross_batch_memory.use": (False, "memory.use", False),
    "cross_batch_memory.buffer_size": (4800, "memory.size", 4800),
    "cross_batch_memory.warmup": (19, "memory.warmup", 19),
    "wandb.use": (False, "log.wandb.use", False),
    "wandb.credential_path": ("key.txt", "log.wandb.credentials", "key.txt"),
    "wandb.project_name": ("other", "log.wandb.project", "other"),
}
"""Key of guide 000 -> a value, the setting that serves it, and what that is then."""

KEYS_001: dict[str, tuple[Any, str, Any]] = {
    "data_args.batch_size": (9, "update.batch_size", 9),
    "data_args.val_batch_size": (10, "evaluate.batch_size", 10),
    "data_args.num_workers": (3, "loading.workers", 3),
    "data_args.cache_dir": ("c", "data.cache", "c"),
    "data_args.collection_path": ("x.tsv", "data.train.corpus", "x.tsv"),
    "data_args.query_path": ("x.tsv", "data.train.queries", "x.tsv"),
    "data_args.qrels_path": ("x.tsv", "data.train.qrels", "x.tsv"),
    "data_args.val_collection_path": ("x.tsv", "data.dev.corpus", "x.tsv"),
    "data_args.val_query_path": ("x.tsv", "data.dev.queries", "x.tsv"),
    "data_args.val_qrels_path": ("x.tsv", "data.dev.qrels", "x.tsv"),
    "data_args.lazy_tokenize": (True, "data.tokenization", "lazy"),
    "data_args.query_max_length": (77, "query.max_length", 77),
    "data_args.passage_max_length": (99, "document.max_length", 99),
    "model_args.tokenizer_name_or_path": ("t", "encoder.tokenizer.path", "t"),
    "model_args.model_name_or_path": ("m", "encoder.path", "m"),
    "model_args.embedding_dim": (384, "encoder.embedding_dim", 384),
    "model_args.load_checkpoint_path": ("runs/other", "init_from", "runs/other"),
    "train_args.name_prefix": ("Other", "run.dir", "checkpoints/Other_2"),
    "train_args.version": ("v9", "run.dir", "checkpoints/Dense_v9"),
    "train_args.save_dir": ("/else", "run.dir", "/else/Dense_2"),
    "train_args.notes": ("said", "run.note", "said"),
    "train_args.tags": (["a"], "log.wandb.tags", ["a"]),
    "train_args.steps_between_save": (21, "checkpoint.every", 21),
    "train_args.steps_between_val": (22, "evaluate.every", 22),
    "train_args.save_checkpoints": (False, "checkpoint.every", None),
    "train_args.log": (True, "log.wandb.use", True),
    "train_args.verbose": (False, "log.console", False),
    "train_args.optimizer": ({"_target_": "torch.optim.Adam", "lr": 0.1}, "optimizer.lr", 0.1),
    "train_args.lr_scheduler": ({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3}, "schedule.step_size",
                                3),
    "train_args.max_epochs": (5, "budget.epochs", 5),
    "train_args.gradient_accumulation_steps": (6, "update.accumulation", 6),
    "train_args.gradient_clipping": (0.5, "update.clip_norm", 0.5),
    "train_args.run_val_check": (True, "evaluate.at_start", True),
}  # fmt: skip
"""Guide 001, likewise."""


def leaves(text: str, form: Any = "yaml") -> set[str]:
    """Return the keys of a file in a guide's form; an optimizer or scheduler is one key."""
    paths = [path for path, _ in read_text(text, "guide", form).leaves()]
    whole = ("optimizer", "lr_scheduler")
    return {".".join(map(str, path[:2] if path[1] in whole else path)) for path in paths if path[0] != "hydra"}


def test_no_key_of_the_guides_is_forgotten():
    assert set(KEYS_000) == leaves(GUIDE_000)
    assert set(KEYS_001) == leaves(GUIDE_001) == leaves(ARGS_001, "python")
    for guide, sections, keys in (("000", SECTIONS_000, KEYS_000), ("001", SECTIONS_001, KEYS_001)):
        spellings = {name: section for section, names in sections.items() for name in names}
        named = [name.old.partition(".") for name in NAMES if name.guide == guide]
        assert {f"{spellings[section]}.{key}" for section, _, key in named} == {
            *keys,
            *(["q_model.model_args.num_poly_codes"] if guide == "000" else []),
        }


@pytest.mark.parametrize("key", [*KEYS_000, *KEYS_001])
def test_the_setting_that_serves_a_key_is_shown_to_act(key: str):
    """Whatever changes the setting: where it leads, a run is seen to be another."""
    shown = {row.path for row in ROWS} | {path for paths in SHARED.values() for path in paths}
    [present] = {new for old, new, _ in (*GUIDE_KEYS_000, *GUIDE_KEYS_001) if old == key}
    # an optimizer and a schedule are nodes, of which the word that chooses them stands for the rest
    assert present in shown or f"{present}._target_" in shown


@pytest.mark.parametrize("key", KEYS_000)
def test_a_key_of_guide_000(key: str):
    value, present, wanted = KEYS_000[key]
    before, after = loaded(tree_of(GUIDE_000)), loaded(changed(tree_of(GUIDE_000), key, value))
    assert lookup(after.config, present) == wanted
    assert lookup(before.config, present) != wanted


@pytest.mark.parametrize("key", KEYS_001)
def test_a_key_of_guide_001(key: str):
    value, present, wanted = KEYS_001[key]
    text = GUIDE_001.replace("save_checkpoints: false", "save_checkpoints: true")
    before, after = loaded(tree_of(text)), loaded(changed(tree_of(text), key, value))
    assert lookup(after.config, present) == wanted
    assert lookup(before.config, present) != wanted
    assert not lookup(after.config, "run.root") and not lookup(after.config, "run.version")


@pytest.mark.parametrize("key", KEYS_000)
def test_a_key_of_guide_000_on_the_command_line(key: str):
    """There, on top of a config of ours, too."""
    value, present, wanted = KEYS_000[key]
    text = str(value).lower() if isinstance(value, bool) else f"[{value[0]!r}]" if isinstance(value, list) else value
    found = loaded({"recipe": "retrieval", "data": {"path": "d"}, "encoder": {"path": "e"}}, f"{key}={text}")
    assert lookup(found.config, present) == wanted
    assert lookup(found.config, "data.anchor") == "query", "one older name does not make a guide's file"
