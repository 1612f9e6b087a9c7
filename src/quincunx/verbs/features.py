"""The verb `features`: what a frozen image encoder gives of a collection's pictures, computed once and stored."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from quincunx.verbs.common import Adder, say, tenths

if TYPE_CHECKING:
    from quincunx.recipes.vision_language.data.folder import Collection

STORED_GRID = 6
"""Cells of the side of a stored grid of CLIP: 36 rows, as many as a detector's regions."""


def add_to(add: Adder) -> None:
    """Add the verb."""
    what = "store what an image encoder gives of a collection's pictures; goes on with a file that was begun"
    made = add("features", features, what)
    made.add_argument("collection", help="the collection's folder, with pictures.jsonl")
    words = "RN50, RN101, RN50x4 or ViT of CLIP; or the folder of any vision model of transformers"
    made.add_argument("--encoder", required=True, metavar="WORD_OR_DIR", help=words)
    made.add_argument("--weights", metavar="PLACE", help="with a word: file of a ResNet's weights, folder of a ViT")
    made.add_argument("--fresh", action="store_true", help="random weights, to try things out")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of random weights; default: 0")
    made.add_argument("--size", default="224", metavar="H,W", help="pixels of pictures, high and wide; default: 224")
    made.add_argument("--fit", default="crop", metavar="WORD", help="crop (default): the middle; squash: all of it")
    made.add_argument("--pooled", action="store_true", help="one pooled row in place of a grid")
    grid = f"cells of the grid's side, by the maximum; 0: as it is; default: for words at most {STORED_GRID}"
    made.add_argument("--grid", type=int, metavar="N", help=grid)
    made.add_argument("--regions", action="store_true", help="one row for each region, in their order")
    made.add_argument("--out", metavar="FILE", help="default: features/<encoder>[-pooled|-regions].arrow within it")
    made.add_argument("--dtype", default="float16", metavar="WORD", help="float16 (default) or float32")
    made.add_argument("--batch-size", type=int, default=32, metavar="N", help="computed at once; default: 32")
    made.add_argument("--device", default="auto", help="auto (default), cpu, mps, cuda or cuda:N")


def features(options: argparse.Namespace) -> int:
    """Store features of pictures."""
    _refuse_misuse(options)
    import torch

    from quincunx.console import duration
    from quincunx.engine.runtime import seed_torch
    from quincunx.recipes.vision_language.data.folder import Collection
    from quincunx.recipes.vision_language.data.pixels import parse_size
    from quincunx.recipes.vision_language.kinds import GRIDS
    from quincunx.recipes.vision_language.model.vision import build_encoder
    from quincunx.recipes.vision_language.model.vision.extract import extract
    from quincunx.seeds import address

    size, collection = parse_size(options.size), Collection(options.collection)
    if options.fresh:
        seed_torch(address(options.seed, "features"), torch.device("cpu"))
    encoder = build_encoder(
        options.encoder,
        size,
        weights=options.weights,
        pooled=options.pooled,
        grid=options.grid or None,
        fresh=options.fresh,
    )
    if options.grid is None and options.encoder in GRIDS and not options.pooled and not options.regions:
        encoder.use_grid(STORED_GRID if min(encoder.grid_size) > STORED_GRID else None)
    for note in encoder.origin.notes:
        say(note)
    found = extract(
        collection,
        encoder,
        options.out or _place(collection, options),
        regions=options.regions,
        fit=options.fit,
        dtype=options.dtype,
        batch_size=options.batch_size,
        device=options.device,
        on_progress=tenths("pictures"),
    )
    stored, took = found.features, f"{found.computed:,} computed in {duration(found.seconds)}"
    say(
        f"{stored.path}: {len(stored):,} pictures, at most {stored.longest:,} rows each of {stored.width:,} numbers as "
        f"{stored.header.dtype}, {stored.path.stat().st_size / 2**20:,.1f} MiB; model {stored.model}; "
        f"{took if found.computed else 'all of them were there already'}"
    )
    return 0


def _refuse_misuse(options: argparse.Namespace) -> None:
    """Refuse what contradicts itself before anything is read."""
    from quincunx.errors import UsageError
    from quincunx.recipes.vision_language.data.features import DTYPES
    from quincunx.recipes.vision_language.data.pixels import FITS
    from quincunx.recipes.vision_language.kinds import GRIDS, RAW

    if options.encoder == "butd":
        raise UsageError(
            "butd are features of regions by a detector, which is not here: quincunx data import brings stored ones, "
            "and --regions with another encoder makes some of what the boxes show"
        )
    if options.encoder in RAW:
        word = options.encoder.removeprefix("raw_")
        raise UsageError(
            f"{options.encoder} means that the encoder is in the model: store features by --encoder {word}"
        )
    if options.encoder in GRIDS and (options.weights is None) == (not options.fresh):
        raise UsageError(
            f"--encoder {options.encoder} needs either --weights, where its weights are, or --fresh for random ones"
        )
    if options.encoder not in GRIDS and options.weights is not None:
        raise UsageError(f"{options.encoder} is a folder, which has its own weights: leave --weights out")
    if options.regions and (options.grid or options.fit != "crop"):
        raise UsageError("--regions gives one row for what each box shows, squashed: leave --grid and --fit out")
    if options.grid is not None and options.grid < 0:
        raise UsageError(f"--grid must be 0 or more cells, found {options.grid}")
    for name, words in (("fit", FITS), ("dtype", DTYPES)):
        if getattr(options, name) not in words:
            raise UsageError(f"--{name} is {' or '.join(words)}, found {getattr(options, name)!r}")


def _place(collection: Collection, options: argparse.Namespace) -> Path:
    end = "-regions" if options.regions else ""
    end += "-pooled" if options.pooled else ""
    return collection.feature_file(Path(options.encoder).expanduser().resolve().name + end)
