"""Stands for `quincunx train` in tests of many runs: a script that keeps a run folder as the real one does, in no time.

It takes the lock, saves after every update, goes on from there with --resume, stops at budget.stop_at, on SIGTERM and
on a file STOP, and measures a value that is a function of the run's settings and the update alone. Every update of
every start is noted in `trained.jsonl`, so that a test sees what was trained twice, or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from quincunx.errors import RunError
from quincunx.runs import RunFolder

METRIC = "dev/accuracy"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--pause", type=float, default=0.002)
    options = parser.parse_args()
    config = YAML(typ="safe", pure=True).load(Path(options.file).read_text(encoding="utf-8"))
    stop_at = next((int(text.partition("=")[2]) for text in options.changes), None)
    folder = RunFolder(Path(config["run"]["dir"]))
    folder.path.mkdir(parents=True, exist_ok=True)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        with folder:
            return train(folder, config, stop_at, options.pause, asked)
    except RunError as error:
        print(f"quincunx: {error}", file=sys.stderr)
        return 1


def train(folder: RunFolder, config: dict[str, Any], stop_at: int | None, pause: float, asked: list[int]) -> int:
    rate, total = config["optimizer"]["learning_rate"], config["budget"]["updates"]
    end = min(total, stop_at or total)
    state = folder.path / "checkpoint.json"
    saved = (
        json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {"update": 0, "length": 0, "best": None}
    )
    put(folder.config, config)
    put(folder.plan, {"total_updates": total, "stop_at": end})
    folder.stop.unlink(missing_ok=True)

    def summary(said: str, reason: str) -> None:
        known = {"state": said, "update": saved["update"], "updates": end, "best": saved["best"], "reason": reason}
        put(folder.summary, known)

    with folder.open_lines("metrics.jsonl") as metrics, (folder.path / "trained.jsonl").open("a") as trained:
        metrics.truncate(saved["length"])
        summary("running", "")
        while saved["update"] < end:
            time.sleep(pause)
            update = saved["update"] + 1
            if reason := broken(folder, config, rate, update):
                summary("failed", reason)
                return 1
            value = accuracy(rate, update, config.get("seed", 0))
            metrics.append({"update": update, "split": "dev", "name": "accuracy", "value": value})
            trained.write(json.dumps([os.getpid(), update]) + "\n")
            trained.flush()
            best = saved["best"]
            if best is None or value > best["value"]:
                best = {"metric": METRIC, "value": value, "update": update}
            saved.update(update=update, length=metrics.length(), best=best)
            put(state, saved)
            if asked or folder.stop.exists():
                word = "SIGTERM" if asked else "the file STOP"
                summary("interrupted", f"saved and stopped by {word}; --resume goes on")
                return 1
    summary("finished", "trained to the end" if end == total else "reached budget.stop_at")
    return 0


def put(path: Path, value: Any) -> None:
    """Write a file whole; a machine that loses its power is none of these tests' business."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.writing")
    beside.write_text(json.dumps(value), encoding="utf-8")
    beside.replace(path)


def broken(folder: RunFolder, config: dict[str, Any], rate: float, update: int) -> str | None:
    """Fail as the config's note asks: `diverge`, `fail N` times at update 3, or be killed `kill N` times."""
    word, _, count = config["run"].get("note", "").partition(" ")
    if word == "diverge" and rate > 0.05 and update == 3:
        return "NonFiniteError: loss of update 3 is not finite"
    if word in ("fail", "kill") and update == 3:
        marks = folder.path / "failed"
        before = len(marks.read_text()) if marks.is_file() else 0
        if before < int(count):
            marks.write_text("x" * (before + 1))
            if word == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return "DataError: row 7 cannot be read"
    return None


def accuracy(rate: float, update: int, seed: int) -> float:
    """The best learning rate is 0.01; more updates are better."""
    return round(1 / (1 + abs(rate - 0.01) * 50) * (1 - 0.5**update) - seed % 7 * 1e-4, 6)


if __name__ == "__main__":
    sys.exit(main())
