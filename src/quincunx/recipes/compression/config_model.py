"""The config's sections on the language model and on how it compresses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from quincunx.config.schema import Accepts, AnyCase, Section, When, unless, when

LOADED = unless("model.path", None)
BUILT = When("model.path is unset", lambda config: config.model.path is None, ("model.path",))
TOKEN_STATES = when("compress.readout", "tokens", "mean_pool")
HAS_SLOTS = when("compress.readout", "kv", "tokens")
PROJECTED = When(
    "compress.projection is mlp, of the read-out tokens or mean_pool",
    lambda config: config.compress.projection == "mlp" and config.compress.readout != "kv",
    ("compress.projection", "compress.readout"),
)
SEVERAL_SEGMENTS = When(
    "compress.segments is above 1", lambda config: config.compress.segments > 1, ("compress.segments",)
)
CHAINED = When(
    "compress.segments is above 1 and they are not concatenated",
    lambda config: config.compress.segments > 1 and config.compress.join != "concatenate",
    ("compress.segments", "compress.join"),
)

Layer = Annotated[int | Annotated[Literal["half", "output"], AnyCase], Accepts("an int, half or output")]
Slots = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)],
    Accepts("an int, or a list of them"),
]


class ModelBuild(Section):
    """The language model to build, from random weights, where none is loaded."""

    architecture: str = Field(default="llama", min_length=1)
    """Architecture, under its name in transformers: `llama`, `gpt2`, `mistral`, `qwen2` ...: any causal one."""
    num_layers: int = Field(default=4, ge=1)
    """Blocks."""
    width: int = Field(default=256, ge=1)
    """Width of token states."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; they divide the width."""
    hidden: int | None = Field(default=None, ge=1)
    """Hidden width of each block's MLP. Unset: four times the width."""
    positions: int | None = Field(default=None, ge=1)
    """Longest sequence in tokens, for architectures with a table of positions. Unset: what the data needs."""
    tie_embeddings: bool = True
    """The head's weights are those of the embeddings."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Further sizes under the names of the architecture's config in transformers."""


class Model(Section):
    """The causal language model: pretrained, or built from sizes."""

    path: str | None = Field(default=None, min_length=1)
    """Local folder or hub name of a Hugging Face causal language model. Unset: `build`."""
    revision: Annotated[str, LOADED] | None = Field(default=None, min_length=1)
    """Commit, branch or tag of a hub name. Unset: its main branch."""
    build: Annotated[ModelBuild, BUILT] = Field(default_factory=ModelBuild)
    """The model to build where `path` is unset."""
    dtype: Annotated[Literal["float32", "bfloat16", "float16", "auto"], AnyCase] = "float32"
    """Type in which weights are kept; `auto` is the one they were saved in, float32 for a built model. The type that is
    computed in is `compute.precision`: float32 weights with bf16 arithmetic is mixed precision; half-precision weights
    take half the memory, and small updates are lost in them."""
    device_map: Annotated[bool, LOADED] = False
    """Spread a pretrained model's layers over all devices (the library's `device_map="auto"`; needs accelerate)."""
    attention: Annotated[Literal["sdpa", "eager"], AnyCase] = "sdpa"
    """The library's attention: the fused kernel, or plain products for architectures that have no other."""
    causal: bool = True
    """Tokens of the context, and of plain texts, see those before them; false: all of their text, as an encoder's do.
    Texts that are predicted from a start token on are causal either way."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of states and embeddings. Unset: the model's own."""
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of attention weights. Unset: the model's own."""
    gradient_checkpointing: bool = False
    """Keep only each block's input for the backward pass and recompute the rest: less memory, about a third more
    time. Not with the plan `two_pass` of the read-out `kv`, whose kept keys and values recomputing would lose."""
    train: (
        Annotated[
            list[Annotated[Literal["new", "embeddings", "head", "lora", "adapters", "all"], AnyCase]],
            Accepts("a list of new, embeddings, head, lora, adapters, all"),
        ]
        | None
    ) = Field(default=None, min_length=1)
    """What is trained: `new` (slots, starts, separator, projection, a trained table of positions; part of every other
    choice too), `embeddings` (the vocabulary's), `head`, `lora` (by the library peft), `adapters` (of `peft.method`),
    `all`. Unset: all of a built model, new of a pretrained one."""


class Compress(Section):
    """How a context becomes a few vectors, and what sees them."""

    readout: Annotated[Literal["kv", "tokens", "mean_pool"], AnyCase] = "kv"
    """What is kept of a context: `kv`: keys and values of the slots in every layer; `tokens`: the slots' states of one
    layer, as embeddings of a second pass; `mean_pool`: the context's own states, averaged over as many equal windows
    as there are slots."""
    slots: Slots | None = None
    """Compressed tokens for a context (for a segment, where there are several); of several numbers one is drawn for
    each logical batch, and any can be chosen later, because fewer slots are the first of more. Unset: a quarter of
    `data.context_length`."""
    plan: Annotated[Literal["one_pass", "two_pass"], AnyCase] | None = None
    """`one_pass`: context, slots and predicted text in one sequence under one mask (read-out `kv`); `two_pass`: the
    context first, then each text. Both give the same. Unset: one_pass where it can be."""
    mutual: Annotated[bool, HAS_SLOTS] = True
    """Slots see the slots before them; false: each sees the context alone."""
    separator: Annotated[bool, HAS_SLOTS] = False
    """Put a trained separator between context and slots."""
    layer: Annotated[Layer, TOKEN_STATES] = "half"
    """Whose states are read: a layer's number (0: embeddings, negative: from the end), `half` of the layers, or
    `output`: the vocabulary's embeddings mixed by the probabilities that the slot gives them."""
    projection: Annotated[Literal["none", "linear", "mlp"], AnyCase, TOKEN_STATES] = "none"
    """What states go through before they are embeddings: nothing, a linear map, or a hidden layer with ReLU."""
    projection_factor: Annotated[int, PROJECTED] = Field(default=4, ge=1)
    """Width of that hidden layer over the model's."""
    segments: int = Field(default=1, ge=1)
    """Parts into which a context is cut, each with slots of its own."""
    join: Annotated[Literal["accumulate", "concatenate", "recurrent"], AnyCase, SEVERAL_SEGMENTS] = "accumulate"
    """How segments hang together: `accumulate`: a segment sees the slots of all before it; `recurrent`: of the one
    before it, and texts those of the last; `concatenate`: segments do not see one another, texts see all slots."""
    stop_gradient: Annotated[int, CHAINED] | None = Field(default=None, ge=1)
    """Let no gradient flow from a segment to slots before it after every so many segments (plan `two_pass`). Unset:
    gradients flow through all."""
    positions: Annotated[Literal["continue", "uniform", "restart"], AnyCase] = "continue"
    """Where slots stand: `continue` after the context; `uniform`: each in the middle of the part of the context that
    falls to it; `restart`: after the context, and the second pass counts from 0 again (not with the read-out `kv`)."""
