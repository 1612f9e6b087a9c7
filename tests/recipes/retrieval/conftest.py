"""A collection and a cache of its own for each module of tests that asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.retrieval.collections_made import write_collection


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("collection") / "data")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")
