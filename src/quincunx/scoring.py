"""The verbs that say how good something is: `evaluate` a run, `score` files of what a system found, `compare` two."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from quincunx.verbs import aligned, run_folder, say, say_error

if TYPE_CHECKING:
    from quincunx.metrics.ranking import Scores


def evaluate(options: argparse.Namespace) -> int:
    """Evaluate a run's checkpoint on a split of its own, or on other data."""
    from quincunx.api import evaluate
    from quincunx.errors import UsageError
    from quincunx.runs import to_json

    given = {"--format": options.format, "--limit": options.limit, "--skip-bad-rows": options.skip_bad_rows}
    idle = [name for name, value in given.items() if value is not None and value is not False]
    if options.data is None and idle:
        raise UsageError(f"{' and '.join(idle)} would say how --data is read, and there is none: give --data as well")
    evaluation = evaluate(
        run_folder(options.run).path,
        options.split,
        options.checkpoint,
        data=options.data,
        format=options.format or "auto",
        limit=options.limit,
        skip_bad_rows=options.skip_bad_rows,
        out=options.out,
    )
    if options.json:
        say(to_json(evaluation.to_json(), indent=1).decode())
        return 0
    for note in evaluation.notes:
        say(note)
    for name, value in evaluation.scalars.items():
        say(f"{name}: {value:.6g}")
    for table in evaluation.tables:
        say(f"\n{table.title}\n{aligned([table.columns, *table.rows])}")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Compare two rankings query by query."""
    from quincunx.report.rankings import compare_rankings, render
    from quincunx.runs import to_json

    found = compare_rankings(
        Path(options.a),
        Path(options.b),
        split=options.split,
        data_name=options.data_name,
        qrels=None if options.qrels is None else Path(options.qrels),
        measures=options.measures,
        samples=options.samples,
        seed=options.seed,
    )
    say(to_json(found.to_json(), indent=1).decode() if options.json else render(found))
    return 0


def ranking(options: argparse.Namespace) -> int:
    """Measure a run file against a qrels file."""
    from quincunx.metrics.ranking import parse_measures, score
    from quincunx.metrics.ranking.measures import DEFAULT
    from quincunx.metrics.ranking.ties import check_ties
    from quincunx.metrics.ranking.trec import read_qrels, read_run

    measures = DEFAULT if options.measures is None else options.measures
    parse_measures(measures)  # before the files are read, which may take a while
    check_ties(options.ties)
    qrels, run = read_qrels(options.qrels), read_run(options.run)
    found = score(qrels, run, measures, options.ties, options.intersection)
    missing = sum(query not in run for query in found.names)
    if missing:
        say_error(f"note: {missing} of {len(found.names)} judged queries are not in {options.run}: they count 0")
    say(_as_json(found) if options.json else _table(found, options.queries))
    return 0


def _as_json(found: Scores) -> str:
    """Return means and values of queries as JSON, null where there is no value."""
    plain = {
        "mean": _without_nan(found.mean),
        "queries": {query: _without_nan(values) for query, values in found.queries.items()},
    }
    return json.dumps(plain, indent=1, ensure_ascii=False)


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _table(found: Scores, queries: bool) -> str:
    """Return lines as trec_eval prints them: measure, query or `all`, value."""
    summed = {one.name for one in found.wanted if one.measure.summed}
    lines: list[str] = []

    def add(query: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            text = f"{value:.0f}" if name in summed else f"{value:6.4f}"
            lines.append(f"{name:<22}\t{query}\t{text}")

    if queries:
        for query, values in found.queries.items():
            add(query, {name: value for name, value in values.items() if name != "num_q"})
    add("all", found.mean)
    return "\n".join(lines)
