"""The verb index: build, add, delete, compact."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Said
from indexes import clustered
from quincunx import Encoder, train
from quincunx.errors import UsageError
from quincunx.index.indexed import Index
from recipes.retrieval.collections_made import config_of, write_collection
from stores import begun, maker, planned

Cli = Callable[..., Said]


def fill(folder: Path, rows: int, *, first: int = 0, size: int = 100, seed: int = 0, **made: str) -> Path:
    """Write a store of documents d{first} ... and return its folder."""
    plan = planned(rows, size, 16, similarity="cosine", **made)
    filling = begun(folder, plan)
    assert filling is not None
    filling.fill(maker(plan, ids=[f"d{first + row}" for row in range(rows)], values=clustered(rows, 16, seed)))
    filling.close()
    return folder


@pytest.fixture
def store(work: Path) -> Path:
    """A store of 300 documents, d0 to d299."""
    return fill(work / "store", 300)


def test_an_index_of_a_store_says_what_it_is_and_how_good(cli: Cli, store: Path, work: Path):
    said = cli("index", store, "--out", "found", "--kind", "hnsw", "--M", "8", "--ef-search", "40", "--check", "50")
    assert said.code == 0 and said.err == ""
    first, second = said.out.splitlines()
    assert first.startswith(
        "found: 300 documents, vectors of 16 numbers; hnsw (M 8, ef_construction 100, ef_search 40), 1 part; "
    )
    assert "MiB to search" in first and "built in" in first
    recall = float(second.removeprefix("recall@10 against exact search: ").split()[0])
    assert recall >= 0.95
    assert "over 50 of its own documents, each left out of its results" in second and "queries/s" in second
    index = Index.open(work / "found")
    assert index.options == {"M": 8, "ef_construction": 100, "ef_search": 40}
    assert index.stores == [str(store)]
    found = index.search(clustered(300, 16, 0)[[250]], 1)
    assert index.ids[found.documents[0, 0]] == "d250"


def test_a_store_of_queries_is_what_it_is_tried_with(cli: Cli, store: Path, work: Path):
    queries = fill(work / "queries", 20, seed=1, side="query", prompt="query: ")
    said = cli("index", "build", store, "--out", "found", "--shard-size", "120", "--queries", queries)
    assert "flat, 3 parts" in said.out
    assert "recall@10 against exact search: 1.0000 over 20 queries; " in said.out
    assert "recall" not in cli("index", store, "--out", "other", "--check", "0").out
    other = fill(work / "others", 20, seed=1, weights="b")
    said = cli("index", store, "--out", "third", "--queries", other)
    assert said.code == 2 and f"store does not fit {other}: weights a and b" in said.err
    assert not (work / "third").exists()


def test_documents_come_and_go(cli: Cli, store: Path, work: Path, monkeypatch: pytest.MonkeyPatch):
    assert cli("index", store, "--out", "found", "--kind", "int8", "--check", "0").code == 0
    more = fill(work / "more", 50, first=290, seed=2)
    said = cli("index", "add", "found", more)
    assert said.code == 2 and "ids 'd290', 'd291', 'd292' and 7 more of" in said.err and "--replace" in said.err
    said = cli("index", "add", "found", more, "--replace")
    assert "found: 340 documents" in said.out and "2 parts, 10 deleted" in said.out
    (work / "gone").write_bytes(b"d0\r\n\nd1\n")
    assert "338 documents" in cli("index", "delete", "found", "--ids", "gone").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"d2\nd0")))
    assert "337 documents" in cli("index", "delete", "found", "--ids", "-", "--ignore-missing").out
    said = cli("index", "compact", "found")
    assert "found: 337 documents" in said.out and "1 part;" in said.out
    index = Index.open("found", verify=True)
    assert not {"d0", "d1", "d2"} & set(index.ids) and len(index.stores) == 2
    number = index.numbers["d290"]
    np.testing.assert_array_equal(index.vectors(np.array([number]))[0], clustered(50, 16, 2)[0])


def test_from_a_trained_run_to_an_index_that_only_this_run_may_ask(cli: Cli, work: Path):
    data = write_collection(work / "data", train=40, test=10)
    for name, seed in (("run", 3), ("other", 4)):
        train(config_of(data, work / name, work / "cache", budget__epochs=1, seed=seed))
    queries = data / "queries.jsonl"
    for arguments in (
        ("run", "--corpus", data / "corpus.jsonl", "--out", "vectors"),
        ("run", "--corpus", queries, "--out", "asked", "--side", "query"),
        ("other", "--corpus", queries, "--out", "foreign", "--side", "query"),
    ):
        assert cli("encode", *arguments).code == 0
    said = cli("index", "vectors", "--out", "found", "--kind", "ivf", "--nlist", "4", "--queries", "asked")
    assert said.code == 0 and "recall@10 against exact search: 1.0000 over 50 queries" in said.out
    said = cli("index", "vectors", "--out", "refused", "--queries", "foreign")
    assert said.code == 2 and "vectors does not fit foreign: weights " in said.err

    encoder, other = Encoder.load("run", precision="float32"), Encoder.load("other")
    index = Index.open("found", made=encoder.made("query"))
    texts = [json.loads(line)["text"] for line in queries.read_text().splitlines()]
    documents = [json.loads(line)["text"] for line in (data / "corpus.jsonl").read_text().splitlines()]
    asked, told = encoder.encode(texts, "query"), encoder.encode(documents)
    found = index.search(asked, 3, compare_all=True)
    np.testing.assert_allclose(found.scores, np.sort(asked @ told.T, axis=1)[:, ::-1][:, :3], atol=1e-2)
    with pytest.raises(UsageError, match=r"found does not fit the encoder: weights \w+ and \w+\. Encode the corpus"):
        Index.open("found", made=other.made("query"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["index", "store"], 2, "--out"),
        (["index", "nowhere", "--out", "x"], 2, "nowhere does not exist"),
        (["index", "store", "--out", "x", "--kind", "flat", "--nprobe", "3"], 2, "an index of kind flat takes none"),
        (["index", "store", "--out", "x", "--kind", "ivf", "--nprobe", "0"], 2, "nprobe is 0"),
        (["index", "store", "--out", "x", "--kind", "tree"], 2, "invalid choice: 'tree'"),
        (["index", "store", "--out", "x", "--check", "-1"], 2, "--check is -1"),
        (["index", "store", "--out", "store"], 2, "store is there already and is left as it is"),
        (["index", "add", "store", "store"], 2, "store holds no index"),
        (["index", "add", "found", "other"], 2, "found does not fit other: weights a and b"),
        (["index", "delete", "found", "--ids", "nowhere"], 2, "nowhere cannot be read"),
        (["index", "delete", "found", "--ids", "bad"], 1, "bad:2: no UTF-8 text"),
        (["index", "delete", "found", "--ids", "empty"], 2, "empty has no ids"),
        (["index", "delete", "found", "--ids", "unknown"], 2, "id 'd7x' is not in found: nothing was deleted"),
        (["index", "cut", "--out", "x"], 1, "shard-"),
        (["index"], 2, "WHAT"),
    ],
)
def test_errors_are_one_line_and_change_nothing(cli: Cli, store: Path, work: Path, arguments, code, said):
    assert cli("index", store, "--out", "found", "--check", "0").code == 0
    fill(work / "other", 5, weights="b")
    cut = fill(work / "cut", 200)
    shard = sorted(cut.glob("shard-*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-50])
    (work / "bad").write_bytes(b"d1\n\xff\n")
    (work / "empty").write_text("\n\n")
    (work / "unknown").write_text("d7x\nd1\n")
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    found = cli(*arguments)
    assert found.code == code
    assert said in found.err and found.out == ""
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_the_help_names_every_kind_and_torch_is_not_loaded():
    script = (
        "import sys; from quincunx.cli import run\n"
        "try: run(['index', 'build', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(('torch' in sys.modules or 'numpy' in sys.modules) * 3)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True)
    assert found.returncode == 0
    for word in ("hnsw", "binary", "--nprobe", "--code-bytes"):
        assert word in found.stdout
