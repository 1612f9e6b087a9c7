"""What a ladder keeps of an example, and when what is kept holds: same model, same inputs.

Beside the states of its layers a few numbers of what went in are kept (projections of each token's first state onto
fixed directions, and of the encoder's states): where an example comes with other inputs, it is computed anew.
B rows, S positions, D width, P directions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.tuners.ladder.cache import STORED, ActivationCache, Record, as_bits
from quincunx.tuners.ladder.config import LadderConfig
from quincunx.tuners.ladder.view import Span, View, spans

log = logging.getLogger("quincunx")

DIRECTIONS = 4
CLOSE: Mapping[torch.dtype, float] = {torch.float32: 1e-4, torch.float64: 1e-4}
"""How far the same token's projections may lie apart; 2e-2 in half precisions."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Ticket:
    """By what the states of a batch's examples are kept."""

    keys: tuple[str, ...]
    spans: Sequence[Span]
    stamps: Sequence[NDArray[np.float32]]
    """Of each example, `[S P]`, and P more of what a decoder looks at."""
    layers: tuple[int, ...]
    """Whose states are kept, by number."""
    close: float
    behind: int
    """How many numbers of a stamp stand behind the tokens'."""


@dataclass(frozen=True)
class Kept:
    """States of a batch, read back."""

    states: dict[int, Tensor]
    """By layer `[B, S, D]`; zeros where a token is padding."""
    outputs: int
    """How many values a layer returns, 0 for a bare tensor."""


class Keeper:
    """Keeps the states of a model's frozen stacks.

    Args:
        model: The whole model.
        config: With the folder.
        frozen: The modules that the states depend on, by path.
        layers: Whose states are kept, by the path of their stack.
    """

    def __init__(
        self, model: nn.Module, config: LadderConfig, frozen: Mapping[str, nn.Module], layers: Mapping[str, Any]
    ) -> None:
        self._model, self._config, self._layers = (model,), config, dict(layers)
        self._frozen = dict(frozen)
        self._cache: ActivationCache | None = None
        self._told = False
        self._leave_graphs()

    def _leave_graphs(self) -> None:
        # not as decorators: what they bring in takes seconds to import, and only who keeps states needs it
        self.ticket = _outside_graphs(self._ticket)
        self.find = _outside_graphs(self._find)
        self.keep = _outside_graphs(self._keep)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind in copies."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("ticket", "find", "keep")}
        return {**state, "_cache": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what a copy is made of."""
        self.__dict__.update(state)
        self._leave_graphs()

    def _ticket(
        self,
        stack: str,
        layers: tuple[int, ...],
        ids: Sequence[int | str],
        view: View,
        mask: Any,
        entry: Tensor,
        memory: Tensor | None,
        memory_mask: Tensor | None,
    ) -> Ticket:
        """Return by what the states of a batch's examples are kept.

        Args:
            stack: Path of the stack.
            layers: Whose states are kept.
            ids: Of the examples.
            view: Who sees whom in the stack.
            mask: What its layers are given.
            entry: What the first layer is given `[B, S, D]`.
            memory: What a decoder looks at `[B, M, D]`.
            memory_mask: Bool `[B or 1, 1, 1 or S, M]`.

        Raises:
            UsageError: What the first layer is given depends on something that is trained.
        """
        if entry.requires_grad:
            raise UsageError(
                f"what goes into {stack or 'the model'} depends on trained parameters, so that its states change and "
                "cannot be kept: leave cache out, freeze what comes before the stack, and do not use "
                "enable_input_require_grads (gradient checkpointing saves nothing beside a ladder)"
            )
        places_of = spans(view, mask, *entry.shape[:2])
        tokens = projected(entry).cpu().numpy()
        behind = None
        if memory is not None:
            seen = torch.ones_like(memory[..., 0]) if memory_mask is None else memory_mask[:, 0, 0]
            total = torch.einsum("bmp,bm->bp", projected(memory), seen.float().expand(memory.shape[:2]))
            behind = (total / seen.sum(-1, keepdim=True).clamp_min(1)).cpu().numpy()
        stamps = [
            np.concatenate([_flat(tokens[row, places]), *([] if behind is None else [behind[row]])])
            for row, places in places_of
        ]
        device = entry.device.type
        cast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else ""
        keys = tuple(f"{stack}|{cast}|{'#' if isinstance(each, int) else ''}{each}" for each in ids)
        close = 2e-2 if cast else CLOSE.get(entry.dtype, 2e-2)
        return Ticket(keys, places_of, stamps, layers, close, 0 if behind is None else DIRECTIONS)

    def _find(self, ticket: Ticket, entry: Tensor, *, whole: bool) -> Kept | None:
        """Return the states of a batch; None where some of them are not kept.

        Args:
            ticket: By what they are kept.
            entry: What the first layer is given `[B, S, D]`.
            whole: Whether a text's states depend on its length; else those of a longer one serve.
        """
        cache = self._opened()
        records: list[Record] = []
        for number in range(len(ticket.keys)):
            record = self._matching(cache, ticket, number, whole)
            if record is None:
                return None
            records.append(record)
        found = Kept(*_assembled(records, ticket, entry, cache.dtype))
        cache.release()
        return found

    def _keep(self, ticket: Ticket, states: Mapping[int, Tensor], outputs: int) -> None:
        """Write the states `[B, S, D]` of those examples that are not kept yet."""
        cache = self._opened()
        if cache.full:
            return
        kinds = [str(states[number].dtype).removeprefix("torch.") for number in ticket.layers]
        if not all(kind in STORED for kind in kinds):
            raise UsageError(f"states of {kinds[0]} cannot be kept: leave cache out, or load the model as float32")
        stacked: Tensor | None = None
        for number, (row, places) in enumerate(ticket.spans):
            if self._matching(cache, ticket, number, whole=True) is None:
                if stacked is None:
                    stacked = torch.stack([states[each].detach().to("cpu", cache.dtype) for each in ticket.layers])
                cache.put(ticket.keys[number], stacked[:, row, places], kinds, outputs, ticket.stamps[number])

    def _matching(self, cache: ActivationCache, ticket: Ticket, number: int, whole: bool) -> Record | None:
        """Return what is kept of an example with the inputs at hand; None where nothing is."""
        wanted, behind, other = ticket.stamps[number], ticket.behind, False
        for record in cache.records(ticket.keys[number]):
            tokens, kept = len(wanted) - behind, len(record.stamp) - behind
            if tokens > kept or (whole and tokens != kept):
                continue
            parts = (wanted[:tokens] - record.stamp[:tokens], wanted[tokens:] - record.stamp[kept:])
            if all(np.abs(part).max(initial=0) <= ticket.close for part in parts):
                return record
            other = True
        if other and not self._told:
            self._told = True
            log.warning(
                "example %s came with other inputs than before: its states were computed anew. An id must name one "
                "input; where inputs change from epoch to epoch, leave cache out",
                ticket.keys[number].rpartition("|")[2],
            )
        return None

    def _opened(self) -> ActivationCache:
        if self._cache is None:
            config, model = self._config, self._model[0]
            assert config.cache is not None
            limit = None if config.cache_limit is None else int(config.cache_limit * 2**30)
            stacks = ", ".join(f"{path or 'all'}" for path in self._layers)
            self._cache = ActivationCache(
                Path(config.cache).expanduser(),
                fingerprint(self._frozen, self._layers),
                dtype=config.cache_dtype,
                limit=limit,
                made_of=f"{type(model).__name__} ({stacks})",
            )
        return self._cache


def fingerprint(frozen: Mapping[str, nn.Module], layers: Mapping[str, Any]) -> str:
    """Return a hash of frozen modules' weights, and of whose states are kept.

    Raises:
        UsageError: A weight is trained.
    """
    made = blake2b(digest_size=16)
    made.update(repr(sorted((path, tuple(numbers)) for path, numbers in layers.items())).encode())
    done: set[int] = set()
    for path, module in sorted(frozen.items()):
        for kind, tensors in (("", module.named_parameters(recurse=False)), ("b", module.named_buffers(recurse=False))):
            for name, tensor in tensors:
                if id(tensor) in done:
                    continue
                done.add(id(tensor))
                if tensor.requires_grad:
                    raise UsageError(
                        f"{path}.{name} is trained, and the states that a ladder keeps depend on it: freeze it, or "
                        "leave cache out"
                    )
                made.update(repr((kind, path, name, str(tensor.dtype), tuple(tensor.shape))).encode())
                made.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return made.hexdigest()


def projected(states: Tensor) -> Tensor:
    """Return states `[..., D]`, each of length 1, along fixed directions: `[..., P]`, float32."""
    with torch.no_grad(), torch.autocast(states.device.type, enabled=False):
        states = states.detach().float()
        width = torch.arange(1, states.shape[-1] + 1, device=states.device, dtype=torch.float32)
        directions = torch.stack([torch.cos(width * (0.7 + number)) for number in range(DIRECTIONS)], dim=-1)
        return (states / states.norm(dim=-1, keepdim=True).clamp_min(1e-12)) @ directions


def _assembled(
    records: Sequence[Record], ticket: Ticket, entry: Tensor, stored: torch.dtype
) -> tuple[dict[int, Tensor], int]:
    counts = [(len(stamp) - ticket.behind) // DIRECTIONS for stamp in ticket.stamps]
    full = sum(counts) == entry.shape[0] * entry.shape[1]
    make = torch.empty if full else torch.zeros
    found = [make(entry.shape, dtype=stored) for _ in ticket.layers]
    for place, whole in enumerate(map(as_bits, found)):
        for record, count, (row, places) in zip(records, counts, ticket.spans, strict=True):
            whole[row, places] = record.bits[place, :count]
    kinds = records[0].kinds
    states = {
        number: each.to(entry.device, STORED[kind])
        for number, each, kind in zip(ticket.layers, found, kinds, strict=True)
    }
    return states, records[0].outputs


def _outside_graphs(function: Callable[P, R]) -> Callable[P, R]:
    return cast(Callable[P, R], torch.compiler.disable(function))


def _flat(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(tokens, dtype=np.float32).reshape(-1)
