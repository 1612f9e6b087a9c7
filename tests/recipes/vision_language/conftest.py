"""What tests of the recipe share: a rendered world."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_language_runs import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection folder with examples of every task; not to be changed."""
    return make_world(tmp_path_factory.mktemp("worlds") / "world")
