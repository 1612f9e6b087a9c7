"""The texts of an index's documents, looked up by id in the stores that its vectors came from.

N documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

from quincunx.errors import UsageError
from quincunx.index.filling import MANIFEST as STORE_MANIFEST
from quincunx.index.folder import MANIFEST as INDEX_MANIFEST
from quincunx.index.indexed import Index
from quincunx.index.store import Store


class StoredTexts:
    """Texts of documents that an index knows by number; of an id that several stores have, the last one's counts."""

    def __init__(self, index: Index, folders: Sequence[str | Path] | None = None) -> None:
        """Open the stores.

        Args:
            index: Whose documents.
            folders: The stores, where they are no longer at the places that the index noted.

        Raises:
            UsageError: A store is not there or keeps no texts, or there is none at all.
            DataError: A store is damaged.
        """
        self.index = index
        self.folders = [Path(folder).expanduser() for folder in (index.stores if folders is None else folders)]
        if not self.folders:
            raise UsageError(
                f"{index.folder} was not made from a store, so nothing tells its documents' texts: name the stores "
                "that have them by --store"
            )
        self.stores: list[Store] = []
        for folder in self.folders:
            try:
                store = Store.open(folder)
            except UsageError as error:
                raise UsageError(
                    f"the texts of {index.folder} are not to be had: {error}. If the store was moved, say where it is "
                    "by --store"
                ) from error
            if not store.has_texts:
                raise UsageError(
                    f"the texts of {index.folder} are not to be had: {folder} was encoded with --no-texts; encode the "
                    "corpus without that, and index it anew"
                )
            self.stores.append(store)

    def __call__(self, number: int) -> str:
        """Return the text of a document; UsageError where no store has it."""
        name = self.index.ids[number]
        first = self.stores[0]
        if len(self.stores) == 1 and number < len(first) and first.ids[number] == name:
            return first.text(number)
        place = self._places.get(name)
        if place is None:
            raise UsageError(
                f"no store has a text for document {name!r} of {self.index.folder} (looked in "
                f"{', '.join(map(str, self.folders))}): name the store that has it by --store"
            )
        return self.stores[place[0]].text(place[1])

    def __iter__(self) -> Iterator[str]:
        """Yield the texts of all documents that are there, in the order of their numbers."""
        numbers = self.index.documents
        if len(self.stores) == 1 and len(numbers) == len(self.index.ids) and list(self.stores[0].ids) == self.index.ids:
            yield from self.stores[0].texts()
            return
        for number in numbers.tolist():
            yield self(number)

    @cached_property
    def key(self) -> str:
        """What changes when a document comes, goes, or gets another text."""
        found = blake2b(digest_size=16)
        paths = [self.index.folder / INDEX_MANIFEST, *(folder / STORE_MANIFEST for folder in self.folders)]
        for path in paths:
            found.update(blake2b(path.read_bytes()).digest())
        return found.hexdigest()

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """The store of each id, and its row there."""
        return {name: (number, row) for number, store in enumerate(self.stores) for row, name in enumerate(store.ids)}
