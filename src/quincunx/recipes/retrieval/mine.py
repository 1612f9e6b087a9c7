"""Mining of hard negatives: documents that look relevant to a training query and are not known to be.

```python
from quincunx.index.mined import Rules
from quincunx.recipes.retrieval.mine import mine

mine("scifact", "mined", run="runs/scifact-1", rules=Rules(ranks=(1, 100), relative_margin=0.05, agree=2))
```

Q queries of a window, C candidates, P positives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quincunx.errors import DataError, UsageError
from quincunx.index.building import build
from quincunx.index.exact import NOTHING
from quincunx.index.folder import new_folder
from quincunx.index.mined import FREE, Candidates, Rules, above, causes, choose, copies, suspected
from quincunx.index.stored_texts import StoredTexts
from quincunx.recipes.retrieval.data.collection import Collection, Relations
from quincunx.recipes.retrieval.data.known import Known
from quincunx.recipes.retrieval.data.load import load_collection
from quincunx.recipes.retrieval.data.readers.ir_datasets import PREFIX
from quincunx.recipes.retrieval.data.texts import TokenTexts
from quincunx.recipes.retrieval.encode_corpus import encode_corpus
from quincunx.recipes.retrieval.evaluate.remembered import weights_hash
from quincunx.recipes.retrieval.mine_kept import PAGE, REPORT, TRAIN, Kept, Window
from quincunx.recipes.retrieval.mine_pool import Rows, pool_of_collection, pool_of_index
from quincunx.recipes.retrieval.mine_rankings import Rankings, Scores
from quincunx.recipes.retrieval.reranker import Reranker
from quincunx.recipes.retrieval.search import Searcher, Way
from quincunx.runs import to_json, write_atomically

AT_ONCE = 256
"""Queries of a window. It is no option, so that a mining gives the same bits whoever repeats it."""
FORMAT = 1
"""Of the report."""

Progress = Callable[[int, int], None]
Page = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Mined:
    """What a mining left."""

    folder: Path
    report: Mapping[str, Any]
    """As `report.json` has it."""

    @property
    def train(self) -> Path:
        """The file to train on: `data.train.path`."""
        return self.folder / TRAIN


@dataclass(frozen=True)
class Models:
    """Which models take part, and how they compute; as `Encoder.load` and `Reranker.load` take it."""

    run: str | os.PathLike[str] | None = None
    rerank: str | os.PathLike[str] | None = None
    checkpoint: str = "best"
    precision: str = "auto"
    device: str = "auto"
    backend: str = "torch"


def mine(
    data: str | os.PathLike[str] | Collection,
    out: str | os.PathLike[str],
    *,
    rules: Rules | None = None,
    way: Way | None = None,
    run: str | os.PathLike[str] | None = None,
    index: str | os.PathLike[str] | None = None,
    stores: Sequence[str | Path] | None = None,
    rerank: str | os.PathLike[str] | None = None,
    split: str | None = None,
    format: str = "auto",
    limit: int | None = None,
    skip_bad_rows: bool = False,
    min_grade: int = 1,
    drop_short: bool = False,
    checkpoint: str = "best",
    precision: str = "auto",
    device: str = "auto",
    backend: str = "torch",
    on_progress: Progress | None = None,
    page: Page | None = None,
) -> Mined:
    """Mine hard negatives for the queries of a collection, and write them as a file to train on.

    Args:
        data: The collection, or where it is, in any form with texts that `data.train` takes.
        out: A folder that is not there yet, or is empty: it appears whole or not at all.
        rules: Which candidates are looked at, and which become negatives; None: `Rules()`.
        way: How candidates are ranked; None: by vectors with a `run`, else by BM25.
        run: A bi- or poly-encoder run. Margins look at its scores where there is no `rerank`.
        index: An index whose documents are the candidates, made by that run; None: the collection's documents are,
            which are encoded into a temporary folder.
        stores: Where the index's texts are, unless at the places that it noted.
        rerank: A cross-encoder run: it scores the candidates, and margins and hardness are by its scores.
        split: Of `data`; None: train.
        format: Of `data`, as `load_collection` takes it.
        limit: Only the first so many queries.
        skip_bad_rows: Leave bad rows of `data` out.
        min_grade: The grade from which a judged document is a positive. Those below it and above 0 are neither
            positives nor negatives.
        drop_short: Leave queries out that got fewer negatives than asked for; without, they come with those they have.
        checkpoint: Of `run`, as in `Encoder.load`.
        precision: Of both models, likewise.
        device: Of both models, likewise.
        backend: Of `run`, likewise.
        on_progress: Called with (queries done, all).
        page: Makes the text of `report.html` from the report; None: there is none.

    Raises:
        UsageError: Arguments that contradict each other or would have no effect, an index of other weights or another
            corpus, something else in `out`.
        DataError: A collection that cannot be read, has no relevant documents, or no texts.
        RunError: A run, an index or a store is damaged, or the folder cannot be written.
        MissingExtra: BM25 takes part, and bm25s is not installed.
    """
    rules = rules or Rules()
    way = way or Way("bm25" if run is None else "dense")
    models = Models(run, rerank, checkpoint, precision, device, backend)
    _check(rules, way, models, index is not None, stores, min_grade)
    with new_folder(Path(out).expanduser()) as folder:
        collection, name = _read(data, split, format, limit, skip_bad_rows)
        job = _Job(collection, rules, min_grade, name)
        with _rankings(job, way, models, index, stores) as rankings:
            report = job.mine(rankings, folder, drop_short, on_progress)
            report["settings"]["index"] = None if index is None else os.fspath(index)
            report["models"] = _described(rankings, models)
        if page is not None:
            write_atomically(folder / PAGE, page(report).encode("utf-8", "backslashreplace"))
        write_atomically(folder / REPORT, to_json(report, indent=1) + b"\n")
    return Mined(Path(out).expanduser(), report)


def _check(
    rules: Rules, way: Way, models: Models, index: bool, stores: Sequence[str | Path] | None, min_grade: int
) -> None:
    """Refuse what contradicts itself before anything is read."""
    if min_grade < 1:
        raise UsageError(f"min_grade is {min_grade}; expected 1 or more: documents of grade 0 are judged not relevant")
    if way.by != "bm25" and models.run is None:
        raise UsageError(f"candidates by {way.by} need a bi- or poly-encoder run: name it by --run, or take --by bm25")
    if rules.scored and models.run is None and models.rerank is None:
        raise UsageError(
            f"{', '.join(rules.scored)} compare scores of a model: BM25's are sums over a query's words, which have no "
            "scale in common. Name a run by --run or --rerank, or leave the best ranks out by --ranks"
        )
    names = [*(["dense"] if models.run else []), "bm25", *(["reranker"] if models.rerank else [])]
    if rules.agree is not None and rules.agree > len(names):
        raise UsageError(
            f"{rules.agree} rankings cannot agree: there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
        )
    if not index and (way.exact or way.options or stores is not None):
        given = [*way.options, *(["exact"] if way.exact else []), *(["stores"] if stores is not None else [])]
        raise UsageError(f"{', '.join(given)}: of an index, and none is given")
    if way.by == "bm25" and (way.exact or way.options):
        raise UsageError("BM25 compares with every document: leave exact and the options of the index's kind out")


def _read(
    data: str | os.PathLike[str] | Collection, split: str | None, format: str, limit: int | None, skip_bad_rows: bool
) -> tuple[Collection, str]:
    """Return the collection and where it is from."""
    if isinstance(data, Collection):
        if split is not None or format != "auto" or limit is not None or skip_bad_rows:
            raise UsageError("split, format, limit and skip_bad_rows say how data is read, and it is read already")
        collection, place = data, data.name
    else:
        place = os.fspath(data)
        named = place.startswith(PREFIX) or format == "ir_datasets"  # such a name says its split itself
        split = split or (None if named else "train")
        collection = load_collection(place, format=format, split=split, limit=limit, skip_bad_rows=skip_bad_rows)
    if isinstance(collection.queries, TokenTexts) or isinstance(collection.documents, TokenTexts):
        raise DataError(
            f"{collection.name} holds token ids and no texts: negatives are written as texts. Mine in the data that it "
            "was tokenized from"
        )
    return collection, place


@contextmanager
def _rankings(
    job: _Job, way: Way, models: Models, index: str | os.PathLike[str] | None, stores: Sequence[str | Path] | None
) -> Iterator[Rankings]:
    """Yield what ranks: models loaded, and the documents encoded where there is no index of them."""
    how: dict[str, Any] = {"precision": models.precision, "device": models.device}
    reranker = None if models.rerank is None else Reranker.load(models.rerank, **how)
    chosen = {**how, "checkpoint": models.checkpoint, "backend": models.backend}
    if index is not None:
        searcher = Searcher.open(index, models.run, stores=stores, **chosen)
        texts = StoredTexts(searcher.index, stores)
        pool = pool_of_index(searcher.index, texts, lambda: searcher.lexical, job.collection, job.relevant)
        job.note_kind(searcher, way)
        yield Rankings(pool, way, searcher, reranker)
    elif models.run is None:
        yield Rankings(pool_of_collection(job.collection), way, None, reranker)
    else:
        with TemporaryDirectory(prefix="quincunx-mine-") as place:
            folder, documents = Path(place), job.collection.documents
            with (folder / "corpus.jsonl").open("wb") as file:
                for number, name in enumerate(documents.ids):
                    file.write(to_json({"_id": name, "text": documents.text(number)}) + b"\n")
            encoded = encode_corpus(models.run, folder / "corpus.jsonl", folder / "store", texts=False, **chosen)
            build(encoded.store, folder / "index", "exact")
            searcher = Searcher.open(folder / "index", models.run, **chosen)
            yield Rankings(pool_of_collection(job.collection), way, searcher, reranker)


def _described(rankings: Rankings, models: Models) -> dict[str, Any]:
    """Return which models took part, with hashes of their weights."""
    found: dict[str, Any] = {}
    encoder = None if rankings.searcher is None else rankings.searcher.encoder
    if encoder is not None and models.run is not None:
        found["dense"] = {"run": os.fspath(models.run), "checkpoint": models.checkpoint, **encoder.made("document")}
    if rankings.reranker is not None and models.rerank is not None:
        weights = weights_hash(rankings.reranker.model).hex()
        found["reranker"] = {"run": os.fspath(models.rerank), "checkpoint": "best", "weights": weights}
    return found


class _Job:
    """The queries of one mining."""

    def __init__(self, collection: Collection, rules: Rules, min_grade: int, place: str) -> None:
        """Find the queries that have something relevant to them; DataError where there is none."""
        self.collection, self.rules, self.place, self.min_grade = collection, rules, place, min_grade
        known = collection.positives
        self.known = Known(collection.queries.hashes[known.queries], collection.documents.hashes[known.documents])
        written = {
            document: bool((collection.documents.text(document) or "").strip())
            for document in np.unique(known.documents).tolist()
        }
        told = np.fromiter((written[document] for document in known.documents.tolist()), np.bool_, len(known))
        self.positives: Relations = known.where((known.grades >= min_grade) & told)
        asked = np.flatnonzero(self.positives.counts > 0)
        texts = (collection.queries.text(int(query)) or "" for query in asked)
        self.queries = asked[np.fromiter((bool(text.strip()) for text in texts), np.bool_, len(asked))]
        if not len(self.queries):
            raise DataError(
                f"{collection.name} has nothing to mine for: none of its {len(collection.queries):,} queries has a "
                f"relevant document of grade {min_grade} or above with a text; expected at least one such pair"
            )
        self.notes: list[str] = [*collection.notes]
        if empty := int((~told).sum()):
            self.notes.append(f"{empty:,} relevant documents have no text: they are no positives here.")
        if len(collection.negatives):
            self.notes.append(
                f"The {len(collection.negatives):,} explicit negatives that {collection.name} has itself are not in "
                f"{TRAIN}."
            )
        if (self.positives.grades > 1).any():
            self.notes.append(f"Grades are not in {TRAIN}: all its positives are alike.")

    @property
    def relevant(self) -> Rows:
        """The documents that are a positive of a query, by their place in the collection, ascending."""
        return np.unique(self.positives.pick(self.queries).documents)

    def note_kind(self, searcher: Searcher, way: Way) -> None:
        """Note where an index may miss documents."""
        if way.by != "bm25" and not (searcher.index.exact or way.exact):
            self.notes.append(
                f"{searcher.index.folder} is an index of kind {searcher.index.kind}, which may miss documents; --exact "
                "compares with every one."
            )

    def mine(self, rankings: Rankings, folder: Path, drop_short: bool, on_progress: Progress | None) -> dict[str, Any]:
        """Go through the queries, write the files, and return the report."""
        rules, pool = self.rules, rankings.pool
        if rules.ranks[0] > len(pool):
            raise UsageError(
                f"the candidates begin at rank {rules.ranks[0]}, and there are {len(pool):,} documents: begin earlier"
            )
        agreed = rules.agree is not None
        kept = Kept(folder, pool, rules.num, rankings.judge, agreed=agreed, drop_short=drop_short)
        with kept:
            for start in range(0, len(self.queries), AT_ONCE):
                numbers = self.queries[start : start + AT_ONCE]
                kept.add(self._window(numbers, rankings))
                if on_progress is not None:
                    on_progress(start + len(numbers), len(self.queries))
        if not kept.tally.negatives:
            self.notes.append("No query got a negative: the report says what dropped the candidates.")
        report = kept.tally.to_json(rules.ranks[1])
        report["queries"]["left_out"] = len(self.collection.queries) - len(self.queries)
        report["suspects"]["first"] = kept.listed
        return {
            "format": FORMAT,
            "quincunx": version("quincunx"),
            "data": {
                "place": self.place,
                "name": self.collection.name,
                "fingerprint": self.collection.fingerprint,
                "queries": len(self.collection.queries),
                "documents": len(pool),
                "skipped_rows": len(self.collection.skipped),
            },
            "settings": {
                **asdict(rules),
                "by": rankings.way.by,
                **({} if not rankings.way.fused else {"weights": rankings.way.weights or (1.0, 1.0)}),
                "min_grade": self.min_grade,
                "drop_short": drop_short,
            },
            "scores_of": rankings.judge,
            "rankings": rankings.names if agreed else [],
            **report,
            "notes": self.notes,
        }

    def _window(self, numbers: NDArray[np.int64], rankings: Rankings) -> Window:
        collection, rules, pool = self.collection, self.rules, rankings.pool
        first, last = rules.ranks
        texts = [collection.queries.text(int(number)) or "" for number in numbers]
        asked = rankings.ask(texts)
        found = asked.rank(last).documents
        documents = found[:, first - 1 :]
        own = [self.positives.of(int(number)) for number in numbers]
        positives = _padded([pool.places[places] for places in own])
        hashes, contents = collection.queries.hashes[numbers], pool.hashes_of(documents)
        known = self.known.contains(np.repeat(hashes, documents.shape[1]), contents.ravel()).reshape(documents.shape)
        for query, number in enumerate(numbers.tolist()):
            known[query] |= np.isin(documents[query], pool.same_id[collection.positives.of(number)])
        empty = pool.empty[np.maximum(documents, 0)]
        candidates = Candidates(documents, contents, known, empty)
        # what can be no negative costs no scoring
        open_ones = np.where(known | empty | copies(documents, contents), NOTHING, documents)
        names = rankings.names if rules.agree is not None else [rankings.judge] if rankings.judge else []
        scores: dict[str, tuple[Scores, Scores]] = {}
        for name in names:
            both = asked.scores(name, np.concatenate([open_ones, positives], axis=1))
            scores[name] = both[:, : documents.shape[1]], both[:, documents.shape[1] :]
        lowest = {name: np.where(positives == NOTHING, np.inf, near).min(1) for name, (_, near) in scores.items()}
        suspects, votes = np.zeros(documents.shape, np.bool_), None
        if rules.agree is not None:
            votes = np.sum([above(far, lowest[name]) for name, (far, _) in scores.items()], axis=0)
            suspects = suspected(votes, rules.agree)
        judged = (scores[rankings.judge][0], lowest[rankings.judge]) if rankings.judge else (None, None)
        why = causes(candidates, rules, *judged, votes)
        hardness = np.broadcast_to(-np.arange(documents.shape[1], dtype=np.float32), documents.shape)
        if rankings.reranker is not None:
            hardness = scores["reranker"][0]
        places = choose(why == FREE, hardness, hashes, contents, rules)
        ids = [collection.queries.ids[number] for number in numbers.tolist()]
        names_of = [[collection.documents.ids[place] for place in places_of.tolist()] for places_of in own]
        return Window(ids, texts, found, first, documents, positives, names_of, why, places, suspects, scores)


def _padded(rows: Sequence[Rows]) -> Rows:
    found = np.full((len(rows), max(map(len, rows))), NOTHING, np.int64)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found
