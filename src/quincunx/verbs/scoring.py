"""The verbs that say how good something is: `evaluate` a run, `score` files of what a system found, `compare` two."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from quincunx.verbs import scoring_answers, scoring_tasks
from quincunx.verbs.common import Adder, add_skips, aligned, group, run_folder, say, say_error

if TYPE_CHECKING:
    from quincunx.metrics.ranking import Scores


def add_to(add: Adder) -> None:
    """Add the verbs."""
    _add_evaluate(add)
    _add_compare(add)
    scores = group(add, "score", "measure what a system found or answered, from files")
    _add_ranking(scores)
    scoring_answers.add_below(scores)
    scoring_tasks.add_below(scores)


def _add_evaluate(add: Adder) -> None:
    made = add("evaluate", evaluate, "evaluate a run's checkpoint on a split of its own, or on other data")
    made.add_argument("run", help="run folder")
    made.add_argument("--split", help="default: test; of a single file of --data, all of it")
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")
    made.add_argument("--data", metavar="PLACE", help="a collection (folder, file, name) in place of the run's own")
    made.add_argument("--format", help="of --data: beir, tsv, pairs ... as data.test.format; default: auto")
    made.add_argument("--limit", type=int, metavar="N", help="of --data, only the first N queries")
    add_skips(made, "of --data")
    where = "where to keep measures, values by query and the ranking; default: with --data, evaluations/ of the run"
    made.add_argument("--out", metavar="DIR", help=where)
    made.add_argument("--json", action="store_true", help="as JSON, with every query's values")


def _add_compare(add: Adder) -> None:
    what = "compare two rankings query by query: differences, intervals, randomisation tests (runs compare: over seeds)"
    made = add("compare", compare, what)
    made.add_argument("a", metavar="A", help="run folder, folder that evaluate kept, or TREC run file")
    made.add_argument("b", metavar="B", help="likewise")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--split", default="test", help="of run folders; default: test")
    which.add_argument(
        "--data-name", metavar="NAME", help="of run folders: evaluations/NAME, which evaluate --data kept"
    )
    made.add_argument("--qrels", metavar="FILE", help="judgements, for TREC run files")
    made.add_argument("--measures", metavar="NAMES", help="such as ndcg_cut_10,recip_rank; default: all in common")
    made.add_argument("--samples", type=int, default=100_000, metavar="N", help="of a test; default: 100000")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of tests and intervals; default: 0")
    made.add_argument("--json", action="store_true", help="as JSON")


def _add_ranking(add: Adder) -> None:
    made = add("ranking", ranking, "measure a run file against a qrels file, as trec_eval -c does")
    made.add_argument("--qrels", required=True, metavar="FILE", help="query, iteration, document, grade; gzip too")
    made.add_argument("--run", required=True, metavar="FILE", help="query, Q0, document, rank, score, tag; gzip too")
    made.add_argument("--measures", metavar="NAMES", help="such as ndcg_cut_10,map,recip_rank,P_5,recall_100")
    made.add_argument("-q", "--queries", action="store_true", help="also every query's values")
    made.add_argument("--json", action="store_true", help='as JSON: {"mean": {...}, "queries": {...}}')
    made.add_argument(
        "--intersection", action="store_true", help="leave judged queries out that the run lacks; else they count 0"
    )
    made.add_argument(
        "--ties", default="trec", metavar="WAY", help="trec (default), expected, optimistic or pessimistic"
    )


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
