"""Writes the examples of a task: one JSON Lines file a split, and a manifest beside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from quincunx.data.partial import finish, partial_file
from quincunx.recipes.compression.data.tasks.load import TaskSettings, drawn, request_of
from quincunx.recipes.compression.data.tasks.manifest import FILE_NAMES, FORMAT, SET, Manifest
from quincunx.runs.files import to_json

Progress = Callable[[int, int], None]
"""Called with the number of examples done and wanted."""


def generate(out_dir: str | Path, settings: TaskSettings, on_progress: Progress | None = None) -> Manifest:
    """Write a file a split and `task.json` into a folder, made if missing; return the manifest.

    A row is `{"input": "421", "output": "124"}`. Files appear whole or not at all; what an interrupted run left is
    replaced; a set that is already there as asked for is kept.

    Raises:
        UsageError: The folder holds other data; settings without meaning.
        DataError: It cannot be written.
    """
    folder = Path(out_dir).expanduser()
    request = {"format": FORMAT, "settings": request_of(settings)}
    present = SET.found(folder, request)
    if present and not SET.damage(folder, present.files, content=False):
        return present
    sources = drawn(request["settings"])
    total, done = sum(map(len, sources.values())), 0
    facts: dict[str, dict[str, Any]] = {}
    with SET.writing(folder), ExitStack() as stack:
        files = {
            split: stack.enter_context(partial_file(folder / name, wait=False)) for split, name in FILE_NAMES.items()
        }
        for split, file in files.items():
            digest, size = sha256(), 0
            for index in range(len(sources[split])):
                example = sources[split][index]
                line = to_json({"input": example.input, "output": example.output}) + b"\n"
                file.write(line)
                digest.update(line)
                size += len(line)
                done += 1
                if on_progress and (done % 1000 == 0 or done == total):
                    on_progress(done, total)
            facts[FILE_NAMES[split]] = {"bytes": size, "sha256": digest.hexdigest()}
        manifest = Manifest(**request, files=facts)
        SET.write(folder, manifest)
        for split, file in files.items():
            finish(file, folder / FILE_NAMES[split])
    return manifest
