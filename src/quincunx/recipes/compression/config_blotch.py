"""The config's section on blotching: what is left out, how much, and what becomes of it; its rules beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from quincunx.config.schema import AnyCase, Rule, Section, When, lookup, when


def blotches(config: Any) -> bool:
    """Tell whether anything is left out in training."""
    chosen = config.blotch
    return bool(chosen.p or chosen.p_max or chosen.token_p or chosen.step is not None)


def _shares(config: Any) -> bool:
    return blotches(config) and config.blotch.step is None and bool(config.blotch.p or config.blotch.p_max)


DECIDING = ("blotch.p", "blotch.p_max", "blotch.token_p", "blotch.step")
BLOTCHES = When("blotch.p, p_max, token_p or step is set", blotches, DECIDING)
SHARES = When(
    "blotch.p or p_max is above 0 and blotch.step unset", _shares, ("blotch.p", "blotch.p_max", "blotch.step")
)
LEVELS = When(
    "blotch.p_max is set and blotch.step unset",
    lambda config: config.blotch.p_max is not None and config.blotch.step is None,
    ("blotch.p_max", "blotch.step"),
)
SPANS = When(
    "blotch.spans is not none", lambda config: blotches(config) and config.blotch.spans != "none", ("blotch.spans",)
)
RISES = When(
    "blotch.curriculum.updates is set",
    lambda config: lookup(config, "blotch.curriculum.updates") is not None,
    ("blotch.curriculum.updates",),
)
CONTEXT = When(
    "blotch.scope is context or both",
    lambda config: blotches(config) and config.blotch.scope != "forward",
    ("blotch.scope",),
)
STEPLESS = When("blotch.step is unset", lambda config: config.blotch.step is None, ("blotch.step",))


class Curriculum(Section):
    """A share that rises over training, in place of the same one from the start."""

    updates: Annotated[int, SHARES] | None = Field(default=None, ge=1)
    """Updates over which the share goes from `initial` to `blotch.p`. Unset: it is `blotch.p` from the start."""
    initial: Annotated[float, RISES] = Field(default=0.0, ge=0, le=1)
    """Share at the start."""
    begin: Annotated[int, RISES] = Field(default=0, ge=0)
    """Updates before the share begins to change."""
    stages: Annotated[int, RISES] | None = Field(default=None, ge=1)
    """Change in so many equal steps, the first of them at `begin`. Unset: in a straight line."""


class Blotch(Section):
    """Blotching: whole steps of a text are left out in training, and the model learns to jump over them. The text up to
    the first separator and after the last one always stays; evaluation leaves out nothing unless asked to."""

    p: Annotated[float, STEPLESS] = Field(default=0.0, ge=0, le=1)
    """Share of the steps that is left out: 0 none, 1 all between problem and answer."""
    p_min: Annotated[float, LEVELS] | None = Field(default=None, ge=0, le=1)
    """Lowest share, where each example draws its own. Unset: 0."""
    p_max: Annotated[float, STEPLESS] | None = Field(default=None, ge=0, le=1)
    """Highest share: each example draws one of `levels` shares from `p_min` to here, in place of `p`."""
    levels: Annotated[int, LEVELS] | None = Field(default=None, ge=1)
    """Number of shares to draw from, both ends included. Unset: steps of 0.1."""
    intensity_tokens: Annotated[bool, LEVELS] = False
    """Put a token before the text that tells the model which level it drew: at inference a knob for how much is left
    out."""
    separator: Annotated[str, BLOTCHES] | None = Field(default=None, min_length=1)
    """Text that ends a step. Unset: `=` for arithmetic, a line's end for other texts. Every token that holds it
    counts."""
    spans: Annotated[Literal["none", "fixed", "geometric"], AnyCase, BLOTCHES] = "none"
    """What a text without steps to leave out is cut into: nothing, spans of `span_length` tokens, or spans of random
    (geometric) length."""
    span_length: Annotated[float, SPANS] = Field(default=16.0, ge=1)
    """Tokens of a span; on average where `spans` is geometric."""
    spacing: Annotated[Literal["random", "equal", "geometric"], AnyCase, SHARES] = "random"
    """Steps are left out each by itself at `random`, at `equal` distances (a rounded number of them, always the same
    ones), or in runs of random (`geometric`) length."""
    mean_run: Annotated[float, when("blotch.spacing", "geometric")] = Field(default=3.0, ge=1)
    """Steps of a run on average."""
    contiguous: Annotated[bool, SHARES] = True
    """Neighbouring steps may be left out together. false: a step after one that is left out stays, so that a `random`
    share p becomes p / (1 + p), and an `equal` one at most a half."""
    step: int | None = Field(default=None, ge=1)
    """Leave out this step of every text and no other: 1 is the first after the first separator. For probing."""
    token_p: float = Field(default=0.0, ge=0, le=1)
    """Further, leave out each token that is neither of the first nor of the last step with this probability."""
    scope: Annotated[Literal["context", "forward", "both"], AnyCase, BLOTCHES] = "both"
    """Which side of a compressed example is blotched: the `context` that is compressed, the `forward` text that is
    predicted, or `both`, each by itself. A text without compression is all forward."""
    targets: Annotated[Literal["skip", "keep"], AnyCase, CONTEXT] = "skip"
    """What the reconstruction of a blotched context asks for: `skip` what was left, `keep` the whole of it, as a
    denoising autoencoder does."""
    form: Annotated[Literal["mask", "excise"], AnyCase, BLOTCHES] = "mask"
    """How tokens are left out: `mask` hides them from every other token, `excise` takes them out of the sequence, which
    is shorter then. The same losses."""
    curriculum: Curriculum = Field(default_factory=Curriculum)
    """A share that rises over training."""


BLOTCH_RULES: tuple[Rule, ...] = (
    Rule(
        name="one-share-or-levels",
        paths=("blotch.p", "blotch.p_max"),
        applies=lambda config: config.blotch.p > 0 and config.blotch.p_max is not None,
        message="blotch.p and blotch.p_max both say how much is left out",
        remedy="keep p for one share, or p_min and p_max for one that each example draws",
        failing={"blotch.p": 0.3, "blotch.p_max": 0.5},
    ),
    Rule(
        name="shares-in-order",
        paths=("blotch.p_min", "blotch.p_max"),
        applies=lambda config: config.blotch.p_max is not None and (config.blotch.p_min or 0) > config.blotch.p_max,
        message="blotch.p_min ({blotch.p_min}) is above blotch.p_max ({blotch.p_max})",
        remedy="swap them",
        failing={"blotch.p_min": 0.6, "blotch.p_max": 0.5},
    ),
    Rule(
        name="levels-hold-both-ends",
        paths=("blotch.levels", "blotch.p_max"),
        applies=lambda config: (
            config.blotch.p_max is not None
            and config.blotch.levels == 1
            and (config.blotch.p_min or 0) < config.blotch.p_max
        ),
        message="one level cannot hold both blotch.p_min and blotch.p_max",
        remedy="raise blotch.levels, or set blotch.p alone",
        failing={"blotch.levels": 1, "blotch.p_max": 0.5},
    ),
    Rule(
        name="runs-are-contiguous",
        paths=("blotch.contiguous", "blotch.spacing"),
        applies=lambda config: config.blotch.spacing == "geometric" and not config.blotch.contiguous,
        message="geometric spacing leaves out runs of neighbours, which blotch.contiguous false forbids",
        remedy="set blotch.contiguous to true, or blotch.spacing to random or equal",
        failing={"blotch.p": 0.3, "blotch.spacing": "geometric", "blotch.contiguous": False},
    ),
    Rule(
        name="fixed-spans-are-whole",
        paths=("blotch.span_length", "blotch.spans"),
        applies=lambda config: config.blotch.spans == "fixed" and config.blotch.span_length % 1 != 0,
        message="blotch.span_length is {blotch.span_length}: a fixed span has a whole number of tokens",
        remedy="round it, or set blotch.spans to geometric",
        failing={"blotch.p": 0.3, "blotch.spans": "fixed", "blotch.span_length": 2.5},
    ),
    Rule(
        name="curriculum-leads-to-one-share",
        paths=("blotch.curriculum.updates", "blotch.p_max"),
        applies=lambda config: config.blotch.curriculum.updates is not None and config.blotch.p_max is not None,
        message="blotch.curriculum leads to one share (blotch.p), but every example draws its own up to blotch.p_max",
        remedy="set blotch.p in place of p_min and p_max, or leave out the curriculum",
        failing={"blotch.p_max": 0.5, "blotch.curriculum.updates": 100},
    ),
)
