"""Dropout of modules that are not ours, as we compute it: by address, and not drawn.

A library's masks come from torch's generator and so change with the chunk. `adopt` gives its modules ours, which are
functions of row and token: the same in every chunk, with more padding or less. What a module drops by a function of its
own accord (`torch.nn.functional.dropout`, attention with a `dropout_p`) is caught while it runs.
B batch, S sequence, H heads, Q queries, K keys, E width of a head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from quincunx.nn.dropout import TokenDropout, dropped, threshold, token_words
from quincunx.nn.rows import Columns, RowAware, context_of

NAME = "addressed_dropout"
"""Of the child that a module gets which drops something."""
OF_ANOTHER = "key_value_states"
"""What attention modules of the transformers library are handed another stack's states as."""


def adopt(*models: nn.Module) -> None:
    """Give modules our dropout in place of torch's, of the same probabilities; those that have it stay as they are.

    To be called before `attach_rows`, on models that are whole, adapters included. In a model that is compiled, what
    is dropped by functions stays drawn.
    """
    for model in models:
        _adopt(model, None, set(), compiled=False)


def recomputing(model: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a layer's pass and of its recomputation in the backward pass, as torch's checkpoint asks
    for them: by then other rows may be set, and the layer's hooks do not run again."""
    context = context_of(model)
    if context is None:
        return nullcontext(), nullcontext()
    under_way: Pass | None = context.passes[-1] if context.passes else None
    return nullcontext(), _again(context.as_it_is(), None if under_way is None else under_way.copy())


@contextmanager
def _again(rows: AbstractContextManager[None], under_way: Pass | None) -> Iterator[None]:
    with rows, nullcontext() if under_way is None else under_way:
        yield


def _adopt(module: nn.Module, owner: nn.Module | None, done: set[nn.Module], compiled: bool) -> None:
    """Go through a module; its owner is itself, or where it is but a list of modules, the one that calls those."""
    if module in done or isinstance(module, RowAware):
        return
    done.add(module)
    compiled = compiled or getattr(module, "_compiled_call_impl", None) is not None
    owner = owner if owner is not None and isinstance(module, nn.ModuleDict | nn.ModuleList) else module
    for child in [*module.children()]:
        if type(child) is nn.Dropout and 0 < child.p < 1:
            AdoptedDropout.take(child, None if compiled else _place(owner))
        else:
            _adopt(child, owner, done, compiled)
    if not compiled and _drops_by_functions(module):
        _place(module).catches = True


def _place(module: nn.Module) -> Place:
    """Return a module's place, which it gets where it has none."""
    known = module._modules.get(NAME)
    if isinstance(known, Place):
        return known
    made = Place()
    module.add_module(NAME, made)
    module.register_forward_pre_hook(_begin, with_kwargs=True)
    module.register_forward_hook(_end, always_call=True)
    return made


def _drops_by_functions(module: nn.Module) -> bool:
    """Tell it by what a module keeps: a probability as a number, or attention that hands on that of a child."""
    if any("drop" in name and isinstance(value, float) and value > 0 for name, value in vars(module).items()):
        return True
    children = any(isinstance(child, AdoptedDropout) for child in module.children())
    return children and "attention" in type(module).__name__.lower()


class Place(RowAware):
    """Stands in a module that drops something, and knows the passes through it that are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.catches = False
        """Whether what the module drops by functions is caught."""
        self.passes: list[Pass] = []
        """Several where the module runs within itself."""


class Pass:
    """A pass through a module in training: counts the calls of each dropout, so that each call has a mask of its own.

    Args:
        place: The module's.
        other: The states of another stack that the module attends to; None: there are none.
        about_other: Whether the module works on such states alone, as a part of one that attends to them.
        calls: How often what was called before, by the dropout's number.
    """

    def __init__(
        self, place: Place, other: Tensor | None = None, about_other: bool = False, calls: Counter[int] | None = None
    ) -> None:
        self.place = place
        self.other = other
        self.about_other = about_other
        self.calls = Counter[int]() if calls is None else calls
        self._caught = Caught(self) if place.catches else None

    @classmethod
    def through(cls, place: Place, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Pass:
        """Return a pass that begins, through a module that is given this."""
        other: Tensor | None = kwargs.get(OF_ANOTHER)
        outer: Pass | None = next(reversed(place.attached().passes), None)
        if other is not None or outer is None:
            return cls(place, other)
        given = (*args, *kwargs.values())
        about = outer.about_other or (outer.other is not None and any(each is outer.other for each in given))
        return cls(place, None, about)

    def copy(self) -> Pass:
        """Return the same, from here on."""
        return Pass(self.place, self.other, self.about_other, Counter(self.calls))

    @property
    def columns(self) -> Columns:
        """Numbers of the columns that the module works on, and attends to."""
        known = self.place.attached().columns
        if self.about_other:
            return Columns(known.memory)
        return known if self.other is None or known.keys is not None else Columns(known.own, known.memory)

    def count(self, layer: int) -> int:
        """Return how often the dropout of that number was called before."""
        self.calls[layer] += 1
        return self.calls[layer] - 1

    def __enter__(self) -> None:
        self.place.passes.append(self)
        self.place.attached().passes.append(self)
        if self._caught is not None:
            self._caught.__enter__()

    def __exit__(self, *error: object) -> None:
        if self._caught is not None:
            self._caught.__exit__(None, None, None)
        self.place.attached().passes.pop()
        self.place.passes.pop()


class AdoptedDropout(TokenDropout, nn.Dropout):
    """What a `torch.nn.Dropout` becomes: the same object, since others may hold on to it."""

    _place: tuple[Place | None]
    """Of the module that calls it, in a tuple: it is its module's child, not this one's. None: each call has the same
    mask."""

    @classmethod
    def take(cls, dropout: nn.Dropout, place: Place | None) -> None:
        """Make one of a dropout."""
        like = TokenDropout(dropout.p)
        dropout.__class__ = cls
        dropout.__dict__.update(leading=like.leading, limit=like.limit, scale=like.scale, _place=(place,))

    def forward(self, x: Tensor, salt: int = 0) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return x with elements dropped; see `CounterDropout`."""
        place = self._place[0]
        if not self.training or place is None or not place.passes or torch.compiler.is_compiling():
            return super().forward(x, salt)
        under_way = place.passes[-1]
        salt = under_way.count(self.layer)
        rows, positions = token_words(self.attached(), self.layer, salt, x.shape, x.device, under_way.columns)
        return dropped(x, rows, positions, self.limit, self.scale)


class Caught(TorchFunctionMode):
    """Computes what a module drops by functions while a pass through it is under way."""

    def __init__(self, under_way: Pass) -> None:
        super().__init__()
        self._pass = under_way

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.dropout:
            return self._dropout(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or not 0 < p < 1:
            return functional.dropout(input, p, training, inplace)
        found = self._drop(input, p, self._pass.count(self._pass.place.layer))
        return input.copy_(found) if inplace else found

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if not dropout_p > 0:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
            )
        # Calls are not counted: their columns tell them apart, however attention is taken in parts.
        with torch.autocast(query.device.type, enabled=False):
            weights = attention_weights(query, key, attn_mask, is_causal, scale, enable_gqa)
            weights = self._drop(weights, dropout_p)
            if enable_gqa:
                value = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
            return (weights @ value.to(weights.dtype)).to(query.dtype)

    def _drop(self, x: Tensor, p: float, salt: int = 0) -> Tensor:
        place = self._pass.place
        rows, positions = token_words(place.attached(), place.layer, salt, x.shape, x.device, self._pass.columns)
        limit = threshold(p)
        return dropped(x, rows, positions, limit, 2**32 / (limit + 2**31))


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    grouped: bool = False,
) -> Tensor:
    """Return the weights `[B, H, Q, K]`, in float32 at least, that `scaled_dot_product_attention` has.

    Args:
        query: `[B, H, Q, E]`.
        key: `[B, H, K, E]`, or fewer heads where it is grouped.
        mask: `[1 or B, 1 or H, Q, K]`: true where a key is seen, or what is added to scores.
        causal: Each query sees the keys up to its own number.
        scale: Factor of the products; None: 1/sqrt(E).
        grouped: Several heads of queries share one of keys.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    query, key = query.to(wide), key.to(wide)
    if grouped:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.mT
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        # the least number, not minus infinity: a query that sees nothing would have no weights, and no gradient
        least = torch.finfo(wide).min
        scores = scores.masked_fill(~mask, least) if mask.dtype == torch.bool else scores + mask.to(wide)
    return scores.softmax(dim=-1)


def _begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    place: Any = module._modules[NAME]
    if module.training and not torch.compiler.is_compiling():
        Pass.through(place, args, kwargs).__enter__()


def _end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    place: Any = module._modules[NAME]
    if place.passes:
        place.passes[-1].__exit__()
