"""The verb mine: what it writes and says, misuse, and a process that is killed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")
pytest.importorskip("bm25s", reason="the bm25s package is not installed")

from conftest import Said
from quincunx import train
from quincunx.index.building import build
from quincunx.index.store import Store
from quincunx.recipes.retrieval.encode_corpus import encode_corpus
from recipes.retrieval.collections_made import config_of, write_collection
from runner import finish, start

Cli = Callable[..., Said]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a run, and an index of two kinds."""
    folder = tmp_path_factory.mktemp("mine")
    write_collection(folder / "data", train=48, test=12, shared_word=True)
    train(config_of(folder / "data", folder / "bi", folder / "cache", budget__epochs=1))
    encode_corpus(folder / "bi", folder / "data" / "corpus.jsonl", folder / "store")
    for kind in ("flat", "int8"):
        build(Store.open(folder / "store"), folder / kind, kind)
    return folder


@pytest.fixture
def here(made: Path, work: Path) -> Path:
    """The working folder with links to what is only read."""
    for name in ("data", "bi", "store", "flat", "int8"):
        (work / name).symlink_to(made / name)
    return work


def test_it_writes_rows_suspects_and_a_report_and_says_what_it_did(cli: Cli, here: Path):
    options = ["--ranks", "1:30", "--num", 4, "--relative-margin", 0.01, "--agree", 2]
    said = cli("mine", "--data", "data", "--out", "mined", "--run", "bi", "--index", "flat", *options)
    assert said.code == 0, said.err
    report = json.loads((here / "mined" / "report.json").read_text())
    rows = [json.loads(line) for line in (here / "mined" / "train.jsonl").read_text().splitlines()]
    assert report["queries"]["mined"] == len(rows) == 48
    assert f"mined/train.jsonl: {sum(len(row['neg']) for row in rows)} hard negatives for 48 queries" in said.out
    dropped = {name: count for name, count in report["candidates"]["dropped"].items() if count}
    shown = re.search(r"candidates: ([\d,]+); dropped: (.*)\n", said.out)
    assert shown is not None and int(shown[1].replace(",", "")) == report["candidates"]["looked_at"]
    assert shown[2] == ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in dropped.items())
    assert sum(dropped.values()) + report["candidates"]["left"] == report["candidates"]["looked_at"]
    suspects = (here / "mined" / "suspects.jsonl").read_text().splitlines()
    assert f"suspects: {len(suspects)} of" in said.out and "by dense, bm25: mined/suspects.jsonl" in said.out
    assert "margin (positive - negative, dense): median" in said.out
    assert "48 of 48 queries" in said.err
    page = (here / "mined" / "report.html").read_text()
    assert "<script" not in page and report["models"]["dense"]["weights"] in page
    assert report["settings"]["ranks"] == [1, 30] and report["settings"]["index"] == "flat"
    assert sorted(path.name for path in (here / "mined").iterdir()) == [
        "report.html",
        "report.json",
        "suspects.jsonl",
        "train.jsonl",
    ]


def test_the_same_command_gives_the_same_bytes(cli: Cli, here: Path):
    command = ["mine", "--data", "data", "--run", "bi", "--by", "rrf", "--sampling", "random", "--seed", 3, "--out"]
    for name in ("one", "two"):
        assert cli(*command, name).code == 0
    for name in ("train.jsonl", "report.json", "report.html"):
        assert (here / "one" / name).read_bytes() == (here / "two" / name).read_bytes()


def test_short_queries_are_said_and_may_be_left_out(cli: Cli, here: Path):
    command = ["mine", "--data", "data", "--run", "bi", "--max-score", -0.99, "--out"]
    said = cli(*command, "kept")
    assert "48 queries have fewer than 5" in said.out and "written with what they have" in said.out
    assert "No query got a negative" in said.err
    assert len((here / "kept" / "train.jsonl").read_text().splitlines()) == 48
    said = cli(*command, "left", "--drop-short")
    assert "left out (--drop-short)" in said.out
    assert (here / "left" / "train.jsonl").read_text() == ""


def test_an_index_that_may_miss_documents_is_named_unless_all_are_compared(cli: Cli, here: Path):
    command = ["mine", "--data", "data", "--run", "bi", "--index", "int8", "--oversample", 3, "--out"]
    assert "int8 is an index of kind int8, which may miss documents" in cli(*command, "some").err
    assert "may miss" not in cli(*command, "all", "--exact").err


def test_the_report_as_json(cli: Cli, here: Path):
    said = cli("mine", "--data", "data", "--out", "mined", "--limit", 5, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out) == json.loads((here / "mined" / "report.json").read_text())
    assert json.loads(said.out)["queries"]["mined"] == 5


@pytest.mark.parametrize(
    ("command", "code", "answer"),
    [
        ("", 2, "the following arguments are required: --data, --out"),
        ("--data nowhere --out x", 1, "nowhere does not exist"),
        ("--data data --out x --run nowhere", 2, "nowhere"),
        ("--data data --out x --ranks 9:3", 2, "ranks 9:3 are out of order"),
        ("--data data --out x --ranks 9", 2, "'9' is not FROM:TO"),
        ("--data data --out x --num 0", 2, "0 negatives a query"),
        ("--data data --out x --by dense", 2, "need a bi- or poly-encoder run"),
        ("--data data --out x --margin 0.1", 2, "margin compare scores of a model"),
        ("--data data --out x --agree 2", 2, "2 rankings cannot agree: there is bm25"),
        ("--data data --out x --run bi --agree 3", 2, "3 rankings cannot agree: there are dense, bm25"),
        ("--data data --out x --seed 3", 2, "--seed has no effect here: it is of --sampling random and weighted"),
        ("--data data --out x --run bi --sampling top --seed 3", 2, "--seed has no effect"),
        ("--data data --out x --keep-suspects", 2, "--keep-suspects has no effect here: it is for --agree"),
        ("--data data --out x --run bi --weights 1,2", 2, "--weights has no effect"),
        ("--data data --out x --run bi --by rrf --normalisation none", 2, "--normalisation has no effect"),
        ("--data data --out x --run bi --by weighted --rank-constant 3", 2, "--rank-constant has no effect"),
        ("--data data --out x --run bi --exact", 2, "--exact has no effect here: it is of a search by vectors"),
        ("--data data --out x --run bi --nprobe 3", 2, "--nprobe has no effect"),
        ("--data data --out x --index flat --exact", 2, "--exact has no effect"),
        ("--data data --out x --run bi --index flat --nprobe 3", 2, "nprobe is no option here"),
        ("--data data --out x --run bi --store store", 2, "--store has no effect here: it is for --index"),
        ("--data data --out x --backend torch", 2, "--backend has no effect here: it is of --run"),
        ("--data data --out x --precision auto", 2, "--precision has no effect here: BM25 computes with no model"),
        ("--data data --out x --checkpoint last", 2, "--checkpoint has no effect"),
        ("--data data --out x --device cpu", 2, "--device has no effect"),
        ("--data data --out x --split dev", 1, "has no split dev"),
        ("--data data --out x --index store", 2, "holds no index"),
        ("--data data --out data", 2, "data is there already and is left as it is"),
        ("--data data --out data/corpus.jsonl", 2, "is there already"),
    ],
)
def test_misuse_is_answered_and_nothing_is_left(cli: Cli, here: Path, command: str, code: int, answer: str):
    before = sorted(here.iterdir())
    said = cli("mine", *command.split())
    assert (said.code, said.out) == (code, ""), said.text
    assert answer in said.err
    assert sorted(here.iterdir()) == before


def test_bad_rows_are_listed_or_left_out(cli: Cli, here: Path):
    rows = ['{"query": "cat", "pos": ["cat cat"]}', '{"query": "no document"}', '{"query": "dog", "pos": ["dog cat"]}']
    (here / "pairs.jsonl").write_text("\n".join(rows) + "\n")
    command = ["mine", "--data", "pairs.jsonl", "--out", "mined", "--ranks", "1:2", "--num", 1]
    said = cli(*command)
    assert said.code == 1 and "pairs.jsonl:2:" in said.err and not (here / "mined").exists()
    said = cli(*command, "--skip-bad-rows")
    assert said.code == 0, said.err
    assert json.loads((here / "mined" / "report.json").read_text())["data"]["skipped_rows"] == 1


def test_a_killed_mining_leaves_nothing_at_its_place_and_the_next_takes_over(cli: Cli, here: Path, tmp_path: Path):
    command = ["mine", "--data", "data", "--out", "mined"]
    for sync in (1, 2):
        process = start(*command, log=tmp_path / "log", die_at_sync=sync, OMP_NUM_THREADS="1")
        assert finish(process) == -9, (tmp_path / "log").read_text()
        assert not (here / "mined").exists()
    assert cli(*command).code == 0
    assert len((here / "mined" / "train.jsonl").read_text().splitlines()) == 48
    assert not [path.name for path in here.iterdir() if path.name.startswith(".")]
