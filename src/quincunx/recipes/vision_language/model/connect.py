"""Connectors: what brings a row of features to the width of the backbone's tokens.

    linear        one map
    layers        one map, then maps with ReLU            (VL-T5: additional visual embedding layers)
    transformer   one map, then two layers of attention   (VL-BART: the rows of an example see one another)
    expand        one vector of a picture to several tokens (as Tsimpoukelli et al., 2021, feed a frozen model)
    pooled        one map of the mean of a picture's rows

B examples, N rows, F numbers in a row of features, D width of what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quincunx.errors import DataError, UsageError
from quincunx.nn.attention import AttentionLayer
from quincunx.nn.attention.softmax import SoftmaxAttention
from quincunx.nn.encoder import EncoderBlock

MakeNorm = Callable[[int], nn.Module] | None
"""Makes a norm of a width; None: there are none."""

HEADS, DEPTH, HIDDEN, POSITIONS, DROPOUT = 12, 2, 3072, 512, 0.1
"""Of the transformer: those of BERT-base, but for the depth."""


class Layers(nn.Module):
    """A map, and further ones with ReLU behind them; a norm after each where there are norms.

    Args:
        feature_width: F.
        width: D.
        norm: Makes norms.
        further: How many maps follow the first.
    """

    def __init__(self, feature_width: int, width: int, norm: MakeNorm, further: int = 0) -> None:
        super().__init__()
        self.map = nn.Linear(feature_width, width)
        self.norm = norm(width) if norm is not None else nn.Identity()
        self.further = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), *([norm(width)] if norm is not None else []))
            for _ in range(further)
        )

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return `[B, N, D]` for features `[B, N, F]`; `mask [B, N]` changes nothing."""
        x = self.norm(self.map(features.to(self.map.weight.dtype)))
        for each in self.further:
            x = each(x)
        return x


class Transformer(nn.Module):
    """A map, learned positions, and layers of a transformer in which the rows of an example see one another.

    The layers are this package's (norms come first), their dropout is addressed by row: see `quincunx.nn.encoder`.

    Args:
        feature_width: F.
        width: D.
        norm: Makes the norm at the end.
        heads: Attention heads; they divide D.
        depth: Layers.
        hidden: Width inside the feedforwards.
        positions: Rows that an example may have.
        dropout: Of the layers.

    Raises:
        UsageError: The heads do not divide the width.
    """

    def __init__(
        self,
        feature_width: int,
        width: int,
        norm: MakeNorm,
        *,
        heads: int = HEADS,
        depth: int = DEPTH,
        hidden: int = HIDDEN,
        positions: int = POSITIONS,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(
                f"a transformer over visual tokens has {heads} heads, which do not divide the backbone's width "
                f"{width}: choose a backbone whose width they divide, or leave the transformer out"
            )
        self.map = nn.Linear(feature_width, width)
        self.positions = nn.Embedding(positions, width)
        nn.init.normal_(self.positions.weight, std=0.02)

        def attention() -> AttentionLayer:
            return AttentionLayer(width, SoftmaxAttention(heads, width // heads))

        # not called layers: adapters for attention and feedforwards are meant for the backbone
        self.stages = nn.ModuleList(EncoderBlock(width, hidden, attention(), dropout) for _ in range(depth))
        self.norm = norm(width) if norm is not None else nn.Identity()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return `[B, N, D]` for features `[B, N, F]`; rows outside of `mask [B, N]` are not seen.

        Raises:
            DataError: An example has more rows than there are positions.
        """
        places = (mask.cumsum(1) - 1).clamp(min=0)
        if features.shape[1] > self.positions.num_embeddings and int(mask.sum(1).max()) > self.positions.num_embeddings:
            raise DataError(
                f"an example has {int(mask.sum(1).max())} rows of features, and the transformer over them has "
                f"{self.positions.num_embeddings} positions: downsample them"
            )
        x = self.map(features.to(self.map.weight.dtype)) + self.positions(places)
        for stage in self.stages:
            x = stage(x, mask)
        return self.norm(x)


@dataclass(frozen=True)
class Connection:
    """How a connector is made, and what it needs and gives."""

    make: Callable[..., nn.Module]
    """Of (feature width, width, norm)."""
    pools: bool = False
    """Whether it wants one row of each picture."""
    expands: bool = False
    """Whether a row becomes several tokens."""
    options: tuple[str, ...] = ()
    """Further arguments of `make`."""


CONNECTORS: Mapping[str, Connection] = {
    "linear": Connection(Layers),
    "layers": Connection(Layers, options=("further",)),
    "transformer": Connection(Transformer, options=("heads", "depth", "hidden", "positions", "dropout")),
    "expand": Connection(Layers, pools=True, expands=True),
    "pooled": Connection(Layers, pools=True),
}
"""Word -> connector."""


def check_indices(name: str, ids: Tensor, mask: Tensor, limit: int, remedy: str) -> None:
    """Raise DataError where an id of a row is not below a limit; on a CPU alone, elsewhere looking would wait."""
    if ids.device.type != "cpu" or torch.compiler.is_compiling() or not ids.numel():
        return
    largest = int((ids * mask).max())
    if largest >= limit:
        raise DataError(f"{name} holds {largest}, and there are {limit}, counted from 0: {remedy}")
