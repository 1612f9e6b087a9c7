"""Writes a world as a collection folder: pictures, what is in them, examples of every task, features of regions.

Every picture and example is a function of seed, split and number, so a larger world begins with a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quincunx.data.generated import GeneratedSet, SetManifest
from quincunx.data.partial import partial_file
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.data.features import write_features
from quincunx.recipes.vision_language.data.folder import FEATURES, PICTURES, write_collection
from quincunx.recipes.vision_language.data.record import TASKS, Example, Picture, Region
from quincunx.recipes.vision_language.data.world import gqa, grounding, nlvr, sentences, vqa
from quincunx.recipes.vision_language.data.world.draw import boxes_of, draw
from quincunx.recipes.vision_language.data.world.regions import model_key, region_features
from quincunx.recipes.vision_language.data.world.scene import HELD_OUT, HELD_OUT_SPLIT, Scene, Thing, make_scene
from quincunx.runs.files import to_json, write_atomically

FORMAT = 1
"""Raised whenever the same request would give other pictures, examples or files."""

COUNTS = {"train": 2000, "dev": 200, "test": 200, HELD_OUT_SPLIT: 200}
"""Split -> pictures, unless asked otherwise."""
SIZES = (64, 128)
"""Smallest and largest side of a picture, in pixels."""
SCENES = "scenes.jsonl"
"""What is in each picture, in full."""
REGION_FEATURES = "butd"

Progress = Callable[[int, int], None]
"""Called with the number of pictures done and wanted."""


@dataclass(frozen=True)
class Manifest(SetManifest):
    """What a world is, and what its files must be."""

    REQUEST = ("format", "seed", "size", "counts", "tasks", "feature_width")

    seed: int
    size: int
    """Pixels on a side."""
    counts: dict[str, int]
    """Split -> pictures."""
    tasks: list[str]
    feature_width: int | None
    """Width of the features of regions; None where there are none."""
    held_out: list[list[str]]
    """Pairs of colour and shape that only the split `heldout` has."""
    examples: dict[str, dict[str, int]]
    """Task -> split -> examples; empty while the world is being written."""
    pixels: str
    """SHA-256 of all pictures' pixels, in order."""
    files: dict[str, dict[str, Any]]
    """File name -> `{"bytes": int, "sha256": str}`."""

    def __post_init__(self) -> None:
        for name, facts in self.files.items():
            if type(facts["bytes"]) is not int or not isinstance(facts["sha256"], str):
                raise ValueError(f"of {name} it says {dict(facts)}")


SET = GeneratedSet("shape world", "shapeworld.json", Manifest, (PICTURES, SCENES, "images", FEATURES, *TASKS))


def generate(
    out_dir: str | Path,
    *,
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
    size: int = 96,
    tasks: Sequence[str] = TASKS,
    feature_width: int | None = 64,
    on_progress: Progress | None = None,
) -> Manifest:
    """Write a world and its manifest; return that. A world that is there as asked for is kept, a half one done again.

    Args:
        out_dir: The folder, made if missing.
        seed: Of everything.
        counts: Split -> pictures, each 0 or at least 8; the split `heldout` has the pairs of colour and shape that no
            other has. None for `COUNTS`.
        size: Pixels on a side.
        tasks: Tasks to write examples of.
        feature_width: Of the features of regions in `features/butd.arrow`; None for none.
        on_progress: Told how it goes on.

    Raises:
        UsageError: Numbers out of range, a task that is none, a folder that holds other data.
        DataError: The folder cannot be written.
    """
    folder = Path(out_dir).expanduser()
    counts = {split: count for split, count in (COUNTS if counts is None else counts).items() if count}
    _check(counts, size, tasks, feature_width)
    wanted = [task for task in TASKS if task in tasks]
    empty: dict[str, Any] = {"examples": {}, "pixels": "", "files": {}}
    empty["held_out"] = sorted(map(list, HELD_OUT))
    manifest = Manifest(FORMAT, seed, size, counts, wanted, feature_width, **empty)
    with SET.writing(folder), partial_file(folder / f"{SET.manifest_name}.lock", wait=False):
        present = SET.found(folder, manifest.request)
        if present is not None and _is_whole(folder, present):
            return present
        SET.write(folder, manifest)
        for path in (folder / PICTURES, folder / SCENES, *folder.glob("*/*.jsonl")):
            path.unlink(missing_ok=True)
        world = World(folder, manifest, on_progress)
        facts = world.write()
        done = Manifest(**{**vars(manifest), **facts})
        SET.write(folder, done)
    return done


def _check(counts: Mapping[str, int], size: int, tasks: Sequence[str], width: int | None) -> None:
    if unknown := [split for split in counts if split not in COUNTS]:
        raise UsageError(f"there is no split {unknown[0]}; expected {', '.join(COUNTS)}")
    if not counts or min(counts.values()) < nlvr.BLOCK:
        found = ", ".join(f"{split} {count}" for split, count in counts.items()) or "none"
        raise UsageError(f"a split has no pictures or at least {nlvr.BLOCK}, found: {found}")
    if not SIZES[0] <= size <= SIZES[1]:
        raise UsageError(f"pictures are {SIZES[0]} to {SIZES[1]} pixels on a side, found {size}")
    if unknown := [task for task in tasks if task not in TASKS]:
        raise UsageError(f"there is no task {unknown[0]}; expected some of {', '.join(TASKS)}")
    if width is not None and width < 1:
        raise UsageError(f"the width of features is 1 or more, found {width}")


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    pictures = all(len(list((folder / "images" / split).glob("*.png"))) >= n for split, n in manifest.counts.items())
    features = manifest.feature_width is None or (folder / FEATURES / f"{REGION_FEATURES}.arrow").is_file()
    return bool(manifest.files) and pictures and features and not SET.damage(folder, manifest.files, content=False)


def examples_of(seed: int, size: int, task: str, scenes: Sequence[Scene]) -> list[Example]:
    """Return the examples of a task about a block of up to eight neighbouring scenes."""
    if task == "nlvr":
        return nlvr.statements(seed, scenes) if len(scenes) == nlvr.BLOCK else []
    made: list[Example] = []
    for scene in scenes:
        if task == "vqa":
            made += vqa.questions(seed, scene)
        elif task == "gqa":
            made += gqa.questions(seed, scene)
        elif task == "refcoco":
            made += grounding.expressions(seed, scene, boxes_of(scene, size))
        elif task == "vcr":
            made += grounding.inferences(seed, scene)
        elif task == "caption":
            made += sentences.captions(seed, scene)
        elif task == "mmt":
            made += sentences.translations(seed, scene)
        else:
            made += sentences.classes(scene)
    return made


class World:
    """A world while it is being written."""

    def __init__(self, folder: Path, manifest: Manifest, on_progress: Progress | None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._on_progress = on_progress
        self._digest = sha256()
        self._examples: dict[str, dict[str, int]] = {}
        self._rows: list[tuple[str, NDArray[np.float16]]] = []

    def write(self) -> dict[str, Any]:
        """Write all files; return what the manifest says of them."""
        lists = {(task, split): self._of(task, split) for task in self.manifest.tasks for split in self.manifest.counts}
        write_collection(self.folder, self._pictures(), lists)
        write_atomically(self.folder / SCENES, b"".join(map(_scene_line, self._scenes())))
        if self.manifest.feature_width is not None:
            width, seed = self.manifest.feature_width, self.manifest.seed
            path = self.folder / FEATURES / f"{REGION_FEATURES}.arrow"
            write_features(path, self._rows, width=width, model=model_key(seed, width))
        names = [PICTURES, SCENES, *(f"{task}/{split}.jsonl" for task, split in lists)]
        contents = {name: (self.folder / name).read_bytes() for name in names}
        files = {name: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in contents.items()}
        return {"examples": self._examples, "pixels": self._digest.hexdigest(), "files": files}

    def _scenes(self) -> Iterator[Scene]:
        for split, count in self.manifest.counts.items():
            for number in range(count):
                yield make_scene(self.manifest.seed, split, number)

    def _pictures(self) -> Iterator[Picture]:
        total = sum(self.manifest.counts.values())
        for done, scene in enumerate(self._scenes(), start=1):
            pixels = draw(scene, self.manifest.seed, self.manifest.size)
            self._digest.update(pixels.tobytes())
            picture = picture_of_scene(scene, self.manifest.size)
            path = self.folder / str(picture.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            if (width := self.manifest.feature_width) is not None:
                self._rows.append((scene.id, region_features(pixels, picture.regions, width, self.manifest.seed)))
            if self._on_progress and (done % 100 == 0 or done == total):
                self._on_progress(done, total)
            yield picture

    def _of(self, task: str, split: str) -> Iterator[Example]:
        seed, size, count = self.manifest.seed, self.manifest.size, self.manifest.counts[split]
        made = 0
        for start in range(0, count, nlvr.BLOCK):
            numbers = range(start, min(start + nlvr.BLOCK, count))
            scenes = [make_scene(seed, split, number) for number in numbers]
            for example in examples_of(seed, size, task, scenes):
                made += 1
                yield example
        self._examples.setdefault(task, {})[split] = made


def picture_of_scene(scene: Scene, size: int) -> Picture:
    """Return the picture of a scene; its regions are the things, in their order, called by shape and colour."""
    boxes = boxes_of(scene, size)
    regions = tuple(Region(box, thing.shape, thing.colour) for box, thing in zip(boxes, scene.things, strict=True))
    return Picture(scene.id, size, size, f"images/{scene.split}/{scene.number:06d}.png", regions)


def _scene_line(scene: Scene) -> bytes:
    return to_json({"id": scene.id, "things": [_thing_row(thing) for thing in scene.things]}) + b"\n"


def _thing_row(thing: Thing) -> dict[str, Any]:
    """Return the attributes and the place of a thing, lengths as shares of the picture's side."""
    return {name: getattr(thing, name) for name in ("shape", "colour", "size", "pattern", "x", "y", "radius")}
