"""The last layer computes only what is read of it: slots' keys and values, and branches, but not the context.

Of a trunk nobody reads the last states; in the last layer its context has no further use, and a small model has few
layers. The layer is the library's own, called on fewer tokens. B batch, S tokens of the pass, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quincunx.nn.rows import PLAIN
from quincunx.recipes.compression.model.parts import Part, Parts, placeholder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def last_layer(model: PreTrainedModel) -> nn.Module | None:
    """Return the last layer of a model that can be called on fewer tokens; None where that is not the same.

    Seen on three tokens, in evaluation mode; the model attends by parts.
    """
    count = model.config.num_hidden_layers
    stacks = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    found = [stack[-1] for stack in stacks if len(stack) == count]
    if len(found) != 1:
        return None
    layer = found[0]
    table: Any = model.get_input_embeddings()
    places = torch.arange(3, device=table.weight.device)
    embedded = table((places + 1).clamp(max=table.num_embeddings - 1))[None]
    # the second and third token see themselves alone
    apart = [Part((0, 1), ((0, 1),), None), Part((1, 3), ((1, 3),), None)]
    base: Any = model.base_model

    def states() -> Tensor:
        return base(
            inputs_embeds=embedded,
            attention_mask=placeholder(embedded),
            position_ids=places[None],
            use_cache=False,
            parts=Parts(apart),
        ).last_hidden_state[:, 1:]

    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            expected = states()
            with since(layer, 1, Parts([Part((0, 2), ((0, 2),), None)])):
                same = torch.allclose(states(), expected, rtol=1e-3, atol=1e-3)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    finally:
        for module, training in modes:
            module.training = training
    return layer if same else None


@contextmanager
def since(layer: nn.Module, first: int, parts: Parts) -> Iterator[None]:
    """Let a layer compute the tokens from `first` on alone, by these parts; the others come out as zeros."""
    context = None if parts.row is None else parts.row.context
    columns = PLAIN if context is None else context.columns

    def narrow(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        length = _states(positional, named).shape[1]

        def cut(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(cut(each) for each in value)
            fits = isinstance(value, Tensor) and value.ndim > 1 and value.shape[1] == length
            return value[:, first:] if fits else value

        if context is not None and columns.own is not None:
            context.columns = columns._replace(own=columns.own[first:])
        return tuple(map(cut, positional)), {name: cut(value) for name, value in named.items()} | {"parts": parts}

    def widen(module: nn.Module, inputs: Any, output: Any) -> Any:
        if context is not None:
            context.columns = columns
        if isinstance(output, tuple):
            return (widen(module, inputs, output[0]), *output[1:])
        return nn.functional.pad(output, (0, 0, first, 0))

    handles = [layer.register_forward_pre_hook(narrow, with_kwargs=True), layer.register_forward_hook(widen)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if context is not None:
            context.columns = columns


def _states(positional: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    return positional[0] if positional else named["hidden_states"]
