"""From the config's sections on texts to examples of three splits, and the tokenizer that made them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quincunx.data.cache import cache_folder
from quincunx.errors import DataError, UsageError
from quincunx.recipes.compression.config_data import Data, Tokenizer
from quincunx.recipes.compression.data import tokenizer as tokenizing
from quincunx.recipes.compression.data.documents import SPLITS, Document, Documents
from quincunx.recipes.compression.data.encoding import WORTH, Encoder, encode, usable_processes
from quincunx.recipes.compression.data.glue import glue
from quincunx.recipes.compression.data.openwebtext import openwebtext
from quincunx.recipes.compression.data.stdlib import stdlib_text
from quincunx.recipes.compression.data.store import Encoded, Made, kept_store
from quincunx.recipes.compression.data.survey import FORMAT as SURVEY_FORMAT
from quincunx.recipes.compression.data.survey import HeldOut, Survey, survey
from quincunx.recipes.compression.data.text_files import json_lines, text_files
from quincunx.recipes.compression.data.windows import Ids, LabelledPairs, Shape, Windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOLDER = "compression"
"""Of the recipe's files in the cache."""

Split = Windows | LabelledPairs


@dataclass(frozen=True)
class Texts:
    """The examples of each split."""

    splits: dict[str, Split]
    """By name; dev and test may be empty."""
    tokenizer: PreTrainedTokenizerBase
    shape: Shape
    answers: tuple[Ids, ...]
    """Token ids [S] of each answer of labelled examples, by label number, eos included; none for running texts."""
    notes: list[str]
    """Sentences on what was found, made and left out."""
    fingerprint: str
    """A hash of all that determines the examples."""


def open_source(data: Data, cache: Path) -> Documents:
    """Return the documents that a `data` section names; errors as the sources' own."""
    if data.source == "stdlib-text":
        return stdlib_text()
    name, _, task = data.source.partition(":")
    if name == "glue":
        return glue(task or None, data.path, cache, usable_processes(data.processes))
    if name == "openwebtext":
        return openwebtext(data.path, cache, data.field, usable_processes(data.processes))
    if data.path is None:
        raise UsageError(f"data.source {data.source} reads what data.path names, which is unset")
    if name == "text":
        return text_files(data.path, data.document, data.files)
    return json_lines(data.path, data.field, data.files)


def load(
    data: Data,
    settings: Tokenizer,
    *,
    context: int,
    forward: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    limit: int | None = None,
) -> Texts:
    """Return the examples that the sections describe, from the cache or made now and kept there.

    Args:
        data: The `data` section.
        settings: The `tokenizer` section.
        context: Tokens that are compressed; 0: none.
        forward: Tokens that are predicted after them; 0: none, where the context is reconstructed.
        tokenizer: The model's own; then `settings` has no say. None: as the settings say.
        limit: At most so many examples of each split.

    Raises:
        DataError: There is no data, it cannot be read, or there is too little of it; the cache cannot be written.
        UsageError: Lengths that contradict one another, or a tokenizer without an eos token.
        MissingExtra: A package that is needed is not installed.
    """
    shape = Shape(context, forward, data.overlap if context and forward else 0, *_shortest(data, context, forward))
    cache = cache_folder(data.cache)
    source = open_source(data, cache)
    held_out = HeldOut(data.dev_share, data.test_share, data.seed, data.documents)
    how = [SURVEY_FORMAT, data.dev_share, data.test_share, data.seed, data.documents]
    drawn = {"held_out": how, **source.request}
    surveyed = _Once(source, held_out)
    folder = cache / FOLDER
    if tokenizer is None and settings.path is not None:
        tokenizer = tokenizing.read_tokenizer(settings.path)
    elif tokenizer is None:
        texts = _training_texts(source, surveyed, settings.sample)
        request = {**drawn, "sample": settings.sample}
        tokenizer = tokenizing.kept_tokenizer(texts, settings.kind, settings.vocabulary, request, folder)
    notes = list(source.notes)
    request = {"tokenizer": tokenizing.fingerprint(tokenizer), **drawn}
    store = kept_store(
        request,
        folder,
        lambda: _made(source, surveyed(), tokenizer, data.processes),
        notes,
        vocabulary=len(tokenizer),
        parts=source.parts,
    )
    notes += store.about["notes"]
    notes.append(f"Token ids are {'made and kept in' if store.made else 'taken from'} the cache ({store.path}).")
    splits: dict[str, Split] = {}
    for name, tokens in store.splits.items():
        if source.parts == 1:
            splits[name] = Windows(tokens, shape, stream=data.packing == "stream", limit=limit)
        else:
            splits[name] = LabelledPairs(tokens, shape, limit=limit)
        if len(tokens):
            notes.append(splits[name].said(name))
    _refuse_empty(source, splits, data, held_out)
    lengths = [store.key, context, forward, shape.overlap, shape.shortest_context, shape.shortest, data.packing, limit]
    key = blake2b(json.dumps(lengths).encode(), digest_size=16).hexdigest()
    end = tokenizing.end_token(tokenizer)
    encoder = Encoder(tokenizing.state(tokenizer))
    answers = tuple(np.append(ids, end).astype(np.int64) for ids in encoder([f" {word}" for word in source.answers]))
    return Texts(splits, tokenizer, shape, answers, notes, key)


class _Once:
    """The survey of a source, made when it is first asked for: what is in the cache needs none."""

    def __init__(self, source: Documents, held_out: HeldOut) -> None:
        self._source = source
        self._held_out = held_out
        self._made: Survey | None = None

    def __call__(self) -> Survey:
        if self._made is None:
            self._made = survey(self._source, self._held_out)
        return self._made


def _shortest(data: Data, context: int, forward: int) -> tuple[int | None, int | None]:
    """Return the shortest parts that are set, for the parts that there are."""
    return (data.min_context if context else None), (data.min_forward if forward else None)


def _training_texts(source: Documents, surveyed: _Once, characters: int) -> Iterator[str]:
    """Yield the texts of training documents, up to so many characters."""
    left = characters
    for split, document in surveyed().documents(source):
        if SPLITS[split] == "train":
            for text in document.texts:
                if left <= 0:
                    return
                yield text[:left]
                left -= len(text)


def _made(source: Documents, surveyed: Survey, tokenizer: PreTrainedTokenizerBase, processes: int) -> Made:
    """Return what a new store gets: every document that is used, the last part of each ended by eos."""
    state = tokenizing.state(tokenizer)
    count = usable_processes(processes)
    if count > 1:
        count = min(count, _characters(source, surveyed, count * WORTH) // WORTH)
    return Made(encoded(source, surveyed, state, tokenizing.end_token(tokenizer), count), {"notes": surveyed.notes})


def encoded(source: Documents, surveyed: Survey, state: str, end: int, processes: int) -> Iterator[Encoded]:
    """Yield every document that is used as token ids, the last part ended by the token `end`."""
    waiting: list[tuple[int, Document]] = []

    def texts() -> Iterator[str]:
        for split, document in surveyed.documents(source):
            waiting.append((split, document._replace(texts=())))
            yield from document.texts

    parts: list[Any] = []
    done = 0
    for ids in encode(texts(), state, processes):
        parts.append(ids)
        if len(parts) == source.parts:
            split, document = waiting[done]
            done += 1
            if done == len(waiting) or done >= 1 << 16:
                del waiting[:done]
                done = 0
            yield split, document.label, [*parts[:-1], np.append(parts[-1], np.int32(end))]
            parts = []


def _characters(source: Documents, surveyed: Survey, enough: int) -> int:
    """Return how many characters there are, or the first sum that is enough."""
    total = 0
    for _, document in surveyed.documents(source):
        total += sum(map(len, document.texts))
        if total >= enough:
            break
    return total


def _refuse_empty(source: Documents, splits: dict[str, Split], data: Data, held_out: HeldOut) -> None:
    """Raise DataError where a split that should have examples has none: what there is is too short, or too long."""
    wanted = ["train", *(name for name in source.drawn if held_out.share(name))]
    empty = [name for name in wanted if not len(splits[name])]
    if not empty:
        return
    one = splits[empty[0]]
    if isinstance(one, LabelledPairs):
        context, forward = one.longest
        raise DataError(
            f"{source.what}: no example of {', '.join(empty)} fits into data.context_length {one.shape.context} and "
            f"data.forward_length {one.shape.forward}, and none is cut; the longest has {context} and {forward} tokens"
        )
    longest = int(np.diff(one.tokens.offsets).max(initial=0))
    advice = "" if data.packing == "stream" else ", or set data.packing to stream"
    raise DataError(
        f"{source.what}: the documents of {', '.join(empty)} are too short for any example: the longest has {longest} "
        f"tokens, the shortest example {one.shape.shortest}; lower data.context_length and data.forward_length{advice}"
    )
