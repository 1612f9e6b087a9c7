import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.metrics.classification import accuracy, accuracy_table, confusion_counts, group_accuracy, ranges


def test_accuracy_and_its_standard_error():
    found = accuracy(400, 2000)
    assert found.value == 0.2
    assert found.standard_error == pytest.approx(math.sqrt(0.2 * 0.8 / 2000))
    assert str(found) == "20.00 % ± 0.89"
    assert accuracy(7, 7).standard_error == 0


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(correct, total):
    with pytest.raises(ValueError, match=f"{correct} correct answers among {total}"):
        accuracy(correct, total)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6))))
def test_groups_partition_the_answers(answers):
    found = group_accuracy([right for right, _ in answers], [group for _, group in answers])
    expected = {
        group: [right for right, of in answers if of == group] for group in sorted({group for _, group in answers})
    }
    assert list(found) == list(expected)
    assert {g: (a.correct, a.total) for g, a in found.items()} == {g: (sum(r), len(r)) for g, r in expected.items()}


def test_groups_and_answers_must_match():
    with pytest.raises(ValueError, match="expected two rows of one length"):
        group_accuracy([True], [1, 2])


def test_the_table_names_its_groups():
    table = accuracy_table("By operator", "operator", [1, 0, 1, 1], [0, 2, 2, 0], ("digit", "MIN", "MAX"))
    assert table.columns == ("operator", "examples", "accuracy", "standard error")
    assert table.rows[0] == ("digit", 2, 1.0, 0.0)
    assert table.rows[1] == ("MAX", 2, 0.5, pytest.approx(math.sqrt(0.125)))
    assert accuracy_table("By depth", "depth", [1], [4]).rows[0][0] == 4


@given(st.lists(st.integers(-50, 50), min_size=1), st.integers(1, 12))
def test_ranges_hold_their_values_in_order(values, count):
    index, names = ranges(values, count)
    assert len(names) <= count
    assert index.min() == 0
    for value, place in zip(values, index, strict=True):
        low, high = bounds(names[place])
        assert low <= value <= high
    edges = [bounds(name) for name in names]
    assert (edges[0][0], edges[-1][1]) == (min(values), max(values))
    assert all(before[1] + 1 == after[0] for before, after in pairwise(edges))


def bounds(name: str) -> tuple[int, int]:
    cut = name.find("-", 1)
    return (int(name), int(name)) if cut < 0 else (int(name[:cut]), int(name[cut + 1 :]))


def test_confusion_counts_have_a_row_a_label():
    counts = confusion_counts([0, 0, 2, 2, 2], [0, 1, 2, 2, 0], 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]
    assert confusion_counts([], [], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "predictions", "said"),
    [([0, 3], [0, 0], "label 3 is outside 0 to 2"), ([0], [-1], "prediction -1"), ([0], [0, 1], "one length")],
)
def test_confusion_counts_refuse_what_is_no_class(labels, predictions, said):
    with pytest.raises(ValueError, match=said):
        confusion_counts(np.array(labels), np.array(predictions), 3)
