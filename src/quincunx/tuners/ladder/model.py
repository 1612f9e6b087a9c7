"""Where ladders go: beside which stacks of layers, and what their parts are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.ladder.config import LadderConfig
from quincunx.tuners.ladder.keeping import Keeper
from quincunx.tuners.ladder.layer import Climb, Link, Rung, Stage, still
from quincunx.tuners.ladder.side import SideNetwork
from quincunx.tuners.sites import ATTENTION, CROSS, FEEDFORWARD, KEY, TAILS, bare, input_width_of, plain, width_of

OUTERMOST = re.compile(r"^(?P<list>(?:.*?\.)?(?:layers|layer|block|blocks|h))\.(?P<number>\d+)\.(?P<rest>.+)$")


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
    decoder = next((stack for stack in stacks if stack.memory_width is not None), None)
    encoder = _encoder_of(decoder, stacks) if decoder is not None else None
    link = Link() if encoder is not None else None
    before = {stack.path: runs_before(modules, stack, found) for stack in stacks}
    keeper = None
    if config.cache is not None:
        depends = {path: module for each in before.values() for path, module in each.items()}
        keeper = Keeper(model, config, depends, noted)
    placement = Placement(notes=tuple(_notes(stacks, noted, found)))
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
    """Return the stacks of layers with attention in a model, in its order."""
    modules = modules_of(model)
    inside: dict[str, dict[int, list[str]]] = {}
    for path in modules:
        match = OUTERMOST.match(path)
        if match is not None:
            inside.setdefault(match["list"], {}).setdefault(int(match["number"]), []).append(match["rest"])
    return [
        _stack(modules, path, layers[0])
        for path, layers in inside.items()
        if sorted(layers) == list(range(len(layers))) and _tail(layers[0], ATTENTION) is not None
    ]


def _stack(modules: Mapping[str, nn.Module], path: str, rests: list[str]) -> Stack:
    """Return the stack with a list of layers, from the paths within the first of them."""
    tail = _tail(rests, FEEDFORWARD) or _tail(rests, ATTENTION)
    width = width_of(modules[f"{path}.0.{tail}"])
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
    causal = any(
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
    found = [
        stack
        for stack in stacks
        if (config.target_modules is None or any(fnmatchcase(stack.path, each) for each in config.target_modules))
        and (config.sides == "both" or (config.sides == "decoder") == stack.decodes)
    ]
    if not found:
        raise UsageError(f"no stack is left for sides: {config.sides}; those of {type(model).__name__} are {there}")
    for stack in found:
        narrow = int(stack.width / config.reduction_factor)
        if narrow < 1:
            raise UsageError(
                f"{stack.path or 'the model'} is {stack.width} wide: a reduction factor of "
                f"{config.reduction_factor:g} leaves nothing of it"
            )
        if config.num_heads is not None and narrow % config.num_heads:
            raise UsageError(f"a side network {narrow} wide cannot have {config.num_heads} heads of equal width")
    return found


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
        if not any(_left_out(stack, what) for stack in stacks):
            raise UsageError(
                f"leave_out names {what!r}, and there is no such layer: {stacks[0].path or 'the model'} has "
                f"{len(stacks[0].layers)}, the first of them {stacks[0].layers[0]}"
            )


def _encoder_of(decoder: Stack, stacks: list[Stack]) -> Stack | None:
    others = [stack for stack in stacks if not stack.decodes]
    if not others:
        return None
    head, _, tail = decoder.path.rpartition("decoder")
    found = next((stack for stack in others if stack.path == f"{head}encoder{tail}"), None)
    if found is None:
        raise UsageError(
            f"{decoder.path} looks at an encoder, and nobody knows which of {', '.join(s.path for s in others)} it is: "
            "choose sides: encoder or sides: decoder"
        )
    return found


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


def _tail(rests: list[str], word: str) -> str | None:
    return next((rest for rest in rests if _ends(rest, word)), None)


def _ends(rest: str, word: str) -> bool:
    return any(rest == tail or rest.endswith(f".{tail}") for tail in TAILS[word])
