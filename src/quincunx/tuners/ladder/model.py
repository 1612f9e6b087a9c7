"""Where ladders go: beside which stacks of layers, and what their parts are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.ladder.config import LadderConfig
from quincunx.tuners.ladder.keeping import Keeper
from quincunx.tuners.ladder.layer import Climb, Link, Rung, Stage, still
from quincunx.tuners.ladder.side import SideNetwork
from quincunx.tuners.parts import PART_WORDS, PICTURES, part_of, sees_its_past_alone, writes_of_pictures
from quincunx.tuners.sites import ATTENTION, CROSS, FEEDFORWARD, KEY, TAILS, bare, input_width_of, plain, width_of

OUTERMOST = re.compile(r"^(?P<list>(?:.*?\.)?(?:layers|layer|block|blocks|h))\.(?P<number>\d+)\.(?P<rest>.+)$")

INNER_LAYERS = ("vision_feature_layer", "vision_feature_layers")
"""What configs call the layers of an image encoder that are read in place of its last states."""


@dataclass
class Stack:
    """A stack of layers that a side network can stand beside."""

    path: str
    """Of the module that has the list of layers."""
    layers: list[str]
    """Paths of the layers."""
    width: int
    causal: bool
    memory_width: int | None
    """Of what its layers look at in an encoder; None: they look at none."""

    @property
    def decodes(self) -> bool:
        """Whether it generates, or looks at another stack."""
        return self.causal or self.memory_width is not None


def place(model: nn.Module, config: LadderConfig) -> Placement:
    """Return a side network for each stack, and the parts round its layers; the stacks are left without dropout.

    Raises:
        UsageError: The model has no such stack, or one that a side network cannot stand beside.
    """
    modules = modules_of(model)
    found = find_stacks(model)
    stacks = _chosen(found, model, config)
    _check_left_out(stacks, config)
    noted = {stack.path: _noted(stack, config) for stack in stacks}
    encoder, decoder = _pair(stacks)
    link = Link() if encoder is not None else None
    before = {stack.path: runs_before(modules, stack, found) for stack in stacks}
    if writes_of_pictures(model):
        seen = {path: module for path, module in modules.items() if part_of(model, path) in PICTURES}
        for stack in stacks:
            if part_of(model, stack.path) == "language":
                before[stack.path] |= seen
    keeper = None
    if config.cache is not None:
        depends = {path: module for each in before.values() for path, module in each.items()}
        keeper = Keeper(model, config, depends, noted)
    placement = Placement(notes=tuple(_notes(stacks, noted, found)))
    if unread := [stack.path for stack in found if part_of(model, stack.path) in PICTURES and stack not in stacks]:
        placement.notes += (f"none beside {', '.join(unread)}: frozen layers read it, and let no gradient back",)
    for stack in stacks:
        frozen = tuple(before[stack.path].values())
        own = link if stack in (encoder, decoder) else None
        climb = Climb(
            stack.path, len(stack.layers), noted[stack.path],
            causal=stack.causal, cross=stack.memory_width is not None, link=own, keeper=keeper,
        )  # fmt: skip
        side = SideNetwork(
            stack.width, len(noted[stack.path]), config,
            cross=stack.memory_width is not None,
            memory_width=stack.memory_width if own is None else None,
            ends=stack is not encoder,
        )  # fmt: skip
        if stack.path:
            placement.adapters[stack.path] = Stage(frozen, own if stack is encoder else None)
        for number, path in enumerate(stack.layers):
            last = number == len(stack.layers) - 1
            placement.adapters[path] = Rung(modules[path], number, climb, frozen, side if last else None)
        still(frozen)
    return placement


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return a model's modules by the paths that they have without adapters; adapters themselves left out."""
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if not any(word.startswith("quincunx_") for word in path.split(".")):
            found[plain(path)] = bare(module)
    return found


def find_stacks(model: nn.Module) -> list[Stack]:
    """Return the stacks of layers with attention in a model, all of one width, in its order."""
    modules = modules_of(model)
    inside: dict[str, dict[int, list[str]]] = {}
    for path in modules:
        match = OUTERMOST.match(path)
        if match is not None:
            inside.setdefault(match["list"], {}).setdefault(int(match["number"]), []).append(match["rest"])
    return [
        _stack(model, modules, path, layers[0])
        for path, layers in inside.items()
        if sorted(layers) == list(range(len(layers)))
        and _tail(layers[0], ATTENTION) is not None
        and len(_widths(modules, path, layers)) == 1
    ]


def _stack(model: nn.Module, modules: Mapping[str, nn.Module], path: str, rests: list[str]) -> Stack:
    """Return the stack with a list of layers, from the paths within the first of them."""
    width = width_of(modules[f"{path}.0.{_end(rests)}"])
    looks = _tail(rests, CROSS)
    memory = None
    if looks is not None:
        beside = looks.rpartition(".")[0].removesuffix(".output")
        key = next((rest for rest in rests if rest.startswith(f"{beside}.") and _ends(rest, KEY)), None)
        memory = width if key is None else input_width_of(modules[f"{path}.0.{key}"])
    own = path.rpartition(".")[0]
    count = len(modules[path]._modules)
    passes = getattr(modules[own], "num_layers", None)
    if isinstance(passes, int) and passes > count:
        raise UsageError(
            f"{own or 'the model'} passes through its {count} layers {passes} times (tied weights): a ladder needs "
            "layers of their own"
        )
    causal = sees_its_past_alone(model, path) or any(
        getattr(module, name, False) is True
        for module in modules[f"{path}.0"].modules()
        for name in ("is_causal", "is_decoder")
    )
    return Stack(own, [f"{path}.{number}" for number in range(count)], width, causal, memory)


def _chosen(stacks: list[Stack], model: nn.Module, config: LadderConfig) -> list[Stack]:
    if not stacks:
        raise UsageError(f"{type(model).__name__} has no stack of layers with attention that a ladder can stand beside")
    there = ", ".join(stack.path or "the model itself" for stack in stacks)
    for pattern in config.target_modules or ():
        if not any(fnmatchcase(stack.path, pattern) for stack in stacks):
            raise UsageError(f"target_modules names {pattern}, and the stacks of {type(model).__name__} are {there}")
    parts = _parts_left_out(stacks, model, config)
    found = [
        stack
        for stack in stacks
        if (config.target_modules is None or any(fnmatchcase(stack.path, each) for each in config.target_modules))
        and (config.sides == "both" or (config.sides == "decoder") == stack.decodes)
        and part_of(model, stack.path) not in parts
    ]
    if not found:
        out = f" and without {', '.join(sorted(parts))}" if parts else ""
        raise UsageError(
            f"no stack is left for sides: {config.sides}{out}; those of {type(model).__name__} are {there}"
        )
    for stack in found:
        _check_pictures(stack, model, config)
        narrow = int(stack.width / config.reduction_factor)
        if narrow < 1:
            raise UsageError(
                f"{stack.path or 'the model'} is {stack.width} wide: a reduction factor of "
                f"{config.reduction_factor:g} leaves nothing of it"
            )
        if config.num_heads is not None and narrow % config.num_heads:
            raise UsageError(f"a side network {narrow} wide cannot have {config.num_heads} heads of equal width")
    return found


def _parts_left_out(stacks: list[Stack], model: nn.Module, config: LadderConfig) -> set[str]:
    """Return the parts of a vision-language model beside which no ladder stands.

    Where words are written from pictures, frozen layers read what the image encoder gives, and a ladder lets no
    gradient into frozen layers: one beside the image encoder would learn next to nothing, unless it stands alone.
    """
    there = {part_of(model, stack.path) for stack in stacks}
    named = {what: PART_WORDS[what] for what in config.leave_out if isinstance(what, str) and what in PART_WORDS}
    for word, part in named.items():
        if part not in there:
            raise UsageError(f"leave_out names {word}, and {type(model).__name__} has no stack of layers there")
    left: set[str] = {*named.values()}
    if config.target_modules is None and writes_of_pictures(model) and "language" in there - left:
        left |= {*PICTURES}
    return left


def _check_pictures(stack: Stack, model: nn.Module, config: LadderConfig) -> None:
    """Refuse a stack for pictures whose last states are not read, or of whose rows nobody knows the examples."""
    if not writes_of_pictures(model) or part_of(model, stack.path) not in PICTURES:
        return
    own: Any = getattr(model, "config", None)
    inner = next((name for name in INNER_LAYERS if getattr(own, name, None) is not None), None)
    if inner is not None:
        raise UsageError(
            f"{type(model).__name__} reads layer {getattr(own, inner)} of its image encoder ({inner}), and a ladder "
            f"beside {stack.path} changes the states after all layers: take another method there"
        )
    if config.cache is not None:
        raise UsageError(
            f"rows of {stack.path} are pictures and not examples, so that nobody knows whose states to keep: leave "
            "cache out, or name the language model in target_modules"
        )


def _noted(stack: Stack, config: LadderConfig) -> tuple[int, ...]:
    """Return the layers beside which a block stands."""
    count = len(stack.layers)
    left = {number for what in config.leave_out for number in _left_out(stack, what)}
    found = tuple(n for n in range(count) if (count - 1 - n) % config.every == 0 and n not in left)
    if not found:
        raise UsageError(f"leave_out and every leave no layer of {stack.path or 'the model'} for a ladder")
    return found


def _left_out(stack: Stack, what: int | str) -> set[int]:
    """Return the layers of a stack that an entry of `leave_out` means."""
    count = len(stack.layers)
    if isinstance(what, str):
        return {number for number, path in enumerate(stack.layers) if fnmatchcase(path, what)}
    return {what % count} if -count <= what < count else set()


def _check_left_out(stacks: list[Stack], config: LadderConfig) -> None:
    for what in config.leave_out:
        if what not in PART_WORDS and not any(_left_out(stack, what) for stack in stacks):
            raise UsageError(
                f"leave_out names {what!r}, and there is no such layer: {stacks[0].path or 'the model'} has "
                f"{len(stacks[0].layers)}, the first of them {stacks[0].layers[0]}"
            )


def _pair(stacks: list[Stack]) -> tuple[Stack | None, Stack | None]:
    """Return the encoder and the decoder that looks at it, None and None where there are not both."""
    decoders = [stack for stack in stacks if stack.memory_width is not None]
    others = {stack.path: stack for stack in stacks if not stack.decodes}
    for decoder in decoders:
        head, _, tail = decoder.path.rpartition("decoder")
        if (encoder := others.get(f"{head}encoder{tail}")) is not None:
            return encoder, decoder
    if decoders and others:
        raise UsageError(
            f"{decoders[0].path} looks at an encoder, and nobody knows which of {', '.join(others)} it is: choose "
            "sides: encoder or sides: decoder, or one of them by target_modules"
        )
    return None, None


def runs_before(modules: Mapping[str, nn.Module], stack: Stack, stacks: list[Stack]) -> dict[str, nn.Module]:
    """Return the modules of a stack, and those that run before it, by path.

    These are what models list before it, other stacks only where it looks at one (CLIP has one for texts and one for
    pictures, which know nothing of each other).
    """
    others = [other.path for other in stacks if other is not stack and stack.memory_width is None]
    roots = [stack.path]
    words = stack.path.split(".") if stack.path else []
    for depth in range(len(words)):
        above = ".".join(words[:depth])
        children = [path for path in modules if path and path.rpartition(".")[0] == above]
        earlier = children[: children.index(".".join(words[: depth + 1]))]
        roots += [path for path in earlier if not any(f"{other}.".startswith(f"{path}.") for other in others)]
    return {
        path: module
        for path, module in modules.items()
        if any(not root or path == root or path.startswith(f"{root}.") for root in roots)
    }


def _notes(stacks: list[Stack], noted: Mapping[str, tuple[int, ...]], there: list[Stack]) -> list[str]:
    found = [f"{len(noted[stack.path])} blocks beside {stack.path or 'the model'}" for stack in stacks]
    looking = any(stack.memory_width is not None for stack in there)
    if looking and not any(stack.decodes for stack in stacks):
        found.append("the decoder has no ladder: gradients pass through it to reach the encoder's; sides: both is less")
    return found


def _widths(modules: Mapping[str, nn.Module], path: str, layers: Mapping[int, list[str]]) -> set[int]:
    """Return how wide the states of the layers in a list are, as far as it is known."""
    ends = {f"{path}.{number}.{end}" for number, rests in layers.items() if (end := _end(rests)) is not None}
    return {width_of(modules[end]) for end in ends}


def _end(rests: list[str]) -> str | None:
    """Return the path within a layer of the map that gives its states; None where there is none."""
    return _tail(rests, FEEDFORWARD) or _tail(rests, ATTENTION)


def _tail(rests: list[str], word: str) -> str | None:
    return next((rest for rest in rests if _ends(rest, word)), None)


def _ends(rest: str, word: str) -> bool:
    return any(rest == tail or rest.endswith(f".{tail}") for tail in TAILS[word])
