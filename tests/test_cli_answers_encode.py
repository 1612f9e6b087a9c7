"""The verb encode: a corpus becomes a store, once, whatever kills it, and never over another."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import Said
from quincunx import Encoder, train
from quincunx.errors import DataError
from quincunx.index.store import Store
from quincunx.recipes.retrieval.encode_corpus import Request, _Job, encode_corpus
from recipes.retrieval.collections_made import config_of, write_collection
from runner import finish, start

Cli = Callable[..., Said]
SIZE = 10
BEFORE, SHARD = 2, 4
"""Calls of fsync for the plan, and for a shard with its texts."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection of 50 documents and runs on it."""
    folder = tmp_path_factory.mktemp("made")
    data = write_collection(folder / "data", train=40, test=10)
    for name, changes in {
        "run": {},
        "other": {"seed": 4},
        "poly": {"mode": "poly-encoder", "poly__codes": 2},
        "cross": {"mode": "cross-encoder"},
    }.items():
        train(config_of(data, folder / name, folder / "cache", budget__epochs=1, **changes))
    return folder


@pytest.fixture
def corpus(made: Path, work: Path) -> Path:
    """The corpus's file, in the working folder."""
    return Path(shutil.copy(made / "data" / "corpus.jsonl", work / "corpus.jsonl"))


def rows_of(corpus: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in corpus.read_text().splitlines()]


def expected(made: Path, corpus: Path, run: str = "run") -> np.ndarray:
    return Encoder.load(made / run, precision="float32").encode([row["text"] for row in rows_of(corpus)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def encode(cli: Cli, made: Path, *options: object, run: str = "run", corpus: object = "corpus.jsonl") -> Said:
    return cli("encode", made / run, "--corpus", corpus, "--out", "store", "--precision", "float32", *options)


def test_a_corpus_becomes_a_store(cli: Cli, made: Path, corpus: Path):
    said = encode(cli, made, "--shard-size", SIZE)
    assert said.code == 0, said.err
    assert "store: 50 documents, vectors of 32 numbers as float32" in said.out
    store = Store.open("store", verify=True)
    rows = rows_of(corpus)
    np.testing.assert_allclose(store.read(), expected(made, corpus), atol=2e-6)
    assert list(store.ids) == [row["_id"] for row in rows]
    assert list(store.texts()) == [row["text"] for row in rows]
    assert store.made["side"] == "document" and store.corpus["rows"] == 50
    before = contents(Path("store"))
    again = encode(cli, made)
    assert again.code == 0 and "all of them were there already" in again.out
    assert contents(Path("store")) == before


@pytest.mark.parametrize("at", [1, BEFORE + 3 * SHARD + 3, BEFORE + 5 * SHARD + 1])
def test_killed_at_any_moment_the_same_command_goes_on_at_the_last_whole_shard(
    cli: Cli, made: Path, corpus: Path, at: int
):
    """While the plan, the vectors of a shard, or the manifest is being written."""
    arguments = ["encode", made / "run", "--corpus", corpus, "--out", "store", "--precision", "float32"]
    arguments += ["--shard-size", SIZE]
    assert finish(start(*arguments, log=Path("log"), die_at_sync=at)) == -signal.SIGKILL
    whole = {path: path.stat().st_mtime_ns for path in Path("store").glob("shard-*.safetensors")}
    assert len(whole) == max(0, (at - BEFORE) // SHARD)
    assert encode(cli, made, "--shard-size", SIZE).code == 0
    assert whole == {path: path.stat().st_mtime_ns for path in whole}
    np.testing.assert_allclose(Store.open("store", verify=True).read(), expected(made, corpus), atol=2e-6)
    assert not [name for name in contents(Path("store")) if name.startswith((".", "plan"))]


def test_several_processes_share_the_work(cli: Cli, made: Path, corpus: Path):
    said = encode(cli, made, "--shard-size", 5, "--processes", 2)
    assert said.code == 0, said.err
    assert "took part" not in said.err
    store = Store.open("store", verify=True)
    np.testing.assert_allclose(store.read(), expected(made, corpus), atol=2e-6)
    assert len(list(Path("store").glob("shard-*.safetensors"))) == 10


def test_a_process_joins_what_another_began(made: Path, corpus: Path):
    request = Request(str(made / "run"), str(corpus), "store", shard_size=SIZE, precision="float32")
    first = _Job(request).begin()
    assert first is not None and first.missing == [0, 1, 2, 3, 4]
    found = encode_corpus(made / "run", corpus, "store", precision="float32")
    assert found.documents == 50 and len(found.store) == 50
    first.close()
    assert len(Store.open("store", verify=True)) == 50


def test_forms_of_storage(cli: Cli, made: Path, corpus: Path):
    assert encode(cli, made, "--dtype", "float16", "--no-texts").code == 0
    store = Store.open("store")
    assert store.made["dtype"] == "float16" and not store.has_texts
    np.testing.assert_allclose(store.read(), expected(made, corpus), atol=1e-3)
    assert not np.allclose(store.read(), expected(made, corpus), atol=1e-6)


def test_other_forms_of_a_corpus_give_the_same_vectors(cli: Cli, made: Path, corpus: Path):
    rows = rows_of(corpus)
    Path("c.tsv").write_text("".join(f"{row['_id']}\t{row['text']}\n" for row in rows))
    Path("c.jsonl.gz").write_bytes(gzip.compress(corpus.read_bytes()))
    for place in ("c.tsv", "c.jsonl.gz", made / "data"):
        shutil.rmtree("store", ignore_errors=True)
        assert encode(cli, made, "--shard-size", SIZE, corpus=place).code == 0
        np.testing.assert_allclose(Store.open("store").read(), expected(made, corpus), atol=2e-6)


def test_a_folder_of_text_files_is_a_corpus(cli: Cli, made: Path, work: Path):
    (work / "notes").mkdir()
    (work / "notes" / "a.md").write_text("tell1y2 tell1y3\n\ntell4y0\n")
    (work / "notes" / "b.txt").write_text("tell7y1")
    assert encode(cli, made, corpus="notes").code == 0
    store = Store.open("store")
    assert list(store.ids) == ["a.md:1", "b.txt:1"]
    assert store.text(0) == "tell1y2 tell1y3\n\ntell4y0"


def test_a_poly_encoders_documents_are_stored_as_they_are(cli: Cli, made: Path, corpus: Path):
    assert encode(cli, made, run="poly").code == 0
    store = Store.open("store")
    np.testing.assert_allclose(store.read(), expected(made, corpus, "poly"), atol=2e-6)
    assert store.made["similarity"] == "dot"
    shutil.rmtree("store")
    said = encode(cli, made, "--side", "query", run="poly")
    assert said.code == 2 and "several vectors each" in said.err


def test_queries_can_be_stored_too(cli: Cli, made: Path, corpus: Path):
    assert encode(cli, made, "--side", "query").code == 0
    assert Store.open("store").made["side"] == "query"


def test_a_cross_encoder_is_refused_with_the_reason(cli: Cli, made: Path, corpus: Path):
    said = encode(cli, made, run="cross")
    assert said.code == 2
    assert "reads a query and a document together" in said.err
    assert not Path("store").exists()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("what", ["weights", "precision", "corpus", "shard size", "texts"])
def test_a_store_of_other_weights_or_another_corpus_is_refused(
    cli: Cli, made: Path, corpus: Path, what: str, whole: bool
):
    request = Request(str(made / "run"), str(corpus), "store", shard_size=SIZE, precision="float32")
    filling = _Job(request).begin()
    assert filling is not None
    if whole:
        _Job(request).fill(filling)
    before = contents(Path("store"))
    if what == "weights":
        said = encode(cli, made, run="other")
    elif what == "precision":
        said = encode(cli, made, "--dtype", "float16")
    elif what == "corpus":
        corpus.write_text(corpus.read_text().replace("tell3y", "tell4y"))
        said = encode(cli, made)
    else:
        said = encode(cli, made, *(["--shard-size", 7] if what == "shard size" else ["--no-texts"]))
    assert said.code == 2, said.out
    says = {"weights": "made otherwise: weights", "precision": "dtype 'float32' (now 'float16')",
            "corpus": "another corpus"}.get(what, f"begun with {what}")  # fmt: skip
    assert says in said.err and "Nothing in it was changed" in said.err
    assert contents(Path("store")) == before


def test_the_same_corpus_elsewhere_is_the_same_corpus(cli: Cli, made: Path, corpus: Path):
    """Moved, touched, and with blank lines, so that its shards begin at other bytes."""
    arguments = ["encode", made / "run", "--corpus", corpus, "--out", "store", "--precision", "float32"]
    arguments += ["--shard-size", SIZE]
    assert finish(start(*arguments, log=Path("log"), die_at_sync=BEFORE + 2 * SHARD + 1)) == -signal.SIGKILL
    Path("moved").mkdir()
    Path("moved/corpus.jsonl").write_text("\n" + corpus.read_text().replace("\n", "\n\n"))
    vectors = expected(made, corpus)
    corpus.unlink()
    assert encode(cli, made, corpus="moved").code == 0
    np.testing.assert_allclose(Store.open("store", verify=True).read(), vectors, atol=2e-6)


def test_a_corpus_that_changes_meanwhile_is_noticed(made: Path, corpus: Path):
    job = _Job(Request(str(made / "run"), str(corpus), "store", shard_size=SIZE, precision="float32"))
    filling = job.begin()
    assert filling is not None
    rows = rows_of(corpus)
    rows[25]["text"] += " more"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"has changed since.*from line 21 on"):
        job.fill(filling)
    assert filling.missing == [2, 3, 4], "what is whole stays"


def test_bad_input_is_said_before_anything_is_written(cli: Cli, made: Path, work: Path, corpus: Path):
    Path("empty.jsonl").write_text("\n")
    Path("bad.jsonl").write_text('{"_id": "a", "text": "b"}\nnonsense\n{"_id": "a", "text": "c"}\n')
    for name, code, says in (
        ("empty.jsonl", 1, "no row at all"),
        ("none.jsonl", 1, "does not exist"),
        ("bad.jsonl", 1, "2 bad rows"),
    ):
        said = encode(cli, made, corpus=name)
        assert said.code == code and says in said.err, said.err
        assert not Path("store").exists() or not list(Path("store").iterdir())
    assert "bad.jsonl:2: no sound JSON" in said.err
    assert "bad.jsonl:3: the id 'a' is that of line 1 already" in said.err
    said = encode(cli, made, "--skip-bad-rows", corpus="bad.jsonl")
    assert said.code == 0 and "2 bad rows were left out" in said.out
    assert list(Store.open("store").ids) == ["a"] and list(Store.open("store").texts()) == ["b"]
    assert [json.loads(line)["line"] for line in Path("store/skipped_rows.jsonl").read_text().splitlines()] == [2, 3]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--dtype", "int4"], "not stored as 'int4'"),
        (["--side", "left"], "no side 'left'"),
        (["--shard-size", "0"], "shard size 0"),
        (["--processes", "0"], "0 processes"),
        (["--batch-size", "-1"], "batch size -1"),
        (["--format", "csv"], "no format 'csv'"),
        (["--int8"], "onnxruntime and openvino"),
    ],
)
def test_wrong_options_are_usage_errors(cli: Cli, made: Path, corpus: Path, options: list[str], says: str):
    said = encode(cli, made, *options)
    assert said.code == 2 and says in said.err
    assert not Path("store").exists()


def test_a_shard_cut_short_is_made_anew_and_the_others_stay(cli: Cli, made: Path, corpus: Path):
    assert encode(cli, made, "--shard-size", SIZE).code == 0
    before = contents(Path("store"))
    path = Path("store/shard-00003.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"shard-00003.*cut short.*same `quincunx encode`"):
        Store.open("store")
    said = encode(cli, made)
    assert said.code == 0 and "shard-00003.safetensors is made anew" in said.err
    assert contents(Path("store")) == before


def test_vectors_that_a_storage_form_cannot_hold_are_refused(made: Path, corpus: Path):
    job = _Job(Request(str(made / "run"), str(corpus), "store", dtype="float16", precision="float32"))
    original = job.encoder.encode
    job.encoder.encode = lambda texts, side="document": 1e6 * original(texts, side)
    filling = job.begin()
    assert filling is not None
    with pytest.raises(DataError, match=r"document 'd0' is not finite as float16.*store float32"):
        job.fill(filling)
