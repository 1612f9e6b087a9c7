"""The config's sections on what is learnt and how it is measured: objective, memory, evaluation."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from quincunx.config.schema import Accepts, AnyCase, Section, When, unless, when
from quincunx.config.sections.run import Checkpoint, Compute, Evaluate, Run
from quincunx.config.sections.training import AdamW, Chunking, Loading

EMBEDS = unless("mode", "cross-encoder")
INFONCE = when("objective.loss", "infonce")
SCORED = when("objective.loss", "infonce", "margin_mse", "kl")
COMPARED = when("objective.loss", "infonce", "metric_learning")
SEVERAL = When(
    "data.positives is not 1", lambda config: config.data.positives != 1, ("data.positives",)
)  # fmt: skip

DIRECTED = When(
    "objective.directions has several", lambda config: len(config.objective.directions) > 1, ("objective.directions",)
)

Direction = Literal["query_to_document", "document_to_query", "query_to_query", "document_to_document"]

_SIDES = {"q": "query", "query": "query", "d": "document", "doc": "document", "document": "document"}
_DIRECTION = re.compile(r"(q|query|d|doc|document)(?:\s*->\s*|_to_|-to-|2|-)(q|query|d|doc|document)")


def _direction(value: Any) -> Any:
    """Return a direction in full: `q->d`, `query-document` and `query_to_doc` are `query_to_document`."""
    found = _DIRECTION.fullmatch(value.lower()) if isinstance(value, str) else None
    return f"{_SIDES[found[1]]}_to_{_SIDES[found[2]]}" if found else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Matryoshka(Section):
    """Embeddings that can be cut short (Kusupati et al. 2022, arXiv 2205.13147): the loss also of their first parts."""

    widths: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list[int])
    """Lengths of the first parts that are trained as embeddings of their own, besides the whole. Empty: off."""
    weights: Annotated[
        list[Annotated[float, Field(gt=0)]],
        When(
            "objective.matryoshka.widths is given", lambda config: bool(config.objective.matryoshka.widths),
            ("objective.matryoshka.widths",),
        ),
    ] | None = None  # fmt: skip
    """Weight of each length's loss, in their order; the whole has 1. Unset: 1 each."""


METRIC = when("objective.loss", "metric_learning")


class MetricLearning(Section):
    """A loss and a miner of pytorch-metric-learning, by their names there."""

    loss: Annotated[str, METRIC] | None = Field(default=None, min_length=1)
    """Class of `pytorch_metric_learning.losses`, for example `MultiSimilarityLoss`."""
    arguments: Annotated[dict[str, Any], METRIC] = Field(default_factory=dict[str, Any])
    """Its arguments by name."""
    miner: Annotated[str, METRIC] | None = Field(default=None, min_length=1)
    """Class of `pytorch_metric_learning.miners`. Unset: all pairs."""
    miner_arguments: Annotated[
        dict[str, Any], METRIC, unless("objective.metric_learning.miner", None)
    ] = Field(default_factory=dict[str, Any])  # fmt: skip
    """Its arguments by name."""


class Objective(Section):
    """What is learnt. Equal texts and known positives are never negatives, in any of these; their counts are logged."""

    loss: Annotated[Literal["infonce", "margin_mse", "kl", "metric_learning"], AnyCase] = "infonce"
    """`infonce`: the positive among all candidates of the batch; `margin_mse`: a teacher's margin between positive and
    negative; `kl`: a teacher's distribution over candidates; `metric_learning`: one of pytorch-metric-learning."""
    similarity: Annotated[Literal["cosine", "dot"], AnyCase] | None = None
    """How embeddings are compared, in training, evaluation and search. Unset: cosine; dot for the poly-encoder."""
    temperature: Annotated[float, SCORED] | None = Field(default=None, gt=0)
    """Scores are divided by it. Unset: 0.05 for cosine, 1 for dot."""
    learn_temperature: Annotated[bool, SCORED] = False
    """Train the temperature, its logarithm, from there."""
    temperature_range: Annotated[
        list[Annotated[float, Field(gt=0)]], SCORED, when("objective.learn_temperature", True)
    ] = Field(default_factory=lambda: [0.01, 100.0], min_length=2, max_length=2)
    """Smallest and largest value that it may take."""
    directions: Annotated[
        list[Annotated[Direction, BeforeValidator(_direction)]],
        BeforeValidator(_as_list),
        Accepts("list of query_to_document, document_to_query, query_to_query, document_to_document"),
        COMPARED,
    ] = Field(default_factory=lambda: ["query_to_document"], min_length=1)
    """What looks for what (`q->d` for short); the loss is their mean. In query_to_query and document_to_document the
    negatives of a positive pair are other texts of the same side."""
    partition: Annotated[Literal["separate", "joint"], AnyCase, INFONCE, DIRECTED] = "separate"
    """`separate`: a softmax for each direction; `joint`: one over the negatives of all."""
    positives: Annotated[Literal["each", "together"], AnyCase, INFONCE, SEVERAL] = "each"
    """Several positives of an anchor: `each` is told from the negatives alone, or their probabilities count
    `together`."""
    in_batch: Annotated[bool, COMPARED] = True
    """Let the batch's other texts be negatives; false: explicit ones alone."""
    hardness: Annotated[float, INFONCE] = Field(default=0.0, ge=0)
    """Times the similarity, without gradient, is added to every negative's score, so that harder ones weigh more (Lan
    et al. 2025, arXiv 2503.04812)."""
    matryoshka: Matryoshka = Field(default_factory=Matryoshka)
    """Embeddings that can be cut short."""
    metric_learning: MetricLearning = Field(default_factory=MetricLearning)
    """For `loss: metric_learning`."""
    teacher_temperature: Annotated[float, when("objective.loss", "kl")] = Field(default=1.0, gt=0)
    """A teacher's scores are divided by it."""


REMEMBERS = when("memory.use", True)


class Memory(Section):
    """Embeddings of earlier batches as further negatives: more columns of the same softmax (cross-batch memory, Wang et
    al. 2020, arXiv 1912.06798). It can make training collapse: measure with and without. Never touched by
    evaluation."""

    use: bool = False
    """Keep a memory."""
    kind: Annotated[Literal["passages", "queries", "dual"], AnyCase, REMEMBERS] = "passages"
    """What is kept: `passages` (documents), for directions that look for documents; `queries`, for those that look for
    queries; `dual`, both (after Kim et al. 2024, arXiv 2406.12356)."""
    size: Annotated[int, REMEMBERS] = Field(default=1024, ge=1)
    """Embeddings kept, of each side; the oldest go first."""
    warmup: Annotated[int, REMEMBERS] = Field(default=1000, ge=0)
    """Updates by the plain loss before the memory acts."""
    momentum: Annotated[float, REMEMBERS] | None = Field(default=None, ge=0, lt=1)
    """Fill the memory by a second encoder that follows the trained one, m * old + (1 - m) * new at every update (He et
    al. 2020, arXiv 1911.05722). Unset: by the trained encoder itself."""
    max_age: Annotated[int, REMEMBERS] | None = Field(default=None, ge=1)
    """Updates after which an entry is no negative any more. Unset: none."""
    drift_every: Annotated[int, REMEMBERS] | None = Field(default=None, ge=1)
    """Every so many updates texts in memory are encoded again and compared. Unset: never."""
    drift_threshold: Annotated[float, REMEMBERS, unless("memory.drift_every", None)] = Field(default=0.8, ge=-1, le=1)
    """Below this mean cosine of old and new embeddings the memory pauses: it is emptied and fills anew, and that is
    said."""
    drift_sample: Annotated[int, REMEMBERS, unless("memory.drift_every", None)] = Field(default=32, ge=1)
    """Texts that are encoded again each time."""


def _measures(names: list[str]) -> list[str]:
    """Return measures as they are; ValueError for one that is not known, with the nearest."""
    from quincunx.errors import UsageError
    from quincunx.metrics.ranking.measures import parse_measures

    try:
        parse_measures(names)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return names


def _corpus_cache(value: Any) -> Any:
    """Return the word that an older true or false stands for."""
    if isinstance(value, bool):
        return "memory" if value else "none"
    return value.lower() if isinstance(value, str) else value


CORPUS_CACHE = "one of memory, disk, none; true is memory, false none"
FULL = when("evaluate.mode", "full", "validator")
VALIDATOR = when("evaluate.mode", "validator")


class RetrievalEvaluate(Evaluate):
    """When and how the model is evaluated during training; never changes training."""

    BY_TOKENS: ClassVar[bool] = True

    mode: Annotated[Literal["full", "pooled", "validator"], AnyCase] = "full"
    """`full`: every query against all documents; `pooled`: against those of `pool` batches at a time, averaged (depends
    on the pool's size); `validator`: `full` with `post_processing` and `processing_before_indexing`."""
    batch_size: int | None = Field(default=None, ge=1)
    """Texts (of a cross-encoder pairs) encoded at once, at most; with `mode: pooled` also the anchors of a batch.
    Unset: as many texts as a budget of tokens allows; `update.batch_size` anchors."""
    pool: Annotated[int, when("evaluate.mode", "pooled")] = Field(default=50, ge=1)
    """Evaluation batches whose texts are ranked together; the last pool may be smaller, and counts by its queries."""
    device: Annotated[str, EMBEDS, Accepts("one of auto, cpu, mps, cuda, cuda:N")] | None = Field(
        default=None, pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"
    )
    """Device on which vectors are compared and neighbours searched; `cpu` saves memory of a GPU. Unset: where the model
    is."""
    measures: Annotated[list[str], AfterValidator(_measures), Accepts("list of measures of trec_eval")] = Field(
        default_factory=lambda: ["ndcg_cut_10", "recip_rank", "recall_100", "map"], min_length=1
    )
    """Measures under the names of trec_eval (`ndcg_cut_10`, `recip_rank`, `P_1`), and `recip_rank_cut_10`, `map_at_R`,
    `first_rank`. The first chooses the best checkpoint unless `metric` names one."""
    depth: Annotated[int, FULL, EMBEDS] = Field(default=1000, ge=1)
    """Documents ranked for each query; what comes after them counts as not found."""
    ties: Annotated[Literal["trec", "expected", "optimistic", "pessimistic"], AnyCase] = "trec"
    """Order of documents with equal scores: by id descending, as trec_eval (`trec`); the mean over all orders
    (`expected`); relevant ones first or last (`optimistic`, `pessimistic`)."""
    corpus_cache: Annotated[
        Literal["memory", "disk", "none"], BeforeValidator(_corpus_cache), Accepts(CORPUS_CACHE), FULL, EMBEDS
    ] = "memory"
    """Keep the corpus's embeddings by the weights they were made with, so that the same documents are not encoded
    again: in `memory`, for a second split (true means this); on `disk` under `data.cache`, also for later commands;
    `none` (or false): not at all."""
    corpus_cache_limit: Annotated[int, when("evaluate.corpus_cache", "disk"), FULL, EMBEDS] = Field(default=4096, ge=1)
    """MiB that embeddings may take on disk, those of all runs with this `data.cache` together; what was used the
    longest time ago goes first."""
    rerank: Annotated[int, when("mode", "cross-encoder")] = Field(default=100, ge=1)
    """Candidates of BM25 that a cross-encoder puts in order for each query."""
    beside: Annotated[list[Literal["bm25", "rrf", "weighted"]], FULL, EMBEDS] = Field(default_factory=list)
    """Rankings measured on the same queries beside the model's: `bm25`; BM25 and the model fused by reciprocal ranks
    (`rrf`) or by scores brought to one scale (`weighted`). They never choose a checkpoint."""
    post_processing: Annotated[Literal["default", "first_token", "normalize"], AnyCase, VALIDATOR] = "default"
    """What is made of the model's output for a batch: its embeddings (`default`), the state of the `first_token`, or
    embeddings of length 1 (`normalize`). Other functions are given from Python."""
    processing_before_indexing: Annotated[Literal["concatenate", "normalize"], AnyCase, VALIDATOR] = "concatenate"
    """What is made of all of them before they are searched: put together, or also brought to length 1."""


class RetrievalRun(Run):
    """The run's folder."""

    name: Annotated[str, Accepts("a name without / and \\"), when("run.dir", None)] | None = Field(
        default=None, min_length=1, pattern=r"^[^/\\\x00]+$"
    )
    """Name of the run; its folder becomes `runs/<name>-<number>`. Unset: the recipe's name."""

    root: str | None = Field(default=None, min_length=1)
    """With `version`, short for a `dir`: `<root>/<name>_<version>`; becomes `run.dir`."""
    version: str | None = Field(default=None, min_length=1)
    """Ends the name of the folder in place of a number; becomes part of `run.dir`."""


class RetrievalCheckpoint(Checkpoint):
    """When the run is saved and how much is kept."""

    during_training: bool = True
    """false: save at the end alone, as `every: null` does, which it becomes."""


LIMITED = When(
    "chunking.samples or chunking.tokens is set",
    lambda config: config.chunking.samples is not None or config.chunking.tokens is not None,
    ("chunking.samples", "chunking.tokens"),
)


class RetrievalChunking(Chunking):
    """How a logical batch is cut. Never changes a gradient, nor a negative."""

    tokens: int | None = Field(default=8192, ge=1)
    """At most this many tokens at once, padding counted (longest text times texts). Texts of like length come together,
    which spares most of the padding; null: one chunk, padded to the longest text of all."""
    graphs: Annotated[Literal["auto", "keep", "replay"], AnyCase, EMBEDS] = "auto"
    """Of bi- and poly-encoders, whose loss looks at the whole batch: `keep` every chunk's graph, or `replay` its
    forward pass to save memory; `auto` keeps graphs while they fit into `graph_memory`, a single chunk's always, and
    replays the rest."""
    graph_memory: Annotated[int, EMBEDS, when("chunking.graphs", "auto"), LIMITED] | None = Field(default=None, ge=0)
    """MiB that kept graphs may hold. Unset: half of the memory that is free when training starts."""


class RetrievalCompute(Compute):
    """Hardware, precision and compilation."""

    precision: Annotated[Literal["float32", "bf16", "fp16", "auto"], AnyCase] = "auto"
    """Arithmetic of the forward pass: `auto` is bf16 where the hardware computes it natively, else float32. Scores and
    losses are float32 in any case."""


class RetrievalLoading(Loading):
    """How examples reach the engine."""

    bucketing: bool = False
    """Put examples of like length into the same batch. Off here: a batch is the pool of negatives, and texts of like
    length make other negatives than texts at random; chunks are cut by length in any case."""


class RetrievalAdamW(AdamW):
    """AdamW with decoupled weight decay."""

    learning_rate: float = Field(default=2e-5, ge=0)
    """Peak learning rate: 1e-5 to 5e-5 suit pretrained encoders, about 1e-3 small ones built from scratch."""
