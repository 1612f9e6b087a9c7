"""The tasks of the Long Range Arena: what each one's tokens and classes are, and where its loader is.

Torch-free, so that a config can be checked without loading anything. Source of the sizes: Tay et al. 2021
(arXiv 2011.04006) and the data sets' own descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

_DATA = "quincunx.recipes.long_range.data"


@dataclass(frozen=True)
class Task:
    """One task."""

    summary: str
    vocabulary: int
    """Token ids, padding (id 0) included."""
    classes: int
    max_seq_len: int | None
    """Longest sequence unless the config says otherwise; None where it follows from `data.resolution`."""
    loader: str
    """`module:function` of its loader; see `data.splits`."""
    overlong: Literal["truncate", "error"] = "error"
    """What becomes of longer sequences unless the config says otherwise."""
    parts: int = 1
    """Sequences in an example."""
    usual: Mapping[str, int] = field(default_factory=dict[str, int])
    """Examples by split: generated where a config says nothing else, and else those of the public set."""
    generated: bool = False
    """Whether the examples are generated where no path is given; otherwise a path is needed."""
    expects: str = ""
    """What `data.path` must hold."""


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "listops": Task(
            summary="nested MIN, MAX, MED and SM over digits",
            vocabulary=17,
            classes=10,
            max_seq_len=2000,
            loader=f"{_DATA}.listops.load:load",
            usual={"train": 96_000, "dev": 2_000, "test": 2_000},
            generated=True,
            expects="basic_train.tsv, basic_val.tsv and basic_test.tsv",
        ),
        "text": Task(
            summary="sentiment or topic of a text, byte by byte",
            vocabulary=257,
            classes=2,
            max_seq_len=4000,
            loader=f"{_DATA}.text:load",
            usual={"train": 22_500, "dev": 2_500, "test": 25_000},
            overlong="truncate",
            expects="texts with labels: class folders (train/pos/*.txt), CSV, JSON lines, or a saved Hugging Face "
            "dataset",
        ),
        "retrieval": Task(
            summary="whether two documents are related, byte by byte",
            vocabulary=257,
            classes=2,
            max_seq_len=4000,
            loader=f"{_DATA}.retrieval:load",
            usual={"train": 147_086, "dev": 18_090, "test": 17_437},
            overlong="truncate",
            parts=2,
            expects="new_aan_pairs.train.tsv, new_aan_pairs.eval.tsv and new_aan_pairs.test.tsv",
        ),
        "image": Task(
            summary="CIFAR-10 in grey, pixel by pixel",
            vocabulary=257,
            classes=10,
            max_seq_len=1024,
            loader=f"{_DATA}.image:load",
            usual={"train": 45_000, "dev": 5_000, "test": 10_000},
            expects="CIFAR-10, binary (data_batch_1.bin ...) or Python version (data_batch_1 ...)",
        ),
        "pathfinder": Task(
            summary="whether two discs lie on one dashed contour, pixel by pixel",
            vocabulary=257,
            classes=2,
            max_seq_len=None,
            loader=f"{_DATA}.pathfinder.load:load",
            usual={"train": 160_000, "dev": 20_000, "test": 20_000},
            generated=True,
            expects="a folder with imgs and metadata, such as curv_contour_length_14",
        ),
    }
)


def pretrains(config: Any) -> bool:
    """Tell whether a config asks for self-pretraining."""
    chosen = config.pretraining
    return config.objective == "classification" and (chosen.epochs is not None or chosen.updates is not None)


def masks(config: Any) -> bool:
    """Tell whether a token id is needed that stands for a masked token."""
    return config.objective == "denoising" or pretrains(config)


def usual_length(config: Any) -> int:
    """Return the longest sequence of a config's task, unless it says otherwise."""
    return TASKS[config.task].max_seq_len or config.data.resolution**2


def needed_vocabulary(config: Any) -> int:
    """Return the rows that the embedding table must have: the task's ids, then a mask's, then the cls token's."""
    return TASKS[config.task].vocabulary + masks(config) + (config.encoder.pooling == "cls")


def mask_token(config: Any) -> int:
    """Return the id that stands for a masked token, in a config whose `vocab_size` is decided."""
    return config.encoder.vocab_size - 1 - (config.encoder.pooling == "cls")
