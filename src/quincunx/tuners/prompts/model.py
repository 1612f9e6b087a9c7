"""Where prompts go: before the stacks of layers that read texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from quincunx.config.suggest import closest
from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.prompts.config import PromptsConfig
from quincunx.tuners.prompts.layer import DecoderPart, EncoderPart, Prompt, UnmovedPositions, UnnormedPrompt
from quincunx.tuners.sites import width_of

LISTS = ("layers", "layer", "blocks", "block", "h")
"""What the list of layers is called in a stack."""


@dataclass(frozen=True)
class Stack:
    """Layers that read words or their embeddings."""

    path: str
    module: nn.Module
    names: tuple[str, ...]
    """Its arguments in their order."""
    decodes: bool
    """Whether it is a decoder, or a language model without an encoder."""

    @property
    def partner(self) -> str:
        """Path of the decoder that would stand beside this encoder."""
        return f"{self.path.removesuffix('encoder')}decoder"


def find_stacks(model: nn.Module) -> list[Stack]:
    """Return the stacks of a model that take `inputs_embeds`, in the model's order."""
    found: dict[str, Stack] = {}
    for path, module in model.named_modules():
        words = path.split(".")
        lists = (module._modules.get(name) for name in LISTS)
        if any(word.startswith("quincunx_") for word in words) or not any(isinstance(x, nn.ModuleList) for x in lists):
            continue
        names = tuple(inspect.signature(module.forward).parameters)
        if "inputs_embeds" in names and hasattr(module, "get_input_embeddings"):
            plain = ".".join(word for word in words if word != "base_layer")
            decodes = "past_key_values" in names and not plain.endswith("encoder")
            found[plain] = Stack(plain, module, names, decodes)
    return list(found.values())


def place(model: nn.Module, config: PromptsConfig) -> Placement:
    """Return a prompt before each encoder and each decoder that is to have one.

    Raises:
        UsageError: The model has no such stack, or is itself one.
    """
    stacks = find_stacks(model)
    chosen = _chosen(model, stacks, config)
    tasks = len(config.tasks) or None
    decoders = {stack.path for stack in stacks if stack.decodes}
    placement = Placement()

    def prompt(stack: Stack, length: int) -> Prompt:
        module: Any = stack.module
        return Prompt(length, width_of(module.get_input_embeddings()), config.mid_dim, tasks, config.std)

    seen: dict[str, int] = {}  # decoder -> length of its encoder's prompt
    for stack in chosen:
        if stack.decodes or not config.encoder_prompt_len:
            continue
        length = config.encoder_prompt_len
        keeps = stack.partner in decoders
        part = EncoderPart(stack.module, stack.names, prompt(stack, length), keeps=keeps)
        placement.adapters[stack.path] = part
        for name, make in INSIDE.items():
            if isinstance(stack.module._modules.get(name), nn.Module):
                placement.adapters[f"{stack.path}.{name}"] = make(length)
        if keeps:
            seen[stack.partner] = length
    for stack in stacks:
        own = config.decoder_prompt_len if stack.decodes and stack in chosen else 0
        if own or stack.path in seen:
            part = DecoderPart(stack.module, stack.names, prompt(stack, own) if own else None, seen.get(stack.path, 0))
            placement.adapters[stack.path] = part
    placement.notes = tuple(
        f"{part.prompt.length} prompts before {path}"
        for path, part in placement.adapters.items()
        if isinstance(part, EncoderPart | DecoderPart) and part.prompt is not None
    )
    return placement


INSIDE: dict[str, Callable[[int], Any]] = {"embed_positions": UnmovedPositions, "layernorm_embedding": UnnormedPrompt}
"""What an encoder adds to embeddings or makes of them before its first layer (BART, mBART, Pegasus, Marian), and the
part that keeps it off the prompt."""


def _chosen(model: nn.Module, stacks: Sequence[Stack], config: PromptsConfig) -> list[Stack]:
    """Return the stacks that get prompts; UsageError where there are none of a kind that is asked for."""
    name = type(model).__name__
    if not stacks:
        raise UsageError(
            f"{name} has no encoder or decoder that takes inputs_embeds and holds its layers itself, as those of BART, "
            "T5 and Llama do: use the method prefix, which stands in attention, or bottleneck, which suits any of them"
        )
    chosen = list(stacks)
    if config.target_modules is not None:
        chosen = [stack for stack in stacks if any(fnmatchcase(stack.path, each) for each in config.target_modules)]
        for pattern in config.target_modules:
            if not any(fnmatchcase(stack.path, pattern) for stack in chosen):
                paths = [stack.path for stack in stacks]
                near = closest(pattern, paths, 3) or paths
                raise UsageError(f"{name} has no encoder or decoder {pattern}; there are {', '.join(near)}")
    wanted = {True: config.decoder_prompt_len, False: config.encoder_prompt_len}
    for decodes, key in ((True, "decoder_prompt_len"), (False, "encoder_prompt_len")):
        if wanted[decodes] and not any(stack.decodes == decodes for stack in chosen):
            kind, other = ("decoder", "encoder_prompt_len") if decodes else ("encoder", "decoder_prompt_len")
            raise UsageError(f"{key} is {wanted[decodes]}, and {name} has no {kind} to put prompts before: use {other}")
    if any(not stack.path and wanted[stack.decodes] for stack in chosen):
        raise UsageError(
            f"{name} is itself the stack of layers, and a part stands round modules inside a model: put it into one "
            "with a head, or use prompt_tuning of the library peft"
        )
    return chosen
