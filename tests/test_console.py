"""What is shown of a run: plain lines in a pipe, a live bar on a terminal."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from quincunx.console import ConsoleCallback, Terminal, duration, format_line, progress_of
from quincunx.engine.events import Progress
from quincunx.metrics.record import Evaluation
from toys import plan

SPEED = {
    "examples_per_second": 1234.5,
    "tokens_per_second": 98765.4,
    "memory_bytes": 3.0 * 2**30,
    "seconds_left": 200.0,
}
VALUES = {"loss": 2.25, "classes": 2.0, "learning_rate": 0.001, "gradient_norm": 1.5}


def line(**changes: dict[str, float]) -> Progress:
    return Progress(50, 200, 0.25, **{"values": VALUES, "speed": SPEED, **changes})


def test_a_line_of_the_log():
    assert format_line(line()) == (
        "update 50/200 (epoch 0.25): loss 2.2500, classes 2.0000, gradient 1.5, rate 0.001, 1,234 examples/s, "
        "98,765 tokens/s, 3,072 MiB, 3 min 20 s left"
    )


def test_what_is_not_known_is_left_out():
    found = format_line(
        line(
            values={"loss": math.nan},
            speed={"examples_per_second": 1.0, "memory_bytes": 0.0, "seconds_left": math.nan},
        )
    )
    assert found == "update 50/200 (epoch 0.25): loss nan, 1 examples/s, 0 MiB"


def test_details_of_a_figure_stay_off_the_line_and_small_ones_are_figures():
    values = {"loss": 2.25, "z": 1.23456e-5, "z/encoder.layer.0": 1.0, "zero": 0.0}
    assert ": loss 2.2500, z 1.23e-05, zero 0.0000, 1,234 examples/s" in format_line(line(values=values))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def show(console: Console) -> None:
    callback = ConsoleCallback(console)
    callback.start(plan(stop_at=200), 0, ["a note [with brackets]"])
    callback.update(50)
    callback.log(line())
    callback.evaluation(50, "dev", Evaluation({"accuracy": 0.5}, notes=["dev accuracy 50 %"]))
    callback.evaluation(50, "extra", Evaluation({"accuracy": 0.5}))
    callback.checkpoint(50, Path("c"), True)
    callback.end(200, "finished")


def test_a_pipe_gets_plain_lines_of_any_length():
    out = io.StringIO()
    show(Terminal(file=out, width=40, soft_wrap=True))
    assert out.getvalue().splitlines() == [
        "note: a note [with brackets]",
        format_line(line()),
        "update 50: dev accuracy 50 %",
        "update 50: extra accuracy 0.5",
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_gets_a_bar_with_everything_on_it(width):
    out = io.StringIO()
    show(Terminal(file=out, width=width, force_terminal=True, soft_wrap=True))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "update 50: dev accuracy 50 %" in shown
    assert "50/200" in shown
    words = " ".join(shown.split())
    for part in ("loss 2.2500,", "rate 0.001,", "examples/s,", "tokens/s,", "3,072 MiB,"):
        assert part in words, part
    assert re.search(r"3 min 20( s)?", words)
    assert "…" not in shown, "nothing may be cut off"
    assert out.getvalue().endswith("\x1b[2K"), "the bar is gone in the end"


def test_output_that_takes_no_more_is_left_alone():
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    show(Terminal(file=Full(), width=80))
    show(Terminal(file=Full(), width=80, force_terminal=True))
    progress_of(Terminal(file=Full()))(1, 2)


def test_the_bar_goes_away_when_the_run_breaks_off():
    out = io.StringIO()
    callback = ConsoleCallback(Terminal(file=out, width=80, force_terminal=True))
    callback.start(plan(stop_at=200), 0, [])
    callback.error(ValueError())
    assert "\x1b[?25h" in out.getvalue(), "the cursor is back"
    callback.error(ValueError())


def test_data_in_preparation_is_said_ten_times_at_most():
    out = io.StringIO()
    show = progress_of(Terminal(file=out))
    for done in range(0, 1001, 7):
        show(done, 1001)
    show(1001, 1001)
    lines = out.getvalue().splitlines()
    assert len(lines) <= 11
    assert lines[0] == "preparing data: 0 of 1,001 examples"
    assert lines[-1] == "preparing data: 1,001 of 1,001 examples"
    progress_of(Terminal(file=out))(0, 0)
