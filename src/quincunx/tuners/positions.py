"""Which positions of a pass are of its texts and not padding, told by the modules that the pass is inside.

A mean over positions that took padding in would depend on how far a chunk is padded. Encoders and decoders are handed
masks, and the trunk of this package says which positions are valid; where nobody says, there is a reason and no guess.
B rows, P positions of a pass, S positions of the text, T tokens of all texts behind one another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.pretrained.packed import Packing

MASK, DECODER_MASK, ENCODER_MASK = "attention_mask", "decoder_attention_mask", "encoder_attention_mask"
ENCODER_STATES, VALID, PACKING = "encoder_hidden_states", "valid", "packing"


@dataclass(frozen=True)
class All:
    """Every position is of a text."""


@dataclass(frozen=True)
class Unknown:
    """Nobody says which positions are."""

    reason: str


Real = Tensor | Packing | All | Unknown
"""A mask `[B, S]`, not 0 where a position is of a text; or texts laid behind one another; or neither."""


class Teller(nn.Module):
    """Base of modules that call a model whose masks do not tell what is padding, and know it themselves."""

    positions: Positions | None = None

    def telling(self, mask: Tensor | None) -> AbstractContextManager[None]:
        """Say, where anybody asks, which positions of the passes inside are of texts `[B, S]`; None: nobody knows."""
        return nullcontext() if self.positions is None or mask is None else self.positions.told(mask)


@dataclass(frozen=True)
class Said:
    """What a module that a pass is inside says of positions."""

    own: Real
    """Of those that it computes."""
    encoder: Real
    """Of those of the encoder that it looks at."""
    whole: bool = False
    """Whether it speaks for all modules inside it; a pass of fewer positions is then one of the last of them."""


class Positions:
    """Follows which modules of a model a pass is inside.

    Args:
        model: The model. Its modules get hooks, which change nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        self._said: list[Said] = []
        for module in model.modules():
            if isinstance(module, Teller):
                module.positions = self
            if (say := _speaker(module)) is not None:
                enter, leave = partial(_enter, self._said, say), partial(_leave, self._said)
                module.register_forward_pre_hook(enter, with_kwargs=True)
                module.register_forward_hook(leave, always_call=True)

    def begin(self) -> None:
        """Begin a pass: whatever one that broke off has left is forgotten."""
        self._said.clear()

    @contextmanager
    def told(self, mask: Tensor) -> Iterator[None]:
        """Say for a while which positions are of texts `[B, S]`; a pass of fewer is one of the last, and a pass of more
        has soft prompts before them, which count as they do where a mask is handed on."""
        self._said.append(Said(mask, Unknown("it looks at no encoder"), whole=True))
        try:
            yield
        finally:
            self._said.pop()

    def of(self, path: str, shape: tuple[int, int], *, encoder: bool = False) -> Tensor | Packing | None:
        """Return which positions of a pass count: a mask `[B, P]`, a packing; None: all.

        Args:
            path: Of the module that is passed, for messages.
            shape: B and P.
            encoder: Whether the positions are those of an encoder that a decoder looks at.

        Raises:
            UsageError: It is not known.
        """
        reason = "no module that it is inside is handed a mask"
        for number, said in enumerate(reversed(self._said)):
            found = said.encoder if encoder else said.own
            if isinstance(found, Unknown):
                reason = found.reason
            elif number == 0 or said.whole:
                return _fitted(path, found, shape, last=said.whole)
        raise UsageError(f"which positions of the adapter {path} are padding is not known: {reason}")


def _fitted(path: str, found: Tensor | Packing | All, shape: tuple[int, int], *, last: bool) -> Tensor | Packing | None:
    """Return what is known of positions as it is for a pass of so many rows and positions."""
    if isinstance(found, All):
        return None
    if isinstance(found, Packing):
        there = (1, len(found))
    else:
        there = tuple(found.shape)
        more = shape[1] - there[1]
        if last and there[0] == shape[0] and more < 0:
            return found[:, -more:]
        if last and there[0] == shape[0] and more > 0:  # soft prompts, which stand before every text and count
            return torch.cat([torch.ones_like(found[:, :1]).expand(-1, more), found], 1)
    if there != shape:
        raise UsageError(
            f"the adapter {path} was passed with {shape[0]} rows of {shape[1]} positions, and the mask round it is for "
            f"{' of '.join(map(str, there))}: which of its positions are padding is not known"
        )
    return found


def _speaker(module: nn.Module) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Said] | None:
    """Return what reads out of a module's arguments what it says; None where it is no module that does."""
    if "base_layer" in module._modules:  # what stands round a module hands on what that is given
        return None
    # of the class: compiling puts a forward of its own on a module
    names = tuple(inspect.signature(type(module).forward).parameters)[1:]
    if hasattr(type(module), "main_input_name"):  # a model of transformers, or one inside it
        return partial(_of_transformers, names)
    return partial(_of_ours, names) if VALID in names else None


def _of_transformers(names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Said:
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if isinstance(packing := given.get(PACKING), Packing):
        return Said(packing, Unknown("texts behind one another look at no encoder"))
    if DECODER_MASK in names:
        return Said(_decoders(given.get(DECODER_MASK), DECODER_MASK), _masked(given.get(MASK)))
    if MASK not in names:  # of pictures
        return Said(All(), All())
    if given.get(ENCODER_STATES) is not None:
        return Said(_decoders(given.get(MASK), DECODER_MASK), _masked(given.get(ENCODER_MASK)))
    return Said(_masked(given.get(MASK)), Unknown("it looks at no encoder"))


def _of_ours(names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Said:
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return Said(_masked(given.get(VALID)), Unknown("it looks at no encoder"))


def _masked(mask: Any) -> Real:
    """Return what a mask says; None says, by the library's convention, that nothing is padding."""
    if mask is None:
        return All()
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask
    shape = f"of shape {list(mask.shape)}" if isinstance(mask, Tensor) else f"as {type(mask).__name__}"
    return Unknown(f"the model is given a mask {shape}, which says who sees whom, not what is padding")


def _decoders(mask: Any, name: str) -> Real:
    """Return what a decoder's mask says: without one it reads its padding too, as nothing looks at that."""
    if mask is None:
        return Unknown(f"the decoder is given no {name}, and reads padding as it reads text")
    return _masked(mask)


def _enter(
    said: list[Said],
    say: Callable[[tuple[Any, ...], Mapping[str, Any]], Said],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    said.append(say(args, kwargs))


def _leave(said: list[Said], module: nn.Module, args: Any, output: Any) -> None:
    if said:
        said.pop()


def packed_rows(packing: Packing, device: torch.device) -> tuple[Tensor, int]:
    """Return which text each token is of, by the texts' order in their batch `[T]`, and how many texts there are.

    A text without tokens has no part in a packing, and is not counted.
    """
    first = packing.places[packing.positions == 0]
    order = torch.argsort(torch.argsort(first))
    sizes = torch.cat([torch.full((count,), size) for count, size in packing.groups])
    return order.repeat_interleave(sizes).to(device), len(first)
