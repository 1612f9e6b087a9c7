"""Guide 001's files: a collection and queries of `id<TAB>text` lines without header, and qrels of four columns.

Nothing is a quote, a missing value or a number here: what stands after the first tab is the text. Each file may also
be JSON lines as BEIR's are, told by its suffix.
"""

from __future__ import annotations

from pathlib import Path

from quincunx.errors import DataError
from quincunx.recipes.retrieval.data.collection import Collection
from quincunx.recipes.retrieval.data.readers.beir import read_json_texts
from quincunx.recipes.retrieval.data.readers.files import (
    BadRows,
    bare_suffix,
    choose_split,
    either,
    fingerprint,
    listed,
    split_words,
    text_lines,
)
from quincunx.recipes.retrieval.data.readers.qrels import EXPECTED as JUDGEMENTS
from quincunx.recipes.retrieval.data.readers.qrels import read_qrels
from quincunx.recipes.retrieval.data.readers.rows import TextRows, judged_collection
from quincunx.recipes.retrieval.data.texts import Texts

EXPECTED = "lines of id, tab, text, without a header; the text is all that stands after the first tab"
FOLDER = (
    "collection.tsv and queries.tsv (or queries.<split>.tsv) with id, tab, text a line, and qrels.tsv (or "
    "qrels.<split>.tsv) with query id, 0, document id, grade"
)


def is_tsv(folder: Path) -> bool:
    """Tell whether a folder holds a collection as TSV."""
    return either(folder, "collection.tsv", "corpus.tsv") is not None


def files_of(folder: Path, split: str | None) -> tuple[Path, Path, Path]:
    """Return a folder's collection, queries and qrels.

    Files that name no split: `qrels.tsv` is taken for training's, `queries.tsv` serves every split, since the qrels say
    which queries are asked.

    Raises:
        DataError: One is missing, or none is of the split.
    """
    corpus = either(folder, "collection.tsv", "corpus.tsv")
    if corpus is None:
        raise DataError(f"{folder} has no collection.tsv (it holds {listed(folder)}); expected {FOLDER}")
    judged, asked = _by_split(folder, "qrels"), _by_split(folder, "queries")
    if not judged or not asked:
        missing = "queries.tsv" if judged else "qrels.tsv"
        raise DataError(f"{folder} has no {missing} (it holds {listed(folder)}); expected {FOLDER}")
    if "" in judged:
        judged.setdefault("train", judged.pop(""))
    chosen = choose_split(sorted(judged), split, folder)
    queries = next((asked[word] for word in (*split_words(chosen), "") if word in asked), None)
    if queries is None:
        raise DataError(f"{folder} has {judged[chosen].name}, but no queries.{chosen}.tsv and no queries.tsv")
    return corpus, queries, judged[chosen]


def read_tsv(
    corpus: Path,
    queries: Path,
    qrels: Path,
    *,
    title_separator: str = " ",
    name: str | None = None,
    bad: BadRows | None = None,
) -> Collection:
    """Return the collection of three files.

    Args:
        corpus: `document id<TAB>text` lines, or JSON lines with `_id`, `title`, `text`.
        queries: `query id<TAB>text` lines, or JSON lines with `_id`, `text`.
        qrels: Query id, 0, document id, grade; or three columns with a header as BEIR's.
        title_separator: What stands between title and text, where JSON lines have both.
        name: What the collection is called; the folder's name where None.
        bad: Takes the bad rows; None: any is an error.

    Raises:
        DataError: A file missing or empty; bad rows unless they are skipped.
    """
    bad = BadRows() if bad is None else bad
    documents, asked = read_texts(corpus, bad, title_separator), read_texts(queries, bad, title_separator)
    judgements = read_qrels(qrels, bad)
    relevant = judgements.relations(documents.ids, asked.ids)
    bad.settle(qrels, f"in {corpus.name} and {queries.name} {EXPECTED}; in {qrels.name} {JUDGEMENTS}")
    if not len(relevant):
        raise bad.nothing(qrels, JUDGEMENTS)
    key = fingerprint((corpus, queries, qrels), "texts", title_separator, bad.count)
    name = name or qrels.resolve().parent.name
    return judged_collection(name, documents, asked, relevant, key, judgements.notes, bad)


def read_texts(path: Path, bad: BadRows, title_separator: str = " ") -> Texts:
    """Return the texts of a file, TSV or JSON lines by its suffix; DataError where it holds none."""
    if bare_suffix(path) in (".jsonl", ".ndjson", ".json"):
        return read_json_texts(path, bad, title_separator)
    rows = TextRows(path, bad)
    for number, line in text_lines(path, bad):
        identifier, tab, text = line.partition("\t")
        if tab:
            rows.add(number, identifier, text)
        else:
            bad.add(path, number, "no tab; expected id, tab, text")
    texts = rows.texts()
    if not len(texts):
        raise bad.nothing(path, EXPECTED)
    return texts


def _by_split(folder: Path, what: str) -> dict[str, Path]:
    """Return the files `queries.<split>.tsv` by split; `queries.tsv` under the empty word."""
    paths = sorted((*folder.glob(f"{what}*.tsv.gz"), *folder.glob(f"{what}*.tsv")))
    names = {path: path.name.removesuffix(".gz").removesuffix(".tsv").removeprefix(what) for path in paths}
    return {name[1:]: path for path, name in names.items() if name[:1] in ("", ".", "_", "-")}
