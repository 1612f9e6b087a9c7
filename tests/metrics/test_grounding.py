"""Boxes: overlap equal to counting pixels, in both conventions; accuracy at a threshold; errors with ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.errors import DataError
from quincunx.metrics.grounding import grounding_accuracy, iou, nearest_region

BOX = st.tuples(*[st.integers(0, 6)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


def pixels(box, inclusive):
    more = 1 if inclusive else 0
    return {(x, y) for x in range(box[0], box[2] + more) for y in range(box[1], box[3] + more)}


@given(BOX, BOX, st.booleans())
def test_overlap_is_counted_in_pixels(one, two, inclusive):
    ours, theirs = pixels(one, inclusive), pixels(two, inclusive)
    expected = len(ours & theirs) / len(ours | theirs) if ours | theirs else 0
    assert iou(one, two, inclusive) == pytest.approx(expected)
    assert iou(two, one, inclusive) == pytest.approx(expected)


def test_shapes_are_broadcast():
    boxes, others = np.array([[0, 0, 2, 2], [1, 1, 3, 3]]), np.array([[0, 0, 2, 2], [2, 2, 4, 4], [0, 0, 1, 4]])
    table = iou(boxes[:, None], others)
    assert table == pytest.approx(np.array([[1, 0, 2 / 6], [1 / 7, 1 / 7, 0]]))


def test_the_convention_decides_at_the_threshold():
    targets, found = {"1": [0, 0, 9, 9]}, {"1": [0, 0, 9, 4]}
    plain = grounding_accuracy(targets, found)
    assert plain["iou"].value == pytest.approx(4 / 9) and plain["accuracy"].value == 0
    counted = grounding_accuracy(targets, found, inclusive=True)
    assert counted["iou"].value == pytest.approx(5 / 10) and counted["accuracy"].value == 1
    assert grounding_accuracy(targets, found, threshold=0.4)["accuracy"].value == 1


def test_the_nearest_region_is_the_first_of_the_best():
    assert nearest_region([0, 0, 4, 4], [[5, 5, 6, 6], [0, 0, 4, 2], [0, 2, 4, 4]]) == (1, 0.5)
    with pytest.raises(ValueError, match="N of 1 or more"):
        nearest_region([0, 0, 1, 1], np.zeros((0, 4)))


@pytest.mark.parametrize(
    ("targets", "found", "said"),
    [
        ({"1": [0, 0, 1, 1]}, {}, "predictions: 1 of 1 expressions have none: '1'"),
        ({"1": [0, 0, 1]}, {"1": [0, 0, 1, 1]}, "targets, id '1': \\[0, 0, 1\\] is no box"),
        ({"1": [0, 0, 1, 1]}, {"1": [2, 0, 1, 1]}, "predictions, id '1'"),
        ({"1": [0, 0, 1, 1]}, {"1": "box"}, "predictions, id '1': 'box' is no box"),
        ({"1": [0, 0, 1, 1]}, {"1": [0, 0, 1, float("nan")]}, "predictions, id '1'"),
    ],
)
def test_errors_name_the_id(targets, found, said):
    with pytest.raises(DataError, match=said):
        grounding_accuracy(targets, found)


def test_impossible_boxes_and_thresholds_are_refused():
    with pytest.raises(ValueError, match=r"expected \[..., 4\]"):
        iou([0, 0, 1], [0, 0, 1, 1])
    with pytest.raises(ValueError, match="ends before it begins"):
        iou([1, 0, 0, 1], [0, 0, 1, 1])
    with pytest.raises(ValueError, match="threshold is 0"):
        grounding_accuracy({"1": [0, 0, 1, 1]}, {"1": [0, 0, 1, 1]}, threshold=0)
