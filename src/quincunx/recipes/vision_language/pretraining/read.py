"""Reading a collection for pretraining, as a config says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from quincunx.errors import DataError
from quincunx.recipes.vision_language.asked_rows import AskedRows
from quincunx.recipes.vision_language.data.folder import Collection, NoSuchSplit
from quincunx.recipes.vision_language.kinds import is_bart
from quincunx.recipes.vision_language.model.joint import FAMILIES
from quincunx.recipes.vision_language.pretraining.build import (
    Files,
    losses_of,
    only_captions,
    parts_of,
    pictures_of,
    taken,
)
from quincunx.recipes.vision_language.pretraining.measured import OF_REGIONS, kinds_of
from quincunx.recipes.vision_language.pretraining.regions import RegionWords
from quincunx.recipes.vision_language.pretraining.said import Denoise, Loss, Spans
from quincunx.recipes.vision_language.pretraining.texts import CAPTIONS, SOURCES
from quincunx.recipes.vision_language.read import SAME, Splits, eyes_of, limits_of
from quincunx.recipes.vision_language.tasks.asking import Task
from quincunx.seeds import address


@dataclass(frozen=True)
class Found:
    """What pretraining reads of a collection."""

    splits: Splits
    """Its rows; `splits.tasks` are the kinds of rows."""
    words: RegionWords | None
    """Classes and attributes of the training pictures' regions; None where no loss is about hidden regions."""

    def beside(self, backbone: Any, tokenizer: Any) -> Found:
        """Return the same, masked words to be restored as the backbone that there is now is used to."""
        kind = Spans if uses_markers(backbone, tokenizer) else Denoise

        def fit(rows: AskedRows | None) -> Any:
            return rows and replace(rows, parts=tuple(replace(part, task=fitted(part.task)) for part in rows.parts))

        def fitted(task: Task) -> Task:
            return kind(task.captions, task.questions, task.rate) if isinstance(task, Spans) else task

        found = self.splits
        splits = replace(found, train=fit(found.train), dev=fit(found.dev), test=fit(found.test))
        return replace(self, splits=splits)


def read_pretraining(config: Any) -> Found:
    """Return what a decided config reads of its collection.

    Masked words are restored as the config's words for the backbone tell; `Found.beside` goes by the backbone itself.

    Raises:
        NoSuchSplit: None of the used tasks has a split of that name.
        DataError: A file that is damaged, or nothing that a loss can learn from.
    """
    collection = Collection(config.data.path)
    eyes, notes = eyes_of(config, collection)
    losses = losses_of(config, markers=is_bart(config) is not True)
    data, boxes = config.data, config.pictures.boxes

    def rows(words: Sequence[str], top: float, *, copies: int = 1) -> tuple[AskedRows, Files]:
        files = _files(config, collection, words, top)
        pictures = pictures_of(collection, files, boxes)
        parts = parts_of(losses, files, pictures, copies=copies, limit=config.debug.limit)
        return AskedRows(tuple(parts), eyes, limits_of(config)), files

    train, files = rows(data.train, data.train_top, copies=config.pretraining.ground_copies)
    _refuse_lacking(losses, train, collection, data.train)
    known = None
    if any(loss in OF_REGIONS for loss in config.pretraining.losses):
        known = RegionWords.of(pictures_of(collection, files, boxes).all_regions())
        for loss, found, what in (("obj", known.names, "a name"), ("attr", known.attributes, "an attribute")):
            if loss in config.pretraining.losses and not found:
                raise DataError(
                    f"{collection.folder / 'pictures.jsonl'}: no region of a training picture has {what}, which the "
                    f"loss {loss} is to find; give it, or leave {loss} out of pretraining.losses"
                )
    dev, _ = rows(data.dev, data.dev_top)
    test = rows(data.test, data.dev_top)[0] if data.test else None
    for split, measured in (("data.dev", dev), ("data.test", test)):
        there = {part.task.name for part in measured.parts} if measured is not None else {*losses}
        if not there:
            raise DataError(f"{collection.folder}: no example of {split} fits any of the losses {', '.join(losses)}")
        if lacking := [name for name in losses if name not in there]:
            notes.append(f"{split} has no example for {', '.join(lacking)}, which cannot be measured there")
    tasks = kinds_of(config.pretraining.losses)
    return Found(Splits(collection, tasks, train, dev, test, None, tuple(notes)), known)


def uses_markers(backbone: Any, tokenizer: Any) -> bool:
    """Return whether markers restore masked words: the backbone is of T5's kind, or its tokenizer has no mask."""
    kind = FAMILIES.get(str(getattr(backbone.config, "model_type", "")))
    return kind == "t5" or getattr(tokenizer, "mask_token", None) is None


def _files(config: Any, collection: Collection, words: Sequence[str], top: float) -> Files:
    """Return the files of some splits whose texts are used, under any of the splits' names."""
    tasks = (CAPTIONS,) if only_captions(config) else SOURCES
    files: list[tuple[Any, Any]] = []
    for word in words:
        same = next((names for names in SAME if word in names), {word})
        found = 0
        for task in tasks:
            there = collection.splits.get(task, ())
            names = [name for name in there if name == word] or [name for name in there if name in same]
            for name in names[:1]:
                examples = collection.examples(task, name)
                seed = address(config.seed or 0, "top", task, word)
                files.append((examples, taken(len(examples), top, seed)))
                found += len(examples)
        if not found:
            there = "; ".join(f"{task}: {', '.join(splits)}" for task, splits in collection.splits.items())
            raise NoSuchSplit(
                f"{collection.folder} has no texts to pretrain on in the split {word}: expected {word}.jsonl of "
                f"{' or '.join(tasks)}; there are: {there or 'no tasks at all'}"
            )
    return files


def _refuse_lacking(losses: dict[str, Loss], rows: AskedRows, collection: Collection, words: Sequence[str]) -> None:
    """Raise DataError where a loss has no rows."""
    there = {part.task.name for part in rows.parts}
    if lacking := [name for name in losses if name not in there]:
        needs = "; ".join(f"{name} needs {losses[name].needs}" for name in lacking)
        named = ", ".join("obj, attr and feat" if name == "regions" else name for name in lacking)
        raise DataError(
            f"{collection.folder}, split {', '.join(words)}: nothing to learn from for {named} of pretraining.losses: "
            f"{needs}. Add what is needed, or leave {'it' if len(lacking) == 1 else 'them'} out"
        )
