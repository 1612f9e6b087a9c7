"""The bi-encoder: queries and documents become vectors apart from each other, through shared weights or their own.

B batch, S sequence, P width of the vectors.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder

Share = Literal["all", "backbone", "nothing"]


class BiEncoder(nn.Module):
    """Two text encoders that are one object, have their encoder in common, or nothing.

    Shared modules are registered under both names, and are one object: optimizers see their parameters once, and a
    checkpoint stores them once, though `state_dict` shows them by both names. So the weights of a shared model can
    start a separate one.

    Args:
        query: Encodes queries.
        document: Encodes documents; None: the same object.
    """

    def __init__(self, query: TextEncoder, document: TextEncoder | None = None) -> None:
        super().__init__()
        self.query = query
        self.document = query if document is None else document
        if self.query.width != self.document.width:
            raise UsageError(
                f"queries become vectors of width {self.query.width}, documents of {self.document.width}: "
                "give both sides a projection to one width"
            )

    @property
    def one_pass(self) -> bool:
        """Both sides go through the same weights, so that rows of both may be encoded together."""
        return self.query is self.document

    @property
    def share(self) -> Share:
        """What the sides have in common."""
        if self.one_pass:
            return "all"
        return "backbone" if self.query.backbone is self.document.backbone else "nothing"

    @property
    def width(self) -> int:
        """P."""
        return self.query.width

    def side(self, name: str) -> TextEncoder:
        """Return the text encoder of the side `query` or `document`; ValueError for another name."""
        if name not in ("query", "document"):
            raise ValueError(f"a side is query or document, not {name!r}")
        return self.query if name == "query" else self.document

    def encode(self, tokens: Tensor, lengths: Tensor, side: str) -> Tensor:
        """Return `[B, P]`, the vectors of texts of one side; see `TextEncoder.forward`."""
        return self.side(side)(tokens, lengths)

    def forward(self, tokens: Tensor, lengths: Tensor, side: str = "query") -> Tensor:
        """Return `encode(tokens, lengths, side)`."""
        return self.encode(tokens, lengths, side)

    def pads(self, device: torch.device) -> bool:
        """Return whether padding is computed on the device, on either side."""
        return self.query.pads(device) or self.document.pads(device)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the encoders in place, each once; arguments of torch.compile."""
        compile_once([self.query, self.document], *args, **kwargs)


def compile_once(encoders: list[TextEncoder], *args: Any, **kwargs: Any) -> None:
    """Compile text encoders in place, one that several of them share once."""
    backbones = {id(encoder.backbone): encoder for encoder in encoders}
    for encoder in backbones.values():
        encoder.compile(*args, **kwargs)
