"""What a folder of a task's examples holds: one JSON Lines file a split, and a manifest beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quincunx.data.generated import GeneratedSet, SetManifest, check_files

FORMAT = 1
"""Raised whenever the same settings would give other examples or other files."""

SPLITS = ("train", "dev", "test")
FILE_NAMES = {split: f"{split}.jsonl" for split in SPLITS}
"""Split -> file name."""


@dataclass(frozen=True)
class Manifest(SetManifest):
    """What a written set is, and what its files must be."""

    REQUEST = ("format", "settings")

    settings: dict[str, Any]
    """As `load.request_of` gives them."""
    files: dict[str, dict[str, Any]]
    """File name -> `{"bytes": int, "sha256": str}`."""

    def __post_init__(self) -> None:
        check_files(self.files, FILE_NAMES.values())
        if not self.task:
            raise ValueError("it names no task")

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.settings.get("task") or "")


SET = GeneratedSet("task", "task.json", Manifest, FILE_NAMES.values())
