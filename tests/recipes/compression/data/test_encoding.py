"""Encoding in several processes: the same ids in the same order."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quincunx.errors import DataError, RunError
from quincunx.recipes.compression.data import encoding
from quincunx.recipes.compression.data.encoding import blocks, encode, usable_processes
from quincunx.recipes.compression.data.tokenizer import state, train_tokenizer

STATE = state(train_tokenizer((), "byte", 0))
TEXTS = [f"{n} " * (n % 7) + "ü" for n in range(1500)]


def ids(texts: list[str], processes: int) -> list[list[int]]:
    return [each.tolist() for each in encode(iter(texts), STATE, processes)]


@pytest.mark.parametrize("count", [0, 1, 300, 1500])
def test_any_number_of_processes_gives_the_same(count: int) -> None:
    alone = ids(TEXTS[:count], 1)
    assert [len(each) for each in alone] == [len(text.encode()) for text in TEXTS[:count]]
    assert ids(TEXTS[:count], 3) == alone


def test_blocks_end_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "AT_ONCE", 3)
    monkeypatch.setattr(encoding, "CHARACTERS", 5)
    assert list(blocks(["a", "b", "c", "d", "eeeee", "f", "gggg", "hhhhhh"])) == [
        ["a", "b", "c"], ["d", "eeeee"], ["f", "gggg"], ["hhhhhh"],
    ]  # fmt: skip


def test_texts_are_read_as_they_are_wanted() -> None:
    read: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(100_000):
            read.append(number)
            yield "text"

    for processes in (1, 2):
        read.clear()
        stream = encode(texts(), STATE, processes)
        next(stream)
        assert len(read) <= (processes + 1) * encoding.AT_ONCE
        stream.close()


def test_what_goes_wrong_in_reading_comes_through() -> None:
    def texts() -> Iterator[str]:
        yield from TEXTS[:700]
        raise DataError("a bad file")

    for processes in (1, 2):
        with pytest.raises(DataError, match="a bad file"):
            list(encode(texts(), STATE, processes))


def test_a_process_that_ends_says_why() -> None:
    with pytest.raises(RunError, match=r"a process that encodes texts ended early \(exit code 1\): .*Model missing"):
        list(encode(iter(TEXTS), "{}", 2))


def test_scripts_without_a_guard_work(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from quincunx.recipes.compression.data.encoding import encode\n"
        "from quincunx.recipes.compression.data.tokenizer import state, train_tokenizer\n"
        "made = state(train_tokenizer((), 'byte', 0))\n"
        "print(sum(len(ids) for ids in encode(['ab', 'cde'] * 300, made, 2)))\n"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert ran.stdout == "1500\n"


def test_no_more_processes_than_cores() -> None:
    assert usable_processes(1) == 1
    assert 1 <= usable_processes(10_000) < 10_000
