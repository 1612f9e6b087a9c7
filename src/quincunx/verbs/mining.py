"""The verb `mine`: hard negatives for the queries of training data, with a report on what they are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from quincunx.verbs.common import Adder, add_skips, say, say_error, tenths
from quincunx.verbs.ways import (
    add_index_options,
    add_models,
    add_way,
    chosen_way,
    fusion_options,
    given,
    index_options,
    model_options,
    models_of,
    refuse_idle,
    run_path,
    way_of,
)

RULES = ("ranks", "num", "sampling", "seed", "margin", "relative_margin", "max_score", "min_score", "agree")
"""Options that say which candidates become negatives."""


def add_to(add: Adder) -> None:
    """Add the verb."""
    made = add("mine", mine, "mine hard negatives for the queries of training data, with a report")
    made.add_argument("--data", required=True, metavar="PLACE", help="collection (folder, file, name), as data.train")
    made.add_argument("--out", required=True, metavar="DIR", help="for train.jsonl, report.html, report.json")
    made.add_argument("--split", help="of --data; default: train")
    made.add_argument("--format", default="auto", help="of --data: beir, tsv, pairs ...; default: auto")
    made.add_argument("--limit", type=int, metavar="N", help="only the first N queries")
    made.add_argument("--min-grade", type=int, default=1, metavar="N", help="of a positive; default: 1")
    add_skips(made, "of --data")
    made.add_argument("--run", help="bi- or poly-encoder run that ranks, and that margins are measured by")
    made.add_argument("--index", metavar="DIR", help="its documents are the candidates; default: those of --data")
    made.add_argument("--store", action="append", metavar="DIR", help="where the index's texts are, if moved")
    add_way(made)
    made.add_argument("--rerank", metavar="RUN", help="cross-encoder run that scores the candidates")
    ranks = "ranks of the candidates, both included; default: 11:100"
    made.add_argument("--ranks", type=_ranks, metavar="FROM:TO", help=ranks)
    made.add_argument("--num", type=int, metavar="N", help="negatives of a query, at most; default: 5")
    chosen = "of those left: top (default: the hardest), random, or weighted (harder ones more often)"
    made.add_argument("--sampling", choices=["top", "random", "weighted"], metavar="WORD", help=chosen)
    made.add_argument("--seed", type=int, metavar="N", help="of --sampling random and weighted; default: 0")
    made.add_argument("--margin", type=float, metavar="X", help="negatives score at most positive - X")
    made.add_argument("--relative-margin", type=float, metavar="R", help="at most positive - R |positive|")
    made.add_argument("--max-score", type=float, metavar="X", help="negatives score at most X")
    made.add_argument("--min-score", type=float, metavar="X", help="negatives score at least X")
    agree = "suspect candidates that N of bm25, dense, reranker put above the positive; they are left out"
    made.add_argument("--agree", type=int, metavar="N", help=agree)
    made.add_argument("--keep-suspects", action="store_true", help="suspects may be negatives; they are listed")
    made.add_argument("--drop-short", action="store_true", help="leave out queries with fewer than --num negatives")
    add_index_options(made)
    add_models(made)
    made.add_argument("--json", action="store_true", help="print the report as JSON")


def _ranks(text: str) -> tuple[int, int]:
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM:TO, such as 11:100") from None
    return first, last


def mine(options: argparse.Namespace) -> int:
    """Mine hard negatives."""
    _check(options)
    from quincunx.index.mined import Rules
    from quincunx.recipes.retrieval.mine import mine as mine_negatives
    from quincunx.report.mined import page
    from quincunx.runs import to_json

    found = mine_negatives(
        options.data,
        options.out,
        rules=Rules(**given(options, *RULES), keep_suspects=options.keep_suspects),
        way=way_of(options),
        run=run_path(options.run),
        index=options.index,
        stores=options.store,
        rerank=run_path(options.rerank),
        split=options.split,
        format=options.format,
        limit=options.limit,
        skip_bad_rows=options.skip_bad_rows,
        min_grade=options.min_grade,
        drop_short=options.drop_short,
        on_progress=tenths("queries"),
        page=page,
        **models_of(options),
    )
    for note in found.report["notes"]:
        say_error(f"note: {note}")
    if options.json:
        say(to_json(found.report).decode())
    else:
        _say(found.folder, found.report)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse options that this mining would not look at."""
    indexed, dense = options.index is not None, options.run is not None
    drawn = options.sampling in ("random", "weighted")
    looked_at = {
        "--seed": (options.seed, drawn, "it is of --sampling random and weighted"),
        "--keep-suspects": (options.keep_suspects or None, options.agree is not None, "it is for --agree"),
        "--store": (options.store, indexed, "it is for --index"),
    }
    refuse_idle(looked_at)
    refuse_idle(fusion_options(options))
    vectors = indexed and chosen_way(options) != "bm25"
    refuse_idle(index_options(options, vectors, "it is of a search by vectors in --index"))
    refuse_idle(model_options(options, run=dense, any_model=dense or options.rerank is not None, why="it is of --run"))


def _say(folder: Path, report: dict[str, Any] | Any) -> None:
    from quincunx.recipes.retrieval.mine_kept import PAGE, SUSPECTS, TRAIN
    from quincunx.report.markup import number
    from quincunx.report.mined import fate_of_short

    queries, candidates, margins = report["queries"], report["candidates"], report["margins"]["negatives"]
    say(
        f"{folder / TRAIN}: {report['negatives']:,} hard negatives for {queries['mined']:,} queries; "
        f"{fate_of_short(report)}"
    )
    dropped = [f"{count:,} {name.replace('_', ' ')}" for name, count in candidates["dropped"].items() if count]
    say(f"candidates: {candidates['looked_at']:,}; dropped: {', '.join(dropped) or 'none'}")
    if margins["count"]:
        say(
            f"margin (positive - negative, {report['scores_of']}): median {number(margins['median'])}, half of them "
            f"{number(margins['quarter'])} to {number(margins['three_quarters'])}, lowest {number(margins['low'])}"
        )
    if report["settings"]["agree"] is not None:
        found = report["suspects"]
        say(
            f"suspects: {found['count']:,} of {found['queries']:,} queries, by {', '.join(report['rankings'])}: "
            f"{folder / SUSPECTS}"
        )
    say(f"report: {folder / PAGE}")
