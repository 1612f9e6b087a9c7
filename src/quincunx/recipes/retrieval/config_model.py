"""The config's sections on models: encoders, what each side adds to them, poly- and cross-encoders."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from quincunx.config.schema import AnyCase, Section, When, unless, when

Pooling = Annotated[Literal["mean", "cls", "last", "attention"], AnyCase]

EMBEDS = unless("mode", "cross-encoder")
BI = when("mode", "bi-encoder")
POLY = when("mode", "poly-encoder")
CROSS = when("mode", "cross-encoder")
LOADED = unless("encoder.path", None)
BUILT = When("encoder.path is unset", lambda config: config.encoder.path is None, ("encoder.path",))
OWN_TOKENIZER = When(
    "encoder.path and encoder.tokenizer.path are unset",
    lambda config: config.encoder.path is None and config.encoder.tokenizer.path is None,
    ("encoder.path", "encoder.tokenizer.path"),
)
POOLED_ALIKE = When(
    "query.pooling or document.pooling is unset",
    lambda config: config.document.pooling is None or (config.mode == "bi-encoder" and config.query.pooling is None),
    ("query.pooling", "document.pooling"),
)
HEADS = When(
    "poly.attention or poly.final_attention is multihead",
    lambda config: "multihead" in (config.poly.attention, config.poly.final_attention),
    ("poly.attention", "poly.final_attention"),
)


class Build(Section):
    """The encoder to build, from random weights, where none is loaded."""

    architecture: str = Field(default="bert", min_length=1)
    """Architecture, under its name in transformers: `bert`, `roberta`, `distilbert`, `modernbert`, `mpnet` ..."""
    num_layers: int = Field(default=4, ge=1)
    """Blocks."""
    width: int = Field(default=256, ge=1)
    """Width of token states, and of embeddings without a projection."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; they divide the width."""
    hidden: int | None = Field(default=None, ge=1)
    """Hidden width of each block's MLP. Unset: four times the width."""
    positions: int = Field(default=512, ge=1)
    """Longest text in tokens."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Further sizes under the names of the architecture's config in transformers."""


class Tokenizer(Section):
    """The tokenizer: the encoder's own, another one, or one trained on the corpus for a built encoder."""

    path: str | None = Field(default=None, min_length=1)
    """Local folder or hub name of a tokenizer. Unset: that of `encoder.path`, or one trained on the corpus."""
    kind: Annotated[Literal["wordpiece", "bpe", "unigram"], AnyCase, OWN_TOKENIZER] = "wordpiece"
    """Kind to train."""
    vocabulary: Annotated[int, OWN_TOKENIZER] = Field(default=16_000, ge=100)
    """Entries at most, special tokens included."""
    lower_case: Annotated[bool, OWN_TOKENIZER] = True
    """Take upper case for lower case."""


class Encoder(Section):
    """The encoder of queries, and of documents too unless `document.path` names another."""

    path: str | None = Field(default=None, min_length=1)
    """Local folder or hub name of a Hugging Face encoder; hub names are only looked up when online. Unset: `build`."""
    revision: Annotated[str, LOADED] | None = Field(default=None, min_length=1)
    """Commit, branch or tag of a hub name. Unset: its main branch."""
    build: Annotated[Build, BUILT] = Field(default_factory=Build)
    """The encoder to build where `path` is unset."""
    tokenizer: Tokenizer = Field(default_factory=Tokenizer)
    """The tokenizer."""
    share: Annotated[Literal["all", "backbone", "nothing"], AnyCase, EMBEDS] | None = None
    """What queries and documents go through together: `all` weights, the `backbone` (each has a projection of its own),
    or `nothing`. Unset: nothing where `document.path` is given, else all."""
    pooling: Annotated[Pooling, EMBEDS, POOLED_ALIKE] = "mean"
    """One vector of a text's token states: their `mean`, the `cls` (first) one, the `last` one, or `attention` of a
    learned query."""
    projection: Annotated[int, EMBEDS] | None = Field(default=None, ge=1)
    """Width to which embeddings are projected by a trained layer. Unset: no projection."""
    head: Annotated[Literal["linear", "mlp"], AnyCase, EMBEDS, unless("encoder.projection", None)] = "linear"
    """The projection: one `linear` map, or an `mlp` with a hidden layer of the encoder's width."""
    embedding_dim: Annotated[int, EMBEDS] | None = Field(default=None, ge=1)
    """Width that embeddings are to have; another one is refused before anything is trained. Sets nothing: the encoder
    and `projection` decide. Unset: not checked."""
    special_tokens: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list[str])
    """Tokens added to the tokenizer, never split; their embeddings are new, and trained."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of embeddings and states. Unset: what the encoder comes with."""
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of attention weights. Unset: what the encoder comes with."""
    attn_implementation: (
        Annotated[Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"], AnyCase] | None
    ) = None
    """Attention code of transformers. Unset: its choice for the encoder."""
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass: less memory, about a third more time. Changes no gradient."""
    freeze: Annotated[Literal["nothing", "embeddings", "backbone"], AnyCase, when("peft.method", None)] = "nothing"
    """Leave the token `embeddings` or the whole `backbone` as they are; heads, codes and projections are trained. Under
    `peft.method` everything but its adapters is left as it is."""


class Side(Section):
    """What texts of this side get."""

    prompt: str = ""
    """Text put before each one (`query: `), in every mode. Unset: what a sentence-transformers folder names for it."""
    max_length: int | None = Field(default=None, ge=2)
    """Tokens kept, special ones included; longer texts are cut. Unset: what the encoder takes, at most 512. In a
    cross-encoder's pair the text has at most as many as it would have alone; unset: what `cross.max_length` leaves."""
    truncate: Annotated[Literal["right", "left"], AnyCase] = "right"
    """The side on which longer texts lose tokens."""


class Query(Side):
    """How queries are encoded."""

    pooling: Annotated[Pooling, BI] | None = None
    """As `encoder.pooling`, for queries alone. Unset: the same."""


class Document(Side):
    """How documents are encoded."""

    path: Annotated[str, EMBEDS] | None = Field(default=None, min_length=1)
    """Local folder or hub name of an encoder for documents alone. Unset: see `encoder.share`."""
    revision: Annotated[str, EMBEDS, unless("document.path", None)] | None = Field(default=None, min_length=1)
    """Commit, branch or tag of that hub name."""
    special_tokens: Annotated[list[Annotated[str, Field(min_length=1)]], EMBEDS] = Field(default_factory=list[str])
    """Tokens added for documents; to the tokenizer of both where it is shared."""
    pooling: Annotated[Pooling, EMBEDS] | None = None
    """As `encoder.pooling`, for documents alone. Unset: the same."""


class Poly(Section):
    """The poly-encoder (Humeau et al. 2020, arXiv 1905.01969): several vectors for a query, over which a document
    attends."""

    kind: Annotated[Literal["codes", "first-m", "all"], AnyCase, POLY] = "codes"
    """A query's vectors: what learned `codes` attend to in it, its `first-m` token states, or `all` of them."""
    codes: Annotated[int, POLY, when("poly.kind", "codes", "first-m")] = Field(default=64, ge=1)
    """How many vectors, m."""
    attention: Annotated[
        Literal["basic", "sqrt", "multihead"], AnyCase, POLY, when("poly.kind", "codes")
    ] = "basic"  # fmt: skip
    """How codes attend over token states: by dot products (`basic`), divided by the root of the width (`sqrt`), or
    `multihead`."""
    final_attention: Annotated[Literal["basic", "sqrt", "multihead"], AnyCase, POLY] = "basic"
    """How a document attends over a query's vectors, likewise. Exact search in an ordinary index needs `basic`."""
    heads: Annotated[int, POLY, HEADS] = Field(default=4, ge=1)
    """Heads of `multihead` attention; they divide the width."""


class Cross(Section):
    """The cross-encoder: query and document read together, for reranking and as a teacher."""

    loss: Annotated[Literal["pointwise", "pairwise", "listwise"], AnyCase, CROSS] = "listwise"
    """`pointwise` (each pair relevant or not), `pairwise` (the positive above each negative), `listwise` (the positive
    among all of the query's documents)."""
    random_negatives: Annotated[int, CROSS] = Field(default=4, ge=0)
    """Documents drawn from the whole corpus for each query, besides its positives and explicit negatives."""
    max_length: Annotated[int, CROSS] | None = Field(default=None, ge=4)
    """Tokens of query and document together; of a longer pair the longer text is cut first. Unset: what the encoder
    takes, at most 512."""
    margin: Annotated[float, CROSS, when("cross.loss", "pairwise")] | None = Field(default=None, gt=0)
    """Of `pairwise`: a positive is to score higher than each negative by so much, and more teaches nothing:
    max(0, margin - s+ + s-). Unset: log(1 + exp(s- - s+)), which always asks for more."""
    positive_weight: Annotated[float, CROSS, when("cross.loss", "pointwise")] = Field(default=1.0, gt=0)
    """Of `pointwise`: how many negatives a positive weighs."""
    highest_grade: Annotated[float, CROSS, when("cross.loss", "pointwise")] | None = Field(default=None, gt=0)
    """Of `pointwise`: a document's target is its grade over this one, the highest of the data. Unset: 1 for every
    relevant document, whatever its grade."""
