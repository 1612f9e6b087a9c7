"""What evaluations measure: the names of all scalars, and the one that chooses among checkpoints. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quincunx.config.schema import Metrics
from quincunx.recipes.compression.config_data import is_labelled
from quincunx.recipes.compression.kinds import compresses, generated, lengths

PLAIN = ("loss", "loss_se", "perplexity", "accuracy", "accuracy_top5", "exact")
"""Of a language model, each token predicted after the right ones before it."""
TASKS = ("accuracy", "accuracy_se", "exact", "exact_se", "loss", "chance")
"""Of tasks on formal languages."""
ARITHMETIC = (
    "answer_accuracy", "answer_accuracy_low", "answer_accuracy_high", "soundness", "finished", "solution_tokens",
    "solution_steps", "reference_tokens", "reference_steps",
)  # fmt: skip
"""Of solutions that are generated."""
GAP = (
    "loss", "perplexity", "accuracy", "accuracy_top5", "loss_without", "loss_full", "gap_recovered",
    "gap_recovered_first", "gap_recovered_first_low", "gap_recovered_first_high",
)  # fmt: skip
"""Of predictions after a compressed context."""
TOLD_AGAIN = (
    "reconstruction_loss", "reconstruction_accuracy", "reconstruction_exact", "reconstruction_exact_se",
    "effective_ratio", "cache_bytes_saved",
)  # fmt: skip
"""Of contexts that are told again."""
OWN = {"glue:cola": "matthews", "glue:mrpc": "f1", "glue:qqp": "f1", "glue:stsb": "spearman"}
"""Source -> the measure that is reported of it besides, or in place of, accuracy (Wang et al. 2018)."""
PREDICTED = ("without", "forward", "full")
"""Branches after which the same text is predicted, by how much they are told."""
CONTROLS = ("forward", *(name for name in PREDICTED if name != "forward"))
"""Branches that answers are scored after, the compressed context first."""


def metrics_of(config: Any) -> Metrics:
    """Return what the evaluations of a config measure."""
    kind, compressing = generated(config), compresses(config)
    if kind == "tasks" and not compressing:
        return Metrics("dev/accuracy", "max", TASKS)
    every = PLAIN
    if compressing:
        every = (*GAP, *TOLD_AGAIN) if lengths(config)[1] else ("loss", *TOLD_AGAIN)
    if answers(config):
        if kind != "arithmetic":
            own = scalars_of(config.data.source, CONTROLS if compressing else ("plain",))
            return Metrics(f"dev/{main_scalar(config.data.source)}", "max", (*every, *own))
        if config.evaluate.generate:
            return Metrics("dev/answer_accuracy", "max", (*every, *ARITHMETIC))
    # a whole solution that is right in every token is one that greedy decoding gives
    return Metrics("dev/exact", "max", every) if kind and not compressing else Metrics("dev/loss", "min", every)


def answers(config: Any) -> bool:
    """Tell whether whole answers follow what is read, and can be judged."""
    asks = generated(config) == "arithmetic" or is_labelled(config.data)
    return asks and not config.objective.reconstruct_only


def main_scalar(source: str) -> str:
    """Return what chooses among checkpoints: the right answers; of grades, where near misses count, how they rank."""
    return "spearman" if OWN.get(source) == "spearman" else "answer_accuracy"


def scalars_of(source: str, branches: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all scalars that there are for a source and the branches that are scored, the main first."""
    controls = [f"answer_accuracy_{name}" for name in branches[1:]]
    measure = [OWN[source], *(f"{OWN[source]}_{name}" for name in branches[1:])] if source in OWN else []
    return ("answer_accuracy", "answer_accuracy_low", "answer_accuracy_high", *controls, "commonest_answer", *measure)
