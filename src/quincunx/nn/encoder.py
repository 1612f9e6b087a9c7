"""A pre-norm transformer encoder (Xiong et al. 2020, arXiv 2002.04745) whose attention is any kind, or none.

B batch, S sequence, D model width.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from quincunx.nn.attention.layer import AttentionLayer
from quincunx.nn.dropout import CounterDropout


class Feedforward(nn.Module):
    """Linear, GELU, dropout, linear, dropout: each token by itself.

    Args:
        embedding_dim: Model width D.
        hidden_dim: Width in between.
        dropout: Probability of both dropouts.
    """

    def __init__(self, embedding_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.widen = nn.Linear(embedding_dim, hidden_dim)
        self.activation = nn.GELU()
        self.hidden_dropout = CounterDropout(dropout)
        self.narrow = nn.Linear(hidden_dim, embedding_dim)
        self.output_dropout = CounterDropout(dropout)

    def forward(self, x: Tensor, salt: int = 0) -> Tensor:
        """Return the branch `[B, S, D]` for normalised states x `[B, S, D]`."""
        hidden = self.hidden_dropout(self.activation(self.widen(x)), salt)
        return self.output_dropout(self.narrow(hidden), salt)


class EncoderBlock(nn.Module):
    """x + drop(attention(norm(x))), then x + feedforward(norm(x)).

    The attention layer ends with a dropout of its own (`attention_dropout`), the branch with this block's, the
    feedforward with one inside and one at its end.

    Args:
        embedding_dim: Model width D.
        hidden_dim: Hidden width of the feedforward.
        attention: The attention layer; None leaves the whole branch out, its norm and dropout too.
        dropout: Probability of dropout on the attention branch and in the feedforward.
    """

    def __init__(self, embedding_dim: int, hidden_dim: int, attention: AttentionLayer | None, dropout: float) -> None:
        super().__init__()
        self.attention = attention
        if attention is not None:
            self.attention_norm = nn.LayerNorm(embedding_dim)
            self.attention_branch_dropout = CounterDropout(dropout)
        self.feedforward_norm = nn.LayerNorm(embedding_dim)
        self.feedforward = Feedforward(embedding_dim, hidden_dim, dropout)

    def forward(self, x: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the next states `[B, S, D]`; arguments as in `Encoder.forward`, `salt` is the number of the pass."""
        if self.attention is not None:
            branch = self.attention(self.attention_norm(x), valid, salt)
            x = x + self.attention_branch_dropout(branch, salt)
        return x + self.feedforward(self.feedforward_norm(x), salt)


class Encoder(nn.Module):
    """`num_layers` blocks and a final norm.

    Starting values: every linear map, those of the attention included, Xavier uniform (Glorot and Bengio 2010) with
    biases of zero; norms one and zero.

    Args:
        embedding_dim: Model width D.
        hidden_dim: Hidden width of the feedforward.
        num_layers: Blocks that a state passes through.
        attention: Makes the attention layer of one block; returns None for blocks without attention.
        dropout: Probability of dropout on attention branches and in feedforwards.
        tied_weights: One block is passed through `num_layers` times: its gradient is the sum over the passes, and each
            pass has dropout masks of its own. The final norm is apart.
    """

    def __init__(
        self,
        embedding_dim: int,
        hidden_dim: int,
        num_layers: int,
        attention: Callable[[], AttentionLayer | None],
        *,
        dropout: float = 0.0,
        tied_weights: bool = False,
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.blocks = nn.ModuleList(
            EncoderBlock(embedding_dim, hidden_dim, attention(), dropout)
            for _ in range(1 if tied_weights else num_layers)
        )
        self.norm = nn.LayerNorm(embedding_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                initialise_linear(module)

    def forward(self, x: Tensor, valid: Tensor | None, salt: int = 0) -> Tensor:
        """Return the final states.

        Args:
            x: Embedded tokens `[B, S, D]`.
            valid: `[B, S]` bool, False where a token is padding; None when all are valid.
            salt: Tells several passes of the same rows apart; a multiple of a number above `num_layers`.

        Returns:
            `[B, S, D]`; where a token is padding they mean nothing.
        """
        for number in range(self.num_layers):
            x = self.blocks[number % len(self.blocks)](x, valid, salt=salt + number)
        return self.norm(x)


def initialise_linear(linear: nn.Linear) -> None:
    """Give a linear map its starting values: Xavier uniform weights, biases of zero."""
    nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
