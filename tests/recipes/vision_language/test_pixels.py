"""Pictures brought to size: boxes go where their pixels go, random changes are a function of their key alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.augment import Augmentation, mirror, prepare, rectangle, shift
from quincunx.recipes.vision_language.data.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    Look,
    as_numbers,
    crop_of,
    cut_off,
    parse_size,
    read_picture,
    show,
)

NONE = np.empty((0, 4))
NEVER = Augmentation(mirror=0, shift=0, erase=0)


def marked(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A black picture with a white box."""
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


def found_at(image: Image.Image) -> tuple[int, int, int, int]:
    """Where the white is."""
    rows, columns = np.nonzero(np.asarray(image)[:, :, 0] > 127)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def colour(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def noise(width: int = 20, height: int = 16, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("448,448", (448, 448)), ("(448,448)", (448, 448)), (" ( 224 , 320 ) ", (224, 320)), ("224x320", (224, 320)),
        ("448", (448, 448)), (448, (448, 448)), ([32, 64], (32, 64)), ((32, 64), (32, 64)), ("[32, 64]", (32, 64)),
    ],
)  # fmt: skip
def test_sizes_are_read_without_running_them(value: Any, expected: tuple[int, int]) -> None:
    assert parse_size(value) == expected


@pytest.mark.parametrize(
    "value", ["__import__('os')", "448;448", "", "0", "1,2,3", 0, -3, True, None, [1], [1.5, 2], 4.0]
)
def test_other_sizes_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="height and width in pixels"):
        parse_size(value)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(40, 120), height=st.integers(40, 120), high=st.integers(32, 80), wide=st.integers(32, 80),
    fit=st.sampled_from(["crop", "squash"]), data=st.data(),
)  # fmt: skip
def test_boxes_go_where_their_pixels_go(width: int, height: int, high: int, wide: int, fit: str, data: Any) -> None:
    x1, y1 = data.draw(st.integers(0, width - 20)), data.draw(st.integers(0, height - 20))
    box = (x1, y1, data.draw(st.integers(x1 + 12, width)), data.draw(st.integers(y1 + 12, height)))
    shown = show(marked(width, height, box), [box], Look((high, wide), fit))
    assert shown.image.size == (wide, high) and shown.boxes.shape == (1, 4)
    if shown.visible[0] > 0.3:
        np.testing.assert_allclose(shown.boxes[0], found_at(shown.image), atol=1.6)
        mirrored = mirror(shown)
        np.testing.assert_allclose(mirrored.boxes[0], found_at(mirrored.image), atol=1.6)
        moved = shift(mirrored, 0.1, np.random.default_rng(data.draw(st.integers(0, 99))))
        if moved.visible[0] > 0.3:
            np.testing.assert_allclose(moved.boxes[0], found_at(moved.image), atol=1.6)
    if fit == "squash":
        assert shown.visible[0] == pytest.approx(1, abs=1e-6)  # sides are scaled in float32


def test_the_middle_is_cut_out_of_what_just_covers_the_size() -> None:
    image = noise(60, 30)
    expected = image.resize((40, 20), Image.Resampling.BICUBIC).crop((10, 0, 30, 20))
    shown = show(image, [[0, 0, 60, 30], [0, 0, 15, 30], [30, 0, 60, 15], [0, 0, 5, 5]], Look((20, 20)))
    assert shown.image.tobytes() == expected.tobytes()
    np.testing.assert_allclose(shown.boxes, [[0, 0, 20, 20], [0, 0, 0, 20], [10, 0, 20, 10], [0, 0, 0, 10 / 3]])
    np.testing.assert_allclose(shown.visible, [0.5, 0, 0.5, 0])
    assert show(expected, NONE, Look((20, 20))).image.tobytes() == expected.tobytes()
    assert show(image, NONE, Look((20, 20))).boxes.shape == (0, 4)


def test_boxes_without_area_are_seen_where_they_are_within() -> None:
    boxes, visible = cut_off(np.array([[3, 3, 3, 3], [30, 3, 30, 3]], np.float32), (10, 10))
    assert boxes.tolist() == [[3, 3, 3, 3], [10, 3, 10, 3]] and visible.tolist() == [1, 0]


def test_numbers_are_those_of_the_formula() -> None:
    image = noise()
    look = Look((16, 20))
    expected = [
        [[(colour(image, x, y)[c] / 255 - CLIP_MEAN[c]) / CLIP_STD[c] for x in range(20)] for y in range(16)]
        for c in range(3)
    ]
    found = as_numbers(image, look)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_processing_is_that_of_the_library() -> None:
    transformers = pytest.importorskip("transformers")
    for size in ((60, 41), (33, 47), (32, 32)):
        image = noise(*size)
        kind: Any = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
        peer = kind(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        expected = np.asarray(peer(images=image, return_tensors="np")["pixel_values"][0])
        found = as_numbers(show(image, NONE, Look((32, 32))).image, Look((32, 32)))
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA", "I;16"])
def test_pictures_of_every_mode_are_read(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(np.full((4, 6), 200 << 8, np.uint16)).save(path)
    else:
        Image.new("RGB", (6, 4), (200, 200, 200)).convert(mode).save(path)
    found = read_picture(path, (4, 6))
    assert (found.mode, found.size) == ("RGB", (6, 4))
    wanted = (0, 255) if mode == "1" else (190, 210)
    assert all(wanted[0] <= value <= wanted[1] for value in colour(found, 1, 1))


def test_what_is_clear_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert colour(read_picture(tmp_path / "a.png"), 0, 0) == (255, 255, 255)


def test_pictures_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    image = marked(40, 20, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter to the right
    image.save(tmp_path / "a.png", exif=exif)
    found = read_picture(tmp_path / "a.png", (40, 20))
    assert found_at(found) == (0, 0, 20, 20) and found.size == (20, 40)
    with pytest.raises(DataError, match=r"a\.png is 20 pixels wide and 40 high, and its record says 40 and 20"):
        read_picture(tmp_path / "a.png", (20, 40))


def test_files_that_are_no_pictures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("png", "jpg", "gif", "bmp"):
        path = tmp_path / f"a.{kind}"
        noise(64, 64).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"a\.{kind} is no picture that can be read"):
            read_picture(path)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png is no picture"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"no picture .*c\.png"):
        read_picture(tmp_path / "c.png")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="32 bits"):
        read_picture(tmp_path / "f.tif")
    noise(64, 64).save(tmp_path / "d.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"d\.png is too large a picture"):
        read_picture(tmp_path / "d.png")


def test_crops_are_what_a_box_shows() -> None:
    image = marked(30, 20, (5, 6, 15, 18))
    assert crop_of(image, (5, 6, 15, 18)).getextrema() == ((255, 255),) * 3
    assert crop_of(image, (4.2, -3, 99, 8)).size == (26, 8)
    assert crop_of(image, (7, 7, 7, 7)).size == (1, 1)
    for box in ((30, 0, 40, 5), (10, 5, 5, 10), (-9, 0, -2, 5)):
        with pytest.raises(DataError, match="not within a picture of 30 by 20"):
            crop_of(image, box)


def test_an_example_depends_on_its_key_alone() -> None:
    images, boxes, texts = [noise(40, 30), noise(30, 40, 1)], [[[3, 4, 20, 20]], NONE], ["on the left", "left"]
    look, always = Look((32, 32)), Augmentation()
    made = [prepare(images, boxes, texts, look, augmentation=always, key=key) for key in (*range(40), *range(40))]
    for first, second in zip(made[:40], made[40:], strict=True):
        np.testing.assert_array_equal(first.pixels, second.pixels)
        np.testing.assert_array_equal(first.boxes[0], second.boxes[0])
        assert (first.texts, first.mirrored) == (second.texts, second.mirrored)
    assert 10 < sum(each.mirrored for each in made[:40]) < 30
    assert {each.texts for each in made if each.mirrored} == {("on the right", "right")}
    assert {each.texts for each in made if not each.mirrored} == {("on the left", "left")}
    assert len({each.pixels.tobytes() for each in made[:40]}) == 40
    assert made[0].pixels.shape == (2, 3, 32, 32) and made[0].boxes[1].shape == (0, 4)


def test_without_changes_it_is_the_picture_itself() -> None:
    images, look = [noise(40, 30)], Look((32, 32), "squash")
    expected = as_numbers(show(images[0], NONE, look).image, look)
    for augmentation in (None, NEVER):
        found = prepare(images, [NONE], ["What is left?"], look, augmentation=augmentation, key=5)
        np.testing.assert_array_equal(found.pixels[0], expected)
        assert not found.mirrored
    assert prepare([], [], ["text alone"], look).pixels.shape == (0, 3, 32, 32)


def test_a_picture_is_not_mirrored_where_a_word_is_in_doubt() -> None:
    images, look = [noise(32, 32)], Look((32, 32))
    always = Augmentation(mirror=1, shift=0, erase=0)
    plain = prepare(images, [NONE], [], look).pixels
    kept = prepare(images, [NONE], ["How much is left?"], look, augmentation=always)
    assert not kept.mirrored and np.array_equal(kept.pixels, plain)
    turned = prepare(images, [[[0, 0, 10, 5]]], ["what is it?"], look, augmentation=always)
    np.testing.assert_array_equal(turned.pixels[0], plain[0][:, :, ::-1])
    assert turned.mirrored and turned.boxes[0].tolist() == [[22, 0, 32, 5]]
    assert not prepare(images, [NONE], ["a man"], look, augmentation=always, foreign=["rechts"]).mirrored


def test_one_change_left_out_leaves_the_others_as_they_were() -> None:
    images, look = [noise(32, 32)], Look((32, 32))
    for key in range(12):
        whole = prepare(images, [NONE], [], look, augmentation=Augmentation(mirror=0), key=key).pixels
        unerased = prepare(images, [NONE], [], look, augmentation=Augmentation(mirror=0, erase=0), key=key).pixels
        kept = whole != 0
        np.testing.assert_array_equal(whole[kept], unerased[kept])


def test_erased_rectangles_follow_their_law() -> None:
    augmentation, generator = Augmentation(), np.random.default_rng(0)
    found = [place for _ in range(2000) if (place := rectangle((100, 80), augmentation, generator)) is not None]
    assert len(found) > 1900
    tops, lefts, heights, widths = np.array(found).T
    assert tops.min() >= 0 and (tops + heights).max() <= 100 and lefts.min() >= 0 and (lefts + widths).max() <= 80
    areas, ratios = heights * widths / 8000, heights / widths
    assert 0.015 < areas.min() < 0.03 and 0.3 < areas.max() < 0.36
    assert abs(np.log(ratios).mean()) < 0.1  # as often high as wide
    erased = [
        prepare([noise(32, 32)], [NONE], [], Look((32, 32)), augmentation=Augmentation(0, 0, 0.5), key=key).pixels
        for key in range(200)
    ]
    share = np.mean([(pixels == 0).all(axis=1).any() for pixels in erased])
    assert 0.4 < share < 0.6


def test_shifts_follow_their_law() -> None:
    image = marked(50, 40, (20, 15, 30, 25))
    places = [
        found_at(shift(show(image, NONE, Look((40, 50))), 0.1, np.random.default_rng(seed)).image)
        for seed in range(300)
    ]
    assert {place[0] - 20 for place in places} == set(range(-5, 6))
    assert {place[1] - 15 for place in places} == set(range(-4, 5))


@pytest.mark.parametrize(
    "wrong",
    [{"mirror": 1.5}, {"erase": -0.1}, {"shift": 1.0}, {"erased": (0.5, 0.2)}, {"erased": (0, 0.2)}, {"ratio": (0, 1)}],
)
def test_misuse_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="found"):
        Augmentation(**wrong)
    with pytest.raises(UsageError, match="boxes were given for 0 pictures, and there are 1"):
        prepare([noise()], [], [], Look((8, 8)))
    for options in ({"fit": "stretch"}, {"std": (1, 0, 1)}, {"size": (0, 4)}):
        with pytest.raises(UsageError):
            Look(**{"size": (8, 8), **options})
    with pytest.raises(DataError, match=r"finite numbers \[boxes, 4\]"):
        prepare([noise()], [[[1, 2, 3]]], [], Look((8, 8)))
