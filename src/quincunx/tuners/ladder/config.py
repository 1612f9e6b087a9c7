"""Options of the ladder side network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quincunx.tuners.method import TunerConfig, check_dropout
from quincunx.tuners.residual import ACTIVATIONS

KINDS = ("float32", "float16", "bfloat16")


@dataclass
class LadderConfig(TunerConfig):
    """A side network beside the layers of frozen stacks (Y.-L. Sung, J. Cho, M. Bansal, LST, NeurIPS 2022).

    No gradient enters the layers, and everything that runs before or in a stack is without dropout. `target_modules`
    names stacks (`model.encoder`), `leave_out` layers without a block of the side network; `sites` has no meaning.
    """

    sides: Literal["encoder", "decoder", "both"] = "both"
    """Which stacks have a side network: those that see a text whole, those that see its past (or another stack), or
    whichever there are."""
    reduction_factor: float = 8.0
    """The side network is as wide as the stack divided by this, rounded down."""
    every: int = 1
    """A block of the side network beside every so many layers, the last one always."""
    num_heads: int | None = None
    """Attention heads of a block; unset: as many as divide the width into 32 or more numbers each."""
    feedforward_factor: float = 4.0
    """The feedforward of a block is so many times as wide as the side network."""
    activation: Literal["gelu", "gelu_new", "relu", "silu", "tanh", "identity"] = "gelu_new"
    """In the feedforwards."""
    temperature: float = 0.1
    """Of the gates sigmoid(alpha / temperature) that let a layer's states in; each alpha is trained from 0 on."""
    dropout: float = 0.0
    """Probability of dropout on the branches of the blocks."""
    cache: str | None = None
    """Folder in which the states of the layers are kept by example, where it is known which examples they are: later
    epochs compute no layer at all. A decoder's are kept in training alone, by example as its encoder's are: it sees the
    frozen encoder's states, which are the same every time."""
    cache_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """How numbers are kept; only float32 gives the same bits as computing them."""
    cache_limit: float | None = None
    """How large the files of the folder may grow together, in GiB; what has no room is computed each time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sites is not None:
            raise ValueError("a ladder stands beside whole layers: name stacks in target_modules, and leave sites out")
        for name, value, known in (
            ("sides", self.sides, ("encoder", "decoder", "both")),
            ("activation", self.activation, tuple(ACTIVATIONS)),
            ("cache_dtype", self.cache_dtype, KINDS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, found {value!r}")
        for name in ("reduction_factor", "feedforward_factor", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, found {getattr(self, name)}")
        for name in ("every", "num_heads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")
        check_dropout(self.dropout)
        if self.cache is None and (self.cache_dtype != "float32" or self.cache_limit is not None):
            raise ValueError("cache_dtype and cache_limit say how states are kept: name a folder in cache as well")
        if self.cache_limit is not None and not self.cache_limit > 0:
            raise ValueError(f"cache_limit must be above 0 GiB, found {self.cache_limit}")

    @property
    def packs(self) -> bool:
        """No: the side network attends to all of a row."""
        return False
