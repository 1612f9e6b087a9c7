"""Parameter-efficient fine-tuning: which small part of a pretrained model is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from quincunx.config.schema import AnyCase, Section, When, lookup, unless

ATTACHED = When(
    "peft.method or peft.train is set",
    lambda config: lookup(config, "peft.method") is not None or lookup(config, "peft.train") is not None,
    ("peft.method", "peft.train"),
)
"""Something of the model is left as it is."""


class Peft(Section):
    """Train adapters in a frozen model, or only some of its parameters."""

    method: Annotated[str, AnyCase] | None = Field(default=None, min_length=1)
    """A method of this package (`bottleneck`, `compacter`, `prompts`, `ladder` ...: docs/tuners.md) or of the library
    peft (`lora`, `ia3`, `vera`, `boft` ...) by its name in lower case. Needs `pip install 'quincunx[peft]'`. Unset: no
    adapters."""
    options: Annotated[dict[str, Any], unless("peft.method", None)] = Field(default_factory=dict[str, Any])
    """The method's options, for example `{reduction_factor: 8}` of bottleneck or `{r: 16, lora_alpha: 32,
    target_modules: [query, value]}` of peft's lora; what is left out has the method's default."""
    train: list[Annotated[str, Field(min_length=1)]] | None = Field(default=None, min_length=1)
    """Parameters of the model that are trained besides the adapters, by the names of parameters or modules, `*` for
    anything: `[embeddings, "*.LayerNorm.*"]`, or by words where the model has nothing of that name: `norms`, `biases`,
    `batch_norms`, `head`, `embeddings`, `last_layer`, `language_model`, `vision`, `vision_last_layer`, `connector`,
    `relative_bias`. Unset: none besides adapters; all where there is no method either."""
    z_weight: Annotated[float, unless("peft.method", None)] = Field(default=0.0, ge=0)
    """Factor of a further term of the loss, the z-regulariser: what the bottlenecks of adapters hold, squared; the mean
    over a text's tokens, over texts, over adapters. Those of `bottleneck`, `low_rank`, `compacter`, `hyperformer` and
    `head` have one. 0: no such term."""
    track_z: Annotated[bool, unless("peft.method", None)] = False
    """Log that mean for each adapter while training, as `z/<path of the adapter>`, and over all of them as `z`."""
    frozen_statistics: Annotated[list[Literal["batch_norms", "layer_norms"]], ATTACHED] = Field(
        default_factory=list[Literal["batch_norms", "layer_norms"]]
    )
    """Norms of the model that stay in evaluation mode while it is trained, so that they keep their running statistics:
    `batch_norms`; `layer_norms` have none, and nothing changes. `train` says whether their weights are trained."""
