"""The verb inspect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said
from quincunx import load
from quincunx.recipes.compression.looking.inspect import inspect
from quincunx.recipes.compression.recipe import RECIPE
from recipes.compression.runs_made import config_of

Cli = Callable[..., Said]


@pytest.fixture
def file(work: Path) -> Path:
    path = work / "small.json"
    path.write_text(json.dumps(config_of(work)))
    return path


def test_a_batch_is_shown_and_nothing_written(cli: Cli, file: Path, work: Path):
    said = cli("inspect", file, "--batch", 3, "--rows", 1, "blotch.p=0.9", "blotch.spans=fixed", "blotch.span_length=2")
    assert said.code == 0 and said.err == ""
    assert said.out.startswith("batch 3 of training: update 4 of 4, 8 examples\n")
    assert "\x1b" not in said.out
    assert "dropped" in said.out and "who sees whom" in said.out and "7 more rows" in said.out
    changes = ("blotch.p=0.9", "blotch.spans=fixed", "blotch.span_length=2")
    config = RECIPE.decide(load(str(file), *changes).config)[0]
    assert said.out == f"{inspect(config, 3, 1)}\n"
    assert not (work / "run").exists()
    measured = cli("inspect", file, "--split", "dev").out
    assert measured.startswith("batch 0 of the ") and measured.count("row ") == 2


def test_colours_are_for_terminals(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    drops = ("--rows", 1, "blotch.p=0.9", "blotch.spans=fixed", "blotch.span_length=2")
    shown = cli("inspect", file, *drops).out
    plain = cli("inspect", file, "--no-colour", *drops).out
    assert "\x1b[1mbatch 0 of training" in shown and "\x1b[31m  1  dropped" in shown
    assert "\x1b" not in plain and plain.startswith("batch 0 of training")


def test_what_cannot_be_shown(cli: Cli, file: Path, tiny_file: Path):
    said = cli("inspect", tiny_file)
    assert said.code == 2
    assert "is of the recipe long_range, whose batches cannot be shown; those of compression can" in said.err
    said = cli("inspect", file, "--split", "valid")
    assert (said.code, said.err) == (2, "there is no split 'valid'; there are: train, dev, test\n")
    assert cli("inspect", file, "--batch", -1).code == 2
    said = cli("inspect", file, "data.path=nowhere")
    assert said.code == 1 and "nowhere" in said.err
    said = cli("inspect", file, "blotch.q=1")
    assert said.code == 2 and "blotch.q" in said.err
