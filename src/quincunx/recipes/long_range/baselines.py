"""What a model is measured against on each task: answers that need not relate one token to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quincunx.metrics.classification import Accuracy
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.data.oracles import bag_of_tokens_oracle, majority_oracle, root_operator_oracle

Baseline = Callable[[Examples, Examples], Accuracy]
"""(training examples, examples to answer) -> accuracy."""

BASELINES: Mapping[str, Mapping[str, Baseline]] = {
    "listops": {"majority_class": majority_oracle, "root_operator_oracle": root_operator_oracle},
    **{
        task: {"majority_class": majority_oracle, "bag_of_tokens_oracle": bag_of_tokens_oracle}
        for task in ("text", "retrieval", "image", "pathfinder")
    },
}
"""By task: scalar name -> baseline; the last of them is the one a model must beat."""

WORDS = {
    "majority_class": "majority class",
    "root_operator_oracle": "root-operator oracle",
    "bag_of_tokens_oracle": "bag-of-tokens oracle",
}


def scalars_of(task: str) -> tuple[str, ...]:
    """Return the names of everything that an evaluation of a classifier measures."""
    return ("accuracy", "accuracy_se", "loss", *BASELINES[task])
