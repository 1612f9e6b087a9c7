"""Gap recovered, by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quincunx.metrics.language import Losses, gap_recovered, perplexity


def losses(low, compressed, high, documents=None) -> Losses:
    tables = [np.asarray(table, np.float64) for table in (low, compressed, high)]
    return Losses(*tables, np.arange(len(tables[0])) if documents is None else np.asarray(documents))


def test_the_share_is_of_total_losses() -> None:
    found = losses([[3.0, 2.0], [5.0, math.nan]], [[2.0, 2.0], [3.0, math.nan]], [[1.0, 2.0], [3.0, math.nan]])
    assert gap_recovered(found).value == pytest.approx((10 - 7) / (10 - 6))
    assert gap_recovered(found.first(1)).value == pytest.approx((8 - 5) / (8 - 4))
    assert gap_recovered(found.at(0, 1)).value == gap_recovered(found.first(1)).value


def test_nothing_lost_is_one_and_nothing_kept_is_nought() -> None:
    low, high = [[3.0], [4.0]], [[1.0], [1.5]]
    assert gap_recovered(losses(low, high, high)).value == 1
    assert gap_recovered(losses(low, low, high)).value == 0
    assert gap_recovered(losses(low, [[3.5], [4.5]], high)).value < 0, "worse than no context"


def test_a_context_that_does_not_help_leaves_no_gap_to_recover() -> None:
    found = gap_recovered(losses([[1.0], [2.0]], [[1.0], [2.0]], [[1.5], [2.0]]))
    assert math.isnan(found.value)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_the_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        high = generator.normal(1.0, 0.1, (60, 4))
        low = high + 0.5 + generator.normal(0, 0.2, (60, 1))
        compressed = high + 0.2 + generator.normal(0, 0.2, (60, 1))
        found = gap_recovered(losses(low, compressed, high), resamples=300, seed=trial)
        inside += found.low <= 0.6 <= found.high
    assert 180 <= inside < 200, "19 of 20"


def test_examples_of_one_document_count_as_one() -> None:
    generator = np.random.default_rng(1)
    shift = np.repeat(generator.normal(0, 0.3, 10), 30)[:, None]
    high = np.ones((300, 2))
    low, compressed = high + 1, high + 0.5 + shift
    alone = gap_recovered(losses(low, compressed, high))
    together = gap_recovered(losses(low, compressed, high, np.repeat(np.arange(10), 30)))
    assert alone.value == pytest.approx(together.value)
    assert (together.high - together.low) > 3 * (alone.high - alone.low)


def test_no_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="no losses"):
        gap_recovered(losses(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2))))


def test_perplexity() -> None:
    assert perplexity(math.log(7)) == pytest.approx(7)
    assert perplexity(1e4) == math.inf
