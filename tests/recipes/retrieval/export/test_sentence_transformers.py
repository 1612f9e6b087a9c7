"""Runs as folders of sentence-transformers: equal vectors there, and here again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from quincunx import Run, load, train
from quincunx.errors import UsageError
from quincunx.exporting import export_run
from quincunx.nn.pretrained import load_backbone, read_layout
from quincunx.recipes.retrieval.encode import Encoder
from quincunx.recipes.retrieval.export.opened import merge_adapters
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from quincunx.recipes.retrieval.recipe import RECIPE
from recipes.retrieval.collections_made import config_of, write_collection
from small_encoders import backbone

TEXTS = ["ask3x1 ask3x2", "tell7y1 tell7y2 tell7y3 n3", "ask1x1 " * 60, "ASK5x0?"]
RUNS: dict[str, dict[str, object]] = {
    "alike": {
        "query__prompt": "query: ",
        "document__prompt": "text: ",
        "encoder__projection": 12,
        "encoder__head": "mlp",
        "query__max_length": 20,
        "document__max_length": 20,
        "objective__matryoshka": {"widths": [4]},
    },
    "apart": {
        "encoder__share": "backbone",
        "encoder__projection": 8,
        "document__pooling": "cls",
        "query__max_length": 9,
        "query__prompt": "find: ",
        "objective__similarity": "dot",
        "objective__temperature": 1.0,
    },
    "lora": {
        "encoder__pooling": "last",
        "peft__method": "lora",
        "peft__options": {"target_modules": ["query", "value"]},
    },
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    data = write_collection(folder / "data", train=48, test=12)
    few = {"budget__epochs": 1, "encoder__tokenizer": {"vocabulary": 400}}
    return {name: train(config_of(data, folder / name, folder / "cache", **few, **more)) for name, more in RUNS.items()}


@pytest.mark.parametrize("name", RUNS)
def test_vectors_are_equal_in_sentence_transformers(runs: dict[str, Run], name: str, tmp_path: Path) -> None:
    theirs = pytest.importorskip("sentence_transformers")
    export_run(runs[name], tmp_path / "out")
    model = theirs.SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    ours = Encoder.load(runs[name], precision="float32")
    for side, encode in (("query", model.encode_query), ("document", model.encode_document)):
        wanted = ours.encode(TEXTS, side=side)
        np.testing.assert_allclose(encode(TEXTS), wanted, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))
    assert model.similarity_fn_name == ours.similarity


def test_a_folder_goes_on_training_here(runs: dict[str, Run], tmp_path: Path) -> None:
    """`encoder.path` takes over weights, head, prompts, lengths and similarity."""
    export_run(runs["alike"], tmp_path / "out")
    settings = runs["alike"].config
    tree = config_of(Path(settings.data.path), tmp_path / "next", Path(settings.data.cache))
    tree["encoder"] = {"path": str(tmp_path / "out")}
    experiment = RECIPE.build(load(tree).config)
    found = experiment.config
    assert (found.query.prompt, found.document.prompt) == ("query: ", "text: ")
    assert (found.query.max_length, found.document.max_length) == (20, 20)
    ours = runs["alike"].model()
    tokens, lengths = torch.tensor([[2, 9, 17, 30, 3], [2, 40, 3, 0, 0]]), torch.tensor([5, 3])
    with torch.no_grad():
        again, before = (model.eval().encode(tokens, lengths, "query") for model in (experiment.parts.model, ours))
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(again, dim=1), unit(before, dim=1), atol=1e-6, rtol=0)


def test_a_folder_that_they_wrote_gives_the_same_vectors_here(runs: dict[str, Run], tmp_path: Path) -> None:
    """Weights, pooling, dense layers, prompts and lengths, in the form that their own library saves."""
    theirs = pytest.importorskip("sentence_transformers")
    export_run(runs["alike"], tmp_path / "out")
    model = theirs.SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    model.save(str(tmp_path / "theirs"))
    settings = runs["alike"].config
    tree = config_of(Path(settings.data.path), tmp_path / "next", Path(settings.data.cache), budget__epochs=1)
    tree["encoder"] = {"path": str(tmp_path / "theirs"), "dropout": 0.0}
    tree["optimizer"] = {"learning_rate": 1e-12}
    found = Encoder.load(train(tree), precision="float32")
    for side, encode in (("query", model.encode_query), ("document", model.encode_document)):
        np.testing.assert_allclose(found.encode(TEXTS, side=side), encode(TEXTS), atol=1e-5)


def test_numbers_that_stand_for_a_vector_can_be_cut_there(runs: dict[str, Run], tmp_path: Path) -> None:
    theirs = pytest.importorskip("sentence_transformers")
    export_run(runs["alike"], tmp_path / "out")
    assert "the first 4 (objective.matryoshka)" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    model = theirs.SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True, truncate_dim=4)
    wanted = Encoder.load(runs["alike"], precision="float32").encode(TEXTS)[:, :4]
    np.testing.assert_allclose(model.encode_document(TEXTS), wanted, atol=1e-5)


def test_the_sides_of_a_router_are_whole_folders(runs: dict[str, Run], tmp_path: Path) -> None:
    export_run(runs["apart"], tmp_path / "out")
    layouts = {side: read_layout(tmp_path / "out" / side) for side in ("query", "document")}
    assert [layouts[side].pooling for side in layouts] == ["mean", "cls"]  # type: ignore[union-attr]
    assert [layouts[side].max_length for side in layouts] == [9, 32]  # type: ignore[union-attr]
    first, second = (load_backbone(tmp_path / "out" / side)[0].state_dict() for side in layouts)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_folders_of_a_router_are_the_sides_of_a_run_here(runs: dict[str, Run], tmp_path: Path) -> None:
    export_run(runs["apart"], tmp_path / "out")
    settings = runs["apart"].config
    tree = config_of(Path(settings.data.path), tmp_path / "next", Path(settings.data.cache), budget__epochs=1)
    tree["encoder"] = {"path": str(tmp_path / "out" / "query"), "share": "nothing", "dropout": 0.0}
    tree["document"] = {"path": str(tmp_path / "out" / "document")}
    tree["objective"] = {"temperature": 1.0}
    tree["optimizer"] = {"learning_rate": 1e-12}
    found, wanted = (Encoder.load(run, precision="float32") for run in (train(tree), runs["apart"]))
    for side in ("query", "document"):
        np.testing.assert_allclose(found.encode(TEXTS, side=side), wanted.encode(TEXTS, side=side), atol=1e-5)


def test_a_router_refuses_texts_of_which_nobody_says_the_side(runs: dict[str, Run], tmp_path: Path) -> None:
    theirs = pytest.importorskip("sentence_transformers")
    export_run(runs["apart"], tmp_path / "out")
    model = theirs.SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    with pytest.raises(ValueError, match="route"):
        model.encode(["a text"])


def test_adapters_are_added_to_the_weights(runs: dict[str, Run], tmp_path: Path) -> None:
    export_run(runs["lora"], tmp_path / "out")
    names = set(load_backbone(tmp_path / "out")[0].state_dict())
    assert not [name for name in names if "lora" in name or "base_layer" in name]
    assert any("lora" in name for name in runs["lora"].model().state_dict())


def test_adapters_that_change_no_weights_are_refused() -> None:
    peft = pytest.importorskip("peft")
    encoder = TextEncoder(backbone())
    prompts = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=2)
    encoder.backbone = peft.get_peft_model(backbone(), prompts)
    with pytest.raises(UsageError, match="prompt_tuning are no change of the weights"):
        merge_adapters(encoder, "prompt_tuning")


def test_what_is_there_is_left_alone(runs: dict[str, Run], tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "mine").write_text("kept")
    with pytest.raises(UsageError, match="is there already"):
        export_run(runs["alike"], place)
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "mine"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder__pooling": "attention"}, "learned query"),
        ({"mode": "poly-encoder", "poly__codes": 3}, "several vectors"),
    ],
)
def test_what_they_have_no_module_for_is_refused(
    runs: dict[str, Run], changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    settings = runs["alike"].config
    small = {"budget__epochs": 1, "encoder__tokenizer": {"vocabulary": 400}}
    tree = config_of(Path(settings.data.path), tmp_path / "run", Path(settings.data.cache), **small, **changes)
    run = train(tree)
    with pytest.raises(UsageError, match=message):
        export_run(run, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_the_card_tells_what_the_run_wrote_down(runs: dict[str, Run], tmp_path: Path) -> None:
    export_run(runs["alike"], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert text.startswith('---\nlibrary_name: "sentence-transformers"\n')
    prints = json.loads((runs["alike"].path / "data.json").read_text())["fingerprints"]
    assert all(f"`{value}`" in text for value in prints.values())
    measured = json.loads(next(runs["alike"].folder.evaluations.glob("test-*.json")).read_text())
    row = next(row for table in measured["tables"] for row in table["rows"] if row[0] == "recip_rank")
    assert "| " + " | ".join(str(cell) for cell in row) + " |" in text
    assert '| encoder.head | `"mlp"` |' in text
    assert f"quincunx export {runs['alike'].path} --format sentence-transformers" in text
    assert "within" in text.split("## Compared with the run")[1]
