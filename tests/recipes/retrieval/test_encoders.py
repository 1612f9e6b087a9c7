"""Weights of another run stand for the tokens of that run's tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from quincunx import Run, load, train
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.recipe import RECIPE
from recipes.retrieval.collections_made import config_of, write_collection


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one collection; beside it another collection, with other words."""
    folder = tmp_path_factory.mktemp("start")
    data = write_collection(folder / "data", train=60, test=20)
    write_collection(folder / "other", train=60, test=20, seed=9)
    train(config_of(data, folder / "run", folder / "cache", budget__epochs=1))
    return folder


def later(start: Path, data: str, name: str, **changes: object) -> dict[str, object]:
    return config_of(start / data, start / name, start / "cache", init_from=str(start / "run"), **changes)


def test_the_same_corpus_makes_the_same_tokenizer(start: Path):
    experiment = RECIPE.build(load(later(start, "data", "same")).config)
    assert not [note for note in experiment.notes if "init_from" in note]


@pytest.mark.parametrize("place", ["run", "checkpoint"])
def test_a_tokenizer_of_other_texts_is_refused_with_the_remedy(start: Path, place: str):
    tree = later(start, "other", "refused")
    if place == "checkpoint":
        tree["init_from"] = str(next((start / "run/checkpoints").glob("update-*")))
    with pytest.raises(UsageError, match="tokenizer is not that of init_from") as refused:
        RECIPE.build(load(tree).config)
    assert f"encoder.tokenizer.path={start / 'run/encoder'}" in str(refused.value)
    assert not (start / "refused").exists()


def test_the_remedy_trains_on_with_the_same_tokens(start: Path):
    kept = {"tokenizer": {"path": str(start / "run/encoder")}}
    tree = later(start, "other", "further", budget__epochs=1)
    tree["encoder"] = {**tree["encoder"], **kept}  # type: ignore[dict-item]
    run = train(tree)
    assert (start / "further/encoder/tokenizer.json").read_bytes() == (
        start / "run/encoder/tokenizer.json"
    ).read_bytes()
    assert isinstance(run, Run)


def test_who_says_so_may_start_from_other_tokens(start: Path):
    experiment = RECIPE.build(load(later(start, "other", "partial", init_partial=True)).config)
    assert sum("its weights would stand for other tokens" in note for note in experiment.notes) == 1
