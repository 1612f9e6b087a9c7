"""Every setting of the recipe: what it is changed to, over which others, and what is then seen to be another.

A word that begins with @ stands for the place of one of the sets and encoders that `settings_seen` writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from recipes.retrieval.settings_seen import Seen
from settings_looked_at import SHOWN_BY_THE_ENGINE, SettingRow

See = Callable[[Seen], Any]


@dataclass(frozen=True)
class Row(SettingRow):
    """One setting; its modes are by their letters, and it is shown in all of them unless `shown` says otherwise."""

    modes: str = "bpc"


def error(seen: Seen) -> str | None:
    return seen.error


def loss(seen: Seen) -> dict[str, float]:
    return seen.loss


def says(text: str) -> Callable[[Any, Any], bool]:
    """Return whether all is well before, and an error says something after."""
    return lambda before, after: before is None and text in (after or "")


def heals(text: str) -> Callable[[Any, Any], bool]:
    """Return whether an error says something before, and all is well after."""
    return lambda before, after: after is None and text in (before or "")


def train_size(seen: Seen) -> int:
    return seen.experiment.sizes.train


def contents(seen: Seen) -> dict[str, str]:
    return dict(seen.experiment.fingerprints)


def own(split: str) -> See:
    return lambda seen: seen.experiment.fingerprints[split]


def tokens(seen: Seen) -> list[list[int]]:
    return seen.tokens


def longest(seen: Seen) -> int:
    return seen.longest


def total(seen: Seen) -> int:
    return seen.parameters["total"]


def trainable(seen: Seen) -> int:
    return seen.parameters["trainable"]


def dev(seen: Seen) -> dict[str, float]:
    return seen.dev.scalars


def later(updates: int, *names: str, rate: float = 0.5) -> See:
    """Return what looks at the loss of the last of some updates, or at terms of the log."""
    return lambda seen: {n: v for n, v in seen.learn(updates, rate)[-1].items() if n in names or not names}


def planned(name: str) -> See:
    return lambda seen: str(getattr(seen.plan, name))


def files(word: str) -> See:
    return lambda seen: [name for name in seen.files if word in name]


def config_of_encoder(name: str) -> See:
    return lambda seen: encoder_of(seen).config.to_dict()[name]


TAUGHT = {"data.path": None, "data.train.path": "@triplets"}
"""A set with explicit negatives and a teacher's scores; its development set is carved."""
THREE = {"data.path": None, "data.train.corpus": "@collection", "data.train.queries": "@queries",
         "data.train.qrels": "@qrels"}  # fmt: skip
MANY = {"data.positives": None}
PRETRAINED = {"encoder.path": "@encoder", "encoder.dropout": None, "encoder.attention_dropout": None}
QUEUE = {"memory.use": True, "memory.size": 16, "memory.warmup": 0, "update.batch_size": 4}
DRIFT = {**QUEUE, "memory.drift_every": 1, "memory.drift_sample": 4, "memory.drift_threshold": -1.0}
WHOLE = {"chunking.samples": 3}

DATA: list[Row] = [
    Row("data.path", "@three", contents, shown="bc"),
    Row("data.train.path", "@triplets", own("train-1"), lambda a, b: a != b, shown="bc"),
    Row("data.train.format", "tsv", error, heals("holds the forms beir and tsv"),
        {"data.path": None, "data.train.path": "@both", "data.train.split": "train"}, shown="bc"),
    Row("data.train.split", "test", own("train-1"), shown="bc"),
    *(
        Row(f"data.train.{part}", f"@other-{name}", own("train-1"), base=THREE, shown="bc")
        for part, name in (("corpus", "collection"), ("queries", "queries"), ("qrels", "qrels"))
    ),
    Row("data.train.limit", 5, train_size, lambda a, b: (a, b) == (11, 4), shown="bc"),
    *(
        row
        for split in ("dev", "test")
        for row in (
            Row(f"data.{split}.path", "@three", contents, base={f"data.{split}.split": "test"}, shown="bc"),
            Row(f"data.{split}.format", "tsv", error, says("has no collection.tsv"),
                {f"data.{split}.path": "@three", f"data.{split}.split": "test"}, shown="b"),
            Row(f"data.{split}.split", "train", own(split), lambda a, b: a != b, {"data.path": "@three"}, shown="bc"),
            *(
                Row(f"data.{split}.{part}", f"@other-{name}", own(split),
                    base={key.replace("train", split): value for key, value in THREE.items() if value}, shown="b")
                for part, name in (("corpus", "collection"), ("queries", "queries"), ("qrels", "qrels"))
            ),
            Row(f"data.{split}.limit", 2, lambda seen, split=split: seen.experiment.sizes.evaluation[split],
                lambda a, b: a > b == 2, {"data.path": "@three"}, shown="bc"),
        )
    ),
    Row("data.mix", [{"path": "@triplets", "weight": 2}], train_size, lambda a, b: (a, b) == (11, 11 + 28)),
    Row("data.same_dataset", True, lambda seen: seen.experiment.sizes.groups, lambda a, b: (a, b) == ((25,), (11, 14)),
        {"data.mix": ["@triplets"]}),
    Row("data.anchor", "document", train_size, modes="bp"),
    Row("data.positives", None, lambda seen: len(seen.tokens), lambda a, b: a < b),
    Row("data.negatives", 3, lambda seen: len(seen.tokens), lambda a, b: a < b, {**TAUGHT, "data.negatives": 1}),
    Row("data.draw", "first", tokens),
    Row("data.min_grade", 3, lambda seen: len(seen.tokens), lambda a, b: a > b, MANY),
    Row("data.no_duplicates", True, lambda seen: [b.tolist() for b in seen.order.epoch(0)], modes="bp",
        base={**MANY, "update.batch_size": 3}),
    Row("data.tokenization", "lazy", lambda seen: seen.cached, lambda a, b: "query" in a and not b, modes="bp"),
    Row("data.cache", "@elsewhere", lambda seen: seen.cached, lambda a, b: "query" in a and not b, modes="bp"),
    Row("data.dev_share", 0.5, lambda seen: seen.experiment.sizes.evaluation["dev"], lambda a, b: (a, b) == (3, 7)),
    Row("data.skip_bad_rows", True, error, heals("4 bad rows"), {**TAUGHT, "data.train.path": "@bad"}, shown="bc"),
    Row("data.bad_row_limit", 2, error, lambda a, b: (a.count("jsonl:1"), b.count("jsonl:1")) == (4, 2),
        {**TAUGHT, "data.train.path": "@bad"}, shown="bc"),
    Row("data.seed", 4, lambda seen: sorted(seen.dev.values["map"])),
]  # fmt: skip

ENCODER: list[Row] = [
    Row("mode", "cross-encoder", lambda seen: type(seen.model).__name__, shown="bp"),
    Row("encoder.path", "@wider", config_of_encoder("hidden_size"), lambda a, b: (a, b) == (16, 24)),
    Row("encoder.revision", "main", error, says("has no revision 'main'"), PRETRAINED),
    Row("encoder.build.architecture", "distilbert", config_of_encoder("model_type")),
    Row("encoder.build.num_layers", 2, total, lambda a, b: b > a),
    Row("encoder.build.width", 32, config_of_encoder("hidden_size"), lambda a, b: (a, b) == (16, 32)),
    Row("encoder.build.num_heads", 4, loss),
    Row("encoder.build.hidden", 24, total, lambda a, b: b - a == 8 * (2 * 16 + 1)),
    Row("encoder.build.positions", 6, longest, lambda a, b: a > b == 6),
    Row("encoder.build.options", {"type_vocab_size": 3}, total),
    Row("encoder.tokenizer.path", "@wider", tokens),
    Row("encoder.tokenizer.kind", "unigram", tokens),
    Row("encoder.tokenizer.vocabulary", 100, lambda seen: seen.experiment.sizes.vocabulary, lambda a, b: a > b == 100),
    Row("encoder.tokenizer.lower_case", False, tokens),
    Row("encoder.share", "nothing", total, lambda a, b: b > 1.8 * a, modes="bp"),
    Row("encoder.pooling", "cls", loss, modes="bp"),
    Row("encoder.projection", 6, lambda seen: seen.model.width, lambda a, b: (a, b) == (16, 6), modes="bp"),
    Row("encoder.head", "mlp", total, lambda a, b: b > a, {"encoder.projection": 6}, modes="bp"),
    Row("encoder.embedding_dim", 24, error, says("encoder.embedding_dim is 24"), PRETRAINED, modes="bp"),
    Row("encoder.special_tokens", ["a"], tokens),
    Row("encoder.dropout", 0.4, loss),
    Row("encoder.attention_dropout", 0.4, loss),
    Row("encoder.attn_implementation", "eager", lambda seen: encoder_of(seen).config._attn_implementation),
    Row("encoder.gradient_checkpointing", True, lambda seen: encoder_of(seen).is_gradient_checkpointing),
    Row("encoder.freeze", "embeddings", trainable, lambda a, b: 0 < b < a),
    Row("query.prompt", "rain ", tokens),
    Row("query.max_length", 3, lambda seen: sorted(map(len, seen.tokens))),
    Row("query.truncate", "left", tokens, base={"query.max_length": 4}),
    Row("query.pooling", "cls", loss, modes="b"),
    Row("document.prompt", "rain ", tokens),
    Row("document.max_length", 3, lambda seen: sorted(map(len, seen.tokens))),
    Row("document.truncate", "left", tokens, base={"document.max_length": 4}),
    Row("document.path", "@encoder", total, lambda a, b: b > 1.8 * a, PRETRAINED, modes="bp"),
    Row("document.revision", "main", error, says("has no revision 'main'"), {**PRETRAINED, "document.path": "@encoder"},
        modes="bp"),
    Row("document.special_tokens", ["a"], tokens, modes="bp"),
    Row("document.pooling", "cls", loss, modes="bp"),
    Row("poly.kind", "first-m", loss, modes="p"),
    Row("poly.codes", 5, total, lambda a, b: b - a == 2 * 16, modes="p"),
    Row("poly.attention", "sqrt", loss, modes="p"),
    Row("poly.final_attention", "multihead", total, lambda a, b: b > a, modes="p"),
    Row("poly.heads", 2, loss, base={"poly.final_attention": "multihead"}, modes="p"),
    Row("cross.loss", "pointwise", loss, modes="c"),
    Row("cross.random_negatives", 7, lambda seen: len(seen.tokens), lambda a, b: b > a, modes="c"),
    Row("cross.max_length", 9, longest, lambda a, b: a > b == 9, modes="c"),
    Row("cross.margin", 0.1, loss, base={"cross.loss": "pairwise"}, modes="c"),
    Row("cross.positive_weight", 3.0, loss, base={"cross.loss": "pointwise"}, modes="c"),
    Row("cross.highest_grade", 3.0, loss, base={"cross.loss": "pointwise"}, modes="c"),
    Row("peft.method", "lora", trainable, lambda a, b: 0 < b < a / 4),
    Row("peft.options", {"r": 3}, trainable, lambda a, b: b < a, {"peft.method": "lora"}),
    Row("peft.train", ["*embeddings*"], trainable, lambda a, b: 0 < b < a),
]  # fmt: skip

OBJECTIVE: list[Row] = [
    Row("objective.loss", "kl", lambda seen: list(seen.loss), lambda a, b: b == ["kl"], TAUGHT, modes="bp"),
    Row("objective.similarity", "dot", loss, base={"objective.temperature": 1.0, "objective.similarity": "cosine"},
        modes="bp"),
    Row("objective.temperature", 0.5, loss, modes="bp"),
    Row("objective.learn_temperature", True, total, lambda a, b: b == a + 1, modes="bp"),
    Row("objective.temperature_range", [0.9, 1.0], later(2, "temperature", rate=1e4),
        base={"objective.learn_temperature": True, "objective.temperature": 1.0}, modes="bp"),
    Row("objective.directions", ["document_to_query"], loss, modes="bp"),
    Row("objective.partition", "joint", lambda seen: list(seen.loss), lambda a, b: b == ["joint"],
        {"objective.directions": ["query_to_document", "document_to_query"]}, modes="bp"),
    Row("objective.positives", "together", loss, base=MANY, modes="bp"),
    Row("objective.in_batch", False, lambda seen: seen.terms["negatives"], lambda a, b: a > b == 1, TAUGHT, modes="bp"),
    Row("objective.hardness", 2.0, loss, modes="bp"),
    Row("objective.matryoshka.widths", [4], loss, modes="b"),
    Row("objective.matryoshka.weights", [0.3], loss, base={"objective.matryoshka.widths": [4]}, modes="b"),
    Row("objective.teacher_temperature", 3.0, loss, base={**TAUGHT, "objective.loss": "kl"}, modes="bp"),
    Row("objective.metric_learning.loss", "NTXentLoss", loss,
        base={"objective.loss": "metric_learning", "objective.metric_learning.loss": "TripletMarginLoss"}, modes="b"),
    Row("objective.metric_learning.arguments", {"temperature": 0.5}, loss, modes="b",
        base={"objective.loss": "metric_learning", "objective.metric_learning.loss": "NTXentLoss"}),
    Row("objective.metric_learning.miner", "TripletMarginMiner", loss, modes="b",
        base={"objective.loss": "metric_learning", "objective.metric_learning.loss": "NTXentLoss"}),
    Row("objective.metric_learning.miner_arguments", {"margin": 0.01, "type_of_triplets": "hard"}, loss, modes="b",
        base={"objective.loss": "metric_learning", "objective.metric_learning.loss": "NTXentLoss",
              "objective.metric_learning.miner": "TripletMarginMiner"}),
    Row("memory.use", True, later(3), base={"memory.warmup": 0, "memory.size": 16}, modes="bp"),
    Row("memory.kind", "queries", later(3), modes="b",
        base={**QUEUE, "objective.directions": ["query_to_document", "document_to_query"]}),
    Row("memory.size", 6, later(3, "memory_entries"), lambda a, b: a["memory_entries"] > b["memory_entries"] == 6,
        QUEUE, modes="bp"),
    Row("memory.warmup", 9, later(3), base=QUEUE, modes="bp"),
    Row("memory.momentum", 0.9, later(3), base=QUEUE, modes="bp"),
    Row("memory.max_age", 1, later(3), base=QUEUE, modes="bp"),
    Row("memory.drift_every", 1, lambda seen: "memory_drift" in seen.learn(3, 0.5)[-1], modes="bp",
        base={**QUEUE, "memory.size": 40}),
    Row("memory.drift_threshold", 1.0, later(4, "memory_entries", rate=3.0), None,
        DRIFT, modes="bp"),
    Row("memory.drift_sample", 1, later(3, "memory_drift"), base=DRIFT, modes="bp"),
]  # fmt: skip

EVALUATE: list[Row] = [
    Row("evaluate.batch_size", 2, lambda seen: max(shape[0] for shape in seen.at_once), lambda a, b: a > b == 2),
    Row("evaluate.max_batches", 1, lambda seen: seen.dev.notes, base={"update.batch_size": 1}),
    Row("evaluate.mode", "pooled", lambda seen: "pools" in seen.dev.notes[0], modes="bp"),
    Row("evaluate.pool", 1, lambda seen: seen.dev.notes, base={"evaluate.mode": "pooled", "evaluate.batch_size": 1},
        modes="bp"),
    Row("evaluate.device", "cuda:77", error, says("cuda:77"), modes="bp"),
    Row("evaluate.measures", ["P_1"], lambda seen: list(seen.dev.scalars)[:1], lambda a, b: b == ["P_1"]),
    Row("evaluate.depth", 1, dev, modes="bp"),
    Row("evaluate.ties", "expected", dev, base={"query.max_length": 3, "document.max_length": 3, "cross.max_length": 5,
                                                "evaluate.rerank": 30}),
    Row("evaluate.corpus_cache", "none", lambda seen: seen.encoded, lambda a, b: b - a >= 30, modes="bp"),
    Row("evaluate.rerank", 2, dev, modes="c"),
    Row("evaluate.beside", ["bm25"], lambda seen: any("bm25" in name for name in seen.dev.scalars), modes="bp"),
    Row("evaluate.post_processing", "first_token", dev, base={"evaluate.mode": "validator"}, modes="b"),
    Row("evaluate.processing_before_indexing", "normalize", dev, base={"evaluate.mode": "validator"}, modes="b"),
]  # fmt: skip

ENGINE: list[Row] = [
    Row("recipe", "long_range", error, lambda a, b: b is not None and a is None, shown="b"),
    Row("seed", 4, loss),
    Row("optimizer.kind", "sgd", error, says("expected adamw"), shown="b"),
    Row("update.batch_size", 4, planned("updates_per_epoch")),
    Row("update.accumulation", 2, lambda seen: len(seen.batches(0)), lambda a, b: (a, b) == (1, 2)),
    Row("chunking.samples", 2, lambda seen: len(seen.forwards), lambda a, b: a < b),
    Row("chunking.tokens", 20, lambda seen: len(seen.forwards), lambda a, b: a < b),
    Row("chunking.graphs", "replay", lambda seen: len(seen.forwards), lambda a, b: b == 2 * a, WHOLE, modes="bp"),
    Row("chunking.graph_memory", 0, lambda seen: len(seen.forwards), lambda a, b: b > a, WHOLE, modes="bp"),
    Row("loading.bucketing", True, lambda seen: [b.tolist() for b in seen.order.epoch(0)]),
    Row("loading.window", 1, lambda seen: [b.tolist() for b in seen.order.epoch(0)],
        base={"loading.bucketing": True, "update.batch_size": 3}),
    Row("budget.epochs", 3, planned("total_updates"), base={"budget.updates": None}),
    Row("budget.updates", 5, planned("total_updates"), lambda a, b: (a, b) == ("2", "5")),
    Row("budget.stop_at", 1, planned("stop_at"), lambda a, b: (a, b) == ("2", "1")),
    Row("evaluate.every", 5, planned("evaluate_every")),
    Row("checkpoint.every", 5, planned("checkpoint_every")),
    Row("log.every", 1, planned("log_every")),
    Row("debug.limit", 4, train_size, lambda a, b: b < a),
]  # fmt: skip

RUN: list[Row] = [
    Row("run.name", "mine", lambda seen: seen.run.path.name, lambda a, b: (a, b) == ("retrieval-1", "mine-1"),
        {"run.dir": None}, shown="b"),
    Row("run.dir", "@there", lambda seen: str(seen.run.path), shown="b"),
    Row("run.note", "as it were", lambda seen: "as it were" in seen.run.report.read_text(), shown="b"),
    Row("run.root", "@roots", lambda seen: str(seen.run.path.parent), lambda a, b: Path(b).name == "roots", shown="b"),
    Row("run.version", "7b", lambda seen: seen.run.path.name, lambda a, b: b == "retrieval_7b",
        {"run.root": "@versions"}, shown="b"),
    Row("init_from", "@first", lambda seen: seen.weights.tolist(), base={"optimizer.learning_rate": 0.0}, shown="b"),
    Row("optimizer.learning_rate", 0.05, lambda seen: seen.weights.tolist(), shown="b"),
    Row("log.console", False, lambda seen: "loss" in seen.printed, lambda a, b: a and not b, shown="b"),
    Row("evaluate.at_start", True, lambda seen: seen.run.metrics("dev/map")[0][0], lambda a, b: (a, b) == (1, 0),
        shown="b"),
    Row("evaluate.metric", "dev/map", lambda seen: seen.run.summary["best"]["metric"], shown="b"),
    Row("checkpoint.keep", 1, files("checkpoints/"), lambda a, b: len(b) < len(a), {"checkpoint.best": False,
        "budget.updates": 3}, shown="b"),
    Row("checkpoint.during_training", False, files("checkpoints/"), lambda a, b: len(b) < len(a),
        {"checkpoint.best": False}, shown="b"),
]  # fmt: skip


def encoder_of(seen: Seen) -> Any:
    return getattr(getattr(seen.model, "query", None), "backbone", None) or seen.model.model


ROWS = list(chain(DATA, ENCODER, OBJECTIVE, EVALUATE, ENGINE, RUN))

SHARED: dict[str, tuple[str, ...]] = {
    **SHOWN_BY_THE_ENGINE,
    "recipes/retrieval/evaluate/test_disk.py": ("evaluate.corpus_cache_limit",),
}
"""Files of tests -> the settings of which they show the effect, in whatever recipe."""
