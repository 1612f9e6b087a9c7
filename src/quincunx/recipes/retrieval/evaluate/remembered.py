"""The corpus's embeddings, kept in memory for as long as the weights stay what they were.

So the development and the test set, which mostly share their documents, cost one encoding of the corpus and not two.
`evaluate.disk` keeps them for longer.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from quincunx.recipes.retrieval.evaluate.ranker import Encodes


class Keeps(Protocol):
    """Where embeddings are kept."""

    def documents(self, model: nn.Module, by: Encodes, texts: Any) -> Tensor:
        """Return the embeddings `[N, D]` of the texts, those kept where they are what would be computed."""
        ...


class Remembered:
    """The latest embeddings of one corpus."""

    def __init__(self) -> None:
        self._key: Any = None
        self._documents: Tensor | None = None

    def documents(self, model: nn.Module, by: Encodes, texts: Any) -> Tensor:
        """Return the embeddings `[N, D]` of the texts, encoded anew where anything is another than before."""
        key = weights_hash(model), texts.texts.hashes.tobytes(), options_of(by)
        if self._documents is None or key != self._key:
            self._documents, self._key = by.documents(texts), key
        return self._documents


def options_of(by: Encodes) -> dict[str, Any]:
    """Return what a ranker was told beside its model and where to compute, by name."""
    assert is_dataclass(by)
    apart = ("model", "runtime")
    return {one.name: getattr(by, one.name) for one in fields(by) if one.name not in apart}


def weights_hash(model: nn.Module) -> bytes:
    """Return a hash of all weights and buffers of a model, with their names, kinds and shapes."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data)  # as bytes: numpy knows no bfloat16
    return digest.digest()
