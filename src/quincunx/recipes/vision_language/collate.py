"""From rows to a batch as the model takes it: texts as tokens, features and boxes padded, pictures as pixels.

All random choices (which answer, which order of regions, how a picture is changed) are addressed by the batch's seed
and row. B rows, S words, T words to write, N rows of features, F their width, I pictures, C words to choose from,
A known answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quincunx.data.batch import Batch, pad
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.asked_rows import Item
from quincunx.recipes.vision_language.data.augment import Augmentation, prepare
from quincunx.recipes.vision_language.data.pixels import Look
from quincunx.recipes.vision_language.tasks import Asked, Wording
from quincunx.seeds import address

UNTRAINED = -100
NONE = -1
"""Where there is no word to choose, and nothing to point at."""
JUDGED = ("refcoco", "vcr")
"""Tasks that choose, whose answers in training can be judged without further computing."""
EXAMPLES, TOKENS = 0, 1
"""What a row's loss is a mean over, as the tensor `by` has it."""


@dataclass(frozen=True)
class Texts:
    """A tokenizer, and how what is said begins."""

    tokenizer: Any
    begins: bool = False
    """Whether what is said begins with the tokenizer's first special token, as BART's does."""
    limit: int | None = None
    """Tokens of a text that is read, at most; None: what its task says."""
    _words: dict[str, int] = field(default_factory=dict[str, int], init=False, repr=False, compare=False)
    """Ids of words that were asked for: those of regions come again in every row."""

    def read(self, text: str, limit: int) -> Tensor:
        """Return the ids `[S]` of a text to read, cut off; `limit` is its task's."""
        longest = self.limit or limit
        return torch.tensor(self.tokenizer(text, truncation=True, max_length=longest)["input_ids"], dtype=torch.int64)

    def is_cut(self, text: str, limit: int) -> bool:
        """Tell whether a text is cut off."""
        return len(self.tokenizer(text, verbose=False)["input_ids"]) > (self.limit or limit)

    def said(self, text: str) -> Tensor:
        """Return the ids `[T]` of a text to say, its end included."""
        ids = self.tokenizer(text)["input_ids"]
        if not self.begins and len(ids) > 1 and ids[0] in (self.tokenizer.cls_token_id, self.tokenizer.bos_token_id):
            ids = ids[1:]
        return torch.tensor(ids, dtype=torch.int64)

    @property
    def before(self) -> list[int]:
        """Ids that stand before the first word that is said."""
        ids = self.tokenizer("a")["input_ids"]
        return [ids[0]] if self.begins else []

    def word(self, text: str) -> int:
        """Return the id of a word that stands for a whole answer; UsageError where it is no single token."""
        if text in self._words:
            return self._words[text]
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids or (len(ids) > 1 and text.startswith("<")):
            raise UsageError(
                f"the tokenizer has no token {text}: begin with the tokenizer that the model was made with"
            )
        self._words[text] = int(ids[0])
        return self._words[text]

    def text(self, ids: Sequence[int]) -> str:
        """Return what generated ids say."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


@dataclass(frozen=True)
class Asking:
    """A `Collate`: items in, tensors for the model out.

    Args:
        texts: The tokenizer.
        wording: How texts are put.
        training: Whether random choices are made; else each example is asked the same way every time.
        width: Of features F; 0: texts alone, or pixels.
        look: What pictures are brought to, where an encoder in the model sees them.
        augmentation: How they are changed in training.
        answers: The number of each known answer, where a head chooses among them.
        points: Whether regions are pointed at.
        judges: Whether a batch says which words there are to choose from, for tasks that choose.
    """

    texts: Texts
    wording: Wording
    training: bool = True
    width: int = 0
    look: Look | None = None
    augmentation: Augmentation | None = None
    answers: Mapping[str, int] = field(default_factory=dict[str, int])
    points: bool = False
    judges: bool = False

    def __call__(self, examples: Sequence[Item], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        """Return a batch of rows; in training those of a task stand together, so that its weights read them at once."""
        if self.training:
            order = sorted(range(len(examples)), key=lambda place: examples[place].number)
            examples, ids = [examples[place] for place in order], [ids[place] for place in order]
            rows = [rows[place] for place in order]
        asked: list[Asked] = []
        seen: list[dict[str, Tensor]] = []
        for item, row in zip(examples, rows, strict=True):
            draw = np.random.Generator(np.random.Philox(address(seed, "ask", row))) if self.training else None
            one = item.task.ask(item.example, self.wording, item.pictures, item.row, draw)
            if self.look is not None:
                one, pixels = self._look(item, one, address(seed, "look", row), self.look)
                seen.append(pixels)
            elif self.width:
                seen.append(_features(item, one, self.width))
            asked.append(one)
        sources = [self.texts.read(one.source, item.task.reads) for one, item in zip(asked, examples, strict=True)]
        targets = [self.texts.said(one.target) if one.target is not None else torch.zeros(0, dtype=torch.int64)
                   for one in asked]  # fmt: skip
        tensors = {
            "input_ids": pad(sources, self.texts.tokenizer.pad_token_id),
            "attention_mask": pad([torch.ones_like(ids) for ids in sources]),
            "labels": pad(targets, UNTRAINED),
            "weight": torch.tensor([one.weight if one.target is not None else 0.0 for one in asked]),
            "by": torch.tensor([TOKENS if item.task.by == "tokens" else EXAMPLES for item in examples]),
            "tasks": torch.tensor([item.number for item in examples], dtype=torch.int64),
        }
        tensors |= self._further(examples, asked)
        words, said = torch.tensor([len(ids) for ids in sources]), torch.tensor([len(ids) for ids in targets])
        extents = {"input_ids": words, "attention_mask": words, "labels": said}
        parts = [words, said]
        if seen:
            counts = torch.tensor([len(one["visual_mask"]) for one in seen])
            for name in seen[0]:
                tensors[name] = pad([one[name] for one in seen])
                extents[name] = counts
            parts.append(counts)
        sizes = torch.stack(parts, 1)
        return Batch(tensors, torch.as_tensor(list(rows)), list(ids), sizes.sum(1), extents=extents, parts=sizes)

    def _further(self, examples: Sequence[Item], asked: Sequence[Asked]) -> dict[str, Tensor]:
        """Return what heads and measures of training need: `scores [B, A]`, `points [B]`, `choices [B, C]`."""
        found: dict[str, Tensor] = {}
        if self.answers:
            scores = torch.zeros(len(examples), len(self.answers))
            for row, item in enumerate(examples):
                for answer in item.example.answers:
                    number = self.answers.get(item.task.target_of(answer.text, self.wording))
                    if number is not None:
                        scores[row, number] = max(answer.weight, float(scores[row, number]))
            found["scores"] = scores
        if self.points:
            found["points"] = torch.tensor([_pointed(item, one) for item, one in zip(examples, asked, strict=True)])
        if self.judges:
            judged = [asked[row].choices if item.task.name in JUDGED else () for row, item in enumerate(examples)]
            rows = [torch.tensor([self.texts.word(word) for word in words], dtype=torch.int64) for words in judged]
            found["choices"] = pad(rows, NONE)
        return found

    def _look(self, item: Item, asked: Asked, key: int, look: Look) -> tuple[Asked, dict[str, Tensor]]:
        """Return what is asked, with left for right where pictures are mirrored, and their pixels `[I, 3, H, W]`."""
        none = [np.zeros((0, 4), np.float32)] * len(item.images)
        said = [] if asked.target is None else [asked.target]
        foreign = said if item.task.name == "mmt" else []
        changed = prepare(
            item.images, none, [asked.source, *said], look,
            augmentation=self.augmentation if self.training else None, key=key, foreign=foreign,
        )  # fmt: skip
        source, *target = changed.texts
        asked = Asked(source, target[0] if target else None, asked.weight, asked.choices, asked.order)
        pixels = torch.from_numpy(changed.pixels)
        return asked, {"pixels": pixels, "visual_mask": torch.ones(len(pixels), dtype=torch.int64)}


def region_number(word: str) -> int:
    """Return the number of the region that a word `<vis_extra_id_n>` names."""
    return int(word.removeprefix("<vis_extra_id_").removesuffix(">"))


def _pointed(item: Item, asked: Asked) -> int:
    """Return the number of the region that is meant, as it is shown; `NONE` for other tasks."""
    if item.task.name != "refcoco" or asked.target is None:
        return NONE
    return region_number(asked.target)


def _features(item: Item, asked: Asked, width: int) -> dict[str, Tensor]:
    """Return the rows of all pictures of an item, one picture's after another's."""
    features, boxes, images, objects = [], [], [], []
    for number, rows in enumerate(item.features):
        order = list(asked.order) if asked.order is not None and number == 0 else None
        found = torch.from_numpy(np.asarray(rows if order is None else rows[order], np.float32))
        places = torch.zeros(len(found), 4)
        if len(item.boxes[number]):
            picture = item.pictures[number]
            sides = torch.tensor([picture.width, picture.height] * 2, dtype=torch.float32)
            known = item.boxes[number] if order is None else item.boxes[number][order]
            places = torch.from_numpy(np.ascontiguousarray(known)) / sides
        features.append(found)
        boxes.append(places)
        images.append(torch.full((len(found),), number))
        objects.append(torch.arange(len(found)))
    count = sum(map(len, features))
    return {
        "features": torch.cat(features) if features else torch.zeros(0, width),
        "boxes": torch.cat(boxes) if boxes else torch.zeros(0, 4),
        "visual_mask": torch.ones(count, dtype=torch.int64),
        "image_ids": torch.cat(images) if images else torch.zeros(0, dtype=torch.int64),
        "object_ids": torch.cat(objects) if objects else torch.zeros(0, dtype=torch.int64),
    }
