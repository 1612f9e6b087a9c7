"""Guide 003: its file trains as it stands, and every key of it does what the guide says, seen in training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx import load, train
from quincunx.config.document import ConfigError
from quincunx.recipes.compression.names import KEYS
from quincunx.recipes.compression.recipe import RECIPE
from quincunx.recipes.compression.shapes import training_shaping
from quincunx.recipes.compression.sources import read
from recipes.compression.runs_made import metrics, write_texts
from runner import quincunx

GUIDE: dict[str, Any] = {
    "exp_name": "tries",
    "_comment": "keys that begin so are for people",
    "_lr": [0.1, 0.01],
    "multi_gpu": False,
    "model_parallel": False,
    "torch_dtype": "float32",
    "seed": 5,
    "n_data_procs": 2,
    "max_val_loops": 2,
    "n_train_loops": 3,
    "checkpt_mod": None,
    "n_epochs": 2,
    "batch_size": 4,
    "lr": 0.01,
    "l2": 0.0,
    "seq_len": 8,
    "cmp_len": 12,
    "blotch_p": 0.0,
    "posenc_type": "SinPositionalEncoding",
    "max_posencs": 64,
    "posenc_drop_p": 0.0,
    "learnable_posencs": False,
    "incl_intl_prob": False,
    "n_grad_loops": 1,
}
"""The guide's keys in small; `save_root`, `data_root` and `dataset` come with the folder."""

OURS = {
    "data.document": "line",
    "data.dev_share": 0.3,
    "tokenizer.kind": "byte",
    "model.build.num_layers": 1,
    "model.build.width": 16,
    "model.build.num_heads": 2,
    "log.every": 1,
    "compute.threads": 1,
    "compute.device": "cpu",
}


@dataclass
class Seen:
    """What is seen of one run."""

    run: Path
    values: dict[str, list[float]]
    plan: dict[str, Any]
    config: Any


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Seen]]:
    home = tmp_path_factory.mktemp("guide")
    write_texts(home)
    made: dict[str, Seen] = {}

    def looked(**changes: Any) -> Seen:
        key = json.dumps(changes, sort_keys=True)
        if key not in made:
            tree = {"save_root": str(home / f"saved{len(made)}"), "data_root": str(home / "data"), **GUIDE, **changes}
            file = home / "hyperparameters.json"
            file.write_text(json.dumps(tree))
            overrides = [f"{name}={json.dumps(value)}" for name, value in OURS.items()]
            texts = ["data.source=text", f"data.path={home / 'texts.txt'}"] if "dataset" not in changes else []
            run = train(str(file), *overrides, *texts)
            made[key] = Seen(run.path, metrics(run.path), json.loads((run.path / "plan.json").read_text()), run.config)
        return made[key]

    yield looked


def first(seen: Seen) -> float:
    return seen.values["train/loss"][0]


def test_the_table_is_the_guide(look: Callable[..., Seen]) -> None:
    known = {"save_root", "data_root", "dataset", "rmb_only", *GUIDE} - {"_comment", "_lr", "seed"}
    assert {old for old, _, _ in KEYS} == known


def test_folders_are_where_the_guide_says(look: Callable[..., Seen]) -> None:
    seen = look()
    assert seen.run.parent.name == "tries"
    assert seen.run.parent.parent.name.startswith("saved")
    assert seen.run.name == "tries-1"
    assert (seen.run.parents[2] / "data" / "compression").is_dir(), "processed data lie under data_root"


def test_an_iteration_is_a_micro_batch_and_validation_follows_each_epoch(look: Callable[..., Seen]) -> None:
    plain, accumulated = look(), look(n_grad_loops=2)
    assert plain.plan["total_updates"] == 6 and accumulated.plan["total_updates"] == 3
    assert len(plain.values["dev/loss"]) == 2
    assert len(accumulated.values["dev/loss"]) == 2
    assert accumulated.plan["updates_per_epoch"] == 1.5
    assert look(n_epochs=3).plan["total_updates"] == 9
    assert look(n_train_loops=2).plan["total_updates"] == 4


def test_the_loader_goes_on_where_the_last_epoch_stopped(look: Callable[..., Seen]) -> None:
    six, three = look(n_train_loops=6, n_epochs=1), look()
    assert six.values["train/loss"] == three.values["train/loss"], "the same examples, in the same order"


def test_saving_counts_iterations(look: Callable[..., Seen]) -> None:
    saved = [path.name for path in sorted((look(checkpt_mod=4, n_grad_loops=2).run / "checkpoints").glob("update-*"))]
    assert any(name.endswith("2") for name in saved), saved
    assert look(checkpt_mod=4, n_grad_loops=2).plan["checkpoint_every"] == "2"


def test_a_limit_of_validation_is_a_fixed_subset(look: Callable[..., Seen]) -> None:
    few, many = look(), look(max_val_loops=None)
    assert few.plan["evaluation_limit"] == 8
    assert few.values["dev/loss"] != many.values["dev/loss"]
    assert few.values["train/loss"] == many.values["train/loss"]
    assert look(n_epochs=1).values["dev/loss"][0] == few.values["dev/loss"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 6},
        {"batch_size": 5},
        {"seq_len": 6},
        {"cmp_len": 10},
        {"posenc_type": "RandPositionalEncoding"},
        {"posenc_drop_p": 0.5},
        {"rmb_only": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_key_is_seen_in_the_first_loss(look: Callable[..., Seen], changes: Mapping[str, Any]) -> None:
    assert first(look(**changes)) != first(look())


@pytest.mark.parametrize("changes", [{"lr": 0.02}, {"l2": 0.5}, {"learnable_posencs": True}], ids=str)
def test_a_key_is_seen_in_later_losses(look: Callable[..., Seen], changes: Mapping[str, Any]) -> None:
    found, plain = look(**changes), look()
    assert first(found) == first(plain)
    assert found.values["train/loss"][2:] != plain.values["train/loss"][2:]


def test_the_size_of_a_random_table_is_what_positions_are_drawn_from(look: Callable[..., Seen]) -> None:
    random = {"posenc_type": "RandPositionalEncoding"}
    assert first(look(**random, max_posencs=64)) != first(look(**random, max_posencs=40))
    with pytest.raises(ConfigError, match="less than the longest sequence"):
        look(max_posencs=10)


def test_only_telling_again_ignores_cmp_len_and_says_so(look: Callable[..., Seen], tmp_path: Path) -> None:
    seen = look(rmb_only=True)
    assert "train/reconstruction" in seen.values and "train/forward" not in seen.values
    assert look(rmb_only=True, cmp_len=5).values == seen.values
    file = tmp_path / "h.json"
    file.write_text(json.dumps({**GUIDE, "rmb_only": True}))
    assert any("data.context_length" in warning.render() for warning in load_with_warnings(file))


def load_with_warnings(file: Path) -> list[Any]:
    from quincunx.config.load import load as load_whole
    from quincunx.recipes import schemas

    return load_whole(str(file), schemas=schemas()).warnings


def test_without_cmp_len_it_is_a_plain_language_model_and_said(look: Callable[..., Seen]) -> None:
    seen = look(cmp_len=None)
    assert "train/plain" in seen.values and "dev/gap_recovered" not in seen.values
    notes = (seen.run / "starts.jsonl").read_text()
    assert "a plain language model, nothing is compressed" in notes
    assert "the model is built from nothing: llama" in notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), True),
        (("objective={forward: 1, without: 1, full: 0.5}",), True),
        (("objective={distillation: 1}",), True),
        (("objective={forward: 0.5, without: 0.5, full: 0.5}",), False),
        (("objective={reconstruction: 1}",), False),
        (("model={path: somewhere}", "~tokenizer"), False),
    ],
)
def test_controls_that_are_trained_less_than_what_they_measure_are_said(changes: Sequence[str], said: bool) -> None:
    basic = {
        "recipe": "compression",
        "data": {"context_length": 8, "forward_length": 8},
        "tokenizer": {"vocabulary": 300},
    }
    _, notes = RECIPE.decide(load(basic, *changes).config)
    assert any("controls that are trained less" in note for note in notes) == said


@pytest.mark.parametrize("word", ["bfloat16", "float16"])
def test_torch_dtype_is_that_of_the_weights(look: Callable[..., Seen], word: str) -> None:
    seen = look(torch_dtype=word, n_epochs=1)
    kinds = {p.dtype for p in run_model(seen).backbone.parameters()}
    assert kinds == {getattr(torch, word)}


def run_model(seen: Seen) -> Any:
    from quincunx import Run

    return Run(seen.run).model("last")


RULE = {
    "dataset": "arithmetic",
    "cmp_len": None,
    "max_posencs": 300,
    "n_epochs": 1,
    "arithmetic": {"train": 40, "dev": 8, "test": 8, "ood": 0},
}


def test_blotching_leaves_out_whole_steps(look: Callable[..., Seen]) -> None:
    whole, blotched = look(**RULE), look(**RULE, blotch_p=1.0)
    assert first(whole) != first(blotched)
    assert whole.values["dev/loss"][0] != blotched.values["dev/loss"][0]
    found = read(blotched.config)
    shaping = training_shaping(blotched.config, found)
    row = shaping([found.splits["train"][0]], [0], [0], 0)
    text = found.tokenizer.decode(row["plain_tokens"][0][row["plain_seen"][0]])
    assert text.count("=") == 1, "the problem, then the answer"
    assert found.tokenizer.decode(row["plain_tokens"][0]).count("=") > 1


def test_the_initial_problem_is_predicted_only_when_asked_for(look: Callable[..., Seen]) -> None:
    assert first(look(**RULE)) != first(look(**RULE, incl_intl_prob=True))


def test_several_devices_are_asked_for_and_missed_aloud(tmp_path: Path) -> None:
    if torch.cuda.device_count() > 1:
        pytest.skip("this machine has several CUDA devices")
    write_texts(tmp_path)
    tree = {**GUIDE, "multi_gpu": True, "save_root": str(tmp_path), "data_root": str(tmp_path / "data"), "n_epochs": 1}
    file = tmp_path / "h.json"
    file.write_text(json.dumps(tree))
    overrides = [f"{name}={json.dumps(value)}" for name, value in OURS.items()]
    log = tmp_path / "log"
    texts = ["data.source=text", f"data.path={tmp_path / 'texts.txt'}"]
    assert quincunx("train", file, *overrides, *texts, log=log) == 0, log.read_text()
    assert "training goes on in one process" in log.read_text()


def test_a_built_model_has_no_device_map(tmp_path: Path) -> None:
    file = tmp_path / "h.json"
    file.write_text(json.dumps({**GUIDE, "model_parallel": True}))
    with_map = load_with_warnings(file)
    assert any("model.device_map" in warning.render() for warning in with_map)
    assert load(
        str(file), "model.path=gpt2", "posenc_type=model", "max_posencs=null", "posenc_drop_p=null"
    ).config.model.device_map


def test_another_unknown_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "h.json"
    file.write_text(json.dumps({**GUIDE, "cmp_lenn": 3}))
    with pytest.raises(ConfigError, match="cmp_len"):
        load(str(file))
