"""Multi-head attention round an interchangeable core: projections, heads, output dropout, gradient checkpointing.

B batch, S sequence, H heads, E head width, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quincunx.errors import UsageError
from quincunx.nn.dropout import CounterDropout

State = tuple[Tensor, ...]
"""What a kind keeps of the tokens so far when it goes token by token; each `[B, ...]`."""


class AttentionCore(nn.Module):
    """Base of the attention kinds; `quincunx.nn.attention` states what each promises.

    Args:
        num_heads: Number of heads H.
        head_dim: Width of a head E.
        causal: Token t sees the tokens up to t only, itself included.
    """

    def __init__(self, num_heads: int, head_dim: int, *, causal: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.causal = causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return what each token takes from the others.

        Args:
            q: Queries `[B, H, S, E]`.
            k: Keys `[B, H, S, E]`.
            v: Values `[B, H, S, E]`.
            valid: `[B, S]` bool, False where a token is padding; None when all are valid.
            salt: Tells the passes through tied weights apart.

        Returns:
            `[B, H, S, E]`; zeros in rows without a valid token.
        """
        raise TypeError(f"{type(self).__name__} must define forward(q, k, v, valid, salt)")

    def start(self, batch: int, like: Tensor) -> State:
        """Return the state before the first token, for `batch` rows, on the device of `like` and for its dtype.

        Raises:
            UsageError: The kind is not causal.
        """
        raise TypeError(f"{type(self).__name__} must define start(batch, like)")

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the output of the next token and the state after it; no argument is changed in place.

        Args:
            q: The token's query `[B, H, E]`.
            k: Its key `[B, H, E]`.
            v: Its value `[B, H, E]`.
            state: From `start`, or from the step before.

        Returns:
            `[B, H, E]`, the row of this token in `forward` over all tokens so far, all valid; and the next state.
        """
        raise TypeError(f"{type(self).__name__} must define step(q, k, v, state)")

    def checkpointing_note(self) -> str | None:
        """Return why recomputing this core saves no memory, None where it does save."""
        return None

    def refuse_steps(self) -> None:
        """Raise UsageError unless this core is causal: only then does a token's output not wait for later ones."""
        if not self.causal:
            raise UsageError("only causal attention goes token by token: build it with causal=True")


class AttentionLayer(nn.Module):
    """Project D -> H * E, attend, project back, drop.

    The same for every kind. Heads need not divide the model width: the projections lead to `num_heads * head_dim` and
    back. Dropout is on the layer's output, so that it means the same for kinds without a matrix of weights.

    Args:
        embedding_dim: Model width D.
        core: The attention kind; says the number of heads H and the head width E.
        dropout: Probability of dropout on the layer's output.
        grad_checkpointing: Keep only queries, keys and values for the backward pass and recompute the core there.
            Changes neither values nor gradients; see `checkpointing_note`.
    """

    def __init__(
        self, embedding_dim: int, core: AttentionCore, dropout: float = 0.0, grad_checkpointing: bool = False
    ) -> None:
        super().__init__()
        inner = core.num_heads * core.head_dim
        self.query = nn.Linear(embedding_dim, inner)
        self.key = nn.Linear(embedding_dim, inner)
        self.value = nn.Linear(embedding_dim, inner)
        self.core = core
        self.output = nn.Linear(inner, embedding_dim)
        self.dropout = CounterDropout(dropout)
        self.grad_checkpointing = grad_checkpointing

    def forward(self, x: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the attention branch for states x.

        Args:
            x: `[B, S, D]`.
            valid: `[B, S]` bool, False where a token is padding; None when all are valid.
            salt: Tells the passes through tied weights apart.

        Returns:
            `[B, S, D]`.
        """
        q, k, v = (self._heads(projection(x)) for projection in (self.query, self.key, self.value))
        if self.grad_checkpointing and torch.is_grad_enabled():
            mixed = self._checkpointed(q, k, v, valid, salt)
        else:
            mixed = self.core(q, k, v, valid, salt)
        return self.dropout(self.output(mixed.transpose(1, 2).flatten(2)), salt)

    def start(self, batch: int) -> State:
        """Return the state before the first token, for `batch` rows; UsageError when the core is not causal."""
        return self.core.start(batch, self.query.weight)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the attention branch `[B, D]` of the next token, states x `[B, D]`, and the state after it.

        Evaluation only: no dropout is drawn.
        """
        heads = (self.core.num_heads, self.core.head_dim)
        q, k, v = (projection(x).unflatten(-1, heads) for projection in (self.query, self.key, self.value))
        mixed, state = self.core.step(q, k, v, state)
        return self.output(mixed.flatten(1)), state

    def checkpointing_note(self) -> str | None:
        """Return why the gradient checkpointing asked for saves no memory; None where it does, or was not asked for."""
        return self.core.checkpointing_note() if self.grad_checkpointing else None

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.core.num_heads, self.core.head_dim)).transpose(1, 2)

    def _checkpointed(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, salt: int) -> Tensor:
        # No state of torch's generators to replay: all our randomness is addressed.
        context = self.dropout.context
        if context is None or torch.compiler.is_compiling():  # a compiled graph recomputes from its own inputs
            return checkpoint(self.core, q, k, v, valid, salt, use_reentrant=False, preserve_rng_state=False)
        words = context.words

        def core(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            with context.at(words):  # by the time of the backward pass another chunk's rows may be set
                return self.core(q, k, v, valid, salt)

        return checkpoint(core, q, k, v, use_reentrant=False, preserve_rng_state=False)
