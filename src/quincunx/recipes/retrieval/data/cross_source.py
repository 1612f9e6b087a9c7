"""Queries with their candidates, for a model that reads a query and a document together.

An example is one query with a list of candidates: of one, for losses over single pairs; of a positive and a negative,
for losses over two; of many, for losses over lists. B examples, L candidates of the longest list, W tokens of the
longest example, P pairs, S tokens of the longest pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quincunx.data.batch import Batch
from quincunx.data.order import Indices
from quincunx.errors import DataError, UsageError
from quincunx.recipes.retrieval.data.collection import Collection, Relations
from quincunx.recipes.retrieval.data.known import joined_known
from quincunx.recipes.retrieval.data.numbered import NumberedTexts, padded
from quincunx.recipes.retrieval.data.ragged import Drawing, Ragged, joined, offsets_of, spans
from quincunx.recipes.retrieval.data.texts import Texts
from quincunx.seeds import address


class TokenizePairs(Protocol):
    """Pairs of texts to token ids; `PairTokenizer` is one."""

    max_length: int
    padding: int

    def __call__(
        self, queries: Sequence[str], documents: Sequence[str]
    ) -> tuple[Sequence[NDArray[np.int32]], Sequence[NDArray[np.int32]] | None]:
        """Return the token ids of each pair, and their type ids or None."""
        ...


class CrossSource:
    """Queries by number, those of the first collection first; `collate` draws their candidates and tokenizes."""

    def __init__(
        self,
        collections: Sequence[Collection],
        tokenize: TokenizePairs,
        *,
        positives: int | None = 1,
        negatives: int | None = 4,
        random_negatives: int = 0,
        drawing: Drawing = "random",
        min_grade: int | None = 1,
    ) -> None:
        """Find the queries to train on.

        Args:
            collections: With texts, not token ids.
            tokenize: Makes one sequence of a query and a document.
            positives: Positives drawn for each query, all of them where it has fewer; None: always all.
            negatives: Negatives, likewise: explicit ones, and documents that were judged not relevant.
            random_negatives: Further candidates drawn from all documents of the query's collection, those known to be
                relevant left out.
            drawing: As of `TrainingSource`.
            min_grade: The grade from which a judged document is a positive; between 0 and that it is no candidate.
                None: every judged document counts as one, its grade or score being the label.

        Raises:
            DataError: A collection without such a query.
            UsageError: A collection of which only token ids are known.
            ValueError: Numbers out of range.
        """
        if min(positives or 1, (negatives or 0) + 1, random_negatives + 1) < 1 or positives == 0:
            raise ValueError("positives are at least 1, negatives and random_negatives at least 0")
        for one in collections:
            if not (isinstance(one.queries, Texts) and isinstance(one.documents, Texts)):
                raise UsageError(
                    f"{one.name} was tokenized beforehand, text by text; a cross-encoder reads two texts as one "
                    "sequence and needs the texts themselves"
                )
        self.tokenize = tokenize
        self.positives, self.negatives, self.random_negatives = positives, negatives, random_negatives
        self.drawing: Drawing = drawing
        self.queries = NumberedTexts([one.queries for one in collections])
        self.documents = NumberedTexts([one.documents for one in collections])
        found = [_candidates(one, min_grade) for one in collections]
        self.counts: tuple[int, ...] = tuple(len(part.places) for part in found)
        """Queries of each collection."""
        starts = self.documents.starts[:-1].tolist()
        self._queries = np.concatenate(
            [part.places + start for part, start in zip(found, self.queries.starts[:-1], strict=True)]
        )
        self._positives = joined([part.positives for part in found], starts)
        self._negatives = joined([part.negatives for part in found], starts)
        self._grades = np.concatenate([part.grades for part in found])
        self.known = joined_known([part.known for part in found])

    @property
    def scored(self) -> bool:
        """Whether a teacher scored every candidate that may be drawn."""
        scores = [part.scores for part in (self._positives, self._negatives) if len(part.values)]
        whole = all(found is not None and not np.isnan(found).any() for found in scores)
        return whole and not self.random_negatives

    @property
    def lengths(self) -> Indices:
        """Bytes of each query and its longest positive together [A]: what examples of like length are found by."""
        sizes = [np.concatenate([texts.sizes for texts in side.sets]) for side in (self.queries, self.documents)]
        longest = np.maximum.reduceat(sizes[1][self._positives.values], self._positives.offsets[:-1])
        return sizes[0][self._queries] + longest

    def __len__(self) -> int:
        return len(self._queries)

    def __getitem__(self, index: int) -> int:
        """Return the query's number: its candidates are drawn with the rest of its batch."""
        return index

    def collate(self, examples: Sequence[int], ids: Sequence[int], rows: Sequence[int], seed: int) -> Batch:
        """Return a batch in which the pairs of an example stand one after another, in one row of tokens.

        Tensors: `tokens [B, W]` and `types [B, W]` (where the tokenizer has such), `lengths [B, L]` the tokens of each
        pair, `mask [B, L]` which candidates there are (positives first), `labels [B, L]` float32 the grade, 0 of
        negatives, and `scores [B, L]` float32 the teacher's where there is one, NaN of pairs without. Chunks are cut by
        the tokens of whole examples; `pairs_of` takes a chunk apart. What is drawn for a query depends on its number
        and the seed.
        """
        numbers = np.asarray(examples, np.int64)
        owners, documents, labels, scores = self._draw(numbers, seed)
        place = spans(np.zeros(len(numbers), np.int64), np.bincount(owners, minlength=len(numbers)))[1]
        shape = (len(numbers), int(place.max(initial=0)) + 1)
        queries = self._queries[numbers]
        tokens, types = self.tokenize(
            [self._text(self.queries, int(queries[owner])) for owner in owners],
            [self._text(self.documents, int(document)) for document in documents],
        )
        counts = np.fromiter(map(len, tokens), np.int64, len(tokens))
        whole = np.bincount(owners, counts, len(numbers)).astype(np.int64)
        tensors = {"tokens": torch.from_numpy(_packed(tokens, whole, self.tokenize.padding))}
        if types is not None:
            tensors["types"] = torch.from_numpy(_packed(types, whole, 0))
        columns: dict[str, NDArray[np.generic]] = {"lengths": counts, "mask": np.ones(len(owners), np.bool_)}
        columns["labels"] = labels
        if scores is not None:
            columns["scores"] = scores
        for name, column in columns.items():
            table = np.full(shape, np.nan if name == "scores" else 0, column.dtype)
            table[owners, place] = column
            tensors[name] = torch.from_numpy(table)
        return Batch(
            tensors,
            torch.tensor(list(rows), dtype=torch.int64),
            self.queries.names(queries),
            torch.from_numpy(whole).clamp(min=1),
            frozenset({"tokens", "types"} & tensors.keys()),
        )

    def _draw(
        self, numbers: Indices, seed: int
    ) -> tuple[Indices, Indices, NDArray[np.float32], NDArray[np.float32] | None]:
        """Return of each candidate, query by query: which query's it is, its document, label and score."""
        parts: list[tuple[Indices, Indices, NDArray[np.float32], NDArray[np.float32] | None]] = []
        for name, ragged, count in (
            ("positives", self._positives, self.positives),
            ("negatives", self._negatives, self.negatives),
        ):
            owners, places = ragged.draw(numbers, count, self.drawing, address(seed, name))
            labels = self._grades[places] if ragged is self._positives else np.zeros(len(places), np.float32)
            parts.append(
                (owners, ragged.values[places], labels, None if ragged.scores is None else ragged.scores[places])
            )
        if self.random_negatives:
            owners, documents = self._at_random(numbers, address(seed, "random negatives"))
            parts.append((owners, documents, np.zeros(len(owners), np.float32), None))
        owners = np.concatenate([part[0] for part in parts])
        documents = np.concatenate([part[1] for part in parts])
        labels = np.concatenate([part[2] for part in parts])
        scores = None
        if any(part[3] is not None for part in parts):
            scores = np.concatenate(
                [np.full(len(part[0]), np.nan, np.float32) if part[3] is None else part[3] for part in parts]
            )
        keep = self._sound(numbers, owners, documents, len(parts[0][0]))
        keep = keep[np.argsort(owners[keep], kind="stable")]
        return owners[keep], documents[keep], labels[keep], None if scores is None else scores[keep]

    def _sound(self, numbers: Indices, owners: Indices, documents: Indices, positives: int) -> Indices:
        """Return the places of the candidates without those that a query has twice and copies of what is relevant."""
        hashes = self.documents.hashes[documents]
        contents = np.unique(hashes, return_inverse=True)[1]
        first = np.sort(np.unique(owners * len(contents) + contents, return_index=True)[1])
        relevant = self.known.contains(self.queries.hashes[self._queries[numbers[owners[first]]]], hashes[first])
        return first[(first < positives) | ~relevant]

    def _at_random(self, numbers: Indices, seed: int) -> tuple[Indices, Indices]:
        """Return documents of each query's collection; one row of all documents a query, of which some are drawn."""
        starts = self.documents.starts
        sets = self.queries.set_of(self._queries[numbers])
        corpus = Ragged(starts, np.arange(len(self.documents)))
        # drawn row by row, since queries of one set share a corpus and not a draw
        drawn = [
            corpus.draw(np.array([k]), self.random_negatives, "random", address(seed, number))[1]
            for k, number in zip(sets.tolist(), numbers.tolist(), strict=True)
        ]
        return np.repeat(np.arange(len(numbers)), [len(part) for part in drawn]), np.concatenate(drawn)

    @staticmethod
    def _text(side: NumberedTexts, number: int) -> str:
        k = int(side.set_of(np.array(number)))
        text = side.sets[k].text(number - int(side.starts[k]))
        assert text is not None
        return text


@dataclass(frozen=True)
class Pairs:
    """The pairs of a chunk, one a row."""

    tokens: Tensor
    """`[P, S]` int64."""
    lengths: Tensor
    """`[P]` int64."""
    types: Tensor | None
    """`[P, S]` int64; None where the tokenizer has none."""
    mask: Tensor
    """`[B, L]` bool: the places of the pairs, row by row."""

    def table(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Return one number a pair `[P]` as a table `[B, L]`, `fill` where there is no candidate."""
        return torch.full(self.mask.shape, fill, dtype=values.dtype, device=values.device).masked_scatter(
            self.mask, values
        )


def pairs_of(chunk: Batch, padding: int) -> Pairs:
    """Return the pairs of a batch that `CrossSource` made, or of a chunk of it, filled up with `padding`."""
    lengths, mask, tokens = chunk["lengths"], chunk["mask"], chunk["tokens"]
    examples, _ = mask.nonzero(as_tuple=True)
    counts = lengths[mask]
    starts = (lengths.cumsum(1) - lengths)[mask]
    steps = torch.arange(max(int(counts.max()) if len(counts) else 0, 1), device=tokens.device)
    inside = steps < counts[:, None]
    index = (starts[:, None] + steps).clamp(max=tokens.shape[1] - 1)
    rows = tokens[examples[:, None], index].masked_fill(~inside, padding)
    types = chunk["types"][examples[:, None], index].masked_fill(~inside, 0) if "types" in chunk.tensors else None
    return Pairs(rows, counts, types, mask)


@dataclass(frozen=True)
class _Candidates:
    """What may be drawn from one collection; documents by their places in it."""

    places: Indices
    positives: Ragged
    negatives: Ragged
    grades: NDArray[np.float32]
    known: tuple[NDArray[np.uint64], NDArray[np.uint64]]


def _candidates(collection: Collection, min_grade: int | None) -> _Candidates:
    judged, explicit = collection.relevant, collection.negatives
    wanted = np.ones(len(judged), np.bool_) if min_grade is None else judged.grades >= min_grade
    positives = judged.where(wanted)
    places = np.flatnonzero(positives.counts > 0)
    if not len(places):
        raise DataError(
            f"{collection.name} has nothing to train on: none of its {len(collection.queries):,} queries has a "
            f"{'judged document' if min_grade is None else f'document of grade {min_grade} or above'}"
        )
    refused = judged.where(~wanted & (judged.grades <= 0))
    both = Relations.build(
        np.concatenate([explicit.pairs, refused.pairs]),
        len(collection.queries),
        scores=np.concatenate([_scores(explicit), _scores(refused)]),
    )
    if explicit.scores is None and refused.scores is None:
        both = Relations(both.offsets, both.documents, both.grades)
    _, kept = spans(positives.offsets[places], positives.counts[places])
    known = collection.relevant.positive
    return _Candidates(
        places,
        Ragged(positives.offsets, positives.documents, positives.scores).pick(places),
        Ragged(both.offsets, both.documents, both.scores).pick(places),
        np.maximum(positives.grades[kept], 0).astype(np.float32),
        (collection.queries.hashes[known.queries], collection.documents.hashes[known.documents]),
    )


def _scores(relations: Relations) -> NDArray[np.float32]:
    return np.full(len(relations), np.nan, np.float32) if relations.scores is None else relations.scores


def _packed(pieces: Sequence[NDArray[np.int32]], whole: Indices, padding: int) -> Indices:
    """Return the pieces of each example one after another, `[B, W]`; `whole [B]` are an example's tokens."""
    flat = np.concatenate([np.zeros(0, np.int32), *pieces])
    ends = offsets_of(whole).tolist()
    return padded([flat[start:end] for start, end in pairwise(ends)], whole, padding)
