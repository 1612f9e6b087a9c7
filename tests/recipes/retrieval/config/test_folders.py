"""What a folder of sentence-transformers says is taken where nobody said otherwise, and kept with the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from quincunx import Run, evaluate, train
from quincunx.config.load import explicit_paths
from quincunx.errors import UsageError
from quincunx.nn.pretrained import read_layout
from quincunx.recipes.retrieval.recipe import RECIPE
from recipes.retrieval.collections_made import config_of, write_collection
from retrieval_guides import loaded
from small_encoders import backbone, tokenizer

DENSE = {"in_features": 16, "out_features": 6, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}


def sentence_folder(folder: Path, *, dense: bool = False, pooling: str = "mean", **general: Any) -> Path:
    """Write a small encoder as sentence-transformers does; `general` is its own settings."""
    folder.mkdir()
    backbone(seed=2).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    modules: list[tuple[str, str, Any]] = [("Pooling", "1_Pooling", {"pooling_mode": pooling})]
    if dense:
        modules.append(("Dense", "2_Dense", DENSE))
    names = [("Transformer", ""), *((kind, place) for kind, place, _ in modules)]
    for _, place, config in modules:
        (folder / place).mkdir()
        (folder / place / "config.json").write_text(json.dumps(config))
    if dense:
        torch.manual_seed(3)
        weights = {"linear.weight": torch.randn(6, 16), "linear.bias": torch.randn(6)}
        save_file(weights, folder / "2_Dense/model.safetensors")
    listed = [
        {"idx": n, "name": str(n), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, place) in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(general))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("collection") / "data", train=40, test=20)


def tree(data: Path, folder: Path, run: Path, **changes: Any) -> dict[str, Any]:
    small = {"encoder__path": str(folder), "budget__epochs": None, "budget__updates": 2, "data__anchor": "query"}
    found = config_of(data, run, run.parent / "cache", **{**small, **changes})
    del found["encoder"]["build"], found["encoder"]["tokenizer"]  # type: ignore[attr-defined]
    return found


def built(data: Path, folder: Path, run: Path, *overrides: str, **changes: Any) -> Any:
    given = loaded(tree(data, folder, run, **changes), *overrides)
    config, _ = RECIPE.decide(given.config)
    return RECIPE.build(config, explicit_paths(given))


PROMPTS = {"query": "fox: ", "document": "dog: "}


@pytest.mark.parametrize(
    ("general", "query", "document"),
    [
        ({"prompts": PROMPTS}, "fox: ", "dog: "),
        ({"prompts": {"query": "fox: ", "passage": "box: "}}, "fox: ", "box: "),
        ({"prompts": {"query": "fox: ", "document": "", "passage": "box: "}}, "fox: ", "box: "),
        ({"prompts": {"query": "fox: ", "document": ""}, "default_prompt_name": "query"}, "fox: ", ""),
        ({"prompts": {"sts": "jump: "}, "default_prompt_name": "sts"}, "jump: ", "jump: "),
        ({"prompts": {"sts": "jump: "}}, "", ""),
        ({}, "", ""),
    ],
)
def test_the_prompts_of_both_sides(general: dict[str, Any], query: str, document: str, tmp_path: Path):
    layout = read_layout(sentence_folder(tmp_path / "folder", **general))
    assert layout is not None
    assert (layout.query_prompt, layout.document_prompt) == (query, document)


def test_a_default_prompt_that_is_not_there_is_refused(tmp_path: Path):
    folder = sentence_folder(tmp_path / "folder", prompts=PROMPTS, default_prompt_name="sts")
    with pytest.raises(UsageError, match="default_prompt_name is 'sts', and prompts has query, document"):
        read_layout(folder)


def test_prompts_are_taken_and_said_and_what_is_set_wins(data: Path, tmp_path: Path):
    folder = sentence_folder(tmp_path / "folder", prompts=PROMPTS)
    plain = sentence_folder(tmp_path / "plain")
    taken = built(data, folder, tmp_path / "run")
    assert (taken.config.query.prompt, taken.config.document.prompt) == ("fox: ", "dog: ")
    assert f"query.prompt: 'fox: ', as {folder} says" in taken.notes
    both = built(data, plain, tmp_path / "run", query__prompt="fox: ", document__prompt="dog: ")
    assert first_tokens(taken) == first_tokens(both) != first_tokens(built(data, plain, tmp_path / "run"))
    own = built(data, folder, tmp_path / "run", "query.prompt=", "document.prompt='box: '")
    assert (own.config.query.prompt, own.config.document.prompt) == ("", "box: ")
    assert not any("prompt" in note for note in own.notes)
    left = built(data, folder, tmp_path / "run", "query.truncate=left")
    assert (left.config.query.prompt, left.config.document.prompt) == ("", "dog: ")
    assert f"query.prompt: not 'fox: ', as {folder} says, because texts are cut on the left" in left.notes


def first_tokens(experiment: Any) -> list[Any]:
    sides = experiment.collate([0, 1], [0, 1], range(2), 0).sides
    return [sides[name]["tokens"].tolist() for name in ("query", "document")]


def test_each_side_has_the_layout_of_its_own_folder(data: Path, tmp_path: Path):
    queries = sentence_folder(tmp_path / "q", prompts=PROMPTS)
    documents = sentence_folder(tmp_path / "d", pooling="cls", dense=True, prompts={"document": "box: "})
    with pytest.raises(UsageError, match="queries become vectors of width 16, documents of 6"):
        built(data, queries, tmp_path / "run", document__path=str(documents))
    (documents / "modules.json").write_text((queries / "modules.json").read_text())
    found = built(data, queries, tmp_path / "run", document__path=str(documents))
    config, model = found.config, found.parts.model
    assert (config.encoder.pooling, config.document.pooling) == ("mean", "cls")
    assert (model.query.pooling, model.document.pooling) == ("mean", "cls")
    assert (config.query.prompt, config.document.prompt) == ("fox: ", "box: ")


def test_a_run_needs_the_folder_no_more(data: Path, tmp_path: Path):
    """Its prompts, its limit of tokens and the sizes of its head are kept."""
    folder = sentence_folder(tmp_path / "folder", dense=True, prompts=PROMPTS)
    run = train(tree(data, folder, tmp_path / "run"))
    folder.rename(tmp_path / "away")
    assert isinstance(run, Run)
    assert (run.config.query.max_length, run.config.document.prompt) == (9, "dog: ")
    assert run.model().width == 6
    last = dict(run.metrics("test/recip_rank"))
    assert evaluate(run).scalars["recip_rank"] == last[max(last)]
    [answer] = run.predict([{"text": "the quick brown fox"}])
    assert len(answer["embedding"]) == 6
