"""Two rankings of the same queries held against each other, query by query: is one better, or was it chance?

This is about two systems on one set of queries. Whether another seed would give the same is another question, which
`report.compare` answers over finished runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quincunx.config.suggest import closest
from quincunx.errors import RunError, UsageError
from quincunx.metrics.intervals import Interval
from quincunx.metrics.ranking import Scores, parse_measures, score
from quincunx.metrics.ranking.trec import read_qrels, read_run
from quincunx.metrics.significance import holm, paired
from quincunx.report.collect import collect
from quincunx.report.kept import METRICS, QUERIES
from quincunx.runs import as_number, read_json, read_lines, reopen

MEASURES = ("ndcg_cut_10", "recip_rank", "recall_100", "map")
"""What is compared of TREC's files where nothing is said."""
LOWER_IS_BETTER = frozenset({"first_rank"})
SHOWN = 5
"""Missing queries that an error names."""

Values = Mapping[str, Mapping[str, float]]
"""By measure, the value of each query."""


@dataclass(frozen=True)
class Side:
    """One of the two rankings."""

    name: str
    """As it was given."""
    what: str
    """Which evaluation it is."""
    values: Values
    fingerprint: str | None = None
    """Of the data; None where nothing tells."""


@dataclass(frozen=True)
class Row:
    """The comparison under one measure."""

    measure: str
    a: float
    b: float
    """Means over the queries compared."""
    difference: Interval
    """Mean of a - b with its 95 % bootstrap interval over queries."""
    p: float
    """Two-sided p-value of the randomisation test."""
    exact: bool
    """Whether all assignments of signs were tried."""
    p_holm: float
    """The same, corrected for the number of measures."""
    wins: int
    """Queries for which a is better."""
    ties: int
    losses: int


@dataclass(frozen=True)
class RankingComparison:
    """Two rankings, measure by measure."""

    a: str
    b: str
    of: tuple[str, str]
    """Which evaluations these are."""
    queries: int
    rows: Sequence[Row]
    samples: int
    seed: int
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain containers."""
        found = asdict(self)
        found["measures"] = {row.pop("measure"): row for row in found.pop("rows")}
        return found

    def row(self, measure: str) -> Row:
        """Return the comparison under a measure; UsageError where it was not compared."""
        for row in self.rows:
            if row.measure == measure:
                return row
        raise UsageError(f"{measure} was not compared; there are: {', '.join(row.measure for row in self.rows)}")


def compare_rankings(
    a: Path,
    b: Path,
    *,
    split: str = "test",
    data_name: str | None = None,
    qrels: Path | None = None,
    measures: str | Sequence[str] | None = None,
    samples: int = 100_000,
    seed: int = 0,
) -> RankingComparison:
    """Return the paired comparison of two rankings of the same queries.

    Args:
        a: A run folder, a folder that `quincunx evaluate --data` or `--out` kept, or a TREC run file.
        b: Likewise; the two may be of different kinds.
        split: Of run folders: the split whose evaluation is compared, that of the best checkpoint.
        data_name: Of run folders: the evaluation under `evaluations/` that is compared instead.
        qrels: Judgements for TREC run files.
        measures: Names, or one string with commas; None: all that both were measured by.
        samples: Random assignments of signs for each test, where they are too many to be enumerated.
        seed: Of the tests and of the intervals.

    Raises:
        UsageError: Something named is not there, or was not measured.
        RunError: The two were not measured on the same data, or not over the same queries.
        DataError: A TREC file cannot be read.
    """
    if samples < 1:
        raise UsageError(f"a test on {samples} samples; expected 1 or more")
    if seed < 0:
        raise UsageError(f"the seed is {seed}; expected 0 or more")
    wanted = None if measures is None else [one.name for one in parse_measures(measures)]
    trec = [path.is_file() for path in (a, b)]
    _check_options(a, b, trec, data_name, qrels)
    sides = [None if file else _evaluated(path, split, data_name) for path, file in zip((a, b), trec, strict=True)]
    known = [side for side in sides if side is not None]
    if wanted is None:
        common = [name for name in known[0].values if all(name in side.values for side in known)] if known else MEASURES
        wanted = list(common)
        if not wanted:
            raise UsageError(
                f"{a} and {b} have no measure in common: {', '.join(known[0].values)}; {', '.join(known[1].values)}"
            )
    judged = read_qrels(qrels) if qrels is not None else {}
    notes: list[str] = []
    first, second = (
        _scored(path, judged, wanted, notes) if side is None else side for path, side in zip((a, b), sides, strict=True)
    )
    for side in (first, second):
        _check_measured(side, wanted)
    _check_same(first, second, notes)
    rows = [_row(name, first.values[name], second.values[name], samples, seed, notes) for name in wanted]
    corrected = holm([row.p for row in rows])
    rows = [Row(**{**vars(row), "p_holm": p}) for row, p in zip(rows, corrected, strict=True)]
    queries = len(first.values[wanted[0]])
    return RankingComparison(first.name, second.name, (first.what, second.what), queries, rows, samples, seed, notes)


def render(found: RankingComparison) -> str:
    """Return a comparison as text."""
    head = ["measure", "A", "B", "A - B", "95 % interval", "p", "p (Holm)", "better", "equal", "worse"]
    table = [head]
    for row in found.rows:
        low, high = row.difference.low, row.difference.high
        numbers = [f"{row.a:.4f}", f"{row.b:.4f}", f"{row.difference.value:+.4f}", f"[{low:+.4f}, {high:+.4f}]"]
        chances = [f"{p:.2g}" if p < 0.001 else f"{p:.3f}" for p in (row.p, row.p_holm)]
        table.append([row.measure, *numbers, *chances, str(row.wins), str(row.ties), str(row.losses)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    drawn = "" if all(row.exact for row in found.rows) else f" ({found.samples:,} drawn where they are too many)"
    return "\n".join(
        [
            f"A  {found.a}: {found.of[0]}",
            f"B  {found.b}: {found.of[1]}",
            f"{found.queries:,} queries",
            "",
            *("  ".join(map(str.ljust, line, widths)).rstrip() for line in table),
            "",
            f"p: two-sided randomisation test over queries, all assignments of signs{drawn}; p (Holm): corrected for "
            f"{len(found.rows)} measure{'s' * (len(found.rows) != 1)}",
            "better, equal, worse: queries for which A is",
            *(f"note: {note}" for note in found.notes),
        ]
    )


def _check_options(a: Path, b: Path, trec: Sequence[bool], data_name: str | None, qrels: Path | None) -> None:
    for path, file in zip((a, b), trec, strict=True):
        if not file and not path.is_dir():
            raise UsageError(f"{path} does not exist; give a run folder, a kept evaluation, or a TREC run file")
        if file and qrels is None:
            raise UsageError(f"{path} is a file, so a TREC run, which is measured now: give the judgements by --qrels")
    if qrels is not None and not any(trec):
        raise UsageError("--qrels is for TREC run files: what run folders keep was measured when they were evaluated")
    if data_name is not None and not any((path / "config.yaml").is_file() for path in (a, b)):
        raise UsageError("--data-name chooses an evaluation of a run folder, and neither is one")


def _evaluated(path: Path, split: str, data_name: str | None) -> Side:
    """Return what a folder has measured."""
    if (path / METRICS).is_file() and not (path / "config.yaml").is_file():
        return _kept(path, str(path), "a kept evaluation")
    try:
        folder = reopen(str(path))
    except RunError as error:
        raise UsageError(
            f"{path} is neither a run folder nor a kept evaluation ({METRICS}, {QUERIES}): {error}"
        ) from error
    there = sorted(each.parent.name for each in folder.evaluations.glob(f"*/{METRICS}"))
    if data_name is not None:
        if data_name not in there:
            raise UsageError(
                f"{path} has no evaluation {data_name!r}; it has {', '.join(there) or 'none'} "
                f"(quincunx evaluate {path} --data FOLDER makes one)"
            )
        return _kept(folder.evaluations / data_name, str(path), f"evaluation {data_name}")
    chosen = collect(path)
    evaluated = chosen.chosen(split)
    if evaluated is None:
        splits = ", ".join(chosen.splits()) or "none"
        raise UsageError(f"{path} has no evaluation of the split {split!r}; it has {splits}")
    file = folder.evaluations / f"{split}-{evaluated.update:08d}.json"
    values = _numbers(read_json(file).get("values", {}), file)
    if not values:
        raise UsageError(f"{file} holds no values by query: this run's recipe or evaluate.mode keeps none to compare")
    return Side(str(path), f"split {split} after update {evaluated.update}", values, _trained_on(path, split))


def _kept(folder: Path, name: str, what: str) -> Side:
    facts = read_json(folder / METRICS)
    values: dict[str, dict[str, float]] = {}
    for row in read_lines(folder / QUERIES):
        query = str(row.pop("query"))
        for measure, value in row.items():
            values.setdefault(measure, {})[query] = float("nan") if value is None else value
    if not isinstance(facts, dict) or not values:
        raise RunError(f"{folder} holds no evaluation: {METRICS} or {QUERIES} is empty or of another form")
    parts = [str(facts[key]) for key in ("checkpoint",) if facts.get(key)]
    return Side(name, ", ".join([what, *parts]), values, facts.get("data"))


def _numbers(values: Any, file: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for measure, rows in values.items():
        for query, value in rows.items():
            number = as_number(value)
            if number is None:
                raise RunError(f"{file}: the {measure} of query {query!r} is {value!r}, expected a number")
            found.setdefault(measure, {})[query] = number
    return found


def _trained_on(path: Path, split: str) -> str | None:
    """Return the fingerprint of a run's own split."""
    try:
        return read_json(path / "data.json")["fingerprints"].get(split)
    except (RunError, KeyError, TypeError, AttributeError):
        return None


def _scored(path: Path, qrels: Mapping[str, Mapping[str, int]], wanted: Sequence[str], notes: list[str]) -> Side:
    """Return a TREC run file measured now."""
    run = read_run(path)
    found: Scores = score(qrels, run, wanted)
    if missing := sum(query not in run for query in found.names):
        notes.append(f"{missing:,} of {len(found.names):,} judged queries are not in {path}: they count 0")
    values = {name: dict(zip(found.names, found.of(name).tolist(), strict=True)) for name in wanted}
    return Side(str(path), "a TREC run file", values)


def _check_measured(side: Side, wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in side.values:
            near = closest(name, side.values)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"{side.name} was not measured by {name}; {hint}there are: {', '.join(side.values)}. Any measure can "
                "be had from the files run.trec and qrels.trec of a kept evaluation: give the former, and the latter "
                "by --qrels"
            )


def _check_same(a: Side, b: Side, notes: list[str]) -> None:
    """Raise RunError for rankings of different data or queries; note what cannot be told."""
    if a.fingerprint and b.fingerprint and a.fingerprint != b.fingerprint:
        raise RunError(
            f"{a.name} ({a.what}) and {b.name} ({b.what}) were measured on different data (fingerprints "
            f"{a.fingerprint} and {b.fingerprint}), so their queries cannot be paired: evaluate both on the same "
            "(quincunx evaluate RUN --data FOLDER), then compare with --data-name"
        )
    if not (a.fingerprint and b.fingerprint) and (a.fingerprint or b.fingerprint):
        unknown = b if a.fingerprint else a
        notes.append(f"nothing tells on which data {unknown.name} was measured: only the query ids were compared")
    one, other = (set(next(iter(side.values.values()))) for side in (a, b))
    if one == other:
        return
    lacks = [
        f"{side.name} lacks {len(gone):,} that the other has ({', '.join(map(repr, sorted(gone)[:SHOWN]))}"
        f"{', ...' * (len(gone) > SHOWN)})"
        for side, gone in ((a, other - one), (b, one - other))
        if gone
    ]
    raise RunError(f"the two were not measured over the same queries: {'; '.join(lacks)}")


def _row(
    measure: str, one: Mapping[str, float], other: Mapping[str, float], samples: int, seed: int, notes: list[str]
) -> Row:
    queries = sorted(one)
    a, b = (np.array([values[query] for query in queries]) for values in (one, other))
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        raise UsageError(f"no query has a {measure} in both rankings: leave it out of --measures")
    if not both.all():
        notes.append(f"{measure}: {int((~both).sum()):,} queries are left out, for which one of the two has no value")
    found = paired(a[both], b[both], seed=seed, samples=samples)
    wins, losses = (found.losses, found.wins) if measure in LOWER_IS_BETTER else (found.wins, found.losses)
    means = float(a[both].mean()), float(b[both].mean())
    ties = int(both.sum()) - wins - losses
    return Row(measure, *means, found.difference, found.p, found.exact, found.p, wins, ties, losses)
