"""The process in which wandb's client works: orders come in as lines of JSON, remarks go out the same way.

Run as a script (`wandb_client.py LOG STOP`) by `wandb.py`; it needs nothing but wandb. Orders: `settings` with
`config`, first; `update` with `split` and `values`; `finish` with an exit code. Where the input just ends, training was
killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

QUIET: dict[str, Any] = {
    "console": "off",
    "silent": True,
    "resume": "allow",
    "symlink": False,
    "use_dot_wandb": False,
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "save_code": False,
    "program": "quincunx",
    "label_disable": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""Nothing of the process is captured: its run folder has machine, versions and code, and this is not that process."""

SAY = Callable[[str, bool], None]


def main() -> None:
    """Follow the orders on standard input to their end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # training gets them, too, and says how the run ended
    log = Path(sys.argv[1])
    source, say = _streams(log)
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    # read at once, so that training never waits for wandb
    threading.Thread(target=_read, args=(source, orders), daemon=True).start()
    first = orders.get()
    if "settings" not in first:
        return
    # a client before this one, of a part of the run that was killed, may still have something to record
    fcntl.flock(1, fcntl.LOCK_EX)
    wandb = import_module("wandb")
    run = _begin(wandb, first["settings"], first["config"], Path(sys.argv[2]), say)
    exit_code = _follow(run, orders, Record(log.with_name("recorded.json")), say)
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        say(f"not everything was uploaded in time; `wandb sync {Path(run.dir).parent}` does the rest", True)
    wandb.teardown(exit_code=exit_code)


def _begin(wandb: Any, wanted: Mapping[str, Any], config: Mapping[str, Any], stop: Path, say: SAY) -> Any:
    """Return the run; offline where the service cannot be had, so that nothing is lost."""
    known = wandb.Settings.model_fields
    given = {**QUIET, **wanted, "stop_fn": stop.touch}  # the button in its page, for what a STOP file is here
    given = {name: value for name, value in given.items() if name in known}
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        given["init_timeout"] = 60.0
    try:
        run = wandb.init(settings=wandb.Settings(**given), config=dict(config))
    except Exception as error:
        if given["mode"] != "online":
            raise
        wandb.teardown()  # its service would not begin a second run of this id
        given["mode"] = "offline"
        run = wandb.init(settings=wandb.Settings(**given), config=dict(config))
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        say(f"not online: {text}. It is recorded offline: `wandb sync {Path(run.dir).parent}` uploads it", True)
    else:
        if given["mode"] == "online":
            Path(run.dir).parent.with_name("url.txt").write_text(f"{run.url}\n", encoding="utf-8")
        say(run.url if given["mode"] == "online" else f"offline in {Path(run.dir).parent}", False)
    return run


class Record:
    """What was recorded so far, kept in a file: wandb takes nothing back, and must get nothing twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or lost with the machine
            found = {"step": 0, "splits": {}}
        self.step: int = found["step"]
        self.splits: dict[str, int] = found["splits"]
        """The last update recorded, by split."""
        self.before = dict(self.splits)
        """The same, as it was when this part of the run began."""

    def has(self, update: int, split: str) -> bool:
        """Tell whether an earlier part of the run recorded the values of a split after an update."""
        return update <= self.before.get(split, -1)

    def add(self, update: int, split: str) -> None:
        """Note that it is recorded now."""
        self.step = max(self.step, update)
        self.splits[split] = max(update, self.splits.get(split, -1))
        self.path.write_text(json.dumps({"step": self.step, "splits": self.splits}), encoding="utf-8")


def _follow(run: Any, orders: queue.SimpleQueue[dict[str, Any]], record: Record, say: SAY) -> int:
    """Log until the run ends; return its exit code."""
    failed = False
    while True:
        order = orders.get()
        if "finish" in order:
            return order["finish"]
        update, split = order["update"], order["split"]
        if record.has(update, split):
            continue
        values = {f"{split}/{name}": value for name, value in order["values"].items()}
        if update < record.step:
            values[f"{split}/update"] = update
        try:
            run.log(values, step=max(update, record.step))
            record.add(update, split)
        except Exception as error:
            if not failed:
                say(f"values are lost: {type(error).__name__}: {error}", True)
            failed = True


def _read(source: BinaryIO, orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in source:
        orders.put(json.loads(line))
    orders.put({"finish": 1})


def _streams(log: Path) -> tuple[BinaryIO, SAY]:
    """Return the input and a function that answers; whatever wandb itself prints goes to a file."""
    source = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing, file = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor, number in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(descriptor, number)
    os.close(nothing)
    os.close(file)

    def say(text: str, warning: bool) -> None:
        try:
            answers.write(json.dumps({"text": text, "warning": warning}).encode() + b"\n")
        except OSError:  # nobody listens any more
            return

    return source, say


if __name__ == "__main__":
    main()
