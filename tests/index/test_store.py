"""Stores on disk: read back as written, at any place, and refused where anything is not as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quincunx.errors import DataError, UsageError
from quincunx.index.shards import Shard, ShardFile
from quincunx.index.store import Store, misfits
from stores import MADE, fill, part_of, vectors

ROWS, SIZE, WIDTH = 23, 5, 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "store", ROWS, SIZE, WIDTH)


def test_everything_is_read_back_as_it_was_written(folder: Path):
    store, whole = Store.open(folder, verify=True), vectors(ROWS, WIDTH)
    assert len(store) == ROWS and store.width == WIDTH
    assert store.made == {**MADE, "dimension": WIDTH}
    assert np.array_equal(store.read(), whole)
    for start, stop in ((0, 1), (3, 12), (4, 5), (5, 10), (20, 23), (22, 99), (7, 7), (-3, None)):
        assert np.array_equal(store.read(start, stop), whole[start:stop])
    assert [(start, block.shape) for start, block in store.blocks(10)] == [(0, (10, 6)), (10, (10, 6)), (20, (3, 6))]
    assert np.array_equal(np.concatenate([block for _, block in store.blocks(7)]), whole)
    names = [f"d{n}" for n in range(ROWS)]
    assert list(store.ids) == names and len(store.ids) == ROWS
    assert [store.ids[n] for n in (22, 0, 9, -1)] == ["d22", "d0", "d9", "d22"]
    assert store.ids[3:7] == names[3:7]
    assert [store.text(n) for n in (0, 22, 7, -1)] == ["text 0 é\n", "text 22 é\n", "text 7 é\n", "text 22 é\n"]
    assert list(store.texts()) == [f"text {n} é\n" for n in range(ROWS)]
    for index in (ROWS, -ROWS - 1):
        with pytest.raises(IndexError):
            store.ids[index]
        with pytest.raises(IndexError):
            store.text(index)


def test_half_precision_comes_back_as_float32(tmp_path: Path):
    store = Store.open(fill(tmp_path, 4, 3, WIDTH, dtype="float16"), verify=True)
    found = store.read()
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors(4, WIDTH).astype(np.float16).astype(np.float32))


def test_without_texts_asking_for_one_says_what_to_do(tmp_path: Path):
    store = Store.open(fill(tmp_path, 4, 3, WIDTH, texts=False))
    assert not store.has_texts and list(tmp_path.glob("*.jsonl")) == []
    with pytest.raises(UsageError, match="--no-texts"):
        store.text(0)
    with pytest.raises(UsageError, match="--no-texts"):
        list(store.texts())


def test_ids_of_any_letters_stay_what_they_are(tmp_path: Path):
    names = ["007", "7", "²", "a\tb", " ", "日本語"]
    store = Store.open(fill(tmp_path, len(names), 4, WIDTH, ids=names))
    assert list(store.ids) == names


def change(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shard cut short": (lambda f: cut(f / "shard-00001.safetensors"), "shard-00001.safetensors has .* cut short"),
    "a shard that is longer": (lambda f: append(f / "shard-00001.safetensors"), "added to"),
    "a shard that is gone": (lambda f: (f / "shard-00004.safetensors").unlink(), "shard-00004.* cannot be read"),
    "texts cut short": (lambda f: cut(f / "shard-00002.jsonl"), "shard-00002.jsonl has .* cut short"),
    "texts that are gone": (lambda f: (f / "shard-00002.jsonl").unlink(), "shard-00002.jsonl cannot be read"),
}  # fmt: skip


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("name", DAMAGE)
def test_opening_shows_what_is_not_whole(folder: Path, name: str):
    damage, says = DAMAGE[name]
    damage(folder)
    with pytest.raises(DataError, match=says):
        Store.open(folder)


@pytest.mark.parametrize(
    ("file", "at"), [("shard-00003.safetensors", -3), ("shard-00003.safetensors", -600), ("shard-00000.jsonl", 12)]
)
def test_changed_bytes_are_found_by_their_hash(folder: Path, file: str, at: int):
    change(folder / file, at)
    Store.open(folder)  # of the same size
    with pytest.raises(DataError, match=f"{file}.*other bytes|{file}.*header"):
        Store.open(folder, verify=True)


def test_a_shard_of_another_store_is_not_taken_for_this_ones(folder: Path, tmp_path: Path):
    other = fill(tmp_path / "other", ROWS, SIZE, WIDTH, seed=1)
    name = "shard-00001.safetensors"
    (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(DataError, match="another header than the manifest"):
        Store.open(folder, verify=True)
    narrow = fill(tmp_path / "narrow", ROWS, SIZE, WIDTH // 2)
    ours = (folder / name).stat().st_size
    (folder / name).write_bytes((narrow / name).read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][1]["bytes"] = (folder / name).stat().st_size
    assert manifest["shards"][1]["bytes"] != ours
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="of another store"):
        Store.open(folder).read()


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/passwd", "sub/shard-00000.safetensors", "shard-00000.safetensors/..", "", None, 3,
     "shard-00001.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["file", "texts"])
def test_a_manifest_that_points_elsewhere_is_refused_before_anything_is_read(folder: Path, name: Any, kind: str):
    (folder.parent / "outside.safetensors").write_bytes((folder / "shard-00000.safetensors").read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    if kind == "file":
        manifest["shards"][0]["file"] = name
    else:
        manifest["shards"][0]["texts"]["file"] = name
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"outside its folder|is damaged: shard 0"):
        Store.open(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: "no JSON",
        lambda m: json.dumps([m]),
        lambda m: json.dumps({**m, "format": 99}),
        lambda m: json.dumps({**m, "count": 7}),
        lambda m: json.dumps({**m, "shards": m["shards"][:2]}),
        lambda m: json.dumps({key: value for key, value in m.items() if key != "made"}),
        lambda m: json.dumps({**m, "made": {**m["made"], "dtype": "float64"}}),
        lambda m: json.dumps({**m, "shards": [{**m["shards"][0], "rows": -5}, *m["shards"][1:]]}),
    ],
)
def test_a_damaged_manifest_is_named(folder: Path, spoil: Callable[[Any], str]):
    path = folder / "manifest.json"
    path.write_text(spoil(json.loads(path.read_text())))
    with pytest.raises(DataError, match=r"manifest.json is damaged"):
        Store.open(folder)


def test_what_is_no_store_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="does not exist"):
        Store.open(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        Store.open(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no store"):
        Store.open(tmp_path / "empty")


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 40, (9).to_bytes(8, "little") + b'{"a":1}  '])
def test_a_file_that_is_no_shard_is_a_plain_error(tmp_path: Path, content: bytes):
    path = tmp_path / "shard-00000.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"shard-00000.safetensors"):
        ShardFile.open(path)


def test_the_file_is_one_that_safetensors_reads(folder: Path):
    from safetensors.numpy import load_file

    found = load_file(folder / "shard-00001.safetensors")
    assert np.array_equal(found["vectors"], vectors(ROWS, WIDTH)[5:10])
    assert bytes(found["ids"]).decode() == "d5d6d7d8d9"


def test_the_same_documents_give_the_same_bytes(folder: Path, tmp_path: Path):
    again = fill(tmp_path / "again", ROWS, SIZE, WIDTH)
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_what_fits_and_what_does_not():
    assert misfits(MADE, {**MADE, "side": "query", "precision": "bf16", "dtype": "float16"}) == []
    assert misfits(MADE, {**MADE, "weights": "b", "dimension": 7}) == ["weights a and b", "dimension 0 and 7"]


def test_a_shard_needs_as_many_ids_as_texts():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Shard(["a", "b"], vectors(2, 3), ["x"]).arrays()
    assert part_of(2).rows == 2
