"""The parts that put prompts before the input of a stack of layers, and keep masks, positions and caches right.

              prompt    text                         prompt    text
    encoder   p p p     a b c d .      decoder       p p p     <s> x y z
    mask      1 1 1     1 1 1 1 0      self          causal: text sees all of the prompt, the prompt itself only
    position  - - -     0 1 2 3 4      position      0 1 2     3 4 5 6
    states    kept for the decoder     states        left out: logits are those of the text

An encoder's prompt comes after embedding and positions, so that the text stands where it stood; a decoder's is what it
would be to run it first and go on from its cache, so that the text stands P later (both as VL-Adapter has them, Sung et
al., CVPR 2022). Relative positions count the prompt in either.
B examples, S positions, P length of a prompt, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Call, SiteAdapter
from quincunx.tuners.prompts.vectors import SoftVectors, Trunk

PER_TOKEN = ("token_type_ids", "mm_token_type_ids", "visual_pos_masks", "image_embeds_position_mask")
"""Arguments with a number for each token, 0 for a prompt's."""
POSITIONS = ("position_ids", "cache_position")


class Prompt(nn.Module):
    """The vectors of a prompt with the maps that they go through.

    Args:
        length: Number of vectors P.
        width: Their width D.
        mid_dim: Width between two maps; None or 0: no maps.
        tasks: Number of tasks with prompts of their own; None: one for all.
        std: Standard deviation of the numbers at the start.
    """

    def __init__(self, length: int, width: int, mid_dim: int | None, tasks: int | None, std: float) -> None:
        super().__init__()
        self.trunk = Trunk(length, width, mid_dim, tasks) if mid_dim else None
        self.vectors = SoftVectors(length, width, tasks=tasks, std=std, trunk=self.trunk)
        self.length = length

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the prompt followed by the embeddings: `[B, P + S, D]` of `[B, S, D]`."""
        return torch.cat([self.vectors(embeddings).to(embeddings.dtype), embeddings], 1)


class StackPart(SiteAdapter):
    """What parts round a stack of layers have in common: how its arguments are called, and what it embeds words by.

    Args:
        stack: The module that the part will stand round.
        names: Its arguments in their order.
    """

    def __init__(self, stack: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self._stack = (stack,)  # in a tuple: the model owns it
        self._names = names

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments by name."""
        return {**dict(zip(self._names, args, strict=False)), **kwargs}

    def put_in(self, prompt: Prompt, given: dict[str, Any]) -> None:
        """Put a prompt before the input among the arguments.

        Raises:
            UsageError: There is no input, or there are two.
        """
        words, embeddings = given.pop("input_ids", None), given.get("inputs_embeds")
        if (words is None) == (embeddings is None):
            raise UsageError("a prompt stands before input_ids or inputs_embeds: give one of them, and not both")
        if embeddings is None:
            stack: Any = self._stack[0]
            embeddings = stack.get_input_embeddings()(words)
        given["inputs_embeds"] = prompt(embeddings)
        for name in PER_TOKEN:
            if given.get(name) is not None:
                given[name] = functional.pad(given[name], (prompt.length, 0))


class EncoderPart(StackPart):
    """Puts a prompt before what an encoder reads.

    Args:
        stack: The encoder.
        names: Its arguments in their order.
        prompt: What stands before the input.
        keeps: Whether the prompt's states stay in the output, for a decoder that knows of them.
    """

    def __init__(self, stack: nn.Module, names: tuple[str, ...], prompt: Prompt, *, keeps: bool) -> None:
        super().__init__(stack, names)
        self.prompt = prompt
        self._keeps = keeps

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Any:
        """Return the encoder's output, `[B, P + S, D]` or `[B, S, D]`."""
        given = self.named(args, kwargs)
        self.put_in(self.prompt, given)
        given["attention_mask"] = longer_mask(given.get("attention_mask"), self.prompt.length)
        if given.get("position_ids") is not None:  # rotary ones, of which differences count: as without them
            given["position_ids"] = with_positions(given["position_ids"] + self.prompt.length, self.prompt.length)
        output = base(**given)
        return output if self._keeps else without_prompt(output, self.prompt.length)


class DecoderPart(StackPart):
    """Puts a prompt before what a decoder reads first, and lets it see the states of its encoder's prompt.

    Args:
        stack: The decoder.
        names: Its arguments in their order.
        prompt: What stands before the input; None: nothing does.
        encoder_length: Length of the encoder's prompt, 0 for none.
    """

    def __init__(self, stack: nn.Module, names: tuple[str, ...], prompt: Prompt | None, encoder_length: int) -> None:
        super().__init__(stack, names)
        self.prompt = prompt
        self._encoder_length = encoder_length

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Any:
        """Return the decoder's output for the text alone; a cache holds the prompt too, once."""
        given = self.named(args, kwargs)
        self._see_encoder(given)
        if self.prompt is None:
            return base(**given)
        length, past = self.prompt.length, _past(given.get("past_key_values"))
        new = next((given[name].shape[1] for name in ("input_ids", "inputs_embeds") if given.get(name) is not None), 0)
        mask = given.get("attention_mask")
        given["attention_mask"] = longer_mask(mask, length)
        if past and mask is not None and mask.shape[1] + length > past + new:
            raise UsageError(
                f"attention_mask is {mask.shape[1]} long, for {new} new tokens and a cache of {past} positions, in "
                f"which a prompt of {length} is missing: give the cache that this adapter filled, the tokens alone "
                "that it does not hold, and the mask of the whole text"
            )
        for name in POSITIONS:
            if given.get(name) is not None:
                moved = given[name] + length
                given[name] = moved if past else with_positions(moved, length)
        if past:
            return base(**given)
        self.put_in(self.prompt, given)
        return without_prompt(base(**given), length)

    def _see_encoder(self, given: dict[str, Any]) -> None:
        """Make the mask of the encoder's states as long as they are where they hold a prompt's."""
        states, mask = given.get("encoder_hidden_states"), given.get("encoder_attention_mask")
        if (
            self._encoder_length
            and states is not None
            and isinstance(mask, Tensor)
            and mask.shape[-1] + self._encoder_length <= states.shape[1]  # two adapters may each add one
        ):
            given["encoder_attention_mask"] = longer_mask(mask, self._encoder_length)


class UnmovedPositions(SiteAdapter):
    """Stands round an encoder's table of positions: none for the prompt, and the text's own as if it were alone."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Tensor:
        """Return `[..., P + S, D]`, P rows of zeros first."""
        found = base(
            *(self._text(value) for value in args), **{name: self._text(each) for name, each in kwargs.items()}
        )
        return functional.pad(found, (0, 0, self._length, 0))

    def _text(self, value: Any) -> Any:
        """Return a sequence, or the shape of one, without the prompt."""
        if isinstance(value, Tensor) and value.ndim > 1:
            return value[:, self._length :]
        if isinstance(value, tuple) and len(value) > 1:  # torch.Size included
            return (value[0], value[1] - self._length, *value[2:])
        return value


class UnnormedPrompt(SiteAdapter):
    """Stands round the norm of an encoder's embeddings, and leaves the prompt as it is."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Tensor:
        """Return `[B, P + S, D]`, of which the first P are what they were."""
        x: Tensor = args[0]
        text = base(x[:, self._length :], **kwargs)
        return torch.cat([x[:, : self._length].to(text.dtype), text], 1)


def longer_mask(mask: Any, length: int) -> Tensor | None:
    """Return a mask `[B, S]` with a prompt before it that everything sees; None stays None.

    Raises:
        UsageError: It is a mask of pairs of positions.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        shape = f"of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else f"as {type(mask).__name__}"
        raise UsageError(
            f"a prompt lengthens a mask [batch, positions], found one {shape} (models that make their own masks, and "
            "caches of fixed size, give such): use the method prefix, which works with any mask"
        )
    return torch.cat([mask.new_ones(len(mask), length), mask], 1)


def with_positions(positions: Tensor, length: int) -> Tensor:
    """Return positions `[..., S]` with those of a prompt before them."""
    own = torch.arange(length, dtype=positions.dtype, device=positions.device)
    return torch.cat([own.expand(*positions.shape[:-1], length), positions], -1)


def without_prompt(output: Any, length: int) -> Any:
    """Return a stack's output without the prompt's states; attention maps keep its columns, and its cache stays."""
    if isinstance(output, tuple):
        return (output[0][:, length:], *output[1:])
    output.last_hidden_state = output.last_hidden_state[:, length:]
    if getattr(output, "hidden_states", None) is not None:
        output.hidden_states = tuple(each if each is None else each[:, length:] for each in output.hidden_states)
    for name in ("attentions", "cross_attentions"):
        if getattr(output, name, None) is not None:
            kept = tuple(each if each is None else each[:, :, length:] for each in getattr(output, name))
            setattr(output, name, kept)
    return output


def _past(cache: Any) -> int:
    """Return how many positions a cache holds; UsageError for a cache of fixed size, made for the text alone."""
    if cache is None:
        return 0
    if getattr(cache, "is_compileable", False):
        raise UsageError(
            "a cache of fixed size has no room for the prompt: generate with cache_implementation='dynamic', or use "
            "the method prefix, which no cache holds"
        )
    return cache.get_seq_length()
