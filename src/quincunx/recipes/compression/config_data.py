"""The config's sections on texts: where they are, how they become tokens, and how tokens become examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from quincunx.config.schema import Accepts, AnyCase, Section, When, when
from quincunx.recipes.compression.kinds import compresses

GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli")
"""Tasks of GLUE that can be trained."""
RULED = ("arithmetic", "tasks")
"""Sources whose examples are made by rule."""
TEXT_SOURCES = ("stdlib-text", "text", "jsonl", "openwebtext", "glue", *(f"glue:{task}" for task in GLUE))


def _source(value: str) -> str:
    word = value.lower().replace("glue/", "glue:")
    if word not in (*TEXT_SOURCES, *RULED):
        raise ValueError(
            f"there is no source {value!r}; expected stdlib-text, text, jsonl, openwebtext, glue, glue:TASK with TASK "
            f"one of {', '.join(GLUE)}, arithmetic or tasks"
        )
    return word


SourceName = Annotated[
    str, AfterValidator(_source), Accepts("stdlib-text, text, jsonl, openwebtext, glue, glue:TASK, arithmetic or tasks")
]


def _of(*words: str) -> When:
    return when("data.source", *words)


TEXTS = When(
    "data.source is neither arithmetic nor tasks", lambda config: config.data.source not in RULED, ("data.source",)
)
RUNNING = When(
    "data.source is neither glue, arithmetic nor tasks",
    lambda config: config.data.source not in RULED and not config.data.source.startswith("glue"),
    ("data.source",),
)
FORWARD = when("objective.reconstruct_only", False)
"""Texts follow the context."""
FILES = When("data.source is not stdlib-text", lambda config: config.data.source != "stdlib-text", ("data.source",))
COMPRESSES = When("something is compressed", compresses, ("data.context_length", "objective.reconstruct_only"))
KEPT = When(
    "data.source is not tasks, and arithmetic is not read from data.path",
    lambda config: config.data.source not in RULED or (config.data.source, config.data.path) == ("arithmetic", None),
    ("data.source", "data.path"),
)


class Data(Section):
    """The texts that are trained on and measured on."""

    source: SourceName = "stdlib-text"
    """`stdlib-text` (the running Python's own documentation: nothing to fetch), `text` (text files), `jsonl` (one JSON
    object a line), `openwebtext`, `glue` (all tasks together) or `glue:TASK`, say `glue:mrpc`. openwebtext and glue are
    looked for in `path`, then in the cache, and only then fetched from the hub. `arithmetic` and `tasks` are made by
    rule, as the sections of these names say."""
    path: Annotated[str, FILES] | None = Field(default=None, min_length=1)
    """File or folder of the texts, folders within included. Needed by `text` and `jsonl`. Files or folders in it that
    are called train, dev (val, valid, validation) and test are these splits."""
    files: Annotated[str, _of("text", "jsonl")] | None = Field(default=None, min_length=1)
    """Which files of a folder are read, as a pattern of their names: `*.py`. Unset: for texts those that end in .txt,
    .text, .md, .rst and .tokens, for JSON lines .jsonl, .ndjson and .json."""
    cache: Annotated[str, KEPT] | None = Field(default=None, min_length=1)
    """Folder for prepared data: token ids and trained tokenizers, under a hash of all that went into them. Unset:
    QUINCUNX_CACHE, else `~/.cache/quincunx`."""
    processes: Annotated[int, TEXTS] = Field(default=4, ge=1)
    """Processes that encode texts, once; no more than there are cores, and fewer for little text. Their number changes
    nothing but the time."""
    document: Annotated[Literal["file", "section", "paragraph", "line"], AnyCase, _of("text")] | None = None
    """What one document is: a `file`, a `section` (paragraphs up to some 10,000 characters), a `paragraph` (ended by a
    blank line) or a `line`. Unset: files where there are at least 20, else sections."""
    field: Annotated[str, _of("jsonl", "openwebtext")] = Field(default="text", min_length=1)
    """Key of the text in each JSON object, or column of a saved data set; dots lead into objects within."""
    context_length: Annotated[int, FORWARD] | None = Field(default=None, ge=1)
    """Tokens that are compressed; of arithmetic it is the problem, whatever the number. Unset: none, a plain language
    model without compression."""
    forward_length: Annotated[int, TEXTS] = Field(default=64, ge=1)
    """Tokens that are predicted after the context; where only the context is reconstructed, the context's length."""
    overlap: Annotated[int, TEXTS, COMPRESSES, FORWARD] = Field(default=0, ge=0)
    """Last tokens of the context that are repeated before the predicted ones."""
    min_context: Annotated[int, RUNNING, COMPRESSES] | None = Field(default=None, ge=1)
    """Shortest context that the rest of a document may have. Unset: an eighth of its length."""
    min_forward: Annotated[int, RUNNING, FORWARD] | None = Field(default=None, ge=1)
    """Fewest tokens to predict in the rest of a document. Unset: an eighth of `forward_length`."""
    packing: Annotated[Literal["documents", "stream"], AnyCase, RUNNING] = "documents"
    """`documents`: each is cut on its own, and those too short for any example are left out and counted; `stream`: all
    are cut as one text, eos between them, and nothing is left out but the very last tokens."""
    dev_share: Annotated[float, TEXTS] = Field(default=0.1, ge=0, lt=1)
    """Share of the documents that are measured during training, drawn by a hash of their words, where the data does not
    say which."""
    test_share: Annotated[float, RUNNING] = Field(default=0.1, ge=0, lt=1)
    """Share of the documents that are measured at the end, likewise."""
    documents: Annotated[int, TEXTS] | None = Field(default=None, ge=1)
    """Only so many documents are read, the first. Unset: all."""
    seed: Annotated[int, TEXTS] = Field(default=0, ge=0)
    """Seed of the held-out documents, apart from the run's: runs with different seeds share them."""


OWN = When(
    "model.path is unset, of texts",
    lambda config: config.model.path is None and config.data.source not in RULED,
    ("model.path", "data.source"),
)
TRAINED = When(
    "a tokenizer is trained: tokenizer.path and model.path are unset, and data.source is text",
    lambda config: OWN.test(config) and config.tokenizer.path is None,
    ("tokenizer.path", "model.path", "data.source"),
)
MERGES = When(
    "a tokenizer of kind bpe is trained",
    lambda config: TRAINED.test(config) and config.tokenizer.kind == "bpe",
    ("tokenizer.path", "tokenizer.kind", "model.path", "data.source"),
)


class Tokenizer(Section):
    """The tokenizer of a model that is built from a config; a pretrained model brings its own."""

    path: Annotated[str, OWN] | None = Field(default=None, min_length=1)
    """Folder of a tokenizer, or of a model with one, or its name on the hub. Unset: trained on the training documents,
    and kept in the cache."""
    kind: Annotated[Literal["byte", "bpe"], AnyCase, TRAINED] = "bpe"
    """`bpe`: frequent pairs of bytes are merged; `byte`: a token a byte, with nothing to train."""
    vocabulary: Annotated[int, MERGES] = Field(default=2048, ge=258)
    """Tokens at most, 256 bytes and 2 special ones included."""
    sample: Annotated[int, MERGES] = Field(default=100_000_000, ge=1)
    """Characters of training documents that it is trained on, the first so many."""


def is_labelled(data: Any) -> bool:
    """Tell whether the examples of a `data` section have answers that can be right or wrong."""
    return data.source.startswith("glue")
