"""Texts with ids, in a form that holds no Python object a text: a corpus of millions fits beside a model.

N texts or strings, T bytes or tokens in all. Two texts with the same content hash are taken for the same text.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError

_AT_ONCE = 1 << 16
_Kind = TypeVar("_Kind", bound=np.generic)


def content_hash(content: bytes) -> int:
    """Return the hash of a text's UTF-8 bytes: BLAKE2b cut to 64 bits, as an unsigned integer."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


class Strings(Sequence[str]):
    """N strings as their UTF-8 bytes, one after another.

    Reads as a sequence of `str`; what is looked up by content (`index_of`, `indices_of`) needs a sorted table of
    hashes, made at the first call.
    """

    def __init__(self, flat: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        """Take bytes [T], which may lie in a file (`numpy.memmap`), and where each string starts and ends [N + 1]."""
        self.flat = flat
        self.offsets = offsets

    @classmethod
    def of(cls, strings: Iterable[str]) -> Strings:
        """Return the strings given; UnicodeEncodeError for half of a surrogate pair, which has no UTF-8 form."""
        if isinstance(strings, Strings):
            return strings
        builder = StringsBuilder()
        for string in strings:
            builder.add(string.encode())
        return builder.strings()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Strings: ...
    def __getitem__(self, index: int | slice) -> str | Strings:
        if isinstance(index, slice):
            return self.pick(np.arange(len(self))[index])
        return self.encoded(index).decode()

    def encoded(self, index: int) -> bytes:
        """Return one string's UTF-8 bytes; a negative index counts from the end, IndexError beyond both."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"string {index} of {len(self)}")
        return self.flat[self.offsets[place] : self.offsets[place + 1]].tobytes()

    def pick(self, indices: NDArray[np.integer]) -> Strings:
        """Return the strings at these places, in this order."""
        places = np.asarray(indices, np.int64)
        return Strings(_gather(self.flat, self.offsets, places), _offsets(np.diff(self.offsets)[places]))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """The content hash of each string [N]."""
        return _hashes(self.flat, self.offsets)

    def index_of(self, string: str) -> int:
        """Return the place of a string, the first where it occurs several times; KeyError where it does not."""
        found = int(self.indices_of(Strings.of([string]))[0])
        if found < 0:
            raise KeyError(string)
        return found

    def indices_of(self, wanted: Strings) -> NDArray[np.int64]:
        """Return the place of each wanted string [M], the first where it occurs several times; -1 where it does not."""
        order, ordered = self._sorted
        found = np.full(len(wanted), -1, np.int64)
        if not len(self):
            return found
        places = np.minimum(np.searchsorted(ordered, wanted.hashes), len(ordered) - 1)
        hit = ordered[places] == wanted.hashes
        found[hit] = order[places[hit]]
        return found

    def repeats(self) -> list[tuple[int, int]]:
        """Return (place of the first, place of a later one) for every string that occurred before, by the later."""
        order, ordered = self._sorted
        same = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
        if not len(same):
            return []
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        firsts = order[starts[np.searchsorted(starts, same, side="right") - 1]]
        return sorted(zip(firsts.tolist(), order[same].tolist(), strict=True), key=lambda pair: pair[1])

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        order = np.argsort(self.hashes, kind="stable")
        return order, self.hashes[order]


class StringsBuilder:
    """Strings while they are gathered."""

    def __init__(self) -> None:
        self._flat = bytearray()
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, content: bytes) -> None:
        """Append one string, given as sound UTF-8."""
        self._flat += content
        self._ends.append(len(self._flat))

    def strings(self) -> Strings:
        """Return what was gathered, without copying it; nothing can be added afterwards."""
        return Strings(np.frombuffer(self._flat, np.uint8), np.frombuffer(self._ends, np.int64))


class Texts:
    """N texts, each with an id of its own.

    Ids are strings whatever they look like: `007`, `7` and `²` are three.
    """

    def __init__(self, ids: Strings, contents: Strings) -> None:
        """Take ids [N], known to differ from each other, and texts [N]; `Texts.of` makes sure of the ids."""
        self.ids = ids
        self.contents = contents

    @classmethod
    def of(cls, ids: Iterable[str], texts: Iterable[str]) -> Texts:
        """Return texts with their ids.

        Raises:
            DataError: An id that occurs twice or is empty, or another number of ids than of texts.
        """
        return cls(_distinct(Strings.of(ids), len(contents := Strings.of(texts))), contents)

    def __len__(self) -> int:
        return len(self.ids)

    def text(self, index: int) -> str:
        """Return one text; IndexError beyond the last."""
        return self.contents[index]

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """The content hash of each text [N]."""
        return self.contents.hashes

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each text [N]: near its tokens up to a factor, known without tokenizing."""
        return np.diff(self.contents.offsets)

    def index_of(self, identifier: str) -> int:
        """Return the place of an id; KeyError where there is none."""
        return self.ids.index_of(identifier)

    def pick(self, indices: NDArray[np.integer]) -> Texts:
        """Return the texts at these places, in this order; each place at most once."""
        return Texts(self.ids.pick(indices), self.contents.pick(indices))


class TokenTexts:
    """N texts of which only the token ids are known, with the same use as `Texts`."""

    def __init__(self, ids: Strings, flat: NDArray[np.int32], offsets: NDArray[np.int64]) -> None:
        """Take ids [N], known to differ from each other, token ids [T], and where each text starts and ends [N + 1]."""
        self.ids = ids
        self.flat = flat
        self.offsets = offsets

    @classmethod
    def of(cls, ids: Iterable[str], texts: Sequence[Sequence[int]]) -> TokenTexts:
        """Return texts of token ids with their own ids; DataError as `Texts.of`."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        flat = np.fromiter((token for text in texts for token in text), np.int32, int(lengths.sum()))
        return cls(_distinct(Strings.of(ids), len(texts)), flat, _offsets(lengths))

    def __len__(self) -> int:
        return len(self.ids)

    def text(self, index: int) -> None:
        """Return None: the text behind the tokens is not known; IndexError beyond the last."""
        self.tokens(index)

    def tokens(self, index: int) -> NDArray[np.int32]:
        """Return the token ids of one text [S], as a view; a negative index counts from the end."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        return self.flat[self.offsets[place] : self.offsets[place + 1]]

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """The hash of each text's token ids, as little-endian int32 [N]."""
        return _hashes(self.flat.astype("<i4", copy=False).view(np.uint8), 4 * self.offsets)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The tokens of each text [N]."""
        return np.diff(self.offsets)

    def index_of(self, identifier: str) -> int:
        """Return the place of an id; KeyError where there is none."""
        return self.ids.index_of(identifier)

    def pick(self, indices: NDArray[np.integer]) -> TokenTexts:
        """Return the texts at these places, in this order; each place at most once."""
        places = np.asarray(indices, np.int64)
        lengths = self.sizes[places]
        return TokenTexts(self.ids.pick(places), _gather(self.flat, self.offsets, places), _offsets(lengths))


def _distinct(ids: Strings, count: int) -> Strings:
    """Return the ids, which are as many as the texts, none empty and none twice, or say which is not."""
    if len(ids) != count:
        raise DataError(f"there are {len(ids):,} ids for {count:,} texts; expected one id a text")
    empty = np.flatnonzero(np.diff(ids.offsets) == 0)
    if len(empty):
        raise DataError(f"the id of text {empty[0] + 1:,} is empty; every text needs an id of its own")
    if repeats := ids.repeats():
        first, again = repeats[0]
        raise DataError(
            f"{len(repeats):,} id(s) occur more than once, the first {ids[first]!r}, of texts {first + 1:,} and "
            f"{again + 1:,}; every text needs an id of its own"
        )
    return ids


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _gather(flat: NDArray[_Kind], offsets: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[_Kind]:
    if not len(places):
        return flat[:0]
    return np.concatenate([flat[offsets[place] : offsets[place + 1]] for place in places])


def _hashes(flat: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the hash of each piece [N]; pieces are taken in blocks, so that no list of N objects is made."""
    hashes = np.empty(len(offsets) - 1, np.uint64)
    view = np.ascontiguousarray(flat).data
    for start in range(0, len(hashes), _AT_ONCE):
        ends = offsets[start : start + _AT_ONCE + 1].tolist()
        digests = b"".join(blake2b(view[begin:end], digest_size=8).digest() for begin, end in pairwise(ends))
        hashes[start : start + len(ends) - 1] = np.frombuffer(digests, "<u8")
    return hashes
