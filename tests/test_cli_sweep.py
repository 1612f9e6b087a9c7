"""Sweeps by the command line: what is said before, while and after they run, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Said
from quincunx import Run, load
from quincunx.runs import read_json
from quincunx.sweep.folder import begin
from quincunx.sweep.reading.spec import open_sweep
from runner import tiny

Cli = Callable[..., Said]
RATES = [0.01, 0.003]


def write(path: Path, changes: dict[str, Any] | None = None, **more: Any) -> Path:
    """Write a sweep over two learning rates, six updates each."""
    base = tiny({"budget": {"updates": 6}, "run.name": "study", **(changes or {})})
    beside = {"ranges": {"optimizer.learning_rate": RATES}, "sweep": {"dir": "found"}}
    path.write_text(json.dumps({**base, **beside, **more}), encoding="utf-8")
    return path


def test_a_sweep_from_first_look_to_report(cli: Cli, work: Path) -> None:
    file = write(work / "study.json")
    before = cli("sweep", file, "--dry-run")
    assert before.code == 0, before.err
    names = [f"study_{number}_optimizer.learning_rate{rate}" for number, rate in enumerate(RATES)]
    for name in names:
        assert f"found/{name}" in before.out
    parameters = {run.split("parameters")[0].split()[-1] for run in before.out.splitlines() if "parameters" in run}
    assert len(parameters) == 1 and "2 runs, " in before.out and "nothing was run" in before.out
    assert not (work / "found").exists()

    said = cli("sweep", file, "sweep.workers=2")
    assert said.code == 0, said.err
    assert f"started     {names[0]}" in said.out and f"done        {names[1]}: dev/accuracy " in said.out
    assert "2 configurations: 2 trained to the end; 2 runs, 12 updates" in said.out
    found = work / "found"
    runs = [Run(found / name) for name in names]
    values = [max(value for _, value in run.metrics("dev/accuracy")) for run in runs]
    best = names[values.index(max(values))]
    again = next(line for line in said.out.splitlines() if line.startswith("train it again: "))
    assert f"quincunx train found/{best}/config.yaml run.dir=found-trial-" in again
    assert [run.config.optimizer.learning_rate for run in runs] == RATES
    assert [run.config.seed for run in runs] == [11, 11]
    assert parameters == {f"{read_json(found / names[0] / 'plan.json')['parameters']['total']:,}"}

    with (found / "results.csv").open(newline="", encoding="utf-8") as file_of_rows:
        rows = list(csv.DictReader(file_of_rows))
    assert {float(row["optimizer.learning_rate"]): float(row["value"]) for row in rows} == pytest.approx(
        dict(zip(RATES, values, strict=True))
    )
    # a run is trained again from its folder alone, as it was
    assert load(found / names[1] / "config.yaml").config.optimizer.learning_rate == RATES[1]

    for path in found.glob("re*.*"):
        path.unlink()
    told = cli("sweep", "report", "found")
    assert told.code == 0 and (found / "report.html").is_file()
    assert "2 configurations: 2 trained to the end" in told.out
    more = cli("sweep", "work", "found")
    assert more.code == 0 and "started" not in more.out
    listed = cli("sweep", write(work / "study.json", ranges={"optimizer.learning_rate": [*RATES, 0.1]}), "--dry-run")
    assert listed.code == 0 and "0  done  found/study_0" in listed.out and "1 new run, " in listed.out
    assert "2  found/study_2_optimizer.learning_rate0.1" in listed.out
    other = cli("sweep", write(work / "study.json", {"optimizer.weight_decay": 0.5}))
    assert other.code == 1 and "optimizer.weight_decay: " in other.err and "sweep.dir=FOLDER" in other.err


def test_ranges_may_stand_in_a_second_file(cli: Cli, work: Path) -> None:
    base = tiny({"budget": {"updates": 6}})
    (work / "hyperparameters.json").write_text(json.dumps(base), encoding="utf-8")
    (work / "hyperranges.json").write_text('{"seed": [1, 2],\n "optimizer.learning_rat": [0.1]}', encoding="utf-8")
    said = cli("sweep", "hyperparameters.json", "hyperranges.json", "--dry-run")
    assert said.code == 2
    assert "hyperranges.json:2:2: error" in said.err and "did you mean `learning_rate`?" in said.err
    (work / "hyperranges.json").write_text('{"seed": [1, 2]}', encoding="utf-8")
    said = cli("sweep", "hyperparameters.json", "hyperranges.json", "--dry-run")
    assert said.code == 0 and "long_range-listops_1_seed2" in said.out
    said = cli("sweep", "hyperparameters.json", "hyperranges.json", "hyperranges.json", "--dry-run")
    assert said.code == 2 and "one file of ranges at most" in said.err


def test_many_configurations_take_the_costs_of_those_most_like_them(cli: Cli, work: Path) -> None:
    ranges = {"encoder.hidden_dim": [8, 16], "optimizer.weight_decay": [0.01 * step for step in range(10)]}
    said = cli("sweep", write(work / "study.json", ranges=ranges), "--dry-run", "sweep.n_seeds=2")
    assert said.code == 0, said.err
    lines = [line for line in said.out.splitlines() if " parameters" in line]
    assert len(lines) == 40 and "seed 2 of 2" in lines[-1] and "~: as of the most similar" in said.out
    narrow, wide = lines[0].split(" parameters")[0].split()[-1], lines[-1].split(" parameters")[0].split()[-1]
    assert int(narrow.lstrip("~").replace(",", "")) < int(wide.lstrip("~").replace(",", ""))
    assert all((narrow if "hidden_dim8_" in line else wide).lstrip("~") in line for line in lines)


def test_samplers_that_learn_have_nothing_to_list(cli: Cli, work: Path) -> None:
    ranges = {"optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
    file = write(work / "study.json", ranges=ranges)
    said = cli("sweep", file, "sweep.sampler=tpe", "sweep.trials=8", "--dry-run")
    assert said.code == 0 and "none can be told before" in said.out
    said = cli("sweep", file, "sweep.sampler=qmc", "sweep.trials=3", "--dry-run")
    assert said.code == 0 and said.out.count("updates") == 3
    assert cli("sweep", file, "sweep.sampler=qmc", "sweep.trials=3", "--dry-run").out.split("\n")[1][:60] in said.out
    said = cli("sweep", file, "sweep.sampler=random")
    assert said.code == 2 and "set sweep.trials, sweep.updates or sweep.hours" in said.err


def test_draws_that_will_be_refused_are_listed_as_such(cli: Cli, work: Path) -> None:
    ranges = {"encoder.pooling": ["cls", "mean"], "attention.causal": [True, False]}
    file = write(work / "study.json", ranges=ranges)
    said = cli("sweep", file, "sweep.sampler=qmc", "sweep.trials=4", "--dry-run")
    assert said.code == 0, said.err
    refused = [line for line in said.out.splitlines() if "refused: the cls token comes first" in line]
    listed = [line for line in said.out.splitlines() if " parameters" in line]
    assert len(refused) == said.out.count("poolingcls_attention.causalTrue") >= 1
    assert len(refused) + len(listed) == 4 and f"{len(listed)} runs, " in said.out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["sweep", "report", "nowhere"], 1, "nowhere does not exist; quincunx sweep CONFIG begins one"),
        (["sweep", "work", "."], 1, "holds no sweep: there is no sweep.json in it"),
        (["sweep", "work", ".", "--workers", "0"], 2, "--workers is 0"),
        (["sweep", "absent.yaml"], 2, "absent.yaml: no such file"),
        (["sweep", "study.json", "absent.json"], 2, "absent.json: no such file"),
        (["train", "study.json"], 2, "`ranges` makes this a sweep of many runs"),
        (["plan", "study.json"], 2, "`ranges` makes this a sweep of many runs"),
        (["sweep", "study.json", "sweep.dir=study.json"], 1, "sweep.dir study.json is a file"),
        (["sweep", "study.json", "sweep.worker=2"], 2, "did you mean `workers`?"),
        (["sweep", "study.json", "sweep.storage=mysql://me@host/db"], 2, "write postgresql://user@host/database"),
        (["sweep", "study.json", "sweep.dir=study.json/deep"], 1, "study.json/deep cannot be made: Not a directory"),
    ],
)
def test_what_cannot_be_done_is_said(cli: Cli, work: Path, words: list[str], code: int, text: str) -> None:
    write(work / "study.json")
    said = cli(*words)
    assert (said.code, text in said.err) == (code, True), said.err
    assert not (work / "found").exists() and not (work / "runs").exists()


def test_the_folder_is_no_run_to_other_commands(cli: Cli, work: Path) -> None:
    begin(open_sweep(write(work / "study.json"))).store.shut()
    assert cli("runs", "list", "found").out == "no runs\n"
    for words in (["report", "found"], ["train", "found"], ["evaluate", "found"]):
        said = cli(*words)
        assert said.code and not (work / "found/report.html").exists(), words
    said = cli("sweep", "found")
    assert said.code == 2 and "quincunx sweep work found goes on with it" in said.err


def test_a_sweep_without_a_trial_may_become_another(cli: Cli, work: Path) -> None:
    begin(open_sweep(write(work / "study.json"))).store.shut()
    other = write(work / "study.json", ranges={"optimizer.weight_decay": [0.1]}, sweep={"dir": "found", "n_seeds": 2})
    said = cli("sweep", other, "--dry-run")
    assert said.code == 0 and "2 runs, " in said.out
    opened = begin(open_sweep(other))
    opened.store.shut()
    assert opened.notes == [] and "weight_decay" in (work / "found/ranges.yaml").read_text(encoding="utf-8")


def test_a_run_folder_is_a_config(cli: Cli, finished: Path, work: Path) -> None:
    (work / "ranges.json").write_text('{"optimizer.learning_rate": [0.1]}', encoding="utf-8")
    said = cli("sweep", finished, "ranges.json", "sweep.dir=found", "--dry-run")
    assert said.code == 0 and "1 run, " in said.out, said.err


def test_a_dry_run_refuses_what_the_run_would(cli: Cli, work: Path) -> None:
    opened = begin(open_sweep(write(work / "study.json")))
    with opened.store.lock():
        opened.store.add_trial(opened.store.read())
    opened.store.shut()
    said = cli("sweep", write(work / "study.json", {"optimizer.weight_decay": 0.5}), "--dry-run")
    assert said.code == 1 and "optimizer.weight_decay: " in said.err
    said = cli("sweep", write(work / "study.json"), "--dry-run")
    assert said.code == 0 and "1 new run, 1 begun before to go on with, " in said.out


def test_a_run_is_no_place_for_a_sweep(cli: Cli, work: Path) -> None:
    (work / "found").mkdir()
    (work / "found/config.yaml").write_text("recipe: long_range\n", encoding="utf-8")
    said = cli("sweep", write(work / "study.json"))
    assert said.code == 1 and "sweep.dir found is the folder of a run" in said.err
