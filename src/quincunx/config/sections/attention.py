"""How tokens see one another: the attention kinds, a row of options for each, and the rules between them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from quincunx.config.schema import AnyCase, RowsOf, Rule, Section, When, unless, when

Kind = Literal["softmax", "none", "hrr-individual", "hrr-bundled", "hrr-quadratic", "hrr-cleanup", "tpr"]


class SoftmaxOptions(Section):
    """Options of softmax attention."""

    grad_checkpointing: bool = False
    """Recompute the attention core in the backward pass. Fused attention stores no matrix: it saves next to nothing."""
    weight_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the attention weights themselves, besides `encoder.attention_dropout` on the output."""


class ScoredOptions(Section):
    """What the kinds that compare holographic vectors have in common."""

    grad_checkpointing: bool = False
    """Recompute the attention core in the backward pass; said at the start where that saves no memory."""
    scale: float | None = Field(default=None, gt=0)
    """Factor of the scores before the softmax. Unset: sqrt(head_dim) for cosines and 1/sqrt(head_dim) for inner
    products between tokens, 1 for a token's agreement with what it retrieved."""
    learn_scale: bool = False
    """Train the factor, one a head, from there."""


class IndividualOptions(ScoredOptions):
    """Options of hrr-individual."""

    score: Annotated[Literal["cosine", "dot", "exact_cosine"], AnyCase] = "cosine"
    """`cosine` between query and the key bound with its value's autocorrelation; `dot`, their inner product, which is
    softmax attention where values have unit spectra; `exact_cosine` between a value and what the query retrieves of it,
    queries and keys made unit spectra first."""
    individual_scope: Annotated[Literal["all", "self"], AnyCase] = "all"
    """`all`: every query unbinds every pair by itself; `self`: only its own, and gates its own value by the result: no
    comparison between tokens but in the softmax, in linear time."""


class QuadraticOptions(ScoredOptions):
    """Options of hrr-quadratic."""

    score: Annotated[Literal["cosine", "dot"], AnyCase] = "cosine"
    """Compare pairs by `cosine` or `dot`."""
    superposition: int = Field(default=1, ge=1)
    """Neighbours whose pairs share one slot: 1 compares all tokens with all, more costs as much less, and the length of
    the sequence leaves one slot."""


class CleanupOptions(ScoredOptions):
    """Options of hrr-cleanup."""

    score: Annotated[Literal["cosine", "dot"], AnyCase] = "cosine"
    """Compare what was retrieved with every value by `cosine` or `dot`."""


class BundledOptions(ScoredOptions):
    """Options of hrr-bundled; the defaults are the published attention of Hrrformer, padding kept out."""

    score: Annotated[Literal["cosine", "dot"], AnyCase] = "cosine"
    """Compare a value with what its query retrieved by `cosine` or `dot`."""
    form: Annotated[Literal["rfft", "spectral"], AnyCase] = "rfft"
    """`rfft`: transform queries, keys and values; `spectral`: let the projections produce spectra, and transform
    nothing. The same functions of other weights; several times faster."""
    compile: bool = False
    """Compile the spectral form (needs a C++ compiler on a CPU)."""
    mask_trace: bool = True
    """Keep padding out of the trace. false: as in the original, where the output depends on the padding."""
    gate: Annotated[Literal["softmax", "mean_preserving"], AnyCase] = "softmax"
    """`softmax`: a token's value times its weight, of the order of one over the length; `mean_preserving`: times the
    number of tokens, so that equal weights change nothing."""
    read: bool = False
    """Add what each query retrieved from the trace, normalised, times a learned gain: the only term that carries other
    tokens' content."""
    traces: int = Field(default=1, ge=1)
    """Traces per head, each with query and key maps of its own; agreements are averaged."""


GATED = When(
    "attention.options.tpr.mode is gated", lambda config: config.attention.options.tpr.mode == "gated",
    ("attention.options.tpr.mode",),
)  # fmt: skip
RETRIEVING = When(
    "attention.options.tpr.mode is retrieval", lambda config: config.attention.options.tpr.mode == "retrieval",
    ("attention.options.tpr.mode",),
)  # fmt: skip


class TprOptions(Section):
    """Options of tpr: a matrix of summed outer products in place of a trace."""

    grad_checkpointing: bool = False
    """Recompute the attention core in the backward pass; said at the start where that saves no memory."""
    mode: Annotated[Literal["gated", "retrieval"], AnyCase] = "gated"
    """`gated`: gate values by their agreement with what was retrieved, as hrr-bundled does; `retrieval`: return what
    was retrieved (linear attention)."""
    score: Annotated[Literal["cosine", "dot"], AnyCase, GATED] = "cosine"
    """Compare a value with what its query retrieved by `cosine` or `dot`."""
    scale: Annotated[float, GATED] | None = Field(default=None, gt=0)
    """Factor of the agreement before the softmax. Unset: 1."""
    learn_scale: Annotated[bool, GATED] = False
    """Train the factor, one a head, from there."""
    gate: Annotated[Literal["softmax", "mean_preserving"], AnyCase, GATED] = "softmax"
    """As in hrr-bundled."""
    read: Annotated[bool, GATED] = False
    """As in hrr-bundled."""
    feature_map: Annotated[Literal["identity", "elu"], AnyCase, RETRIEVING] = "identity"
    """Map of queries and keys: `elu` is elu(x) + 1, positive."""
    denominator: Annotated[Literal["count", "keys", "norm", "none"], AnyCase, RETRIEVING] = "count"
    """What is divided by: the `count` of tokens, the query's inner product with the sum of `keys` (needs elu), the
    `norm` (layer norm with a learned gain), or `none`."""
    delta: bool = False
    """Store by the delta rule: a key's old value is taken out before its new one is put in; order matters then."""
    delta_rate: Annotated[
        float, when("attention.options.tpr.delta", True)
    ] = Field(default=1.0, gt=0, le=2)  # fmt: skip
    """Share of the old value that is replaced."""


ROWS = RowsOf("attention.kind", unset="softmax")


class AttentionOptions(Section):
    """A table of options by kind: the row of the chosen kind acts."""

    softmax: SoftmaxOptions = Field(default_factory=SoftmaxOptions)
    """Options of softmax attention."""
    hrr_individual: IndividualOptions = Field(default_factory=IndividualOptions, alias="hrr-individual")
    """Options of hrr-individual."""
    hrr_bundled: BundledOptions = Field(default_factory=BundledOptions, alias="hrr-bundled")
    """Options of hrr-bundled."""
    hrr_quadratic: QuadraticOptions = Field(default_factory=QuadraticOptions, alias="hrr-quadratic")
    """Options of hrr-quadratic."""
    hrr_cleanup: CleanupOptions = Field(default_factory=CleanupOptions, alias="hrr-cleanup")
    """Options of hrr-cleanup."""
    tpr: TprOptions = Field(default_factory=TprOptions)
    """Options of tpr."""


class Attention(Section):
    """How tokens see one another."""

    kind: Kind | None = None
    """`softmax`; holographic: `hrr-individual` (unbind each pair by itself), `hrr-quadratic` (compare pairs),
    `hrr-bundled` (one trace of all pairs, linear time), `hrr-cleanup` (the trace's answer against all values); `tpr`
    (a matrix as memory, linear time); `none` (no attention branch at all: the baseline of every comparison). Unset:
    softmax, and said."""
    causal: Annotated[bool, unless("attention.kind", "none")] = False
    """Let each token see only itself and those before it."""
    options: Annotated[AttentionOptions, ROWS] = Field(default_factory=AttentionOptions)
    """Options by kind; only the chosen kind's act."""


class KindSamples(Section):
    """A table of chunk limits by attention kind: the chosen kind's acts."""

    softmax: int | None = Field(default=None, ge=1)
    """At most this many examples at once under softmax attention."""
    none: int | None = Field(default=None, ge=1)
    """At most this many examples at once without attention."""
    hrr_individual: int | None = Field(default=None, ge=1, alias="hrr-individual")
    """At most this many examples at once under hrr-individual."""
    hrr_bundled: int | None = Field(default=None, ge=1, alias="hrr-bundled")
    """At most this many examples at once under hrr-bundled."""
    hrr_quadratic: int | None = Field(default=None, ge=1, alias="hrr-quadratic")
    """At most this many examples at once under hrr-quadratic."""
    hrr_cleanup: int | None = Field(default=None, ge=1, alias="hrr-cleanup")
    """At most this many examples at once under hrr-cleanup."""
    tpr: int | None = Field(default=None, ge=1)
    """At most this many examples at once under tpr."""


ATTENTION_RULES: tuple[Rule, ...] = (
    Rule(
        name="only-the-spectral-form-compiles",
        paths=("attention.options.hrr-bundled.compile", "attention.options.hrr-bundled.form"),
        applies=lambda config: (
            config.attention.kind == "hrr-bundled"
            and config.attention.options.hrr_bundled.compile
            and config.attention.options.hrr_bundled.form != "spectral"
        ),
        message="attention.options.hrr-bundled.compile needs the spectral form: compilers make no code for complex "
        "numbers",
        remedy="set attention.options.hrr-bundled.form to spectral, or compile to false",
        failing={"attention.kind": "hrr-bundled", "attention.options.hrr-bundled.compile": True},
    ),
    Rule(
        name="delta-is-of-retrieval",
        paths=("attention.options.tpr.delta", "attention.options.tpr.mode"),
        applies=lambda config: (
            config.attention.kind == "tpr"
            and config.attention.options.tpr.delta
            and config.attention.options.tpr.mode != "retrieval"
        ),
        message="the delta rule belongs to attention.options.tpr.mode retrieval",
        remedy="set attention.options.tpr.mode to retrieval, or delta to false",
        failing={"attention.kind": "tpr", "attention.options.tpr.delta": True},
    ),
    Rule(
        name="denominator-of-keys-is-positive",
        paths=("attention.options.tpr.denominator", "attention.options.tpr.feature_map"),
        applies=lambda config: (
            config.attention.kind == "tpr"
            and config.attention.options.tpr.mode == "retrieval"
            and config.attention.options.tpr.denominator == "keys"
            and config.attention.options.tpr.feature_map != "elu"
        ),
        message="a query's inner product with the sum of keys can vanish unless both are positive",
        remedy="set attention.options.tpr.feature_map to elu, or another denominator",
        failing={
            "attention.kind": "tpr",
            "attention.options.tpr.mode": "retrieval",
            "attention.options.tpr.denominator": "keys",
        },
    ),
    Rule(
        name="delta-is-not-a-mean",
        paths=("attention.options.tpr.delta", "attention.options.tpr.denominator"),
        applies=lambda config: (
            config.attention.kind == "tpr"
            and config.attention.options.tpr.mode == "retrieval"
            and config.attention.options.tpr.delta
            and config.attention.options.tpr.denominator == "count"
        ),
        message="the delta rule replaces values instead of adding them up: divided by the count of tokens, what is "
        "retrieved shrinks with the length",
        remedy="set attention.options.tpr.denominator to none or norm",
        severity="warning",
        failing={
            "attention.kind": "tpr",
            "attention.options.tpr.mode": "retrieval",
            "attention.options.tpr.delta": True,
        },
    ),
    Rule(
        name="delta-has-no-sum-of-keys",
        paths=("attention.options.tpr.delta", "attention.options.tpr.denominator"),
        applies=lambda config: (
            config.attention.kind == "tpr"
            and config.attention.options.tpr.mode == "retrieval"
            and config.attention.options.tpr.delta
            and config.attention.options.tpr.denominator == "keys"
        ),
        message="the delta rule replaces values, so that the sum of keys is no measure of what is stored",
        remedy="set attention.options.tpr.denominator to none or norm",
        failing={
            "attention.kind": "tpr",
            "attention.options.tpr.mode": "retrieval",
            "attention.options.tpr.delta": True,
            "attention.options.tpr.feature_map": "elu",
            "attention.options.tpr.denominator": "keys",
        },
    ),
)
