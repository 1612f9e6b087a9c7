"""A plain reader of what wandb's client writes offline: LevelDB's log format, with records of protobuf in it."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

BLOCK = 32768


def records(path: Path) -> list[Any]:
    """Return the records of a `.wandb` file in order, every checksum checked."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    mark, magic, _ = struct.unpack("<4sHB", data[:7])
    assert (mark, magic) == (b":W&B", 0xBEE1)
    found: list[Any] = []
    at, parts = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # what is left of a block is filled up
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + 7])
        piece = data[at + 7 : at + 7 + length]
        if len(piece) < length:  # still being written
            break
        assert zlib.crc32(piece, zlib.crc32(bytes([kind]))) == checksum
        at += 7 + length
        parts = piece if kind in (1, 2) else parts + piece
        if kind in (1, 4):
            found.append(wandb_internal_pb2.Record.FromString(parts))
    return found


def history(path: Path) -> list[dict[str, Any]]:
    """Return the rows that were logged, with wandb's own names (`_step`) among the keys."""
    rows = [record.history for record in records(path) if record.HasField("history")]
    return [{(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in row.item} for row in rows]


def begun(path: Path) -> Any:
    """Return the run as it was begun: `run_id`, `project`, `config` and so on."""
    return next(record.run for record in records(path) if record.HasField("run"))


def exit_code(path: Path) -> int | None:
    """Return the exit code with which the run was finished; None where it was not."""
    found = [record.exit.exit_code for record in records(path) if record.HasField("exit")]
    return found[-1] if found else None
