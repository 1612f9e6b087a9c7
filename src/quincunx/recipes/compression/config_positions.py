"""The config's section on positions: what tells a token its place, and from which numbers; its rules beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from quincunx.config.schema import AnyCase, Rule, Section, Sizes, When, when
from quincunx.config.wording import show

Kind = Literal["model", "rope", "sinusoidal", "random", "alibi", "none"]
TABLES = ("sinusoidal", "random")

GUIDE_KINDS = {"randpositionalencoding": "random", "sinpositionalencoding": "sinusoidal"}
"""The guide's classes, in lower case, by the kind that each is."""


def position_kind(named: Any) -> str:
    """Return the kind for the guide's `posenc_type`: one of its two classes, or a kind by its own name."""
    if not isinstance(named, str):
        raise ValueError(f"expected a name, found {show(named)}")  # noqa: TRY004 - the contract of Name
    return GUIDE_KINDS.get(named.lower(), named)


def samples(config: Any) -> Literal["none", "integer", "float"]:
    """Return how numbers are sampled, `positions.sample` or what follows from the kind."""
    chosen = config.positions
    return chosen.sample or ("integer" if chosen.kind == "random" else "none")


TABLED = when("positions.kind", *TABLES)
ORDERED = When("positions.kind is not none", lambda config: config.positions.kind != "none", ("positions.kind",))
RANGED = When(
    "positions are sampled, or positions.kind is sinusoidal or random",
    lambda config: config.positions.kind in TABLES or (config.positions.kind != "none" and samples(config) != "none"),
    ("positions.kind", "positions.sample"),
)
SAMPLED = When(
    "positions are sampled",
    lambda config: config.positions.kind != "none" and samples(config) != "none",
    ("positions.kind", "positions.sample"),
)


class Positions(Section):
    """What tells a token its place in the sequence."""

    kind: Annotated[Kind, AnyCase] = "model"
    """`model`: what the backbone has itself; `rope`: rotary positions, of a backbone that has them; `sinusoidal` or
    `random` (a table of noise): vectors added to the embeddings; `alibi`: scores lowered in proportion to the distance;
    `none`: order shows through the causal mask alone. On a rotary backbone the last four switch its rotation off."""
    sample: Annotated[Literal["none", "integer", "float"], AnyCase, ORDERED] | None = None
    """Number the tokens of each sequence by a sorted random choice from `size` whole or real numbers, drawn once, so
    that short sequences meet the numbers of long ones; `none` counts. Unset: `integer` for kind random, else `none`."""
    size: Annotated[int, RANGED] | None = Field(default=None, ge=2)
    """Numbers there are: rows of the table, numbers sampled from, the longest sequence. Unset: three times the longest
    training sequence."""
    evaluate: Annotated[Literal["random", "even", "prefix"], AnyCase, SAMPLED] = "random"
    """Numbers at evaluation and in generation: `random` as in training, the same at every evaluation; `even`, where
    draws stand on average; `prefix`, 0, 1, 2 ..."""
    learnable: Annotated[bool, TABLED] = False
    """Train the table, from its sines and cosines or from its noise."""
    dropout: Annotated[float, TABLED] | None = Field(default=None, ge=0, lt=1)
    """Dropout on the position vectors alone, before they are added. Unset: the model's dropout."""


POSITION_RULES: tuple[Rule, ...] = (
    Rule(
        name="positions-have-room",
        paths=("positions.size", "data.context_length", "data.forward_length"),
        applies=lambda config, sizes: (
            sizes.longest is not None
            and config.positions.size is not None
            and sizes.longest > config.positions.size
            and RANGED.test(config)
        ),
        message="positions.size ({positions.size}) is less than the longest sequence needs: context, compressed tokens "
        "and predicted ones together",
        remedy="raise positions.size, leave it unset, or shorten the sequences",
        failing={"positions.kind": "sinusoidal", "positions.size": 10},
        stage="sized",
        sizes=Sizes(train=100, longest=100),
    ),
)
