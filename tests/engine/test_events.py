"""Wishes from outside: signals and files."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from loops import Recorder, build
from quincunx.engine.events import Callback, Requests


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_update_at_hand(tmp_path, number):
    heard: list[str] = []

    class Sender(Callback):
        def update(self, update: int) -> None:
            if update == 3:
                os.kill(os.getpid(), number)

        def stopping(self, reason: str) -> None:
            heard.append(reason)

    sender = Sender()
    before = signal.getsignal(number)
    loop = build(tmp_path, callbacks=[sender])
    loop.requests = Requests(tmp_path, [sender])
    with loop.requests:
        assert loop.run() == signal.Signals(number).name
    assert heard == [signal.Signals(number).name]
    assert [path.name[-1] for path in loop.checkpoints.all()] == ["3"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_closed_terminal_saves_and_stops_except_under_nohup(tmp_path, before):
    previous = signal.signal(signal.SIGHUP, before)
    try:
        requests = Requests(tmp_path)
        with requests:
            signal.raise_signal(signal.SIGHUP)
            assert requests.stop() == (None if before is signal.SIG_IGN else "SIGHUP")
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    class Impatient(Callback):
        def update(self, update: int) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    loop = build(tmp_path, callbacks=[Impatient()])
    with loop.requests, pytest.raises(KeyboardInterrupt):
        loop.run()
    assert loop.checkpoints.all() == []


def test_a_wish_to_save_is_granted_once(tmp_path):
    class Sender(Recorder):
        def update(self, update: int) -> None:
            if update == 2:
                os.kill(os.getpid(), signal.SIGUSR1)
            if update == 5:
                (tmp_path / "SAVE").touch()

    sender = Sender()
    loop = build(tmp_path, callbacks=[sender])
    with loop.requests:
        assert loop.run() == "finished"
    assert sender.of("checkpoint") == [2, 5, 8]
    assert not (tmp_path / "SAVE").exists()


def test_outside_the_main_thread_files_still_work(tmp_path):
    (tmp_path / "STOP").touch()
    loop = build(tmp_path)
    found: list[str] = []

    def work() -> None:
        with loop.requests:
            found.append(loop.run())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["the file STOP"]
    assert json.loads((loop.checkpoints.path(1) / "progress.json").read_text())["update"] == 1
