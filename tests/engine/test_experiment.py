"""An experiment's arrangement and sizes tell one number of batches."""

from __future__ import annotations

from typing import Any

import pytest

from quincunx.config.schema import Sizes
from quincunx.engine.experiment import Experiment, Parts
from quincunx.recipes.retrieval.data.arrange import Mixture, SameDataset
from toys import Encoder, TwoTerms


def experiment(sizes: Sizes, **more: Any) -> Experiment:
    source: Any = None
    return Experiment({}, Parts(Encoder(), TwoTerms()), source, source, sizes, {}, **more)


def test_sizes_are_those_of_the_arrangement():
    arrangement = SameDataset(Mixture.of([5, 7]))
    assert experiment(Sizes(train=12, groups=(5, 7)), arrangement=arrangement).arrangement is arrangement
    assert experiment(Sizes(train=12), arrangement=Mixture.of([5, 7])).sizes.train == 12
    assert experiment(Sizes(train=12)).arrangement is None


@pytest.mark.parametrize("sizes", [Sizes(train=12), Sizes(train=12, groups=(7, 5)), Sizes(train=11, groups=(5, 7))])
def test_other_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="the arrangement has groups of"):
        experiment(sizes, arrangement=SameDataset(Mixture.of([5, 7])))


def test_groups_without_an_arrangement_are_refused():
    with pytest.raises(ValueError, match="the arrangement has groups of"):
        experiment(Sizes(train=12, groups=(5, 7)))
