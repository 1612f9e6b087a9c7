"""Files of public data sets, written as a test needs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from public_files import Put


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Return what writes a file below `in`: an object as JSON, several as JSON lines where it is called so."""

    def write(name: str, content: Any) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Return what makes files of pictures of 40 x 30 pixels in a folder."""

    def make(*names: str) -> Path:
        folder = tmp_path / "pictures"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (200, 0, 0)).save(folder / name)
        return folder

    return make
