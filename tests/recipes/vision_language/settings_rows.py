"""Every setting of the recipe: what it is changed to, over which others, and what is then seen to be another.

A word that begins with @ stands for the place of one of the sets that `settings_seen` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from quincunx.errors import QuincunxError
from recipes.vision_language.settings_seen import GRID, Seen
from settings_looked_at import SHOWN_BY_THE_ENGINE, SettingRow

See = Callable[[Seen], Any]
EYES = "aqgrp"
"""Modes with pictures."""
ALL = "aqgrtp"


@dataclass(frozen=True)
class Row(SettingRow):
    """One setting, its modes by their letters; it is shown in the first of them unless `shown` says otherwise."""

    modes: str = ALL
    idle: tuple[Mapping[str, Any], ...] = ()
    """Further settings, each set of them over the first mode, under which it must be refused or named too."""


def error(seen: Seen) -> str | None:
    return seen.error


def says(text: str) -> Callable[[Any, Any], bool]:
    """Return whether all is well before, and an error says something after."""
    return lambda before, after: before is None and text in (after or "")


def dev_error(seen: Seen) -> str | None:
    try:
        assert seen.dev.scalars
    except QuincunxError as found:
        return str(found)
    return None


def loss(seen: Seen) -> dict[str, float]:
    return seen.terms


def later(updates: int, rate: float = 0.5) -> See:
    """Return what looks at the loss of the last of some updates."""
    return lambda seen: seen.learn(updates, rate)[-1]


def texts(seen: Seen) -> list[str]:
    return seen.texts


def some(text: str) -> Callable[[Any, Any], bool]:
    """Return whether a text is in some after, and in none before."""
    return lambda before, after: not any(text in each for each in before) and any(text in each for each in after)


def tensor(name: str) -> See:
    return lambda seen: seen.every[name].tolist()


def shape(name: str) -> See:
    return lambda seen: tuple(seen.every[name].shape)


def size_of(split: str) -> See:
    return lambda seen: {"train": seen.experiment.sizes.train, **seen.experiment.sizes.evaluation}.get(split)


def groups(seen: Seen) -> tuple[int, ...]:
    """Return how many examples of each task the first epoch takes, and in how many batches."""
    count = seen.plan.batches_per_epoch
    tasks = [task for update in range(count) for task in seen.batches(update)[0]["tasks"].tolist()]
    return (*(tasks.count(task) for task in range(max(tasks) + 1)), count)


def files(split: str) -> See:
    def see(seen: Seen) -> list[str]:
        evaluator: Any = {**seen.experiment.evaluators, **seen.experiment.final_evaluators}[split]
        return [str(part.examples.path.relative_to(part.examples.path.parents[1])) for part in evaluator.rows.parts]

    return see


def note(word: str) -> See:
    """Return the notes that hold a word."""
    return lambda seen: [each for each in seen.experiment.notes if word in each]


def speech(name: str) -> See:
    return lambda seen: getattr(seen.experiment.evaluators["dev"].speech, name)  # pyright: ignore


def total(seen: Seen) -> int:
    return seen.parameters["total"]


def checkpoints(seen: Seen) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) for module in seen.model.modules())


def trainable(seen: Seen) -> int:
    return seen.parameters["trainable"]


def of_kind(name: str) -> See:
    """Return the texts of all rows of a loss, read and said."""

    def see(seen: Seen) -> list[str]:
        source, number = seen.experiment.source, seen.config.pretraining.losses.index(name)
        items = [(place, source[place]) for place in range(len(source))]
        places = [place for place, item in items if item.task.name == name]
        assert places, number
        batch = seen.experiment.collate([source[place] for place in places], places, range(len(places)), 7)
        read = seen.tokenizer.batch_decode(batch["input_ids"])
        return read + seen.tokenizer.batch_decode(batch["labels"].clamp(min=0))

    return see


def hidden(seen: Seen) -> int:
    """Return how many regions are hidden."""
    return int((seen.every["region_places"] >= 0).sum())


def captioned(seen: Seen) -> int:
    """Return the most regions of a picture of which a caption is asked."""
    rows = seen.every["tasks"] == seen.config.data.tasks.index("caption")
    return int(seen.every["visual_mask"][rows].sum(1).max())


def rules(seen: Seen) -> float:
    """Return how large the numbers of a compacter's rules are."""
    return float(next(each for name, each in seen.model.named_parameters() if "rule" in name).detach().std())


def first_weight(seen: Seen) -> float:
    return float(next(seen.model.parameters()).detach().sum())


def more(before: int, after: int) -> bool:
    return before < after


def less(before: int, after: int) -> bool:
    return before > after > 0


def becomes(before: Any, after: Any) -> Callable[[Any, Any], bool]:
    return lambda a, b: (a, b) == (before, after)


NAMED = ({"data.tasks": ["mmt"]},)
"""None of the tasks that a setting is about."""
DATA: list[Row] = [
    Row("data.path", "@nowhere", error, says("pictures.jsonl"), shown="q"),
    Row("data.tasks", ["gqa"], lambda seen: seen.config.data.tasks, becomes(["vqa"], ["gqa"]), shown="q"),
    Row("data.train", "train, dev", size_of("train"), becomes(32, 48), shown="q"),
    Row("data.dev", "test", files("dev"), becomes(["vqa/dev.jsonl"], ["vqa/test.jsonl"]), shown="q"),
    Row("data.test", "test", size_of("test"), becomes(None, 16), shown="q"),
    Row("data.train_top", 0.25, size_of("train"), becomes(32, 8), shown="q"),
    Row("data.dev_top", 3, size_of("dev"), becomes(16, 3), shown="q"),
    Row("data.hidden", True, size_of("hidden"), becomes(None, 8), {"data.test": ["partly"]}, modes="aqgrt", shown="q"),
    Row("data.classification", "birds", files("dev"),
        lambda a, b: "cls/dev.jsonl" in a and "cls-birds/dev.jsonl" in b, modes="ar"),
    Row("data.vqa.draw", True, tensor("weight"), lambda a, b: min(a[:3]) < 1 == min(b[:3]), shown="q",
        idle=NAMED),
    Row("data.vqa.normalize", True, lambda seen: seen.said, lambda a, b: some("the ")(b[:3], a[:3]),
        {"data.vqa.draw": True}, shown="q", idle=({"data.vqa.draw": False},)),
    Row("data.vqa.answerable", True, size_of("dev"), less, shown="q", idle=NAMED),
    Row("data.refcoco.ground_truth", True, dev_error, says("no annotated candidates"), modes="a"),
    Row("data.refcoco.detections", True, lambda seen: seen.dev.scalars["refcoco/accuracy"], less,
        {"data.path": "@chosen"}, modes="a"),
    Row("data.refcoco.shuffle", True, tensor("points"), base={"data.refcoco.pointer": True}, modes="a"),
    Row("data.refcoco.pointer", True, total, lambda a, b: b - a == 2 * (24 * 24 + 24), modes="a"),
]  # fmt: skip

TEXT: list[Row] = [
    Row("text.task_prompts", True, texts, some("gqa"), shown="a"),
    Row("text.prompt", "asked ", texts, idle=({"text.task_prompts": True},)),
    Row("text.post_prompt", "that is all", texts, idle=({"text.empty": True},)),
    Row("text.caption", "span", tensor("input_ids"), modes="ag"),
    Row("text.empty", True, texts, lambda a, b: a.count("") < b.count(""), modes="ag"),
    Row("text.lowercase", True, texts, lambda a, b: a[0][5:] != b[0][5:] and [x.lower() for x in a] == b, shown="q"),
    Row("text.tags", True, texts, some("tags"), modes="aqp"),
    Row("text.max_length", 4, shape("input_ids"), lambda a, b: a[1] > b[1] == 4),
]  # fmt: skip

WEIGHTS = {"mixing.sampling": "weights", "mixing.weights": {"vqa": 1.0, "cls": 1.0}}
UNIFORM = {"mixing.sampling": "uniform"}
MIXED = "agrt"
MIXING: list[Row] = [
    Row("mixing.sampling", "uniform", groups, modes=MIXED),
    Row("mixing.temperature", 50.0, groups, base={"mixing.sampling": "temperature"}, modes=MIXED, shown="a",
        idle=(UNIFORM,)),
    Row("mixing.weights", {"vqa": 5.0, "cls": 1.0}, groups, base=WEIGHTS, modes="r", idle=(UNIFORM,)),
    Row("mixing.stop", "first_exhausted", groups, base=UNIFORM, modes=MIXED, shown="a",
        idle=({"mixing.sampling": "roundrobin"},)),
    Row("mixing.mixed", False, lambda seen: len(set(seen.batch["tasks"].tolist())), lambda a, b: a > b == 1,
        modes=MIXED),
]  # fmt: skip

SAVED = {"model.path": "@saved"}
BUILT_NO_MORE = (SAVED,)
MODEL: list[Row] = [
    Row("model.path", "@saved", lambda seen: seen.model.config.d_model, becomes(24, 12), shown="q"),
    Row("model.tokenizer", "@saved", lambda seen: seen.tokenizer.get_vocab(), shown="q"),
    Row("model.build.architecture", "bart", lambda seen: seen.model.config.model_type, becomes("t5", "bart"),
        shown="q", idle=BUILT_NO_MORE),
    Row("model.build.width", 48, lambda seen: seen.model.config.d_model, becomes(24, 48), shown="q",
        idle=BUILT_NO_MORE),
    Row("model.build.num_layers", 3, total, more, shown="q", idle=BUILT_NO_MORE),
    Row("model.build.num_heads", 1, loss, shown="q", idle=BUILT_NO_MORE),
    Row("model.build.hidden", 40, total, more, shown="q", idle=BUILT_NO_MORE),
    Row("model.build.vocab_size", 310, lambda seen: seen.experiment.sizes.vocabulary, less,
        shown="a", idle=BUILT_NO_MORE),
    Row("model.build.options", {"relative_attention_num_buckets": 8}, total, less, shown="q", idle=BUILT_NO_MORE),
    Row("model.weights", "@weights", loss, shown="q"),
    Row("model.from_scratch", True, first_weight, base=SAVED, shown="q"),
    Row("model.dropout", 0.4, loss, shown="q"),
    Row("model.classifier", True, total, more, modes="q"),
    Row("model.gradient_checkpointing", True, checkpoints, shown="q"),
]  # fmt: skip

BART = {"model.build.architecture": "bart", "model.build.options": {"init_std": 0.5}}
LINE = {"pictures.line": True, "pictures.boxes": 2}
POOLED = {"pictures.pooled": True}
EXPAND = {**POOLED, "pictures.expand": True}
PICTURES: list[Row] = [
    Row("pictures.use", False, total, less, modes=ALL, shown="q"),
    Row("pictures.features", "RN50", shape("features"), lambda a, b: b[1:] == (GRID, 6), modes=EYES, shown="q"),
    Row("pictures.stored", "@others", tensor("features"), modes="aqgp", shown="q"),
    Row("pictures.encoder", "@nowhere", error, says("there is no file of weights"), modes="r"),
    Row("pictures.feature_width", 9, error, says("expected 9"), modes=EYES, shown="q"),
    Row("pictures.box_width", 5, error, says("pictures.box_width"), shown="q", modes=ALL),
    Row("pictures.image_size", [64, 64], shape("pixels"), lambda a, b: (a[3:], b[3:]) == ((32, 32), (64, 64)),
        modes="r"),
    Row("pictures.augment", True, tensor("pixels"), modes="r"),
    Row("pictures.pooled", True, lambda seen: seen.tokens, becomes(GRID, 1), modes="gr", shown="g"),
    Row("pictures.order_embedding", False, total, less, modes=EYES, shown="q"),
    Row("pictures.layer_norm", False, total, less, modes=EYES, shown="q"),
    Row("pictures.individual_layer_norm", False, total, less, modes=EYES, shown="q",
        idle=({"pictures.layer_norm": False},)),
    Row("pictures.shared_layer_norm", True, loss, base=BART, modes=EYES, shown="q"),
    Row("pictures.boxes", 1, lambda seen: seen.tokens, lambda a, b: a > b == 1, modes="aqp", shown="q"),
    Row("pictures.boxes", 4, lambda seen: seen.tokens, becomes(36, 4), {"pictures.line": True}, modes="aqp", shown="g"),
    Row("pictures.max_boxes", 1, captioned, lambda a, b: a > b == 1, modes="a", idle=({"pictures.sparse": True},)),
    Row("pictures.embedding_layers", 1, total, more, modes=EYES, shown="q"),
    Row("pictures.grid", True, lambda seen: seen.tokens, becomes(GRID, 4), {"pictures.boxes": 4}, modes="gr",
        shown="g"),
    Row("pictures.line", True, loss, base={"pictures.boxes": 2}, modes="qgr", shown="q"),
    Row("pictures.sparse", True, loss, base={"pictures.boxes": 2}, modes="qgr", shown="g"),
    Row("pictures.reduce", "mean", loss, base=LINE, modes="qgr", shown="q", idle=({"pictures.line": False},)),
    Row("pictures.expand", True, lambda seen: seen.tokens, becomes(1, 4), POOLED, modes="gr", shown="g"),
    Row("pictures.expand_tokens", 3, lambda seen: seen.tokens, becomes(4, 3), EXPAND, modes="gr", shown="g",
        idle=({"pictures.expand": False},)),
    Row("pictures.transformer", True, total, more, modes=EYES, shown="q"),
]  # fmt: skip

BOTTLENECK = {"adapt.bottleneck": True, "adapt.reduction_factor": 4}
COMPACTER = {"adapt.compacter": True, "adapt.division": 2, "adapt.reduction_factor": 2}
LOW = {"adapt.low_rank": True, "adapt.reduction_factor": 4}
HYPER = {"adapt.hyperformer": True, "adapt.efficient": True, "adapt.projection": 4}
LORA = {"adapt.lora": True}
PROMPTS = {"adapt.encoder_prompts": 2, "adapt.prompt_width": 8}
VISION = {"adapt.vision": True}
SEVERAL = "agrtp"
NONE = ({"adapt.bottleneck": False},)
ADAPT: list[Row] = [
    Row("adapt.bottleneck", True, trainable, less, shown="q"),
    Row("adapt.compacter", True, trainable, less, {"adapt.division": 2, "adapt.reduction_factor": 2}, shown="q"),
    Row("adapt.low_rank", True, trainable, less, {"adapt.reduction_factor": 4}, shown="q"),
    Row("adapt.hyperformer", True, trainable, base={"adapt.efficient": True, "adapt.projection": 4}, shown="q"),
    Row("adapt.single", True, trainable, less, BOTTLENECK, modes=SEVERAL, shown="a", idle=NONE),
    Row("adapt.reduction_factor", 2.0, trainable, more, BOTTLENECK, shown="q", idle=NONE),
    Row("adapt.cross_attention", False, trainable, less, BOTTLENECK, shown="q", idle=NONE),
    Row("adapt.norm_before", True, trainable, more, BOTTLENECK, shown="q", idle=NONE),
    Row("adapt.norm_after", True, trainable, more, BOTTLENECK, shown="q", idle=NONE),
    Row("adapt.share_down", True, trainable, less, BOTTLENECK, modes=SEVERAL, shown="a",
        idle=({"adapt.single": True},)),
    Row("adapt.share_up", True, trainable, less, BOTTLENECK, modes=SEVERAL, shown="a", idle=({"adapt.single": True},)),
    Row("adapt.division", 3, trainable, base=COMPACTER, shown="q", idle=({"adapt.compacter": False},)),
    Row("adapt.factorized", False, trainable, more, COMPACTER, shown="q", idle=({"adapt.compacter": False},)),
    Row("adapt.phm_rank", 2, trainable, more, COMPACTER, shown="q", idle=({"adapt.factorized": False},)),
    Row("adapt.shared_rule", False, trainable, more, COMPACTER, shown="q", idle=({"adapt.compacter": False},)),
    Row("adapt.shared_rule_over_tasks", True, trainable, less, {**COMPACTER, "adapt.shared_rule": False},
        shown="a", idle=({"adapt.shared_rule": True},)),
    Row("adapt.init_range", 0.5, rules, base=COMPACTER, shown="q",
        idle=({"adapt.compacter": False},)),
    Row("adapt.low_rank_rank", 2, trainable, more, LOW, shown="q", idle=({"adapt.low_rank": False},)),
    *(Row(f"adapt.{form}", True, error, lambda a, b: "exactly one" in a and b is None,
          {"adapt.hyperformer": True, "adapt.projection": 4}, shown="q", idle=({"adapt.hyperformer": False},))
      for form in ("unique", "efficient")),
    Row("adapt.projection", 8, trainable, more, HYPER, shown="q", idle=({"adapt.hyperformer": False},)),
    Row("adapt.vision", True, trainable, lambda a, b: a != b, modes="r"),
    Row("adapt.vision_type", "front-bottleneck", trainable, base=VISION, modes="r", idle=({"adapt.vision": False},)),
    Row("adapt.vision_reduction_factor", 8.0, trainable, less, VISION, modes="r", idle=({"adapt.vision": False},)),
    Row("adapt.vision_without_batch_norm", True, trainable, less, VISION, modes="r", idle=({"adapt.vision": False},)),
    Row("adapt.head", True, trainable, more, BOTTLENECK, shown="q"),
    Row("adapt.lora", True, trainable, more, BOTTLENECK, shown="q"),
    Row("adapt.lora_rank", 8, trainable, more, LORA, shown="q", idle=({"adapt.lora": False},)),
    Row("adapt.lora_alpha", 64.0, later(3), base=LORA, shown="q", idle=({"adapt.lora": False},)),
    Row("adapt.single_lora", True, trainable, less, LORA, modes=SEVERAL, shown="a", idle=({"adapt.lora": False},)),
    Row("adapt.encoder_prompts", 2, trainable, base={**BOTTLENECK, "adapt.prompt_width": 8}, shown="q"),
    Row("adapt.decoder_prompts", 2, trainable, base={**BOTTLENECK, "adapt.prompt_width": 8}, shown="q"),
    Row("adapt.single_prompt", True, trainable, less, PROMPTS, modes=SEVERAL, shown="a",
        idle=({"adapt.encoder_prompts": 0},)),
    Row("adapt.prompt_width", 16, trainable, more, PROMPTS, shown="q", idle=({"adapt.encoder_prompts": 0},)),
    Row("adapt.prefix", True, trainable, base={**BOTTLENECK, "adapt.prompt_width": 8}, shown="q"),
    Row("adapt.prefix_length", 3, trainable, less, {"adapt.prefix": True, "adapt.prompt_width": 8}, shown="q",
        idle=({"adapt.prefix": False},)),
    Row("adapt.track_z", True, lambda seen: "z" in seen.terms, becomes(False, True), BOTTLENECK, shown="q",
        idle=NONE),
    Row("adapt.z_weight", 0.5, lambda seen: seen.objective.coefficients["z"], becomes(0.001, 0.5),
        {**BOTTLENECK, "adapt.track_z": True}, shown="q", idle=({"adapt.track_z": False},)),
]  # fmt: skip

FROZEN = {"unfreeze.language_model": False}
WHOLE = ({"unfreeze.language_model": True},)
UNFREEZE: list[Row] = [
    Row("unfreeze.language_model", False, trainable, less, shown="q"),
    Row("unfreeze.head", True, trainable, more, FROZEN, shown="q", idle=WHOLE),
    Row("unfreeze.layer_norms", True, trainable, more, FROZEN, shown="q", idle=WHOLE),
    Row("unfreeze.batch_norms", True, trainable, more, FROZEN, modes="r", idle=({"unfreeze.vision": True},)),
    Row("unfreeze.vision", True, trainable, more, FROZEN, modes="r"),
    Row("unfreeze.vision_last_layer", True, trainable, more, FROZEN, modes="r", idle=({"unfreeze.vision": True},)),
    Row("unfreeze.hold_layer_norms", True, note("layer norms"), lambda a, b: not a and "nothing" in b[0], shown="q"),
    Row("unfreeze.hold_batch_norms", True, note("batch norms"), lambda a, b: not a and "keep" in b[0], modes="r"),
    Row("peft.method", "low_rank", trainable, less, shown="q"),
    Row("peft.options", {"reduction_factor": 4}, trainable, more, {"peft.method": "bottleneck"}, shown="q",
        idle=({"peft.method": None},)),
    Row("peft.train", ["*layer_norm*"], trainable, less, shown="q"),
]  # fmt: skip

GENERATE: list[Row] = [
    Row("generate.beams", 2, speech("beams"), becomes(1, 2), shown="q", idle=({"model.classifier": True},)),
    Row("generate.beams_everywhere", True, speech("everywhere"), becomes(False, True), {"generate.beams": 2},
        shown="q", idle=({"generate.beams": 1},)),
    Row("generate.max_length", 5, speech("max_length"), becomes(2, 5), shown="q"),
    Row("log.train_accuracy", True, lambda seen: {*seen.terms} - {"answers", "words"},
        lambda a, b: not a and b <= {"refcoco_accuracy", "vcr_accuracy"} and b, modes="a"),
]  # fmt: skip

KINDS = "pretraining.losses"
PRETRAINING: list[Row] = [
    Row("objective", "pretraining", lambda seen: "dev/lm/loss" in seen.experiment.metrics, becomes(False, True),
        {"pretraining.losses": ["lm"]}, shown="q"),
    Row(KINDS, ["caption"], size_of("train"), less, modes="p"),
    Row("pretraining.word_mask_rate", 0.7, of_kind("lm"), modes="p", idle=({KINDS: ["qa"]},)),
    Row("pretraining.object_mask_rate", 0.9, hidden, more, modes="p", idle=({KINDS: ["qa"]},)),
    Row("pretraining.grounded", 2, of_kind("refer"), modes="p", idle=({KINDS: ["qa"]},)),
    Row("pretraining.ground_copies", 3, size_of("train"), more, modes="p", idle=({KINDS: ["qa"]},)),
    Row("pretraining.ground_weight", 0.5, lambda seen: sorted(set(seen.every["weight"].tolist())),
        lambda a, b: 0.5 in b and 0.5 not in a, modes="p", idle=({KINDS: ["qa"]},)),
    Row("pretraining.itm_captions_only", False, of_kind("itm"), modes="p"),
    Row("pretraining.caption_captions_only", False, size_of("train"), more, modes="p"),
    Row("pretraining.captions_only", True, size_of("train"), less, {KINDS: ["lm", "caption"]}, modes="p"),
    Row("pretraining.coco_only", True, size_of("train"), less, {KINDS: ["lm", "caption"]}, modes="p"),
    Row("pretraining.one_question_prefix", True, of_kind("qa"), modes="p", idle=({KINDS: ["lm"]},)),
]  # fmt: skip


def processes(seen: Seen) -> Any:
    return seen.loaded.config.compute.processes


ENGINE: list[Row] = [
    Row("recipe", "long_range", error, lambda a, b: a is None and b is not None, shown="q"),
    Row("seed", 4, loss, shown="q"),
    Row("update.batch_size", 4, lambda seen: len(seen.batch), becomes(8, 4), shown="q"),
    Row("update.accumulation", 2, lambda seen: len(seen.batches(0)), becomes(1, 2), shown="q"),
    Row("loading.bucketing", True, error, says("like length"), shown="q"),
    Row("budget.epochs", 3, lambda seen: seen.plan.total_updates, more, {"budget.updates": None}, shown="q"),
    Row("debug.limit", 6, size_of("train"), becomes(32, 6), shown="q"),
    Row("compute.multi_gpu", True, processes, becomes(None, "auto"), shown="q"),
    Row("compute.distributed", True, processes, becomes(None, "auto"), shown="q"),
    Row("compute.local_rank", 7, error, says("no launcher"), shown="q"),
    Row("compute.deepspeed", "zero.json", error, says("DeepSpeed"), shown="q"),
]  # fmt: skip

ROWS = list(chain(DATA, TEXT, MIXING, PRETRAINING, MODEL, PICTURES, ADAPT, UNFREEZE, GENERATE, ENGINE))


OPTIMIZER = ("learning_rate", "beta1", "beta2", "separate_vision", "vision_learning_rate", "vision_weight_decay",
             "vision_adam")  # fmt: skip
SHARED: dict[str, tuple[str, ...]] = {
    **SHOWN_BY_THE_ENGINE,
    "recipes/vision_language/test_submitted.py": ("evaluate.only", "evaluate.submit"),
    "recipes/vision_language/test_optimizer_settings.py": (
        *(f"optimizer.{key}" for key in OPTIMIZER),
        "schedule.warmup_ratio",
        "schedule.to_zero",
    ),
    "recipes/retrieval/settings_rows.py": (
        *(f"chunking.{key}" for key in ("samples", "tokens", "graphs", "graph_memory")),
        *(f"evaluate.{key}" for key in ("every", "at_start", "batch_size", "max_batches", "metric")),
        *(f"run.{key}" for key in ("name", "dir", "note")),
        *("budget.updates", "budget.stop_at", "checkpoint.every", "checkpoint.keep", "init_from", "log.every"),
        *("log.console", "optimizer.kind", "loading.window"),
    ),
}
"""Files of tests -> the settings of which they show the effect, in whatever recipe."""
