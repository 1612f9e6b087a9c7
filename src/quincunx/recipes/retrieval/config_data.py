"""The config's sections on data: where collections are, and how batches are drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from quincunx.config.schema import Accepts, AnyCase, Section, When, unless, when

Format = Literal["auto", "beir", "tsv", "pairs", "triplets", "tokenized", "saved", "ir_datasets"]


class Collection(Section):
    """One collection: documents, queries, and what is relevant to what."""

    path: str | None = Field(default=None, min_length=1)
    """Folder or file of the collection, or its name in ir_datasets. Unset: the split of `data.path`, or the files
    named below."""
    format: Annotated[Format, AnyCase] = "auto"
    """`beir` (folder with corpus.jsonl, queries.jsonl, qrels/); `tsv` (files of `corpus`, `queries`, `qrels`); `pairs`
    and `triplets` (JSON lines, CSV or TSV; triplets of ids with `corpus` and `queries`); `tokenized` and `saved`
    (Hugging Face data set on disk, of token ids or of texts); `ir_datasets`; `auto` tells by what is there."""
    split: str | None = Field(default=None, min_length=1)
    """Which split of the folder (its qrels file, its part of a data set). Unset: `train`, `dev` or `test`, as the
    section is called."""
    corpus: str | None = Field(default=None, min_length=1)
    """File of documents: an id and a text in each line, a tab between them."""
    queries: str | None = Field(default=None, min_length=1)
    """File of queries, likewise."""
    qrels: str | None = Field(default=None, min_length=1)
    """File of judgements: query id, a field that is passed over, document id, grade."""
    limit: int | None = Field(default=None, ge=1)
    """Use at most so many queries, the first ones. Unset: all."""

    @property
    def given(self) -> bool:
        """Whether the section itself says where the collection is."""
        return any((self.path, self.corpus, self.queries, self.qrels))


class MixedCollection(Collection):
    """A further training set and how often it is drawn from."""

    weight: float = Field(default=1.0, gt=0)
    """How often each of its anchors comes in an epoch: 2 twice, 0.5 every other epoch."""


def _mixed(value: Any) -> Any:
    """Return further sets as plain mappings of what was given; ValueError names the item and what is wrong with it."""
    if not isinstance(value, list):
        return value
    faults: list[str] = []
    for number, item in enumerate(value, 1):
        given: Any = {"path": item} if isinstance(item, str) else item
        if not isinstance(given, Mapping):
            faults.append(f"item {number} is no section: give it path, and weight if it is not 1")
            continue
        try:
            if not MixedCollection.model_validate(given).given:
                faults.append(f"item {number} says nowhere where the set is: give it path")
        except ValidationError as error:
            for detail in error.errors():
                key = ".".join(map(str, detail["loc"]))
                faults.append(f"item {number}, {key}: {_said(detail['type'], detail['msg'])}")
    if faults:
        raise ValueError("; ".join(faults))
    return [{"path": item} if isinstance(item, str) else dict(item) for item in value]


def _said(kind: str, message: str) -> str:
    known = ", ".join(MixedCollection.model_fields)
    return f"unknown key; known: {known}" if kind == "extra_forbidden" else message[:1].lower() + message[1:]


MIXED = When("data.mix is given", lambda config: bool(config.data.mix), ("data.mix",))
EMBEDS = unless("mode", "cross-encoder")
ELSEWHERE = When(
    "not all of data.train, data.dev and data.test say where they are",
    lambda config: not all(getattr(config.data, split).given for split in ("train", "dev", "test")),
    ("data.train.path", "data.dev.path", "data.test.path"),
)
KEPT = When(
    "data.tokenization is eager and mode is not cross-encoder, or evaluate.corpus_cache is disk",
    lambda config: (
        (config.data.tokenization == "eager" and config.mode != "cross-encoder")
        or config.evaluate.corpus_cache == "disk"
    ),
    ("data.tokenization", "mode"),
)
CARVED = When("data.dev is not given", lambda config: not config.data.dev.given, ("data.dev.path",))


class Data(Section):
    """What is trained and measured on."""

    path: Annotated[str, ELSEWHERE] | None = Field(default=None, min_length=1)
    """Folder (or name) of a collection with splits: `train`, `dev` and `test` below are its splits where they give no
    place of their own."""
    train: Collection = Field(default_factory=Collection)
    """What is trained on."""
    dev: Collection = Field(default_factory=Collection)
    """What is measured during training. Unset: the split dev (or validation) of `data.path`, else `dev_share` of the
    training queries."""
    test: Collection = Field(default_factory=Collection)
    """What is measured at the end. Unset: the split test of `data.path`, if it has one."""
    mix: Annotated[
        list[dict[str, Any]],
        BeforeValidator(_mixed),
        Accepts("list of sets, each with path (and format, split, corpus, queries, qrels, limit) and weight"),
    ] = Field(default_factory=list[dict[str, Any]])
    """Further training sets: each takes what `data.train` takes, and `weight`, how often each of its anchors comes in
    an epoch (1: once)."""
    same_dataset: Annotated[bool, MIXED] = False
    """Fill each batch from one of the sets, so that no negative is told apart by where it is from."""
    anchor: Annotated[Literal["query", "document"], AnyCase, EMBEDS] = "query"
    """What a batch is made of: `query`, each with `positives` of its documents, or `document`, each with `positives` of
    its queries."""
    positives: int | None = Field(default=1, ge=1)
    """Positives drawn for each anchor; null: all that it has. Anchors that have fewer come with what they have."""
    negatives: int | None = Field(default=None, ge=0)
    """Explicit hard negatives drawn for each query; 0: none. Unset: one, where the data holds any."""
    draw: Annotated[Literal["random", "first", "window"], AnyCase] = "random"
    """Which of an anchor's positives and negatives, where there are more: `random` ones, anew in every epoch, the
    `first` ones, or a `window` of neighbours."""
    min_grade: int = Field(default=1, ge=1)
    """A judged document is relevant from this grade on; grades below are neither positives nor, where they are above 0,
    negatives."""
    no_duplicates: Annotated[bool, EMBEDS] = False
    """Keep texts that occur twice out of one batch. Not needed for correct negatives (equal texts are masked), but
    every one then counts."""
    tokenization: Annotated[Literal["eager", "lazy"], AnyCase, EMBEDS] = "eager"
    """`eager`: all texts once, into the cache; `lazy`: each when it comes up, in the loading processes, as a
    cross-encoder's pairs always are."""
    cache: Annotated[str, KEPT] | None = Field(default=None, min_length=1)
    """Folder for prepared data: tokens, and a corpus's embeddings where they are kept on disk. Unset: QUINCUNX_CACHE,
    else `~/.cache/quincunx`."""
    dev_share: Annotated[float, CARVED] = Field(default=0.05, ge=0, lt=1)
    """Share of the training queries that is kept for measuring where no development set is found; 0: none."""
    skip_bad_rows: bool = False
    """Leave rows out that cannot be used, count them and list them in the run folder, in place of refusing the file."""
    bad_row_limit: Annotated[int, when("data.skip_bad_rows", False)] = Field(default=20, ge=1)
    """Bad rows that a refusal lists."""
    seed: Annotated[int, CARVED] = Field(default=0, ge=0)
    """Seed of the carved development set, apart from the run's: runs with different seeds share it."""

    @property
    def mixed(self) -> list[MixedCollection]:
        """The further training sets."""
        return [MixedCollection.model_validate(item) for item in self.mix]

    @property
    def all_given(self) -> list[Collection]:
        """Every set that says where it is, training first."""
        return [each for each in (self.train, *self.mixed, self.dev, self.test) if each.given]
