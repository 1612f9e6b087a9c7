"""The vocabulary in which config sections are declared.

A section is a frozen pydantic model whose fields are each followed by a docstring; `when` says under which other
settings a field acts; `Name` maps a guide's key to the present one; `Rule` is a condition between keys. All of them are
data, so that `check`, `explain`, the reference page and the tests read the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from quincunx.config.document import Document
from quincunx.config.paths import is_mapping


class Section(BaseModel):
    """Base of every section: unknown keys refused, nothing coerced (an int may stand for a float), immutable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        serialize_by_alias=True,
        defer_build=True,
    )


@dataclass(frozen=True)
class When:
    """Under which other settings a field acts; otherwise it is inert, and said to be so when it was set."""

    text: str
    test: Callable[[Any], bool]
    paths: tuple[str, ...] = ()
    """The settings that decide; a warning quotes what they are."""


@dataclass(frozen=True)
class RowsOf:
    """Marks a section as a table with a row for each value of another setting: only the chosen row acts."""

    path: str
    """The setting that chooses, for example `attention.kind`."""
    unset: str | None = None
    """The row that acts when nothing is chosen."""


@dataclass(frozen=True)
class Accepts:
    """The values that a field accepts, in words, where its annotation would read badly."""

    text: str


def when(path: str, *values: Any) -> When:
    """Return the condition that the setting at a dotted path has one of these values.

    A setting below a missing section (a `_target_` node in place of ours, say) counts as not having them.
    """
    text = f"{path} is {' or '.join(map(plain, values))}"
    return When(text, lambda config: lookup(config, path) in values, (path,))


def unless(path: str, *values: Any) -> When:
    """Return the condition that the setting at a dotted path has none of these values."""
    others = " or ".join(plain(value) for value in values if value is not None)
    parts = ["is set"] * (None in values) + [f"is not {others}"] * bool(others)
    return When(f"{path} {' and '.join(parts)}", lambda config: lookup(config, path) not in values, (path,))


def plain(value: Any) -> str:
    """Return a setting's value as a sentence names it: words bare, `true`, `false`, `unset`."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def lookup(config: Any, path: str) -> Any:
    """Return the value at a dotted path of a config object, None where a section on the way is missing."""
    node = config
    for part in path.split("."):
        if is_mapping(node):
            node = node.get(part)
        elif isinstance(node, BaseModel):
            node = _child(node, part)
        else:
            return None
    return node


def _child(node: BaseModel, part: str) -> Any:
    for name, info in type(node).model_fields.items():
        if part in (info.alias, name):
            return getattr(node, name)
    return (node.model_extra or {}).get(part)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


AnyCase = BeforeValidator(_lower)
"""Annotation for words that are read in any case (`MEAN`, `mean`)."""


def _frequency(value: int | float | str) -> int | float | str:
    if isinstance(value, int) and value < 1:
        raise ValueError("a number of updates is at least 1")
    if isinstance(value, float) and not 0 < value <= 1:
        raise ValueError("a float is a share of an epoch and lies in (0, 1]; write an int for a number of updates")
    return value


Frequency = Annotated[
    Annotated[Literal["epoch"], AnyCase] | int | float,
    AfterValidator(_frequency),
    Accepts('"epoch", an int number of updates, or a float share of an epoch in (0, 1]'),
]
"""`epoch`, an int number of updates, or a float share of an epoch in (0, 1]: `1` is every update, `1.0` every epoch."""


class Target(BaseModel):
    """An object built from its import path: `_target_`, and that callable's arguments as further keys."""

    model_config = ConfigDict(
        extra="allow", frozen=True, strict=True, protected_namespaces=(), serialize_by_alias=True, defer_build=True
    )

    target: str = Field(alias="_target_")
    """Dotted path of the class or function, for example `torch.optim.SGD`."""
    convert: Literal["none", "partial", "object", "all"] = Field(default="all", alias="_convert_")
    """How nested containers are passed on, as in Hydra (`all`: plain lists and dicts)."""
    partial: bool = Field(default=False, alias="_partial_")
    """Pass a `functools.partial` that waits for the remaining arguments, as in Hydra."""
    arguments: list[Any] = Field(default_factory=list, alias="_args_")
    """Positional arguments that follow those the engine passes itself."""
    recursive: bool = Field(default=True, alias="_recursive_")
    """Build nested `_target_` nodes as well, as in Hydra."""


def target_or(tag: str) -> Discriminator:
    """Return the discriminator of a part that is either ours (tagged) or a `_target_` node."""

    def choose(value: Any) -> str:
        if isinstance(value, Target) or (isinstance(value, Mapping) and "_target_" in value):
            return "target"
        return tag

    return Discriminator(choose)


TargetNode = Annotated[Target, Tag("target")]


@dataclass(frozen=True)
class Name:
    """One older name: a guide's key, and the present path that serves it.

    `old` and `new` are dotted paths; a `*` in `old` stands for any one key and is carried to the `*` in `new`.
    `transform` turns the guide's value into ours, raising ValueError with the reason when it cannot.
    """

    old: str
    new: str
    guide: str | None = None
    """Number of the source guide that documents the key (`004`); None for a mere convenience."""
    transform: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Rule:
    """A condition between keys, with the example that shows it.

    `applies` gets the whole config (static stage) or the config and the `Sizes` (sized stage) and tells whether the
    problem is there. `message` and `remedy` may use `{path}` placeholders of dotted paths, filled from the config.
    """

    name: str
    paths: tuple[str, ...]
    """The keys involved; the problem is placed at the first of them that the file sets."""
    applies: Callable[[Any], bool] | Callable[[Any, Sizes], bool]
    message: str
    remedy: str
    failing: Mapping[str, Any]
    """Settings (dotted path -> value) that make the rule apply on top of the recipe's defaults: tested."""
    severity: Literal["error", "warning", "note"] = "error"
    stage: Literal["static", "sized"] = "static"
    sizes: Sizes | None = None
    """For the sized stage, sizes under which `failing` fails."""


@dataclass(frozen=True)
class Sizes:
    """What only the data or the backbone can tell."""

    train: int
    """Number of training examples."""
    evaluation: Mapping[str, int] = field(default_factory=dict[str, int])
    """Number of examples by evaluation split."""
    vocabulary: int | None = None
    """Number of distinct token ids in the data, padding included."""
    longest: int | None = None
    """Tokens in the longest example, before truncation."""
    mean_length: float | None = None
    """Mean number of tokens of the training examples, where known."""
    groups: tuple[int, ...] = ()
    """Training examples by group, where groups are cut into logical batches apart; empty: all are one group."""

    def batches(self, batch_size: int) -> int:
        """Return the number of logical batches in an epoch, short last ones included."""
        return count_batches(self.groups or (self.train,), batch_size)


def count_batches(groups: Iterable[int], batch_size: int) -> int:
    """Return the number of batches of groups of so many examples, each group with a short last one."""
    return sum(-(-examples // batch_size) for examples in groups)


@dataclass(frozen=True)
class Metrics:
    """What the evaluations of a recipe measure, known without data."""

    main: str
    """`split/name` of the one that chooses the best checkpoint unless the config names another."""
    goal: Literal["max", "min"]
    """Whether more or less of it is better."""
    names: tuple[str, ...]
    """Names of all scalars of an evaluation, without the split."""

    def chosen(self, config: Any) -> tuple[str, Literal["max", "min"]]:
        """Return the metric that chooses the best checkpoint of a config, and its goal."""
        metric = config.evaluate.metric or self.main
        return metric, config.evaluate.goal or self.goal_of(metric)

    def goal_of(self, metric: str) -> Literal["max", "min"]:
        """Return whether more or less of a metric is better: a loss shrinks, all others grow."""
        return self.goal if metric == self.main else "min" if metric.endswith("/loss") else "max"


@dataclass(frozen=True)
class RecipeSchema:
    """Everything torch-free about one recipe: its config class and tables."""

    name: str
    summary: str
    config: type[Section]
    names: tuple[Name, ...] = ()
    rules: tuple[Rule, ...] = ()
    comments: str | None = None
    """Root keys that begin so are comments of the recipe's guides, left out silently."""
    guide_roots: frozenset[str] = frozenset()
    """Root keys of the recipe's guides: by these a file that names no recipe is recognised."""
    tasks: tuple[str, ...] = ()
    """Names under which a guide file nests whole configs (`{"listops": {...}, "text": {...}}`)."""
    starter: str = ""
    """Text of the commented config that `init` writes."""
    preset: Callable[[str, str | None], str] | None = None
    """(preset, task) -> text of the config that `init --preset` writes; UsageError names the presets there are."""
    sizes: Callable[[Any], Sizes] | None = None
    """Config -> sizes known without reading the data (declared counts); None where there are none."""
    prepare: Callable[[Document], list[str]] | None = None
    """Last structural step after merging (defaults that depend on other keys); returns notes to say at the start."""
    tasks_of: Callable[[Any], Sequence[str]] | None = None
    """Config, decided -> the tasks that its examples belong to, by whose order weights are chosen; None: to none."""
    metrics: Callable[[Any], Metrics] | None = None
    """Config -> what its evaluations measure; the recipe's `build` says the same."""
