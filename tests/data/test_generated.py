"""Folders that a generator fills: found again, refused, or said to be broken."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from quincunx.data.generated import GeneratedSet, SetManifest, check_files
from quincunx.data.partial import partial_file
from quincunx.errors import DataError, RunError, UsageError
from quincunx.runs.files import write_atomically

NAMES = ("one.txt", "two.txt")


@dataclass(frozen=True)
class Poems(SetManifest):
    REQUEST = ("format", "seed")

    seed: int
    lines: int
    files: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        check_files(self.files, NAMES)


SET = GeneratedSet("poems", "poems.json", Poems, NAMES)
REQUEST = {"format": 1, "seed": 7}


def poems(**changed: Any) -> Poems:
    files = {name: {"bytes": 3, "sha256": sha256(b"abc").hexdigest()} for name in NAMES}
    return Poems(**{**REQUEST, "lines": 2, "files": files, **changed})


def made(folder: Path) -> Poems:
    SET.write(folder, poems())
    for name in NAMES:
        (folder / name).write_bytes(b"abc")
    return poems()


def test_a_set_is_found_by_what_determines_it(tmp_path):
    assert SET.read(tmp_path) is None and SET.found(tmp_path, REQUEST) is None
    assert SET.read(tmp_path / "nowhere") is None
    written = made(tmp_path)
    assert SET.found(tmp_path, REQUEST) == SET.read(tmp_path) == written
    assert written.request == REQUEST
    assert (tmp_path / "poems.json").read_text().endswith("}\n") and "\n  " in (tmp_path / "poems.json").read_text()


def test_what_others_put_there_is_refused(tmp_path):
    (tmp_path / "two.txt").write_text("mine")
    (tmp_path / "notes").write_text("of no one's business")
    with pytest.raises(UsageError, match=r"already holds two.txt, not made by this generator; choose another folder"):
        SET.found(tmp_path, REQUEST)
    made(tmp_path)
    with pytest.raises(UsageError, match=r'holds a poems set made with other settings \({"format": 1, "seed": 7}\)'):
        SET.found(tmp_path, {"format": 1, "seed": 8})
    assert SET.found(tmp_path, REQUEST) == poems()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("{", "Expecting"),
        ("[]", "must be a mapping"),
        ({"seed": None, "other": 1}, "other"),
        (
            {"files": {"one.txt": {"bytes": 3, "sha256": ""}}},
            r"it names the files one\.txt; expected one\.txt, two\.txt",
        ),
        ({"files": {}}, "it names the files none"),
        ({"files": {name: {"bytes": "3", "sha256": ""} for name in NAMES}}, r"of one\.txt it says {'bytes': '3'"),
        ({"files": {name: {"bytes": 3} for name in NAMES}}, "sha256"),
        ({"files": 5}, "not iterable"),
    ],
)
def test_what_is_no_manifest_is_named(tmp_path, change, said):
    made(tmp_path)
    path = tmp_path / "poems.json"
    path.write_text(change if isinstance(change, str) else json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(
        DataError, match=rf"poems\.json is not a manifest of generated poems data \(.*{said}.*delete it"
    ):
        SET.read(tmp_path)


def test_damage_is_said_of_each_file(tmp_path):
    files = made(tmp_path).files
    assert SET.damage(tmp_path, files, content=True) == []
    (tmp_path / "one.txt").write_bytes(b"abd")
    assert SET.damage(tmp_path, files, content=False) == []
    assert SET.damage(tmp_path, files, content=True) == [
        f"{tmp_path}/one.txt has another content than poems.json beside it says"
    ]
    (tmp_path / "one.txt").write_bytes(b"ab")
    (tmp_path / "two.txt").unlink()
    assert SET.damage(tmp_path, files, content=True) == [
        f"{tmp_path}/one.txt has 2 bytes, poems.json beside it says 3",
        f"{tmp_path}/two.txt is missing",
    ]


def test_what_cannot_be_written_is_said(tmp_path):
    with SET.writing(tmp_path / "a" / "b"):
        pass
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write poems into .*file/set: Not a directory"):  # noqa: SIM117
        with SET.writing(tmp_path / "file" / "set"):
            pass
    with pytest.raises(DataError, match=r"cannot write poems into .*one\.txt cannot be written"):  # noqa: SIM117
        with SET.writing(tmp_path):
            (tmp_path / "one.txt").mkdir()
            write_atomically(tmp_path / "one.txt", b"abc")
    with (
        pytest.raises(DataError, match=r"another process is writing into .*; wait for it"),
        partial_file(tmp_path / "two.txt", wait=False),
        SET.writing(tmp_path),
        partial_file(tmp_path / "two.txt", wait=False),
    ):
        pass
    with pytest.raises(UsageError, match="as it is"), SET.writing(tmp_path):
        raise UsageError("as it is")
    with pytest.raises(RunError):
        SET.write(tmp_path / "file", poems())
