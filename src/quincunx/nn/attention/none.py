"""No attention at all: the baseline of every comparison. S sequence, D model width."""

from __future__ import annotations

from torch import Tensor, nn

from quincunx.nn.attention.layer import AttentionCore, State


class NoAttention(AttentionCore):
    """Zeros: no token takes anything from any token, itself included."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return zeros `[B, H, S, E]`."""
        return v.new_zeros(v.shape)

    def start(self, batch: int, like: Tensor) -> State:
        """Return nothing; see `AttentionCore.start`."""
        self.refuse_steps()
        return ()

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Return zeros `[B, H, E]` and nothing."""
        return v.new_zeros(v.shape), state


class NoAttentionLayer(nn.Module):
    """A layer without projections, parameters or effect."""

    def forward(self, x: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return zeros of the shape of x `[B, S, D]`."""
        return x.new_zeros(x.shape)
