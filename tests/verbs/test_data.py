"""`quincunx data arithmetic` and `quincunx data tasks`, as typed."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from quincunx.recipes.compression.config_generated import Arithmetic, Tasks
from quincunx.recipes.compression.data import arithmetic, tasks
from quincunx.verbs import data as verbs

SUMS = ["--train", 30, "--dev", 5, "--test", 5, "--ood", 4]
SORT = ["--task", "bucket_sort", "--train", 30, "--dev", 5, "--max-length", 6, "--test-max-length", 8]


@pytest.mark.parametrize(("table", "section"), [(verbs.ARITHMETIC, Arithmetic), (verbs.TASKS, Tasks)])
def test_options_are_the_settings_with_their_defaults(table, section):
    defaults = {name: info.default for name, info in section.model_fields.items() if name != "name"}
    assert {name.replace("-", "_"): value for name, (value, _) in table.items()} == defaults


def test_arithmetic_is_written_once_and_reads_back(cli: Callable, work: Path):
    said = cli("data", "arithmetic", "--out", "d", *SUMS, "--max-num", 9, "--multiply-probability", 0.5)
    assert said.code == 0, said.err
    names = {*arithmetic.FILE_NAMES.values()}
    assert {path.name for path in (work / "d").iterdir()} == {*names, "arithmetic.json"}
    assert dict(re.findall(r"d/(\S+) +sha256 ([0-9a-f]{64})", said.out)).keys() == names
    assert "padded to 9 characters" in said.out
    splits = arithmetic.read(work / "d")
    assert {split: len(source) for split, source in splits.sources.items()} == {
        "train": 30,
        "dev": 5,
        "test": 5,
        "ood_magnitude": 4,
        "ood_entities": 4,
    }
    assert any("*" in splits.sources["train"][i].problem for i in range(30))
    files = {path.name: path.read_bytes() for path in (work / "d").iterdir()}
    again = cli("data", "arithmetic", "--out", "d", *SUMS, "--max-num", 9, "--multiply-probability", 0.5)
    assert again.out.splitlines()[-6:] == said.out.splitlines()[-6:]
    other = cli("data", "arithmetic", "--out", "d", *SUMS)
    assert other.code == 2
    assert "made with other settings" in other.err
    assert {path.name: path.read_bytes() for path in (work / "d").iterdir()} == files


def test_every_option_of_arithmetic_arrives(cli: Callable, work: Path):
    options = ["--max-num", 20, "--max-entities", 4, "--entity-probability", 0.25, "--multiply-probability", 0.1]
    options += ["--max-factor", 3, "--no-space-multiplications", "--zipf-order", 0.5, "--ood-max-num", 30]
    options += ["--ood-max-entities", 5, "--problem-length", 25, "--seed", 9]
    assert cli("data", "arithmetic", "--out", "d", *SUMS, *options).code == 0
    said = json.loads((work / "d/arithmetic.json").read_text())
    assert said["problem_length"] == 25
    assert said["parameters"] == {
        "max_num": 20,
        "max_entities": 4,
        "entity_probability": 0.25,
        "multiply_probability": 0.1,
        "max_factor": 3,
        "space_multiplications": False,
        "zipf_order": 0.5,
        "ood_max_num": 30,
        "ood_max_entities": 5,
        "seed": 9,
    }


def test_tasks_are_written_once_and_read_back(cli: Callable, work: Path):
    said = cli("data", "tasks", "--out", "d", *SORT, "--test-per-length", 3, "--seed", 2)
    assert said.code == 0, said.err
    assert "bucket_sort is context-sensitive; guessing is right in 20%" in said.out
    chosen = Tasks(max_length=6, train=30, dev=5, test_max_length=8, test_per_length=3, seed=2)
    drawn, given = tasks.load(chosen), tasks.load(chosen, path="d")
    assert [len(source) for source in given.sources.values()] == [30, 5, 6]
    for split, source in drawn.sources.items():
        assert [given.sources[split][i] for i in range(len(source))] == [source[i] for i in range(len(source))]
    files = {path.name: path.read_bytes() for path in (work / "d").iterdir()}
    assert cli("data", "tasks", "--out", "d", *SORT, "--test-per-length", 3, "--seed", 2).code == 0
    other = cli("data", "tasks", "--out", "d", *SORT, "--test-min-length", 7)
    assert (other.code, "made with other settings" in other.err) == (2, True)
    assert {path.name: path.read_bytes() for path in (work / "d").iterdir()} == files


MISUSE = [
    ("data arithmetic", 2, "--out"),
    ("data tasks --out there", 2, "--task"),
    ("data tasks --out there --task sort", 2, "there is no task 'sort'"),
    ("data tasks --out there --task bucket_sort --test-max-length 40", 2, "test inputs begin at 41"),
    ("data tasks --out there --task bucket_sort --train 0", 2, "at least 1 example"),
    ("data tasks --out a_file --task bucket_sort --train 2", 1, "File exists"),
    ("data arithmetic --out there --train 0", 2, "at least 1 example"),
    ("data arithmetic --out there --max-entities 1", 2, "max_entities is 1"),
    ("data arithmetic --out there --problem-length 5", 2, "problem_length is 5"),
    ("data arithmetic --out there --max-num many", 2, "--max-num"),
    ("data arithmetic --out there --max-num 99 --max-factor 200 --multiply-probability 1 --max-entities 2 "
     "--no-space-multiplications", 2, "addends"),
    ("data arithmetic --out a_file", 1, "File exists"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "answer"), MISUSE, ids=[command for command, _, _ in MISUSE])
def test_misuse_is_answered(cli: Callable, work: Path, command: str, code: int, answer: str):
    (work / "a_file").write_text("mine")
    said = cli(*command.split())
    assert said.code == code, said.text
    assert re.search(answer, said.err), said.text
    assert not (work / "there").exists() or not list((work / "there").iterdir())
    assert (work / "a_file").read_text() == "mine"
