"""What stands round the layers of a frozen stack, and round the stack: states are taken from layer to side network.

The first layer's part begins a pass, each part notes its layer's states, and the last one's runs the side network and
adds its change. Where all examples of a batch are kept on disk, no layer is computed. B rows, S positions, D width.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.examples import ExampleAware
from quincunx.tuners.adapter import Call, SiteAdapter
from quincunx.tuners.ladder.keeping import Keeper, Kept, Ticket
from quincunx.tuners.ladder.past import grown
from quincunx.tuners.ladder.side import SideNetwork
from quincunx.tuners.ladder.view import View, self_view, visible
from quincunx.tuners.sites import bare

MASK = ("attention_mask", "attn_mask", "mask", "valid")
MEMORY, MEMORY_MASK = ("encoder_hidden_states",), ("encoder_attention_mask",)
PAST = ("past_key_values", "past_key_value", "layer_past")
"""What layers call the arguments that a side network needs too."""


class Link:
    """What the side network of an encoder hands to that of its decoder."""

    def __init__(self) -> None:
        self.made: Tensor | None = None
        """Side states of the encoder's last pass `[B, M, R]`."""
        self._given: Tensor | None = None
        self._repeated: Tensor | None = None

    def give(self, states: Tensor) -> None:
        """Note the states `[B, M, D]` that the encoder's last pass gave to the decoder."""
        self._given, self._repeated = states, None

    def take(self, states: Tensor) -> Tensor:
        """Return the side states that belong to an encoder's states, repeated where those are (beams).

        Raises:
            UsageError: They are not those of the encoder's last pass.
        """
        if self.made is None or self._given is None:
            raise UsageError("a ladder's decoder was called, and its encoder was not: run the encoder first, here")
        if states is self._given:
            return self.made
        times = len(states) // max(1, len(self._given))
        if states is not self._repeated:
            if states.shape != (times * len(self._given), *self._given.shape[1:]) or not self._same(states, times):
                raise UsageError(
                    "a ladder's decoder was given states of an encoder that are not those of its last pass: run the "
                    "encoder of a batch right before its decoder"
                )
            self._repeated = states
        return self.made.repeat_interleave(times, dim=0)

    def _same(self, states: Tensor, times: int) -> bool:
        assert self._given is not None
        return torch.equal(states, self._given.repeat_interleave(times, dim=0).to(states.dtype))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the states of a pass behind in copies."""
        return Link().__dict__


class Climb:
    """A stack that a side network stands beside, and the pass that is under way.

    Args:
        path: Of the stack.
        layers: How many it has.
        noted: The layers that have a block, by number.
        causal: Whether its tokens see their past alone.
        cross: Whether the side network looks at an encoder.
        link: Between the side networks of an encoder and its decoder; None: there are not both.
        keeper: Keeps states by example; None: nobody does.
    """

    def __init__(
        self,
        path: str,
        layers: int,
        noted: Sequence[int],
        *,
        causal: bool,
        cross: bool,
        link: Link | None,
        keeper: Keeper | None,
    ) -> None:
        self.path, self.layers, self.noted = path, layers, tuple(noted)
        self.causal, self.cross, self.link, self.keeper = causal, cross, link, keeper
        self.kept_layers = tuple(sorted({*noted, layers - 1}))
        self.clear()

    def clear(self) -> None:
        """Forget the pass."""
        self.entry: Tensor | None = None
        """What the first layer was given `[B, S, D]`."""
        self.states: dict[int, Tensor] = {}
        """What layers gave, by number."""
        self.ticket: Ticket | None = None
        """By what the states of these examples are kept; None: they are not."""
        self.kept: Kept | None = None
        """The states, where all of them are kept already."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pass behind in copies."""
        return {**self.__dict__, "entry": None, "states": {}, "ticket": None, "kept": None}


class Rung(ExampleAware, SiteAdapter):
    """The part round one layer.

    Args:
        layer: The layer.
        number: Its place in the stack.
        climb: What the parts of a stack have in common.
        frozen: The modules that are to be without dropout.
        side: The side network; the last layer's part has it.
    """

    def __init__(
        self, layer: nn.Module, number: int, climb: Climb, frozen: Sequence[nn.Module], side: SideNetwork | None
    ) -> None:
        super().__init__()
        self.number, self.climb, self.side = number, climb, side
        # the last layer's part alone: it is told of a mode after the others
        self._frozen = tuple(frozen) if side is not None else ()
        self._owner = uuid.uuid4().hex
        self._names = tuple(inspect.signature(type(bare(layer)).forward).parameters)[1:]

    def train(self, mode: bool = True) -> Rung:
        """Set the mode; the frozen layers stay without dropout."""
        super().train(mode)
        still(self._frozen)
        return self

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Any:
        """Return the layer's states, with the side network's change at the last layer.

        Raises:
            UsageError: Something inside the layer is trained; or the side network does not suit how it is called.
        """
        climb = self.climb
        given = {**dict(zip(self._names, args, strict=False)), **kwargs}
        hidden: Tensor = given[self._names[0]]
        if hidden.ndim != 3:
            raise UsageError(
                f"the layers of {climb.path or 'the model'} got states of shape {list(hidden.shape)}, and a ladder "
                "needs [rows, positions, width]: pictures laid behind one another have no rows; leave this stack out"
            )
        if self.number == 0:
            climb.clear()
            climb.entry = hidden
            if climb.keeper is not None:
                self._look_up(climb.keeper, hidden, given)
        kept = climb.kept
        if kept is None:
            output = base(*map(_cut, args), **{name: _cut(value) for name, value in kwargs.items()})
            state, rest = (output[0], tuple(output[1:])) if isinstance(output, tuple) else (output, None)
            if state.requires_grad:
                raise UsageError(
                    f"something in layer {self.number} of {climb.path or 'the model'} is trained, and a ladder lets no "
                    "gradient into the layers that it stands beside: freeze it, or leave one of the two out"
                )
        else:
            state = kept.states.get(self.number, hidden)
            rest = (None,) * (kept.outputs - 1) if kept.outputs else None
        if self.number in climb.kept_layers:
            climb.states[self.number] = state
        if self.side is not None:
            if climb.keeper is not None and climb.ticket is not None and kept is None:
                climb.keeper.keep(climb.ticket, climb.states, 0 if rest is None else 1 + len(rest))
            state = self._changed(self.side, state, given)
        return state if rest is None else (state, *rest)

    def _changed(self, side: SideNetwork, state: Tensor, given: Mapping[str, Any]) -> Tensor:
        climb, entry = self.climb, self.climb.entry
        assert entry is not None
        length = entry.shape[1]
        past = None if climb.kept is not None else _first(given, PAST)
        pasts, before = grown(past, self._owner, len(climb.noted), length)
        view = self._view(entry, given, before + length)
        memory, memory_view = None, None
        encoder = _first(given, MEMORY) if climb.cross else None
        if encoder is not None:
            memory = encoder if climb.link is None else climb.link.take(encoder)
            memory_view = View(_memory_mask(entry, memory, given))
        found = side(entry, [climb.states[number] for number in climb.noted], view, memory, memory_view, pasts)
        climb.clear()  # a pass holds its states no longer than it must
        if side.up is None:
            assert climb.link is not None
            climb.link.made = found
            return state
        return state + side.change(found, state)

    def _view(self, entry: Tensor, given: Mapping[str, Any], keys: int) -> View:
        causal = self.climb.causal or bool(given.get("is_causal", False))
        mask, packing = _first(given, MASK), given.get("packing")
        return self_view(mask, len(entry), entry.shape[1], keys, entry.device, causal=causal, packing=packing)

    def _look_up(self, keeper: Keeper, entry: Tensor, given: Mapping[str, Any]) -> None:
        climb, past = self.climb, _first(given, PAST)
        if climb.causal and (not self.training or (past is not None and past.get_seq_length())):
            return  # generation: its tokens are no example's, and the next ones need the layers' keys and values
        view = self._view(entry, given, entry.shape[1])
        packing = view.packing
        ids = self.ids(len(entry) if packing is None else sum(count for count, _ in packing.groups))
        if ids is None:
            return
        memory = _first(given, MEMORY) if climb.cross else None
        memory_mask = None if memory is None else _memory_mask(entry, memory, given)
        climb.ticket = keeper.ticket(
            climb.path, climb.kept_layers, ids, view, _first(given, MASK), entry, memory, memory_mask
        )
        climb.kept = keeper.find(climb.ticket, entry, whole=not climb.causal)


class Stage(SiteAdapter):
    """The part round a stack: keeps it without dropout, and notes what an encoder gives to its decoder."""

    def __init__(self, frozen: Sequence[nn.Module], link: Link | None) -> None:
        super().__init__()
        self._frozen, self.link = tuple(frozen), link

    def train(self, mode: bool = True) -> Stage:
        """Set the mode; the frozen stack stays without dropout."""
        super().train(mode)
        still(self._frozen)
        return self

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Any:
        """Return what the stack gives."""
        output = base(*args, **kwargs)
        if self.link is not None:
            self.link.give(output if isinstance(output, Tensor) else output[0])
        return output


def still(modules: Iterable[nn.Module]) -> None:
    """Put modules into the mode without dropout, each by itself."""
    for module in modules:
        module.training = False


def _memory_mask(entry: Tensor, memory: Tensor, given: Mapping[str, Any]) -> Tensor | None:
    mask = _first(given, MEMORY_MASK)
    return None if mask is None else visible(mask, len(entry), entry.shape[1], memory.shape[1])


def _first(given: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((given[name] for name in names if given.get(name) is not None), None)


def _cut(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value
