"""The verb `mine`: hard negatives for the queries of training data, with a report on what they are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from quincunx.errors import UsageError
from quincunx.verbs.common import Adder, add_skips, run_folder, say, say_error
from quincunx.verbs.searching import two_numbers

MODELS = {"checkpoint": "best", "precision": "auto", "device": "auto", "backend": "torch"}
"""Options that say how models compute, and their defaults."""


def add_to(add: Adder) -> None:
    """Add the verb."""
    from quincunx.index.options import OPTIONS

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
    ways = "dense (default with --run), bm25 (default without), rrf or weighted (both fused)"
    made.add_argument("--by", choices=["dense", "bm25", "rrf", "weighted"], metavar="WAY", help=ways)
    made.add_argument("--weights", type=two_numbers, metavar="D,B", help="of dense and BM25 in a fusion; default: 1,1")
    scales = ["min-max", "z-score", "none"]
    made.add_argument("--normalisation", choices=scales, metavar="WORD", help="of --by weighted, as in search")
    made.add_argument("--rank-constant", type=float, metavar="C", help="of --by rrf; default: 60")
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
    made.add_argument("--exact", action="store_true", help="compare with every document of --index")
    for name, option in OPTIONS.items():
        if option.search:
            made.add_argument(f"--{name.replace('_', '-')}", dest=name, type=int, metavar="N", help="as in search")
    made.add_argument("--checkpoint", help="of --run: best (default), last, or its name")
    made.add_argument("--precision", metavar="WORD", help="auto (default), float32 or bf16")
    made.add_argument("--backend", metavar="NAME", help="of --run: torch (default), onnxruntime or openvino")
    made.add_argument("--device", help="auto (default), cpu, mps, cuda or cuda:N")
    made.add_argument("--json", action="store_true", help="print the report as JSON")


def _ranks(text: str) -> tuple[int, int]:
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM:TO, such as 11:100") from None
    return first, last


def mine(options: argparse.Namespace) -> int:
    """Mine hard negatives."""
    by = options.by or ("bm25" if options.run is None else "dense")
    _check(options, by)
    from quincunx.console import Terminal
    from quincunx.index.mined import Rules
    from quincunx.index.options import OPTIONS
    from quincunx.recipes.retrieval.mine import mine as mine_negatives
    from quincunx.recipes.retrieval.search import Way
    from quincunx.report.mined import page
    from quincunx.runs import to_json

    rules = _given(
        options, "ranks", "num", "sampling", "seed", "margin", "relative_margin", "max_score", "min_score", "agree"
    )
    kinds = [name for name, option in OPTIONS.items() if option.search]
    way = Way(
        by,
        exact=options.exact,
        options=_given(options, *kinds),
        **_given(options, "weights", "normalisation", "rank_constant"),
    )
    console = Terminal(soft_wrap=True, stderr=True)
    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if (tenth := 10 * done // total) > shown:
            shown = tenth
            console.print(f"{done:,} of {total:,} queries", markup=False, highlight=False)

    found = mine_negatives(
        options.data,
        options.out,
        rules=Rules(**rules, keep_suspects=options.keep_suspects),
        way=way,
        run=None if options.run is None else run_folder(options.run).path,
        index=options.index,
        stores=options.store,
        rerank=None if options.rerank is None else run_folder(options.rerank).path,
        split=options.split,
        format=options.format,
        limit=options.limit,
        skip_bad_rows=options.skip_bad_rows,
        min_grade=options.min_grade,
        drop_short=options.drop_short,
        on_progress=progress,
        page=page,
        **{name: getattr(options, name) or default for name, default in MODELS.items()},
    )
    for note in found.report["notes"]:
        say_error(f"note: {note}")
    if options.json:
        say(to_json(found.report).decode())
    else:
        _say(found.folder, found.report)
    return 0


def _check(options: argparse.Namespace, by: str) -> None:
    """Refuse options that this mining would not look at."""
    fused, indexed, dense = by in ("rrf", "weighted"), options.index is not None, options.run is not None
    models = dense or options.rerank is not None
    drawn = options.sampling in ("random", "weighted")
    looked_at = {
        "--seed": (options.seed, drawn, "it is of --sampling random and weighted"),
        "--keep-suspects": (options.keep_suspects or None, options.agree is not None, "it is for --agree"),
        "--weights": (options.weights, fused, "it is for --by rrf or weighted"),
        "--normalisation": (options.normalisation, by == "weighted", "it is for --by weighted"),
        "--rank-constant": (options.rank_constant, by == "rrf", "it is for --by rrf"),
        "--store": (options.store, indexed, "it is for --index"),
        "--exact": (options.exact or None, indexed and by != "bm25", "it is of a search by vectors in --index"),
        "--nprobe": (options.nprobe, indexed and by != "bm25", "it is of a search by vectors in --index"),
        "--ef-search": (options.ef_search, indexed and by != "bm25", "it is of a search by vectors in --index"),
        "--oversample": (options.oversample, indexed and by != "bm25", "it is of a search by vectors in --index"),
        "--backend": (options.backend, dense, "it is of --run"),
        "--checkpoint": (options.checkpoint, dense, "it is of --run"),
        "--precision": (options.precision, models, "BM25 computes with no model"),
        "--device": (options.device, models, "BM25 computes with no model"),
    }
    for name, (value, used, why) in looked_at.items():
        if value is not None and not used:
            raise UsageError(f"{name} has no effect here: {why}. Leave it out")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those options that were given; the others keep their defaults where these are defined."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


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
