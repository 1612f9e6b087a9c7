"""From the files of texts to three splits: labels numbered alike, missing splits carved, counts kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError
from quincunx.recipes.long_range.data.examples import Examples, SkippedRow
from quincunx.recipes.long_range.data.rows import beginning
from quincunx.recipes.long_range.data.splits import SPLITS, DataSettings, Place, Progress, Splits, carve, counted
from quincunx.recipes.long_range.data.text.classes import Classes
from quincunx.recipes.long_range.data.text.forms import EXPECTED, find

_ROW = "a text and its label"
_CARVED_SHARE = 10
"""A split that no file holds gets a tenth of the training examples."""
_REST = " without the examples set apart"


@dataclass(frozen=True)
class _Part:
    """One split on its way: its examples, where they came from, and what they are called in messages."""

    examples: Examples
    place: Place
    name: str
    bad: int = 0
    """Rows that were left out."""


def load(
    data: DataSettings,
    limit: int | None = None,
    explicit: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Splits:
    """Return the splits that the `data` section describes; see `splits.load_splits`.

    A split that no file holds is set apart from training by `data.seed`; with `data.dev_from` `test`, development
    examples are the test ones instead. Where fewer examples are wanted than there are, every class gives its share, the
    first of it, since files of texts are often sorted by class.

    Raises:
        DataError: No data, or data of another form; too many bad rows; fewer rows than a count that was set.
        MissingExtra: A saved Hugging Face dataset without the `datasets` package.
    """
    if data.path is None:
        raise DataError(f"data.path is unset; task text needs {EXPECTED}")
    path = Path(data.path).expanduser()
    try:
        form = find(path)
        rows = {split: read(place) for split, (place, read) in form.readers.items()}
    except OSError as error:
        raise DataError(f"cannot read {error.filename or path}: {error.strerror or error}") from None
    notes = [form.said]
    classes = Classes.of(rows["train"].labels, rows["train"].source)
    parts = {
        split: _Part(each.examples(classes.number, _ROW), each.place, str(each.source), len(each.bad))
        for split, each in rows.items()
    }
    notes += classes.said
    skipped: list[SkippedRow] = []
    for each in rows.values():
        notes += each.said
        skipped += each.bad
    notes += _complete(parts, data, explicit)
    wanted = {"train": data.train, "dev": data.dev, "test": data.test}
    for split in SPLITS:
        parts[split], note = _cut(parts[split], split, wanted[split], limit, explicit)
        notes += note
    places = {split: part.place for split, part in parts.items()}
    train, dev, test = (parts[split].examples for split in SPLITS)
    return Splits(train, dev, test, notes, skipped, places)


def sample(examples: Examples, index: int) -> dict[str, str]:
    """Return the beginning of a text, for people to read."""
    return {"text": beginning(examples.symbols(index))}


def _complete(parts: dict[str, _Part], data: DataSettings, explicit: Collection[str]) -> list[str]:
    """Add the splits that no file holds; return sentences on where they come from."""
    notes: list[str] = []
    whole = len(parts["train"].examples)
    if "test" not in parts:
        notes.append(_carve(parts, "test", data.test or max(1, whole // _CARVED_SHARE), data.seed))
    if "dev" in parts:
        if "data.dev_from" in explicit:
            notes.append(f"data.dev_from has no effect: {parts['dev'].name} holds development examples.")
    elif data.dev_from == "test":
        parts["dev"] = parts["test"]
        notes.append(
            "Development examples are the test examples (data.dev_from is test, as in the Long Range Arena's own "
            "code): the choice of a model sees the test split."
        )
    else:
        notes.append(_carve(parts, "dev", data.dev or max(1, whole // _CARVED_SHARE), data.seed))
    return notes


def _carve(parts: dict[str, _Part], split: str, count: int, seed: int) -> str:
    """Set examples of training apart as a split; return a sentence on it."""
    train = parts["train"]
    kept, apart, rest, chosen = carve(train.examples, count, seed, split)
    name = f"{train.name.removesuffix(_REST)}{_REST}"
    parts["train"] = _Part(kept, _moved(train.place, rest), name, train.bad)
    parts[split] = _Part(apart, _moved(train.place, chosen), f"{train.name} ({split})")
    return (
        f"{train.name}: no file holds {split} examples, so {count:,} of its {len(train.examples):,} are set apart as "
        f"such (data.seed {seed})."
    )


def _cut(
    part: _Part, split: str, wanted: int | None, limit: int | None, explicit: Collection[str]
) -> tuple[_Part, list[str]]:
    """Return the examples of a split that are used, and a sentence where that is not all."""
    found = len(part.examples)
    # A bad row counts as there: it is left out, and said, but it is no reason to refuse the file.
    rows = found + part.bad
    count, note = counted(rows, split, wanted, limit, explicit, part.name)
    if count >= found:
        return part, [note] if note and wanted is not None and rows < wanted else []
    chosen = np.sort(in_proportion(part.examples.labels)[:count])
    said = f"{part.name}: {count:,} of {found:,} {split} examples are used, the first of each class in proportion."
    return _Part(part.examples.pick(chosen), _moved(part.place, chosen), part.name), [said]


def _moved(place: Place, indices: NDArray[np.integer]) -> Place:
    """Return where examples came from that were picked out of others."""
    return lambda index: place(int(indices[index]))


def in_proportion(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return an order of examples of which every beginning has the classes in proportion, each in its own order [N]."""
    turns = np.empty(len(labels))
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        turns[places] = (np.arange(len(places)) + 0.5) / len(places)
    return np.argsort(turns, kind="stable")
