"""Kept evaluations are whole or not there, and say in plain JSON what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import RunError, UsageError
from quincunx.metrics.intervals import bootstrap_mean
from quincunx.metrics.record import Evaluation
from quincunx.report.kept import place_for, write

VALUES = {"map": {"b": 0.1, "a": 0.7, "c": 0.2}, "first_rank": {"b": 4.0, "a": 1.0, "c": math.nan}}


def keep(path: Path, fingerprint: str = "f", **values: float) -> None:
    evaluation = Evaluation({"map": 1 / 3, "gone": math.nan}, notes=["said"], values=VALUES)
    with place_for(path, fingerprint) as folder:
        write(folder, evaluation, {"data": fingerprint, **values}, [{"line": 3}], {"more.txt": lambda: iter("x\ny\n")})


def test_everything_is_there_in_plain_json(tmp_path):
    keep(tmp_path / "kept", documents=9)
    metrics = json.loads((tmp_path / "kept" / "metrics.json").read_text())
    interval = bootstrap_mean([0.1, 0.7, 0.2])
    assert metrics["mean"] == {"map": float(np.cumsum([0.7, 0.1, 0.2])[-1]) / 3, "first_rank": 2.5}
    assert metrics["intervals"]["map"] == {"low": interval.low, "high": interval.high}
    assert (metrics["queries"], metrics["data"], metrics["documents"], metrics["skipped_rows"]) == (3, "f", 9, 1)
    assert metrics["scalars"] == {"map": 1 / 3, "gone": None}
    assert metrics["notes"] == ["said"]
    rows = (tmp_path / "kept" / "queries.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == [
        {"query": "a", "map": 0.7, "first_rank": 1.0},
        {"query": "b", "map": 0.1, "first_rank": 4.0},
        {"query": "c", "map": 0.2, "first_rank": None},
    ]
    assert (tmp_path / "kept" / "skipped_rows.jsonl").read_text() == '{"line": 3}\n'
    assert (tmp_path / "kept" / "more.txt").read_text() == "x\ny\n"


def test_what_breaks_off_leaves_what_was_there(tmp_path):
    keep(tmp_path / "kept")
    before = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    for place in ("kept", "new"):
        with pytest.raises(ZeroDivisionError), place_for(tmp_path / place, "f") as folder:
            (folder / "metrics.json").write_text("half")
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == before


def test_the_same_data_replaces_and_nothing_else_does(tmp_path):
    keep(tmp_path / "kept", documents=1)
    keep(tmp_path / "kept", documents=2)
    assert json.loads((tmp_path / "kept" / "metrics.json").read_text())["documents"] == 2
    with pytest.raises(UsageError, match="other data"):
        keep(tmp_path / "kept", "g")
    (tmp_path / "empty").mkdir()
    keep(tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        keep(tmp_path / "file")
    with pytest.raises(RunError, match="cannot be written"):
        keep(tmp_path / "file" / "below")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="no evaluation"):
        keep(tmp_path / "full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full", "kept"]
