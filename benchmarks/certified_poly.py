"""Exact top-10 of a trained poly-encoder from an inner-product index, with a certificate, beside scoring everything.

A small poly-encoder (2 blocks, width 128, 16 codes, attention basic) learns code search from the documented functions
of the standard library and some packages. The corpus is those functions and undocumented ones of more packages too;
queries are docstrings of test modules. Every query's result, documents and scores, must equal brute force: all
documents scored in float64, rounded to float32, sorted. Wall times are of single queries in alternation: `certified`
from a flat index on disk, `brute force` the fused scores of all documents in float32 and their first ten.

    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/certified_poly.py [--documents 100000] [--out runs]

The run, the vectors and the index are kept below --out and not made again; on 2 cores mining, training and encoding
100,000 documents take some minutes each.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import textwrap
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import alternate, machine, ratios, spread, table
from numpy.typing import NDArray

from quincunx import Run, train
from quincunx.index.building import build
from quincunx.index.certified import Corpus, exact_scores, search_certified
from quincunx.index.exact import search_by
from quincunx.index.indexed import Index
from quincunx.index.store import Store
from quincunx.nn.poly import poly_scores
from quincunx.recipes.retrieval.data.code_search import generate, module_files, package_root, stdlib_roots
from quincunx.recipes.retrieval.data.python_functions import HIDDEN, read_source
from quincunx.recipes.retrieval.data.texts import content_hash
from quincunx.recipes.retrieval.encode import Encoder
from quincunx.recipes.retrieval.encode_corpus import encode_corpus

NAME = "certified-poly"
PACKAGES = ("numpy", "scipy", "sklearn", "sympy", "torch", "transformers")
FURTHER = ("matplotlib", "networkx", "pandas", "datasets", "pip", "nncf", "peft", "lightning")
"""Packages whose functions are documents, and teach nothing."""
K = 10
BAR = 0.05
CONFIG: dict[str, Any] = {
    "recipe": "retrieval",
    "mode": "poly-encoder",
    "seed": 1,
    "encoder": {
        "build": {"num_layers": 2, "width": 128, "num_heads": 4, "hidden": 256, "positions": 96},
        "tokenizer": {"vocabulary": 8000},
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "poly": {"codes": 16},
    "query": {"max_length": 32},
    "document": {"max_length": 96},
    "update": {"batch_size": 64},
    "optimizer": {"learning_rate": 1e-3},
    "evaluate": {"measures": ["recip_rank", "recall_10"]},
    "compute": {"device": "cpu", "precision": "float32"},
}


def undocumented(roots: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """Yield (id, source with the name hidden) of functions without a docstring and with more than two lines."""
    for module, path in module_files(roots):
        try:
            source = read_source(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        lines = source.split("\n")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is None:
                text = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
                if text.count("\n") > 1:
                    yield f"{module}.{node.name}:{node.lineno}", re.sub(rf"\b{re.escape(node.name)}\b", HIDDEN, text)


def write_corpus(path: Path, documented: Path, packages: Sequence[str], count: int) -> None:
    """Write so many distinct functions as a BEIR corpus, the documented ones first."""
    roots = {**dict(stdlib_roots()), **{name: package_root(name) for name in packages}}
    seen: set[int] = set()
    rows = (json.loads(line) for line in (documented / "corpus.jsonl").open(encoding="utf-8"))
    pairs = [((row["_id"], row["text"]) for row in rows), undocumented(roots)]
    with path.open("w", encoding="utf-8") as file:
        for name, text in (pair for some in pairs for pair in some):
            content = content_hash(text.encode("utf-8", "replace"))
            if content not in seen and len(seen) < count:
                seen.add(content)
                file.write(json.dumps({"_id": f"{len(seen)}:{name}", "title": "", "text": text}) + "\n")
    if len(seen) < count:
        raise SystemExit(f"these packages have only {len(seen):,} functions; --documents {len(seen)} takes all")


def prepared(
    out: Path, packages: Sequence[str], documents: int, updates: int, processes: int
) -> tuple[Encoder, Index, Path]:
    """Return encoder, index and the folder of pairs, made where they are not there yet."""
    folder = out / NAME
    generate(folder / "code", packages=packages)
    run = folder / "run"
    if not (run / "summary.json").is_file() or Run(run).summary.get("state") != "finished":
        own = {"data": {"path": str(folder / "code")}, "budget": {"updates": updates}, "run": {"dir": str(run)}}
        train({**CONFIG, **own}, resume=True, show=True)
    place = folder / f"{documents}"
    if not (place / "index").is_dir():
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "corpus.jsonl").is_file():
            write_corpus(place / "corpus.jsonl.new", folder / "code", [*packages, *FURTHER], documents)
            (place / "corpus.jsonl.new").replace(place / "corpus.jsonl")
        encode_corpus(run, place / "corpus.jsonl", place / "store", processes=processes)
        build(Store.open(place / "store"), place / "index")
    return Encoder.load(run), Index.open(place / "index"), folder / "code"


def test_queries(code: Path, count: int) -> list[str]:
    """Return queries of the test split."""
    rows = (json.loads(line) for line in (code / "queries.jsonl").open(encoding="utf-8"))
    texts = {row["_id"]: row["text"] for row in rows}
    judged = (code / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [texts[line.split("\t")[0]] for line in judged[:count]]


def brute_force(
    codes: NDArray[np.float32], vectors: NDArray[np.float32], scale: float
) -> tuple[list[int], list[float]]:
    """Return the first ten of all documents, scored in float64."""
    scores = np.concatenate([exact_scores(codes, vectors[s : s + 8192], scale) for s in range(0, len(vectors), 8192)])
    best = np.argsort(-scores, kind="stable")[:K]
    return best.tolist(), scores[best].tolist()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--timed", type=int, default=10, help="queries of a round of timing")
    parser.add_argument("--packages", nargs="*", default=PACKAGES, help="besides the standard library")
    parser.add_argument("--updates", type=int, default=1000, help="of training; about 2.4 epochs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1, help="that encode")
    parser.add_argument("--slacks", type=float, nargs="+", default=[0.0], help="see Directions.of; the first is timed")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    encoder, index, code = prepared(chosen.out, chosen.packages, chosen.documents, chosen.updates, chosen.processes)
    made = encoder.encode(test_queries(code, chosen.queries), side="query")
    codes, mask, scale = np.asarray(made), np.asarray(made.mask), encoder.model.scale  # pyright: ignore[reportAttributeAccessIssue]
    vectors = index.vectors(index.documents)
    corpus = Corpus(index.search, index.vectors, index.documents, index.longest)
    wanted = [brute_force(some[there], vectors, scale) for some, there in zip(codes, mask, strict=True)]
    rows: list[list[object]] = []
    missed: list[str] = []
    for slack in chosen.slacks:
        result = search_certified(codes, mask, corpus, K, scale=scale, slack=slack)
        lists = zip(result.found.documents.tolist(), result.found.scores.tolist(), strict=True)
        same = sum(pair == other for pair, other in zip(lists, wanted, strict=True))
        shares = result.scored / result.documents
        missed += [f"slack {slack}: {len(codes) - same} differ"] if same < len(codes) else []
        missed += [f"slack {slack}: {result.share:.1%} scored"] if result.share > BAR else []
        cells = [f"{shares.mean():.2%}", f"{np.median(shares):.2%}", f"{np.quantile(shares, 0.95):.2%}"]
        rows.append([slack, f"{same} / {len(codes)}", f"{result.held.sum()} / {len(codes)}", *cells])
    print(
        f"{machine(chosen.threads)}; {len(index):,} documents of width {index.width}, {codes.shape[1]} codes a query\n"
    )
    print(table(["slack", "identical", "certified", "scored, mean", "median", "95th percentile"], rows))

    tensor = torch.from_numpy(vectors)

    def certified(numbers: Sequence[int]) -> float:
        start = time.perf_counter()
        for n in numbers:
            search_certified(codes[n : n + 1], mask[n : n + 1], corpus, K, scale=scale, slack=chosen.slacks[0])
        return 1e3 * (time.perf_counter() - start) / len(numbers)

    def everything(numbers: Sequence[int]) -> float:
        start = time.perf_counter()
        for n in numbers:
            some, there = torch.from_numpy(codes[n : n + 1]), torch.from_numpy(mask[n : n + 1])
            score = partial(_block, some, there, tensor, scale)
            search_by(score, 1, len(tensor), K)
        return 1e3 * (time.perf_counter() - start) / len(numbers)

    def turn(form: Any, which: Iterator[int]) -> float:
        first = next(which) * chosen.timed
        return form([number % len(codes) for number in range(first, first + chosen.timed)])

    forms = {"certified": certified, "brute force": everything}
    times = alternate({name: partial(turn, form, iter(range(10**9))) for name, form in forms.items()}, chosen.rounds)
    print(f"\n{', '.join(f'{name} {spread(values):.1f} ms a query' for name, values in times.items())}")
    print(f"brute force / certified: {ratios(times['brute force'], times['certified']):.2f}")
    print(f"\nbars: every result identical, at most {BAR:.0%} of the documents scored: ", end="")
    print("MISSED: " + "; ".join(missed) if missed else "reached")


def _block(
    codes: torch.Tensor, mask: torch.Tensor, documents: torch.Tensor, scale: float, q0: int, q1: int, d0: int, d1: int
) -> torch.Tensor:
    return poly_scores(codes[q0:q1], mask[q0:q1], documents[d0:d1], scale=scale)


if __name__ == "__main__":
    main()
