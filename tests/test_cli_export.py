"""The verb export."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said
from quincunx import train
from recipes.retrieval.collections_made import config_of, write_collection

Cli = Callable[..., Said]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    data = write_collection(folder / "data", train=48, test=12)
    return train(config_of(data, folder / "run", folder / "cache", budget__epochs=1)).path


def test_export_says_how_near_it_is_and_writes_once(cli: Cli, run: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    said = cli("export", str(run), "--out", out)
    assert said.code == 0, said.err
    assert "read back here: vectors lie within" in said.out
    assert "README.md says what it is" in said.out
    assert (tmp_path / "out" / "modules.json").is_file()
    again = cli("export", str(run), "--out", out)
    assert again.code == 2
    assert "is there already" in again.err


@pytest.mark.parametrize("word", ["gguf", "ONNX "])
def test_an_unknown_format_is_refused(cli: Cli, run: Path, tmp_path: Path, word: str) -> None:
    said = cli("export", str(run), "--format", word, "--out", str(tmp_path / "out"))
    assert said.code == 2
    assert "sentence-transformers, onnx, openvino" in said.err
    assert not list(tmp_path.iterdir())


def test_what_is_no_run_is_refused(cli: Cli, tmp_path: Path) -> None:
    said = cli("export", str(tmp_path), "--out", str(tmp_path / "out"))
    assert said.code == 2
    assert "holds no run" in said.err


def test_where_nothing_can_be_written_is_said(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    said = cli("export", str(run), "--out", str(tmp_path / "file" / "out"))
    assert said.code == 1
    assert "cannot be written" in said.err
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "mine")]


def test_a_checkpoint_that_was_cut_short_is_not_exported(cli: Cli, run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    for file in (copied / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-40])
    said = cli("export", str(copied), "--out", str(tmp_path / "out"))
    assert said.code == 1
    assert ".safetensors" in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
