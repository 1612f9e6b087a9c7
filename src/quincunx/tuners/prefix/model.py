"""Where prefixes go: into the attention modules of a transformer of Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from quincunx.config.suggest import closest
from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.parts import PART_WORDS, check_rows
from quincunx.tuners.prefix.config import PrefixConfig
from quincunx.tuners.prefix.layer import Attention, Prefix, register
from quincunx.tuners.prompts.vectors import SoftVectors, Trunk
from quincunx.tuners.sites import ATTENTION, CROSS, Found, bare, describe, find_sites, input_width_of, width_of

HEAD_WIDTHS = ("head_dim", "key_value_proj_dim", "attention_head_size")
KEYS = ("k_proj", "k", "key", "k_lin")
JOINED = ("c_attn", "qkv")
"""Maps that make queries, keys and values in one."""
INTERFACE, EAGER = "ALL_ATTENTION_FUNCTIONS", "eager_attention_forward"
"""What transformers calls its attention interface, and a model's own attention, in every modelling file."""


def place(model: nn.Module, config: PrefixConfig) -> Placement:
    """Return a prefix in each attention module that is to have one, and make the attention known to transformers.

    Raises:
        UsageError: There are no such modules, or their attention is none that a prefix can be put into.
    """
    sites = attention_sites(model, config)
    check_rows(model, (site.path for site in sites), config.tasks)
    tasks = len(config.tasks) or None
    placement = Placement(notes=(f"{config.prefix_len} keys and values in {describe(sites)}",))
    for site in sites:
        assert site.entry is not None
        entry = model.get_submodule(site.entry)
        module: Any = bare(model.get_submodule(site.path))
        eager = eager_of(module, site.path)
        heads, key_heads, head = sizes(module, entry, site.path)
        trunk = None
        if config.mid_dim:
            name = f"{site.stack or site.path}_{site.word}".replace(".", "_")
            if name not in placement.shared:
                placement.shared[name] = Trunk(config.prefix_len, input_width_of(entry), config.mid_dim, tasks)
            trunk = placement.shared[name]
            assert isinstance(trunk, Trunk)
        vectors = SoftVectors(config.prefix_len, 2 * key_heads * head, tasks=tasks, std=config.std, trunk=trunk)
        gated = config.form == "gated"
        placement.adapters[site.path] = Prefix(
            module, eager, vectors, heads=heads, key_heads=key_heads, gated=gated, tasks=tasks
        )
    register()
    return placement


def attention_sites(model: nn.Module, config: PrefixConfig) -> list[Found]:
    """Return the attention modules that get a prefix, by their own paths, each with the map of its queries."""
    words = config.sites or [ATTENTION]
    if config.target_modules is not None:
        words = [ATTENTION, CROSS]
    paths = [each for each in config.leave_out if isinstance(each, str) and each not in PART_WORDS]
    maps = find_sites(model, words, leave_out=[each for each in config.leave_out if each not in paths])
    found = [replace(site, path=site.entry.rpartition(".")[0]) for site in maps if site.entry]
    if not found:
        raise UsageError(f"{type(model).__name__} has no attention whose queries are made by a map of their own")
    if config.target_modules is not None:
        found = _matching(found, config.target_modules, model, "target_modules")
    out = _matching(found, paths, model, "leave_out")
    kept = [site for site in found if site not in out]
    if not kept:
        raise UsageError("leave_out leaves no attention for a prefix")
    return kept


def _matching(found: Sequence[Found], patterns: Sequence[str], model: nn.Module, key: str) -> list[Found]:
    """Return what patterns of full paths name; UsageError for one that names nothing."""
    paths = [site.path for site in found]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            near = " or ".join(closest(pattern, paths, 3) or paths[:1])
            raise UsageError(f"{key}: {type(model).__name__} has no attention {pattern}; there is {near}")
    return [site for site in found if any(fnmatchcase(site.path, pattern) for pattern in patterns)]


def sizes(module: nn.Module, entry: nn.Module, path: str) -> tuple[int, int, int]:
    """Return heads of queries, heads of keys, and the width of a head of an attention module."""
    head = next((width for name in HEAD_WIDTHS if isinstance(width := getattr(module, name, None), int)), None)
    if head is None:
        raise UsageError(
            f"{path} ({type(module).__name__}) does not say how wide a head is, so that no prefix fits it: leave it "
            "out by leave_out"
        )
    if any(module._modules.get(name) is entry for name in JOINED):
        return width_of(entry) // 3 // head, width_of(entry) // 3 // head, head
    keys = next((child for name in KEYS if isinstance(child := module._modules.get(name), nn.Module)), None)
    if keys is None:
        raise UsageError(
            f"{path} ({type(module).__name__}) has no map of keys that is known, so that no prefix fits it: leave it "
            "out by leave_out"
        )
    return width_of(entry) // head, width_of(keys) // head, head


def eager_of(module: nn.Module, path: str) -> Attention:
    """Return what a module calls as `eager`; UsageError where it does not go through transformers' interface."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    forward: Any = type(module).forward
    while hasattr(forward, "__wrapped__"):
        forward = forward.__wrapped__
    names = getattr(forward, "__globals__", {})
    used = INTERFACE in forward.__code__.co_names and hasattr(module, "config")
    if not used or names.get(INTERFACE) is not ALL_ATTENTION_FUNCTIONS or EAGER not in names:
        raise UsageError(
            f"{path} ({type(module).__name__}) computes attention in its own way, not through transformers' attention "
            "interface, where a prefix is put in: leave it out by leave_out, or use another method, as bottleneck"
        )
    return names[EAGER]
