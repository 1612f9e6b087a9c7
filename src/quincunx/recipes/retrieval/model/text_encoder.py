"""One side of a retrieval model: tokens -> states -> one vector, over any encoder of the transformers library.

B batch, S sequence, D width of the encoder, P width of the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from quincunx.errors import DataError, UsageError
from quincunx.nn.dropout import CounterDropout
from quincunx.nn.encoder import initialise_linear
from quincunx.nn.foreign import recomputing
from quincunx.nn.pooling import AttentionPool, cls_pool, last_pool, mean_pool
from quincunx.nn.pretrained.facts import is_causal, padding_id, position_limit
from quincunx.nn.pretrained.packed import Packed, packs, run_packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from quincunx.nn.pretrained import DenseLayer

Pooling = Literal["cls", "mean", "last", "attention", "none"]
POOLINGS: Mapping[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "cls": cls_pool,
    "mean": mean_pool,
    "last": last_pool,
}
"""Those without weights."""
PACKED: Mapping[str, Callable[[Packed], Tensor]] = {"cls": Packed.first, "mean": Packed.mean, "last": Packed.last}
"""The same of texts that lie behind one another."""
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "none": nn.Identity,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}


class Projection(nn.Module):
    """Linear maps with an activation after each, dropout before them: turns vectors of one width into another.

    Args:
        width: D of what comes in.
        layers: Width, bias and activation (a word of ACTIVATIONS) of each map.
        dropout: Probability of dropout on what comes in.
    """

    def __init__(self, width: int, layers: Sequence[tuple[int, bool, str]], dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = CounterDropout(dropout)
        self.maps = nn.ModuleList()
        self.activations = nn.ModuleList(ACTIVATIONS[activation]() for _, _, activation in layers)
        for out, bias, _ in layers:
            linear = nn.Linear(width, out, bias=bias)
            initialise_linear(linear)
            self.maps.append(linear)
            width = out
        self.width = width

    def forward(self, vectors: Tensor) -> Tensor:
        """Return `[B, ..., P]` of vectors `[B, ..., D]`."""
        vectors = self.dropout(vectors)
        for linear, activation in zip(self.maps, self.activations, strict=True):
            vectors = activation(linear(vectors))
        return vectors

    @classmethod
    def linear(cls, width: int, out: int, *, bias: bool = True, dropout: float = 0.0) -> Projection:
        """Return a single map D -> P."""
        return cls(width, [(out, bias, "none")], dropout)

    @classmethod
    def mlp(
        cls, width: int, out: int, *, hidden: int | None = None, bias: bool = True, dropout: float = 0.0
    ) -> Projection:
        """Return two maps D -> hidden -> P with a GELU between; `hidden` None: D."""
        return cls(width, [(hidden or width, bias, "gelu"), (out, bias, "none")], dropout)

    @classmethod
    def saved(cls, layers: Sequence[DenseLayer]) -> Projection:
        """Return the projection of a folder of sentence-transformers, with its weights."""
        sizes = [(layer.weight.shape[0], layer.bias is not None, layer.activation) for layer in layers]
        made = cls(layers[0].weight.shape[1], sizes)
        with torch.no_grad():
            for linear, layer in zip(made.maps, layers, strict=True):
                assert isinstance(linear, nn.Linear)
                linear.weight.copy_(layer.weight)
                if layer.bias is not None:
                    linear.bias.copy_(layer.bias)
        return made


class TextEncoder(nn.Module):
    """An encoder, a pooling, and maybe a projection.

    Padding changes nothing: it is masked, and the ids at its places are replaced by the encoder's own padding id.
    Random masks inside the encoder are its own, from torch's generator.

    Args:
        backbone: A model of the transformers library that gives `last_hidden_state`.
        pooling: `cls`, `mean`, `last`, `attention` (one learned query); `none` where only the states are wanted.
        projection: Applied to the pooled vector.
        normalize: The vector is scaled to length 1.
        gradient_checkpointing: The encoder keeps the inputs of its layers only and recomputes the rest in the backward
            pass. Changes no value.

    Raises:
        UsageError: The encoder cannot do gradient checkpointing, the projection does not fit it, or `cls` was asked of
            a decoder.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        pooling: Pooling = "mean",
        *,
        projection: Projection | None = None,
        normalize: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in (*POOLINGS, "attention", "none"):
            raise UsageError(f"unknown pooling {pooling!r}: one of {', '.join(POOLINGS)}, attention, none")
        if pooling == "cls" and is_causal(backbone):
            raise UsageError(
                f"pooling cls would take the first state, but in {backbone.config.model_type!r} that token sees no "
                "other: pool by last"
            )
        self.backbone = backbone
        self.pooling = pooling
        self.attention_pool = AttentionPool(self.states_width) if pooling == "attention" else None
        self.projection = projection
        self.normalize = normalize
        self.limit = position_limit(backbone)
        self.padding = padding_id(backbone)
        if projection is not None and len(projection.maps):
            entry = projection.maps[0]
            assert isinstance(entry, nn.Linear)
            if entry.in_features != self.states_width:
                raise UsageError(
                    f"the projection takes vectors of width {entry.in_features}, the encoder gives {self.states_width}"
                )
        if gradient_checkpointing:
            switch_on_checkpointing(backbone)

    @property
    def states_width(self) -> int:
        """D: the width of the encoder's states."""
        return int(self.backbone.config.hidden_size)

    @property
    def width(self) -> int:
        """P: the width of the vectors."""
        return self.states_width if self.projection is None else self.projection.width

    def pads(self, device: torch.device) -> bool:
        """Return whether padding is computed on the device; see `quincunx.nn.pretrained.packed`."""
        return not packs(self.backbone, device)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector for each text.

        Args:
            tokens: Token ids `[B, S]`, padded at the end with anything.
            lengths: `[B]` int64: valid tokens of each row. Best left on the CPU, where they can be looked at without
                waiting for the device.

        Returns:
            `[B, P]`. A text without tokens counts as a vector of zeros, before the projection.

        Raises:
            DataError: The sequences are longer than the encoder's positions.
        """
        states, valid = self.read(tokens, lengths)
        if isinstance(states, Tensor):
            return self.head(self.pooled(states, valid))
        pool = PACKED.get(self.pooling)
        return self.head(self.pooled(states.padded(), valid) if pool is None else pool(states))

    def states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the encoder's states `[B, S, D]`; where a token is padding they mean nothing."""
        return self.masked_states(tokens, lengths)[0]

    def masked_states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the states `[B, S, D]` and which are valid `[B, S]`; None when all are known to be."""
        states, valid = self.read(tokens, lengths)
        return states if isinstance(states, Tensor) else states.padded(), valid

    def read(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor | Packed, Tensor | None]:
        """Return the states `[B, S, D]`, packed where no padding is computed; which are valid as in `masked_states`."""
        valid = valid_tokens(tokens, lengths)
        if valid is not None and not self.pads(tokens.device) and bool((lengths > 0).any()):
            check_length(self.backbone, tokens, self.limit)
            return run_packed(self.backbone, tokens, lengths), valid
        return run_backbone(self.backbone, tokens, valid, self.padding, self.limit).last_hidden_state, valid

    def pooled(self, states: Tensor, valid: Tensor | None) -> Tensor:
        """Return `[B, D]` of states `[B, S, D]`."""
        if self.pooling == "none":
            raise RuntimeError("this text encoder was made without a pooling: it gives states only")
        pool = self.attention_pool if self.attention_pool is not None else POOLINGS[self.pooling]
        return pool(states, valid)

    def head(self, vectors: Tensor) -> Tensor:
        """Return `[B, ..., P]` of pooled vectors `[B, ..., D]`: projected and scaled, as asked for."""
        if self.projection is not None:
            vectors = self.projection(vectors)
        return nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the encoder in place, so that names in checkpoints stay as they are; arguments of torch.compile."""
        self.backbone.compile(*args, **kwargs)


def valid_tokens(tokens: Tensor, lengths: Tensor) -> Tensor | None:
    """Return `[B, S]` bool, False where a token is padding; None when the lengths, on the CPU, say that none is."""
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling() and bool((lengths >= tokens.shape[1]).all()):
        return None
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths.to(tokens.device)[:, None]


def run_backbone(
    backbone: PreTrainedModel, tokens: Tensor, valid: Tensor | None, padding: int, limit: int | None, **inputs: Any
) -> Any:
    """Return what the model makes of tokens `[B, S]`, `valid [B, S]` as its mask; further inputs are handed on.

    Raises:
        DataError: The sequences are longer than `limit`.
    """
    check_length(backbone, tokens, limit)
    if valid is not None:
        tokens = tokens.masked_fill(~valid, padding)
        # a row without tokens would attend to nothing, which some kernels answer with NaN: it looks at one padding
        seen = valid.clone()
        seen[:, :1] = True
        inputs["attention_mask"] = seen.long()
    return backbone(input_ids=tokens.long(), **inputs)


def check_length(backbone: PreTrainedModel, tokens: Tensor, limit: int | None) -> None:
    """Refuse sequences that are longer than the positions that a model knows, with a DataError."""
    if limit is not None and tokens.shape[1] > limit:
        raise DataError(
            f"a text of {tokens.shape[1]} tokens is longer than the {limit} positions of the encoder "
            f"({backbone.config.model_type}): lower max_length"
        )


def switch_on_checkpointing(model: PreTrainedModel) -> None:
    """Let a model recompute its layers in the backward pass; UsageError when it cannot."""
    if not model.supports_gradient_checkpointing:
        raise UsageError(
            f"the architecture {model.config.model_type!r} cannot do gradient checkpointing: leave it off, use chunks"
        )
    # the second is its older name, which later versions of the library warn of
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False, "context_fn": partial(recomputing, model)})
