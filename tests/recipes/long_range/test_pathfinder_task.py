"""Pathfinder as an experiment takes it: drawn or read, kept in the cache, divided the same way every time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from quincunx.errors import DataError
from quincunx.recipes.long_range.config import Data
from quincunx.recipes.long_range.data import Splits, load_splits
from quincunx.recipes.long_range.data.pathfinder import generate, images, preset

COUNTS = {"train": 60, "dev": 10, "test": 12}
SMALL = preset(16, seed=4)


def load(cache: Path, limit: int | None = None, explicit: set[str] | None = None, **settings: object) -> Splits:
    data = Data.model_validate({"resolution": 16, "seed": 4, "cache": str(cache), **settings})
    return load_splits("pathfinder", data, limit, explicit or set())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pathfinder") / "curv_contour_length_5"
    generate(path, COUNTS, SMALL)
    return path


def test_drawn_images_are_tokens_from_one_up_and_come_from_the_cache_again(tmp_path):
    first = load(tmp_path, **COUNTS)
    pixels, labels = images(SMALL, 60, 10)
    assert np.array_equal(np.stack([first.dev.tokens(i) for i in range(10)]), pixels.astype(np.int64) + 1)
    assert first.dev.labels.tolist() == labels.tolist()
    assert min(first.train.tokens(i).min() for i in range(60)) == 1, "black is 1, since 0 is padding"
    assert "generated and kept" in first.notes[0] and "5 dashes" in first.notes[0]
    again = load(tmp_path, **COUNTS)
    assert "from the cache" in again.notes[0]
    assert again.fingerprints == first.fingerprints


@pytest.mark.parametrize(
    "change", [{"seed": 5}, {"contour_length": 4}, {"distractors": 0}, {"resolution": 17}, {"train": 61}], ids=str
)
def test_every_setting_of_the_drawing_changes_it(tmp_path, change):
    settings = {**COUNTS, **change}
    assert load(tmp_path, **settings).fingerprints != load(tmp_path, **COUNTS).fingerprints


def test_a_limit_takes_the_first_of_every_split(tmp_path):
    limited = load(tmp_path, limit=8, **COUNTS)
    assert (len(limited.train), len(limited.dev), len(limited.test)) == (8, 8, 8)


def test_our_own_folder_is_divided_as_its_manifest_says(tmp_path, folder):
    read, drawn = load(tmp_path, path=str(folder)), load(tmp_path, **COUNTS)
    assert read.fingerprints == drawn.fingerprints
    assert read.notes[0].endswith(".npz).") and "manifest" in read.notes[0]
    again = load(tmp_path, path=str(folder))
    assert "from the cache" in again.notes[0] and again.fingerprints == read.fingerprints


def test_an_official_folder_is_divided_by_seed_and_every_image_is_used_once(tmp_path, folder):
    official = tmp_path / "official"
    official.mkdir()
    for name in ("imgs", "metadata"):
        (official / name).symlink_to(folder / name)
    one = load(tmp_path / "cache", path=str(official), seed=1)
    assert (len(one.train), len(one.dev), len(one.test)) == (66, 8, 8)
    whole = load(tmp_path, **COUNTS)

    def bag(splits: Splits) -> list[bytes]:
        parts = (splits.train, splits.dev, splits.test)
        return sorted(part.symbols(i).tobytes() for part in parts for i in range(len(part)))

    assert bag(one) == bag(whole)
    other = load(tmp_path / "cache", path=str(official), seed=2)
    assert other.fingerprints != one.fingerprints and bag(other) == bag(whole)


def test_counts_take_the_first_and_a_set_count_must_be_there(tmp_path, folder):
    whole = load(tmp_path, path=str(folder))
    part = load(tmp_path, path=str(folder), train=20, explicit={"data.train"})
    assert np.array_equal(part.train.labels, whole.train.labels[:20]) and len(part.dev) == 10
    with pytest.raises(DataError, match=r"has 60 rows, data\.train asks for 61"):
        load(tmp_path, path=str(folder), train=61, explicit={"data.train"})


def test_an_empty_image_is_left_out_and_named_also_from_the_cache(tmp_path, folder):
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copied / "pathfinder.json").unlink()
    empty = sorted((copied / "imgs").rglob("*.png"))[3]
    empty.write_bytes(b"")
    for _ in range(2):
        splits = load(tmp_path / "cache", path=str(copied))
        assert len(splits.train) + len(splits.dev) + len(splits.test) == 81
        assert len(splits.skipped) == 1 and "1 images left out" in " ".join(splits.notes)


def test_an_unfinished_folder_is_refused(tmp_path, folder):
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    manifest = json.loads((copied / "pathfinder.json").read_text())
    (copied / "pathfinder.json").write_text(json.dumps({**manifest, "batches": []}))
    with pytest.raises(DataError, match="is not finished"):
        load(tmp_path / "cache", path=str(copied))
