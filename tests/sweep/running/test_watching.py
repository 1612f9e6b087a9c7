"""What a run's folder says of a leg, and what is made of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from quincunx.sweep.records import RunRecord, SweepRecord, TrialRecord
from quincunx.sweep.running.outcome import Exit, Outcome, judge, outcome_of
from quincunx.sweep.running.watching import Curve, Look, last_words, look, peak_of_device

RUN = RunRecord(0, 0, 0, 1, "folder", "hash", state="running", target=4, total=10, values={4: 0.5})


def lines(path: Path, *rows: tuple[int, str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        for update, metric, value in rows:
            split, name = metric.split("/")
            file.write(json.dumps({"update": update, "split": split, "name": name, "value": value}) + "\n")


@pytest.mark.parametrize(
    ("goal", "best", "expected"),
    [
        ("max", True, {1: 0.2, 2: 0.2, 3: 0.5, 4: 0.5}),
        ("min", True, {1: 0.2, 2: 0.1, 3: 0.1, 4: 0.1}),
        ("max", False, {1: 0.2, 2: 0.1, 3: 0.5, 4: 0.3}),
    ],
)
def test_the_curve_of_a_metric(tmp_path: Path, goal: str, best: bool, expected: dict[int, float]) -> None:
    path = tmp_path / "metrics.jsonl"
    curve = Curve(path, "dev/accuracy", goal, best=best)
    assert not curve.poll() and curve.value is None
    lines(path, (1, "dev/accuracy", 0.2), (1, "dev/loss", 9.0), (2, "dev/accuracy", 0.1))
    assert curve.poll() and not curve.poll()
    lines(path, (3, "dev/accuracy", 0.5), (4, "dev/accuracy", 0.3), (5, "train/loss", 1.0))
    assert curve.poll() and curve.values == expected and curve.value == expected[4]
    assert curve.update == 5 and curve.names == {"dev/accuracy", "dev/loss", "train/loss"}


def test_a_curve_whose_file_is_cut_back_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    curve = Curve(path, "dev/accuracy", "max", best=True)
    lines(path, (1, "dev/accuracy", 0.1))
    kept = path.read_bytes()
    lines(path, (2, "dev/accuracy", 0.9))
    assert curve.poll() and curve.value == 0.9
    path.write_bytes(kept)
    assert curve.poll() and curve.values == {1: 0.1}


def test_half_a_line_waits_and_what_is_no_number_never_is_the_best(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    curve = Curve(path, "dev/accuracy", "max", best=True)
    lines(path, (1, "dev/accuracy", "nan"))
    whole = json.dumps({"update": 2, "split": "dev", "name": "accuracy", "value": 0.3}) + "\n"
    with path.open("a") as file:
        file.write(whole[:20])
    assert curve.poll() and curve.value is not None and math.isnan(curve.value)
    with path.open("a") as file:
        file.write(whole[20:])
    assert curve.poll() and curve.value == 0.3


def _folder(path: Path, state: str, update: int, updates: int, total: int) -> Path:
    path.mkdir(exist_ok=True)
    summary = {"state": state, "update": update, "updates": updates, "reason": "why"}
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "plan.json").write_text(json.dumps({"total_updates": total}))
    return path


@pytest.mark.parametrize(
    ("said", "target", "limit", "expected"),
    [
        (("finished", 4, 4, 10), 4, None, (10, True, False)),
        (("finished", 4, 4, 10), 8, None, (10, False, False)),  # of an earlier leg
        (("finished", 4, 4, 10), None, None, (10, False, False)),
        (("finished", 10, 10, 10), None, 50, (10, True, True)),
        (("finished", 6, 6, 10), None, 6, (6, True, True)),  # the config's own budget.stop_at
        (("finished", 10, 10, 10), 40, None, (10, True, True)),  # shorter than its rung
        (("finished", 3, 4, 10), 4, None, (10, True, True)),  # evaluate.patience
        (("interrupted", 4, 4, 10), 4, None, (10, False, False)),
        (("running", 4, 4, 10), 4, None, (10, False, False)),
    ],
)
def test_whether_a_leg_is_trained(tmp_path: Path, said: Any, target: Any, limit: Any, expected: Any) -> None:
    found = look(_folder(tmp_path / "run", *said), target, limit)
    assert (found.total, found.complete, found.at_end) == expected


def test_a_folder_that_is_not_there_or_damaged_says_nothing(tmp_path: Path) -> None:
    assert look(tmp_path / "nowhere", 4, 10) == Look({}, 10, False, False)
    folder = _folder(tmp_path / "run", "finished", 4, 4, 10)
    (folder / "summary.json").write_text("{")
    assert look(folder, 4, 10) == Look({}, 10, False, False)


def _look(state: str = "", reason: str = "", *, complete: bool = False, at_end: bool = False) -> Look:
    return Look({"state": state, "reason": reason} if state else {}, 10, complete, at_end)  # pyright: ignore


@pytest.mark.parametrize(
    ("found", "ended", "state", "attempts", "reason"),
    [
        (_look("finished", "why", complete=True), Exit(0, ""), "paused", 0, "why"),
        (_look("finished", "why", complete=True, at_end=True), None, "done", 0, "why"),
        # it died while it wrote its report
        (_look("finished", "why", complete=True, at_end=True), Exit(-9, ""), "done", 0, "why"),
        (_look("failed", "DataError: x"), Exit(1, "text"), "waiting", 1, "DataError: x"),
        (_look("failed", "of before"), Exit(1, "text", wrote=False), "waiting", 1, "text"),
        (_look("failed", "NonFiniteError: x"), Exit(1, ""), "failed", 1, "NonFiniteError: x"),
        (_look("running"), Exit(-11, "text"), "waiting", 1, "its process was ended by SIGSEGV:\ntext"),
        (_look("running"), Exit(-9, ""), "waiting", 1, "its process was ended by SIGKILL, perhaps for want of memory"),
        (_look(), Exit(2, "quincunx: no such setting"), "refused", 0, "quincunx: no such setting"),
        (_look(), Exit(0, ""), "waiting", 1, "its process left with exit code 0"),
        (_look("interrupted", "by SIGTERM"), Exit(1, "", asked=True), "waiting", 0, ""),
        (_look("interrupted", "by SIGTERM"), Exit(1, ""), "waiting", 1, "by SIGTERM"),  # by somebody else
        (_look(), None, "waiting", 0, ""),
    ],
)
def test_what_is_made_of_it(found: Look, ended: Exit | None, state: str, attempts: int, reason: str) -> None:
    run = judge(RUN, found, ended, retries=1)
    assert (run.state, run.attempts, run.reason) == (state, attempts, reason)


def test_attempts_end() -> None:
    once = judge(RUN, _look(), Exit(1, "x"), retries=1)
    assert judge(once, _look(), Exit(1, "x"), retries=1).state == "failed"
    assert judge(RUN, _look(), Exit(1, "x"), retries=0).state == "failed"
    assert judge(once, _look("finished", complete=True), Exit(0, ""), retries=1).attempts == 0


def test_a_run_that_never_measured_the_metric_says_so() -> None:
    blind = RunRecord(0, 0, 0, 1, "folder", "hash")
    found = _look("finished", "trained to the end", complete=True, at_end=True)
    assert judge(blind, found, Exit(0, ""), 1, "it never measured dev/x").reason == "it never measured dev/x"


def test_the_last_words_are_those_of_the_last_start(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("first start\n")
    since = log.stat().st_size
    assert last_words(log, since) == ""
    log.write_text("first start\n" + "\n".join(f"line {number}\n" for number in range(9)))
    assert last_words(log, since, lines=2) == "line 7\nline 8"
    assert last_words(tmp_path / "none", 0) == ""


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (
            "note: data.path is unset\nt.yaml:9:3: warning: `a` has no effect\n    9 | a\n        ^\n    leave a out\n"
            "data.path: absent does not exist\nthere is no such folder\n",
            "data.path: absent does not exist\nthere is no such folder",
        ),
        (
            "t.yaml:1:2: error: unknown key `b`\n    1 | b\n        ^\n    did you mean `c`?\n\n"
            "1 error; nothing was run or written.\n",
            "t.yaml:1:2: error: unknown key `b`\n    1 | b\n        ^\n    did you mean `c`?",
        ),
        (
            "update 2/6: loss 2.4\nTraceback (most recent call last):\n"
            + '  File "x", line 1\n    f()\n' * 6
            + "Sad: why\n",
            "Sad: why",
        ),
        ("update 2/6: loss 2.4\nupdate 4/6: loss 2.3\n", "update 2/6: loss 2.4\nupdate 4/6: loss 2.3"),
    ],
)
def test_the_last_words_begin_with_what_went_wrong(tmp_path: Path, printed: str, words: str) -> None:
    (tmp_path / "log.txt").write_text(printed)
    assert last_words(tmp_path / "log.txt", 0) == words


def test_memory_of_a_device_is_its_peak(tmp_path: Path) -> None:
    assert peak_of_device(tmp_path) is None
    rows = [{"memory_bytes": 5.0}, {"memory_bytes": 7.0}, {"other": 9.0}, {"memory_bytes": "nan"}]
    (tmp_path / "timings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert peak_of_device(tmp_path) == 7


def test_the_exit_code_tells_of_failures_and_stops() -> None:
    runs = [RunRecord(number, 0, number, 0, "", "", state=state) for number, state in enumerate(("done", "refused"))]
    record = SweepRecord([TrialRecord(0, {}, {}, runs)])
    assert outcome_of(record, "end", stopped=False) == Outcome("end", False, {"done": 1, "refused": 1})
    assert outcome_of(record, "end", stopped=False).exit_code == 0
    assert outcome_of(record, "end", stopped=True).exit_code == 1
    assert Outcome("end", False, {"failed": 1}).exit_code == 1
