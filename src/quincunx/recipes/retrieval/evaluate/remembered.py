"""The corpus's embeddings, kept in memory for as long as the weights stay what they were.

So the development and the test set, which mostly share their documents, cost one encoding of the corpus and not two.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from torch import Tensor, nn

from quincunx.recipes.retrieval.evaluate.ranker import Encodes


class Remembered:
    """The latest embeddings of one corpus."""

    def __init__(self) -> None:
        self._key: bytes | None = None
        self._documents: Tensor | None = None

    def documents(self, model: nn.Module, by: Encodes, texts: Any) -> Tensor:
        """Return the embeddings `[N, D]` of the texts, encoded anew where weights or texts are others than before."""
        key = weights_hash(model) + texts.texts.hashes.tobytes()
        if self._documents is None or key != self._key:
            self._documents, self._key = by.documents(texts), key
        return self._documents


def weights_hash(model: nn.Module) -> bytes:
    """Return a hash of all weights and buffers of a model."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.digest()
