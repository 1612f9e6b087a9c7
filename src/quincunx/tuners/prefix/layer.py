"""Trained keys and values in front of those of an attention module, through transformers' attention interface.

The library lets every model call attention by a name in its config, as (module, query, key, value, mask, ...), after
keys and values went into the cache. While a module with a prefix runs, its `config` says this file's name and knows
what would have been called; nothing else sees that, no cache holds the prefix, and the text stays at its positions.

    joint   softmax([q K'^T, q K^T + mask]) [V'; V]        gated   softmax(q K^T + mask) V + tanh(g) softmax(q K'^T) V'

B examples, H heads of queries, G heads of keys (fewer where several queries share one), S queries, K keys, P length of
the prefix (K' and V'), E width of a head, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quincunx.errors import UsageError
from quincunx.nn.routing import TaskRouted
from quincunx.nn.rows import RowAware
from quincunx.tuners.adapter import Call, SiteAdapter
from quincunx.tuners.prompts.vectors import SoftVectors

NAME = "quincunx_prefix"
"""Under which transformers knows attention with a prefix."""

Attention = Callable[..., tuple[Tensor, Any]]
"""(query `[B, H, S, E]`, key and value `[B, G, K, E]`, mask, options by name) -> (`[B, S, H, E]`, weights or None)."""


class PrefixedConfig:
    """A module's config while its prefix is used: all as it was, but for the name of its attention."""

    _attn_implementation = NAME

    def __init__(self, behind: Any, prefix: Prefix) -> None:
        self.behind = behind
        self.prefix = prefix

    def __getattr__(self, name: str) -> Any:
        """Return the config's own value."""
        if name == "behind":  # a copy in the making
            raise AttributeError(name)
        return getattr(self.behind, name)

    @property
    def implementation(self) -> str:
        """What the model itself calls attention by."""
        own = isinstance(self.behind, PrefixedConfig)  # another adapter's prefix in the same module
        return self.behind.implementation if own else self.behind._attn_implementation


def register() -> None:
    """Make attention with a prefix known to transformers; a second call changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, Any]:
    """Return attention with the prefix of the module that asks for it."""
    return attend_as(module.config, module, query, key, value, attention_mask, **options)


def attend_as(
    config: PrefixedConfig, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
) -> tuple[Tensor, Any]:
    """Return attention with the prefix that a config holds, round what the config stands before."""
    if isinstance(config.behind, PrefixedConfig):
        inner = partial(attend_as, config.behind, module)
    else:
        inner = partial(config.prefix.plain(config.implementation), module)
    return config.prefix.attend(inner, config.implementation, query, key, value, mask, **options)


class Prefix(TaskRouted, SiteAdapter):
    """The prefix of one attention module.

    Args:
        attention: The module.
        eager: What the model calls where its config says `eager`.
        vectors: Keys and values of each example, `[B, P, 2 * G * E]`.
        heads: Heads of queries H.
        key_heads: Heads of keys G.
        gated: Whether the prefix has a softmax of its own behind a gate.
        tasks: Number of tasks with gates of their own; None: one set for all.
    """

    def __init__(
        self,
        attention: nn.Module,
        eager: Attention,
        vectors: SoftVectors,
        *,
        heads: int,
        key_heads: int,
        gated: bool,
        tasks: int | None,
    ) -> None:
        super().__init__()
        self._attention = (attention,)  # in a tuple: the model owns it
        self._eager = eager
        self.vectors = vectors
        self._heads, self._key_heads, self._by_task = heads, key_heads, tasks is not None
        self.gate = nn.Parameter(torch.zeros(tasks or 1, heads)) if gated else None
        self.row = RowAware()

    def forward(self, base: Call, *args: Any, **kwargs: Any) -> Any:
        """Return what the module gives with the prefix."""
        module: Any = self._attention[0]
        config = module.config
        module.config = PrefixedConfig(config, self)
        try:
            return base(*args, **kwargs)
        finally:
            module.config = config

    def plain(self, implementation: str) -> Attention:
        """Return what the model would call without a prefix."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        return ALL_ATTENTION_FUNCTIONS.get_interface(implementation, self._eager)

    def attend(
        self,
        inner: Attention,
        implementation: str,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        **options: Any,
    ) -> tuple[Tensor, Any]:
        """Return attention `[B, S, H, E]` with the prefix; its weights begin with the prefix's in the joint form.

        Raises:
            UsageError: The joint form, and an attention that takes no other keys.
        """
        keys, values = self._keys_and_values(query)
        if self.gate is not None:
            found, weights = inner(query, key, value, mask, **options)
            return found + self._gated(query, keys, values, options).to(found.dtype), weights
        if any(options.get(name) is not None for name in ("cache", "packing")):
            raise UsageError(
                f"attention {implementation} takes its keys from elsewhere than its call, so that no prefix can stand "
                "before them: use form gated, or another attention (sdpa, eager)"
            )
        length = keys.shape[2]
        if mask is None:
            mask = self._causal_mask(implementation, query, key, length, options.get("is_causal"))
        elif isinstance(mask, Tensor):
            mask = functional.pad(mask, (length, 0), value=0 if mask.is_floating_point() else 1)
        else:
            raise UsageError(
                f"attention {implementation} has its mask as {type(mask).__name__}, which no prefix can be put before: "
                "use form gated, or another attention (sdpa, eager)"
            )
        if options.get("position_bias") is not None:
            options["position_bias"] = functional.pad(options["position_bias"], (length, 0))
        keys, values = torch.cat([keys.to(key.dtype), key], 2), torch.cat([values.to(value.dtype), value], 2)
        return inner(query, keys, values, mask, **options)

    def _keys_and_values(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values `[B, G, P, E]` for queries `[B, H, S, E]`."""
        found = self.vectors(query)
        keys, values = found.unflatten(-1, (2, self._key_heads, -1)).permute(2, 0, 3, 1, 4)
        return keys, values

    def _gated(self, query: Tensor, keys: Tensor, values: Tensor, options: dict[str, Any]) -> Tensor:
        """Return what the prefix adds `[B, S, H, E]`."""
        assert self.gate is not None
        groups = self._heads // self._key_heads
        with self.row.looking_before(keys.shape[2], query.device):
            found = functional.scaled_dot_product_attention(
                query,
                keys.to(query.dtype).repeat_interleave(groups, 1),
                values.to(query.dtype).repeat_interleave(groups, 1),
                dropout_p=options.get("dropout") or 0.0,
                scale=options.get("scaling"),
            )
        gate = self.gate[self.tasks(query)] if self._by_task else self.gate
        return (torch.tanh(gate)[..., None, None] * found).transpose(1, 2)

    def _causal_mask(
        self, implementation: str, query: Tensor, key: Tensor, length: int, causal: bool | None
    ) -> Tensor | None:
        """Return the mask that no mask stands for, `[1, 1, S, P + K]`; None where everything sees everything.

        Causal attention without a mask is left to the kernel, which would take the prefix for the first of the text.
        Kernels of flash attention count from the end, and do right; eager attention always gets a mask.
        """
        if implementation == "eager" or implementation.startswith("flash_attention"):
            return None
        if causal is None:
            causal = getattr(self._attention[0], "is_causal", True)
        queries, places = query.shape[2], length + key.shape[2]
        if not causal or queries == 1:
            return None
        return torch.ones(1, 1, queries, places, dtype=torch.bool, device=query.device).tril(length)
