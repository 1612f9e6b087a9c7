"""Compressed contexts in a file, tied to the model that made them.

A compressed context means nothing to other weights, and they would not notice: the file carries the model's
fingerprint, and is read under the same one only.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from quincunx.errors import DataError, RunError
from quincunx.recipes.compression.model.compressed import Compressed
from quincunx.runs.files import write_atomically

FORM = "quincunx-compressed-1"
"""Changes when the file's form does."""


def save_compressed(path: Path | str, compressed: Compressed, fingerprint: str) -> None:
    """Write compressed contexts as one safetensors file, whole or not at all.

    Args:
        path: The file.
        compressed: The contexts; they are written without their history, from whatever device.
        fingerprint: What tells the model, with its weights, from every other.

    Raises:
        RunError: The file cannot be written.
    """
    tensors = {name: getattr(compressed, name) for name in ("positions", "seen", "following")}
    if compressed.embeddings is not None:
        tensors["embeddings"] = compressed.embeddings
    for number, (keys, values) in enumerate(compressed.layers or ()):
        tensors |= {f"keys.{number}": keys, f"values.{number}": values}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(Path(path), save(plain, {"form": FORM, "fingerprint": fingerprint}))


def load_compressed(path: Path | str, fingerprint: str, device: torch.device | str = "cpu") -> Compressed:
    """Return the contexts that `save_compressed` wrote.

    Args:
        path: The file.
        fingerprint: The present model's.
        device: Where they are wanted.

    Raises:
        DataError: The file is missing, damaged, or no file of compressed contexts.
        RunError: Another model made it; both fingerprints are named.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        tensors = load(data)
        notes = _notes(data)
    except OSError as error:
        raise DataError(f"cannot read the compressed contexts in {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, struct.error) as error:
        raise DataError(f"{path} is no whole file of compressed contexts ({error}): compress them again") from error
    if notes.get("form") != FORM:
        raise DataError(f"{path} holds no compressed contexts of the form {FORM}, found {notes.get('form')!r}")
    if notes.get("fingerprint") != fingerprint:
        raise RunError(
            f"{path} was compressed by the model {notes.get('fingerprint')}, this is {fingerprint}: other weights "
            "cannot read it. Use that model, or compress the texts again"
        )
    try:
        return _compressed(tensors).to(device)
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{path} is no whole file of compressed contexts (lacks {error}): compress them again"
        ) from error


def _compressed(tensors: dict[str, Tensor]) -> Compressed:
    depth = sum(name.startswith("keys.") for name in tensors)
    layers = tuple((tensors[f"keys.{number}"], tensors[f"values.{number}"]) for number in range(depth))
    return Compressed(
        tensors["positions"], tensors["seen"], tensors["following"], layers or None, tensors.get("embeddings")
    )


def _notes(data: bytes) -> dict[str, str]:
    """Return the notes in a safetensors header: its length in eight bytes, then JSON."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})
