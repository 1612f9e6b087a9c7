"""Checkpoints: folders that are either whole or not there, and are read back whole or not at all.

A checkpoint is written beside its place, synced and renamed; its manifest holds the size and hash of every file.
Weights are safetensors, the rest is read with `weights_only`: no code in a checkpoint is ever run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from quincunx.engine.weight_names import folded
from quincunx.errors import CheckpointError, RunError, UsageError
from quincunx.runs.files import sync

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Restored:
    """What a checkpoint held."""

    path: Path
    weights: dict[str, dict[str, Tensor]]
    """State dicts by part: `model`, `objective`."""
    state: dict[str, Any]
    """Optimizer, rate control, scaler."""
    progress: dict[str, Any]
    """Plain values: update, best metric, positions of files and trackers."""


class Checkpoints:
    """The checkpoints of a run folder."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def path(self, update: int) -> Path:
        """Return the folder of the checkpoint after so many updates."""
        return self.folder / f"update-{update:08d}"

    def all(self) -> list[Path]:
        """Return the checkpoints that were finished, oldest first."""
        return sorted(path for path in self.folder.glob("update-*") if path.suffix == "" and path.is_dir())

    def best(self) -> Path | None:
        """Return the checkpoint marked as best, None when there is none (any more)."""
        try:
            name = json.loads((self.folder / "best.json").read_text(encoding="utf-8"))["name"]
        except (OSError, ValueError, KeyError):
            return None
        path = self.folder / str(name)
        return path if path.is_dir() else None

    def named(self, which: str) -> Path:
        """Return a checkpoint: `best`, `last`, or its name; `best` falls back to `last` where none was marked.

        Raises:
            RunError: There is none yet.
            UsageError: There is none of that name.
        """
        found = self.all()
        if not found:
            raise RunError(f"{self.folder.parent} has no checkpoint yet: train it first")
        known = {path.name: path for path in found}
        named = {**known, "last": found[-1], "best": self.best() or found[-1]}
        if which not in named:
            names = ", ".join(["best", "last", *known])
            raise UsageError(f"{self.folder.parent} has no checkpoint {which}; there are: {names}")
        return named[which]

    def save(
        self,
        update: int,
        weights: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Any],
        progress: Mapping[str, Any],
        *,
        best: bool = False,
    ) -> Path:
        """Write a checkpoint, mark it as best if asked, and remove those beyond `keep`; return its folder.

        Raises RunError when the disk is full; what was there before stays whole.
        """
        target = self.path(update)
        draft = self.folder / f".draft-{target.name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            aliases = {
                part: _write_weights(draft / f"{part}.safetensors", tensors) for part, tensors in weights.items()
            }
            with (draft / "state.pt").open("wb") as file:  # torch would keep its own open when the disk is full
                torch.save(dict(state), file)
            (draft / "progress.json").write_text(json.dumps(progress, indent=1), encoding="utf-8")
            files = {path.name: _describe(path) for path in sorted(draft.iterdir())}
            manifest = {
                "format": FORMAT,
                "update": update,
                "torch": torch.__version__,
                "aliases": aliases,
                "files": files,
            }
            (draft / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            _sync_folder(draft)
            self._discard(target)
            draft.rename(target)
            if best:
                self._mark_best(target)
            _sync_folder(self.folder, files=False)
        except (OSError, SafetensorError, RuntimeError) as error:
            failed = _write_failed(self.folder, update, error)  # first: the draft's removal makes room again
            shutil.rmtree(draft, ignore_errors=True)
            raise failed from error
        self._prune()
        return target

    def load(self, path: Path, device: torch.device | str = "cpu") -> Restored:
        """Return what a checkpoint holds, every file checked against the manifest.

        Raises CheckpointError naming the file that is missing, cut or changed, and the newest whole checkpoint before.
        """
        try:
            return _read(path, device)
        except CheckpointError as error:
            earlier = [other for other in self.all() if other.name < path.name]
            raise CheckpointError(f"{error}\n{_offer(earlier)}") from error

    def rewind(self, path: Path, best: int | None) -> None:
        """Remove the checkpoints after `path`, from which a run goes on, and mark its best (an update) again.

        They belong to a course that the run is leaving; the next resume must not go back to it.
        """
        marked = self.best()
        for other in self.all():
            if other.name > path.name:
                self._discard(other)
        if marked is not None and not marked.is_dir():
            (self.folder / "best.json").unlink(missing_ok=True)
        if best is not None and self.path(best).is_dir():
            self._mark_best(self.path(best))

    def clean(self) -> None:
        """Remove what an interrupted write or removal left behind."""
        for path in [*self.folder.glob(".draft-*"), *self.folder.glob(".discarded-*")]:
            shutil.rmtree(path, ignore_errors=True)

    def _mark_best(self, path: Path) -> None:
        draft = self.folder / ".draft-best.json"
        draft.write_text(json.dumps({"name": path.name}), encoding="utf-8")
        sync(draft)
        draft.replace(self.folder / "best.json")

    def _prune(self) -> None:
        best = self.best()
        for path in self.all()[: -self.keep]:
            if path != best:
                self._discard(path)

    def _discard(self, path: Path) -> None:
        if path.exists():
            # renamed first: a kill amid the removal must not leave half a checkpoint under a good name
            grave = path.with_name(f".discarded-{path.name}")
            shutil.rmtree(grave, ignore_errors=True)
            path.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], what: str, *, partial: bool = False) -> list[str]:
    """Copy tensors into a module; return lines with all names that were missing, unexpected or of another shape.

    Names that differ in one number share a line. Raises CheckpointError with those lines unless `partial`; then what
    fits is copied and the rest left alone, and the first line says how much that is.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    fitting: dict[str, Tensor] = {}
    others = dict[str, str]()
    for name, tensor in tensors.items():
        if name in own and own[name].shape != tensor.shape:
            others[name] = f" is {list(tensor.shape)}, the model has {list(own[name].shape)}"
        elif name in own:
            fitting[name] = tensor
    lines = [f"missing: {names}" for names in folded(missing)]
    lines += [f"unexpected: {names}" for names in folded(unexpected)]
    for said in dict.fromkeys(others.values()):
        alike = [name for name, what in others.items() if what == said]
        lines += [f"of another shape: {names}{said}" for names in folded(alike)]
    if lines and not partial:
        raise CheckpointError(
            f"the weights of {what} do not fit:\n  "
            + "\n  ".join(lines)
            + "\nA new run that begins from them takes those that do with init_partial=true"
        )
    if partial and not fitting:
        raise CheckpointError(f"not one weight of {what} fits this model:\n  " + "\n  ".join(lines))
    module.load_state_dict(fitting, strict=False)
    return [f"took {len(fitting):,} of the model's {len(own):,} weights, as init_partial does", *lines] if lines else []


def _read(path: Path, device: torch.device | str) -> Restored:
    manifest = _manifest(path)
    for name, facts in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing")
        size = file.stat().st_size
        if size != facts["bytes"]:
            raise CheckpointError(f"{file} is damaged: it has {size:,} bytes, {facts['bytes']:,} were written")
        if _sha256(file) != facts["sha256"]:
            raise CheckpointError(f"{file} is damaged: its content is not what was written (sha256 differs)")
    weights: dict[str, dict[str, Tensor]] = {}
    for part, aliases in manifest["aliases"].items():
        tensors = load_file(path / f"{part}.safetensors", device=str(device))
        for name, original in aliases.items():
            tensors[name] = tensors[original]
        weights[part] = tensors
    state = _load_state(path / "state.pt")
    progress = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    return Restored(path, weights, state, progress)


def _load_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the restricted reader raises, the file is not one that we wrote
        reason = str(error).partition("GLOBAL ")[2].partition(" ")[0]
        asks = f" (it asks for {reason})" if reason else ""
        raise CheckpointError(
            f"{path} holds something else than plain values and tensors{asks}; it is not read"
        ) from error


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is no checkpoint: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or "files" not in manifest:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise CheckpointError(f"{file} has format {found!r}, this version reads format {FORMAT}")
    return manifest


def _write_weights(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write tensors, those that share memory once; return the other names -> the name that was written."""
    unique: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in tensors.items():
        key = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
            continue
        seen[key] = name
        unique[name] = tensor.detach().cpu().contiguous()
    save_file(unique, path)
    return aliases


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path, *, files: bool = True) -> None:
    if files:
        for path in folder.iterdir():
            sync(path)
    sync(folder)


def _write_failed(folder: Path, update: int, error: Exception) -> RunError:
    reason = str(error)
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left" in reason
    # torch says of a write that fell short where in the file it was, and no more
    if full or (not isinstance(error, OSError) and free < 2**16):
        reason = f"the disk is full ({free / 2**20:.1f} MiB free)"
    return RunError(
        f"the checkpoint of update {update} could not be written to {folder}: {reason}. Checkpoints written before it "
        "are whole: make room, then go on with --resume"
    )


def _offer(earlier: Sequence[Path]) -> str:
    for path in reversed(earlier):
        try:
            _read(path, "cpu")
        except (CheckpointError, OSError):
            continue
        return f"The one before it, {path.name}, is whole: go on from there with --resume --from {path.name}"
    return "No earlier checkpoint of this run is whole; start the run anew"
