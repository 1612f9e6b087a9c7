"""Files of bottom-up attention become pictures, regions and features, row by row the same."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError, MissingExtra, UsageError
from quincunx.recipes.vision_language.data.features import Features
from quincunx.recipes.vision_language.data.folder import Collection, write_collection
from quincunx.recipes.vision_language.data.importers.detected import COLUMNS
from quincunx.recipes.vision_language.data.importers.detections import import_detections
from quincunx.recipes.vision_language.data.record import Picture, Region

WIDTH = 6


def fields(name: str, given: list[list[float]], seed: int = 0, **changes: object) -> dict[str, str]:
    """Return a line's fields, the arrays as the files have them."""
    count = len(given)
    rows = np.random.default_rng(seed).normal(size=(count, WIDTH))
    values: dict[str, object] = {
        "img_id": name,
        "img_h": 30,
        "img_w": 40,
        "objects_id": np.arange(count, dtype=np.int64),
        "objects_conf": np.full(count, 0.5, np.float32),
        "attrs_id": np.arange(count, dtype=np.int64)[::-1],
        "attrs_conf": np.full(count, 0.25, np.float32),
        "num_boxes": count,
        "boxes": np.array(given, np.float32),
        "features": rows.astype(np.float32),
        **changes,
    }
    return {
        key: base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        if isinstance(value, np.ndarray)
        else str(value)
        for key, value in values.items()
    }


def write(path: Path, *lines: dict[str, str]) -> Path:
    path.write_text("".join("\t".join(line[column] for column in COLUMNS) + "\n" for line in lines))
    return path


BOXES = [[0.0, 0.0, 10.0, 20.0], [5.0, 5.0, 45.0, 30.0], [40.0, 3.0, 40.0, 9.0]]


@pytest.fixture
def words(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "objects.txt").write_text("yolk\ngoggles,glasses\nbathtub\n")
    (tmp_path / "attributes.txt").write_text("blue\nred\nold\n")
    return {"objects": tmp_path / "objects.txt", "attributes": tmp_path / "attributes.txt"}


def test_regions_and_features(tmp_path: Path, words: dict[str, Path]):
    one, two = fields("COCO_1", BOXES, 1), fields("COCO_2", BOXES[:1], 2)
    path = write(tmp_path / "train.tsv", one, two)
    found = import_detections([path], tmp_path / "out", **words)
    assert (found.pictures, found.width, found.path) == (2, WIDTH, tmp_path / "out/features/butd.arrow")
    collection = Collection(tmp_path / "out")
    picture = collection.pictures["COCO_1"]
    assert (picture.width, picture.height, picture.file) == (40, 30, None)
    assert picture.regions == (
        Region((0, 0, 10, 20), "yolk", "old", 0.5),
        Region((5, 5, 40, 30), "goggles", "red", 0.5),
        Region((39, 3, 40, 9), "bathtub", "blue", 0.5),
    )
    features = Features(found.path, width=WIDTH)
    for name, count, seed in (("COCO_1", 3, 1), ("COCO_2", 1, 2)):
        wanted = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32).astype(np.float16)
        assert np.array_equal(features[name], wanted)
        assert len(features[name]) == len(collection.pictures[name].regions)
    with pytest.raises(UsageError, match=r"butd.arrow is already there"):
        import_detections([path], tmp_path / "out")
    more = import_detections([write(tmp_path / "b.tsv", fields("COCO_3", BOXES))], tmp_path / "out", name="more")
    assert more.pictures == 1 and len(Collection(tmp_path / "out").pictures) == 3
    assert Collection(tmp_path / "out").pictures["COCO_3"].regions[0].name is None
    assert Features(more.path).header.model != features.header.model


def test_features_of_other_regions_are_refused(tmp_path: Path):
    """As many regions, but others: their rows would be taken for those of the regions that are there."""
    out = tmp_path / "out"
    write_collection(out, [Picture("COCO_1", 40, 30, None, (Region((0, 0, 9, 9)),))], {})
    before = (out / "pictures.jsonl").read_bytes()
    path = write(tmp_path / "train.tsv", fields("COCO_1", BOXES[:1]))
    with pytest.raises(UsageError, match=r"train.tsv:1: picture COCO_1 has 1 regions .* import detections first"):
        import_detections([path], out)
    assert (out / "pictures.jsonl").read_bytes() == before and not (out / "features").exists()
    same = write(tmp_path / "same.tsv", fields("COCO_1", [[0.0, 0.0, 9.0, 9.0]]))
    assert import_detections([same], out).pictures == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_boxes": 2}, r"a.tsv:2: boxes: 48 bytes; expected 32"),
        ({"num_boxes": 0}, "num_boxes: '0'; expected a whole number above 0"),
        ({"img_w": "x"}, "img_w: 'x'; expected a whole number"),
        ({"features": "%%%"}, "features: no base64"),
        ({"features": np.zeros(17, np.float32)}, "features: 68 bytes; expected a multiple of 12"),
        ({"features": np.zeros(15, np.float32)}, "features: 5 numbers for a region; those before have 6"),
        ({"objects_id": np.array([0, 1, 9])}, "objects: 9; the list of names has 3"),
        ({"boxes": np.full((3, 4), np.nan, np.float32)}, "boxes: numbers that are not finite"),
        ({"img_id": "first"}, "img_id: first; expected each picture once"),
    ],
)
def test_wrong_lines_are_placed(tmp_path: Path, words: dict[str, Path], changes: dict, reason: str):
    path = write(tmp_path / "a.tsv", fields("first", BOXES), fields("second", BOXES, **changes))
    with pytest.raises(DataError, match=reason):
        import_detections([path], tmp_path / "out", **words)
    assert not (tmp_path / "out").exists()


def test_wrong_files_are_named(tmp_path: Path):
    path = tmp_path / "a.tsv"
    for content, reason in (
        (b"a\tb\n", r"a.tsv:1: 2 fields; expected 10: img_id, img_h"),
        (b"\xff\xfe", "no text file"),
        (b"", r"a.tsv: no lines"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=reason):
            import_detections([path], tmp_path / "out")
    with pytest.raises(DataError, match=r"b.tsv cannot be read: No such file"):
        import_detections([tmp_path / "b.tsv"], tmp_path / "out")
    write(path, fields("first", BOXES))
    (tmp_path / "w.txt").write_text("a\n\nb\n")
    with pytest.raises(DataError, match=r"w.txt:2: an empty line"):
        import_detections([path], tmp_path / "out", objects=tmp_path / "w.txt")
    with pytest.raises(UsageError, match="detections need files"):
        import_detections([], tmp_path / "out")


def group(seed: int, **changes: object) -> dict[str, object]:
    rows = np.random.default_rng(seed).normal(size=(3, WIDTH)).astype(np.float32)
    arrays = {"features": rows, "boxes": np.array(BOXES, np.float32), "img_w": np.int64(40), "img_h": np.int64(30)}
    ids = {"obj_id": np.arange(3), "attr_id": np.arange(3)[::-1], "obj_conf": np.full(3, 0.5)}
    return {key: value for key, value in {**arrays, **ids, **changes}.items() if value is not None}


def write_hdf5(path: Path, groups: dict[str, dict[str, object]]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, arrays in groups.items():
            made = file.create_group(name)
            for key, value in arrays.items():
                made[key] = value
    return path


def test_hdf5_says_what_tabs_say(tmp_path: Path, words: dict[str, Path]):
    file = write_hdf5(tmp_path / "a.h5", {"COCO_1": group(1), "COCO_2": group(2)})
    found = import_detections([file], tmp_path / "one", **words)
    assert (found.pictures, found.width) == (2, WIDTH)
    path = write(tmp_path / "a.tsv", fields("COCO_1", BOXES, 1), fields("COCO_2", BOXES, 2))
    import_detections([path], tmp_path / "other", **words)
    for name in ("COCO_1", "COCO_2"):
        one, other = (Collection(tmp_path / folder).pictures[name] for folder in ("one", "other"))
        assert one == other
        rows = [Features(tmp_path / folder / "features/butd.arrow")[name] for folder in ("one", "other")]
        assert np.array_equal(*rows)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"boxes": None}, "a.h5: x: boxes: absent"),
        ({"boxes": np.zeros((3, 5))}, r"boxes: float64 of shape \(3, 5\); expected \?x4"),
        ({"boxes": np.zeros((0, 4))}, "boxes: none"),
        ({"obj_id": np.arange(2)}, r"obj_id: int64 of shape \(2,\); expected 3"),
        ({"img_w": np.zeros(2)}, "img_w: .*expected one number"),
        ({"img_h": np.int64(0)}, "img_w, img_h: 40, 0; expected numbers above 0"),
        ({"features": np.zeros((3, 2, 2))}, r"features: .*expected 3x\?"),
        ({"features": [b"a"] * 3}, "features: |S1 of shape"),
    ],
)
def test_wrong_groups_are_named(tmp_path: Path, changes: dict, reason: str):
    write_hdf5(tmp_path / "a.h5", {"x": group(1, **changes)})
    with pytest.raises(DataError, match=reason):
        import_detections([tmp_path / "a.h5"], tmp_path / "out")
    (tmp_path / "b.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(DataError, match=r"b.h5 cannot be read as HDF5: .*open file"):
        import_detections([tmp_path / "b.h5"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hdf5_needs_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").touch()
    with pytest.raises(MissingExtra, match=r"needs the package h5py"):
        import_detections([tmp_path / "a.h5"], tmp_path / "out")
