"""What a contrastive objective was asked for, checked: every choice must be known and go with the others.
Without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from quincunx.errors import UsageError
from quincunx.recipes.retrieval.objective.counts import DIRECTIONS

Similarity = Literal["cosine", "dot"]
SIMILARITIES: tuple[Similarity, ...] = ("cosine", "dot")
LOSSES = ("infonce", "margin_mse", "kl", "metric_learning")
PARTITIONS = ("separate", "joint")
POSITIVES = ("each", "together")


@dataclass(frozen=True)
class Options:
    """The choices of `Contrastive`, under its names."""

    one_pass: bool
    poly: bool
    keep_states: bool
    similarity: Similarity | None
    losses: Mapping[str, float]
    directions: Sequence[str]
    partition: str
    positives: str
    in_batch: bool
    hardness: float
    widths: Mapping[int | None, float]
    """None stands for all dimensions."""
    teacher_temperature: float
    coefficients: Mapping[str, float]
    """By term: its factor in the total."""

    @property
    def infonce_terms(self) -> Sequence[str]:
        """The terms that InfoNCE gives: one for each direction, or one for all."""
        if "infonce" not in self.losses:
            return ()
        return ("joint",) if self.partition == "joint" else self.directions

    @staticmethod
    def of(
        *,
        one_pass: bool,
        poly: bool,
        keep_states: bool,
        similarity: str | None,
        losses: Mapping[str, float] | None,
        directions: Mapping[str, float] | Sequence[str],
        partition: str,
        positives: str,
        in_batch: bool,
        hardness: float,
        widths: Mapping[int, float] | None,
        teacher_temperature: float,
        metric_learning: bool,
        memory: str | None,
    ) -> Options:
        """Check the arguments of `Contrastive`; `metric_learning` says whether there is one, `memory` of what kind.

        Raises:
            UsageError: A value is unknown or out of range, or values contradict each other.
        """
        losses = {"infonce": 1.0} if losses is None else dict(losses)
        weights = dict(directions) if isinstance(directions, Mapping) else dict.fromkeys(directions, 1.0)
        _known("losses", losses, LOSSES)
        _known("directions", weights, DIRECTIONS)
        _known("partition", [partition], PARTITIONS)
        _known("positives", [positives], POSITIVES)
        _positive("losses", losses.values())
        _positive("directions", weights.values())
        _positive("widths", (widths or {}).values())
        _positive("teacher_temperature", [teacher_temperature])
        if any(width < 1 for width in widths or {}):
            raise UsageError(f"widths are at least 1, found {', '.join(map(str, widths or {}))}")
        if widths is not None and not widths:
            raise UsageError("widths is empty; leave it out to use all dimensions, or name some")
        if hardness < 0:
            raise UsageError(f"hardness is at least 0, found {hardness}")
        if poly:
            if similarity is not None:
                raise UsageError(f"a poly-encoder scores by itself: similarity is {similarity!r} and should be None")
        else:
            _known("similarity", [similarity], SIMILARITIES)
        for found, text in _contradictions(
            set(losses), weights, partition, positives, in_batch, hardness, poly, one_pass, keep_states, memory
        ):
            if found:
                raise UsageError(f"these do not go together: {text}")
        if metric_learning != ("metric_learning" in losses):
            raise UsageError("the loss metric_learning and the argument metric_learning need each other; give both")
        factors = {name: factor for name, factor in losses.items() if name != "infonce"}
        if "infonce" in losses:
            total = sum(weights.values())
            of_infonce = {"joint": 1.0} if partition == "joint" else {n: w / total for n, w in weights.items()}
            factors = {name: losses["infonce"] * share for name, share in of_infonce.items()} | factors
        return Options(
            one_pass,
            poly,
            keep_states,
            similarity,  # pyright: ignore[reportArgumentType]
            losses,
            tuple(weights),
            partition,
            positives,
            in_batch,
            hardness,
            {None: 1.0} if widths is None else {width: factor for width, factor in widths.items()},  # noqa: C416
            teacher_temperature,
            factors,
        )


def _contradictions(
    losses: AbstractSet[str],
    weights: Mapping[str, float],
    partition: str,
    positives: str,
    in_batch: bool,
    hardness: float,
    poly: bool,
    one_pass: bool,
    keep_states: bool,
    memory: str | None,
) -> Iterator[tuple[bool, str]]:
    """Yield whether each contradiction is there, and its text."""
    named = ", ".join(weights)
    columns = {DIRECTIONS[name][1] for name in weights}
    within = any(rows == columns for rows, columns in (DIRECTIONS[name] for name in weights))
    library = "metric_learning" in losses
    yield poly and one_pass, "poly and one_pass: a poly-encoder encodes queries otherwise than documents"
    yield poly and within, f"poly and the directions {named}: it scores queries with documents only"
    yield poly and library, "poly and metric_learning: that library compares single vectors"
    yield keep_states and not poly, "keep_states without poly: only its codes can be token states"
    joint = partition == "joint"
    yield joint and positives == "together", "partition joint and positives together: joint has a term for every pair"
    unequal = joint and len(set(weights.values())) > 1
    yield unequal, "partition joint and different weights of directions: one softmax leaves nothing to weigh"
    yield (
        not in_batch and within,
        f"in_batch false and the directions {named}: no text has any of its side",
    )
    yield not in_batch and memory is not None, "in_batch false and a memory: its entries belong to other anchors"
    yield not in_batch and library, "in_batch false and metric_learning: that library compares all texts"
    without = "infonce" not in losses
    yield memory is not None and without, "a memory without infonce: it adds columns to that loss's softmax"
    yield hardness > 0 and without, "hardness without infonce: it weighs the negatives of that loss"
    lone = memory in ("passages", "dual") and "document" not in columns
    yield lone, f"a memory of documents and the directions {named}: none compares anything with documents"
    lone = memory in ("queries", "dual") and "query" not in columns
    yield lone, f"a {memory} memory and the directions {named}: none compares with queries; add document_to_query"
    yield memory in ("queries", "dual") and poly, f"a {memory} memory and poly: the codes of queries are not stored"


def _known(what: str, found: Collection[str | None], known: Collection[str]) -> None:
    strange = [repr(name) for name in found if name not in known]
    if strange or not found:
        raise UsageError(f"{what}: found {', '.join(strange) or 'nothing'}, expected {', '.join(known)}")


def _positive(what: str, values: Collection[float]) -> None:
    if any(not value > 0 for value in values):
        raise UsageError(f"{what}: found {', '.join(map(str, values))}, expected numbers above 0")
