"""The config's sections on what is trained in a frozen backbone: adapters of every kind, and parts of its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quincunx.config.schema import Section, When, unless, when
from quincunx.recipes.vision_language.config_model import IN_MODEL


def _kinds(*names: str) -> When:
    text = " or ".join(f"adapt.{name}" for name in names) + " is true"
    return When(
        text, lambda config: any(getattr(config.adapt, name) for name in names), tuple(f"adapt.{n}" for n in names)
    )


ADAPTED = _kinds("bottleneck", "compacter", "low_rank", "hyperformer")
DENSE = _kinds("bottleneck", "compacter", "low_rank")
COMPACTER = when("adapt.compacter", True)
HYPER = when("adapt.hyperformer", True)
LORA = when("adapt.lora", True)
VISION = when("adapt.vision", True)
PER_TASK = when("adapt.single", False)
PROMPTED = When(
    "adapt.encoder_prompts or adapt.decoder_prompts is above 0, or adapt.prefix true",
    lambda config: config.adapt.encoder_prompts > 0 or config.adapt.decoder_prompts > 0 or config.adapt.prefix,
    ("adapt.encoder_prompts", "adapt.decoder_prompts", "adapt.prefix"),
)

SEVERAL = When(
    "data.tasks is empty or has several, or the objective is pretraining",
    lambda config: config.objective == "pretraining" or len(config.data.tasks) != 1,
    ("objective", "data.tasks"),
)


class Adapt(Section):
    """Small trained parts of a frozen backbone, by switches that combine: they become parts of one `composite` of
    docs/tuners.md. `peft` says the same, and more, in its own words."""

    bottleneck: bool = False
    """Bottleneck adapters after attention and feedforward."""
    compacter: bool = False
    """The same with maps that are sums of Kronecker products."""
    low_rank: bool = False
    """The same with maps of a low rank."""
    hyperformer: bool = False
    """The same with maps that a network makes out of what it learns of tasks and layers."""
    single: Annotated[bool, DENSE, SEVERAL] = False
    """One set of adapters for all tasks; false: a set for each."""
    reduction_factor: Annotated[float, ADAPTED] = Field(default=16.0, gt=0)
    """A bottleneck is the width divided by this, rounded down."""
    cross_attention: Annotated[bool, ADAPTED] = True
    """After the decoder's cross-attention too."""
    norm_before: Annotated[bool, ADAPTED] = False
    """A layer norm before the first map."""
    norm_after: Annotated[bool, ADAPTED] = False
    """A layer norm after the second."""
    share_down: Annotated[bool, DENSE, PER_TASK, SEVERAL] = False
    """The first map is one for all tasks."""
    share_up: Annotated[bool, DENSE, PER_TASK, SEVERAL] = False
    """The second map is one for all tasks."""
    division: Annotated[int, COMPACTER] = Field(default=4, ge=1)
    """Compacter: n, the size of the rules and the number of products; it divides width and bottleneck."""
    factorized: Annotated[bool, COMPACTER] = True
    """Compacter: the large factors have a low rank."""
    phm_rank: Annotated[int, COMPACTER, when("adapt.factorized", True)] = Field(default=1, ge=1)
    """Compacter: that rank."""
    shared_rule: Annotated[bool, COMPACTER] = True
    """Compacter: one set of rules for the whole model."""
    shared_rule_over_tasks: Annotated[bool, COMPACTER, when("adapt.shared_rule", False), PER_TASK] = False
    """Compacter: each map's rules are shared by the tasks."""
    init_range: Annotated[float, COMPACTER] = Field(default=0.01, gt=0)
    """Compacter: standard deviation of the rules at the start."""
    low_rank_rank: Annotated[int, when("adapt.low_rank", True)] = Field(default=1, ge=1)
    """Low-rank adapters: rank of each map; 1: two vectors a map."""
    unique: Annotated[bool, HYPER] = False
    """Hyperformer: networks of their own for feedforward, attention and cross-attention."""
    efficient: Annotated[bool, HYPER] = False
    """Hyperformer: one network for all, told which by an embedding."""
    projection: Annotated[int, HYPER] = Field(default=-1, ge=-1)
    """Hyperformer: width of the embedding that weights are made of; -1: 64. Published results are with 8."""
    vision: bool = False
    """Convolution adapters in the image encoder."""
    vision_type: Annotated[str, VISION] = Field(default="middle-bottleneck", min_length=1)
    """Where, and which: `front`, `middle`, `back`, `transition`, joined by `/`, a dash, and `bottleneck` or `basic`."""
    vision_reduction_factor: Annotated[float, VISION] = Field(default=2.0, gt=0)
    """Channels of a block divided by this are those inside a bottleneck."""
    vision_without_batch_norm: Annotated[bool, VISION] = False
    """No batch norms in them; what they give is added before the block's own batch norm rather than after. The guide's
    words for it, "load vis encoder with or without Batchnorm", speak of the encoder, whose own norms stay."""
    head: bool = False
    """A bottleneck from the last state to the logits, beside the head."""
    lora: bool = False
    """Low-rank changes of the queries' and values' maps, and every bias."""
    lora_rank: Annotated[int, LORA] = Field(default=4, ge=1)
    """Their rank."""
    lora_alpha: Annotated[float, LORA] = Field(default=32.0, gt=0)
    """They are multiplied by alpha / rank."""
    single_lora: Annotated[bool, LORA, SEVERAL] = False
    """One pair of matrices for all tasks; false: a pair for each."""
    encoder_prompts: int = Field(default=0, ge=0)
    """Trained vectors before what the encoder reads."""
    decoder_prompts: int = Field(default=0, ge=0)
    """Trained vectors before what the decoder says."""
    single_prompt: Annotated[bool, PROMPTED, SEVERAL] = False
    """The same vectors for all tasks; false: each has its own."""
    prompt_width: Annotated[int, PROMPTED] = Field(default=768, ge=1)
    """Hidden width of the map that vectors come from."""
    prefix: bool = False
    """Trained keys and values in the attention of every layer (prefix tuning)."""
    prefix_length: Annotated[int, when("adapt.prefix", True)] = Field(default=10, ge=1)
    """How many."""
    track_z: bool = False
    """Log the mean square of what each adapter's bottleneck holds."""
    z_weight: Annotated[float, when("adapt.track_z", True)] = Field(default=0.001, ge=0)
    """Add this times their mean to the loss."""


FROZEN_LANGUAGE = unless("unfreeze.language_model", True)
FROZEN_VISION = unless("unfreeze.vision", True)


class Unfreeze(Section):
    """Parts of the backbone that are trained besides adapters."""

    language_model: bool | None = None
    """Encoder, decoder, embeddings and head. Unset: where there are no adapters and nothing else is named."""
    head: Annotated[bool, FROZEN_LANGUAGE] = False
    """The head, and where its weight is that of the embeddings, these too."""
    layer_norms: Annotated[bool, FROZEN_LANGUAGE] = False
    """Every layer norm of the language model."""
    batch_norms: Annotated[bool, FROZEN_VISION] = False
    """Weights and biases of the image encoder's batch norms."""
    vision: bool = False
    """The whole image encoder."""
    vision_last_layer: Annotated[bool, FROZEN_VISION] = False
    """The image encoder's last stage."""
    hold_layer_norms: bool = False
    """Keep layer norms as in evaluation. They have no statistics, so nothing changes by it, and that is said."""
    hold_batch_norms: Annotated[bool, IN_MODEL] = False
    """Keep the running statistics of the image encoder's batch norms; those of adapters go on."""
