"""Examples as rows: several of one example where a task asks so, with the features of their pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import DataError
from quincunx.recipes.vision_language.data.features import write_features
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.record import TASKS
from quincunx.recipes.vision_language.read import read
from vision_language_runs import decided


def test_rows_are_numbered_one_part_after_another(world: Path) -> None:
    rows = read(decided(world)).train
    assert [part.task.name for part in rows.parts] == list(TASKS)
    assert rows.sizes == [32, 32, 16, 32, 128, 16, 16, 16] and len(rows) == sum(rows.sizes)
    assert rows.lengths is None
    before = sum(rows.sizes[: TASKS.index("vcr")])
    vcr = [rows[before + number] for number in range(16)]
    assert [item.row for item in vcr] == [*range(8), *range(8)]
    assert len({item.example.uid for item in vcr[:8]}) == 1 and vcr[8].example.uid != vcr[0].example.uid
    assert [item.number for item in vcr] == [TASKS.index("vcr")] * 16


def test_an_item_has_the_features_and_boxes_of_each_picture(world: Path) -> None:
    rows = read(decided(world)).train
    assert rows.eyes is not None and rows.eyes.features is not None
    item = rows[rows.sizes[0] + rows.sizes[1]]
    assert item.task.name == "nlvr" and len(item.pictures) == len(item.features) == len(item.boxes) == 2
    for picture, features, boxes in zip(item.pictures, item.features, item.boxes, strict=True):
        assert np.array_equal(features, rows.eyes.features[picture.id])
        assert np.array_equal(boxes, [region.box for region in picture.regions])


def test_fewer_regions_are_taken_where_so_many_are_asked_for(world: Path) -> None:
    rows = read(decided(world, {"pictures.boxes": 2, "pictures.max_boxes": 1})).train
    sizes = {item.task.name: max(map(len, item.features)) for item in map(rows.__getitem__, range(len(rows)))}
    assert sizes == {**dict.fromkeys(TASKS, 2), "caption": 1}


def test_a_grid_is_taken_whole(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grids"
    shutil.copytree(world, folder)
    grids = ((name, np.ones((49, 6))) for name in Collection(folder).pictures)
    write_features(folder / "features" / "RN50.arrow", grids, width=6, model="grids")
    rows = read(decided(folder, {"data.tasks": ["vqa"], "pictures.features": "RN50"})).train
    assert rows[0].features[0].shape == (49, 6) and rows[0].boxes[0].shape == (0, 4)


def test_texts_alone_have_no_pictures(world: Path) -> None:
    rows = read(decided(world, {"pictures.use": False, "data.tasks": ["vqa"]})).train
    assert rows[0].pictures == () and rows[0].features == ()


def test_regions_without_their_rows_are_refused(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(world, folder)
    place = folder / "features" / "butd.arrow"
    before = read(decided(world)).train.eyes
    assert before is not None and before.features is not None
    place.unlink()
    named = ((name, before.features[name][:1]) for name in before.features)
    write_features(place, named, width=8, model="one row each")
    rows = read(decided(folder, {"data.tasks": ["vqa"]})).train
    with pytest.raises(DataError, match=r"regions in pictures.jsonl and 1 rows of features"):
        _ = [rows[number] for number in range(len(rows))]
