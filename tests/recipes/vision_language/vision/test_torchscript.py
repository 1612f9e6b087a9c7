"""Archives of TorchScript: the tensors that the library itself reads, and nothing run, whatever the table says."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.model.vision import clip_weights
from quincunx.recipes.vision_language.model.vision.clip_resnet import ClipResNet, Sizes
from quincunx.recipes.vision_language.model.vision.encoder import Origin
from quincunx.recipes.vision_language.model.vision.torchscript import is_archive, read_archive

SMALL = Sizes((1, 1, 1, 1), 4, 8, 64)
PIXELS = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Whole(nn.Module):
    """A model of pictures and texts in little."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = ClipResNet(Origin("small"), SMALL, (64, 64), pooled=True)
        self.visual = self.encoder.visual
        del self.encoder
        self.logit_scale = nn.Parameter(torch.ones([]))
        self.register_buffer("turned", torch.arange(6).view(2, 3).T)
        self.register_buffer("empty", torch.empty(0, 3))
        self.text = nn.Linear(3, 2, dtype=torch.bfloat16)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels) * self.logit_scale


class Listed(nn.Module):
    """Attributes of other kinds than tensors, and lists of them."""

    def __init__(self) -> None:
        super().__init__()
        kinds: dict[str, tuple[Any, Any]] = {
            "sizes": ([1, 300, -70000], list[int]),
            "words": ({"a": 0.5}, dict[str, float]),
            "parts": ([torch.ones(2)], list[Tensor]),
        }
        for name, (value, kind) in kinds.items():
            setattr(self, name, torch.jit.Attribute(value, kind))
        self.rate, self.large, self.name, self.on = 0.5, 1 << 40, "é", True
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("halves", torch.arange(4).half())

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) * self.rate


def saved(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library would rather have it no more
        traced: Any = torch.jit.trace(model.eval(), PIXELS)
        torch.jit.save(traced, str(path))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return saved(Whole(), tmp_path / "RN50.pt")


def with_table(source: Path, path: Path, change: Callable[[bytes], bytes], what: str = "data.pkl") -> Path:
    """A copy of an archive with another table."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            new.writestr(entry, change(content) if entry.endswith(what) else content)
    return path


def test_tensors_are_those_that_the_library_reads(tmp_path: Path, archive: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted: Any = torch.jit.script(Listed())
        torch.jit.save(scripted, str(tmp_path / "scripted.pt"))
    for path in (archive, tmp_path / "scripted.pt"):
        assert is_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = torch.jit.load(str(path)).state_dict()
        found = read_archive(path)
        assert len(expected) > 5 and {*expected} <= {*found}
        for name, each in expected.items():
            assert found[name].dtype == each.dtype and torch.equal(found[name], each), name
    assert {each.dtype for each in read_archive(archive).values()} == {torch.float32, torch.bfloat16, torch.int64}


def test_an_image_encoder_is_loaded_from_one(archive: Path) -> None:
    encoder = ClipResNet(Origin("RN50"), SMALL, (64, 64), pooled=True).eval()
    clip_weights.load(encoder, archive)
    expected = Whole().visual.eval()
    assert torch.equal(encoder.visual(PIXELS), expected(PIXELS))


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"nothing")
    assert not is_archive(tmp_path / "a.pt") and not is_archive(tmp_path / "b.pt")


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_nothing_is_run(tmp_path: Path, archive: Path) -> None:
    marker = tmp_path / "was-run"
    tables: list[tuple[str, bytes]] = [
        ("touch|getattr|is not for tensors", pickle.dumps(Touch(marker), 2)),
        ("of form 4", pickle.dumps(Touch(marker), 4)),
        ("makes an object of os.PathLike", b"\x80\x02cos\nPathLike\n)\x81."),
        ("calls os.system", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."),
        ("calls tuple", b"\x80\x02))R."),
        ("step b'o'", b"\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo."),
        ("step b'i'", b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n."),
        (r"step b'\\x93'", b"\x80\x02X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93."),
        ("gives attributes to _Name", b"\x80\x02cos\nsystem\n}b."),
        ("puts something into _Name", b"\x80\x02cos\nsystem\nK\x01K\x02s."),
        ("attribute named by tuple", b"\x80\x02})K\x01s."),
        ("attribute named by tuple", b"\x80\x02}" + b")" + 100_000 * b"\x85" + b"K\x01s."),
    ]
    numbers = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK%ctQ"
    vast = b"\x80\x02c__torch__.A\nB\n)\x81}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + numbers
    count = read_archive(archive)["logit_scale"].numel()
    tables.append(("more numbers than are stored", vast % bytes([count]) + b"K\x00(J\xff\xff\xff\x7ft(K\x00ttRsb."))
    for number, (why, table) in enumerate(tables):
        path = with_table(archive, tmp_path / f"{number}.pt", lambda _, table=table: table)
        with pytest.raises(
            UsageError, match=rf"{number}\.pt is an archive of TorchScript that cannot be read: .*({why})"
        ):
            clip_weights.load(ClipResNet(Origin("RN50"), SMALL, (64, 64)), path)
    assert not marker.exists()


def test_damage_is_named(tmp_path: Path, archive: Path) -> None:
    def refused(why: str, change: Callable[[bytes], bytes], what: str = "data.pkl") -> None:
        with pytest.raises(UsageError, match=why):
            read_archive(with_table(archive, tmp_path / "bad.pt", change, what))

    refused("cut short", lambda table: table[: len(table) // 2])
    refused("cut short", lambda table: b"")
    refused("cannot be read", lambda table: b"\x80\x02.")
    refused("cannot be read", lambda table: b"\x80\x02h\x07.")
    refused(r"has \d+ bytes, expected", lambda content: content[:-2], "data/0")
    refused("from the largest byte on", lambda content: b"big", "byteorder")
    content = archive.read_bytes()
    for length in (100, len(content) // 2, len(content) - 10):
        archive.write_bytes(content[:length])
        with pytest.raises(UsageError, match=r"RN50\.pt"):
            clip_weights.load(ClipResNet(Origin("RN50"), SMALL, (64, 64)), archive)


def test_every_changed_byte_of_a_table_is_read_or_refused(tmp_path: Path) -> None:
    source = saved(nn.Sequential(nn.Conv2d(3, 2, 1)), tmp_path / "a.pt")
    with zipfile.ZipFile(source) as whole:
        table = next(whole.read(name) for name in whole.namelist() if name.endswith("/data.pkl"))
    wrong = 0
    for place in range(0, len(table), 3):
        changed = bytearray(table)
        changed[place] ^= 1 << (place % 8)
        try:
            read_archive(with_table(source, tmp_path / "b.pt", lambda _, changed=changed: bytes(changed)))
        except UsageError:
            wrong += 1
    assert wrong > 20
