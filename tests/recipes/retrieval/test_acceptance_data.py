"""What must survive between files and training: ids, texts, grades, and data that has less than was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quincunx import evaluate, train
from quincunx.metrics.ranking import score
from quincunx.recipes.retrieval.collections import read_collections
from quincunx.recipes.retrieval.data import load_collection
from quincunx.recipes.retrieval.objective.masks import Identity, Pool
from recipes.retrieval.collections_made import config_of
from retrieval_sets import collection, source
from retrieval_toys import make

LARGE = 2**24
"""Above it, float32 no longer tells whole numbers apart."""
IDS = ["007", "7", "07", "²", "٧", "７", "7.0", "1e3", str(LARGE), str(LARGE + 1), "q 1", "NA", "null", "doc-é", "-1"]
TEXTS = {
    "NA": "NA",
    "null": "null",
    "quote": 'one " stray quote',
    "quoted": '"quoted, all of it"',
    "after": "the line after the quotes",
    "tabs": "a\ttab\tand another",
    "single": "it's 'single'",
    "commas": "a, b; c",
}


def tsv(path: Path, rows: dict[str, str]) -> str:
    path.write_text("".join(f"{name}\t{text}\n" for name, text in rows.items()), encoding="utf-8")
    return str(path)


def files(folder: Path, documents: dict[str, str], queries: dict[str, str], judged: list[str]) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    (folder / "qrels.tsv").write_text("".join(line + "\n" for line in judged), encoding="utf-8")
    return {
        "corpus": tsv(folder / "collection.tsv", documents),
        "queries": tsv(folder / "queries.tsv", queries),
        "qrels": str(folder / "qrels.tsv"),
    }


def config(tmp_path: Path, given: dict[str, str], **changes: object) -> dict[str, Any]:
    usual = {"update__batch_size": 4, "evaluate__every": None, "budget__epochs": 1}
    tree: dict[str, Any] = config_of(tmp_path, tmp_path / "run", tmp_path / "cache", **{**usual, **changes})
    tree["data"] = {**tree["data"], "train": given, "dev": given, "test": given}
    del tree["data"]["path"], tree["data"]["dev_share"]
    return tree


def test_ids_007_unicode_digits_above_2_24_strings(tmp_path):
    """Trained and measured by ids as they are written; none becomes a number, and none is taken for another."""
    given = files(
        tmp_path / "data",
        {name: f"text number {place}" for place, name in enumerate(IDS)},
        {name: f"question number {place}" for place, name in enumerate(IDS)},
        [f"{name}\t0\t{name}\t1" for name in IDS],
    )
    read = load_collection(None, **given)
    assert list(read.queries.ids) == list(read.documents.ids) == IDS
    assert [(read.queries.ids[q], read.documents.ids[d]) for q, d in read.positives.pairs] == [(i, i) for i in IDS]
    run = train(config(tmp_path, given))
    assert list(evaluate(run).values["recip_rank"]) == IDS

    near, far = str(LARGE), str(LARGE + 1)
    assert np.float32(near) == np.float32(far), "what went wrong where labels were float32"
    assert score({"q": {far: 1}}, {"q": {near: 1.0}}, ["P_1"]).mean["P_1"] == 0
    assert score({"007": {"7": 1}}, {"7": {"7": 1.0}}, ["P_1"]).mean["P_1"] == 0
    keys = [LARGE, LARGE + 1, 2**40 + LARGE, 2**40 + LARGE + 1]
    pool = Pool.of(make(keys, keys, [(row, row) for row in range(4)]).links)
    assert pool.candidates("query_to_document").negatives.sum() == 4 * 3, "neighbours are negatives of each other"
    stored = Identity(torch.tensor([LARGE + 1]), torch.tensor([5]))
    alone = Pool.of(make([LARGE], [LARGE], [(0, 0)]).links, stored_documents=stored)
    assert alone.candidates("query_to_document").negatives.tolist() == [[False, True]]


def test_texts_na_quotes_tabs(tmp_path):
    """What the model reads of each text, put back into words, is the text of its id."""
    given = files(tmp_path / "data", TEXTS, TEXTS, [f"{name}\t0\t{name}\t1" for name in TEXTS])
    run = train(config(tmp_path, given, encoder__tokenizer__lower_case=False))
    read = read_collections(run.config).train[0]
    assert {name: read.documents.text(read.documents.index_of(name)) for name in TEXTS} == TEXTS
    tokenizer: Any = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(run.path / "encoder")
    for text in TEXTS.values():
        words = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
        assert "".join(words.split()) == "".join(text.split())
    answers = run.predict([{"text": text} for text in TEXTS.values()])
    assert len({str(answer["embedding"]) for answer in answers}) == len(TEXTS), "no two have become one"


def test_qrels_grade_0(tmp_path):
    """Neither trained on as a positive, nor right in a measure; a query with nothing better is no anchor."""
    documents = {f"d{n}": f"text {n}" for n in range(6)}
    queries = {f"q{n}": f"question {n}" for n in range(4)}
    judged = ["q0\t0\td0\t0", "q0\t0\td1\t2", "q1\t0\td2\t0", "q2\t0\td3\t1", "q3\t0\td4\t-1", "q3\t0\td5\t1"]
    given = files(tmp_path / "data", documents, queries, judged)
    read = load_collection(None, **given)
    assert [(read.queries.ids[q], read.documents.ids[d]) for q, d in read.positives.pairs] == [
        ("q0", "d1"),
        ("q2", "d3"),
        ("q3", "d5"),
    ]
    made = collection(
        list(queries.values()), list(documents.values()), [(0, 0, 0), (0, 1, 2), (1, 2, 0), (2, 3, 1), (3, 4, -1)]
    )
    training = source(made, positives=None)
    assert len(training) == 2
    batch = training.collate([0, 1], [0, 1], [0, 1], 0)
    assert sorted(batch.links["document_keys"].tolist()) == [1, 3]
    run = train(config(tmp_path, given))
    values = evaluate(run).values["recip_rank"]
    assert values["q1"] == 0, "whatever was found: nothing is relevant to it"
    assert all(values[name] > 0 for name in ("q0", "q2", "q3"))


@pytest.mark.parametrize("draw", ["random", "first", "window"])
def test_fewer_negatives_than_asked(tmp_path, draw):
    """All that there are are taken, which the start says; a query without any trains with those of its batch."""
    documents = {f"d{n}": f"text {n}" for n in range(12)}
    queries = {f"q{n}": f"question {n}" for n in range(6)}
    # q0 has three negatives, q1 two, ..., from q3 on one
    triplets = [f"q{n}\td{n}\td{(n + 1 + more) % 12}" for n in range(6) for more in range(max(1, 3 - n))]
    (tmp_path / "triplets.tsv").write_text("\n".join(triplets) + "\n", encoding="utf-8")
    given = {
        "path": str(tmp_path / "triplets.tsv"),
        "format": "triplets",
        "corpus": tsv(tmp_path / "collection.tsv", documents),
        "queries": tsv(tmp_path / "queries.tsv", queries),
    }
    made = load_collection(given["path"], format="triplets", corpus=given["corpus"], queries=given["queries"])
    training = source(made, negatives=3, drawing=draw)
    assert training.notes == ["5 of 6 anchors have fewer than 3 explicit negatives: all are taken."]
    links = training.collate(range(6), range(6), range(6), 0).links
    counts = np.bincount(links["negatives"][:, 0].numpy(), minlength=6)
    assert counts.tolist() == [3, 2, 1, 1, 1, 1]
    tree = config(tmp_path, given, data__negatives=3, data__draw=draw)
    del tree["data"]["test"]
    run = train(tree)
    assert run.summary["state"] == "finished"
    assert all(np.isfinite(value) for _, value in run.metrics("train/loss"))
