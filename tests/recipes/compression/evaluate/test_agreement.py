"""Agreement with the right answers, by hand and by the usual libraries."""

from __future__ import annotations

import numpy as np
import pytest

from quincunx.metrics.classification import confusion_counts
from quincunx.recipes.compression.evaluate.agreement import f1, matthews, spearman


def test_by_hand():
    counts = np.array([[5, 1], [2, 4]])
    assert f1(counts) == pytest.approx(2 * (4 / 5) * (4 / 6) / (4 / 5 + 4 / 6))
    assert matthews(counts) == pytest.approx((4 * 5 - 1 * 2) / np.sqrt(5 * 6 * 6 * 7))
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])) == pytest.approx(0.5)
    assert spearman(np.array([1.0, 5.0, 9.0]), np.array([0.1, 0.2, 0.3])) == pytest.approx(1)


def test_where_there_is_nothing_to_agree_on():
    assert f1(np.array([[7, 0], [0, 0]])) == 0
    assert matthews(np.array([[7, 0], [3, 0]])) == 0, "one answer for all"
    assert matthews(np.array([[0, 0], [3, 4]])) == 0
    assert spearman(np.ones(3), np.arange(3.0)) == 0


def test_as_the_usual_libraries_have_them():
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    for _ in range(20):
        right, chosen = generator.integers(0, 2, (2, 30))
        counts = confusion_counts(right, chosen, 2)
        assert f1(counts) == pytest.approx(metrics.f1_score(right, chosen))
        assert matthews(counts) == pytest.approx(metrics.matthews_corrcoef(right, chosen))
        one, other = generator.integers(0, 6, (2, 30)).astype(float)
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
