"""Which parameters of a compressing model are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from quincunx.config.sections.peft import Peft
from quincunx.errors import UsageError
from quincunx.recipes.compression.model.compressor import Compressor
from quincunx.tuners.attaching import attach

WORDS = ("new", "embeddings", "head", "lora", "adapters", "all")


@dataclass(frozen=True)
class Trained:
    """What came of the choice."""

    trainable: int
    """Parameters that are trained."""
    total: int
    """Parameters in all."""
    notes: tuple[str, ...]
    """What to say about it, in sentences."""


def choose_trained(model: Compressor, train: Sequence[str], peft: Peft | None = None) -> Trained:
    """Freeze what is not to be trained, and put adapters into the backbone where they are asked for.

    Args:
        model: The compressor; a whole one, before any adapters.
        train: Words of `model.train`. New parameters (slots, starts, separator, projection, a trained table of
            positions) are always trained.
        peft: Options of the adapters. Unset: the method lora as peft has it for the architecture.

    Raises:
        UsageError: An unknown word; words that contradict one another; or nothing would be trained.
        MissingExtra: Adapters are asked for, and peft is not installed.
    """
    unknown = [word for word in train if word not in WORDS]
    if unknown:
        raise UsageError(f"unknown choice of what is trained, {unknown[0]!r}: there are {', '.join(WORDS)}")
    notes: list[str] = []
    adapts = bool({"lora", "adapters"} & {*train})
    backbone = model.backbone
    if "all" in train:
        if adapts:
            raise UsageError("model.train names all and adapters, which add nothing to a model that is trained whole")
        backbone.requires_grad_(True)
    else:
        backbone.requires_grad_(False)
    if adapts:
        section = peft if peft is not None and peft.method is not None else Peft(method="lora")
        attached = attach(backbone, section)
        if attached.model is not backbone:
            raise UsageError(
                f"peft's method {section.method} wraps the model, and slots go into it: choose lora, or one of this "
                "package"
            )
        notes += attached.notes[1:]
    tied = _weight(backbone.get_input_embeddings()) is _weight(backbone.get_output_embeddings())
    for word, module in (("embeddings", backbone.get_input_embeddings()), ("head", backbone.get_output_embeddings())):
        if word in train and isinstance(module, nn.Module):
            module.requires_grad_(True)
            if tied and not {"embeddings", "head"} <= {*train}:
                notes.append(f"the model's head and embeddings are one: training the {word} trains both")
    parameters = list(dict.fromkeys(model.parameters()))
    trainable = sum(each.numel() for each in parameters if each.requires_grad)
    total = sum(each.numel() for each in parameters)
    if trainable == 0:
        raise UsageError(
            f"model.train is {', '.join(train) or 'empty'}, and the model has no new parameters: nothing would be "
            "trained. Add embeddings, head, adapters or all, or compress with slots"
        )
    share = f"{trainable:,} of {total:,} parameters are trained ({100 * trainable / total:.3g} %): {', '.join(train)}"
    return Trained(trainable, total, (share, *notes))


def _weight(module: object) -> object:
    return getattr(module, "weight", None)
