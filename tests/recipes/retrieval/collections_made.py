"""A small collection in which what a query means can be learnt in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

TOPICS = 40
WORDS = 4


def write_collection(
    folder: Path, *, train: int = 240, test: int = 60, seed: int = 0, shared_word: bool = False
) -> Path:
    """Write a BEIR folder: a document has words of one topic, its query other words of the same topic.

    Queries and documents share no word, so that only what is learnt relates them; with `shared_word` all of them have
    one.
    """
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    topics = np.arange(train + test) % TOPICS
    asked = [" ".join(f"ask{topic}x{word}" for word in generator.integers(0, WORDS, 3)) for topic in topics]
    # each document ends in a word of its own, so that no two are the same text; but where a model may learn by heart
    # which documents are never asked for, it must not tell them apart
    told: list[str] = []
    for number, topic in enumerate(topics):
        words = generator.integers(0, WORDS, generator.integers(3, 12))
        told.append(" ".join([*(f"tell{topic}y{word}" for word in words), "common" if shared_word else f"n{number}"]))
    if shared_word:
        asked = [f"{text} common" for text in asked]
    queries = [{"_id": f"q{n}", "text": text} for n, text in enumerate(asked)]
    corpus = [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(told)]
    for name, rows in (("queries", queries), ("corpus", corpus)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "qrels").mkdir(exist_ok=True)
    for split, numbers in (("train", range(train)), ("test", range(train, train + test))):
        lines = [f"q{n}\td{n}\t1\n" for n in numbers]
        text = "query-id\tcorpus-id\tscore\n" + "".join(lines)
        (folder / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
    return folder


def config_of(data: Path, run: Path, cache: Path, **changes: object) -> dict[str, object]:
    """Return the config of a bi-encoder that learns the collection; dotted changes with __ for a dot."""
    tree: dict[str, object] = {
        "recipe": "retrieval",
        "seed": 3,
        "data": {"path": str(data), "cache": str(cache), "dev_share": 0.1},
        "encoder": {
            "build": {"num_layers": 1, "width": 32, "num_heads": 2, "hidden": 32, "positions": 32},
            "tokenizer": {"vocabulary": 900},
            "dropout": 0.0,
            "attention_dropout": 0.0,
        },
        "update": {"batch_size": 24},
        "budget": {"epochs": 2},
        "optimizer": {"learning_rate": 0.01},
        "evaluate": {"measures": ["recip_rank", "recall_10"]},
        "log": {"every": 3},
        "compute": {"threads": 1, "device": "cpu", "precision": "float32"},
        "run": {"dir": str(run)},
    }
    for dotted, value in changes.items():
        node = tree
        *parents, last = dotted.split("__")
        for part in parents:
            node = node.setdefault(part, {})  # type: ignore[assignment]
        node[last] = value
    return tree
