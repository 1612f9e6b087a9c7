"""Checkpoints are whole or not there, and are read whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from quincunx.engine.checkpoint import Checkpoints, load_weights
from quincunx.errors import CheckpointError, RunError, UsageError


def write(folder: Path, *numbers: int, keep: int = 5, best: int | None = None) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for number in numbers:
        weights = {"model": {"w": torch.full((3,), float(number))}, "objective": {}}
        checkpoints.save(number, weights, {"step": number}, {"update": number}, best=number == best)
    return checkpoints


def test_what_was_saved_comes_back(tmp_path):
    model = nn.Linear(3, 2)
    shared = nn.ModuleDict({"a": model, "b": model})
    optimizer = torch.optim.AdamW(shared.parameters())
    shared["a"](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(3, {"model": shared.state_dict()}, {"optimizer": optimizer.state_dict()}, {"update": 3})
    saved = checkpoints.load(path)
    assert saved.weights["model"].keys() == shared.state_dict().keys()
    assert all(torch.equal(saved.weights["model"][name], tensor) for name, tensor in shared.state_dict().items())
    moments = saved.state["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(moments, optimizer.state_dict()["state"][0]["exp_avg"])
    assert saved.progress == {"update": 3}
    written = (path / "model.safetensors").stat().st_size
    assert written < 2 * sum(p.numel() * 4 for p in model.parameters()) + 300, "tied weights are written once"


def test_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = write(tmp_path, 1, 2, 3, 4, keep=2, best=1)
    assert [path.name for path in checkpoints.all()] == ["update-00000001", "update-00000003", "update-00000004"]
    assert checkpoints.best() == checkpoints.path(1)


def test_a_checkpoint_is_found_by_its_name(tmp_path):
    checkpoints = write(tmp_path / "checkpoints", 1, 2, 3, best=2)
    assert checkpoints.named("best") == checkpoints.path(2)
    assert checkpoints.named("last") == checkpoints.path(3)
    assert checkpoints.named("update-00000001") == checkpoints.path(1)
    with pytest.raises(UsageError, match=r"has no checkpoint 7; there are: best, last, update-00000001, "):
        checkpoints.named("7")
    (checkpoints.folder / "best.json").unlink()
    assert checkpoints.named("best") == checkpoints.path(3)
    with pytest.raises(RunError, match="no checkpoint yet"):
        Checkpoints(tmp_path / "none").named("best")


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "progress.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_file_is_named_and_the_one_before_offered(tmp_path, name, damage):
    checkpoints = write(tmp_path, 10, 20, 30)
    file = checkpoints.path(30) / name
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(CheckpointError) as error:
        checkpoints.load(checkpoints.path(30))
    assert str(file) in str(error.value)
    assert "--resume --from update-00000020" in str(error.value)


def test_a_damaged_manifest_and_no_whole_checkpoint(tmp_path):
    checkpoints = write(tmp_path, 10, 20)
    for number in (10, 20):
        manifest = checkpoints.path(number) / "manifest.json"
        manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged[\s\S]*No earlier checkpoint"):
        checkpoints.load(checkpoints.path(20))


def test_another_format_is_refused(tmp_path):
    checkpoints = write(tmp_path, 1)
    manifest = checkpoints.path(1) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoints.load(checkpoints.path(1))


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    """A state file that would call a function when unpickled, under a manifest that fits it."""
    checkpoints = write(tmp_path, 1)
    path = checkpoints.path(1)

    class Call:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save({"optimizer": Call()}, path / "state.pt")
    manifest = json.loads((path / "manifest.json").read_text())
    from quincunx.engine.checkpoint import _describe

    manifest["files"]["state.pt"] = _describe(path / "state.pt")
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        checkpoints.load(path)
    assert not (tmp_path / "made").exists()


def test_an_interrupted_write_leaves_nothing_that_is_taken_for_a_checkpoint(tmp_path):
    checkpoints = write(tmp_path, 1)
    draft = tmp_path / ".draft-update-00000002"
    draft.mkdir()
    (draft / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".discarded-update-00000000").mkdir()
    assert [path.name for path in checkpoints.all()] == ["update-00000001"]
    checkpoints.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["update-00000001"]


def test_weights_that_do_not_fit_are_listed():
    model = nn.Linear(3, 2)
    tensors = {"weight": torch.zeros(2, 4), "extra": torch.zeros(1), "bias": torch.full((2,), 5.0)}
    with pytest.raises(CheckpointError) as error:
        load_weights(model, tensors, "there")
    assert "of another shape: weight is [2, 4], the model has [2, 3]" in str(error.value)
    assert "unexpected: extra" in str(error.value)
    assert str(error.value).endswith("takes those that do with init_partial=true")
    first, *lines = load_weights(model, tensors, "there", partial=True)
    assert first == "took 1 of the model's 2 weights, as init_partial does"
    assert len(lines) == 2
    assert load_weights(model, model.state_dict(), "there", partial=True) == []
    assert torch.equal(model.bias, torch.full((2,), 5.0))
    with pytest.raises(CheckpointError, match="not one weight"):
        load_weights(model, {"nothing": torch.zeros(1)}, "there", partial=True)


def test_all_of_many_weights_that_do_not_fit_are_named_in_few_lines():
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(30)))
    there = {"0.weight": torch.zeros(1, 1), "4.weight": torch.zeros(2)} | {
        f"a.{n}.b": torch.zeros(1) for n in (0, 1, 3)
    }
    with pytest.raises(CheckpointError) as error:
        load_weights(model, there, "there")
    assert [line.strip() for line in str(error.value).splitlines()[1:-1]] == [
        "missing: {0-29}.bias",
        "missing: {1-3, 5-29}.weight",
        "unexpected: a.{0-1, 3}.b",
        "of another shape: 4.weight is [2], the model has [1, 1]",
    ]
    with pytest.raises(CheckpointError, match="not one weight") as error:
        load_weights(model, {"other": torch.zeros(1)}, "there", partial=True)
    assert "unexpected: other" in str(error.value) and "init_partial" not in str(error.value)
