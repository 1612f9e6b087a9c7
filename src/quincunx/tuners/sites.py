"""Where adapters go: modules of a model by what they are for, or by their full paths.

Every transformer of Hugging Face names its maps in one of a few ways, and an adapter stands round the output of one of
them: before dropout and residual, where VL-Adapter (Sung et al., CVPR 2022) has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from quincunx.config.suggest import closest
from quincunx.errors import UsageError
from quincunx.tuners.parts import PART_WORDS, bare, part_of

ATTENTION, CROSS, FEEDFORWARD = "attention", "cross_attention", "feedforward"
QUERY, KEY, VALUE, HEAD = "query", "key", "value", "head"

TAILS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    ATTENTION: {
        "self_attn.out_proj": ("self_attn.q_proj",),  # BART, CLIP, SigLIP
        "SelfAttention.o": ("SelfAttention.q",),  # T5
        "attention.output.dense": ("attention.self.query", "attention.attention.query"),  # BERT, BLIP-2's connector
        "attention.out_lin": ("attention.q_lin",),  # DistilBERT
        "self_attn.o_proj": ("self_attn.q_proj",),  # Llama
        "attention.o_proj": ("attention.q_proj",),  # ViT, DINOv2
        "attn.c_proj": ("attn.c_attn",),  # GPT-2
        "attention.output": ("attention.query",),  # the encoder of this package
        "attention.attn.o": ("attention.attn.q",),  # MPNet
        "attn.Wo": ("attn.Wqkv",),  # ModernBERT
        "self_attn.projection": ("self_attn.qkv",),  # pictures in BLIP and BLIP-2
        "attn.proj": ("attn.qkv",),  # pictures in Qwen2-VL, SAM, timm
        "window_attn.proj": ("window_attn.qkv",),  # pictures in Florence-2, and the next
        "channel_attn.proj": ("channel_attn.qkv",),
    },
    CROSS: {
        "encoder_attn.out_proj": ("encoder_attn.q_proj",),
        "EncDecAttention.o": ("EncDecAttention.q",),
        "crossattention.output.dense": ("crossattention.self.query", "crossattention.attention.query"),
    },
    FEEDFORWARD: {
        "fc2": ("fc1",),
        "DenseReluDense.wo": ("DenseReluDense.wi", "DenseReluDense.wi_0"),
        "output.dense": ("intermediate.dense",),
        "output_query.dense": ("intermediate_query.dense",),  # BLIP-2's connector
        "ffn.lin2": ("ffn.lin1",),
        "mlp.down_proj": ("mlp.gate_proj", "mlp.gate_up_proj", "mlp.up_proj"),
        "mlp.c_proj": ("mlp.c_fc",),
        "mlp.Wo": ("mlp.Wi",),
        "feedforward.narrow": ("feedforward.widen",),
    },
    QUERY: dict.fromkeys(
        ("q_proj", "SelfAttention.q", "EncDecAttention.q", "self.query", "q_lin", "attention.query", "attn.q"), ()
    ),
    KEY: dict.fromkeys(
        ("k_proj", "SelfAttention.k", "EncDecAttention.k", "self.key", "k_lin", "attention.key", "attn.k"), ()
    ),
    VALUE: dict.fromkeys(
        ("v_proj", "SelfAttention.v", "EncDecAttention.v", "self.value", "v_lin", "attention.value", "attn.v"), ()
    ),
    HEAD: {"lm_head": ()},
}
"""Word -> the ends of the paths of such modules -> the maps beside them that get the sub-layer's input, if any."""

LAYER = re.compile(r"^(?P<stack>(?:.*?\.)?(?:layers|layer|block|blocks|h))\.(?P<number>\d+)\.")


@dataclass(frozen=True)
class Found:
    """A module that an adapter is to stand round."""

    path: str
    word: str
    """What it is for; `other` where a pattern named it."""
    stack: str
    """Path of the list of layers that it is in; empty outside of any."""
    layer: int
    """Its layer's place in that list, 0 outside of any."""
    entry: str | None
    """Path of the map beside it that gets the sub-layer's input; None where there is none."""

    @property
    def decodes(self) -> bool:
        """Whether it is part of a decoder beside an encoder."""
        return "decoder" in self.stack.split(".")


def find_sites(
    model: nn.Module,
    words: Sequence[str],
    *,
    patterns: Sequence[str] | None = None,
    leave_out: Sequence[int | str] = (),
) -> list[Found]:
    """Return the modules of a model that adapters go to, in the model's order.

    Args:
        model: The model; modules that have adapters already count as what they were.
        words: What the modules are for: attention, cross_attention, feedforward, query, key, value, head.
        patterns: Full paths in place of words, `*` for anything.
        leave_out: Numbers of layers (negative ones from the end of their stack), patterns of full paths, or parts of a
            vision-language model (language_model, vision, connector).

    Raises:
        UsageError: An unknown word, or something that names nothing in this model.
    """
    unknown = [word for word in words if word not in TAILS]
    if unknown:
        raise UsageError(f"there is no kind of module {unknown[0]!r} to adapt; there are {', '.join(TAILS)}")
    modules = {
        plain(path): bare(module) for path, module in model.named_modules() if path and not _inside_adapter(path)
    }
    paths = dict.fromkeys(modules)
    found = [site for path in paths if (site := _matched(path, words, patterns, paths)) is not None]
    if patterns is None:  # a block may be named as another model's map is
        found = [site for site in found if _is_map(modules[site.path])]
    for pattern in patterns or ():
        if not any(fnmatchcase(site.path, pattern) for site in found):
            near = closest(pattern, list(paths), 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"its modules are named like {next(iter(paths))}"
            raise UsageError(f"{type(model).__name__} has no module {pattern}; {hint} (full paths, * for anything)")
    if not found:
        ends = sorted({path.rpartition(".")[2] for path, module in model.named_modules() if _is_map(module)})
        raise UsageError(
            f"{type(model).__name__} has no module that is known as {' or '.join(words)}: its maps are named "
            f"{', '.join(ends) or 'nothing'}; name some by their full paths in target_modules, * for anything"
        )
    return _kept(model, found, leave_out)


def describe(found: Sequence[Found]) -> str:
    """Return in a few words what was found: how many modules of each kind in which stacks."""
    counts: dict[tuple[str, str], int] = {}
    for site in found:
        counts[site.word, site.stack] = counts.get((site.word, site.stack), 0) + 1
    return ", ".join(
        f"{count} {word}{f' in {stack}' if stack else ''}" for (word, stack), count in sorted(counts.items())
    )


def _matched(
    path: str, words: Sequence[str], patterns: Sequence[str] | None, paths: Mapping[str, None]
) -> Found | None:
    word, tail = _word(path)
    if patterns is not None:
        if not any(fnmatchcase(path, pattern) for pattern in patterns):
            return None
    elif word not in words:
        return None
    layer = LAYER.match(f"{path}.")
    entry = None
    if tail:
        beside = (path[: -len(tail)] + name for name in TAILS[word][tail])
        entry = next((name for name in beside if name in paths), None)
    return Found(path, word, layer["stack"] if layer else "", int(layer["number"]) if layer is not None else 0, entry)


def _word(path: str) -> tuple[str, str]:
    """Return what a module is for by the longest known end of its path, and that end."""
    best = ("other", "")
    for word, tails in TAILS.items():
        if word != HEAD and not LAYER.match(f"{path}."):
            continue
        for tail in tails:
            if len(tail) > len(best[1]) and (path == tail or path.endswith(f".{tail}")):
                best = (word, tail)
    return best


def _kept(model: nn.Module, found: list[Found], leave_out: Sequence[int | str]) -> list[Found]:
    if not leave_out:
        return found
    lengths: dict[str, int] = {}
    for site in found:
        lengths[site.stack] = max(lengths.get(site.stack, 0), site.layer + 1)

    def is_left_out(site: Found, what: int | str) -> bool:
        if isinstance(what, str):
            named = what in PART_WORDS and part_of(model, site.path) == PART_WORDS[what]
            return named or fnmatchcase(site.path, what)
        return bool(site.stack) and site.layer == (what if what >= 0 else lengths[site.stack] + what)

    for what in leave_out:
        if not any(is_left_out(site, what) for site in found):
            raise UsageError(
                f"leave_out names {what!r}, and there is no such layer, module or part among those to adapt: "
                f"{describe(found)}"
            )
    kept = [site for site in found if not any(is_left_out(site, what) for what in leave_out)]
    if not kept:
        raise UsageError("leave_out leaves no module to adapt")
    return kept


def _inside_adapter(path: str) -> bool:
    return any(word.startswith("quincunx_") for word in path.split("."))


def plain(path: str) -> str:
    """Return the path that a module had before adapters stood round it, or round what it is in."""
    return ".".join(word for word in path.split(".") if word != "base_layer")


def _is_map(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Conv2d) or type(module).__name__ == "Conv1D"


def width_of(module: nn.Module) -> int:
    """Return the width of what a linear map, a convolution or an embedding gives; UsageError for anything else."""
    module = bare(module)
    for name in ("out_features", "out_channels", "nf", "embedding_dim"):
        if isinstance(width := getattr(module, name, None), int):
            return width
    raise UsageError(f"{type(module).__name__} is no linear map: nobody knows the width of what it gives")


def input_width_of(module: nn.Module) -> int:
    """Return the width of what a linear map or a convolution takes; UsageError for anything else."""
    module = bare(module)
    for name in ("in_features", "in_channels", "nx"):
        if isinstance(width := getattr(module, name, None), int):
            return width
    raise UsageError(f"{type(module).__name__} is no linear map: nobody knows the width of what it takes")
