"""Data sets that the `ir_datasets` package knows by name, where their files are on this machine already.

Nothing is downloaded here: what is fetched, and under whose terms, is the user's decision. The package keeps stores of
its own under IR_DATASETS_HOME, which it reads by its own means.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from quincunx.errors import DataError, MissingExtra
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.readers.files import BadRows, NoSuchSplit, array_fingerprint, split_words
from quincunx.recipes.retrieval.data.readers.rows import Judgements, TextRows, judged_collection
from quincunx.recipes.retrieval.data.texts import Texts

PREFIX = "ir_datasets:"
"""Marks a name of theirs where a path is expected."""

_PARTS = ("docs", "queries", "qrels")
_OFFLINE = threading.Lock()


class _WouldDownload(Exception):
    """The package was about to fetch something."""


def read_ir_datasets(name: str, split: str | None = None, *, bad: BadRows | None = None) -> Collection:
    """Return the collection of a name, a document's and a query's text being what the package calls its default text.

    Args:
        name: Theirs, such as `beir/scifact`; `ir_datasets:` before it is taken off.
        split: Added to the name (`beir/scifact/test`) where the name alone has no judgements.
        bad: Takes the bad rows, numbered from 1 in the order in which the package gives them; None: any is an error.

    Raises:
        DataError: An unknown name; documents, queries or judgements missing; files that are not on this machine.
        MissingExtra: The `ir_datasets` package is not installed.
    """
    bad = BadRows() if bad is None else bad
    name = name.removeprefix(PREFIX)
    try:
        import ir_datasets
    except ImportError:
        raise MissingExtra("ir-datasets", "retrieval", f"reading {PREFIX}{name}") from None
    except OSError as error:
        raise DataError(f"ir_datasets cannot use its folder ({error}); set IR_DATASETS_HOME to another") from None
    dataset, name = _find(ir_datasets, name, split)
    where = f"{PREFIX}{name}"
    asked: list[str] = []
    with _offline(asked):
        try:
            documents = _texts(dataset.docs_iter(), f"{where} docs", bad)
            queries = _texts(dataset.queries_iter(), f"{where} queries", bad)
            judgements = Judgements(f"{where} qrels", bad)
            for line, judgement in enumerate(dataset.qrels_iter(), start=1):
                judgements.add(line, judgement.query_id, judgement.doc_id, judgement.relevance)
        except Exception as error:  # theirs may be anything: of a parser, of a store, of an archive
            if asked:
                raise DataError(
                    f"{where}: {asked[0]} is not on this machine, and quincunx downloads nothing. Where there is a "
                    f"network fetch it with: ir_datasets export {name} docs > /dev/null; ir_datasets export {name} "
                    f"queries > /dev/null; ir_datasets export {name} qrels > /dev/null"
                ) from None
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    relevant = judgements.relations(documents.ids, queries.ids)
    expected = "documents and queries with ids of their own, and judgements that name them"
    bad.settle(where, expected)
    if not len(relevant):
        raise bad.nothing(where, expected)
    # their files may be anywhere: what was read is hashed, where the other readers hash files
    arrays = (documents.ids.hashes, documents.hashes, queries.ids.hashes, queries.hashes, relevant.pairs)
    key = array_fingerprint(*arrays, relevant.grades)
    return judged_collection(name, documents, queries, relevant, key, judgements.notes, bad)


def _find(package: Any, name: str, split: str | None) -> tuple[Any, str]:
    """Return the first of the names that has all parts: the name itself, the name with the split."""
    words = split_words(split) if split is not None else ()
    known: dict[str, list[str]] = {}
    for candidate in (name, *(f"{name}/{word}" for word in words)):
        try:
            dataset = package.load(candidate)
        except KeyError:
            continue
        missing = [part for part in _PARTS if not dataset.has(part)]
        if not missing and (candidate != name or split is None or name.rpartition("/")[2] in words):
            return dataset, candidate
        known[candidate] = missing
    if not known:
        raise DataError(f"ir_datasets knows no {name}; its names are listed at https://ir-datasets.com")
    (candidate, missing), *_ = sorted(known.items(), key=lambda item: len(item[1]))
    if missing:
        kind = DataError if split is None else NoSuchSplit
        raise kind(
            f"{PREFIX}{candidate} has no {' and no '.join(missing)}; expected a name with documents, queries and "
            "judgements: most have them under a split, such as beir/scifact/test"
        )
    raise NoSuchSplit(f"{PREFIX}{name} names judgements that are not of the split {split}; leave the split's name out")


def _texts(rows: Any, where: str, bad: BadRows) -> Texts:
    texts = TextRows(where, bad)
    for line, row in enumerate(rows, start=1):
        texts.add(line, row[0], row.default_text())
    return texts.texts()


@contextmanager
def _offline(asked: list[str]) -> Iterator[None]:
    """Let the package fetch nothing, and note what it wanted to; it has no such switch of its own."""
    from ir_datasets.util import download

    kinds: list[Any] = [download.RequestsDownload, download.GoogleDriveDownload, download.GoogleCloudBucketStream]

    def refuse(source: Any) -> NoReturn:
        asked.append(str(getattr(source, "url", None) or getattr(source, "uri", source)))
        raise _WouldDownload(asked[-1])

    with _OFFLINE:
        before = [kind.stream for kind in kinds]
        for kind in kinds:
            kind.stream = refuse
        try:
            yield
        finally:
            for kind, stream in zip(kinds, before, strict=True):
                kind.stream = stream
