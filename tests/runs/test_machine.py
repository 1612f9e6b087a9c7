"""What is noted about the machine, and that no secret is."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from quincunx.runs import environment, mask_secrets, to_json


@pytest.mark.parametrize(
    "arguments",
    [
        ["--token", "s3cr3t"],
        ["--hub-token=s3cr3t"],
        ["tracker.api_key=s3cr3t"],
        ["tracker.api_key=with, s3cr3t; and more"],
        ["apiKey=s3cr3t"],
        ["WANDB_API_KEY=s3cr3t"],
        ["access_key_id=s3cr3t"],
        ["a.password+=s3cr3t"],
        ['tracker={"password": "s3cr3t", "x": 1}'],
        ["tracker={password: s3cr3t}"],
        ["sweep.storage=postgresql://me:s3cr3t@host/db"],
        ["https://host/path?token=s3cr3t&x=1"],
        ["Authorization: Bearer s3cr3tXs3cr3t"],
    ],
)
def test_values_of_secrets_are_masked(arguments: list[str]) -> None:
    masked = mask_secrets(arguments)
    assert len(masked) == len(arguments)
    assert "s3cr3t" not in " ".join(masked)
    assert "***" in " ".join(masked)


@pytest.mark.parametrize("form", ["hf_abcdefghijkl", "ghp_abcdefghijkl", "sk-abcdefghijkl", "AKIAABCDEFGHIJKL"])
def test_tokens_of_known_form_are_masked_anywhere(form: str) -> None:
    assert form not in mask_secrets([f"note=see {form}!"])[0]


@pytest.mark.parametrize(
    "argument",
    [
        "chunking.tokens=4096",
        "model.num_key_value_heads=8",
        "credential_path=/home/me/key.txt",
        "token=null",
        "use_auth_token=true",
        "seed=1",
        "run.note=keyboard: QWERTY",
        "--resume",
        "https://host/path?x=1",
        "optimizer={_target_: torch.optim.SGD, lr: 0.1}",
    ],
)
def test_everything_else_stays(argument: str) -> None:
    assert mask_secrets(["train", argument]) == ["train", argument]


def test_after_a_masked_value_reading_goes_on() -> None:
    assert mask_secrets(["--token", "abc", "seed=1"]) == ["--token", "***", "seed=1"]
    assert mask_secrets(["--token", "--resume"]) == ["--token", "--resume"]


def test_environment_is_plain_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["quincunx", "train", "x.yaml", "a.token=s3cr3t"])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("QUINCUNX_DATA", "/data")
    monkeypatch.setenv("QUINCUNX_HUB_TOKEN", "s3cr3t")
    monkeypatch.setenv("SOME_PASSWORD", "s3cr3t")
    found = environment()
    text = to_json(found).decode()
    assert json.loads(text) == found
    assert "s3cr3t" not in text
    assert "SOME_PASSWORD" not in text
    assert found["command"] == ["quincunx", "train", "x.yaml", "a.token=***"]
    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    assert found["variables"]["OMP_NUM_THREADS"] == "3"
    assert found["variables"]["QUINCUNX_DATA"] == "/data"
    assert found["variables"]["QUINCUNX_HUB_TOKEN"] == "***"
    assert found["cpu"]["count"] >= 1


def test_git_commit_and_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    assert environment(tmp_path)["git"] is None

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("init", "-q")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert environment(tmp_path)["git"] is None, "no commit yet"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    assert environment(tmp_path)["git"] == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "a").write_text("2")
    assert environment(tmp_path)["git"]["dirty"] is True


def test_nothing_here_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment(tmp_path / "gone")["git"] is None


def test_none_of_it_imports_torch() -> None:
    program = """
import sys
import quincunx.runs, quincunx.seeds, quincunx.track, quincunx.track.jsonl
quincunx.runs.environment()
heavy = {"torch", "numpy", "matplotlib", "pydantic", "ruamel"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
