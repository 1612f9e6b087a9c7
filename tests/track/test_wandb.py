"""The Weights & Biases tracker, with the real client in its offline mode: what it writes and where, what never."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conftest import Said
from quincunx.config.load import load
from quincunx.config.sections.run import Log, Wandb
from quincunx.errors import MissingExtra, UsageError
from quincunx.recipes import schemas
from quincunx.runs import read_metrics
from quincunx.track import Trackers, trackers_of
from quincunx.track import wandb as tracker
from reference import wandb_file, wandb_service
from runner import finish, quincunx, start, tiny, wait_for

pytestmark = pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb (pip install 'quincunx[wandb]')")

KEY = "0123456789abcdef" * 3


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, no variable that speaks to wandb, and all the time that a busy machine needs."""
    monkeypatch.setattr(tracker, "BROKEN_SECONDS", 100)
    folder = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("WANDB_") or name in ("NETRC", "XDG_CACHE_HOME")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def started(folder: Path, config: Mapping[str, Any] | None = None, **options: Any) -> Trackers:
    trackers = trackers_of(Log(wandb=Wandb(use=True, **{"mode": "offline", **options})))
    trackers.start(folder, config or {"recipe": "long_range"})
    return trackers


def train(trackers: Trackers, first: int, last: int) -> None:
    for update in range(first, last + 1):
        trackers.log(update, "train", {"loss": 1 / update})
        if update % 3 == 0:
            trackers.log(update, "dev", {"accuracy": update / 100})


def files(folder: Path) -> list[Path]:
    """Return what wandb recorded, a file for each part of the run, in order."""
    return sorted(folder.glob("wandb/*run-*/*.wandb"))


def rows(folder: Path) -> list[tuple[int, str, float]]:
    """Return (step, name, value) of everything recorded, in order."""
    return [
        (row["_step"], name, value)
        for file in files(folder)
        for row in wandb_file.history(file)
        for name, value in sorted(row.items())
        if not name.startswith("_")
    ]


def closed(folder: Path, parts: int) -> int:
    """Wait until the last of so many parts is closed and return its exit code."""
    deadline = time.monotonic() + 60
    while True:
        found = files(folder)
        if len(found) == parts and found[-1].stat().st_size and (code := wandb_file.exit_code(found[-1])) is not None:
            return code
        assert time.monotonic() < deadline, [str(file) for file in found]
        time.sleep(0.05)


def contains(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_it_is_off_unless_asked_for() -> None:
    assert list(trackers_of(Log()).trackers) == ["jsonl"]
    assert list(trackers_of(Log(wandb=Wandb(use=True, mode="offline"))).trackers) == ["jsonl", "wandb"]


def test_its_settings_without_use_are_said_to_have_no_effect() -> None:
    tree = tiny({"log.wandb": {"project": "birds", "tags": ["a"]}})
    warnings = [problem.message for problem in load(tree, schemas=schemas()).warnings]
    assert [text.split("`")[1] for text in warnings] == ["log.wandb.project", "log.wandb.tags"]
    assert "log.wandb.use is true, and log.wandb.use is false" in warnings[0]
    used = tiny({"log.wandb": {"project": "birds", "tags": ["a"], "use": True}})
    assert load(used, schemas=schemas()).warnings == []


def test_values_config_and_names_are_recorded_inside_the_run_folder_and_nothing_is_left_behind(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    (folder := tmp_path / "run-7").mkdir()
    before = (dict(os.environ), sys.exit, sys.excepthook, threading.active_count(), signal.getsignal(signal.SIGTERM))
    config = {"recipe": "long_range", "encoder": {"dim": 3}, "run": {"note": "a first try"}}
    trackers = started(folder, config, project="birds", entity="us", tags=["x", "y"])
    trackers.log(1, "train", {"loss": 0.1 + 0.2, "odd": math.nan})
    trackers.log(2, "train", {"loss": math.inf})
    trackers.log(2, "dev", {"accuracy": 1.0})
    trackers.finish()
    after = (dict(os.environ), sys.exit, sys.excepthook, threading.active_count(), signal.getsignal(signal.SIGTERM))
    assert after == before

    [file] = files(folder)
    first, second = wandb_file.history(file)
    assert (first["_step"], first["train/loss"]) == (1, 0.1 + 0.2)
    assert math.isnan(first["train/odd"])
    assert (second["_step"], second["train/loss"], second["dev/accuracy"]) == (2, math.inf, 1.0)
    run = wandb_file.begun(file)
    assert (run.project, run.entity, run.display_name) == ("birds", "us", "run-7")
    assert (run.notes, list(run.tags)) == ("a first try", ["x", "y"])
    recorded = {entry.key: json.loads(entry.value_json) for entry in run.config.update}
    assert {name: recorded[name] for name in config} == config
    assert wandb_file.exit_code(file) == 0

    assert list(home.rglob("*")) == list(temporary.rglob("*")) == list(work.rglob("*")) == []
    assert {path.name for path in folder.iterdir()} == {"metrics.jsonl", "wandb"}
    assert all(path.resolve().is_relative_to(folder) for path in folder.rglob("*"))
    assert not contains(folder, "requirements") + contains(folder, sys.executable)


def test_a_resumed_run_goes_on_in_the_same_run_and_doubles_nothing(tmp_path: Path) -> None:
    trackers = started(tmp_path)
    train(trackers, 1, 7)
    position = trackers.position()
    train(trackers, 8, 10)  # beyond the checkpoint
    trackers.finish(1)
    trackers = started(tmp_path)
    trackers.resume(position)
    train(trackers, 8, 12)
    trackers.finish()

    first, second = files(tmp_path)
    assert wandb_file.begun(first).run_id == wandb_file.begun(second).run_id
    assert (wandb_file.exit_code(first), wandb_file.exit_code(second)) == (1, 0)
    expected = {(update, "train/loss"): 1 / update for update in range(1, 13)}
    expected |= {(update, "dev/accuracy"): update / 100 for update in (3, 6, 9, 12)}
    found = rows(tmp_path)
    assert {(step, name): value for step, name, value in found} == expected
    assert len(found) == len(expected)
    assert [row["_step"] for row in wandb_file.history(second)] == [11, 12]
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == len(expected)


def test_a_run_within_another_one_bears_both_names(tmp_path: Path) -> None:
    outer, inner = tmp_path / "run-3", tmp_path / "run-3" / "pretraining"
    assert [tracker.run_name(outer, None), tracker.run_name(outer, "birds")] == ["run-3", "birds"]
    outer.mkdir()
    (outer / "config.yaml").touch()
    assert tracker.run_name(inner, None) == "run-3/pretraining"
    assert tracker.run_name(inner, "birds") == "birds/pretraining"


def test_values_of_an_earlier_update_stand_at_the_last_step_and_say_so(tmp_path: Path) -> None:
    trackers = started(tmp_path)
    train(trackers, 1, 4)
    trackers.log(3, "test", {"accuracy": 0.5})  # the best checkpoint's
    trackers.finish()
    assert [row for row in rows(tmp_path) if row[1].startswith("test")] == [
        (4, "test/accuracy", 0.5),
        (4, "test/update", 3),
    ]
    trackers = started(tmp_path)
    trackers.log(3, "test", {"accuracy": 0.5})  # repeated by a run that was stopped at its very end
    trackers.finish()
    assert wandb_file.history(files(tmp_path)[1]) == []


def test_a_killed_process_has_its_run_closed_as_failed(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from quincunx.config.sections.run import Log, Wandb
        from quincunx.track import trackers_of
        trackers = trackers_of(Log(wandb=Wandb(use=True, mode="offline")))
        trackers.start(Path(sys.argv[1]), {})
        for update in range(1, 2001):
            trackers.log(update, "train", {"loss": float(update)})
        assert "wandb" not in sys.modules
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert closed(tmp_path, 1) == 1
    assert rows(tmp_path) == [(update, "train/loss", float(update)) for update in range(1, 2001)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"key: abc\n", "holds 2 words"),
        (b"\xff\xfe\x00\x81", "cannot be read as text"),
        ("folder", "cannot be read: Is a directory"),
    ],
)
def test_a_file_without_a_key_is_refused_by_its_name(tmp_path: Path, content: bytes | str | None, said: str) -> None:
    path = tmp_path / "key.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    with pytest.raises(UsageError, match=r"log\.wandb\.credentials names a text file") as raised:
        trackers_of(Log(wandb=Wandb(use=True, mode="offline", credentials=str(path))))
    assert f"{path} {said}" in str(raised.value)


def test_a_key_is_read_without_the_space_round_it(tmp_path: Path, home: Path) -> None:
    (tmp_path / "key").write_bytes(f"\ufeff  {KEY}\r\n\n".encode())
    assert tracker.read_key(tmp_path / "key") == KEY
    (home / "key").write_text(KEY)
    assert tracker.read_key(Path("~/key")) == KEY


def test_online_without_any_key_is_refused_with_the_remedy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    online = Log(wandb=Wandb(use=True))
    with pytest.raises(UsageError, match=r"no API key: .*log\.wandb\.credentials.*log\.wandb\.mode=offline"):
        trackers_of(online)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert "wandb" in trackers_of(online).trackers


def test_keys_are_found_where_the_client_looks_for_them(home: Path) -> None:
    assert not tracker.has_key({})
    assert tracker.has_key({"WANDB_API_KEY": KEY})
    assert tracker.has_key({"WANDB_IDENTITY_TOKEN_FILE": "token"})
    (home / ".netrc").write_text(f"machine example.org\n  login user\n  password {KEY}\n")
    assert not tracker.has_key({})
    assert tracker.has_key({"WANDB_BASE_URL": "https://example.org/"})
    (home / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    assert tracker.has_key({})
    assert not tracker.has_key({"WANDB_BASE_URL": "https://example.org/"})
    assert not tracker.has_key({"NETRC": str(home / "none")})
    (home / "settings").write_text(f"[default]\napi_key = {KEY}\n")
    assert tracker.has_key({"NETRC": str(home / "none"), "WANDB_CONFIG_DIR": str(home)})


def test_the_variable_decides_where_the_mode_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = Log(wandb=Wandb(use=True))
    for value in ("offline", "dryrun", "OFFLINE"):
        monkeypatch.setenv("WANDB_MODE", value)
        assert "wandb" in trackers_of(unset).trackers
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "wandb" not in trackers_of(unset).trackers
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(UsageError, match="WANDB_MODE is 'shared'"):
        trackers_of(unset)
    assert "wandb" in trackers_of(Log(wandb=Wandb(use=True, mode="offline"))).trackers


def test_online_a_run_is_sent_with_its_key_and_taken_up_again(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    (folder := tmp_path / "run").mkdir()
    caplog.set_level(logging.INFO)
    with wandb_service.running() as service:
        monkeypatch.setenv("WANDB_BASE_URL", service.address)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)  # a named file comes before it
        for last, code in ((4, 1), (6, 0)):
            trackers = started(folder, mode="online", credentials=str(tmp_path / "key"), project="birds", tags=["x"])
            train(trackers, 1, last)
            trackers.finish(code)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    first = service.begun[0]
    assert (first["project"], first["displayName"], first["tags"]) == ("birds", "run", ["x"])
    assert {variables["name"] for variables in service.begun} == {(folder / "wandb" / "id.txt").read_text().strip()}
    sent = [service.history[offset] for offset in sorted(service.history)]
    assert [(row["_step"], row["train/loss"]) for row in sent] == [(update, 1 / update) for update in range(1, 7)]
    assert service.exit_codes == [1, 0]
    assert (folder / "wandb" / "url.txt").read_text().startswith(f"{service.address}/me/birds/runs/")
    assert service.keys == {KEY}
    assert contains(folder, KEY) == contains(home, KEY) == []


def test_without_the_service_it_records_offline_and_the_key_is_nowhere(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    (folder := tmp_path / "run").mkdir()
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    caplog.set_level(logging.DEBUG)
    config = {"log": {"wandb": {"credentials": str(tmp_path / "key")}}}
    trackers = started(folder, config, mode="online", credentials=str(tmp_path / "key"))
    train(trackers, 1, 2)
    trackers.finish()
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "wandb: not online: " in warning
    offline = sorted(folder.glob("wandb/offline-run-*"))
    assert f"`wandb sync {offline[0]}`" in warning
    assert [row["train/loss"] for row in wandb_file.history(next(offline[0].glob("*.wandb")))] == [1.0, 0.5]
    assert contains(folder, KEY) == contains(home, KEY) == []
    assert KEY not in caplog.text
    assert contains(folder, str(tmp_path / "key")) != []


def test_a_client_that_fails_is_a_warning_and_training_goes_on(
    cli: Callable[..., Said], tiny_file: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (broken := tmp_path / "broken.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(tracker, "CLIENT", broken)
    said = cli("train", tiny_file, "run.dir=run", "log.wandb.use=true", "log.wandb.mode=offline")
    assert said.code == 0, said.text
    assert said.text.count("the run goes on without it") == 1
    assert Path("run/metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_a_client_that_cannot_start_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    trackers = started(tmp_path)
    train(trackers, 1, 2)
    trackers.finish()
    assert "it could not start" in caplog.text
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


@pytest.mark.parametrize("wrong", ["package", "key", "nothing to read it from"])
def test_what_is_missing_is_told_before_anything_is_written(
    wrong: str, cli: Callable[..., Said], tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"package": "mode=offline", "key": "credentials=nowhere.txt", "nothing to read it from": "mode=online"}
    if wrong == "package":
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(MissingExtra, match=r"pip install 'quincunx\[wandb\]'"):
            trackers_of(Log(wandb=Wandb(use=True, mode="offline")))
    said = cli("train", tiny_file, "run.dir=run", "log.wandb.use=true", f"log.wandb.{options[wrong]}")
    assert said.code != 0
    expected = {"package": "quincunx[wandb]", "key": "nowhere.txt cannot be read", "nothing to read it from": "API key"}
    assert expected[wrong] in said.err
    assert sorted(path.name for path in Path().iterdir()) == ["tiny.json"]


def named(metrics: Path) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in read_metrics(metrics):
        found.setdefault((row["split"], row["name"]), []).append(row["value"])
    return found


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def recorded(folder: Path) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for _, name, value in rows(folder):
        split, _, rest = name.partition("/")
        if rest != "update":
            found.setdefault((split, rest), []).append(value)
    return found


def test_a_whole_run_records_what_its_metrics_hold_and_trains_the_same(
    cli: Callable[..., Said], tiny_file: Path, finished: Path, home: Path
) -> None:
    said = cli("train", tiny_file, "run.dir=run", "log.wandb.use=true", "log.wandb.mode=offline")
    assert said.code == 0, said.text
    run = Path("run")
    assert (run / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert recorded(run) == named(run / "metrics.jsonl")
    [file] = files(run)
    assert wandb_file.exit_code(file) == 0
    config = {entry.key: json.loads(entry.value_json) for entry in wandb_file.begun(file).config.update}
    assert (config["seed"], config["log"]["wandb"]["use"], config["encoder"]["num_layers"]) == (11, True, 2)
    assert list(home.rglob("*")) == []


def test_a_stopped_and_a_killed_run_go_on_in_one_record(work: Path, data_cache: Path, home: Path) -> None:
    changes = {
        "log.wandb": {"use": True, "mode": "offline"},
        "run.dir": str(work / "run"),
        "data.cache": str(data_cache),
    }
    (config := work / "tiny.json").write_text(json.dumps(tiny(changes)))
    log, run = work / "log", work / "run"
    codes = []
    for part, (goal, number) in enumerate([(4, signal.SIGTERM), (30, signal.SIGKILL)], 1):
        process = start("train", config, "--resume", log=log, HOME=str(home))
        wait_for(lambda goal=goal: lines(run / "metrics.jsonl") >= goal, process, log)
        os.kill(process.pid, number)
        finish(process)
        codes.append(closed(run, part))
    assert quincunx("train", config, "--resume", log=log, HOME=str(home)) == 0, log.read_text()
    assert codes == [1, 1]
    assert closed(run, 3) == 0
    assert recorded(run) == named(run / "metrics.jsonl")
    assert len({wandb_file.begun(file).run_id for file in files(run)}) == 1
