"""The verb `search`: one query, a file of queries, or what is typed, asked of an index."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.errors import UsageError
from quincunx.verbs.common import Adder, add_skips, say, say_error
from quincunx.verbs.ways import (
    add_index_options,
    add_models,
    add_way,
    chosen_way,
    fusion_options,
    index_options,
    model_options,
    models_of,
    refuse_idle,
    run_path,
    way_of,
)

if TYPE_CHECKING:
    from quincunx.recipes.retrieval.search import Hit, Searcher, Way

TOGETHER = 256
"""Queries of a file that are searched at once."""


def add_to(add: Adder) -> None:
    """Add the verb."""
    made = add("search", search, "search an index: one query, a file of queries, or what is typed")
    made.add_argument("index", help="what quincunx index wrote")
    made.set_defaults(takes_words=True)
    made.add_argument("words", nargs="*", metavar="QUERY", help="the question; without it and --queries, it is typed")
    made.add_argument("--run", help="run folder of the bi- or poly-encoder that encoded the documents")
    add_way(made)
    made.add_argument("-k", type=int, default=10, metavar="N", help="documents a query; default: 10")
    made.add_argument("--rerank", metavar="RUN", help="cross-encoder run that puts the candidates in order")
    made.add_argument("--candidates", type=int, metavar="N", help="documents fused or reranked; default: 100")
    made.add_argument("--queries", metavar="FILE", help="id<TAB>text lines, or JSON lines with _id and text")
    made.add_argument("--out", metavar="FILE", help="of --queries: the TREC run file")
    made.add_argument("--tag", metavar="WORD", help="of --out: its last column; default: quincunx")
    add_skips(made, "of --queries")
    made.add_argument("--json", action="store_true", help="as JSON, one object a query")
    add_index_options(made)
    made.add_argument("--store", action="append", metavar="DIR", help="where the texts are, if their store was moved")
    add_models(made)


def search(options: argparse.Namespace) -> int:
    """Search an index."""
    options.query = " ".join(options.words) if options.words else None
    _check(options)
    from quincunx.recipes.retrieval.search import Searcher

    way = way_of(options, "candidates")
    searcher = Searcher.open(
        options.index,
        run_path(options.run),
        rerank=run_path(options.rerank),
        stores=options.store,
        **models_of(options),
    )
    if options.queries is not None:
        return _file(options, searcher, way)
    return _typed(options, searcher, way)


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, or that this search would not look at."""
    if options.query is not None and options.queries is not None:
        raise UsageError("a query and a file of queries (--queries) are both given: leave one away")
    if options.queries is not None and options.out is None and not options.json:
        raise UsageError("where do the answers go? Give --out FILE for a TREC run file, or --json for JSON lines")
    dense, of_file = chosen_way(options) != "bm25", options.queries is not None
    looked_at = {
        "--run": (options.run, dense, "BM25 needs no run"),
        "--out": (options.out, of_file, "it is for --queries"),
        "--tag": (options.tag, options.out is not None, "it is for --out"),
        "--skip-bad-rows": (options.skip_bad_rows or None, of_file, "it is for --queries"),
    }
    refuse_idle(looked_at)
    refuse_idle(fusion_options(options))
    refuse_idle(index_options(options, dense, "it is of a search by vectors"))
    models = dense or options.rerank is not None
    refuse_idle(model_options(options, run=dense, any_model=models, why="it is of the run that encodes queries"))


def _file(options: argparse.Namespace, searcher: Searcher, way: Way) -> int:
    """Answer a file of queries: all of them, or none."""
    from quincunx.index.certified import Certified
    from quincunx.metrics.ranking.trec import write_run
    from quincunx.recipes.retrieval.data.readers.files import BadRows
    from quincunx.recipes.retrieval.data.readers.queries import read_queries
    from quincunx.recipes.retrieval.search import run_of

    bad = BadRows(skip=options.skip_bad_rows)
    queries = read_queries(Path(options.queries), bad)
    if bad.count:
        say_error(f"left out: {bad.count:,} bad row{'s' * (bad.count > 1)}:{bad.shown}")
    found: dict[str, dict[str, float]] = {}
    said: dict[str, None] = {}
    certified: list[Certified] = []
    if options.json:
        _check_texts(searcher)
    for start in range(0, len(queries), TOGETHER):
        numbers = range(start, min(start + TOGETHER, len(queries)))
        names, texts = [queries.ids[number] for number in numbers], [queries.text(number) for number in numbers]
        ranked = searcher.search(texts, options.k, way)
        found |= run_of(names, ranked.found, searcher.index.ids.__getitem__)
        said |= dict.fromkeys(ranked.notes)
        certified += [] if ranked.certified is None else [ranked.certified]
        if options.json:
            for row, (name, text) in enumerate(zip(names, texts, strict=True)):
                _say_json({"id": name, "query": text, "results": _plain(searcher.hits(text, ranked, row))})
    for note in [*said, *([searcher.said(Certified.joined(certified), way)] if certified else [])]:
        say_error(note)
    empty = [name for name, ranking in found.items() if not ranking]
    if empty:
        say_error(f"nothing was found for {len(empty):,} of {len(found):,} queries, the first {empty[0]!r}")
    if options.out is not None:
        write_run(Path(options.out), found, options.tag or "quincunx")
        if not options.json:
            say(f"{options.out}: {sum(map(len, found.values())):,} results for {len(found):,} queries")
    return 0


def _typed(options: argparse.Namespace, searcher: Searcher, way: Way) -> int:
    """Answer the query of the command line, or those that are typed until there are no more."""
    from quincunx.console import Terminal
    from quincunx.verbs.asking import ask_on, show

    console = Terminal(highlight=False)
    _check_texts(searcher)

    def ask(query: str) -> Sequence[Hit]:
        if not query.strip():
            raise UsageError("the query is empty: there is nothing to search for")
        ranked = searcher.search([query], options.k, way)
        for note in [*ranked.notes, *([] if ranked.certified is None else [searcher.said(ranked.certified, way)])]:
            say_error(note)
        return searcher.hits(query, ranked)

    if options.query is not None:
        hits = ask(options.query)
        if options.json:
            _say_json({"query": options.query, "results": _plain(hits)})
        else:
            show(console, hits)
        return 0
    if options.json:
        for line in sys.stdin:
            if line.strip():
                _say_json({"query": line.strip(), "results": _plain(ask(line.strip()))})
        return 0
    ask_on(console, ask)
    return 0


def _check_texts(searcher: Searcher) -> None:
    """Say why no passages are shown, where none are."""
    if searcher.texts is None:
        say_error(f"note: no passages are shown: {searcher.without_texts}")


def _plain(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    return [hit.to_json() for hit in hits]


def _say_json(value: Any) -> None:
    from quincunx.runs import to_json

    say(to_json(value).decode())
