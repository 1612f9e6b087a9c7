"""One encoder over words and visual tokens, round the stock encoder of a Hugging Face encoder-decoder.

            a b c . [] []  v v v  .             words S, padding, visual tokens V, padding
    BART    positions and norm of embeddings on words alone (or the norm on both)
    T5      relative position bias from words to words, zero for every pair that touches a visual token

These are VL-BART and VL-T5 as published (Cho et al., ICML 2021); the stock encoder's own forward is the way, with small
modules in place of BART's positions and norm, and T5's first attention handed its bias. Whatever stands before the
words (a soft prompt) counts as words.
B examples, S words, V visual tokens, L = S + V, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import DataError, UsageError
from quincunx.nn.rows import Columns, RowAware
from quincunx.recipes.vision_language.model.rows import Rows

FAMILIES: Mapping[str, str] = {"t5": "t5", "mt5": "t5", "bart": "bart", "mbart": "bart", "plbart": "bart"}
"""Architecture -> whose encoder it has; the others are left as they are."""
FIRST_VISUAL = 1 << 20
"""Number of the first visual token's column; more words than that there are never."""
COUNT = "quincunx_visual_tokens"
"""What T5's layers are told the number of visual tokens as; not called anything that a library may know."""


@dataclass(frozen=True)
class JointOptions:
    """What the encoder makes of visual tokens."""

    positions: Literal["none", "learned"] = "none"
    """BART: whether visual tokens have positions, those after the words'."""
    norm: Literal["own", "shared"] = "own"
    """BART: whether the norm of embeddings goes over words alone, or over visual tokens too."""
    bias: Literal["zero", "relative"] = "zero"
    """T5: whether pairs with a visual token have no position bias, or that of their distance."""


CHOICES: Mapping[str, tuple[str, str, str]] = {
    "positions": ("bart", "none", "learned"),
    "norm": ("bart", "own", "shared"),
    "bias": ("t5", "zero", "relative"),
}
"""Option -> the family that has it, and its words, the one that is meant where nothing is said first."""


@dataclass(frozen=True)
class Encoded:
    """What the encoder gives."""

    states: Tensor
    """`[B, L, D]`; longer where a soft prompt stands before the words."""
    mask: Tensor
    """`[B, L]`, 1 where there is a token."""
    columns: Tensor | None = None
    """Numbers of the columns `[L]`, words and visual tokens each from a number of their own, since padding stands
    between them; None: 0, 1, 2 and so on."""


class Boundary:
    """Where words end in the pass at hand: set before, forgotten after it.

    Copies of a model, and of single modules in it, keep looking at the same one: it holds nothing between passes.
    """

    def __init__(self) -> None:
        self.visual = 0
        """V."""
        self.places: Tensor | None = None
        """Which tokens are visual, bool `[1 or B, L]`; None: none."""

    def __deepcopy__(self, memo: Any) -> Boundary:
        return self


class TextPositions(nn.Embedding):
    """BART's table of positions, with none for visual tokens. It has the stock table's weight under the same name."""

    def __init__(self, table: Any, boundary: Boundary) -> None:
        super().__init__(*table.weight.shape, device="meta")
        self.weight = table.weight
        self.offset: int = table.offset
        self._boundary = boundary

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return `[B, L, D]` for an input `[B, L]`, of which the shape counts."""
        words = input.shape[1] - self._boundary.visual
        found = functional.embedding(torch.arange(words, device=self.weight.device) + self.offset, self.weight)
        return functional.pad(found, (0, 0, 0, self._boundary.visual)).expand(len(input), -1, -1)


class TextLayerNorm(nn.LayerNorm):
    """BART's norm of embeddings, which leaves visual tokens as they are. It has the stock norm's weights."""

    def __init__(self, norm: nn.LayerNorm, boundary: Boundary) -> None:
        super().__init__(list(norm.normalized_shape), norm.eps, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self._boundary = boundary

    def forward(self, input: Tensor) -> Tensor:
        """Return `[B, L, D]`."""
        normed = super().forward(input)
        places = self._boundary.places
        return normed if places is None else torch.where(places[..., None], input.to(normed.dtype), normed)


class TextBias:
    """Hands T5's attention the position bias of its words, where it would make one of all its tokens.

    The number of visual tokens comes as an argument of the layer, so that a layer that is computed again in the
    backward pass has that of its own first pass.
    """

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        visual = kwargs.pop(COUNT, 0)
        if visual and kwargs.get("position_bias") is None and module.has_relative_attention_bias:
            states: Tensor = args[0] if args else kwargs["hidden_states"]
            words = states.shape[1] - visual
            bias = module.compute_bias(words, words, device=states.device)
            kwargs["position_bias"] = functional.pad(bias, (0, visual, 0, visual))
        return args, kwargs


class JointEncoder:
    """Runs a backbone's encoder over words and visual tokens.

    Without visual tokens the backbone is as it was; its weights keep their names.

    Args:
        backbone: A Hugging Face encoder-decoder, before adapters are put into it; changed in place.
        options: What is made of visual tokens.
        rows: Knows the rows at hand, which are told how columns are numbered; unset: nobody is told.

    Raises:
        UsageError: The backbone is no encoder-decoder, was prepared before, or has no use for an option.
    """

    def __init__(self, backbone: Any, options: JointOptions | None = None, rows: RowAware | None = None) -> None:
        options = options or JointOptions()
        config = getattr(backbone, "config", None)
        if not getattr(config, "is_encoder_decoder", False):
            raise UsageError(
                f"{type(backbone).__name__} is no encoder-decoder of Hugging Face: choose one, as T5 or BART"
            )
        kind = str(getattr(config, "model_type", ""))
        self.family = FAMILIES.get(kind, "")
        self.options = options
        self.notes: tuple[str, ...] = ()
        self._backbone = backbone
        self._rows = rows
        self._boundary = Boundary()
        self._check(kind)
        encoder: Any = backbone.get_encoder()
        if self.family == "bart":
            if isinstance(encoder.embed_positions, TextPositions) or isinstance(
                encoder.layernorm_embedding, TextLayerNorm
            ):
                raise UsageError("this backbone has a joint encoder already: build one model of it")
            if options.positions == "none":
                encoder.embed_positions = TextPositions(encoder.embed_positions, self._boundary)
            if options.norm == "own" and isinstance(encoder.layernorm_embedding, nn.LayerNorm):
                encoder.layernorm_embedding = TextLayerNorm(encoder.layernorm_embedding, self._boundary)
            encoder.train(encoder.training)
        elif self.family == "t5" and options.bias == "zero":
            attentions = [block.layer[0].SelfAttention for block in encoder.block]
            if any(isinstance(hook, TextBias) for hook in attentions[0]._forward_pre_hooks.values()):
                raise UsageError("this backbone has a joint encoder already: build one model of it")
            for attention in attentions:
                attention.register_forward_pre_hook(TextBias(), with_kwargs=True)
        else:
            self.notes = (
                f"{kind}: visual tokens have positions like words, those after the words', in the encoder's own way",
            )

    @property
    def packs(self) -> bool:
        """Whether padding must stand behind everything, since positions of visual tokens would count it."""
        if self.family == "bart":
            return self.options.positions == "learned"
        return self.family != "t5" or self.options.bias == "relative"

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None = None, visual: Rows | None = None) -> Encoded:
        """Return the encoder's states.

        Args:
            input_ids: `[B, S]`.
            attention_mask: `[B, S]`, 1 where there is a word; None: everywhere.
            visual: Visual tokens, their features `[B, V, D]`; None: words alone.

        Raises:
            DataError: More tokens than the encoder has positions.
        """
        encoder: Any = self._backbone.get_encoder()
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        count = 0 if visual is None else visual.mask.shape[1]
        self._fits(encoder, input_ids.shape[1], count)
        if visual is None or not count:
            return Encoded(encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state, mask)
        words: Tensor = encoder.get_input_embeddings()(input_ids)
        tokens = torch.cat([words, visual.features.to(words.dtype)], 1)
        mask = torch.cat([mask, visual.mask.to(mask.dtype)], 1)
        numbers = torch.arange(tokens.shape[1], device=tokens.device)
        places = (numbers >= input_ids.shape[1])[None]
        columns = None
        if self.packs:
            order = (mask == 0).to(torch.uint8).argsort(dim=1, stable=True)
            tokens = tokens.gather(1, order[..., None].expand_as(tokens))
            mask, places = mask.gather(1, order), places.expand_as(order).gather(1, order)
        else:
            columns = torch.where(places[0], numbers - input_ids.shape[1] + FIRST_VISUAL, numbers)
        told = {COUNT: count} if self.family == "t5" and self.options.bias == "zero" else {}
        self._boundary.visual, self._boundary.places = count, places
        try:
            with nullcontext() if self._rows is None else self._rows.numbering(Columns(columns)):
                states = encoder(inputs_embeds=tokens, attention_mask=mask, **told).last_hidden_state
        finally:
            self._boundary.visual, self._boundary.places = 0, None
        return Encoded(states, mask, columns)

    def _check(self, kind: str) -> None:
        """Refuse options that mean nothing in this backbone."""
        for name, (family, *words) in CHOICES.items():
            value = getattr(self.options, name)
            if value not in words:
                raise UsageError(f"{name} must be {' or '.join(words)}, found {value!r}")
            if value != words[0] and self.family != family:
                raise UsageError(
                    f"{name}={value} of visual tokens is a choice that {family.upper()} has, and {kind} has not: "
                    "leave it out"
                )

    def _fits(self, encoder: Any, words: int, visual: int) -> None:
        if self.family != "bart":
            return
        limit = int(encoder.config.max_position_embeddings)
        needed = words + visual if self.options.positions == "learned" else words
        if needed > limit:
            what = "words and visual tokens" if needed > words else "words"
            raise DataError(f"a batch has {needed} {what}, and the encoder {limit} positions: cut texts shorter")
