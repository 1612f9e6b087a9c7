"""What Python users do in ten lines: load, train, evaluate, look into a run."""

from __future__ import annotations

import json
import logging
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quincunx import Run, evaluate, load, seed_everything, train
from quincunx.config.document import ConfigError
from quincunx.engine.events import Callback, Progress
from quincunx.errors import MissingExtra, RunError, UsageError
from runner import tiny


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")


def same_end(run: Path, wanted: Path) -> bool:
    return all((run / name).read_bytes() == (wanted / name).read_bytes() for name in NAMES)


NAMES = ("metrics.jsonl", "checkpoints/update-00000024/model.safetensors")


def test_ten_lines(work: Path):
    config = load(tiny(), "budget.epochs=1", "seed=5")
    assert config.config.budget.epochs == 1
    run = train(config)
    assert run.path == Path("runs/long_range-listops-1")
    assert run.summary["state"] == "finished"
    assert [update for update, _ in run.metrics("dev/accuracy")] == [4, 8]
    evaluation = evaluate(run, split="dev", which="last")
    assert evaluation.scalars["accuracy"] == pytest.approx(run.metrics("dev/accuracy")[-1][1])
    assert run.predict([{"source": "[MIN 4 2 ]"}])[0]["prediction"] in range(10)
    assert run.config.seed == 5
    assert run.report.is_file()


def test_a_mapping_a_file_and_a_loaded_config_are_the_same_run(work: Path, finished: Path):
    file = work / "config.json"
    file.write_text(json.dumps(tiny()))
    paths = [train(source, f"run.dir={name}").path for name, source in (("a", tiny()), ("b", file), ("c", str(file)))]
    paths.append(train(load(file, "run.dir=d")).path)
    assert [str(path) for path in paths] == ["a", "b", "c", "d"]
    for path in paths:
        assert same_end(path, finished)


def test_problems_of_a_mapping_are_placed_by_their_path(work: Path):
    with pytest.raises(ConfigError) as error:
        load(tiny({"update.batch_siez": 3, "encoder.num_layers": 0}))
    assert "update.batch_siez" in str(error.value) or "`batch_siez` under `update`" in str(error.value)
    assert "num_layers" in str(error.value)
    assert "2 errors" in str(error.value)


def test_overrides_belong_to_the_first_load(work: Path):
    loaded = load(tiny())
    for options in ({"task": "listops"}, {"strict": True}):
        with pytest.raises(UsageError, match="first load"):
            load(loaded, **options)
    with pytest.raises(UsageError, match="first load"):
        train(loaded, "seed=3")


def test_warnings_are_logged_and_errors_when_strict(work: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "quincunx"):
        load(tiny(), "schedule.kind=fixed")
    assert "schedule.warmup" in caplog.text
    with pytest.raises(ConfigError, match=r"schedule\.warmup"):
        load(tiny(), "schedule.kind=fixed", strict=True)


def test_a_callback_sees_the_run(work: Path):
    seen: dict[str, list[Any]] = {"start": [], "log": [], "evaluation": [], "end": []}

    class Watch(Callback):
        def start(self, plan, update, notes):
            seen["start"].append((plan.total_updates, update))

        def log(self, progress: Progress):
            seen["log"].append((progress.update, progress.total, progress.values["loss"]))
            assert progress.epoch == progress.update / 8
            assert progress.speed["examples_per_second"] > 0

        def evaluation(self, update, split, evaluation):
            seen["evaluation"].append((update, split))

        def end(self, update, reason):
            seen["end"].append((update, reason))

    run = train(tiny(), "budget.epochs=1", "evaluate.every=epoch", callbacks=[Watch()])
    assert seen["start"] == [(8, 0)]
    assert [line[:2] for line in seen["log"]] == [(2, 8), (4, 8), (6, 8), (8, 8)]
    assert [line[2] for line in seen["log"]] == [value for _, value in run.metrics("train/loss")]
    assert seen["evaluation"] == [(8, "dev"), (8, "test")]
    assert seen["end"] == [(8, "finished")]


class Falling(Callback):
    """Raises at an event."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.heard: list[BaseException] = []

    def start(self, plan, update, notes):
        self.fall("start")

    def update(self, update):
        if update == 13:
            self.fall("update")

    def end(self, update, reason):
        self.fall("end")

    def error(self, error):
        self.heard.append(error)
        self.fall("error")

    def fall(self, event: str) -> None:
        if event == self.event:
            raise ZeroDivisionError(event)


@pytest.mark.parametrize("event", ["start", "update", "end"])
def test_a_callback_that_raises_ends_the_run_and_not_its_record(work: Path, finished: Path, event: str):
    falling, other = Falling(event), Falling("error")
    with pytest.raises(ZeroDivisionError, match=event):
        train(tiny({"run.dir": "r"}), callbacks=[other, falling])
    assert len(other.heard) == len(falling.heard) == 1, "each is told, also after one that fell over that"
    summary = Run("r").summary
    assert summary["state"] == "failed"
    assert "ZeroDivisionError" in summary["reason"]
    assert Run("r").report.is_file()
    train("r", resume=True)
    assert same_end(Path("r"), finished)


def test_a_report_that_fails_fails_alone(
    work: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(folder: Path) -> None:
        raise RunError("no room for a report")

    monkeypatch.setattr("quincunx.launch.write_report", full)
    run = train(tiny({"run.dir": "r"}))
    assert run.summary["state"] == "finished"
    assert same_end(run.path, finished)
    assert "quincunx report r writes it anew: no room for a report" in caplog.text
    with pytest.raises(ZeroDivisionError, match="update"):
        train(tiny({"run.dir": "s"}), callbacks=[Falling("update")])


def test_memory_that_runs_out_has_a_remedy(work: Path):
    class Greedy(Callback):
        def update(self, update):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nAnd more.")

    with pytest.raises(RunError, match=r"Tried to allocate 3.00 GiB.\nAnd more.\nCompute fewer.*chunking\.samples"):
        train(tiny({"run.dir": "r"}), callbacks=[Greedy()])


def test_a_run_may_show_what_the_command_line_shows(work: Path, capsys: pytest.CaptureFixture[str]):
    train(tiny({"budget.stop_at": 4}), show=True)
    shown = capsys.readouterr().out
    assert "note: data.path is unset" in shown
    assert "update 4/4" in shown
    train(tiny({"budget.stop_at": 4}))
    assert capsys.readouterr().out == ""


def test_a_compiler_that_fails_has_a_remedy(work: Path, monkeypatch: pytest.MonkeyPatch):
    original = torch.nn.Module.compile

    def broken(module: Any, inputs: Any) -> Any:
        raise FileNotFoundError("no g++")

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: original(self, **options, backend=broken))
    torch.compiler.reset()
    with pytest.raises(RunError, match=r"no g\+\+[\s\S]*compute\.compile=false"):
        train(tiny({"run.dir": "r", "compute.compile": True}))


def test_a_tracker_that_is_not_installed_leaves_no_run(work: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"quincunx\[tensorboard\]"):
        train(tiny({"run.dir": "r", "log.trackers": ["tensorboard"]}))
    assert not Path("r").exists()


def test_what_a_run_lacks_is_said(work: Path, finished: Path):
    run = Run(finished)
    assert repr(run) == f"Run({str(finished)!r})"
    with pytest.raises(RunError, match=r"no metric dev/acc; it has dev/accuracy,"):
        run.metrics("dev/acc")
    with pytest.raises(UsageError, match="no checkpoint second; there are: best, last, update-"):
        run.checkpoint("second")
    with pytest.raises(UsageError, match="no split 'train'; it has dev, test"):
        evaluate(run, "train")
    with pytest.raises(RunError, match="does not exist"):
        Run("nowhere")
    assert run.predict([]) == []


def test_checkpoints_by_name(finished: Path):
    run = Run(finished)
    names = [path.name for path in sorted((finished / "checkpoints").glob("update-*"))]
    assert run.checkpoint("last").name == names[-1] == "update-00000024"
    best = run.summary["best"]
    assert best is not None
    assert run.checkpoint("best").name == f"update-{best['update']:08d}"
    assert run.checkpoint(names[0]).name == names[0]


def test_a_seed_that_is_not_given_is_drawn_and_kept(work: Path):
    config = tiny({"budget.epochs": 1})
    del config["seed"]
    first, second = train(config), train(config)
    assert first.config.seed != second.config.seed
    assert first.metrics("train/loss") != second.metrics("train/loss")
    again = train(first.path, f"seed={first.config.seed}", "run.dir=again")
    assert again.metrics() == first.metrics()
    # resumed with the file that names no seed, it keeps its own
    assert train(config, resume=True).config.seed == second.config.seed


def test_seed_everything_seeds_python_numpy_and_torch():
    def draws() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(())), float(torch.randn(()))]

    assert seed_everything(3) == 3
    first = draws()
    other = draws()
    seed_everything(3)
    assert draws() == first
    assert all(a != b for a, b in zip(first, other, strict=True))
    seed_everything(4)
    assert all(a != b for a, b in zip(first, draws(), strict=True))
    seed_everything(2**63 - 1)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range_are_refused(seed: int):
    with pytest.raises(UsageError, match="between 0 and"):
        seed_everything(seed)


def test_training_does_not_depend_on_the_global_generators(work: Path, finished: Path):
    seed_everything(77)
    assert same_end(train(tiny({"run.dir": "r"})).path, finished)


@pytest.mark.parametrize("graph", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_runs_keep_the_names_of_their_weights(
    work: Path, finished: Path, graph: str, monkeypatch: pytest.MonkeyPatch
):
    """Through dynamo alone, and (slow) with a compiler; the checkpoint loads into a model that is not compiled."""
    if graph == "inductor" and shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    torch.compiler.reset()
    compiled: list[dict[str, Any]] = []
    original = torch.nn.Module.compile

    def compile_with(self: torch.nn.Module, **options: Any) -> None:
        compiled.append(options)
        original(self, **options, backend=graph)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_with)
    run = train(tiny({"run.dir": "r", "compute.compile": True}))
    assert len(compiled) == 1
    plain, other = Run(finished).model("last").state_dict(), run.model("last").state_dict()
    assert list(plain) == list(other)
    losses = dict(Run(finished).metrics("train/loss"))  # pyright: ignore[reportArgumentType]
    assert dict(run.metrics("train/loss")) == pytest.approx(losses, rel=1e-3)  # pyright: ignore[reportArgumentType]
    assert evaluate(run, which="last").scalars["loss"] == pytest.approx(
        evaluate(Run(finished), which="last").scalars["loss"], rel=1e-2
    )
    # begun compiled, gone on with uncompiled
    stopped = train(tiny({"run.dir": "s", "compute.compile": True, "budget.stop_at": 7}))
    resumed = train(tiny({"run.dir": "s"}), resume=True)
    assert stopped.path == resumed.path
    assert resumed.summary["update"] == 24
