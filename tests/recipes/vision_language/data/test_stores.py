"""Stores of features in LMDB say what the other files of detections say, in whatever form their values are."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, MissingExtra, UsageError
from quincunx.recipes.vision_language.data.features import Features
from quincunx.recipes.vision_language.data.folder import Collection, write_collection
from quincunx.recipes.vision_language.data.importers.detected import COLUMNS
from quincunx.recipes.vision_language.data.importers.detections import import_detections
from quincunx.recipes.vision_language.data.importers.packed import fields_of, parse_raw
from quincunx.recipes.vision_language.data.record import Picture, Region

lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed")

WIDTH = 6
BOXES = np.array([[0, 0, 10, 20], [5, 5, 45, 30], [2, 3, 8, 9]], np.float32)


def arrays(seed: int) -> dict[str, Any]:
    """Return what was detected in a picture of 40 x 30 pixels."""
    draw = np.random.default_rng(seed)
    return {
        "features": draw.normal(size=(3, WIDTH)).astype(np.float32),
        "boxes": BOXES,
        "img_w": np.int64(40),
        "img_h": np.int64(30),
        "obj_id": np.arange(3),
        "attr_id": np.arange(3)[::-1].copy(),
        "obj_conf": np.full(3, 0.5, np.float32),
    }


def npz(fields: Mapping[str, Any], compressed: bool = False) -> bytes:
    made = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(made, **fields)
    return made.getvalue()


def npy(rows: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, rows)
    return made.getvalue()


def plain(fields: Mapping[str, Any]) -> bytes:
    return json.dumps({name: np.asarray(value).tolist() for name, value in fields.items()}).encode()


def packed(value: Any) -> bytes:
    """Return a value as msgpack writes it, arrays as msgpack-numpy does: the longest forms, and some short ones."""
    if isinstance(value, np.ndarray | np.generic):
        head = {b"nd": isinstance(value, np.ndarray), b"type": value.dtype.str.encode()}
        more = {b"kind": b"", b"shape": list(value.shape)} if isinstance(value, np.ndarray) else {}
        return packed({**head, **more, b"data": value.tobytes()})
    if value is None or isinstance(value, bool):
        return b"\xc0" if value is None else b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack("b", value) if -32 <= value <= 127 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0xA0 | len(text)]) if len(text) < 32 else b"\xd9" + bytes([len(text)])) + text
    if isinstance(value, dict):
        head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xde" + struct.pack(">H", len(value))
        return head + b"".join(packed(part) for pair in value.items() for part in pair)
    head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + struct.pack(">H", len(value))
    return head + b"".join(map(packed, value))


FORMS: dict[str, Callable[[Mapping[str, Any]], bytes]] = {
    "npz": npz,
    "npz compressed": lambda fields: npz(fields, compressed=True),
    "json": plain,
    "msgpack": packed,
}


def write(path: Path, values: Mapping[str, bytes], *, folder: bool = True) -> Path:
    """Write a store."""
    with lmdb.open(str(path), map_size=1 << 22, subdir=folder) as store, store.begin(write=True) as transaction:
        for key, value in values.items():
            assert transaction.put(key.encode(), value)
    return path


def tab_separated(path: Path, pictures: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the same as a file that LXMERT reads."""
    lines: list[str] = []
    for name, found in pictures.items():
        texts = {"img_id": name, "img_h": "30", "img_w": "40", "num_boxes": "3"}
        coded = {
            "objects_id": found["obj_id"].astype(np.int64),
            "objects_conf": found["obj_conf"],
            "attrs_id": found["attr_id"].astype(np.int64),
            "attrs_conf": found["obj_conf"],
            "boxes": found["boxes"],
            "features": found["features"],
        }
        texts |= {key: base64.b64encode(value.tobytes()).decode() for key, value in coded.items()}
        lines.append("\t".join(texts[column] for column in COLUMNS) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture
def words(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "objects.txt").write_text("yolk\ngoggles\nbathtub\n")
    (tmp_path / "attributes.txt").write_text("blue\nred\nold\n")
    return {"objects": tmp_path / "objects.txt", "attributes": tmp_path / "attributes.txt"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", [True, False])
def test_a_store_says_what_tabs_say(tmp_path: Path, words: dict[str, Any], form: str, folder: bool):
    pictures = {"COCO_1": arrays(1), "COCO_2": arrays(2)}
    keys = {"COCO_1": "COCO_1", "COCO_2": "COCO_2.npz"}
    values = {keys[name]: FORMS[form](fields) for name, fields in pictures.items()}
    store = write(tmp_path / "butd.lmdb", {**values, "keys": b"\x80\x04.", "__len__": b"2"}, folder=folder)
    found = import_detections([store], tmp_path / "one", **words)
    assert (found.pictures, found.width) == (2, WIDTH)
    import_detections([tab_separated(tmp_path / "a.tsv", pictures)], tmp_path / "other", **words)
    for name in pictures:
        one, other = (Collection(tmp_path / place).pictures[name] for place in ("one", "other"))
        assert one == other and one.regions[0] == Region((0, 0, 10, 20), "yolk", "old", 0.5)
        mine, theirs = (Features(tmp_path / place / "features/butd.arrow")[name] for place in ("one", "other"))
        assert np.array_equal(mine, theirs)


def test_other_names_of_fields(tmp_path: Path):
    """As MMF and UNITER call them: shares of the picture, of a size that the collection knows."""
    write_collection(tmp_path / "out", [Picture("p1", 40, 30, None)], {})
    shares = np.concatenate([BOXES / [40, 30, 40, 30], np.ones((3, 3))], axis=1).astype(np.float32)
    made = arrays(1)
    first = {"features": made["features"].astype(np.float16), "norm_bb": shares, "conf": made["obj_conf"]}
    second = {"features": made["features"], "bbox": BOXES, "image_width": 40, "image_height": 30, "image_id": "p2"}
    store = write(tmp_path / "s", {"p1.npz": npz({**first, "soft_labels": np.ones((3, 9))}), "0": packed(second)})
    found = import_detections([store], tmp_path / "out")
    assert found.pictures == 2
    pictures = Collection(tmp_path / "out").pictures
    for name, score in (("p1", 0.5), ("p2", 1.0)):
        regions = pictures[name].regions
        assert [region.confidence for region in regions] == [score] * 3 and regions[0].name is None
        assert np.allclose([region.box for region in regions], np.minimum(BOXES, [40, 30, 40, 30]), atol=1e-5)
    assert np.array_equal(Features(found.path)["p1"], first["features"])


@pytest.mark.parametrize(
    ("pack", "raw"),
    [
        (npy, None),
        (lambda rows: rows.tobytes(), "float32,6"),
        (lambda rows: json.dumps(rows.tolist()).encode(), None),
        (lambda rows: npz({"features": rows}), None),
        (lambda rows: npy(np.asfortranarray(rows)), None),
        (lambda rows: rows.astype(np.float64).tobytes(), "float64,6"),
    ],
)
def test_rows_alone_belong_to_pictures_of_the_collection(tmp_path: Path, pack: Callable[[Any], bytes], raw: str | None):
    region = Region((0.0, 0.0, 4.0, 4.0), "star")
    write_collection(tmp_path / "out", [Picture("a", 8, 8, None, (region,)), Picture("b", 8, 9, None)], {})
    before = (tmp_path / "out" / "pictures.jsonl").read_text()
    rows = {name: arrays(seed)["features"] for seed, name in enumerate("ab")}
    store = write(tmp_path / "s", {name: pack(each) for name, each in rows.items()})
    found = import_detections([store], tmp_path / "out", name="RN50", raw=raw)
    assert (tmp_path / "out" / "pictures.jsonl").read_text() == before
    features = Features(found.path)
    for name, each in rows.items():
        assert np.array_equal(features[name], each.astype(np.float16))


def test_one_row_for_a_picture(tmp_path: Path):
    write_collection(tmp_path / "out", [Picture("a", 8, 8, None)], {})
    store = write(tmp_path / "s", {"a": npy(np.arange(WIDTH))})
    assert Features(import_detections([store], tmp_path / "out").path)["a"].tolist() == [list(range(WIDTH))]


def changed(**changes: Any) -> bytes:
    return npz({name: value for name, value in {**arrays(1), **changes}.items() if value is not None})


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, ("it ran",))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (changed(features=None), "s: x: features: absent; there are boxes, img_w"),
        (changed(boxes=np.zeros((3, 5))), r"s: x: boxes: shape \[3, 5\]; expected \[regions, 4\]"),
        (changed(boxes=np.full((3, 4), np.nan)), "s: x: boxes: numbers that are not finite"),
        (changed(img_w=np.int64(0)), "s: x: img_w: 0; expected a whole number above 0"),
        (changed(img_h=None), "s: x: neither img_w and img_h, nor a picture 'x' in the collection"),
        (changed(obj_id=np.arange(2)), r"s: x: obj_id: shape \[2\]; expected \[3\]"),
        (changed(features=np.zeros((2, 6))), r"s: x: features: shape \[2, 6\]; expected \[3, width\]"),
        (changed(features=np.array(["a"])), "s: x: features: <U1; expected numbers"),
        (changed(boxes=None, features=np.zeros((2, 2, 6))), r"shape \[2, 2, 6\]; expected \[rows, width\]"),
        (changed(features=np.array([Evil()], dtype=object)), "s: x: features: object: arrays of objects are pickles"),
        (pickle.dumps({"features": Evil()}), "s: x: a pickle, which is not read.*numpy.savez"),
        (pickle.dumps(arrays(1), protocol=2), "s: x: a pickle, which is not read"),
        (b"", "s: x: begins with nothing: no npz, npy, msgpack or JSON.*--raw"),
        (b"\x00\x01\x02\x03", "s: x: begins with 00 01 02 03"),
        (b"{", "s: x: no sound JSON"),
        (b'{"features": [[1, 2], [3]], "img_w": 1, "img_h": 1}', "s: x: features: rows of different lengths"),
        (b"PK\x03\x04nothing", "s: x: no sound npz"),
        (b"\x93NUMPYnothing", "s: x: neither img_w"),
        (packed({"features": np.zeros((3, 6))})[:-1], "s: x: msgpack that was cut short"),
        (packed({"features": 1}) + b"\x01", "s: x: 1 bytes behind the end of msgpack"),
        (packed({1: 2}), "s: x: msgpack: a key that is no text"),
        (
            packed({"features": {"nd": True, "type": b"|O", "shape": [1], "data": b"a"}}),
            r"an array of b'\|O'; expected",
        ),
        (
            packed({"features": {"nd": True, "type": b"<f4", "shape": [2], "data": b"abcd"}}),
            r"4 bytes; expected float32",
        ),
        (packed({"features": {"nd": True, "type": b"<f3", "shape": [1], "data": b"abc"}}), "which there is not"),
        (b"\x81\xa1a\xc7\x01\x01a", r"byte 3 of msgpack: an extension \(0xc7\)"),
        (b"\x81\xa1a" + b"\x91" * 40 + b"\x01", "msgpack within msgpack more than 16 deep"),
    ],
)
def test_wrong_values_are_named_and_nothing_is_run(tmp_path: Path, value: bytes, reason: str):
    store = write(tmp_path / "s", {"x": value})
    with pytest.raises(DataError, match=reason):
        import_detections([store], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_files_are_named(tmp_path: Path):
    (tmp_path / "a.tsv").touch()
    store = write(tmp_path / "s", {"x": b"\0" * 20})
    for files, raw, kind, reason in (
        ([tmp_path], None, DataError, "holds no data.mdb; expected the folder of a store"),
        ([tmp_path / "none.lmdb"], None, DataError, "none.lmdb holds no data.mdb"),
        ([tmp_path / "a.tsv"], "float32,6", UsageError, "--raw float32,6 says what the values of LMDB stores are"),
        (
            [store],
            "int8,6",
            UsageError,
            "bare numbers are said by type and width, such as float32,2048; found 'int8,6'",
        ),
        ([store], "float32,0", UsageError, "found 'float32,0'"),
        ([store], "float32,6", DataError, r"s: x: 20 bytes; expected a multiple of 24: rows of 6"),
        ([write(tmp_path / "empty", {})], None, DataError, "empty: no keys; expected a picture a key"),
        (
            [write(tmp_path / "t", {"a": plain(arrays(1))}), write(tmp_path / "u", {"a": changed()})],
            None,
            DataError,
            "once",
        ),
    ):
        with pytest.raises(kind, match=reason):
            import_detections(files, tmp_path / "out", raw=raw)
    bad = tmp_path / "bad.lmdb"
    bad.write_bytes(b"no LMDB at all" * 1000)
    with pytest.raises(DataError, match=r"bad.lmdb cannot be read as LMDB: "):
        import_detections([bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_needs_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingExtra, match=r"needs the package lmdb: pip install 'quincunx\[vision_language\]'"):
        import_detections([tmp_path], tmp_path / "out")


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    from quincunx.cli import run

    write_collection(tmp_path / "out", [Picture("a", 8, 8, None)], {})
    store = write(tmp_path / "s", {"a": arrays(1)["features"].tobytes()})
    command = ["data", "import", "detections", str(store), "--out", str(tmp_path / "out"), "--raw", "float32,6"]
    assert run(command) == 0
    assert "features of 1 pictures, 6 wide" in capfd.readouterr().out
    assert run(["data", "import", "vqa", "a.json", "--out", "b", "--raw", "float32,6"]) == 2
    assert "--raw float32,6 says what detections in LMDB are" in capfd.readouterr().err


def leaves() -> st.SearchStrategy[Any]:
    numbers = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.booleans(), st.none())
    return st.one_of(numbers, st.binary(max_size=300), st.text(max_size=40).map(str.encode))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=20), st.recursive(leaves(), st.lists, max_leaves=20)))
def test_msgpack_is_read_as_it_was_written(found: dict[str, Any]):
    found = {**{name: value for name, value in found.items() if name != "nd"}, "last": 1}
    read = fields_of(packed(found), "here")
    assert {name: each() for name, each in read.items()} == found


@settings(deadline=None)
@given(st.sampled_from(list(FORMS)), st.data())
def test_damaged_values_are_refused_and_never_run(form: str, data: st.DataObject):
    """Whatever is changed or cut off, what comes out is an array of numbers or a DataError."""
    value = bytearray(FORMS[form](arrays(3)))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    value = bytes(value[: data.draw(st.integers(1, len(value)))])
    try:
        for each in fields_of(value, "here").values():
            assert each() is not ...
    except DataError as error:
        assert str(error).startswith("here")


@settings(deadline=None)
@given(st.binary(max_size=60))
@example(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'}")
@example(b"\x93NUMPY\x02\x00\x40\x00\x00\x00" + b"(" * 64)
def test_any_bytes_are_refused_in_words(value: bytes):
    for head in (b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x81", b"\xdf", b"["):
        try:
            for each in fields_of(head + value, "here").values():
                each()
        except DataError as error:
            assert str(error).startswith("here")


def test_bare_numbers_are_said_by_type_and_width():
    assert parse_raw("float16,2048") == (np.dtype("<f2"), 2048)
    for text in ("float32", "2048", "float32,-1", "float32,", "object,3", ""):
        with pytest.raises(UsageError, match="such as float32,2048"):
            parse_raw(text)
