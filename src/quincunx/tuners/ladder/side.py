"""The side network of a ladder (Y.-L. Sung, J. Cho, M. Bansal, LST, NeurIPS 2022, section 3.2).

z_0 = down_0(h_0); z <- block_i((1 - g_i) z + g_i down_i(h_i)) with g_i = sigmoid(alpha_i / temperature) beside each
layer with states h_i; at last up(norm(z)) is added to the last layer's states, and begins at zero. The network has no
positions of its own: the layers' states carry theirs. All its maps but `up` begin Xavier uniform with biases of zero
(the paper prunes the layers' weights instead).
B batch, S positions, M of the encoder, D width of the stack, R of the side network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.nn.encoder import initialise_linear
from quincunx.nn.pretrained import packed
from quincunx.tuners.ladder.config import LadderConfig
from quincunx.tuners.ladder.view import View
from quincunx.tuners.residual import ACTIVATIONS


class Past(Protocol):
    """Keys and values of the tokens before."""

    def update(self, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of new tokens `[B, H, S, E]`, and return all."""
        ...


class SideAttention(nn.Module):
    """Attention over the tokens of a text, or over another's; keys have no bias, which softmax would not feel."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, view: View, memory: Tensor | None = None, past: Past | None = None) -> Tensor:
        """Return `[B, S, R]` for states `[B, S, R]`, looking at `memory [B, M, R]` where it is given."""
        source = x if memory is None else memory
        query, key, value = (
            each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for each in (self.query(x), self.key(source), self.value(source))
        )
        if past is not None:
            key, value = past.update(key, value)
        if view.packing is not None:
            found = packed.attention(self, query, key, value, None, packing=view.packing)[0]
        else:
            found = functional.scaled_dot_product_attention(query, key, value, view.mask).transpose(1, 2)
        return self.output(found.flatten(2))


class SideBlock(nn.Module):
    """Attention, attention over the encoder's side states, feedforward, each after a norm and added."""

    def __init__(self, width: int, num_heads: int, cross: bool, config: LadderConfig) -> None:
        super().__init__()
        hidden = max(1, int(width * config.feedforward_factor))
        # transformers renames whatever is called attention.query in files for some models, adapters' own included
        self.within_norm = nn.LayerNorm(width)
        self.within = SideAttention(width, num_heads)
        self.across_norm = nn.LayerNorm(width) if cross else None
        self.across = SideAttention(width, num_heads) if cross else None
        self.feedforward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)
        self._activation = ACTIVATIONS[config.activation]

    def forward(
        self, x: Tensor, view: View, memory: Tensor | None, memory_view: View, past: Past | None = None
    ) -> Tensor:
        """Return the next states `[B, S, R]`."""
        x = x + self.dropout(self.within(self.within_norm(x), view, past=past))
        if self.across is not None and self.across_norm is not None and memory is not None:
            x = x + self.dropout(self.across(self.across_norm(x), memory_view, memory))
        return x + self.dropout(self.narrow(self._activation(self.widen(self.feedforward_norm(x)))))


class SideNetwork(nn.Module):
    """The side network of one stack.

    Args:
        width: Of the stack's states D.
        blocks: How many layers it stands beside.
        config: The options.
        cross: Whether its blocks look at an encoder's states.
        memory_width: Of those, where they come from the frozen encoder itself; None: from its side network.
        ends: Whether something is added to the stack's last states; an encoder whose decoder has a side network adds
            nothing, so that the decoder's frozen layers see what they are used to.
    """

    def __init__(
        self, width: int, blocks: int, config: LadderConfig, *, cross: bool, memory_width: int | None, ends: bool
    ) -> None:
        super().__init__()
        narrow = int(width / config.reduction_factor)
        heads = config.num_heads or next(h for h in range(max(1, narrow // 32), 0, -1) if narrow % h == 0)
        self.temperature = config.temperature
        self.downs = nn.ModuleList(nn.Linear(width, narrow) for _ in range(blocks + 1))
        self.gates = nn.Parameter(torch.zeros(blocks))
        self.blocks = nn.ModuleList(SideBlock(narrow, heads, cross, config) for _ in range(blocks))
        self.norm = nn.LayerNorm(narrow)
        self.memory_down = None if memory_width is None else nn.Linear(memory_width, narrow)
        self.up = nn.Linear(narrow, width) if ends else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                initialise_linear(module)
        if self.up is not None:
            nn.init.zeros_(self.up.weight)

    def forward(
        self,
        entry: Tensor,
        states: Sequence[Tensor],
        view: View,
        memory: Tensor | None = None,
        memory_view: View | None = None,
        pasts: Sequence[Past] | None = None,
    ) -> Tensor:
        """Return the last side states `[B, S, R]`, after their norm.

        Args:
            entry: What the first layer is given `[B, S, D]`.
            states: What the layers beside this network give, `[B, S, D]` each.
            view: Who sees whom.
            memory: Side states of the encoder `[B, M, R]`, or its own where `memory_width` says so.
            memory_view: Who sees whom there.
            pasts: Keys and values of the tokens before, one for each block.
        """
        gates = torch.sigmoid(self.gates / self.temperature)
        if memory is not None and self.memory_down is not None:
            memory = self.memory_down(self._own(memory))
        side = self.downs[0](self._own(entry))
        for number, block in enumerate(self.blocks):
            let_in = self.downs[number + 1](self._own(states[number]))
            side = torch.lerp(side, let_in, gates[number].to(side.dtype))
            past = None if pasts is None else pasts[number]
            side = block(side, view, memory, memory_view or View(), past)
        return self.norm(side)

    def change(self, side: Tensor, like: Tensor) -> Tensor:
        """Return what is added to the stack's last states `[B, S, D]`."""
        assert self.up is not None
        return self.up(side).to(like.dtype)

    def _own(self, x: Tensor) -> Tensor:
        """Return states in the type of this network's weights; under autocast torch sees to it."""
        return x if torch.is_autocast_enabled(x.device.type) else x.to(self.norm.weight.dtype)
