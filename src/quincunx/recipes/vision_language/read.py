"""Reading a collection as a config says: which tasks, which splits, which of their examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.data.order import permutation
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.asked_rows import AskedRows, Eyes, Part
from quincunx.recipes.vision_language.collate import Texts
from quincunx.recipes.vision_language.data.features import Features
from quincunx.recipes.vision_language.data.folder import FEATURES, Collection, Examples, NoSuchSplit
from quincunx.recipes.vision_language.data.record import Example
from quincunx.recipes.vision_language.kinds import is_raw
from quincunx.recipes.vision_language.model.downsample import DOWNSAMPLERS
from quincunx.recipes.vision_language.presence import check_maker, fewer_is_more
from quincunx.recipes.vision_language.tasks import TASKS, Task, Wording
from quincunx.recipes.vision_language.tasks.asking import FALSE, TRUE
from quincunx.seeds import address

LOOKED_AT = 500
"""Examples of a task of which the length of texts is looked at."""
SAME = ({"dev", "val", "valid", "validation"},)
"""Names of one split."""


@dataclass(frozen=True)
class Splits:
    """What is read of a collection."""

    collection: Collection
    tasks: tuple[str, ...]
    train: AskedRows
    dev: AskedRows
    test: AskedRows | None
    hidden: AskedRows | None
    """Examples without answers, which are predicted for a leaderboard."""
    notes: tuple[str, ...]

    @property
    def most_pictures(self) -> int:
        """Pictures of an example, at most."""
        every = [
            part.examples for rows in (self.train, self.dev, self.test, self.hidden) if rows for part in rows.parts
        ]
        return max((int(np.diff(examples.picture_offsets).max(initial=0)) for examples in every), default=0)

    def texts(self, wording: Wording) -> Iterator[str]:
        """Yield everything that training reads or says: what a tokenizer is trained on."""
        yield from (TRUE, FALSE, wording.prompt, wording.post_prompt)
        for part in self.train.parts:
            yield part.task.words
            for place in part.chosen.tolist():
                yield from _texts_of(part.examples[place])

    def answers(self, wording: Wording) -> list[str]:
        """Return what training knows to be right, the most frequent first: what a classifier chooses among."""
        counts = Counter(
            part.task.target_of(answer.text, wording)
            for part in self.train.parts
            for place in part.chosen.tolist()
            for answer in part.examples[place].answers
            if answer.weight > 0
        )
        return sorted(counts, key=lambda text: (-counts[text], text))

    def beyond(self, answers: Sequence[str], wording: Wording) -> list[str]:
        """Say of which examples that are measured a classifier among some answers can say nothing right."""
        known, notes = set(answers), list[str]()
        for part in (part for rows in (self.dev, self.test) if rows is not None for part in rows.parts):
            examples = [part.examples[place] for place in part.chosen.tolist()]
            right = [{part.task.target_of(answer.text, wording) for answer in each.answers} for each in examples]
            if count := sum(not found & known for found in right):
                notes.append(
                    f"{part.examples.path}: {count:,} of {len(examples):,} examples have no answer that occurs in "
                    "training, so the classifier cannot be right about them"
                    + (" (data.vqa.answerable leaves them out)" if part.task.is_question else "")
                )
        return notes

    def cut(self, texts: Texts, wording: Wording) -> list[str]:
        """Say of which tasks texts are cut off, from some of the training examples of each."""
        notes: list[str] = []
        for part in self.train.parts:
            places = part.chosen[:: max(1, len(part.chosen) // LOOKED_AT)]
            sources: list[str] = []
            for place in places.tolist():
                example = part.examples[place]
                pictures = [self.collection.pictures[name] for name in example.pictures] if self.train.eyes else []
                numbers = range(part.task.rows(example))
                sources += [part.task.ask(example, wording, pictures, row).source for row in numbers]
            if count := sum(texts.is_cut(source, part.task.reads) for source in sources):
                limit = texts.limit or part.task.reads
                notes.append(
                    f"{part.task.name}: {count:,} of {len(sources):,} texts looked at are longer than {limit} tokens "
                    "and are cut (text.max_length)"
                )
        return notes


def tasks_of(config: Any) -> list[str]:
    """Return the tasks that are trained: those named, or all that the folder has, in the order of the table.

    Raises:
        DataError: The folder has none, or is no collection.
    """
    if config.data.tasks:
        return list(config.data.tasks)
    found = [task for task in TASKS if task in Collection(config.data.path).splits]
    if not found:
        raise DataError(f"{config.data.path} has no task: expected <task>/<split>.jsonl beside pictures.jsonl")
    return found


def task_objects(config: Any) -> dict[str, Task]:
    """Return the tasks of a decided config with their settings."""
    vqa, refcoco = config.data.vqa, config.data.refcoco
    made: dict[str, dict[str, Any]] = {
        "vqa": {"one_voice": vqa.draw, "normalize": vqa.normalize},
        "refcoco": {
            "ground_truth": refcoco.ground_truth,
            "detections": refcoco.detections,
            "shuffle": refcoco.shuffle,
            "limit": config.pictures.boxes,
        },
    }
    return {name: TASKS[name](**made.get(name, {})) for name in config.data.tasks}


def wording_of(config: Any, tokenizer: Any) -> Wording:
    """Return how texts are put, with the tokenizer's own words for what is masked."""
    text = config.text
    return Wording(
        task_prompts=text.task_prompts,
        prompt=text.prompt,
        post_prompt=text.post_prompt,
        caption=text.caption,
        empty=text.empty,
        lowercase=text.lowercase,
        tags=text.tags,
        mask=getattr(tokenizer, "mask_token", None) or "<extra_id_0>",
    )


def read(config: Any) -> Splits:
    """Return what a decided config reads of its collection.

    Raises:
        DataError: A file that is damaged, a task without such a split, examples that say nothing to learn.
    """
    collection = Collection(config.data.path)
    eyes, notes = eyes_of(config, collection)
    tasks = task_objects(config)
    limits = limits_of(config)

    def rows(
        words: Sequence[str], top: float, *, learns: bool = True, hidden: bool = False, trains: bool = False
    ) -> AskedRows:
        parts: list[Part] = []
        for number, (name, task) in enumerate(tasks.items()):
            for word in words:
                examples = _split(collection, config, name, word)
                fits = partial(_fits, task, learns=learns, hidden=hidden)
                if trains and name == "refcoco" and eyes is not None:
                    fits = partial(_is_near, task, collection)
                chosen = _chosen(examples, fits, top, address(config.seed or 0, "top", name, word))
                if config.debug.limit is not None:
                    chosen = chosen[: config.debug.limit]
                if len(chosen):
                    parts.append(Part(task, number, examples, chosen))
                elif not len(examples):
                    raise DataError(f"{examples.path} is empty: expected one example a line")
                elif not hidden and not (config.data.hidden and words is config.data.test):
                    raise DataError(f"{examples.path}: no example says what is right, so nothing can be learnt of it")
                if (left := len(examples) - len(chosen)) and learns and top == -1 and config.debug.limit is None:
                    notes.append(f"{examples.path}: {left:,} of {len(examples):,} examples say nothing to learn")
        return AskedRows(tuple(parts), eyes, limits)

    data = config.data
    train = rows(data.train, data.train_top, trains=True)
    dev = _answerable(config, train, rows(data.dev, data.dev_top))
    test = rows(data.test, data.dev_top) if data.test else None
    test = _answerable(config, train, test) if test is not None and test.parts else None
    hidden = rows(data.test or ["test"], -1, learns=False, hidden=True) if data.hidden else None
    if hidden is not None and not hidden.parts:
        raise DataError(
            f"{collection.folder}: data.hidden asks for examples without answers, and the splits "
            f"{', '.join(data.test or ['test'])} have none; leave it out, or name their split in data.test"
        )
    return Splits(collection, tuple(tasks), train, dev, test, hidden, tuple(notes))


def eyes_of(config: Any, collection: Collection) -> tuple[Eyes | None, list[str]]:
    """Return what is read of pictures, and what to say about it; None for texts alone."""
    chosen = config.pictures
    if not chosen.use:
        return None, []
    if is_raw(config):
        return Eyes(collection), []  # how many rows there are of a picture, the encoder knows
    path = feature_file(config)
    if not path.is_file():
        there = ", ".join(collection.features) or "none"
        raise DataError(
            f"there are no stored features {path}; the collection has: {there}. `quincunx features` makes them "
            "(butd: with --regions); or name a file in pictures.stored, or look at the pictures themselves by "
            "pictures.features raw_RN50 or its like"
        )
    features = Features(path, width=chosen.feature_width)
    if chosen.pooled and features.longest > 1:
        raise DataError(
            f"pictures.pooled is about one row for a picture, and {path} has up to {features.longest}: name a file "
            "that `quincunx features --pooled` made, or leave pictures.pooled out"
        )
    check_maker(features, chosen.features)
    ways = [name for name in DOWNSAMPLERS if getattr(chosen, name)]
    notes = fewer_is_more(ways, chosen.boxes, features.longest)
    return Eyes(collection, features, regions=chosen.features == "butd"), notes


def limits_of(config: Any) -> tuple[int, int]:
    """Return how many regions are taken of a picture, and how many for a caption; grids are taken whole."""
    chosen = config.pictures
    if chosen.features != "butd" or chosen.grid or chosen.line or chosen.sparse:
        return 10**9, 10**9  # what is to be fewer is made so in the model
    return config.pictures.boxes, config.pictures.max_boxes


def feature_file(config: Any) -> Path:
    """Return where the stored features of a config are, whether they are there or not."""
    chosen = config.pictures
    if chosen.stored is not None:
        return Path(chosen.stored).expanduser()
    name = chosen.features + ("-pooled" if chosen.pooled and chosen.features != "butd" else "")
    return Path(config.data.path).expanduser() / FEATURES / f"{name}.arrow"


def _split(collection: Collection, config: Any, task: str, word: str) -> Examples:
    """Return the examples of a split under any of its names."""
    if task == "cls" and config.data.classification is not None:
        folder = f"cls-{config.data.classification}"
        path = collection.folder / folder / f"{word}.jsonl"
        if not path.is_file():
            raise DataError(
                f"there is no classification set {path}; leave data.classification out for cls/{word}.jsonl"
            )
        return Examples(path, "cls", collection.pictures)
    there = collection.splits.get(task, ())
    same = next((names for names in SAME if word in names), {word})
    found = [name for name in there if name == word] or [name for name in there if name in same]
    if not found:
        remedy = (
            "Name one of these in data.train, data.dev or data.test" if there else "Leave the task out of data.tasks"
        )
        raise NoSuchSplit(
            f"{collection.folder} has no split {word} of {task}; it has: {', '.join(there) or 'none of this task'}. "
            f"{remedy}, or write {collection.folder / task / word}.jsonl"
        )
    return collection.examples(task, found[0])


def _chosen(examples: Examples, fits: Callable[[Example], bool], top: float, seed: int) -> NDArray[np.int64]:
    """Return the places of the examples that are used."""
    places = np.array([place for place in range(len(examples)) if fits(examples[place])], np.int64)
    if top == -1:
        return places
    if 0 < top <= 1:
        return np.sort(places[permutation(len(places), seed)[: max(1, round(top * len(places)))]])
    if top > 1 and float(top).is_integer():
        return places[: int(top)]
    raise UsageError(f"data.train_top and data.dev_top are -1, a share in (0, 1] or a number of examples; found {top}")


def _fits(task: Task, example: Example, *, learns: bool, hidden: bool) -> bool:
    known = task.learns(example)
    return not known if hidden else known or not learns


def _is_near(task: Task, collection: Collection, example: Example) -> bool:
    """Tell whether a region of the picture is what an expression means: else there is nothing to learn of it."""
    if not task.learns(example):
        return False
    pictures = [collection.pictures[name] for name in example.pictures]
    return task.ask(example, Wording(), pictures).weight > 0


def _answerable(config: Any, train: AskedRows, rows: AskedRows) -> AskedRows:
    """Return rows without the questions whose answers never occur in training, where that is asked for."""
    if not config.data.vqa.answerable:
        return rows
    known = {
        answer.text
        for part in train.parts
        for place in part.chosen.tolist()
        if part.task.is_question
        for answer in part.examples[place].answers
    }
    parts: list[Part] = []
    for part in rows.parts:
        chosen = part.chosen
        if part.task.is_question:
            kept = [any(each.text in known for each in part.examples[place].answers) for place in chosen.tolist()]
            chosen = chosen[np.array(kept, bool)]
        if not len(chosen):
            raise DataError(f"{part.examples.path}: no answer occurs in training; leave data.vqa.answerable out")
        parts.append(Part(part.task, part.number, part.examples, chosen))
    return AskedRows(tuple(parts), rows.eyes, rows.limits)


def _texts_of(example: Example) -> Iterator[str]:
    yield example.text
    yield from (answer.text for answer in example.answers)
    lists = ("references", "choices", "rationales", "annotations", "classes")
    yield from chain.from_iterable(map(str, example.more.get(name) or ()) for name in lists)
