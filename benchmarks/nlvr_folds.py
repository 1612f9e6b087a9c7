"""NLVR's real sentences (Suhr et al. 2017): is each true of its picture? From annotations and from pixels, five folds.

989 statements are too few to learn to read and to count, so a small encoder-decoder first learns from questions and
statements of a grammar about scenes at random (nlvr_world.py), then from four fifths of the real ones, boxes reordered
and colours exchanged in picture and sentence alike, and judges the last fifth, whose sentences it has not seen, in
twelve such variants of each statement.
`objects` gets shape, colour, size and box of each thing as annotated; `pixels` gets connected areas of one colour as
regions, and their pixels, and no annotation. Beside them, both get what follows from the boxes of regions: in which of
the three boxes one is, which walls it touches, how many lie below it, and whether one lies above.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/nlvr_folds.py [--out runs] [--data FOLDER]

FOLDER is the data set's folder; unset, nlvr below QUINCUNX_DATA. Runs that are finished are not repeated, runs that
were cut off go on. Two processes: first `--first --from objects` and `--first --from pixels`, then once without.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import Wanted, add_options, evaluation, measured, needs, require, train_all
from measure import machine, table
from nlvr_scene import BOX, STRIDE, Exchange, Scene, drawn, exchanges, flat, picture_of, rows_of, said, scene_of
from nlvr_world import made, questions
from numpy.typing import NDArray
from PIL import Image

from quincunx.metrics.record import Evaluation
from quincunx.recipes.vision_language.data.features import write_features
from quincunx.recipes.vision_language.data.folder import write_collection
from quincunx.recipes.vision_language.data.record import Answer, Example, Picture, Region
from quincunx.recipes.vision_language.data.world.regions import model_key, region_features

NAME = "nlvr-folds"
FOLDS, VARIANTS = 5, 12
SENTENCES = 16_000
OBJECTS, PIXELS = "objects", "pixels"
CROP, GEOMETRY = 64, 12
WIDTHS = {OBJECTS: 9 + GEOMETRY, PIXELS: CROP + GEOMETRY}
EPOCHS, LATER = 5, 9
"""Over the grammar's questions; then over questions and statements, three and four for each of its sentences."""
SEEDS = (1, 2, 3)
"""Of what is learnt from real statements; what is learnt before is learnt once."""
LEAST = 12
"""Pixels of an area that counts as a region."""


@dataclass(frozen=True)
class Asked:
    """A statement or a question about a scene, and the picture of it where that is not drawn here."""

    uid: str
    group: str
    scene: Scene
    text: str
    answer: str
    task: str = "nlvr"
    file: Path | None = None
    exchange: Exchange | None = None
    """What was changed in scene and text, and is to be changed in the file's picture."""

    @property
    def image(self) -> Image.Image:
        """Its picture."""
        if self.file is None:
            return drawn(self.scene)
        image = flat(Image.open(self.file))
        return self.exchange.image(image) if self.exchange else image

    @property
    def example(self) -> Example:
        """It, as the collection has it."""
        more = {"identifier": self.group} if self.task == "nlvr" else {}
        return Example(self.uid, self.task, (self.uid,), self.text, (Answer(self.answer),), more)


def regions_of(pixels: NDArray[np.uint8]) -> tuple[Region, ...]:
    """Return the areas of one colour in a picture, background and dividers left out, from left to right."""
    from scipy.ndimage import find_objects, label

    codes = (pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])).reshape(pixels.shape[:2])
    grey = (pixels.max(-1).astype(int) - pixels.min(-1) <= 8) & (pixels.mean(-1) > 64)
    found: list[Region] = []
    for code in np.unique(codes[~grey]):
        areas = np.zeros(codes.shape, np.int32)
        label(codes == code, output=areas)
        for number, area in enumerate(find_objects(areas), start=1):
            if (areas[area] == number).sum() >= LEAST:
                rows, columns = area
                found.append(Region((float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))))
    return tuple(sorted(found, key=lambda region: region.box))


def geometry(regions: Sequence[Region]) -> NDArray[np.float32]:
    """Return what follows from where regions are [R, 12]: box of three, walls, how many are below, none above."""
    rows = np.zeros((len(regions), GEOMETRY), np.float32)
    for row, region in zip(rows, regions, strict=True):
        x1, y1, x2, y2 = region.box
        place = int(x1 // STRIDE)
        row[place] = 1
        row[3:7] = [x1 - place * STRIDE <= 1, x2 - place * STRIDE >= BOX - 1, y1 <= 1, y2 >= BOX - 1]
        over = [other.box for other in regions if min(other.box[2], x2) > max(other.box[0], x1)]
        row[7 + min(3, sum(box[1] >= y2 - 1 for box in over))] = 1
        row[11] = not any(box[3] <= y1 + 1 for box in over)
    return rows


def collection(folder: Path, kind: str, splits: Mapping[str, Sequence[Asked]]) -> None:
    """Write a collection, with features of things or of areas."""
    if (folder / "nlvr").is_dir():
        return
    pictures: list[Picture] = []
    features: list[tuple[str, Any]] = []
    for one in (one for each in splits.values() for one in each):
        if kind == OBJECTS:
            pictures.append(picture_of(one.uid, one.scene))
            known = np.array(rows_of(one.scene), np.float32)
            features.append((one.uid, np.hstack([known, geometry(pictures[-1].regions)])))
            continue
        pixels = np.asarray(one.image)
        regions = regions_of(pixels)
        pictures.append(Picture(one.uid, pixels.shape[1], pixels.shape[0], None, regions))
        features.append((one.uid, np.hstack([region_features(pixels, regions, CROP), geometry(regions)])))
    key = "annotated things" if kind == OBJECTS else model_key(0, CROP)
    write_features(folder / "features" / "butd.arrow", features, width=WIDTHS[kind], model=key)
    lists: dict[tuple[str, str], list[Example]] = {}
    for split, each in splits.items():
        for one in each:
            lists.setdefault((one.task, split), []).append(one.example)
    write_collection(folder, pictures, lists)


def invented(seed: int, sentences: int, asked: int) -> list[Asked]:
    """Return the grammar's statements, four a sentence, and questions."""
    found = [
        Asked(f"w{seed}-{number}", group, scene, text, "true" if truth else "false")
        for number, (group, scene, text, truth) in enumerate(made(seed, sentences))
    ]
    more = enumerate(questions(seed, asked))
    return found + [Asked(f"q{seed}-{n}", "", scene, text, answer, "gqa") for n, (scene, text, answer) in more]


def real(data: Path) -> list[Asked]:
    """Return the data set's statements."""
    found: list[Asked] = []
    for line in (data / "dev.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        group, file = row["id"].rsplit("-", 1)[0], data / row["image"]
        truth = "true" if row["label"] else "false"
        found.append(Asked(row["id"], group, scene_of(row), said(row["sentence"]), truth, file=file))
    return found


def fold_of(asked: Sequence[Asked]) -> dict[str, int]:
    """Return the fold of each sentence: one that was written twice is in one fold."""
    texts = sorted({one.text for one in asked})
    random.Random(0).shuffle(texts)
    return {text: place % FOLDS for place, text in enumerate(texts)}


def changed(asked: Iterable[Asked], seed: int) -> Iterator[Asked]:
    """Yield each statement in several variants, named by it and a number."""
    rng = random.Random(seed)
    for one in asked:
        for number, each in enumerate(exchanges(VARIANTS, rng)):
            uid, scene, text = f"{one.uid}-{number}", each.scene(one.scene), each.text(one.text)
            yield replace(one, uid=uid, scene=scene, text=text, exchange=each)


@dataclass(frozen=True)
class Experiment:
    """What is run, on what, and where."""

    folder: Path
    kind: str
    sentences: int
    later: int
    seeds: Sequence[int]

    def config(self, data: Path, tasks: Sequence[str], epochs: int) -> dict[str, Any]:
        """Return what all runs share."""
        return {
            "recipe": "vision_language",
            "seed": 1,
            "data": {"path": str(data), "tasks": list(tasks), "train": "train", "dev": "dev", "test": "test"},
            "text": {"max_length": 32, "task_prompts": True},
            "model": {"build": {"width": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 400}, "dropout": 0.0},
            "pictures": {"features": "butd", "feature_width": WIDTHS[self.kind], "boxes": 24},
            **({"mixing": {"mixed": True}} if len(tasks) > 1 else {}),
            "update": {"batch_size": 64, "clip_norm": 1.0},
            "optimizer": {"weight_decay": 0.01},
            "schedule": {"kind": "linear"},
            "budget": {"epochs": epochs},
            "evaluate": {"every": "epoch"} if epochs > 2 else {"every": None},
            "checkpoint": {"every": "epoch", "keep": 1},
            "log": {"every": 100},
        }

    @property
    def questions(self) -> Wanted:
        """The run on the grammar's questions, which say more of an answer than true or false does."""
        return Wanted(self.folder / self.kind / "questions", self.rates(1e-3, 3))

    @property
    def first(self) -> Wanted:
        """The run on its statements and questions, which goes on from there."""
        return Wanted(self.folder / self.kind / "first", [*self.rates(4e-4, 7), *after(self.questions)])

    def rates(self, rate: float, examples: int) -> list[str]:
        """Return the learning rate, and the warm-up of a run on so many examples for each sentence of the grammar."""
        return [
            f"optimizer.learning_rate={rate}",
            f"schedule.warmup={max(1, EPOCHS * examples * self.sentences // 64 // 40)}",
        ]

    def learn(self) -> None:
        """Train on what the grammar says."""
        world = self.folder / self.kind / "world"
        if not self.first.finished:
            parts = {"train": (self.sentences, 3 * self.sentences), "dev": (150, 300), "test": (250, 500)}
            splits = {split: invented(seed, *counts) for seed, (split, counts) in enumerate(parts.items())}
            collection(world, self.kind, splits)
            train_all(self.config(world, ("gqa",), EPOCHS), [self.questions])
            train_all(self.config(world, ("gqa", "nlvr"), self.later), [self.first])

    def fold(self, number: int, seed: int) -> Wanted:
        """Return the run of a fold."""
        changes = [f"seed={seed}", "optimizer.learning_rate=2e-4", *after(self.first)]
        return Wanted(self.folder / self.kind / f"fold-{number}-{seed}", changes)

    @property
    def folds(self) -> list[Wanted]:
        """The runs of all folds and seeds."""
        return [self.fold(number, seed) for seed in self.seeds for number in range(FOLDS)]

    def train_fold(self, number: int, asked: Sequence[Asked]) -> None:
        """Train on the other folds, with every seed, and answer this one."""
        folds = fold_of(asked)
        rest = [one for one in asked if folds[one.text] != number]
        kept = [one for one in asked if folds[one.text] == number]
        data = self.folder / self.kind / f"data-{number}"
        splits = {"train": list(changed(rest, number)), "dev": rest[:16], "test": list(changed(kept, number))}
        collection(data, self.kind, splits)
        train_all(self.config(data, ("nlvr",), 2), [self.fold(number, seed) for seed in self.seeds])

    def judged(self, *, learnt: bool) -> dict[str, float]:
        """Return which share of seeds and variants judged each real statement rightly, before or after the folds."""
        found: dict[str, list[float]] = {}
        for number in range(FOLDS):
            if learnt:
                runs = [evaluation(self.fold(number, seed), "test") for seed in self.seeds]
            else:
                data = self.folder / self.kind / f"data-{number}"
                runs = [measured(self.first, "test", f"data.path={data}", "data.tasks=[nlvr]", "~mixing")]
            for name, right in (each for run in runs for each in right_of(run).items()):
                found.setdefault(name.rpartition("-")[0], []).append(right)
        return {name: float(np.mean(each)) for name, each in found.items()}


def right_of(found: Evaluation) -> Mapping[str, float]:
    """Return whether each example was answered rightly, by name."""
    return found.values[next(name for name in found.values if "accuracy" in name)]


def after(run: Wanted) -> list[str]:
    """Return the settings of a run that goes on from another."""
    return [f"init_from={run.path}", f"model.tokenizer={run.path / 'language'}"]


def interval(right: Mapping[str, float], groups: Mapping[str, str], draws: int = 10_000) -> tuple[float, float, float]:
    """Return the share of right answers with its 95 % bootstrap interval over sentences."""
    by_group: dict[str, list[float]] = {}
    for name, value in right.items():
        by_group.setdefault(groups[name], []).append(value)
    sums = np.array([[sum(each), len(each)] for each in by_group.values()])
    picks = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    shares = sums[picks].sum(1)
    low, high = np.quantile(shares[:, 0] / shares[:, 1], [0.025, 0.975])
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high)


def voted(judged: Mapping[str, float]) -> dict[str, float]:
    """Return whether the majority judged each statement rightly; a half where it is split evenly."""
    return {name: (1.0 + float(np.sign(2 * share - 1))) / 2 for name, share in judged.items()}


def report(experiments: Sequence[Experiment], asked: Sequence[Asked]) -> str:
    """Return the table."""
    # the bootstrap draws sentences, not pictures: what is said of four pictures is right or wrong together
    groups = {one.uid: one.text for one in asked}
    truths = Counter(one.answer for one in asked)
    majority = max(truths.values()) / len(asked)
    rows: list[list[object]] = [["the more frequent answer", f"{majority:.3f}", "", ""]]
    for experiment in experiments:
        for learnt in (False, True):
            judged = experiment.judged(learnt=learnt)
            one, vote = (interval(each, groups) for each in (judged, voted(judged)))
            what = "after four fifths of the real statements" if learnt else "after the grammar's statements alone"
            reached = ("above" if vote[1] > majority else "MISSED") if learnt else ""
            shares = [f"{share:.3f} [{low:.3f}, {high:.3f}]" for share, low, high in (one, vote)]
            rows.append([f"{experiment.kind}, {what}", *shares, reached])
    count = len({one.text for one in asked})
    text = table(["", "one judgement", "majority of all", "bar: majority above the more frequent"], rows)
    return f"{len(asked)} statements, {count} sentences; 95 % bootstrap over sentences\n\n{text}"


def main() -> None:
    """Train what is not trained yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, NAME, pilot=False)
    parser.add_argument("--data", type=Path, help="folder of NLVR")
    parser.add_argument("--from", dest="kinds", nargs="+", choices=[OBJECTS, PIXELS], default=[OBJECTS, PIXELS])
    parser.add_argument("--first", action="store_true", help="learn from the grammar's statements alone")
    parser.add_argument("--sentences", type=int, default=SENTENCES, help=f"of the grammar; default: {SENTENCES}")
    parser.add_argument("--later", type=int, default=LATER, help=f"epochs over its statements; default: {LATER}")
    chosen = parser.parse_args()
    needs(transformers="quincunx[transformers]", pyarrow="pyarrow", scipy="scipy")
    data = chosen.data or Path(os.environ.get("QUINCUNX_DATA", ".")) / "nlvr"
    if not (data / "dev.jsonl").is_file():
        raise SystemExit(f"no {data / 'dev.jsonl'}: give the folder with --data, or its parent in QUINCUNX_DATA")
    folder = NAME if chosen.sentences == SENTENCES else f"{NAME}-{chosen.sentences}"
    folder += "" if chosen.later == LATER else f"-later-{chosen.later}"
    seeds = chosen.seeds or SEEDS
    experiments = [
        Experiment(chosen.out / folder, kind, chosen.sentences, chosen.later, seeds) for kind in chosen.kinds
    ]
    for each in experiments:
        each.learn()
    if chosen.first:
        return
    asked = real(data)
    for each in experiments:
        for number in range(FOLDS):
            if not all(each.fold(number, seed).finished for seed in seeds):
                each.train_fold(number, asked)
        require(each.folds, "call this again")
    print(f"\n{machine(torch.get_num_threads())}; {chosen.later} epochs of statements, {len(seeds)} seeds")
    print(f"\n{report(experiments, asked)}")


if __name__ == "__main__":
    main()
