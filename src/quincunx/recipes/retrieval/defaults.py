"""The last step before a config is judged: what a guide's own form takes for granted, and settings that are short for
others.

A guide's file is told by the words that stand in it: a setting's place still shows the name under which it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from quincunx.config.document import Document
from quincunx.config.load import COMMAND_LINE
from quincunx.config.paths import KeyPath, dotted, is_mapping
from quincunx.config.schema import plain
from quincunx.recipes.retrieval.names import NAMES, spelled

COMMON = frozenset({"recipe", "seed", "run", "init_partial", "chunking", "compute", "debug", "log", "hydra"})
"""Sections that say nothing about the form: their settings may be added to a guide's file."""

FORM_000: Mapping[str, Any] = {
    "data.anchor": "document",
    "objective.directions": ["document_to_query"],
    "evaluate.mode": "pooled",
    "optimizer.weight_decay": 0.01,
    "update.no_decay": False,
}
"""What guide 000's training does without a key for it: documents look for their queries; torch's AdamW as it comes."""
FORM_000_BI: Mapping[str, Any] = {"objective.similarity": "cosine", "objective.temperature": 0.07}
"""The same for its bi-encoder; its poly-encoder's scores are dot products here, as in the paper."""
GUIDE_ADAMW = "transformers.AdamW"
"""Guide 001's optimizer unless its `_target_` says otherwise; the engine puts torch's in its place, and says so."""
FORM_001: Mapping[str, Any] = {
    "encoder.pooling": "cls",
    "objective.similarity": "cosine",
    "objective.temperature": 1.0,
    "memory.use": False,
    "evaluate.mode": "validator",
    "evaluate.measures": ["ndcg_cut_10", "recip_rank"],
}
"""What guide 001's template does without a key for it. Its queue of embeddings never acted, and stays off."""


def prepare(document: Document) -> list[str]:
    """Settle a document of present names in place, and return sentences on what was taken for granted."""
    if not is_mapping(document.tree):
        return []
    form = form_of(document)
    notes = _as_000(document) if form == "000" else _as_001(document) if form == "001" else []
    if (
        document.has(("schedule",))
        and _get(document, "schedule") is None
        and document.written_word(("schedule",)) == "lr_scheduler"
    ):
        document.put(("schedule",), {"kind": "fixed"}, document.places.get(("schedule",)))
    _folder_of_run(document)
    _checkpoints(document)
    return notes


def form_of(document: Document) -> str | None:
    """Return the number of the guide in whose form the files are: more of their settings have its names than ours.

    Words that both have (`path`, `batch_size`) count for neither, and so does the command line.
    """
    guides: dict[tuple[str, str], set[str]] = {}
    for name in NAMES:
        if name.guide:
            guides.setdefault((name.new, name.old.rpartition(".")[2]), set()).add(name.guide)
    counts: dict[str, int] = {}
    ours = 0
    for path, _ in document.leaves():
        place = document.places.get(path)
        if place is None or place.value.source.name == COMMAND_LINE:
            continue
        heads = [path[:end] for end in range(len(path), 0, -1)]  # of a whole section that a guide names as well
        written = [(head, guides.get((dotted(head), document.written_word(head)), set())) for head in heads]
        named = next(((head, found) for head, found in written if found), None)
        if named is None:
            ours += path[0] not in COMMON
        elif document.written_word(named[0]) != named[0][-1]:
            for guide in named[1]:
                counts[guide] = counts.get(guide, 0) + 1
    best = max(counts, key=lambda guide: counts[guide], default=None)
    return best if best is not None and counts[best] > ours else None


def _as_000(document: Document) -> list[str]:
    """Fill in what guide 000 takes for granted."""
    mode = spelled(_get(document, "mode"))
    poly = mode == "poly-encoder"
    if mode == "cross-encoder":
        return []
    contrasts = _get(document, "objective.loss") in (None, "infonce")
    remembers = _get(document, "memory.use") is True
    usual = {**FORM_000, **(FORM_000_BI if contrasts and not poly else {})}
    if poly and remembers:
        del usual["objective.directions"]  # its memory keeps documents: several vectors a query are not kept
    taken = _fill(document, {**usual, **({"memory.kind": "queries"} if remembers and not poly else {})})
    if document.has(("data", "path")) and not document.has(("data", "dev")):
        taken += _fill(document, {"data.dev.split": "test"})
    notes = [f"in the form of guide 000, and as it trains: {', '.join(taken)}"] if taken else []
    if poly:
        notes.append("guide 000's poly-encoder: scores are dot products at temperature 1 unless objective says else")
    if poly and remembers:
        notes.append(
            "a poly-encoder's memory keeps documents, so queries look for documents, and not the other way round"
        )
    return notes


def _as_001(document: Document) -> list[str]:
    """Fill in what guide 001 takes for granted, and leave out what steers Hydra and not the training."""
    taken = _fill(document, {} if spelled(_get(document, "mode")) == "cross-encoder" else FORM_001)
    for split in ("train", "dev"):
        if document.has(("data", split, "corpus")):
            _fill(document, {f"data.{split}.format": "tsv"})
    node = _get(document, "optimizer")
    if is_mapping(node) and "lr" in node and "_target_" not in node:
        document.put(("optimizer", "_target_"), GUIDE_ADAMW)
    notes = [f"in the form of guide 001, and as it trains: {', '.join(taken)}"] if taken else []
    lazy = _get(document, "data.tokenization") == "lazy" and _get(document, "evaluate.corpus_cache") != "disk"
    if lazy and _get(document, "data.cache") is not None:
        document.delete(("data", "cache"))
        notes.append("data.cache is left out: with data.tokenization lazy nothing is kept there")
    if document.has(("hydra",)):
        document.delete(("hydra",))
        notes.append("hydra: settings of Hydra itself are left out; the run's folder is run.dir")
    return notes


def _fill(document: Document, defaults: Mapping[str, Any]) -> list[str]:
    """Set what the document leaves open, and return what was set, as sentences name it."""
    taken: list[str] = []
    for name, value in defaults.items():
        path: KeyPath = tuple(name.split("."))
        above = [document.get(path[:end]) for end in range(1, len(path)) if document.has(path[:end])]
        if document.has(path) or not all(is_mapping(each) and "_target_" not in each for each in above):
            continue
        document.put(path, value)
        taken.append(f"{name} {' and '.join(value) if isinstance(value, list) else plain(value)}")
    return taken


def _folder_of_run(document: Document) -> None:
    """Make `run.dir` of `run.root`, `run.name` and `run.version`; leave what is wrong or contradictory to the check."""
    parts = {key: _get(document, f"run.{key}") for key in ("root", "name", "version")}
    short = [key for key in ("root", "version") if parts[key] is not None]
    wrong = any(value is not None and not (isinstance(value, str) and value) for value in parts.values())
    if wrong or not short or _get(document, "run.dir") is not None:
        return
    folder = "_".join(filter(None, (parts["name"] or "retrieval", parts["version"])))
    place = document.places.get(("run", short[0]))
    for key in parts:
        if document.has(("run", key)):
            document.delete(("run", key))
    document.put(("run", "dir"), str(PurePath(parts["root"] or "runs") / folder), place)


def _checkpoints(document: Document) -> None:
    """Make `checkpoint.every: null` of `checkpoint.during_training: false`."""
    path = ("checkpoint", "during_training")
    during = _get(document, "checkpoint.during_training")
    if not isinstance(during, bool):
        return
    if not during:
        document.put(("checkpoint", "every"), None, document.places.get(path))
    document.delete(path)


def _get(document: Document, name: str) -> Any:
    path: KeyPath = tuple(name.split("."))
    return document.get(path) if document.has(path) else None
