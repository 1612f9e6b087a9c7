"""One door to every form in which collections come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.readers.beir import EXPECTED as BEIR
from quincunx.recipes.retrieval.data.readers.beir import is_beir, read_beir
from quincunx.recipes.retrieval.data.readers.files import BadRows, bare_suffix, choose_split, listed, split_of
from quincunx.recipes.retrieval.data.readers.ir_datasets import PREFIX, read_ir_datasets
from quincunx.recipes.retrieval.data.readers.pairs import SUFFIXES, read_pairs
from quincunx.recipes.retrieval.data.readers.saved import column_names, is_saved, read_saved
from quincunx.recipes.retrieval.data.readers.tokenized import is_tokenized, read_tokenized
from quincunx.recipes.retrieval.data.readers.triplets import read_triplets
from quincunx.recipes.retrieval.data.readers.tsv import FOLDER, files_of, is_tsv, read_tsv

FORMATS = ("auto", "beir", "tsv", "pairs", "triplets", "saved", "tokenized", "ir_datasets")

_SPACE = " "

EXPECTED = (
    f"one of: a BEIR folder ({BEIR}); a folder with {FOLDER}; a file of pairs or triplets with texts in it ending in "
    f"{', '.join(SUFFIXES)}, or a folder with one a split (train.jsonl, test.jsonl); a folder that save_to_disk of "
    f"Hugging Face's datasets package wrote; {PREFIX}NAME"
)


@dataclass(frozen=True)
class _Asked:
    """The arguments of `load_collection`, those that say what is to be read."""

    path: Path | None
    split: str | None
    corpus: Path | None
    queries: Path | None
    qrels: Path | None
    title_separator: str
    bad: BadRows

    @property
    def place(self) -> Path:
        if self.path is None:
            raise UsageError("this format needs a path, not only corpus, queries and qrels")
        return self.path


def load_collection(
    path: str | Path | None,
    *,
    format: str = "auto",
    split: str | None = None,
    corpus: str | Path | None = None,
    queries: str | Path | None = None,
    qrels: str | Path | None = None,
    title_separator: str = _SPACE,
    limit: int | None = None,
    skip_bad_rows: bool = False,
    bad_row_limit: int = 20,
) -> Collection:
    """Return the collection that files, a folder or a name hold.

    Args:
        path: File or folder, or `ir_datasets:NAME`; None where corpus, queries and qrels are files of their own.
        format: A word of `FORMATS`; `auto` tells it by what is there.
        split: Which of several. A single file, which has no others, is training's unless its name ends in another
            split's word; asked for another, this is an error: training data must not pass for test data. None takes a
            file as it is.
        corpus: Documents that ids name, `id<TAB>text` lines or BEIR's JSON lines; with `queries` and `qrels` in place
            of a path (guide 001), or with `queries` beside a file of triplets of ids.
        queries: Queries likewise.
        qrels: Judgements.
        title_separator: Between a document's title and its text.
        limit: Only the first so many queries; every document stays.
        skip_bad_rows: Leave bad rows out and list them in `Collection.skipped`, instead of raising an error.
        bad_row_limit: So many of them are shown in the error.

    Raises:
        DataError: Nothing at the path, a form that is none of those known; files empty, damaged, or with bad rows,
            which are listed together.
        NoSuchSplit: A DataError as well: the data is there, but not this split of it.
        UsageError: Arguments that contradict each other.
        MissingExtra: The form needs a package that is not installed.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no format {format!r} of collections; there are: {', '.join(FORMATS)}")
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} queries leaves none; expected 1 or more, or None for all")
    bad = BadRows(bad_row_limit, skip_bad_rows)
    parts = [None if part is None else Path(part).expanduser() for part in (corpus, queries, qrels)]
    if format == "auto" and str(path).startswith(PREFIX):
        format = "ir_datasets"
    # a name of theirs may begin with a tilde as little as it may end in a suffix: only paths are expanded
    place = None if path is None else Path(path) if format == "ir_datasets" else Path(path).expanduser()
    asked = _Asked(place, split, *parts, title_separator=title_separator, bad=bad)
    collection = _READERS[_form(asked) if format == "auto" else format](asked)
    return collection if limit is None else collection.take(limit)


def _form(asked: _Asked) -> str:
    """Return the format that the arguments and what they name have."""
    path = asked.path
    if path is None:
        return "tsv"
    if not path.exists():
        raise DataError(f"{path} does not exist; expected {EXPECTED}")
    if not path.is_dir():
        if bare_suffix(path) not in SUFFIXES:
            raise DataError(f"{path} ends in none of {', '.join(SUFFIXES)}; expected {EXPECTED}")
        return "pairs" if asked.corpus is None else "triplets"
    forms = [form for form, there in (("beir", is_beir), ("tsv", is_tsv), ("saved", is_saved)) if there(path)]
    if len(forms) > 1:
        raise DataError(f"{path} holds the forms {' and '.join(forms)}; say by format which is meant")
    if forms == ["saved"]:
        return "tokenized" if is_tokenized(column_names(path, asked.split)) else "saved"
    return forms[0] if forms else "pairs"


def _file(path: Path, split: str | None) -> Path:
    """Return the file of a split: the one named, or of a folder the one whose name ends in the split's word."""
    if not path.is_dir():
        word = split_of(path.name.removesuffix(".gz").rpartition(".")[0]) or "train"
        if split is not None:
            choose_split([word], split, path)
        return path
    files = [file for file in sorted(path.iterdir()) if file.is_file() and bare_suffix(file) in SUFFIXES]
    by_split: dict[str, Path] = {}
    for file in files:
        word = split_of(file.name.removesuffix(".gz").rpartition(".")[0])
        if word in by_split:
            raise DataError(
                f"{path} holds {by_split[word].name} and {file.name}, both of which are named for the split {word}; "
                "keep one of them there, or name the file"
            )
        if word is not None:
            by_split[word] = file
    if not by_split:
        raise DataError(f"{path} holds {listed(path)}; expected {EXPECTED}")
    return by_split[choose_split(sorted(by_split), split, path)]


def _alone(asked: _Asked, format: str, *, titles: bool = False) -> Path:
    """Return the path, if nothing is given beside it that the format would not look at."""
    given = [name for name in ("corpus", "queries", "qrels") if getattr(asked, name) is not None]
    if not titles and asked.title_separator != _SPACE:
        given.append("title_separator")
    if given:
        raise UsageError(f"the format {format} of {asked.place} takes no {' and no '.join(given)}")
    return asked.place


def _read_beir(asked: _Asked) -> Collection:
    path = _alone(asked, "beir", titles=True)
    return read_beir(path, asked.split, title_separator=asked.title_separator, bad=asked.bad)


def _read_tsv(asked: _Asked) -> Collection:
    if asked.path is not None:
        path = _alone(asked, "tsv", titles=True)
        files, name = files_of(path, asked.split), path.resolve().name
    else:
        parts = {"corpus": asked.corpus, "queries": asked.queries, "qrels": asked.qrels}
        missing = [name for name, part in parts.items() if part is None]
        if missing:
            raise UsageError(f"without a path, corpus, queries and qrels are needed; {', '.join(missing)} missing")
        files, name = tuple(part for part in parts.values() if part is not None), None
    return read_tsv(*files, title_separator=asked.title_separator, name=name, bad=asked.bad)


def _read_pairs(asked: _Asked) -> Collection:
    return read_pairs(_file(_alone(asked, "pairs"), asked.split), bad=asked.bad)


def _read_triplets(asked: _Asked) -> Collection:
    if asked.qrels is not None or (asked.corpus is None) != (asked.queries is None):
        raise UsageError("triplets of ids need corpus and queries, both, and no qrels; triplets of texts none of them")
    if asked.corpus is None:
        _alone(asked, "triplets")
    return read_triplets(
        _file(asked.place, asked.split),
        corpus=asked.corpus,
        queries=asked.queries,
        title_separator=asked.title_separator,
        bad=asked.bad,
    )


def _read_saved(asked: _Asked) -> Collection:
    return read_saved(_alone(asked, "saved"), asked.split, bad=asked.bad)


def _read_tokenized(asked: _Asked) -> Collection:
    return read_tokenized(_alone(asked, "tokenized"), asked.split, bad=asked.bad)


def _read_ir_datasets(asked: _Asked) -> Collection:
    return read_ir_datasets(str(_alone(asked, "ir_datasets")), asked.split, bad=asked.bad)


_READERS: Mapping[str, Callable[[_Asked], Collection]] = {
    "beir": _read_beir,
    "tsv": _read_tsv,
    "pairs": _read_pairs,
    "triplets": _read_triplets,
    "saved": _read_saved,
    "tokenized": _read_tokenized,
    "ir_datasets": _read_ir_datasets,
}
