import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quincunx.data.partial import partial_file
from quincunx.errors import DataError, UsageError
from quincunx.recipes.long_range.data.pathfinder import (
    Official,
    generate,
    generated,
    images,
    preset,
    read_official,
)
from quincunx.recipes.long_range.data.pathfinder import export as export_module
from quincunx.recipes.long_range.data.pathfinder.official import find_set

SMALL = preset(16, contour_length=3, distractors=1, seed=4)
COUNTS = {"train": 13, "dev": 4, "test": 5}


def read_whole(official: Official, size: int = 2_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = list(official.parts(size))
    return tuple(np.concatenate([part[column] for part in parts]) for column in range(3))


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def batches_of_five(monkeypatch):
    monkeypatch.setattr(export_module, "BATCH", 5)


def official_set(folder: Path, rows: list[tuple[str, int]], size: int = 8) -> Path:
    """A folder as the published ones, image n being filled with n."""
    (folder / "metadata").mkdir(parents=True)
    (folder / "imgs" / "0").mkdir(parents=True)
    lines = []
    for number, (name, label) in enumerate(rows):
        lines.append(f"imgs/0 {name} {number} {label} 1.0 14 4 2 0.5 1 1\n")
        Image.fromarray(np.full((size, size), number, np.uint8)).save(folder / "imgs" / "0" / name)
    (folder / "metadata" / "0.npy").write_text("".join(lines))
    return folder


def simple_set(folder: Path, count: int = 6) -> Path:
    return official_set(folder, [(f"sample_{number}.png", number % 2) for number in range(count)])


# Writing


def test_what_is_written_reads_back_as_it_was_drawn(tmp_path, batches_of_five):
    progress = []
    manifest = generate(tmp_path / "set", COUNTS, SMALL, lambda done, total: progress.append((done, total)))
    official = read_official(tmp_path / "set")
    pixels, labels, numbers = read_whole(official, 7)
    expected, their_labels = images(SMALL, 0, 22)
    assert official.resolution == 16
    assert (pixels == expected).all()
    assert (labels == their_labels).all()
    assert numbers.tolist() == list(range(22))
    assert official.skipped == []
    assert progress == [(5, 22), (10, 22), (15, 22), (20, 22), (22, 22)]
    assert manifest.ranges == {"train": [0, 13], "dev": [13, 17], "test": [17, 22]}
    for split, drawn, drawn_labels in generated(SMALL, COUNTS):
        rows = slice(*manifest.ranges[split])
        assert (pixels[rows] == drawn).all()
        assert (labels[rows] == drawn_labels).all()


def test_batches_are_read_in_the_order_of_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "BATCH", 2)  # eleven batches: as texts, 10 comes before 2
    generate(tmp_path, COUNTS, SMALL)
    assert (tmp_path / "metadata" / "10.npy").is_file()
    assert (read_whole(read_official(tmp_path))[0] == images(SMALL, 0, 22)[0]).all()


def test_metadata_have_the_published_columns(tmp_path, batches_of_five):
    parameters = replace(preset(64, contour_length=4, distractors=0), margins=(1, 2))
    generate(tmp_path, {"train": 4, "dev": 1, "test": 1}, parameters)
    lines = (tmp_path / "metadata" / "0.npy").read_text().splitlines()
    labels = images(parameters, 0, 6)[1]
    margins = [export_module.margin_of(parameters, number) for number in range(5)]
    assert lines == [
        f"imgs/0 sample_{number}.png {number} {labels[number]} 1.8 4 2 5 1 {margins[number]} 1" for number in range(5)
    ]
    with Image.open(tmp_path / "imgs" / "1" / "sample_0.png") as image:
        assert (image.mode, image.size) == ("L", (64, 64))


def test_the_manifest_holds_settings_and_a_hash_of_the_content(tmp_path, batches_of_five):
    generate(tmp_path, COUNTS, SMALL)
    manifest = export_module.SET.read(tmp_path)
    facts = json.loads((tmp_path / "pathfinder.json").read_text())
    assert facts["parameters"]["contour_length"] == 3
    assert facts["parameters"]["margins"] == [1]
    assert facts["counts"] == COUNTS
    pixels, labels = images(SMALL, 0, 22)
    hashes = [
        hashlib.sha256(pixels[start : start + 5].tobytes() + labels[start : start + 5].tobytes()).hexdigest()
        for start in range(0, 22, 5)
    ]
    assert facts["batches"] == hashes
    assert manifest.sha256 == hashlib.sha256("".join(hashes).encode()).hexdigest()


def test_a_set_that_is_there_is_kept(tmp_path, batches_of_five):
    manifest = generate(tmp_path, COUNTS, SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    progress = []
    assert generate(tmp_path, COUNTS, SMALL, lambda *done: progress.append(done)) == manifest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == before
    assert progress == []


@pytest.mark.parametrize("harm", ["metadata gone", "image gone", "image empty", "image changed", "label changed"])
def test_a_damaged_batch_is_drawn_again(tmp_path, batches_of_five, harm):
    generate(tmp_path, COUNTS, SMALL)
    whole = content(tmp_path)
    image, metadata = tmp_path / "imgs" / "1" / "sample_2.png", tmp_path / "metadata" / "1.npy"
    if harm == "metadata gone":
        metadata.unlink()
    elif harm == "image gone":
        image.unlink()
    elif harm == "image empty":
        image.write_bytes(b"")
    elif harm == "image changed":
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(image)
    else:
        lines = metadata.read_text().splitlines()
        columns = lines[3].split()
        columns[3] = str(1 - int(columns[3]))
        metadata.write_text("\n".join([*lines[:3], " ".join(columns), *lines[4:]]) + "\n")
    assert content(tmp_path) != whole
    progress = []
    generate(tmp_path, COUNTS, SMALL, lambda *done: progress.append(done))
    assert content(tmp_path) == whole
    assert progress == [(22, 22)]


def test_an_interrupted_set_goes_on_where_it_stopped(tmp_path, batches_of_five):
    generate(tmp_path / "whole", COUNTS, SMALL)

    def interrupt(done: int, _: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "set", COUNTS, SMALL, interrupt)
    assert export_module.SET.read(tmp_path / "set").sha256 is None
    progress = []
    generate(tmp_path / "set", COUNTS, SMALL, lambda *done: progress.append(done))
    assert progress == [(20, 22), (22, 22)]
    assert content(tmp_path / "set") == content(tmp_path / "whole")


KILLED = """
import sys
from quincunx.recipes.long_range.data.pathfinder import export, generate, preset
export.BATCH = 5
generate(sys.argv[1], {"train": 5000, "dev": 5, "test": 5}, preset(16, contour_length=3, distractors=1, seed=4))
"""


def test_a_killed_run_leaves_nothing_that_stops_the_next(tmp_path, batches_of_five):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    while not (tmp_path / "metadata" / "3.npy").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(UsageError, match="made with other settings"):
        generate(tmp_path, COUNTS, SMALL)
    done = len(list((tmp_path / "metadata").glob("*.npy")))
    progress = []

    class EnoughError(Exception):
        pass

    def stop(*now: int) -> None:
        progress.append(now)
        raise EnoughError

    with pytest.raises(EnoughError):
        generate(tmp_path, {"train": 5000, "dev": 5, "test": 5}, SMALL, stop)
    assert progress == [(5 * (done + 1), 5010)]


@pytest.mark.parametrize("name", ["imgs", "metadata"])
def test_other_data_are_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=rf"already holds {name}, not made by this generator"):
        generate(tmp_path, COUNTS, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_set_with_other_settings_is_refused(tmp_path, batches_of_five):
    generate(tmp_path, COUNTS, SMALL)
    whole = content(tmp_path)
    for counts, parameters in ((COUNTS, replace(SMALL, seed=5)), ({**COUNTS, "dev": 3}, SMALL)):
        with pytest.raises(UsageError, match="made with other settings"):
            generate(tmp_path, counts, parameters)
    assert content(tmp_path) == whole


def test_a_folder_that_another_writes_to_is_respected(tmp_path, batches_of_five):
    with partial_file(tmp_path / "pathfinder.json.lock", wait=False), pytest.raises(DataError, match="another process"):
        generate(tmp_path, COUNTS, SMALL)
    generate(tmp_path, COUNTS, SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imgs", "metadata", "pathfinder.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write Pathfinder into .*file"):
        generate(tmp_path / "file" / "set", COUNTS, SMALL)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format":1,"parameters":{},"counts":{},"x":1}'])
def test_a_manifest_of_something_else_is_named(tmp_path, text):
    (tmp_path / "pathfinder.json").write_text(text)
    with pytest.raises(DataError, match=r"pathfinder\.json is not a manifest"):
        generate(tmp_path, COUNTS, SMALL)


# Reading


def test_rows_come_in_order_of_file_and_line_and_labels_from_column_four(tmp_path):
    folder = simple_set(tmp_path)
    (folder / "metadata" / "1.npy").write_text("imgs/0 sample_4.png 0 1 1.0\n\nimgs/0 sample_0.png 1 1 1.0\n")
    official = read_official(folder)
    pixels, labels, numbers = read_whole(official, 3)
    assert pixels[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 4, 0]
    assert labels.tolist() == [0, 1, 0, 1, 0, 1, 1, 1]
    assert numbers.tolist() == list(range(8))
    assert pixels.shape == (8, 64)
    assert official.rows[7].place.endswith("1.npy:3")


def test_metadata_that_are_arrays_after_all_are_read(tmp_path):
    folder = simple_set(tmp_path, 2)
    array = np.array([["imgs/0", "sample_1.png", "0", "1"], ["imgs/0", "sample_0.png", "1", "0"]])
    np.save(folder / "metadata" / "0.npy", array)
    assert read_whole(read_official(folder))[0][:, 0].tolist() == [1, 0]


def test_arrays_that_would_run_code_are_refused(tmp_path):
    folder = simple_set(tmp_path, 2)
    np.save(folder / "metadata" / "0.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot read .*0\.npy"):
        read_official(folder)


def test_colour_images_are_read_as_grey(tmp_path):
    folder = simple_set(tmp_path, 3)
    Image.new("RGB", (8, 8), (90, 90, 90)).save(folder / "imgs" / "0" / "sample_1.png")
    assert read_whole(read_official(folder))[0][:, 0].tolist() == [0, 90, 2]


def test_empty_and_damaged_images_are_left_out_and_named(tmp_path):
    folder = simple_set(tmp_path)
    (folder / "imgs" / "0" / "sample_0.png").write_bytes(b"")
    damaged = folder / "imgs" / "0" / "sample_3.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    official = read_official(folder)
    assert official.resolution == 8
    pixels, labels, numbers = read_whole(official, 2)
    assert pixels[:, 0].tolist() == numbers.tolist() == [1, 2, 4, 5]
    assert labels.tolist() == [1, 0, 0, 1]
    assert [row.line for row in official.skipped] == [1, 4]
    assert str(official.skipped[0]).endswith("metadata/0.npy:1: imgs/0/sample_0.png is empty")
    assert "sample_3.png cannot be read as an image" in official.skipped[1].reason


def test_many_empty_images_are_an_error(tmp_path):
    folder = simple_set(tmp_path, 40)
    for number in range(10):
        (folder / "imgs" / "0" / f"sample_{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"10 of 40 images .*\n.*sample_0\.png is empty") as caught:
        list(read_official(folder).parts())
    assert "sample_5.png" not in str(caught.value)
    (folder / "imgs" / "0" / "sample_0.png").write_bytes((folder / "imgs" / "0" / "sample_20.png").read_bytes())
    assert len(read_whole(read_official(folder))[0]) == 31


def test_a_set_of_empty_images_alone_is_an_error(tmp_path):
    folder = simple_set(tmp_path, 2)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="2 of 2 images"):
        list(read_official(folder).parts())


def test_another_size_is_named_with_its_row(tmp_path):
    folder = simple_set(tmp_path)
    Image.new("L", (8, 9)).save(folder / "imgs" / "0" / "sample_4.png")
    with pytest.raises(DataError, match=r"0\.npy:5: .*sample_4\.png has 8 x 9 pixels, expected 8 x 8"):
        list(read_official(folder).parts())
    with pytest.raises(
        DataError, match=r"0\.npy:1: .*sample_0\.png has 8 x 8 pixels, expected 32 x 32; data.resolution"
    ):
        list(read_official(folder, resolution=32).parts())


def test_a_missing_image_is_named_with_its_row(tmp_path):
    folder = simple_set(tmp_path)
    (folder / "imgs" / "0" / "sample_2.png").unlink()
    with pytest.raises(DataError, match=r"0\.npy:3: the image .*sample_2\.png is missing"):
        list(read_official(folder).parts())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("imgs/0 sample_0.png 0 2 1.0", r"the label \(column 4\) is '2', expected 0 or 1"),
        ("imgs/0 sample_0.png 0 1.0 1.0", "the label .* is '1.0'"),
        ("imgs/0 sample_0.png 0", "at least 4 columns .* found 'imgs/0 sample_0.png 0'"),
        ("../.. sample_0.png 0 1", "lies outside"),
        ("/etc passwd 0 1", "lies outside"),
    ],
)
def test_rows_that_are_none_are_named(tmp_path, line, said):
    folder = simple_set(tmp_path)
    (folder / "metadata" / "0.npy").write_text(f"imgs/0 sample_1.png 0 1 1.0\n{line}\n")
    with pytest.raises(DataError, match=rf"0\.npy:2: .*{said}"):
        read_official(folder)


def test_metadata_that_are_no_text_are_named(tmp_path):
    folder = simple_set(tmp_path)
    (folder / "metadata" / "0.npy").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cannot read .*0\.npy"):
        read_official(folder)


def test_the_set_is_found_from_the_folder_above(tmp_path):
    inner = simple_set(tmp_path / "curv_contour_length_14")
    assert find_set(tmp_path) == inner
    assert read_official(tmp_path).folder == inner


def test_several_sets_are_named(tmp_path):
    for name in ("curv_baseline", "curv_contour_length_9", "curv_contour_length_14"):
        simple_set(tmp_path / name)
    with pytest.raises(UsageError, match=r"several sets .curv_baseline, curv_contour_length_14, curv_contour_length_9"):
        read_official(tmp_path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.write_text(""), "is a file"),
        (lambda folder: folder.mkdir(), "holds no imgs/, no metadata/ and no folder"),
        (lambda folder: (folder / "imgs").mkdir(parents=True), "holds imgs/ alone"),
        (lambda folder: (folder / "curv_x" / "metadata").mkdir(parents=True), "curv_x holds metadata/ alone"),
        (
            lambda folder: [(folder / name).mkdir(parents=True) for name in ("imgs", "metadata")],
            r"holds no files \*\.npy",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_to_put_there(tmp_path, make, said):
    folder = tmp_path / "set"
    make(folder)
    with pytest.raises(DataError, match=rf"{said}.*; expected .*curv_contour_length_14"):
        read_official(folder)


def test_metadata_without_a_line_are_an_error(tmp_path):
    folder = simple_set(tmp_path)
    (folder / "metadata" / "0.npy").write_text("\n")
    with pytest.raises(DataError, match="holds no line"):
        read_official(folder)
