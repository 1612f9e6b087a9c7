"""Fewer rows: pooled or chosen as loops say it, each picture by itself, whatever stands in padding."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.nn.rows import attach_rows
from quincunx.recipes.vision_language.model.downsample import (
    DOWNSAMPLERS,
    GridPool,
    LinePool,
    PoolRows,
    SparseSample,
    pool_pictures,
)
from quincunx.recipes.vision_language.model.rows import Rows, make_rows

WIDTH = 3


def rows_with(counts: list[list[int]], padding: int = 2, seed: int = 0) -> Rows:
    """Return rows of examples, of which each has so many rows of each of its pictures; padding stands among them."""
    generator = torch.Generator().manual_seed(seed)
    length = max(sum(count) + padding * len(count) for count in counts)
    mask = torch.zeros(len(counts), length, dtype=torch.bool)
    images, objects = torch.zeros(2, len(counts), length, dtype=torch.int64)
    for b, count in enumerate(counts):
        place = 0
        for k, many in enumerate(count):
            mask[b, place : place + many] = True
            images[b, place : place + many] = k
            objects[b, place : place + many] = torch.arange(many)
            place += many + padding
    boxes = torch.rand(len(counts), length, 4, generator=generator)
    boxes[..., 2:] += boxes[..., :2]
    return make_rows(torch.randn(len(counts), length, WIDTH, generator=generator), boxes, mask, images, objects)


def windows(size: int, count: int) -> list[range]:
    """Return which rows each of `count` pooled ones is made of, as torch defines it."""
    return [range(i * size // count, math.ceil((i + 1) * size / count)) for i in range(count)]


def by_hand(pool: PoolRows, rows: Rows, b: int, picture: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features and boxes of one picture."""
    own = rows.of_picture(picture)[b]
    features, boxes = rows.features[b, own], rows.boxes[b, own]
    if isinstance(pool, GridPool):
        side = math.isqrt(len(features))
        parts = [
            [y * side + x for y in down for x in right]
            for down in windows(side, pool.side)
            for right in windows(side, pool.side)
        ]
    else:
        parts = [list(each) for each in windows(len(features), pool.count)]
    reduced = [features[part].amax(0) if pool.reduce == "max" else features[part].mean(0) for part in parts]
    hulls = [torch.cat([boxes[part, :2].amin(0), boxes[part, 2:].amax(0)]) for part in parts]
    return torch.stack(reduced), torch.stack(hulls)


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize(("kind", "count"), [(GridPool, 4), (GridPool, 11), (LinePool, 4), (LinePool, 6)])
def test_neighbours_are_pooled_within_their_picture(kind: type[PoolRows], count: int, reduce: str) -> None:
    rows = rows_with([[9], [4, 16], [], [9, 9], [1, 0]])
    pool = kind(count, reduce)  # pyright: ignore[reportArgumentType]
    found = pool(rows)
    kept = 9 if (kind, count) == (GridPool, 11) else count
    assert pool.count == kept and found.features.shape == (5, 2 * kept, WIDTH)
    present = [[True, False], [True, True], [False, False], [True, True], [True, False]]
    for b, pictures in enumerate(present):
        for k, there in enumerate(pictures):
            part = slice(k * kept, (k + 1) * kept)
            assert found.mask[b, part].tolist() == [there] * kept
            if not there:
                assert not found.features[b, part].any() and not found.boxes[b, part].any()
                continue
            features, boxes = by_hand(pool, rows, b, k)
            torch.testing.assert_close(found.features[b, part], features)
            torch.testing.assert_close(found.boxes[b, part], boxes)
            assert found.images[b, part].tolist() == [k] * kept
            assert found.objects[b, part].tolist() == list(range(kept))


def test_boxes_of_grids_stay_zeros() -> None:
    assert not GridPool(4)(make_rows(torch.randn(2, 9, WIDTH))).boxes.any()


def test_gradients_go_to_what_was_taken() -> None:
    features = torch.randn(1, 9, WIDTH, requires_grad=True)
    GridPool(1)(make_rows(features)).features.sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad[0], (features[0] == features[0].amax(0)).float())


def test_rows_that_are_no_grid_are_refused() -> None:
    with pytest.raises(DataError, match="8 rows of features, which are no square grid"):
        GridPool(4)(rows_with([[9], [8]]))


@pytest.mark.parametrize("word", DOWNSAMPLERS)
def test_at_least_one_row_is_kept(word: str) -> None:
    with pytest.raises(UsageError, match="at least one row, found 0"):
        DOWNSAMPLERS[word](0, "max")


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(UsageError, match="max or mean, found 'sum'"):
        LinePool(4, "sum")  # pyright: ignore[reportArgumentType]


def sampled(rows: Rows, count: int, key: int | None, numbers: list[int] | None = None) -> Rows:
    """Return what is kept: in training under a key, else evenly."""
    sample = SparseSample(count)
    context = attach_rows(sample)
    assert context is not None
    if key is None:
        return sample.eval()(rows)
    context.set(key, torch.tensor(numbers if numbers is not None else list(range(len(rows.mask)))))
    return sample.train()(rows)


examples = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=2), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(counts=examples, count=st.integers(1, 6), key=st.none() | st.integers(0, 1 << 40), padding=st.integers(0, 3))
def test_what_is_kept_is_of_the_picture_in_its_order_and_never_padding(
    counts: list[list[int]], count: int, key: int | None, padding: int
) -> None:
    rows = rows_with(counts, padding)
    found = sampled(rows, count, key)
    for b, pictures in enumerate(counts):
        for k, many in enumerate(pictures):
            own = rows.of_picture(k)[b].nonzero()[:, 0].tolist()
            kept = found.of_picture(k)[b]
            assert int(kept.sum()) == min(many, count)
            numbers = found.objects[b, kept].tolist()
            assert numbers == sorted({*numbers})
            places = [own[number] for number in numbers]
            assert torch.equal(found.features[b, kept], rows.features[b, places])
            assert torch.equal(found.boxes[b, kept], rows.boxes[b, places])
    assert not found.features[~found.mask].any()
    # neither other examples nor padding change anything
    wide = rows_with(counts, padding)
    zeros = make_rows(
        torch.nn.functional.pad(wide.features, (0, 0, 0, 3)),
        torch.nn.functional.pad(wide.boxes, (0, 0, 0, 3)),
        torch.nn.functional.pad(wide.mask, (0, 3)),
        torch.nn.functional.pad(wide.images, (0, 3)),
        torch.nn.functional.pad(wide.objects, (0, 3)),
    )
    again = sampled(zeros, count, key)
    assert torch.equal(again.features[again.mask], found.features[found.mask])
    last = len(counts) - 1
    single = Rows(*(each[last:] for each in (rows.features, rows.boxes, rows.mask, rows.images, rows.objects)))
    own = sampled(single, count, key, [last])
    assert torch.equal(own.features[own.mask], found.features[last][found.mask[last]])


def test_evaluation_keeps_rows_evenly() -> None:
    for many, count, expected in ((9, 3, [1, 4, 7]), (10, 4, [1, 3, 6, 8]), (5, 5, [0, 1, 2, 3, 4]), (3, 5, [0, 1, 2])):
        found = sampled(rows_with([[many]]), count, None)
        assert found.objects[found.mask].tolist() == expected


def test_training_keeps_every_row_equally_often_and_pictures_apart() -> None:
    rows = rows_with([[8, 8]] * 2000, padding=0)
    found = sampled(rows, 3, 11)
    assert found.mask.all()
    counts = torch.stack([torch.bincount(found.objects[:, 3 * k : 3 * k + 3].flatten(), minlength=8) for k in (0, 1)])
    assert bool(((counts - 750).abs() < 5 * math.sqrt(750 * 5 / 8)).all())  # five standard deviations
    same = (found.objects[:, :3] == found.objects[:, 3:]).all(1).float().mean()
    assert abs(float(same) - 1 / 56) < 0.015
    assert not torch.equal(sampled(rows, 3, 12).objects, found.objects)
    assert torch.equal(sampled(rows, 3, 11).objects, found.objects)


def test_training_needs_to_know_the_rows() -> None:
    with pytest.raises(RuntimeError, match="attach_rows"):
        SparseSample(2).train()(rows_with([[4]]))


def test_the_mean_of_a_picture_is_that_of_its_rows() -> None:
    rows = rows_with([[3, 2], [0, 1], [4]])
    found = pool_pictures(rows)
    assert found.mask.tolist() == [[True, True], [False, True], [True, False]]
    for b, k in found.mask.nonzero().tolist():
        own = rows.of_picture(k)[b]
        torch.testing.assert_close(found.features[b, k], rows.features[b, own].mean(0))
        assert torch.equal(found.boxes[b, k, :2], rows.boxes[b, own, :2].amin(0))
        assert torch.equal(found.boxes[b, k, 2:], rows.boxes[b, own, 2:].amax(0))
    assert not found.features[~found.mask].any() and not found.boxes[~found.mask].any()
    assert found.images.tolist() == [[0, 1], [0, 1], [0, 0]]
