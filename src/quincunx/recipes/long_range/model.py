"""The models of the Long Range Arena: one trunk, and a head that classifies sequences or restores masked tokens.

The trunk is the same for every attention kind, so that a comparison of kinds compares nothing else.
B batch, S sequence, D model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.nn.attention import NoAttention, attention_core
from quincunx.nn.attention.layer import AttentionLayer
from quincunx.nn.dropout import CounterDropout
from quincunx.nn.encoder import Encoder, initialise_linear
from quincunx.nn.pooling import cls_pool, mean_pool
from quincunx.nn.positions import Positions, PositionTable
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.source import PADDING
from quincunx.recipes.long_range.tasks import TASKS

SECOND = 1 << 16
"""Added to the salt of random masks for the second sequence of a pair: its masks are its own."""


class Trunk(nn.Module):
    """Embeddings, positions, encoder.

    Dropout (`encoder.dropout`) is on the embeddings, on each block's attention branch, inside and after its
    feedforward; `encoder.attention_dropout` on the output of each attention layer, before the branch's own.
    With pooling `cls`, a token with id `vocab_size - 1` comes first, at position 0, and the others move by one; the
    position table has one row more for it.

    Starting values: linear maps as in `Encoder`; embeddings N(0, 0.02²) beside learned positions, which start alike,
    and N(0, 1) beside fixed and random ones, which would otherwise drown the tokens.

    Args:
        config: The whole config, checked and decided; `encoder` and `attention` are read.
    """

    def __init__(self, config: LongRangeConfig) -> None:
        super().__init__()
        encoder = config.encoder
        assert encoder.vocab_size is not None and encoder.max_seq_len is not None  # decided by the recipe
        self.cls_token = encoder.vocab_size - 1 if encoder.pooling == "cls" else None
        learned = encoder.positions == "learned"
        self.embedding = nn.Embedding(encoder.vocab_size, encoder.embedding_dim, padding_idx=PADDING)
        self.positions = position_table(config)
        self.embedding_dropout = CounterDropout(encoder.dropout)
        self.encoder = Encoder(
            encoder.embedding_dim,
            encoder.hidden_dim,
            encoder.num_layers,
            attention=lambda: attention_layer(config),
            dropout=encoder.dropout,
            tied_weights=encoder.tied_weights,
        )
        with torch.no_grad():
            nn.init.normal_(self.embedding.weight, std=0.02 if learned else 1.0)
            self.embedding.weight[PADDING] = 0

    def states(
        self,
        tokens: Tensor,
        lengths: Tensor,
        padded: bool | None = None,
        salt: int = 0,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the final states `[B, S, D]`, one more with a cls token, and which are valid; None: all.

        Args:
            tokens: Token ids `[B, S]`, int64, PADDING after each sequence's end.
            lengths: `[B]` int64: valid tokens of each row. Best left on the CPU, where they can be looked at without
                waiting for the device.
            padded: False promises that all lengths are S, which saves the mask. None finds out when the lengths lie on
                the CPU and the model is not being compiled, and otherwise takes them for padded.
            salt: Tells passes of the same rows through the trunk apart.
            positions: `[B, S]`: the number of each token, where positions are sampled. None: they are counted.

        Raises:
            DataError: The sequences are longer than the position table.
        """
        if padded is None and lengths.device.type == "cpu" and not torch.compiler.is_compiling():
            padded = bool((lengths < tokens.shape[1]).any())
        if self.cls_token is not None:
            tokens = torch.cat([tokens.new_full((tokens.shape[0], 1), self.cls_token), tokens], dim=1)
            lengths = lengths + 1
        valid = None
        if padded is not False:
            valid = torch.arange(tokens.shape[1], device=tokens.device) < lengths.to(tokens.device)[:, None]
        x = self.embedding_dropout(self._placed(self.embedding(tokens), positions), salt)
        return self.encoder(x, valid, salt), valid

    def _placed(self, x: Tensor, positions: Tensor | None) -> Tensor:
        """Return embeddings `[B, S, D]` (a cls token's included) with the vectors of their positions added."""
        if isinstance(self.positions, Positions):
            return self.positions(x)
        if positions is None:
            return x + self.positions(torch.arange(x.shape[1], device=x.device)[None])
        if self.cls_token is not None:
            positions = functional.pad(positions + 1, (1, 0))
        return x + self.positions(positions)

    def pooled(
        self,
        tokens: Tensor,
        lengths: Tensor,
        padded: bool | None = None,
        salt: int = 0,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Return one vector a sequence `[B, D]`; arguments as in `states`."""
        states, valid = self.states(tokens, lengths, padded, salt, positions)
        return mean_pool(states, valid) if self.cls_token is None else cls_pool(states)

    def checkpointing_note(self) -> str | None:
        """Return why the gradient checkpointing that the config asks for saves no memory, if so."""
        for module in self.modules():
            if isinstance(module, AttentionLayer):
                return module.checkpointing_note()
        return None


class LongRangeClassifier(Trunk):
    """Classifies sequences, or pairs of them: one trunk reads both, and the head sees a, b, a · b and a − b.

    Args:
        config: The whole config, checked and decided; `task`, `encoder` and `attention` are read.
    """

    def __init__(self, config: LongRangeConfig) -> None:
        super().__init__(config)
        encoder = config.encoder
        assert encoder.num_classes is not None
        self.parts = TASKS[config.task].parts
        width = encoder.embedding_dim * (4 if self.parts == 2 else 1)
        self.classifier = nn.Sequential(
            nn.Linear(width, encoder.hidden_dim), nn.ReLU(), nn.Linear(encoder.hidden_dim, encoder.num_classes)
        )
        for module in self.classifier:
            if isinstance(module, nn.Linear):
                initialise_linear(module)

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor,
        padded: bool | None = None,
        second_tokens: Tensor | None = None,
        second_lengths: Tensor | None = None,
        positions: Tensor | None = None,
        second_positions: Tensor | None = None,
    ) -> Tensor:
        """Return logits `[B, classes]`; padding further changes nothing.

        Args:
            tokens: Token ids `[B, S]`, int64, PADDING after each sequence's end.
            lengths: `[B]` int64: valid tokens of each row; see `Trunk.states`.
            padded: False promises that all lengths are S; see `Trunk.states`.
            second_tokens: Of pairs, the second sequences `[B, S]`.
            second_lengths: Of pairs, their valid tokens `[B]`.
            positions: `[B, S]`: the number of each token, where positions are sampled; see `Trunk.states`.
            second_positions: Of pairs, those of the second sequences.

        Raises:
            DataError: The sequences are longer than the position table.
        """
        pooled = self.pooled(tokens, lengths, padded, positions=positions)
        if self.parts == 2:
            assert second_tokens is not None and second_lengths is not None
            other = self.pooled(second_tokens, second_lengths, padded, SECOND, second_positions)
            pooled = torch.cat([pooled, other, pooled * other, pooled - other], dim=-1)
        return self.classifier(pooled)


class LongRangeDenoiser(Trunk):
    """Says for every token of a sequence what it was before it was masked.

    Args:
        config: The whole config, checked and decided; `encoder` and `attention` are read.
    """

    def __init__(self, config: LongRangeConfig) -> None:
        super().__init__(config)
        encoder = config.encoder
        assert encoder.vocab_size is not None
        self.restore = nn.Linear(encoder.embedding_dim, encoder.vocab_size)
        initialise_linear(self.restore)

    def forward(self, tokens: Tensor, lengths: Tensor, chosen: Tensor, positions: Tensor | None = None) -> Tensor:
        """Return logits `[M, vocabulary]` for the M tokens that `chosen [B, S]` marks, row by row.

        Other arguments as in `Trunk.states`.
        """
        states, _ = self.states(tokens, lengths, positions=positions)
        if self.cls_token is not None:
            states = states[:, 1:]
        return self.restore(states[chosen])


def position_table(config: LongRangeConfig) -> Positions | PositionTable:
    """Return the table of the chosen positions: counted ones bring their numbers along, sampled ones are given them."""
    encoder = config.encoder
    assert encoder.max_seq_len is not None
    kind, width, first = encoder.positions, encoder.embedding_dim, int(encoder.pooling == "cls")
    sampled = encoder.position_sampling != "none"
    if kind != "random" and not sampled:
        return Positions(encoder.max_seq_len + first, width, kind == "learned")
    rows = encoder.max_seq_len
    if sampled:
        assert encoder.position_range is not None
        rows = encoder.position_range
    if kind == "learned":
        return PositionTable("random", rows + first, width, learnable=True, scale=0.02)
    return PositionTable("sinusoidal" if kind == "fixed" else "random", rows + first, width)


def attention_layer(config: LongRangeConfig) -> AttentionLayer | None:
    """Return a new attention layer of the chosen kind, softmax where none is chosen; None for kind `none`."""
    kind = config.attention.kind or "softmax"
    options: dict[str, Any] = {}
    section = getattr(config.attention.options, kind.replace("-", "_"), None)
    if section is not None:
        options = section.model_dump()
    grad_checkpointing = options.pop("grad_checkpointing", False)
    encoder = config.encoder
    core = attention_core(kind, encoder.num_heads, encoder.head_dim, {"causal": config.attention.causal, **options})
    if isinstance(core, NoAttention):
        return None
    return AttentionLayer(encoder.embedding_dim, core, encoder.attention_dropout, grad_checkpointing)
