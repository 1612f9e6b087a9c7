"""What tests of whole runs share: one cache of generated data, the command line in this process, and a finished run."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner import tiny


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@pytest.fixture(scope="session")
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of generated data that all tests of a session share."""
    return tmp_path_factory.mktemp("data-cache")


@pytest.fixture
def work(tmp_path: Path, data_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, generated data going to the shared cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUINCUNX_CACHE", str(data_cache))
    return tmp_path


@pytest.fixture
def cli(
    work: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Said]]:
    """Return a function that runs the command line in this process."""
    from quincunx.cli import run

    def call(*arguments: object) -> Said:
        capfd.readouterr()
        try:
            code = run([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse leaves by it
            code = error.code if isinstance(error.code, int) else 1
        said = capfd.readouterr()
        assert "Traceback" not in said.err + said.out
        return Said(code, said.out, said.err)

    # the pictures of reports take longer than these runs, and have tests of their own
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")
    # the handler that pytest puts on the root logger would swallow the warnings that a person gets to read
    logger, handler = logging.getLogger("quincunx"), logging.lastResort
    assert handler is not None
    logger.addHandler(handler)
    yield call
    logger.removeHandler(handler)


@pytest.fixture
def tiny_file(work: Path) -> Path:
    """The tiny config as a file of the working folder."""
    path = work / "tiny.json"
    path.write_text(json.dumps(tiny(), indent=1), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> Path:
    """The run folder of the tiny config, trained to its end; not to be changed."""
    from quincunx import train

    folder = tmp_path_factory.mktemp("finished") / "run"
    before = os.environ.get("QUINCUNX_CACHE")
    os.environ["QUINCUNX_CACHE"] = str(data_cache)
    try:
        return train(tiny({"run.dir": str(folder)})).path
    finally:
        if before is None:
            del os.environ["QUINCUNX_CACHE"]
        else:
            os.environ["QUINCUNX_CACHE"] = before
