"""Documents as every source gives them, and what is one and the same text.

A source can be read as often as is wanted: once to see what there is, once to train a tokenizer, once to encode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

SPLITS = ("train", "dev", "test")

_AT_ONCE = 1 << 22


class Document(NamedTuple):
    """One text, or the parts of one labelled example."""

    name: str
    """Where it comes from, for messages."""
    texts: tuple[str, ...]
    """One running text; or three: a context, what is asked of it, and the answer."""
    split: str | None = None
    """The split that the data itself gives it; None: drawn by content."""
    label: int = -1
    """Number of the answer among the task's; -1: there is none."""


@dataclass(frozen=True)
class Documents:
    """All documents of a source."""

    what: str
    """The source in words, for sentences."""
    request: Mapping[str, Any]
    """All that decides which documents there are, content included, as plain JSON values."""
    read: Callable[[], Iterator[Document]]
    """Starts reading, always in the same order; DataError for what cannot be read."""
    parts: int = 1
    """Texts in each document."""
    drawn: tuple[str, ...] = ("dev", "test")
    """Held-out splits that are drawn from the documents without a split of their own."""
    answers: tuple[str, ...] = ()
    """What the label numbers say, where there are labels."""
    notes: Sequence[str] = field(default_factory=list)
    """Sentences on what was found."""


def content_hash(texts: Sequence[str]) -> int:
    """Return a hash in [0, 2**64) of a document's words; how they are spaced and broken into lines does not matter."""
    words = "\0".join(" ".join(text.split()) for text in texts)
    return int.from_bytes(blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def counted(count: int, thing: str) -> str:
    """Return a number of things in words."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def file_hash(path: Path) -> str:
    """Return a hash of a file's content."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def files_hash(paths: Sequence[tuple[str, Path]]) -> str:
    """Return a hash of files, each with the name that it goes by, in this order."""
    digest = blake2b(digest_size=16)
    for name, path in paths:
        digest.update(f"{name}\0{file_hash(path)}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
