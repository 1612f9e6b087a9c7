"""Runs an image encoder once over a collection's pictures, or over their regions, and stores what it gives.

A frozen encoder gives the same rows in every epoch, so that training from the store is training with it, but faster.
What was computed before a kill is not computed again. N rows of a picture, F width, H and W height and width in pixels.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from quincunx.engine.runtime import find_device
from quincunx.errors import UsageError
from quincunx.recipes.vision_language.data.features import Features, FeatureWriter, feature_writer
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.data.pixels import (
    CROP,
    SQUASH,
    Floats,
    Look,
    as_numbers,
    crop_of,
    read_picture,
    show,
)
from quincunx.recipes.vision_language.data.record import Picture
from quincunx.recipes.vision_language.model.vision.encoder import ImageEncoder

Progress = Callable[[int, int], None]
"""Told how many pictures of how many are done."""

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Extracted:
    """What `extract` did."""

    features: Features
    """The file, opened."""
    computed: int
    """Pictures that went through the encoder now; the others were there already."""
    seconds: float


def extract(
    collection: Collection,
    encoder: ImageEncoder,
    path: str | Path,
    *,
    regions: bool = False,
    fit: str = CROP,
    dtype: str = "float16",
    batch_size: int = 32,
    device: str = "auto",
    on_progress: Progress | None = None,
) -> Extracted:
    """Store what an encoder gives of every picture of a collection, in the encoder's eval mode.

    Args:
        collection: Whose pictures have files.
        encoder: Runs on the device and stays there.
        path: The file; one that is there from the same encoder is added to.
        regions: One row for each region of a picture, in their order, of what its box shows scaled to the encoder's
            size: what is pooled, or the mean of the grid.
        fit: How pictures get the encoder's shape: crop or squash.
        dtype: How numbers are stored: float16 or float32.
        batch_size: Pictures, or regions, computed at once.
        device: auto, cpu, mps, cuda or cuda:N.
        on_progress: Told how far it is.

    Raises:
        UsageError: The collection has no pictures or no regions, or the file has features of another encoder.
        DataError: A picture that is missing, damaged or of another size than its record says; what was computed
            before it is kept.
        RunError: The device is not there.
    """
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, found {batch_size}")
    if regions and encoder.grid is not None:
        raise UsageError("a region has one row: leave the grid out")
    start, look = time.perf_counter(), Look(encoder.image_size, fit, encoder.origin.mean, encoder.origin.std)
    names = [*collection.pictures]
    if not names:
        raise UsageError(f"{collection.folder} has no pictures")
    if regions and not collection.pictures.regions.any():
        raise UsageError(f"no picture of {collection.folder} has regions: leave regions out")
    header = {
        "width": encoder.width,
        "model": model_key(encoder, regions=regions, fit=fit),
        "dtype": dtype,
        "about": about(encoder, regions=regions, fit=fit),
    }
    path, computed = Path(path).expanduser(), 0
    if path.is_file():
        there = Features(path)
        if there.header.fits(type(there.header)(**header)) and not there.missing(names):
            return Extracted(there, 0, time.perf_counter() - start)
    run = _Run(encoder.to(find_device(device)).eval(), batch_size, pools_cells=regions and not encoder.pooled)

    def pixels_of(name: str) -> tuple[str, Floats]:
        return name, _pixels(collection, collection.pictures[name], look, regions=regions)

    with feature_writer(path, **header) as writer:
        wanted = [name for name in names if name not in writer.ids]
        for name, pixels in _ahead(pixels_of, wanted, 2 * batch_size):
            computed += run.add(name, pixels, writer)
            if on_progress is not None and computed:
                on_progress(len(names) - len(wanted) + computed, len(names))
        computed += run.flush(writer)
        if on_progress is not None:
            on_progress(len(names), len(names))
    return Extracted(Features(path), computed, time.perf_counter() - start)


def model_key(encoder: ImageEncoder, *, regions: bool = False, fit: str = CROP) -> str:
    """Return the key of features: what a file of them says its model is."""
    settings = repr((encoder.key(), regions, SQUASH if regions else fit))
    return blake2b(settings.encode(), digest_size=16).hexdigest()


def about(encoder: ImageEncoder, *, regions: bool = False, fit: str = CROP) -> dict[str, str]:
    """Return what people want to know of how features were made, by name."""
    told = dict(encoder.described())
    if regions:
        return {**told, "rows": "regions, pooled" if encoder.pooled else "regions, mean of the grid"}
    return {**told, "fit": fit}


class _Run:
    """Gathers pictures until they fill a batch; a picture's rows are written once all of them are computed."""

    def __init__(self, encoder: ImageEncoder, batch_size: int, *, pools_cells: bool) -> None:
        self._encoder = encoder
        self._device = next(encoder.parameters()).device
        self._batch_size = batch_size
        self._pools_cells = pools_cells
        self._pending: list[tuple[str, Floats]] = []
        self._count = 0

    def add(self, name: str, pixels: Floats, writer: FeatureWriter) -> int:
        """Take a picture `[M, 3, H, W]`, M regions or one whole; return how many pictures were written."""
        self._pending.append((name, pixels))
        self._count += len(pixels)
        return self.flush(writer) if self._count >= self._batch_size else 0

    def flush(self, writer: FeatureWriter) -> int:
        """Compute and write what was gathered; return how many pictures that was."""
        if not self._pending:
            return 0
        rows = self._rows(np.concatenate([pixels for _, pixels in self._pending]))
        at = 0
        for name, pixels in self._pending:
            writer.add(name, rows[at : at + len(pixels)].reshape(-1, self._encoder.width))
            at += len(pixels)
        written, self._pending, self._count = len(self._pending), [], 0
        return written

    @torch.inference_mode()
    def _rows(self, pixels: Floats) -> Floats:
        """Return rows `[M, N, F]` of pictures `[M, 3, H, W]`."""
        found: list[Floats] = []
        for start in range(0, len(pixels), self._batch_size):
            given = torch.from_numpy(pixels[start : start + self._batch_size]).to(self._device)
            rows = self._encoder(given)
            found.append((rows.mean(1, keepdim=True) if self._pools_cells else rows).float().cpu().numpy())
        if not found:
            return np.empty((0, 1, self._encoder.width), np.float32)
        return np.concatenate(found)


def _pixels(collection: Collection, picture: Picture, look: Look, *, regions: bool) -> Floats:
    """Return a picture `[1, 3, H, W]`, or its regions `[M, 3, H, W]`."""
    if regions and not picture.regions:
        return np.empty((0, 3, *look.size), np.float32)
    image = read_picture(collection.file_of(picture), (picture.height, picture.width))
    if not regions:
        return as_numbers(show(image, [], look).image, look)[None]
    shape = Look(look.size, SQUASH, look.mean, look.std)
    crops = (crop_of(image, region.box) for region in picture.regions)
    return np.stack([as_numbers(show(crop, [], shape).image, shape) for crop in crops])


def _ahead(make: Callable[[_Given], _Made], items: Iterable[_Given], count: int) -> Iterator[_Made]:
    """Yield what is made of items, in their order, so many of them being made by threads before they are asked for."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        waiting: deque[Future[_Made]] = deque()
        try:
            for item in items:
                waiting.append(threads.submit(make, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
