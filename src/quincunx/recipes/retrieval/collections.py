"""The collections that a config names: what is trained on, and what is measured during and after training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from quincunx.data.order import permutation
from quincunx.errors import DataError
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data import Collection, NoSuchSplit, load_collection
from quincunx.seeds import address


@dataclass(frozen=True)
class Collections:
    """What a run reads."""

    train: list[Collection]
    """`data.train`, then `data.mix`."""
    evaluated: dict[str, Collection]
    """By split: `dev`, `test`, those that there are."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def all(self) -> dict[str, Collection]:
        """Every collection by a name of its own."""
        return {**{f"train-{number}": each for number, each in enumerate(self.train, 1)}, **self.evaluated}

    @property
    def fingerprints(self) -> dict[str, str]:
        """The contents of each."""
        return {name: each.fingerprint for name, each in self.all.items()}

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """Bad rows that were left out, each once."""
        rows = {str(row): row for each in self.all.values() for row in each.skipped}
        return list(rows.values())


def read_collections(config: RetrievalConfig) -> Collections:
    """Return the collections of a config.

    A development set that is nowhere given is the split dev of `data.path`, or a share of the training queries.

    Raises:
        DataError: A collection cannot be read, or is not there.
    """
    data, limit = config.data, config.debug.limit
    train = [_read(config, data.train, "train", limit), *(_read(config, each, "train", limit) for each in data.mixed)]
    evaluated: dict[str, Collection] = {}
    notes: list[str] = []
    for split in ("dev", "test"):
        section = getattr(data, split)
        if section.given or data.path is not None:
            try:
                evaluated[split] = _read(config, section, split, limit)
            except NoSuchSplit:
                if section.given or section.split is not None:
                    raise
    if "dev" not in evaluated and data.dev_share > 0:
        train[0], evaluated["dev"] = carve(train[0], data.dev_share, data.seed)
        notes.append(
            f"no development set is given: {len(evaluated['dev'].queries):,} of the training queries are kept for it "
            "(data.dev_share)"
        )
    for each in [*train, *evaluated.values()]:
        notes += [note for note in each.notes if note not in notes]
    return Collections(train, evaluated, notes)


def carve(collection: Collection, share: float, seed: int) -> tuple[Collection, Collection]:
    """Return the collection without, and with only, a share of its judged queries; every document stays in both.

    Raises:
        DataError: Fewer than two queries, so that one side would be left without any.
    """
    judged = np.flatnonzero(collection.positives.counts > 0)
    count = min(max(1, round(share * len(judged))), len(judged) - 1)
    if count < 1:
        raise DataError(
            f"{collection.name} has {len(judged)} queries with a relevant document: too few to keep one for "
            "development; give data.dev, or set data.dev_share to 0"
        )
    chosen = np.zeros(len(collection.queries), np.bool_)
    chosen[judged[permutation(len(judged), address(seed, "dev"))[:count]]] = True
    rest, kept = (collection.choose(np.flatnonzero(mask)) for mask in (~chosen, chosen))
    return (
        replace(rest, fingerprint=f"{collection.fingerprint}-without-{share}-{seed}"),
        replace(kept, name=f"{collection.name} (dev)", fingerprint=f"{collection.fingerprint}-share-{share}-{seed}"),
    )


def _read(config: RetrievalConfig, section: Any, split: str, limit: int | None) -> Collection:
    """Return the collection of one section, the split of `data.path` where it names no place of its own."""
    data = config.data
    limits = [each for each in (section.limit, limit) if each is not None]
    separate = any((section.corpus, section.queries, section.qrels)) and section.path is None
    return load_collection(
        section.path or (None if separate else data.path),
        format=section.format,
        # a place of one's own is one split unless it says which
        split=section.split or (None if section.given else split),
        corpus=section.corpus,
        queries=section.queries,
        qrels=section.qrels,
        limit=min(limits, default=None),
        skip_bad_rows=data.skip_bad_rows,
        bad_row_limit=data.bad_row_limit,
    )
