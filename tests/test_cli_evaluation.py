"""The verbs evaluate (on other data) and compare, and the flag --skip-bad-rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said
from quincunx import Run, train
from recipes.retrieval.collections_made import config_of, write_collection

Cli = Callable[..., Said]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, other data, and two runs of different seeds."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_collection(folder / "data", train=60, test=20)
    write_collection(folder / "other", train=0, test=20, seed=5)
    for name, seed in (("one", 1), ("two", 2)):
        tree = config_of(folder / "data", folder / name, folder / "cache", budget__epochs=1, seed=seed)
        (folder / f"{name}.json").write_text(json.dumps(tree))
        train(tree)
    return folder


@pytest.fixture
def here(made: Path, work: Path) -> Path:
    """The working folder with copies of the two runs."""
    for name in ("one", "two"):
        shutil.copytree(made / name, work / name)
    return work


def test_a_run_is_evaluated_on_other_data_and_scored_again_from_its_files(cli: Cli, made: Path, here: Path):
    said = cli("evaluate", "one", "--data", made / "other")
    assert said.code == 0, said.err
    assert "kept in one/evaluations/other-test" in said.out
    folder = here / "one" / "evaluations" / "other-test"
    files = ["--qrels", folder / "qrels.trec", "--run", folder / "run.trec"]
    scored = cli("score", "ranking", *files, "--measures", "recip_rank,recall_10", "--json")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert json.loads(scored.out)["mean"] == metrics["mean"]
    shown = json.loads(cli("evaluate", "one", "--data", made / "other", "--json", "--limit", "3").out)
    assert set(shown["values"]["recip_rank"]) == {"q0", "q1", "q2"}
    rows = json.loads(scored.out)["queries"]
    assert {query: rows[query]["recip_rank"] for query in ("q0", "q1", "q2")} == shown["values"]["recip_rank"]


def test_the_runs_own_split_is_written_only_where_asked(cli: Cli, here: Path):
    def files() -> set[Path]:
        return set(here.rglob("*"))

    before = files()
    shown = json.loads(cli("evaluate", "one", "--json").out)
    assert len(shown["values"]["recip_rank"]) == 20
    assert files() == before
    assert cli("evaluate", "one", "--out", "kept", "--split", "test").code == 0
    assert {path.relative_to(here).as_posix() for path in files() - before} == {
        "kept",
        *(f"kept/{name}" for name in ("metrics.json", "queries.jsonl", "run.trec", "qrels.trec", "skipped_rows.jsonl")),
    }
    rows = [json.loads(line) for line in (here / "kept" / "queries.jsonl").read_text().splitlines()]
    assert {row["query"]: row["recip_rank"] for row in rows} == shown["values"]["recip_rank"]


def test_two_runs_are_compared_by_their_splits_by_name_and_by_files(cli: Cli, made: Path, here: Path):
    said = cli("compare", "one", "two", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["queries"] == 20
    by_hand = {run: dict(Run(here / run).metrics("test/recip_rank")).popitem()[1] for run in ("one", "two")}
    assert found["measures"]["recip_rank"]["a"] == pytest.approx(by_hand["one"])
    assert found["measures"]["recip_rank"]["b"] == pytest.approx(by_hand["two"])
    for run in ("one", "two"):
        cli("evaluate", run, "--data", made / "other")
    other = cli("compare", "one", "two", "--data-name", "other-test", "--measures", "recip_rank")
    assert other.code == 0
    assert "evaluation other-test" in other.out and "recall_10" not in other.out
    files = [here / run / "evaluations" / "other-test" / "run.trec" for run in ("one", "two")]
    qrels = here / "one" / "evaluations" / "other-test" / "qrels.trec"
    again = cli("compare", *files, "--qrels", qrels, "--measures", "recip_rank")
    line = [text for text in other.out.splitlines() if text.startswith("recip_rank")]
    assert line == [text for text in again.out.splitlines() if text.startswith("recip_rank")]


@pytest.mark.parametrize(
    ("command", "code", "answer"),
    [
        ("evaluate one --limit 3", 2, "--limit would say how --data is read, and there is none"),
        ("evaluate one --skip-bad-rows --format beir", 2, "--format and --skip-bad-rows would say"),
        ("evaluate one --data nowhere", 1, "nowhere does not exist"),
        ("evaluate one --data OTHER --split gold", 1, "no split gold; there are: test"),
        ("evaluate one --data OTHER --out one", 2, "one holds something that is no evaluation"),
        ("evaluate one --data OTHER --checkpoint update-00000099", 2, "no checkpoint update-00000099"),
        ("evaluate one --split gold --out kept", 2, "no split 'gold'; it has dev, test"),
        ("compare one nowhere", 2, "nowhere does not exist"),
        ("compare one two --data-name other", 2, "no evaluation 'other'; it has none"),
        ("compare one two --split dev --data-name other", 2, "not allowed with argument"),
        ("compare one two --measures mrr", 2, "did you mean recip_rank?"),
        ("compare one two --qrels one/config.yaml", 2, "--qrels is for TREC run files"),
    ],
)
def test_misuse_is_answered(cli: Cli, made: Path, here: Path, command: str, code: int, answer: str):
    said = cli(*command.replace("OTHER", str(made / "other")).split())
    assert said.code == code
    assert answer in said.err and said.out == ""
    assert not (here / "kept").exists()


def test_other_recipes_are_measured_on_their_own_splits(cli: Cli, finished: Path, made: Path):
    for options in (["--data", made / "other"], ["--out", "kept"]):
        said = cli("evaluate", finished, *options)
        assert said.code == 2
        assert "recipe long_range, which is measured on its own splits" in said.err


def test_bad_rows_are_left_out_by_a_flag_of_train_and_evaluate(cli: Cli, made: Path, here: Path):
    data = shutil.copytree(made / "data", here / "data")
    with (data / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write("no JSON\n")
    tree = json.loads((made / "one.json").read_text())
    tree["data"]["path"], tree["run"]["dir"] = str(data), str(here / "new")
    (here / "new.json").write_text(json.dumps(tree))
    said = cli("train", "new.json")
    assert said.code == 1
    assert "corpus.jsonl:81" in said.err and "--skip-bad-rows" in said.err
    assert not (here / "new").exists()
    assert cli("check", "new.json", "--skip-bad-rows").code == 0
    assert cli("train", "new.json", "--skip-bad-rows", "budget.updates=1", "budget.epochs=null").code == 0
    (row,) = [json.loads(line) for line in (here / "new" / "skipped_rows.jsonl").read_text().splitlines()]
    assert row["line"] == 81
    assert Run(here / "new").config.data.skip_bad_rows
    assert cli("evaluate", "one", "--data", data).code == 1
    assert cli("evaluate", "one", "--data", data, "--skip-bad-rows").code == 0
    assert json.loads((here / "one" / "evaluations" / "data-test" / "metrics.json").read_text())["skipped_rows"] == 1


def test_the_flag_is_refused_where_there_is_no_such_setting(cli: Cli, tiny_file: Path, work: Path):
    for verb in ("check", "train"):
        said = cli(verb, tiny_file, "--skip-bad-rows")
        assert said.code == 2
        assert "the recipe long_range has no data.skip_bad_rows" in said.err
    assert not (work / "runs").exists()


def test_comparing_loads_no_torch(here: Path):
    script = (
        "import sys; from quincunx.cli import run; code = run(['compare', 'one', 'two']); "
        "sys.exit(code or ('torch' in sys.modules) * 3)"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, check=False)
    assert found.returncode == 0, found.stderr.decode()
