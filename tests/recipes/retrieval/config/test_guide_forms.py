"""Files in the guides' own forms as they stand: what they become, what is taken for granted, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.config.document import ConfigError
from quincunx.config.explain import explain_text
from quincunx.config.load import canonical, to_yaml
from quincunx.config.read import read_text
from quincunx.config.recognise import infer_recipe
from quincunx.config.schema import Target, lookup
from quincunx.config.target import build, check_target
from quincunx.recipes.retrieval.config import SCHEMA
from quincunx.recipes.retrieval.names import SECTIONS_000
from retrieval_guides import ARGS_001, GUIDE_000, GUIDE_001, SCHEMAS, changed, loaded, tree_of


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def writer(text: str, name: str = "theirs.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return writer


def test_every_spelling_of_guide_000_is_one_config():
    text, capitals = GUIDE_000, GUIDE_000
    for section, (_, other) in SECTIONS_000.items():
        capitals = capitals.replace(f"{section}:\n", f"{other}:\n")
    assert "CrossBatchMemory:" in capitals and "Q_model:" in capitals
    assert canonical(loaded(tree_of(capitals)).config) == canonical(loaded(tree_of(text)).config)


GOLDEN_000 = """\
recipe: retrieval

run:
  dir: runs/sections

data:
  path: data/sections_tokenized
  dev:
    split: test
  anchor: document
  positives: 4

encoder:
  path: models/distilroberta

document:
  path: models/distilroberta-d
  special_tokens: ["Heading:", "Item:"]

objective:
  similarity: cosine
  temperature: 0.07
  directions: [document_to_query]

memory:
  use: true
  kind: queries
  size: 480
  warmup: 300

update:
  batch_size: 12
  accumulation: 6
  no_decay: false

budget:
  epochs: 3

optimizer:
  weight_decay: 0.01

evaluate:
  every: 0.25
  batch_size: 40
  mode: pooled
  pool: 20
  device: cpu

log:
  every: 7
  wandb:
    use: true
    credentials: keys/wandb.txt
    project: sections
"""


def test_guide_000_as_it_stands(write: Any):
    found = loaded(write(GUIDE_000), strict=True)
    assert to_yaml(found.config) == GOLDEN_000
    assert found.notes[0] == "recipe retrieval, told from the keys of the file"
    [said] = found.notes[1:]
    assert said.startswith("in the form of guide 000, and as it trains: data.anchor document, ")
    assert "objective.temperature 0.07" in said and "data.dev.split test" in said
    again = loaded(write(to_yaml(found.config), "ours.yaml"), strict=True)
    assert canonical(again.config) == canonical(found.config)
    assert again.notes == []


GOLDEN_001 = """\
recipe: retrieval

run:
  dir: "/scratch/checkpoints/Dense_7"
  note: "a longer run"

data:
  train:
    format: tsv
    corpus: "/data/train/collection.tsv"
    queries: "/data/train/queries.tsv"
    qrels: "/data/train/qrels.tsv"
  dev:
    format: tsv
    corpus: "/data/val/collection.tsv"
    queries: "/data/val/queries.tsv"
    qrels: "/data/val/qrels.tsv"
  tokenization: lazy

encoder:
  path: models/condenser
  tokenizer:
    path: models/condenser-tokenizer
  pooling: cls
  embedding_dim: 768

query:
  max_length: 48

document:
  max_length: 256

objective:
  similarity: cosine
  temperature: 1.0

update:
  batch_size: 24
  accumulation: 4
  clip_norm: 1.0

loading:
  workers: 2

budget:
  epochs: 40

optimizer:
  _target_: transformers.AdamW
  lr: 3.0e-05
  weight_decay: 0.1

schedule:
  _target_: transformers.get_linear_schedule_with_warmup
  num_warmup_steps: 0
  num_training_steps: 400000

evaluate:
  every: 4000
  at_start: true
  batch_size: 48
  mode: validator
  measures: [ndcg_cut_10, recip_rank]

checkpoint:
  every: 8000

log:
  console: false
  wandb:
    use: true
    tags: [dense, code]
"""


def test_guide_001_as_dataclasses(write: Any):
    found = loaded(write(ARGS_001, "args.py"), strict=True)
    assert to_yaml(found.config) == GOLDEN_001
    [recipe, said, kept, hydra] = found.notes
    assert recipe == "recipe retrieval, told from the keys of the file"
    assert "guide 001" in said and "encoder.pooling cls" in said and "memory.use false" in said
    assert kept.startswith("data.cache is left out")
    assert hydra.startswith("hydra:")
    again = loaded(write(to_yaml(found.config), "ours.yaml"), strict=True)
    assert canonical(again.config) == canonical(found.config)


def test_guide_001_as_groups(write: Any):
    found = loaded(write(GUIDE_001), strict=True)
    config = found.config
    assert isinstance(config.optimizer, Target)
    assert (config.optimizer.target, config.optimizer.model_extra) == ("torch.optim.SGD", {"lr": 0.01, "momentum": 0.9})
    assert config.schedule.kind == "fixed"
    assert (config.checkpoint.every, config.evaluate.every) == (None, 500)
    assert (config.update.clip_norm, config.update.accumulation) == (None, 1)
    assert (config.run.dir, config.run.name, config.run.version) == ("checkpoints/Dense_2", None, None)
    assert (config.init_from, config.init_partial) == ("runs/before", False)
    assert (config.encoder.pooling, config.memory.use, config.evaluate.mode) == ("cls", False, "validator")


def test_overrides_of_guide_001_by_its_own_paths(write: Any):
    args = write(ARGS_001, "args.py")
    found = loaded(args, "optimizer.lr=0.5", "train_args.max_epochs=2", "model_args.embedding_dim=384")
    assert found.config.optimizer.model_extra == {"lr": 0.5, "weight_decay": 0.1}
    assert (found.config.budget.epochs, found.config.encoder.embedding_dim) == (2, 384)
    assert found.config.encoder.pooling == "cls"
    assert loaded(args, "train_args.lr_scheduler=null").config.schedule.kind == "fixed"
    sgd = "{_target_: torch.optim.SGD, lr: 0.25}"
    assert loaded(args, f"train_args.optimizer={sgd}").config.optimizer.model_extra == {"lr": 0.25}


def test_an_argument_of_the_optimizer_by_the_guides_own_path(write: Any):
    config = loaded(write(ARGS_001, "args.py"), "train_args.optimizer.lr=0.5").config
    assert config.optimizer.model_extra == {"lr": 0.5, "weight_decay": 0.1}
    config = loaded(write(GUIDE_001), "train_args.optimizer.momentum=0.5").config
    assert (config.optimizer.target, config.optimizer.model_extra) == ("torch.optim.SGD", {"lr": 0.01, "momentum": 0.5})


def test_the_optimizer_that_is_gone_is_mapped(write: Any):
    import torch

    config = loaded(write(ARGS_001, "args.py")).config
    assert check_target(config.optimizer, "optimizer") == []
    built = build(config.optimizer, "optimizer", torch.nn.Linear(2, 2).parameters())
    assert isinstance(built, torch.optim.AdamW)
    assert (built.defaults["lr"], built.defaults["weight_decay"], built.defaults["eps"]) == (3e-5, 0.1, 1e-6)


def test_an_optimizer_without_a_target_is_the_guides():
    tree = tree_of(GUIDE_001)
    tree["train_args"]["optimizer"] = {"lr": 0.25}
    config = loaded(tree).config
    assert (config.optimizer.target, config.optimizer.model_extra) == ("transformers.AdamW", {"lr": 0.25})


def test_classes_without_one_round_them_are_blocks(write: Any):
    text = ARGS_001.partition("@dataclass\nclass TrainingConfig")[0]
    whole, parts = loaded(write(ARGS_001, "args.py")), loaded(write(text, "parts.py"))
    assert canonical(parts.config) == canonical(whole.config)


def test_poly_codes_of_guide_000():
    tree = tree_of(GUIDE_000)
    tree["training"]["mode"] = "poly-encoder"
    tree["q_model"]["model_args"] = {"num_poly_codes": 100}
    found = loaded(tree)
    assert (found.config.mode, found.config.poly.codes) == ("poly-encoder", 100)
    assert found.config.objective.similarity is None and found.config.objective.temperature is None
    # its memory keeps documents, for which queries look
    assert (found.config.memory.kind, found.config.objective.directions) == ("passages", ["query_to_document"])
    assert any("scores are dot products" in note for note in found.notes)
    tree["cross_batch_memory"]["use"] = False
    assert loaded(tree).config.objective.directions == ["document_to_query"]


@pytest.mark.parametrize("mode", ["bi-encoder", "Bi-Encoder", "BI_ENCODER", "bi encoder", "Bi-Enoder"])
def test_the_guides_mode_in_any_case(mode: str):
    assert loaded(changed(tree_of(GUIDE_000), "training.mode", mode)).config.mode == "bi-encoder"


@pytest.mark.parametrize("mode", ["cross-encoder", "Cross_Encoder", "poly_encoder", "bi_encoder"])
def test_our_mode_in_any_case(mode: str):
    config = loaded({"recipe": "retrieval", "mode": mode, "data": {"path": "d"}}).config
    assert config.mode == mode.lower().replace("_", "-")


@pytest.mark.parametrize("nothing", ["", None])
def test_without_a_document_model_the_encoder_is_shared(nothing: Any):
    config = loaded(changed(tree_of(GUIDE_000), "d_model.path", nothing)).config
    assert config.document.path is None and config.encoder.share is None


@pytest.mark.parametrize(
    ("key", "value", "present", "wanted"),
    [
        ("training.accumulation_steps", 0, "update.accumulation", 1),
        ("training.accumulation_steps", -2, "update.accumulation", 1),
        ("wandb.credential_path", "default", "log.wandb.credentials", None),
        ("evaluation.eval_freq", "EPOCH", "evaluate.every", "epoch"),
        ("evaluation.eval_freq", 1, "evaluate.every", 1),
        ("evaluation.eval_freq", 1.0, "evaluate.every", 1.0),
        ("evaluation.eval_freq", 0.001, "evaluate.every", 0.001),
        ("q_model.special_tokens", None, "encoder.special_tokens", []),
    ],
)
def test_values_that_mean_something_else(key: str, value: Any, present: str, wanted: Any):
    found = lookup(loaded(changed(tree_of(GUIDE_000), key, value)).config, present)
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("evaluation.eval_freq", 0, "at least 1"),
        ("evaluation.eval_freq", 1.5, "(0, 1]"),
        ("evaluation.eval_freq", True, "expected"),
        ("evaluation.eval_freq", "often", "expected"),
        ("evaluation.faiss_device", "gpu", "expected one of auto, cpu, mps, cuda"),
        ("training.mode", "tri-encoder", "one of bi-encoder, poly-encoder, cross-encoder"),
        ("cross_batch_memory.buffer_size", 40, "less than what one logical batch brings"),
        ("training.num_pos", 0, "expected"),
    ],
)
def test_values_that_mean_nothing_are_refused(key: str, value: Any, said: str, write: Any):
    import json

    with pytest.raises(ConfigError) as caught:
        loaded(write(json.dumps(changed(tree_of(GUIDE_000), key, value), indent=1), "theirs.json"))
    text = str(caught.value)
    assert said in text and "theirs.json:" in text


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("data_args.lazy_tokenize", "yes", "expected true or false"),
        ("train_args.optimizer", "torch.optim.SGD", "`train_args.optimizer` (`optimizer`) is a section"),
        ("train_args.lr_scheduler", {"num_warmup_steps": 3}, "unknown key `num_warmup_steps`"),
        ("train_args.gradient_clipping", 0, "> 0"),
        ("train_args.save_checkpoints", 3, "true or false"),
        ("train_args.version", [1], "run.version"),
    ],
)
def test_wrong_values_of_guide_001(key: str, value: Any, said: str):
    with pytest.raises(ConfigError) as caught:
        loaded(changed(tree_of(GUIDE_001), key, value))
    assert said in str(caught.value)


def test_unknown_keys_of_a_guide_are_refused_with_a_suggestion():
    tree = tree_of(GUIDE_000)
    tree["training"]["num_poss"] = 3
    with pytest.raises(ConfigError, match="unknown key `num_poss` under `training`") as caught:
        loaded(tree)
    assert "did you mean `num_pos`?" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        (GUIDE_000, "retrieval"),
        (GUIDE_001, "retrieval"),
        ("Q_model: {path: x}\nCrossBatchMemory: {use: true}", "retrieval"),
        ("training: {batch_size: 3}\nmodel: {num_head: 3}", "long_range"),
        ("memory: {use: true}", "retrieval"),
    ],
)
def test_the_recipe_is_told_from_the_keys(text: str, recipe: str):
    assert infer_recipe([read_text(text, "f.yaml", "yaml")], SCHEMAS) == recipe


def test_a_run_of_ours_may_have_a_root_and_a_version_too():
    base = {"recipe": "retrieval", "data": {"path": "d"}}
    config = loaded(base, "run.root=out", "run.version=3a").config
    assert config.run.dir == "out/retrieval_3a"
    assert loaded(base, "run.name=n", "run.version=2b").config.run.dir == "runs/n_2b"
    assert loaded(base, "run.name=n").config.run.dir is None
    with pytest.raises(ConfigError, match=r"run\.dir says where the run lives"):
        loaded(base, "run.root=out", "run.dir=there")


def test_checkpoints_during_training_may_be_left_out():
    base = {"recipe": "retrieval", "data": {"path": "d"}}
    assert loaded(base, "checkpoint.during_training=false", "checkpoint.every=5").config.checkpoint.every is None
    assert loaded(base, "checkpoint.during_training=true", "checkpoint.every=5").config.checkpoint.every == 5


def test_what_a_file_says_holds_against_the_form():
    tree = tree_of(GUIDE_001)
    tree["encoder"] = {"pooling": "mean"}
    tree["objective"] = {"temperature": 0.05}
    found = loaded(tree, "evaluate.mode=full")
    assert (found.config.encoder.pooling, found.config.objective.temperature) == ("mean", 0.05)
    assert found.config.evaluate.mode == "full"
    assert "encoder.pooling" not in found.notes[1]


def test_explain_knows_the_guides_names():
    assert "encoder.path" in explain_text(SCHEMA, "Q_model.path")
    assert "memory.size" in explain_text(SCHEMA, "CrossBatchMemory")
    assert "guide 001" in explain_text(SCHEMA, "update.clip_norm")


ODD = st.sampled_from(
    [None, True, 0, -1, 7, 0.5, 1e300, "", "x", "default", [], [1], ["a"], {}, {"a": 1}, {"_target_": 3}]
)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_odd_values_are_refused_or_read_and_never_break(data: st.DataObject):
    tree = tree_of(data.draw(st.sampled_from([GUIDE_000, GUIDE_001])))
    for _ in range(data.draw(st.integers(1, 4))):
        section = data.draw(st.sampled_from(sorted(tree)))
        inside = isinstance(tree[section], dict) and tree[section] and data.draw(st.booleans())
        if inside:
            tree[section][data.draw(st.sampled_from(sorted(tree[section])))] = data.draw(ODD)
        else:
            tree[section] = data.draw(ODD)
    sections = ["data", "run", "optimizer", "schedule", "checkpoint", "memory", "mode", "objective"]
    tree[data.draw(st.sampled_from(sections))] = data.draw(ODD)
    try:
        config = loaded(tree).config
    except ConfigError as error:
        assert all(problem.message for problem in error.problems)
    else:
        assert loaded(canonical(config)).config == config
