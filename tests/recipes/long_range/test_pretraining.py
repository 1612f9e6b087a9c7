"""Self-pretraining: a whole run within the run's folder, whose best weights the run starts from, come what may."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import Said
from properties.test_invariance import closeness, torchrun
from quincunx import Run, evaluate, load, train
from quincunx.config.document import ConfigError
from quincunx.engine.events import Callback
from quincunx.engine.runtime import seed_torch
from quincunx.errors import NonFiniteError, RunError
from quincunx.recipes.long_range.recipe import RECIPE
from quincunx.runs import state_of
from quincunx.seeds import address
from runner import finish, quincunx, running, start, tiny, wait_for


def config(**changes: Any) -> dict[str, Any]:
    """Return 10 updates of pretraining, then 8 of training, in the folder r."""
    short = {"encoder.vocab_size": None, "pretraining.updates": 10, "budget.epochs": 1, "run.dir": "r"}
    return tiny(short | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("undisturbed") / "r"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUINCUNX_CACHE", str(data_cache))
        patch.setattr("quincunx.report.to_png", lambda chart: b"")
        yield train(config(run__dir=str(folder))).path


def weights(run: Path, which: str = "last") -> dict[str, Tensor]:
    return Run(run).model(which).state_dict()


def same_run(run: Path, wanted: Path) -> None:
    """Both parts end byte for byte alike."""
    for part in (".", "pretraining"):
        newest = sorted((wanted / part / "checkpoints").glob("update-*"))[-1].name
        for name in ("metrics.jsonl", f"checkpoints/{newest}/model.safetensors", "checkpoints/best.json"):
            assert (run / part / name).read_bytes() == (wanted / part / name).read_bytes(), f"{part}/{name}"


class Watch(Callback):
    """Writes down how many updates each run that begins will have, and calls a function at one update of one run."""

    def __init__(self, total: int = 0, update: int = 0, act: Callable[[], object] = lambda: None) -> None:
        self.began: list[int] = []
        self.at, self.act = (total, update), act

    def start(self, plan, update, notes):
        self.began.append(plan.total_updates)

    def update(self, update):
        if (self.began[-1], update) == self.at:
            self.act()


def test_pretraining_is_a_whole_run_of_its_own(undisturbed: Path):
    run, first = Run(undisturbed), Run(undisturbed / "pretraining")
    assert first.summary["state"] == run.summary["state"] == "finished"
    assert (first.summary["update"], run.summary["update"]) == (10, 8)
    assert (first.config.objective, run.config.objective) == ("denoising", "classification")
    assert first.config.pretraining.updates is None
    assert first.config.init_from is None
    assert first.summary["best"]["metric"] == "dev/loss"
    assert run.summary["best"]["metric"] == "dev/accuracy"
    for name in ("config.yaml", "plan.json", "environment.json", "metrics.jsonl", "report.html", "data.json"):
        assert (first.path / name).is_file(), name
    assert (first.path / "data.json").read_bytes() == (run.path / "data.json").read_bytes()
    assert [update for update, _ in first.metrics("train/learning_rate")] == [2, 4, 6, 8, 10]
    assert [update for update, _ in run.metrics("train/learning_rate")] == [2, 4, 6, 8]
    assert evaluate(first, "test").scalars["loss"] == first.metrics("test/loss")[0][1]
    assert {line["split"] for line in run.metrics()} == {"train", "dev", "test"}, "nothing of the other run's"


def test_training_starts_from_pretrainings_best_weights_and_a_fresh_classifier(work: Path):
    """A rate of 0 leaves the weights as training found them."""
    changes = {"pretraining__learning_rate": 0.01, "optimizer__learning_rate": 0, "evaluate__every": 1}
    train(config(**changes, pretraining__updates=30, budget__epochs=1))
    found, best = weights(Path("r")), weights(Path("r/pretraining"), "best")
    shared = found.keys() & best.keys()
    assert found.keys() - shared == {
        "classifier.0.weight",
        "classifier.0.bias",
        "classifier.2.weight",
        "classifier.2.bias",
    }
    assert best.keys() - shared == {"restore.weight", "restore.bias"}
    assert all(torch.equal(found[name], best[name]) for name in shared)
    run = Run("r")
    seed_torch(address(run.config.seed, "initial weights"), torch.device("cpu"))
    fresh = RECIPE.parts(run.config).model.state_dict()
    assert all(torch.equal(found[name], fresh[name]) for name in found.keys() - shared)
    assert not torch.equal(found["embedding.weight"], fresh["embedding.weight"])


def test_its_best_weights_are_not_its_last(work: Path):
    """Where the loss rises again, as under a rate that is far too high, the weights before that are taken."""
    changes = {"evaluate__every": 1, "schedule": {"kind": "fixed"}, "update__clip_norm": None}
    train(config(**changes, pretraining__learning_rate=1.0, optimizer__learning_rate=0, pretraining__updates=12))
    first = Run("r/pretraining")
    assert first.summary["best"]["update"] < 12
    found, best, last = weights(Path("r")), weights(first.path, "best"), weights(first.path, "last")
    assert torch.equal(found["embedding.weight"], best["embedding.weight"])
    assert not torch.equal(found["embedding.weight"], last["embedding.weight"])


def test_every_setting_acts(work: Path):
    def pretrained(name: str, **changes: Any) -> Run:
        train(config(run__dir=name, budget__stop_at=2, **changes))
        return Run(Path(name) / "pretraining")

    plain, share = pretrained("a"), pretrained("b", pretraining__mask_share=0.5)
    rate, epochs = pretrained("c", pretraining__learning_rate=0.05), pretrained("d", pretraining={"epochs": 2})
    assert plain.summary["update"] == 10
    assert epochs.summary["update"] == 16
    assert max(value for _, value in plain.metrics("train/learning_rate")) == pytest.approx(0.01)
    assert max(value for _, value in rate.metrics("train/learning_rate")) == pytest.approx(0.05)
    tokens = []
    for run in (plain, share):
        [text] = [path.read_text() for path in (run.path / "evaluations").glob("test-*.json")]
        tokens.append(int(text.split(" masked tokens")[0].split()[-1]))
    assert tokens[1] > 2.5 * tokens[0]
    main = Run("c").metrics("train/learning_rate")
    assert max(value for _, value in main) <= 0.01, "pretraining's rate is its own"


def test_what_ends_training_early_does_not_end_pretraining(work: Path):
    changes = {"budget__stop_at": 3, "evaluate__metric": "dev/accuracy", "evaluate__patience": 1}
    run = train(config(**changes, evaluate__every=1))
    assert run.summary["update"] <= 3
    assert Run("r/pretraining").summary["update"] == 10


def test_without_pretraining_there_is_none(work: Path):
    run = train(config(pretraining={}))
    assert not (run.path / "pretraining").exists()
    assert run.config.encoder.vocab_size == 17, "and no id for a mask"


def test_a_finished_run_does_not_pretrain_again(work: Path):
    train(config(budget__stop_at=3))
    before = {path: path.stat().st_mtime_ns for path in Path("r/pretraining").rglob("*")}
    watch = Watch()
    train(config(), resume=True, callbacks=[watch])
    assert watch.began == [8]
    train("r", resume=True, callbacks=[watch])
    assert {path: path.stat().st_mtime_ns for path in Path("r/pretraining").rglob("*")} == before


def test_gone_on_with_under_another_pretraining_is_refused(work: Path):
    train(config(budget__stop_at=3))
    with pytest.raises(RunError, match=r"pretraining.updates: 10 -> 12"):
        train(config(pretraining__updates=12), resume=True)


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "SIGTERM"),
        (lambda: Path("r/STOP").touch(), "the file STOP"),
        (lambda: Path("r/pretraining/STOP").touch(), "the file STOP"),
    ],
    ids=["signal", "file", "file within"],
)
def test_asked_to_stop_while_pretraining_and_gone_on_with(work: Path, undisturbed: Path, ask, reason: str):
    run = train(config(), callbacks=[watch := Watch(10, 5, ask)])
    assert watch.began == [10], "training does not begin"
    for folder, update, total in ((Path("r"), 0, 8), (Path("r/pretraining"), 5, 10)):
        summary = Run(folder).summary
        assert summary["state"] == "interrupted"
        assert summary["reason"] == f"saved and stopped by {reason}; --resume goes on"
        assert (summary["update"], summary["updates"]) == (update, total)
        assert state_of(Run(folder).folder, summary) == "interrupted"
        assert (folder / "report.html").is_file()
    assert not list((run.path / "checkpoints").glob("*"))
    train("r", resume=True, callbacks=[watch := Watch()])
    assert watch.began == [10, 8]
    assert Run("r").summary["state"] == "finished"
    assert not Path("r/STOP").exists()
    same_run(Path("r"), undisturbed)


def test_a_save_that_is_asked_for_in_the_runs_folder(work: Path):
    train(config(checkpoint={"every": None, "best": False, "keep": 9}), callbacks=[Watch(10, 5, Path("r/SAVE").touch)])
    names = [path.name for path in sorted(Path("r/pretraining/checkpoints").glob("update-*"))]
    assert names == ["update-00000005", "update-00000010"]
    assert not Path("r/SAVE").exists()


def test_a_request_from_before_is_none(work: Path, undisturbed: Path):
    train(config(), callbacks=[Watch(10, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))])
    Path("r/STOP").touch()
    train("r", resume=True)
    same_run(Path("r"), undisturbed)


@pytest.mark.parametrize(("total", "update"), [(10, 1), (10, 7), (10, 10), (8, 1), (8, 5)])
def test_broken_off_anywhere_and_gone_on_with(work: Path, undisturbed: Path, total: int, update: int):
    """Before the first checkpoint of either part too; what pretraining finished it does not begin again."""

    def fall() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(config(), callbacks=[Watch(total, update, fall)])
    summary = Run("r").summary
    assert summary["state"] == "failed"
    assert "ZeroDivisionError" in summary["reason"]
    assert Run("r").report.is_file()
    train(config(), resume=True, callbacks=[watch := Watch()])
    assert watch.began == ([10, 8] if total == 10 else [8])
    same_run(Path("r"), undisturbed)


def test_pretraining_that_diverges_says_so_in_both_folders(work: Path):
    with pytest.raises(NonFiniteError):
        train(config(pretraining__learning_rate=1e30, update__clip_norm=None, schedule={"kind": "fixed"}))
    for folder in ("r", "r/pretraining"):
        assert Run(folder).summary["state"] == "failed"
        assert "not finite" in Run(folder).summary["reason"]


def test_a_warm_up_longer_than_pretraining_is_refused_before_anything_is_written(work: Path):
    with pytest.raises(ConfigError, match=r"schedule.warmup \(6 updates\) leaves no update of pretraining"):
        train(config(pretraining__updates=6, schedule__warmup=6))
    assert not Path("r").exists()
    with pytest.raises(ConfigError, match="leaves no update of pretraining"):
        train(config(pretraining={"epochs": 1}, schedule__warmup=8, budget__epochs=2))
    train(config(pretraining={"epochs": 1}, schedule__warmup=7, budget__stop_at=1))


def test_pretraining_on_pairs_learns_from_every_sequence(work: Path):
    for name, count in (("train", 10), ("eval", 4), ("test", 3)):
        rows = "".join(f"{n % 2}\t{n}\t{n + 1}\tfirst {n}\tsecond one {n}\n" for n in range(count))
        (work / f"new_aan_pairs.{name}.tsv").write_text(rows)
    changes = {"task": "retrieval", "data": {"path": str(work)}, "update__batch_size": 4, "pretraining": {"epochs": 2}}
    run = train(config(**changes, schedule__warmup=9, budget__epochs=4, optimizer__learning_rate=0))
    assert json.loads((run.path / "pretraining/plan.json").read_text())["total_updates"] == 10
    assert run.summary["update"] == 12
    found, best = weights(run.path), weights(run.path / "pretraining", "best")
    assert torch.equal(found["embedding.weight"], best["embedding.weight"])
    assert found["embedding.weight"].shape == (258, 8), "256 bytes, padding, the mask"
    assert found["classifier.0.weight"].shape == (12, 32)


def test_a_trunk_of_any_kind_is_pretrained(work: Path):
    for kind in ("hrr-bundled", "none"):
        train(config(run__dir=kind, attention__kind=kind, pretraining__updates=4, budget__stop_at=1))
        assert Run(f"{kind}/pretraining").summary["state"] == "finished"


def test_an_optimizer_of_torchs_pretrains_as_it_stands(work: Path):
    changes = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.02}, "update__no_decay": None}
    run = train(config(**changes, budget__stop_at=1))
    assert Run("r/pretraining").config.optimizer.target == run.config.optimizer.target


# the command line, in processes of their own


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_while_writing_and_resumed_again_and_again(work: Path, undisturbed: Path, data_cache: Path, seed: int):
    """kill -9 at the n-th fsync: in the middle of either part's checkpoints, between files, between the two."""
    file, log = work / "config.json", work / "log"
    file.write_text(json.dumps(config(run__dir=str(work / "r"), data__cache=str(data_cache))))
    draw = random.Random(seed)
    killed = 0
    for _ in range(3):
        code = finish(start("train", file, "--resume", log=log, die_at_sync=draw.randint(1, 60)))
        assert code in (0, -signal.SIGKILL), log.read_text()
        killed += code != 0
    assert killed >= 1
    assert quincunx("train", file, "--resume", log=log) == 0, log.read_text()
    same_run(work / "r", undisturbed)


def test_a_signal_while_pretraining_ends_the_command_as_any_interruption(work: Path, cli: Callable[..., Said]):
    file, log = work / "config.json", work / "log"
    file.write_text(json.dumps(config(pretraining__updates=2000, log__every=1)))
    metrics = work / "r/pretraining/metrics.jsonl"
    with running("train", file, log=log) as process:
        wait_for(lambda: metrics.is_file() and metrics.read_bytes().count(b"\n") >= 4, process, log)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        assert finish(process) == 1
    assert "r: saved and stopped by SIGTERM; --resume goes on" in log.read_text()
    assert json.loads((work / "r/summary.json").read_text())["state"] == "interrupted"
    assert "interrupted" in cli("runs", "list", work).out
    before = json.loads((work / "r/pretraining/summary.json").read_text())["update"]
    (work / "r/pretraining/STOP").touch()  # from before: it counts no more
    with running("train", "r", "--resume", log=log) as process:
        wait_for(lambda: f"update {before + 2}/2000" in log.read_text(), process, log)
        (work / "r/STOP").touch()
        assert finish(process) == 1
    assert json.loads((work / "r/pretraining/summary.json").read_text())["update"] > before + 1


@pytest.mark.slow
def test_two_processes_pretrain_and_train_like_one(work: Path, data_cache: Path):
    changes = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.02}, "data__cache": str(data_cache)}
    alone = train(config(**changes, run__dir=str(work / "one"))).path
    file = work / "config.json"
    file.write_text(json.dumps(config(**changes, run__dir=str(work / "two"), chunking__samples=3)))
    result = torchrun("train", file)
    assert result.returncode == 0, result.stdout + result.stderr
    assert closeness(work / "two/pretraining", alone / "pretraining") < 1e-5
    assert closeness(work / "two", alone) < 1e-5
    assert result.stdout.count("trained to the end") == 1
    assert "note: weights from" in result.stdout


def test_the_config_in_pretrainings_folder_stands_for_it(undisturbed: Path):
    loaded = load(undisturbed / "pretraining")
    assert loaded.warnings == []
    assert loaded.config.objective == "denoising"
    assert loaded.config.budget.updates == 10
