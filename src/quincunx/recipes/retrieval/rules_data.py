"""Rules between the settings of the data: where collections are, and what is made of their texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quincunx.config.schema import Rule
from quincunx.recipes.retrieval.rules_objective import NEEDED, embeds


def _incomplete(split: str) -> Callable[[Any], bool]:
    """Return whether only some of the three files of a collection without a path are named."""

    def applies(config: Any) -> bool:
        found = getattr(config.data, split)
        named = (found.corpus, found.queries, found.qrels)
        return found.path is None and any(named) and not all(named)

    return applies


def _splits_files(split: str) -> Callable[[Any], bool]:
    """Return whether a split is asked of a collection that is named file by file."""

    def applies(config: Any) -> bool:
        found = getattr(config.data, split)
        return found.path is None and found.given and found.split is not None

    return applies


def _placeless(split: str) -> Callable[[Any], bool]:
    """Return whether a split that nothing gives a place is told how it should be read."""

    def applies(config: Any) -> bool:
        found = getattr(config.data, split)
        told = found.format != "auto" or found.split is not None or found.limit is not None
        return told and not found.given and config.data.path is None

    return applies


def _of_tokens(config: Any) -> bool:
    """Tell whether a set is said to be of token ids."""
    data = config.data
    return any(each.format == "tokenized" for each in (data.train, *data.mixed, data.dev, data.test))


def _without_development(config: Any) -> bool:
    """Tell whether there cannot be a development set."""
    data = config.data
    return data.path is None and not data.dev.given and data.dev_share == 0


def _prompt_is_cut(side: str) -> Callable[[Any], bool]:
    """Return whether texts of a side lose their beginning, and with it their prompt."""

    def applies(config: Any) -> bool:
        found = getattr(config, side)
        return found.truncate == "left" and bool(found.prompt)

    return applies


DATA_RULES: tuple[Rule, ...] = (
    Rule(
        name="data-is-needed",
        paths=("data.train.path", "data.path", "data.train.format"),
        applies=lambda config: config.data.path is None and not config.data.train.given,
        message="nothing to train on: neither data.path nor data.train says where a collection is",
        remedy="set data.path to a folder with splits (quincunx data stdlib-code-search --out FOLDER makes one), or "
        "data.train.path, or data.train.corpus, queries and qrels",
        failing={"data.train.format": "beir"},
    ),
    *(
        Rule(
            name=f"{split}-files-are-three",
            paths=(f"data.{split}.corpus", f"data.{split}.queries", f"data.{split}.qrels"),
            applies=_incomplete(split),
            message=f"a collection of files needs all of data.{split}.corpus, queries and qrels",
            remedy=f"name all three, or a folder in data.{split}.path",
            failing={f"data.{split}.corpus": "collection.tsv", f"data.{split}.queries": "queries.tsv", **NEEDED},
        )
        for split in ("train", "dev", "test")
    ),
    *(
        Rule(
            name=f"{split}-says-where-it-is",
            paths=(f"data.{split}.format", f"data.{split}.split", f"data.{split}.limit"),
            applies=_placeless(split),
            message=f"data.{split} says how it is to be read, and nothing says where it is",
            remedy=f"set data.{split}.path, or data.path to a folder with this split",
            failing={"data.train.path": "somewhere", f"data.{split}.split": "there"},
        )
        for split in ("dev", "test")
    ),
    *(
        Rule(
            name=f"{split}-files-have-no-split",
            paths=(f"data.{split}.split",),
            applies=_splits_files(split),
            message=f"data.{split}.split chooses among the splits of a folder; corpus, queries and qrels are files",
            remedy="leave it out, or name the folder in place of the files",
            failing={
                **{f"data.{split}.{part}": f"{part}.tsv" for part in ("corpus", "queries", "qrels")},
                f"data.{split}.split": "small",
                **NEEDED,
            },
        )
        for split in ("train", "dev", "test")
    ),
    Rule(
        name="tokens-take-no-prompt",
        paths=("query.prompt", "document.prompt", "data.train.format"),
        applies=lambda config: _of_tokens(config) and bool(config.query.prompt or config.document.prompt),
        message="a prompt cannot be put before texts that are token ids already",
        remedy="leave the prompt out, or give the data as texts",
        failing={"data.train.format": "tokenized", "query.prompt": "query: ", **NEEDED},
    ),
    Rule(
        name="tokens-are-no-pairs",
        paths=("mode", "data.train.format"),
        applies=lambda config: not embeds(config) and _of_tokens(config),
        message="a cross-encoder reads query and document as one text: data of token ids holds them apart",
        remedy="give the data as texts, or choose mode bi-encoder or poly-encoder",
        failing={"mode": "cross-encoder", "data.train.format": "tokenized", **NEEDED},
    ),
    *(
        Rule(
            name=f"{side}-prompt-is-kept",
            paths=(f"{side}.truncate", f"{side}.prompt"),
            applies=_prompt_is_cut(side),
            message=f"{side}.truncate left cuts the beginning off, and with it {side}.prompt",
            remedy="cut on the right, or leave the prompt out",
            failing={f"{side}.truncate": "left", f"{side}.prompt": "text: ", **NEEDED},
        )
        for side in ("query", "document")
    ),
    Rule(
        name="like-lengths-need-lengths",
        paths=("loading.bucketing", "data.tokenization"),
        applies=lambda config: embeds(config) and config.loading.bucketing and config.data.tokenization == "lazy",
        message="loading.bucketing needs every text's length, and data.tokenization lazy makes tokens late",
        remedy="set data.tokenization to eager, or loading.bucketing to false",
        failing={"loading.bucketing": True, "data.tokenization": "lazy", **NEEDED},
    ),
    Rule(
        name="nothing-to-choose-by",
        paths=("evaluate.patience", "evaluate.metric", "data.dev_share"),
        applies=lambda config: (
            _without_development(config)
            and (config.evaluate.patience is not None or (config.evaluate.metric or "").startswith("dev/"))
        ),
        message="there is no development set: data.dev names none, and data.dev_share is 0",
        remedy="name one, or raise data.dev_share",
        failing={"data.train.path": "somewhere", "data.dev_share": 0, "evaluate.patience": 3},
    ),
    Rule(
        name="nothing-to-evaluate",
        paths=("evaluate.at_start", "evaluate.max_batches", "data.dev_share"),
        applies=lambda config: (
            _without_development(config) and (config.evaluate.at_start or config.evaluate.max_batches is not None)
        ),
        message="evaluate.at_start and evaluate.max_batches are of the development set, and there is none",
        remedy="name one in data.dev, or raise data.dev_share",
        failing={"data.train.path": "somewhere", "data.dev_share": 0, "evaluate.at_start": True},
        severity="warning",
    ),
)
