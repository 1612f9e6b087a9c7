"""What pictures are asked about and not to be had: said before anything is computed, all of it at once.

A missing file, or a picture of which no features are stored, would otherwise stop a run where it is drawn first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.vision_language.asked_rows import AskedRows
from quincunx.recipes.vision_language.data.features import Features
from quincunx.recipes.vision_language.data.folder import PICTURES as LIST
from quincunx.recipes.vision_language.data.folder import Collection
from quincunx.recipes.vision_language.kinds import GRIDS

SHOWN = 5
"""Pictures that a refusal names."""


def check_presence(every: Sequence[AskedRows | None]) -> None:
    """Refuse rows that ask about pictures whose files, or whose stored features, are not there.

    Args:
        every: Rows that see by the same eyes; None for a split that is not read.

    Raises:
        DataError: Names how many pictures are missing, and the first of them.
    """
    parts = [part for rows in every if rows is not None and rows.eyes is not None for part in rows.parts]
    seen = [rows.eyes for rows in every if rows is not None and rows.eyes is not None]
    if not parts or not seen:
        return
    eyes = seen[0]
    asked = np.zeros(len(eyes.collection.pictures), np.bool_)
    for part in parts:
        places, ends = part.examples.picture_places, part.examples.picture_offsets
        for place in part.chosen.tolist():
            asked[places[ends[place] : ends[place + 1]]] = True
    if eyes.features is not None:
        _check_features(eyes.collection, eyes.features, asked)
    else:
        _check_files(eyes.collection, asked)


def _check_files(collection: Collection, asked: NDArray[np.bool_]) -> None:
    missing: list[str] = []
    for place in np.flatnonzero(asked).tolist():
        name, file = collection.pictures.file_at(place)
        if file is None:
            missing.append(f"{name} (no file is named)")
        elif not (collection.folder / file).is_file():
            missing.append(f"{name} ({collection.folder / file})")
    if missing:
        raise DataError(
            f"{collection.folder / LIST}: of {len(missing):,} of the {int(asked.sum()):,} pictures that are asked "
            f"about the file is not there: {_first(missing)}. Put the files there, or mend `file`, a path within the "
            "collection's folder or from it"
        )


def _check_features(collection: Collection, features: Features, asked: NDArray[np.bool_]) -> None:
    stored = np.zeros_like(asked)
    found = collection.pictures.places_of(features.ids)
    stored[found[found >= 0]] = True
    missing = np.flatnonzero(asked & ~stored).tolist()
    if missing:
        names = [collection.pictures.file_at(place)[0] for place in missing[:SHOWN]]
        raise DataError(
            f"{features.path} has no features of {len(missing):,} of the {int(asked.sum()):,} pictures that are asked "
            f"about: {_first(names, len(missing))}. `quincunx features`, called as for this file, adds those that are "
            "missing"
        )


def check_maker(features: Features, word: str) -> None:
    """Refuse features that say of themselves that they are not what a config takes them for.

    Args:
        features: A file, which says by which encoder it was made where `quincunx features` made it.
        word: `pictures.features`: a grid of that encoder, or `butd` for regions.

    Raises:
        DataError: A file of another of CLIP's encoders, or of a grid where regions are meant.
    """
    made, rows = (features.header.about.get(key, "") for key in ("encoder", "rows"))
    if word == "butd" and rows and not rows.startswith("regions"):
        raise DataError(
            f"{features.path} has {rows} rows of a picture from the encoder {made}, and pictures.features is butd, a "
            "row for each region: set pictures.features to the encoder's word, or name a file that `quincunx features "
            "--regions` made"
        )
    if word in GRIDS and made in GRIDS and made != word:
        raise DataError(
            f"{features.path} was made by the encoder {made}, and pictures.features is {word}: set it to {made}, or "
            f"name a file of {word} in pictures.stored"
        )


def fewer_is_more(ways: Sequence[str], count: int, most: int) -> list[str]:
    """Say it where what is to make visual tokens fewer makes them more, or leaves all; else nothing.

    Args:
        ways: Of `grid`, `line` and `sparse`, those that are on.
        count: `pictures.boxes`.
        most: Rows of features that a picture has, at most.
    """
    if not ways or count <= most:
        return []
    way = ways[0]
    if way == "sparse":
        return [f"pictures.sparse has no effect: a picture has {most} visual tokens, and pictures.boxes leaves {count}"]
    left = math.isqrt(count) ** 2 if way == "grid" else count
    if left <= most:
        return []
    return [
        f"pictures.{way} makes {left} visual tokens of a picture's {most}, more and not fewer, some of them alike: set "
        f"pictures.boxes below {most}"
    ]


def _first(names: list[str], count: int | None = None) -> str:
    more = (count or len(names)) - len(names[:SHOWN])
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more else "")
