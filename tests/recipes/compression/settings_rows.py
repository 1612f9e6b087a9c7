"""Every setting of the recipe: what it is changed to, over which others, and what is then seen to be another.

A word that begins with @ stands for the place of one of the sets that `settings_seen` writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from recipes.compression.settings_seen import Seen
from settings_looked_at import SHOWN_BY_THE_ENGINE, SettingRow

See = Callable[[Seen], Any]


@dataclass(frozen=True)
class Row(SettingRow):
    """One setting, its modes by their letters; it is shown in the first of them unless `shown` says otherwise."""

    modes: str = "cpat"
    idle: tuple[Mapping[str, Any], ...] = ()
    """Further settings, each set of them over the first mode, under which it must be refused or named too."""


def error(seen: Seen) -> str | None:
    return seen.error


def says(text: str) -> Callable[[Any, Any], bool]:
    """Return whether all is well before, and an error says something after."""
    return lambda before, after: before is None and text in (after or "")


def loss(seen: Seen) -> dict[str, float]:
    return seen.terms


def terms(*names: str) -> Callable[[Any, Any], bool]:
    """Return whether the loss has these terms after, and no others."""
    return lambda before, after: set(after) == set(names) != set(before)


def later(updates: int, rate: float = 0.5) -> See:
    """Return what looks at the loss of the last of some updates."""
    return lambda seen: seen.learn(updates, rate)[-1]


def only_later(updates: int, rate: float = 0.5) -> See:
    """Return the same; the first update's loss must not be another."""
    return lambda seen: (seen.learn(updates, rate)[0], seen.learn(updates, rate)[-1])


def same_first(before: Any, after: Any) -> bool:
    return before[0] == after[0]


def texts(seen: Seen) -> list[str]:
    return seen.texts


def left(branch: str) -> See:
    return lambda seen: seen.left(branch)


def tensor(name: str) -> See:
    return lambda seen: seen.batch[name].tolist() if name in seen.batch.tensors else None


def width(name: str) -> See:
    return lambda seen: seen.batch[name].shape[1]


def sizes(seen: Seen) -> tuple[int, ...]:
    found = seen.experiment.sizes
    return (found.train, *found.evaluation.values())


def size_of(split: str) -> See:
    return lambda seen: {"train": seen.experiment.sizes.train, **seen.experiment.sizes.evaluation}.get(split)


def said(word: str) -> See:
    """Return the notes that hold a word."""
    return lambda seen: [note for note in seen.experiment.notes if word in note]


def total(seen: Seen) -> int:
    return seen.parameters["total"]


def trainable(seen: Seen) -> int:
    return seen.parameters["trainable"]


def more(before: int, after: int) -> bool:
    return before < after


def less(before: int, after: int) -> bool:
    return before > after > 0


def config_of_model(name: str) -> See:
    return lambda seen: seen.backbone.config.to_dict()[name]


def problems(split: str = "train") -> See:
    """Return the texts of a split of arithmetic or of a task."""
    return lambda seen: [seen.found.tokenizer.decode(item.text) for item in _items(seen, split)]


def longest(split: str) -> See:
    return lambda seen: max(len(item.text) for item in _items(seen, split))


def shortest(seen: Seen) -> int:
    """Return the tokens of the shortest text of the development split."""
    return min(len(item.text) for item in _items(seen, "dev"))


def without(package: str) -> See:
    """Return what looks at the error where a package is not installed."""

    def see(seen: Seen) -> str | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            return seen.error

    return see


def _items(seen: Seen, split: str) -> list[Any]:
    source = seen.found.splits[split]
    return [source[number] for number in range(len(source))]


def numbers(split: str = "train") -> See:
    """Return the largest number of a split's problems."""

    def see(seen: Seen) -> int:
        words = "".join(problems(split)(seen)).replace("<eos>", " ")
        return max(int(word) for word in words.translate(str.maketrans("+*=", "   ")).split() if word.isdigit())

    return see


def signs(sign: str, split: str = "train") -> See:
    """Return the most of a sign in a split's problems, what follows them left aside."""
    return lambda seen: max(text.partition("=")[0].count(sign) for text in problems(split)(seen))


RECONSTRUCTS = {"objective.reconstruct_only": True}
READ = {"data.path": "@problems"}
GLUE = {"data.source": "glue:mrpc"}
BUILT_NO_MORE = ({"model.path": "@saved"},)
SAVED = {"model.path": "@saved", "tokenizer.kind": "bpe", "model.build.options": {}, "model.build.hidden": None}
BPE = {"tokenizer.kind": "bpe", "tokenizer.vocabulary": 300, "data.forward_length": 4, "data.context_length": 4,
       "compress.slots": 1}  # fmt: skip
JSON = {"data.source": "jsonl", "data.path": "@rows"}
SEGMENTS = {"compress.segments": 3, "compress.slots": 1}
TOKENS = {"compress.readout": "tokens", "compress.slots": 3}
GPT2 = {"model.build.architecture": "gpt2"}
FOUR = {"compress.segments": 4, "compress.slots": 1, "compress.plan": "two_pass"}

DATA: list[Row] = [
    Row("data.source", "jsonl", texts, lambda a, b: "eht" in "".join(a) and "eht" not in "".join(b),
        {"data.path": "@rows"}, shown="c"),
    Row("data.path", "@folder", sizes, shown="c", idle=({"data.source": "stdlib-text"},)),
    Row("data.files", "*.md", sizes, lambda a, b: a[0] > b[0], {"data.path": "@folder"}, modes="cp",
        idle=({"data.source": "openwebtext"},)),
    Row("data.cache", "@elsewhere", said("cache"), lambda a, b: "elsewhere" in b[0], modes="cpa",
        idle=({"data.source": "arithmetic", **READ},)),
    Row("data.document", "paragraph", sizes, lambda a, b: a != b, {"data.path": "@folder"}, modes="cp", idle=(JSON,)),
    Row("data.field", "said", texts, base=JSON, modes="cp", idle=({"data.source": "text"},)),
    Row("data.context_length", 9, width("context"), lambda a, b: (a, b) == (12, 9), modes="cpa",
        idle=(RECONSTRUCTS,)),
    Row("data.forward_length", 6, width("forward_tokens"), lambda a, b: (a, b) == (8, 6), modes="cp"),
    Row("data.overlap", 3, texts, lambda a, b: len(b[0]) == len(a[0]) + 3, {"loading.bucketing": False}, modes="c",
        idle=(RECONSTRUCTS,)),
    Row("data.min_context", 11, sizes, lambda a, b: a[0] > b[0], modes="c",
        idle=(GLUE, {"data.context_length": None})),
    Row("data.min_forward", 7, shortest, lambda a, b: a < b == 7, modes="cp",
        idle=(GLUE, RECONSTRUCTS)),
    Row("data.packing", "stream", sizes, modes="cp", idle=(GLUE,)),
    Row("data.dev_share", 0.4, size_of("dev"), more, modes="cp"),
    Row("data.test_share", 0.4, size_of("test"), more, modes="cp",
        idle=(GLUE,)),
    Row("data.documents", 20, sizes, lambda a, b: a[0] > b[0], modes="cp"),
    Row("data.seed", 4, lambda seen: sorted(seen.texts), modes="cp"),
    Row("tokenizer.path", "@saved", lambda seen: seen.experiment.sizes.vocabulary, less, BPE, modes="cp",
        idle=BUILT_NO_MORE),
    Row("tokenizer.kind", "byte", lambda seen: seen.experiment.sizes.vocabulary, less, BPE, modes="cp",
        idle=({"model.path": "@saved"}, {"tokenizer.path": "@saved"})),
    Row("tokenizer.vocabulary", 270, lambda seen: seen.experiment.sizes.vocabulary, lambda a, b: (a, b) == (300, 270),
        BPE, modes="c", idle=({"tokenizer.kind": "byte"}, {"tokenizer.path": "@saved"})),
    Row("tokenizer.sample", 50, texts, base=BPE, modes="c", idle=({"tokenizer.kind": "byte"},)),
]  # fmt: skip

MULTIPLIES = {"arithmetic.multiply_probability": 1.0}
ARITHMETIC: list[Row] = [
    Row(f"arithmetic.{name}", value, see, wanted, base, modes="a", idle=(READ, *idle))
    for name, value, see, wanted, base, *idle in (
        ("train", 30, size_of("train"), lambda a, b: (a, b) == (24, 30), {}),
        ("dev", 7, size_of("dev"), lambda a, b: (a, b) == (4, 7), {}),
        ("test", 7, size_of("test"), lambda a, b: (a, b) == (4, 7), {}),
        ("ood", 2, size_of("ood_entities"), lambda a, b: (a, b) == (3, 2), {}),
        ("max_num", 9, numbers(), less, {"arithmetic.ood": 0}),
        ("max_entities", 5, signs("+"), lambda a, b: (a, b) == (2, 4), {}),
        ("entity_probability", 0.0, signs("+"), lambda a, b: (a, b) == (2, 1), {}, {"arithmetic.max_entities": 2}),
        ("multiply_probability", 1.0, signs("*"), lambda a, b: (a, b) == (0, 1), {}),
        ("max_factor", 3, problems(), None, MULTIPLIES, {"arithmetic.multiply_probability": 0.0}),
        ("space_multiplications", False, signs("*"), lambda a, b: (a, b) == (1, 2),
         {**MULTIPLIES, "arithmetic.max_factor": 4, "arithmetic.entity_probability": 1.0, "arithmetic.ood": 0,
          "arithmetic.train": 9}),
        ("zipf_order", 2.0, lambda seen: len(max(problems()(seen), key=len)), less,
         {"arithmetic.max_num": 99_999, "arithmetic.ood": 0}),
        ("ood_max_num", 300, numbers("ood_magnitude"), less, {"arithmetic.max_num": 9, "arithmetic.ood_max_num": 10**9},
         {"arithmetic.ood": 0}),
        ("ood_max_entities", 4, signs("+", "ood_entities"), lambda a, b: a > b == 3,
         {"arithmetic.ood_max_entities": 9}, {"arithmetic.ood": 0}),
        ("problem_length", 30, lambda seen: seen.experiment.source.source.problem_length, lambda a, b: b == 30, {}),
        ("seed", 4, problems(), None, {}),
    )
]  # fmt: skip

TASKS: list[Row] = [
    Row("tasks.name", "duplicate_string", problems(), modes="t", shown="t"),
    *(
        Row(f"tasks.{name}", value, see, wanted, modes="t", idle=({"data.path": "@inputs"},))
        for name, value, see, wanted in (
            ("max_length", 7, longest("dev"), more),
            ("train", 30, size_of("train"), lambda a, b: (a, b) == (24, 30)),
            ("dev", 7, size_of("dev"), lambda a, b: (a, b) == (4, 7)),
            ("test_min_length", 5, size_of("test"), lambda a, b: (a, b) == (4, 8)),
            ("test_max_length", 9, longest("test"), more),
            ("test_per_length", 3, size_of("test"), lambda a, b: (a, b) == (4, 6)),
            ("seed", 4, problems(), None),
        )
    ),
]

MODEL: list[Row] = [
    Row("model.path", "@saved", lambda seen: trainable(seen) < total(seen), lambda a, b: b and not a,
        {"tokenizer.kind": "bpe", "model.build.options": {}, "model.build.hidden": None}, shown="c"),
    Row("model.revision", "main", error, says("has no revision 'main'"), SAVED, shown="c",
        idle=({"model.path": None},)),
    Row("model.build.architecture", "gpt2", config_of_model("model_type"), shown="c", idle=BUILT_NO_MORE),
    Row("model.build.num_layers", 1, total, less, shown="c", idle=BUILT_NO_MORE),
    Row("model.build.width", 32, config_of_model("hidden_size"), lambda a, b: (a, b) == (16, 32),
        idle=BUILT_NO_MORE),
    Row("model.build.num_heads", 1, loss, idle=BUILT_NO_MORE),
    Row("model.build.hidden", 32, total, lambda a, b: b - a == 2 * 8 * 3 * 16, idle=BUILT_NO_MORE),
    Row("model.build.positions", 60, total, lambda a, b: b - a == (60 - 28) * 16, GPT2, idle=BUILT_NO_MORE),
    Row("model.build.tie_embeddings", False, total, lambda a, b: b - a == 258 * 16),
    Row("model.build.options", {"num_key_value_heads": 1}, total, less, {"model.build.options": {}},
        idle=BUILT_NO_MORE),
    Row("model.dtype", "bfloat16", lambda seen: str(seen.backbone.dtype)),
    # on one device the library spreads nothing; that it is asked to shows where it cannot
    Row("model.device_map", True, without("accelerate"), says("accelerate"), SAVED, idle=({"model.path": None},)),
    Row("model.attention", "eager", lambda seen: seen.backbone.config._attn_implementation),
    Row("model.causal", False, loss, modes="ct", shown="ct"),
    Row("model.dropout", 0.4, loss, base={**GPT2, "model.dropout": 0.0}),
    Row("model.attention_dropout", 0.4, loss),
    Row("model.gradient_checkpointing", True, lambda seen: seen.model._checkpoints(),
        idle=({"compress.plan": "two_pass"},)),
    Row("model.train", ["embeddings"], trainable, less, shown="c"),
    Row("peft.method", "ia3", trainable, less, {"model.train": ["lora"]}, idle=({"model.train": None},)),
    Row("peft.options", {"r": 3}, trainable, less, {"model.train": ["lora"], "peft.method": "lora"}, shown="c",
        idle=({"peft.method": None},)),
    Row("peft.train", ["*mlp*"], trainable, more, {"model.train": ["lora"], "peft.method": "lora"}, shown="c",
        idle=({"model.train": None, "peft.method": None}, {"peft.method": None})),
]  # fmt: skip

COMPRESS: list[Row] = [
    Row("compress.readout", "tokens", loss, modes="c"),
    Row("compress.slots", [1, 3], lambda seen: {seen.at(n)["slot_positions"].shape[1] for n in range(12)},
        lambda a, b: (a, b) == ({3}, {1, 3}), modes="c", shown="c"),
    Row("compress.plan", "two_pass", lambda seen: seen.model.plan, lambda a, b: (a, b) == ("one_pass", "two_pass"),
        modes="c", idle=()),
    Row("compress.mutual", False, loss, modes="c"),
    Row("compress.separator", True, loss, modes="c", idle=({"compress.readout": "mean_pool"},)),
    Row("compress.layer", 1, loss, base={**TOKENS, "compress.layer": 2}, modes="c",
        idle=({"compress.readout": "kv"},)),
    Row("compress.projection", "mlp", total, more, TOKENS, modes="c", idle=({"compress.readout": "kv"},)),
    Row("compress.projection_factor", 2, total, less, {**TOKENS, "compress.projection": "mlp"}, modes="c",
        idle=({"compress.projection": "linear"}, {"compress.readout": "kv", "compress.projection": "none"})),
    Row("compress.segments", 2, tensor("context_segment"), lambda a, b: a is None and b[0] == [0] * 6 + [1] * 6,
        {"loading.bucketing": False, "data.min_context": 12}, modes="c", shown="c"),
    *(Row("compress.join", word, loss, base=SEGMENTS, modes="c", idle=({"compress.segments": 1},))
      for word in ("concatenate", "recurrent")),
    Row("compress.stop_gradient", 1, only_later(2), same_first, FOUR, modes="c",
        idle=({"compress.segments": 1}, {"compress.join": "concatenate"}, {"compress.stop_gradient": 9})),
    Row("compress.positions", "uniform", tensor("slot_positions"), modes="c"),
    Row("compress.positions", "restart", tensor("forward_positions"), base=TOKENS, modes="c",
        idle=({"compress.readout": "kv"},)),
]  # fmt: skip

POSITIONS: list[Row] = [
    Row("positions.kind", "alibi", loss),
    Row("positions.kind", "rope", error, says("gpt2 has no rotary positions"), GPT2),
    Row("positions.sample", "integer", tensor("plain_positions"), shown="pat", idle=({"positions.kind": "none"},)),
    Row("positions.sample", "float", lambda seen: seen.batch["forward_positions"].dtype,
        base={"positions.kind": "sinusoidal"}, shown="c"),
    Row("positions.size", 99, total, lambda a, b: b - a == (99 - 84) * 16,
        {"positions.kind": "random", "positions.learnable": True}, idle=({"positions.kind": "alibi"},)),
    Row("positions.evaluate", "prefix", lambda seen: seen.dev.scalars["loss"], base={"positions.sample": "integer"},
        shown="cp", idle=({"positions.sample": "none"},)),
    Row("positions.learnable", True, trainable, more, {"positions.kind": "sinusoidal"},
        idle=({"positions.kind": "alibi"},)),
    Row("positions.dropout", 0.5, loss, base={"positions.kind": "random"}, idle=({"positions.kind": "model"},)),
]  # fmt: skip

TALK = {"blotch.separator": " ", "data.forward_length": 24}
"""Words are steps."""
HALF = {**TALK, "blotch.p": 0.5}
LEVELS = {**TALK, "blotch.p_max": 0.8}
SPANS = {"blotch.p": 0.5, "blotch.spans": "fixed", "blotch.span_length": 2, "blotch.separator": "Z"}
RISES = {**TALK, "blotch.p": 1.0, "blotch.curriculum.updates": 8}
BOTH = {**HALF, "data.context_length": 24, "objective.forward": 1.0, "objective.reconstruction": 1.0}
BLOTCH: list[Row] = [
    Row(f"blotch.{name}", value, see, wanted, base, modes=modes, idle=idle)
    for name, value, see, wanted, base, modes, *idle in (
        ("p", 0.9, lambda seen: seen.share(0), less, TALK, "pca", {"blotch.step": 1}),
        ("p", 1.0, texts, lambda a, b: a[0].count("=") > b[0].count("=") == 1, {}, "apc"),
        ("p_min", 0.8, lambda seen: seen.share(0), less, LEVELS, "pca", {"blotch.p_max": None},
         {"blotch.p_max": None, "blotch.p": 0.5}),
        ("p_max", 0.9, lambda seen: seen.share(0), less, TALK, "pca", {"blotch.step": 1}),
        ("levels", 2, texts, None, LEVELS, "pca", {"blotch.p_max": None}),
        ("intensity_tokens", True, lambda seen: seen.texts[0].startswith("<left-out-"), lambda a, b: b, LEVELS, "pca",
         {"blotch.p_max": None}, {"model.path": "gpt2"}),
        ("separator", "e", texts, None, HALF, "pca", {"blotch.p": 0.0}),
        ("spans", "fixed", texts, None, {"blotch.p": 0.5, "blotch.separator": "Z", "blotch.span_length": 2.0}, "pca",
         {"blotch.p": 0.0}),
        ("spans", "geometric", texts, None, SPANS, "pca"),
        ("span_length", 3.0, texts, None, SPANS, "pca", {"blotch.spans": "none"}),
        ("spacing", "equal", texts, None, HALF, "pca", {"blotch.p": 0.0}, {"blotch.p": 0.0, "blotch.step": 1}),
        ("spacing", "geometric", texts, None, HALF, "pca"),
        ("mean_run", 1.0, texts, None, {**HALF, "blotch.spacing": "geometric"}, "pca", {"blotch.spacing": "random"}),
        ("contiguous", False, lambda seen: seen.share(0), more, {**TALK, "blotch.p": 0.9}, "pca",),
        ("step", 1, texts, None, TALK, "pca"),
        ("token_p", 0.5, texts, lambda a, b: len("".join(b)) < len("".join(a)), TALK, "pca"),
        ("scope", "context", left("forward"), lambda a, b: len("".join(b)) > len("".join(a)), BOTH, "ca",
         {"data.context_length": None, "compress.slots": None},),
        ("scope", "forward", left("reconstruction"), lambda a, b: len("".join(b)) > len("".join(a)), BOTH, "ca",
         {"objective.reconstruct_only": True, "data.context_length": None}),
        ("targets", "keep", tensor("reconstruction_targets"), None, BOTH, "ca", {"blotch.scope": "forward"},
         {"objective.reconstruction": None}, {"data.context_length": None, "compress.slots": None}),
        ("form", "excise", tensor("plain_tokens"), None, HALF, "pca", {"blotch.p": 0.0}),
        ("form", "excise", tensor("context"), None, BOTH, "cap"),
        ("curriculum.updates", 20, lambda seen: seen.share(4), more, RISES, "pca", {"blotch.p": 0.0}),
        ("curriculum.initial", 1.0, lambda seen: seen.share(0), less, RISES, "pca",
         {"blotch.curriculum.updates": None}),
        ("curriculum.begin", 20, lambda seen: seen.share(8), more, RISES, "pca", {"blotch.curriculum.updates": None}),
        ("curriculum.stages", 1, lambda seen: seen.share(1), less, RISES, "pca", {"blotch.curriculum.updates": None}),
    )
]  # fmt: skip

OBJECTIVE: list[Row] = [
    Row("objective.forward", 1.0, loss, terms("reconstruction", "forward"), {"objective.reconstruction": 1.0},
        modes="c", idle=(RECONSTRUCTS,)),
    *(
        Row(f"objective.{name}", 1.0, loss, terms("forward", name), {"objective.forward": 1.0}, modes="c",
            idle=(RECONSTRUCTS,))
        for name in ("reconstruction", "plain", "without", "full", "distillation")
    ),
    Row("objective.distillation", 2.0, later(2), base={"objective.forward": 1.0, "objective.distillation": 1.0},
        modes="c"),
    Row("objective.temperature", 3.0, loss, base={"objective.forward": 1.0, "objective.distillation": 1.0}, modes="c",
        idle=({"objective.distillation": None},)),
    Row("objective.reconstruct_only", True, loss, terms("reconstruction"), {"data.context_length": None,
        "compress.slots": 2}, modes="cpa"),
    Row("objective.label_smoothing", 0.1, loss, shown="cpat"),
    Row("objective.initial_problem", True, lambda seen: seen.objective.weights(seen.batch), modes="a",
        idle=({"data.context_length": 8, "compress.slots": 1},)),
]  # fmt: skip

WHOLE = {"data.context_length": 8, "compress.slots": 1}
EVALUATE: list[Row] = [
    Row("evaluate.first", 2, lambda seen: seen.dev.notes, lambda a, b: "first 8" in a[0] and "first 2" in b[0],
        modes="c", idle=(RECONSTRUCTS,)),
    Row("evaluate.generate", 2, lambda seen: seen.dev.notes[-1], lambda a, b: "of 4 problems" in a and
        "of 2 problems" in b, modes="a", idle=(RECONSTRUCTS,)),
    Row("evaluate.blotch_p", 0.8, lambda seen: seen.dev.scalars["loss"], shown="ac", modes="acp",
        base={"blotch.p_max": 0.8, "blotch.intensity_tokens": True},
        idle=({"blotch.p_max": None}, {"blotch.intensity_tokens": False})),
]  # fmt: skip

ENGINE: list[Row] = [
    Row("recipe", "long_range", error, lambda a, b: a is None and b is not None, shown="c"),
    Row("seed", 4, loss, shown="c"),
    Row("update.batch_size", 4, lambda seen: len(seen.batch), lambda a, b: (a, b) == (8, 4)),
    Row("update.accumulation", 2, lambda seen: len(seen.batches(0)), lambda a, b: (a, b) == (1, 2)),
    Row("loading.bucketing", False, lambda seen: seen.batch.ids),
    Row("loading.window", 1, lambda seen: seen.batch.ids),
    Row("budget.epochs", 3, lambda seen: seen.plan.total_updates, more, {"budget.updates": None}),
    Row("debug.limit", 6, size_of("train"), lambda a, b: a > b == 6),
    Row("run.root", "@roots", lambda seen: Path(seen.run.path).parents[1].name, lambda a, b: b == "roots",
        {"run.name": "mine"}, idle=({"run.dir": "@there"},)),
]  # fmt: skip

ROWS = list(chain(DATA, ARITHMETIC, TASKS, MODEL, COMPRESS, POSITIONS, BLOTCH, OBJECTIVE, EVALUATE, ENGINE))

SHARED: dict[str, tuple[str, ...]] = {
    **SHOWN_BY_THE_ENGINE,
    "recipes/compression/data/test_encoding.py": ("data.processes",),
    "recipes/retrieval/settings_rows.py": (
        *(f"chunking.{key}" for key in ("samples", "tokens", "graphs", "graph_memory")),
        *(f"evaluate.{key}" for key in ("every", "at_start", "batch_size", "max_batches", "metric")),
        *(f"run.{key}" for key in ("name", "dir", "note")),
        *("budget.updates", "budget.stop_at", "checkpoint.every", "checkpoint.keep", "init_from", "log.every"),
        *("log.console", "optimizer.kind", "optimizer.learning_rate"),
    ),
}
"""Files of tests -> the settings of which they show the effect, in whatever recipe."""
