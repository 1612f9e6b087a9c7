"""Files of a run: whole or not at all, line by line, the same bytes for the same values."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import RunError
from quincunx.runs import (
    LineFile,
    RunFolder,
    as_number,
    read_json,
    read_lines,
    read_metrics,
    to_json,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_with(number: int) -> Any:
    def failing(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return failing


class TestAtomicWriting:
    def test_replaces_the_whole_content(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        folder.write_text("config.yaml", "old and much longer")
        assert folder.write_text("config.yaml", "né") == folder.config
        assert folder.config.read_text(encoding="utf-8") == "né"
        assert names(tmp_path) == ["config.yaml"]

    @pytest.mark.parametrize("call", ["write", "fsync", "replace"])
    def test_full_disk_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        folder = RunFolder(tmp_path)
        folder.write_json("summary.json", {"update": 1})
        before = folder.summary.read_bytes()
        owner = Path if call == "replace" else os
        monkeypatch.setattr(owner, call, fail_with(errno.ENOSPC))
        with pytest.raises(RunError, match=r"summary\.json cannot be written: No space left.*MiB free"):
            folder.write_json("summary.json", {"update": 2})
        monkeypatch.undo()
        assert folder.summary.read_bytes() == before
        assert names(tmp_path) == ["summary.json"]

    def test_interrupted_writing_removes_what_was_begun(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "plan.json", b"{}")
        assert names(tmp_path) == []

    def test_folders_on_the_way_are_made(self, tmp_path: Path) -> None:
        assert RunFolder(tmp_path).write_bytes("evaluations/dev.json", b"{}").read_bytes() == b"{}"

    @pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
    def test_names_never_lead_out_of_the_folder(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match="leads out"):
            RunFolder(tmp_path).write_bytes(name, b"")

    def test_a_folder_in_the_way_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "plan.json").mkdir()
        with pytest.raises(RunError, match=r"plan\.json cannot be written: Is a directory"):
            write_atomically(tmp_path / "plan.json", b"{}")
        assert names(tmp_path) == ["plan.json"]


class TestJson:
    @given(st.floats())
    def test_floats_come_back_bit_by_bit(self, value: float) -> None:
        back = as_number(json.loads(to_json({"value": value}))["value"])
        assert back is not None
        assert (math.isnan(back) and math.isnan(value)) or (
            back == value and math.copysign(1, back) == math.copysign(1, value)
        )

    def test_is_json_by_the_book(self) -> None:
        data = to_json({"a": [math.nan, -math.inf], 3: (1, None, True), "path": Path("x/y"), "text": "\ud800 né"})
        parsed = json.loads(data.decode("utf-8"), parse_constant=lambda word: pytest.fail(f"not JSON: {word}"))
        assert parsed == {"a": ["nan", "-inf"], "3": [1, None, True], "path": "x/y", "text": "\ud800 né"}

    def test_scalars_of_numpy_become_numbers(self) -> None:
        assert to_json([np.float32(0.5), np.int64(3), np.bool_(True), np.array(2.0)]) == b"[0.5, 3, true, 2.0]"

    @pytest.mark.parametrize("value", [object(), {1.5: 1}, {"a": {1, 2}}, np.zeros(2)])
    def test_other_things_are_refused(self, value: Any) -> None:
        with pytest.raises(TypeError):
            to_json(value)

    @pytest.mark.parametrize("value", ["0.5", None, True, [], "Infinity", {}])
    def test_what_is_no_number_is_none(self, value: Any) -> None:
        assert as_number(value) is None

    @pytest.mark.parametrize("content", [b"{", b"\xff", b"", b"[" * 100_000])
    def test_damaged_files_are_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "plan.json").write_bytes(content)
        with pytest.raises(RunError, match=r"plan\.json cannot be read"):
            read_json(tmp_path / "plan.json")


class TestLineFile:
    def test_appends_and_reads_back(self, tmp_path: Path) -> None:
        path = tmp_path / "skipped_rows.jsonl"
        with LineFile(path) as file:
            file.append({"row": 1, "reason": "line\nbreak"}, {"row": 2})
        with LineFile(path) as file:
            file.append({"row": 3})
            assert file.length() == path.stat().st_size
        assert [line["row"] for line in read_lines(path)] == [1, 2, 3]

    def test_a_line_is_there_as_soon_as_it_was_appended(self, tmp_path: Path) -> None:
        with LineFile(tmp_path / "a.jsonl") as file:
            file.append({"row": 1})
            assert list(read_lines(tmp_path / "a.jsonl")) == [{"row": 1}]

    def test_cutting_back_and_going_on_gives_the_undisturbed_file(self, tmp_path: Path) -> None:
        lines = [{"update": i, "value": 1 / (i + 1)} for i in range(10)]
        with LineFile(tmp_path / "whole.jsonl") as whole:
            whole.append(*lines)
        with LineFile(tmp_path / "cut.jsonl") as file:
            file.append(*lines[:4])
            length = file.length()
            file.append(*lines[4:7])
        with LineFile(tmp_path / "cut.jsonl") as file:
            file.truncate(length)
            file.append(*lines[4:])
        assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    def test_cutting_to_more_than_there_is_is_refused(self, tmp_path: Path) -> None:
        with LineFile(tmp_path / "metrics.jsonl") as file:
            file.append({"row": 1})
            with pytest.raises(RunError, match=r"metrics\.jsonl has 11 bytes, but had 12"):
                file.truncate(12)
            with pytest.raises(RunError, match="no end of a line at byte 5"):
                file.truncate(5)
            assert file.length() == 11
            file.truncate(0)
            assert file.length() == 0

    @pytest.mark.parametrize("tail", [b'{"row": 2', b"x" * 10_000])
    def test_a_line_cut_by_a_crash_is_no_line(self, tmp_path: Path, tail: bytes) -> None:
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(b'{"row": 1}\n' + tail)
        assert list(read_lines(path)) == [{"row": 1}]
        with LineFile(path) as file:
            file.append({"row": 3})
        assert path.read_bytes() == b'{"row": 1}\n{"row": 3}\n'

    def test_a_file_of_one_cut_line_is_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"y" * 5000)
        with LineFile(tmp_path / "a.jsonl") as file:
            assert file.length() == 0

    def test_full_disk_keeps_the_whole_lines_only(self, tmp_path: Path) -> None:
        # A file-size limit stops the kernel in the middle of a line, as a full disk does.
        program = """
import resource, sys
from pathlib import Path
from quincunx.errors import RunError
from quincunx.runs import LineFile
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
file = LineFile(Path(sys.argv[1]))
for row in range(1000):
    try:
        file.append({"row": row, "more": "x" * 40}, {"row": -row})
    except RunError as error:
        print(row, error)
        break
file.append({"row": "end"})
"""
        path = tmp_path / "timings.jsonl"
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
        failed_at = int(done.stdout.split()[0])
        assert "timings.jsonl cannot be written: File too large" in done.stdout
        rows = [line["row"] for line in read_lines(path)]
        assert rows == [row for pair in range(failed_at) for row in (pair, -pair)] + ["end"]

    def test_a_folder_in_the_way_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="cannot be written: Is a directory"):
            LineFile(tmp_path)


class TestReading:
    def test_no_file_yet_has_no_lines(self, tmp_path: Path) -> None:
        assert read_metrics(tmp_path / "metrics.jsonl") == []

    def test_metrics_come_back_as_numbers(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        path.write_text(
            '{"update": 1, "split": "train", "name": "loss", "value": "nan"}\n'
            '{"update": 2, "split": "dev", "name": "accuracy", "value": 1}\n{"update": 3, "sp'
        )
        rows = read_metrics(path)
        assert math.isnan(rows[0]["value"])
        assert rows[1] == {"update": 2, "split": "dev", "name": "accuracy", "value": 1.0}
        assert isinstance(rows[1]["value"], float)
        assert len(rows) == 2

    @pytest.mark.parametrize(
        "line",
        [
            "{]",
            "[1]",
            '{"update": 1.5, "split": "a", "name": "b", "value": 1}',
            '{"update": 1, "split": "a", "name": "b"}',
        ],
    )
    def test_a_damaged_line_is_named_with_its_number(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "metrics.jsonl"
        good = '{"update": 1, "split": "train", "name": "loss", "value": 1.0}'
        path.write_text(f"{good}\n{line}\n{good}\n")
        with pytest.raises(RunError, match=r"metrics\.jsonl:2"):
            read_metrics(path)
