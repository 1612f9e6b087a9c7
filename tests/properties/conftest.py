"""What the properties share: one cache of generated data, a config file, and an undisturbed run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import TINY, quincunx


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def write_config(tmp_path: Path, cache: Path) -> Callable[..., Path]:
    """Return a function that writes the tiny config with dotted changes and returns its path."""

    def write(changes: dict[str, Any] | None = None, name: str = "config.json") -> Path:
        return config_file(tmp_path / name, cache, tmp_path / "run", changes or {})

    return write


def config_file(path: Path, cache: Path, folder: Path, changes: dict[str, Any]) -> Path:
    tree = copy.deepcopy(TINY)
    tree["data"]["cache"] = str(cache)
    tree["run"] = {"dir": str(folder)}
    for dotted, value in changes.items():
        node = tree
        *parents, last = dotted.split(".")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    path.write_text(json.dumps(tree, indent=1), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The run folder of the tiny config, trained without interruption."""
    base = tmp_path_factory.mktemp("undisturbed")
    config = config_file(base / "config.json", cache, base / "run", {})
    log = base / "log"
    assert quincunx("train", config, log=log) == 0, log.read_text()
    return base / "run"


def final_weights(run: Path) -> bytes:
    """Return the weights file of the newest checkpoint."""
    return (sorted((run / "checkpoints").glob("update-*"))[-1] / "model.safetensors").read_bytes()
