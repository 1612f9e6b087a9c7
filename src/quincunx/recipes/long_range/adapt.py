"""Training small parts of a trunk that was trained before, and the head."""

from __future__ import annotations

from torch import nn

from quincunx.config.sections.peft import Peft
from quincunx.errors import UsageError
from quincunx.recipes.long_range.model import LongRangeClassifier, LongRangeDenoiser
from quincunx.tuners import attach


def adapt(model: LongRangeClassifier | LongRangeDenoiser, section: Peft) -> list[str]:
    """Put adapters into a model's trunk, freeze the rest of it, and return what to say about it.

    The head (the classifier, or what restores masked tokens) is trained as ever: it is another one for each task.

    Raises:
        UsageError: The method needs another model than this one.
    """
    if section.method is None and section.train is None:
        return []
    head: nn.Module = model.classifier if isinstance(model, LongRangeClassifier) else model.restore
    attached = attach(model, section)
    if attached.model is not model:
        raise UsageError(
            f"peft.method {section.method} of the library peft wraps a model, which is none of this recipe's then: "
            "choose lora, or a method of this package (docs/tuners.md)"
        )
    head.requires_grad_(True)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return [f"with the head, {trained:,} of {attached.total:,} parameters are trained", *attached.notes]
