"""Random changes of training pictures: mirrored, shifted, partly erased, with their boxes and the words about them.

Each is a pure function of the pictures and a key, so that neither workers nor a resumed run change what is seen.
I pictures of an example, H and W height and width in pixels, K boxes of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from quincunx.errors import UsageError
from quincunx.recipes.vision_language.data.mirror import mirrored_texts
from quincunx.recipes.vision_language.data.pixels import Floats, Look, Shown, Size, as_numbers, cut_off, show
from quincunx.seeds import address

_TRIES = 10
"""How often a rectangle that does not fit is drawn anew before nothing is erased."""


@dataclass(frozen=True)
class Augmentation:
    """How often and how far pictures are changed."""

    mirror: float = 0.5
    """Chance that an example's pictures are mirrored, where the words about them allow it."""
    shift: float = 0.0625
    """Shift of a picture by at most this share of its height and width, each way; what comes in is black."""
    erase: float = 0.5
    """Chance that a rectangle of a picture is made the mean colour (Zhong et al., AAAI 2020)."""
    erased: tuple[float, float] = (0.02, 0.33)
    """The rectangle's share of the picture's area, from and to."""
    ratio: tuple[float, float] = (0.3, 3.3)
    """Its height divided by its width, from and to."""

    def __post_init__(self) -> None:
        for name in ("mirror", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a chance between 0 and 1, found {getattr(self, name)}")
        if not 0 <= self.shift < 1:
            raise UsageError(f"shift is a share of the side, at least 0 and below 1; found {self.shift}")
        if not 0 < self.erased[0] <= self.erased[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise UsageError(f"expected rising shares in (0, 1] and ratios above 0, found {self.erased}, {self.ratio}")


@dataclass(frozen=True)
class Prepared:
    """The pictures of an example as the image encoder takes them, and what is said of them."""

    pixels: Floats
    """`[I, 3, H, W]`"""
    boxes: tuple[Floats, ...]
    """Of each picture `[K, 4]`, in pixels of it."""
    visible: tuple[Floats, ...]
    """Of each picture `[K]`: the share of each box's area that is still in it."""
    texts: tuple[str, ...]
    """Those that were given, with left for right where the pictures are mirrored."""
    mirrored: bool = False


def prepare(
    images: Sequence[Image.Image],
    boxes: Sequence[Any],
    texts: Sequence[str],
    look: Look,
    *,
    augmentation: Augmentation | None = None,
    key: int = 0,
    foreign: Sequence[str] = (),
) -> Prepared:
    """Return the pictures of an example in the size of a look, changed at random if asked for.

    Args:
        images: In red, green and blue, of any sizes.
        boxes: Of each image `[K, 4]`, in its pixels.
        texts: In English, about them: question, answers, choices.
        look: Size, fit and colours.
        augmentation: How they are changed; None: not at all.
        key: Of the random numbers: an address made of seed, epoch and the example's place or name.
        foreign: Texts in other languages, which are not changed; see `mirrored_texts`.

    Raises:
        UsageError: As many boxes as images are needed.
        DataError: Boxes of another shape.
    """
    if len(images) != len(boxes):
        raise UsageError(f"boxes were given for {len(boxes)} pictures, and there are {len(images)}")
    shown = [show(image, each, look) for image, each in zip(images, boxes, strict=True)]
    said, mirrored = tuple(texts), False
    if augmentation is not None and _generator(key, "mirror").random() < augmentation.mirror:
        changed = mirrored_texts(texts, foreign)
        if changed is not None:
            said, mirrored = changed, True
            shown = [mirror(each) for each in shown]
    if augmentation is not None:
        shown = [shift(each, augmentation.shift, _generator(key, "shift", number)) for number, each in enumerate(shown)]
    pixels = [as_numbers(each.image, look) for each in shown]
    if augmentation is not None:
        for number, each in enumerate(pixels):
            erase(each, augmentation, _generator(key, "erase", number))
    return Prepared(
        np.stack(pixels) if pixels else np.empty((0, 3, *look.size), np.float32),
        tuple(each.boxes for each in shown),
        tuple(each.visible for each in shown),
        said,
        mirrored,
    )


def mirror(shown: Shown) -> Shown:
    """Return a picture's mirror image, left for right, with its boxes."""
    x1, y1, x2, y2 = shown.boxes.T
    width = np.float32(shown.image.width)
    return Shown(ImageOps.mirror(shown.image), np.stack([width - x2, y1, width - x1, y2], axis=1), shown.visible)


def shift(shown: Shown, share: float, generator: np.random.Generator) -> Shown:
    """Return a picture moved by as many pixels as are drawn each way, with its boxes; what comes in is black."""
    width, height = shown.image.size
    most = round(share * width), round(share * height)
    across, down = (int(generator.integers(-each, each, endpoint=True)) for each in most)
    if not across and not down:
        return shown
    moved = Image.new("RGB", (width, height))
    moved.paste(shown.image, (across, down))
    boxes, visible = cut_off(shown.boxes + np.array([across, down, across, down], np.float32), (height, width))
    return Shown(moved, boxes, shown.visible * visible)


def erase(pixels: Floats, augmentation: Augmentation, generator: np.random.Generator) -> None:
    """Make a rectangle of a picture `[3, H, W]` the mean colour, which is 0, or do nothing, as is drawn."""
    if generator.random() >= augmentation.erase:
        return
    place = rectangle((pixels.shape[1], pixels.shape[2]), augmentation, generator)
    if place is not None:
        top, left, height, width = place
        pixels[:, top : top + height, left : left + width] = 0


def rectangle(
    size: Size, augmentation: Augmentation, generator: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Return top, left, height and width of the rectangle to erase; None where none that was drawn fits."""
    height, width = size
    for _ in range(_TRIES):
        area = height * width * generator.uniform(*augmentation.erased)
        ratio = np.exp(generator.uniform(*np.log(augmentation.ratio)))
        high, wide = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < high < height and 0 < wide < width:
            top = int(generator.integers(0, height - high, endpoint=True))
            return top, int(generator.integers(0, width - wide, endpoint=True)), high, wide
    return None


def _generator(key: int, *parts: int | str) -> np.random.Generator:
    """Return random numbers of their own for each thing that is drawn: one left out changes no other."""
    return np.random.default_rng(address(key, "pixels", *parts))
