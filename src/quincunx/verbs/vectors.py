"""The verbs that lead from a trained model to answers: `encode` a corpus, make and change an `index` of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from quincunx.verbs.common import Adder, add_skips, group, run_folder, say, tenths

if TYPE_CHECKING:
    from quincunx.index.indexed import Index
    from quincunx.index.measured import Measured


INDEX_WORDS = ("build", "add", "delete", "compact", "-h", "--help")


def add_to(add: Adder) -> None:
    """Add the verbs."""
    _add_encode(add)
    _add_index(group(add, "index", "make a searchable index of a store's vectors: quincunx index STORE --out DIR"))


def _add_encode(add: Adder) -> None:
    made = add("encode", encode, "encode a corpus into a store of vectors; goes on with one that was begun")
    made.add_argument("run", help="run folder of a bi- or poly-encoder")
    where = "JSON lines, id<TAB>text lines, a folder with corpus.jsonl or collection.tsv, or a folder of text files"
    made.add_argument("--corpus", required=True, metavar="PLACE", help=where)
    made.add_argument("--out", required=True, metavar="DIR", help="the store; other processes may be given the same")
    made.add_argument("--format", default="auto", metavar="WORD", help="auto (default), jsonl, tsv or files")
    made.add_argument("--shard-size", type=int, metavar="N", help="documents of a shard; default: 4096")
    made.add_argument(
        "--processes", type=int, default=1, metavar="P", help="so many, which share the cores; default: 1"
    )
    made.add_argument("--precision", default="auto", metavar="WORD", help="auto (default), float32 or bf16")
    made.add_argument("--dtype", default="float32", metavar="WORD", help="how vectors are stored: float32 or float16")
    made.add_argument("--backend", default="torch", metavar="NAME", help="torch (default), onnxruntime or openvino")
    made.add_argument("--int8", action="store_true", help="with another backend: in 8 bits, set up on the corpus")
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")
    made.add_argument("--device", default="auto", help="auto (default), cpu, mps, cuda or cuda:N")
    made.add_argument("--side", default="document", metavar="WORD", help="document (default) or query")
    made.add_argument("--batch-size", type=int, metavar="N", help="texts computed at once, at most; default: by tokens")
    made.add_argument("--no-texts", action="store_true", help="do not keep the texts beside the vectors")
    add_skips(made, "of the corpus")


def _add_index(add: Adder) -> None:
    from quincunx.index.options import KINDS, OPTIONS

    made = add("build", index_build, "make an index; the word build may be left out")
    made.add_argument("store", help="what quincunx encode wrote")
    made.add_argument("--out", required=True, metavar="DIR", help="the index")
    kinds = "; ".join(f"{name}: {kind.text}" for name, kind in KINDS.items())
    made.add_argument("--kind", default="flat", choices=list(KINDS), metavar="KIND", help=f"default: flat. {kinds}")
    made.add_argument("--shard-size", type=int, metavar="N", help="documents of a part; default: all in one")
    for name, option in OPTIONS.items():
        defaults = {kind.defaults[name] for kind in KINDS.values() if name in kind.defaults}
        by_kind = ", ".join(f"{kind} {KINDS[kind].defaults[name]}" for kind in KINDS if name in KINDS[kind].defaults)
        default = f"default: {defaults.pop()}" if len(defaults) == 1 else f"default: {by_kind}"
        flag = f"--{name.replace('_', '-')}"
        made.add_argument(flag, dest=name, type=int, metavar="N", help=f"{option.text}; {default}")
    made.add_argument("--check", type=int, default=200, metavar="N", help="documents to try it with; default: 200")
    made.add_argument("--queries", metavar="STORE", help="try it with these: encoded by quincunx encode --side query")

    made = add("add", index_add, "add a store's documents to an index")
    made.add_argument("index", help="the index")
    made.add_argument("store", help="what quincunx encode wrote, with the same run")
    made.add_argument("--replace", action="store_true", help="documents with the same ids take the old ones' places")

    made = add("delete", index_delete, "delete documents from an index")
    made.add_argument("index", help="the index")
    made.add_argument("--ids", required=True, metavar="FILE", help="one id a line; - reads stdin")
    made.add_argument("--ignore-missing", action="store_true", help="pass over ids that are not there")

    made = add("compact", index_compact, "make an index anew without what was deleted, its parts as one")
    made.add_argument("index", help="the index")


def with_build(arguments: list[str]) -> list[str]:
    """Return arguments in which `index STORE` says `index build STORE`."""
    if arguments[:1] == ["index"] and arguments[1:2] and arguments[1] not in INDEX_WORDS:
        return ["index", "build", *arguments[1:]]
    return arguments


def encode(options: argparse.Namespace) -> int:
    """Encode a corpus by a run into a store of vectors."""
    from quincunx.console import duration
    from quincunx.recipes.retrieval.encode_corpus import encode_corpus

    found = encode_corpus(
        run_folder(options.run).path,
        options.corpus,
        options.out,
        processes=options.processes,
        on_progress=tenths("documents"),
        format=options.format,
        shard_size=options.shard_size,
        precision=options.precision,
        dtype=options.dtype,
        backend=options.backend,
        int8=options.int8,
        checkpoint=options.checkpoint,
        device=options.device,
        side=options.side,
        texts=not options.no_texts,
        skip_bad_rows=options.skip_bad_rows,
        batch_size=options.batch_size,
    )
    for note in found.notes:
        say(note)
    store, took = found.store, f"encoded in {duration(found.seconds)}"
    say(
        f"{store.folder}: {len(store):,} documents, vectors of {store.width} numbers as {store.made['dtype']}, "
        f"{store.bytes / 2**20:,.1f} MiB; {took if found.documents else 'all of them were there already'}"
    )
    return 0


def index_build(options: argparse.Namespace) -> int:
    """Make an index of a store's vectors, and say how good it is."""
    import time

    from quincunx.console import duration
    from quincunx.errors import UsageError
    from quincunx.index.building import build
    from quincunx.index.indexed import check_fit
    from quincunx.index.options import OPTIONS, resolve
    from quincunx.index.store import Store

    given = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    resolve(options.kind, given)  # before anything is read
    if options.check < 0:
        raise UsageError(f"--check is {options.check}: so many documents to try the index with, 0 for none")
    store = Store.open(options.store)
    queries = None if options.queries is None else Store.open(options.queries)
    if queries is not None:
        check_fit(store.made, str(store.folder), queries.made, str(queries.folder))
    start = time.perf_counter()
    made = build(store, options.out, options.kind, shard_size=options.shard_size, **given)
    say(f"{_described(made)}; built in {duration(time.perf_counter() - start)}")
    if queries is not None:
        _say_recall(made.recall(queries.read(0, len(queries))))
    elif options.check and len(made) > 1:
        _say_recall(made.recall(sample=options.check))
    return 0


def index_add(options: argparse.Namespace) -> int:
    """Add a store's documents to an index."""
    from quincunx.index.building import add
    from quincunx.index.store import Store

    say(_described(add(options.index, Store.open(options.store), replace=options.replace)))
    return 0


def index_delete(options: argparse.Namespace) -> int:
    """Delete documents from an index."""
    import sys

    from quincunx.errors import DataError, UsageError
    from quincunx.index.building import delete

    try:
        data = sys.stdin.buffer.read() if options.ids == "-" else Path(options.ids).read_bytes()
    except OSError as error:
        raise UsageError(f"{options.ids} cannot be read: {error.strerror or error}") from error
    ids: list[str] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            ids.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"{options.ids}:{number}: no UTF-8 text ({error}); nothing was deleted") from error
    wanted = [name for name in ids if name]
    if not wanted:
        raise UsageError(f"{options.ids} has no ids: expected one a line")
    say(_described(delete(options.index, wanted, ignore_missing=options.ignore_missing)))
    return 0


def index_compact(options: argparse.Namespace) -> int:
    """Make an index anew without what was deleted from it."""
    from quincunx.index.building import compact

    say(_described(compact(options.index)))
    return 0


def _described(index: Index) -> str:
    chosen = ", ".join(f"{name} {value}" for name, value in index.options.items())
    gone = len(index.ids) - len(index)
    return (
        f"{index.folder}: {len(index):,} documents, vectors of {index.width} numbers; {index.kind}"
        f"{f' ({chosen})' if chosen else ''}, {len(index.parts)} part{'' if len(index.parts) == 1 else 's'}"
        f"{f', {gone:,} deleted' if gone else ''}; {index.searched_bytes / 2**20:,.1f} MiB to search, "
        f"{index.disk_bytes / 2**20:,.1f} MiB on disk"
    )


def _say_recall(found: Measured) -> None:
    which = "of its own documents, each left out of its results" if found.of_documents else "queries"
    say(
        f"recall@{found.k} against exact search: {found.recall:.4f} over {found.queries:,} {which}; "
        f"{found.queries_per_second:,.0f} queries/s, exact {found.exact_queries_per_second:,.0f}"
    )
