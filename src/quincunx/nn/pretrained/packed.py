"""Attention of the transformers library's encoders as we compute it: without padding, and on a CPU in float32.

A batch of texts of many lengths is mostly padding. All parts of an encoder but attention look at one token at a time,
so the tokens of all texts are laid behind one another as one long sequence, and attention takes it apart again: texts
of equal length together, each seeing itself alone. No padding is computed anywhere.

B texts, S tokens of the longest, T tokens of all together, H heads, E width of a head, D width of the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from quincunx.nn.dropout import CounterDropout
from quincunx.nn.foreign import attention_weights
from quincunx.nn.pretrained.apart import attend_apart
from quincunx.nn.pretrained.facts import position_table
from quincunx.nn.rows import Tokens, context_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "quincunx"
"""Under which the library knows our attention."""
PACKABLE = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"})
"""Architectures that take a token's place in its text as an input, and look at others by plain attention alone."""


@dataclass(frozen=True)
class Packing:
    """How texts lie behind one another, shorter ones first."""

    rows: Tensor
    """Of each text in the batch `[B']`; those without a token are not among them."""
    places: Tensor
    """Of each token among the B times S of the padded batch `[T]`."""
    positions: Tensor
    """Of each token in its text `[T]`."""
    groups: Sequence[tuple[int, int]]
    """(texts, tokens of each): texts of equal length, in this order."""

    @classmethod
    def of(cls, lengths: Tensor, longest: int) -> Packing:
        """Return the packing of texts of so many tokens `[B]`, padded to `longest`; empty texts have no part in it."""
        lengths = lengths.cpu()
        order = torch.argsort(lengths, stable=True)
        sizes = lengths[order]
        inside = torch.arange(longest) < sizes[:, None]
        rows, positions = inside.nonzero(as_tuple=True)
        found, counts = sizes[sizes > 0].unique_consecutive(return_counts=True)
        groups = list(zip(counts.tolist(), found.tolist(), strict=True))
        return cls(order[sizes > 0], order[rows] * longest + positions, positions, groups)

    def __len__(self) -> int:
        return len(self.places)

    def tokens(self, longest: int) -> Tokens:
        """Return of which text each token is, of those of a batch padded to `longest`, and its place there."""
        return Tokens(self.places // longest, self.positions)

    @property
    def ends(self) -> Tensor:
        """Behind the last token of each text `[B']`."""
        return torch.cat([torch.full((count,), size) for count, size in self.groups]).cumsum(0)


@dataclass(frozen=True)
class Packed:
    """The states of texts behind one another, and what can be taken from them without laying them out again."""

    states: Tensor
    """`[T, D]`."""
    packing: Packing
    batch: int
    """B."""
    longest: int
    """S."""

    def padded(self) -> Tensor:
        """Return `[B, S, D]`; zeros where a token is padding."""
        whole = self.states.new_zeros(self.batch * self.longest, self.states.shape[-1])
        return whole.index_copy(0, self.packing.places, self.states).view(self.batch, self.longest, -1)

    def first(self) -> Tensor:
        """Return the state of each text's first token `[B, D]`; zeros where it has none."""
        starts = torch.cat([self.packing.ends.new_zeros(1), self.packing.ends[:-1]])
        return self._in_place(self.states[starts])

    def last(self) -> Tensor:
        """Return the state of each text's last token `[B, D]`; zeros where it has none."""
        return self._in_place(self.states[self.packing.ends - 1])

    def mean(self) -> Tensor:
        """Return the mean of each text's states `[B, D]`, half precision summed in float32; zeros where it has none."""
        dtype = torch.promote_types(self.states.dtype, torch.float32)
        parts = self.states.split([count * size for count, size in self.packing.groups])
        means = [
            part.unflatten(0, group).mean(dim=1, dtype=dtype)
            for part, group in zip(parts, self.packing.groups, strict=True)
        ]
        return self._in_place(torch.cat(means).to(self.states.dtype))

    def _in_place(self, vectors: Tensor) -> Tensor:
        """Return `[B, D]` of the vectors `[B', D]` of texts that have a token."""
        return vectors.new_zeros(self.batch, vectors.shape[1]).index_copy(0, self.packing.rows, vectors)


def use(model: PreTrainedModel) -> None:
    """Let a model compute attention here where it would by `sdpa`; the same values, up to rounding."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if model.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def packs(model: Any, device: torch.device) -> bool:
    """Return whether the model's texts can be laid behind one another, and that pays on the device.

    On other devices than a CPU a kernel is started for each length, which costs more than padding; and a compiled model
    would be compiled anew for every batch. Adapters that put learnt tokens before each text, or look at a row as one
    example's, see one text here.
    """
    adapters: Any = getattr(model, "peft_config", None)
    for each in (adapters or {}).values():
        if getattr(each, "is_prompt_learning", False) or not getattr(each, "packs", True):
            return False
    return (
        device.type == "cpu"
        and model.config.model_type in PACKABLE
        and model.config._attn_implementation == NAME
        and getattr(model, "_compiled_call_impl", None) is None
    )


def run_packed(model: Any, tokens: Tensor, lengths: Tensor) -> Packed:
    """Return the last states of texts `[B, S]` of so many tokens `[B]`, one of them at least not empty."""
    batch, longest = tokens.shape
    packing = Packing.of(lengths, longest)
    table = position_table(model)
    # with a row for padding, positions are numbered from the one after it
    first = 0 if table is None or table.padding_idx is None else table.padding_idx + 1
    context = context_of(model)
    with nullcontext() if context is None else context.laid_out(packing.tokens(longest)):
        found = model(
            input_ids=tokens.reshape(-1)[packing.places][None].long(),
            position_ids=(packing.positions + first)[None],
            packing=packing,
        ).last_hidden_state[0]
    return Packed(found, packing, batch, longest)


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Return what attention gives for `[B, H, S, E]`, as `[B, S, H, E]`; with `packing` B is 1 and S is T.

    On a CPU half precisions are computed in float32, whose kernel is faster there. Dropout forms the weights
    `[B, H, S, S]`, since the fused kernel's own would change with the chunk.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    kind = query.dtype
    packing: Packing | None = options.pop("packing", None)
    scale: float | None = options.get("scaling")
    dropout = getattr(module, "dropout", None)
    if not (isinstance(dropout, CounterDropout) and dropout.training):
        dropout = None
    with torch.autocast(query.device.type, enabled=False):
        if packing is not None:
            q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
            dropped = None if dropout is None else (dropout, dropout.attached().known()[packing.rows])
            return attend_apart(q, k, v, packing.groups, scale, dropped)[None], None
        # adapters may give one of them in float32 where the others are halved
        if query.device.type == "cpu" and {query.dtype, key.dtype, value.dtype} & {torch.bfloat16, torch.float16}:
            query, key, value = query.float(), key.float(), value.float()
            if attention_mask is not None and attention_mask.is_floating_point():
                attention_mask = attention_mask.float()
        if dropout is None:
            found = sdpa_attention_forward(module, query, key, value, attention_mask, **options)[0]
        else:
            causal = options.get("is_causal")
            causal = getattr(module, "is_causal", True) if causal is None else causal
            causal = bool(causal) and attention_mask is None and query.shape[2] > 1
            weights = attention_weights(query, key, attention_mask, causal, scale)
            found = (dropout(weights) @ value.to(weights.dtype)).transpose(1, 2)
    return found.to(kind), None
