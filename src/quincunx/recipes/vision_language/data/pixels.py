"""Pictures as an image encoder takes them: read, brought to one size with the boxes in them, as numbers.

By PIL and numpy alone, and nothing here is random. H and W height and width in pixels, K boxes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from quincunx.errors import DataError, UsageError

Size = tuple[int, int]
"""Height and width in pixels."""
Floats = NDArray[np.float32]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue between 0 and 1, as CLIP's encoders were trained with (Radford et al., ICML 2021)."""
CROP, SQUASH = "crop", "squash"
FITS = (CROP, SQUASH)
"""How a picture gets another shape: its middle is cut out, or its sides are scaled each by its own factor."""

_SIZE = re.compile(r"\s*[\[(]?\s*(\d{1,5})\s*(?:[,x]\s*(\d{1,5})\s*)?[\])]?\s*")


@dataclass(frozen=True)
class Look:
    """What pictures are brought to."""

    size: Size
    fit: str = CROP
    """One of FITS."""
    mean: tuple[float, float, float] = CLIP_MEAN
    """Of red, green and blue, where 0 is black and 1 full: taken away."""
    std: tuple[float, float, float] = CLIP_STD
    """Of the same: divided by."""

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UsageError(f"pictures are fitted by {' or '.join(FITS)}, found {self.fit!r}")
        if min(self.size) < 1:
            raise UsageError(f"pictures must be at least 1 pixel high and wide, found {self.size}")
        if min(self.std) <= 0:
            raise UsageError(f"the deviations of the colours must be above 0, found {self.std}")


@dataclass(frozen=True)
class Shown:
    """A picture of the size wanted, and where boxes are in it."""

    image: Image.Image
    """In red, green and blue."""
    boxes: Floats
    """`[K, 4]`: x1, y1, x2, y2 in pixels of the image, cut off at its edges."""
    visible: Floats
    """`[K]`: the share of each box's area that is in the image."""


def parse_size(value: Any) -> Size:
    """Return the height and width that are written as 448, "448", "448,448", "(448, 448)", "448x448" or two numbers.

    Raises:
        UsageError: It is none of these, or a side has no pixels.
    """
    sides: Sequence[Any] = ()
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        sides = () if found is None else (int(found[1]), int(found[2] or found[1]))
    elif isinstance(value, int):
        sides = (value, value)
    elif isinstance(value, Sequence):
        sides = value
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
        raise UsageError(f"expected height and width in pixels, such as 448 or 448,448; found {value!r}")
    return sides[0], sides[1]


def read_picture(path: str | Path, expected: Size | None = None) -> Image.Image:
    """Return the picture of a file in red, green and blue, turned as its camera says.

    Args:
        path: A file of any format that PIL knows.
        expected: Height and width that its record says, by which its boxes are meant; None: any.

    Raises:
        DataError: It is missing, damaged, of another size, so large that it may be a bomb, or of pixels that are no
            colours.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                opened.load()
                image = _colours(ImageOps.exif_transpose(opened), path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is too large a picture: {error}") from None
    except FileNotFoundError:
        raise DataError(f"there is no picture {path}") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError) as error:  # each format has its own
        raise DataError(f"{path} is no picture that can be read ({error}): is the file whole?") from error
    if expected is not None and expected != (image.height, image.width):
        raise DataError(
            f"{path} is {image.width} pixels wide and {image.height} high, and its record says {expected[1]} and "
            f"{expected[0]}: boxes would be elsewhere; mend the record, or put the right file there"
        )
    return image


def show(image: Image.Image, boxes: Any, look: Look) -> Shown:
    """Return a picture in the size of a look, with its boxes.

    Cutting out the middle scales the picture so that it just covers the size: its shorter side, for squares.

    Args:
        image: In red, green and blue.
        boxes: `[K, 4]` x1, y1, x2, y2 in its pixels; K may be 0.
        look: Size and fit.
    """
    height, width = look.size
    if look.fit == SQUASH:
        wide, high = width, height
    else:
        # in whole numbers, the fraction dropped, as CLIP's own processing has it
        by_width = width * image.height >= height * image.width
        wide = width if by_width else image.width * height // image.height
        high = image.height * width // image.width if by_width else height
    resized = image if (wide, high) == image.size else image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - width) // 2, (high - height) // 2
    if (left, top) != (0, 0) or (wide, high) != (width, height):
        resized = resized.crop((left, top, left + width, top + height))
    places = as_boxes(boxes) * _floats(wide / image.width, high / image.height, wide / image.width, high / image.height)
    found, visible = cut_off(places - _floats(left, top, left, top), look.size)
    return Shown(resized, found, visible)


def crop_of(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """Return what a box x1, y1, x2, y2 shows of a picture, at least one pixel of it.

    Raises:
        DataError: The box lies outside the picture, or is no box.
    """
    x1, y1, x2, y2 = box
    left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
    right, bottom = min(image.width, int(np.ceil(x2))), min(image.height, int(np.ceil(y2)))
    if not (x1 <= x2 and y1 <= y2) or left >= image.width or top >= image.height or right < 0 or bottom < 0:
        raise DataError(f"the box {list(box)} is not within a picture of {image.width} by {image.height} pixels")
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def as_numbers(image: Image.Image, look: Look) -> Floats:
    """Return a picture's colours less their mean, divided by their deviation `[3, H, W]`."""
    colours = np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255)
    mean, std = (_floats(*each)[:, None, None] for each in (look.mean, look.std))
    return np.ascontiguousarray((colours - mean) / std)


def as_boxes(boxes: Any) -> Floats:
    """Return boxes `[K, 4]`; DataError for another shape, or a box without end."""
    found = np.asarray(boxes, np.float32)
    found = found.reshape(-1, 4) if not found.size else found
    if found.ndim != 2 or found.shape[1] != 4 or not np.isfinite(found).all():
        raise DataError(f"boxes must be finite numbers [boxes, 4]: x1, y1, x2, y2; found {list(found.shape)}")
    return found


def cut_off(boxes: Floats, size: Size) -> tuple[Floats, Floats]:
    """Return boxes `[K, 4]` cut off at the edges of a picture, and the share of each one's area that is left `[K]`.

    A box without area is seen whole where it lies within.
    """
    height, width = size
    edges = _floats(width, height, width, height)
    found = np.clip(boxes, np.float32(0), edges)
    inside = np.all((boxes >= 0) & (boxes <= edges), axis=1)
    before, after = _areas(boxes), _areas(found)
    shares: Any = inside.astype(np.float32)
    np.divide(after, before, out=shares, where=before > 0)
    return np.asarray(found, np.float32), shares


def _floats(*values: float) -> Floats:
    return np.asarray(values, dtype=np.float32)


def _areas(boxes: Floats) -> Floats:
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.prod(sides, axis=1, dtype=np.float32)


def _colours(image: Image.Image, path: str | Path) -> Image.Image:
    """Return a picture in red, green and blue: grey ones of 16 bits by their upper eight, what is clear in white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DataError(f"{path} has pixels of 32 bits (mode {image.mode}), which are no colours; save it in 8 bits")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")
