"""Rules between the settings of the retrieval recipe."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from quincunx.config.schema import Rule
from quincunx.config.sections.rules import RULES as SHARED_RULES
from quincunx.recipes.retrieval.rules_data import DATA_RULES
from quincunx.recipes.retrieval.rules_objective import NEEDED, OBJECTIVE_RULES, embedding_width, embeds

SMALLER_IS_BETTER = ("loss", "first_rank", "avg_rank_first")
"""Last words of metrics that should shrink; all measures of rankings but these grow."""


def wrong_width(config: Any, width: int) -> str | None:
    """Return what is wrong when embeddings have this width; None when nothing is. For the build, which knows it."""
    wanted = config.encoder.embedding_dim
    if wanted is None or wanted == width or config.mode == "cross-encoder":
        return None
    return (
        f"encoder.embedding_dim is {wanted}, but embeddings have width {width}; write that, or set encoder.projection "
        f"to {wanted} for a trained layer of this width"
    )


def _nothing_trained(config: Any) -> bool:
    """Tell whether all that is not frozen has no weights."""
    poly, chosen = config.mode == "poly-encoder", config.encoder
    poolings = [config.document.pooling, *([] if poly else [config.query.pooling])]
    attends = "attention" in (each or chosen.pooling for each in poolings)
    learns = poly and (config.poly.kind == "codes" or config.poly.final_attention == "multihead")
    frozen = chosen.freeze == "backbone" and config.peft.method is None and chosen.projection is None
    return embeds(config) and frozen and not attends and not learns


def _too_deep(config: Any) -> bool:
    cuts = [int(found[1]) for name in config.evaluate.measures if (found := re.search(r"_(\d+)$", name))]
    return embeds(config) and config.evaluate.mode != "pooled" and max(cuts, default=0) > config.evaluate.depth


def _too_long(config: Any) -> bool:
    longest = max(config.query.max_length or 0, config.document.max_length or 0)
    longest = max(longest, config.cross.max_length or 0 if config.mode == "cross-encoder" else 0)
    return config.encoder.path is None and longest > config.encoder.build.positions


def _unknown_goal(config: Any) -> bool:
    """Tell whether a metric is none of those whose direction is known."""
    metric = config.evaluate.metric
    if metric is None or config.evaluate.goal is not None:
        return False
    measure = metric.rpartition("/")[2]
    family = re.fullmatch(
        r"(?:ndcg|map|recip_rank|P|recall|success|Rprec|set_\w+)(?:_cut)?(?:_at_R)?(?:_\d+)?", measure
    )
    return family is None and measure not in SMALLER_IS_BETTER


RULES: tuple[Rule, ...] = (
    *DATA_RULES,
    Rule(
        name="own-encoder-is-not-shared",
        paths=("encoder.share", "document.path"),
        applies=lambda config: (
            embeds(config) and config.document.path is not None and config.encoder.share in ("all", "backbone")
        ),
        message="document.path names an encoder of its own, encoder.share {encoder.share} shares that of queries",
        remedy="keep one of the two",
        failing={"encoder.share": "all", "document.path": "there", "encoder.path": "here", **NEEDED},
    ),
    Rule(
        name="documents-encoder-and-no-queries",
        paths=("document.path",),
        applies=lambda config: embeds(config) and config.document.path is not None and config.encoder.path is None,
        message="document.path names an encoder for documents, and encoder.path none for queries: two encoders, one of "
        "them built from nothing, would have two tokenizers",
        remedy="set encoder.path as well",
        failing={"document.path": "there", **NEEDED},
    ),
    Rule(
        name="shared-backbone-has-heads",
        paths=("encoder.share",),
        applies=lambda config: (
            embeds(config) and config.encoder.share == "backbone" and config.encoder.projection is None
        ),
        message="encoder.share backbone gives each side a projection of its own, and there is none",
        remedy="set encoder.projection to a width, or encoder.share to all",
        failing={"encoder.share": "backbone", **NEEDED},
    ),
    Rule(
        name="width-as-declared",
        paths=("encoder.embedding_dim", "encoder.projection", "encoder.build.width"),
        applies=lambda config: (
            (width := embedding_width(config)) is not None and wrong_width(config, width) is not None
        ),
        message="encoder.embedding_dim is {encoder.embedding_dim}, but embeddings have another width: that of "
        "encoder.projection, or of the encoder without one",
        remedy="let the two agree; encoder.projection is what changes the width",
        failing={"encoder.embedding_dim": 768, "encoder.projection": 128, **NEEDED},
    ),
    Rule(
        name="heads-divide-the-built-width",
        paths=("encoder.build.num_heads", "encoder.build.width"),
        applies=lambda config: (
            config.encoder.path is None and config.encoder.build.width % config.encoder.build.num_heads != 0
        ),
        message="encoder.build.width ({encoder.build.width}) cannot be divided among encoder.build.num_heads "
        "({encoder.build.num_heads})",
        remedy="choose a width that is a multiple of the heads",
        failing={"encoder.build.width": 100, "encoder.build.num_heads": 3, **NEEDED},
    ),
    Rule(
        name="case-is-of-a-trained-tokenizer",
        paths=("encoder.tokenizer.lower_case", "encoder.tokenizer.path", "encoder.path"),
        applies=lambda config: (
            not config.encoder.tokenizer.lower_case
            and (config.encoder.path is not None or config.encoder.tokenizer.path is not None)
        ),
        message="encoder.tokenizer.lower_case is of a tokenizer that is trained here; one that is loaded takes case as "
        "it was made to",
        remedy="leave it out, and choose a tokenizer that tells upper from lower case",
        failing={"encoder.path": "m", "encoder.tokenizer.lower_case": False, **NEEDED},
        severity="warning",
    ),
    Rule(
        name="texts-fit-the-built-encoder",
        paths=("query.max_length", "document.max_length", "cross.max_length", "encoder.build.positions"),
        applies=_too_long,
        message="a max_length is above encoder.build.positions ({encoder.build.positions}), the longest text of the "
        "built encoder",
        remedy="raise encoder.build.positions, or lower max_length",
        failing={"document.max_length": 600, **NEEDED},
    ),
    Rule(
        name="cross-encoder-reranks",
        paths=("evaluate.mode", "mode"),
        applies=lambda config: not embeds(config) and config.evaluate.mode != "full",
        message="evaluate.mode {evaluate.mode} compares embeddings, and a cross-encoder has none",
        remedy="leave evaluate.mode out: candidates of BM25 (evaluate.rerank) are put in order",
        failing={"mode": "cross-encoder", "evaluate.mode": "pooled", **NEEDED},
    ),
    Rule(
        name="validator-compares-single-vectors",
        paths=("evaluate.mode", "mode"),
        applies=lambda config: config.evaluate.mode == "validator" and config.mode == "poly-encoder",
        message="evaluate.mode validator makes one vector of a text, and a poly-encoder's queries have several",
        remedy="leave evaluate.mode at full",
        failing={"evaluate.mode": "validator", "mode": "poly-encoder", **NEEDED},
    ),
    Rule(
        name="something-is-trained",
        paths=("encoder.freeze",),
        applies=_nothing_trained,
        message="encoder.freeze backbone leaves nothing to train: there is no projection and no pooling or code that "
        "learns",
        remedy="set encoder.projection or pooling attention, or freeze less",
        failing={"encoder.freeze": "backbone", "encoder.path": "here", **NEEDED},
    ),
    Rule(
        name="random-weights-stay-random",
        paths=("encoder.freeze",),
        applies=lambda config: (
            config.encoder.freeze != "nothing"
            and config.peft.method is None
            and config.encoder.path is None
            and config.init_from is None
        ),
        message="encoder.freeze {encoder.freeze} keeps weights at the random values that the encoder is built with",
        remedy="load an encoder by encoder.path or init_from, or freeze nothing",
        failing={"encoder.freeze": "embeddings", **NEEDED},
        severity="warning",
    ),
    *OBJECTIVE_RULES,
    Rule(
        name="adapters-of-random-weights",
        paths=("peft.method",),
        applies=lambda config: (
            config.peft.method is not None and config.encoder.path is None and config.init_from is None
        ),
        message="peft.method {peft.method} leaves the encoder at the random values that it is built with",
        remedy="load an encoder by encoder.path or init_from, or train all of it",
        failing={"peft.method": "lora", **NEEDED},
        severity="warning",
    ),
    Rule(
        name="freezing-and-training",
        paths=("encoder.freeze", "peft.train"),
        applies=lambda config: (
            config.peft.method is None and config.peft.train is not None and config.encoder.freeze != "nothing"
        ),
        message="encoder.freeze says what is not trained, peft.train what is",
        remedy="keep one of the two",
        failing={"encoder.freeze": "embeddings", "encoder.path": "m", "peft.train": ["encoder.*"], **NEEDED},
    ),
    Rule(
        name="measures-within-the-depth",
        paths=("evaluate.depth", "evaluate.measures"),
        applies=_too_deep,
        message="evaluate.measures looks at more ranks than evaluate.depth ({evaluate.depth}) leaves",
        remedy="raise evaluate.depth",
        failing={"evaluate.depth": 50, "evaluate.measures": ["recall_100"], **NEEDED},
    ),
    Rule(
        name="one-place-for-the-run",
        paths=("run.dir", "run.root", "run.version"),
        applies=lambda config: (
            config.run.dir is not None and (config.run.root is not None or config.run.version is not None)
        ),
        message="run.dir says where the run lives, and so do run.root and run.version",
        remedy="keep run.dir, or the others",
        failing={"run.dir": "here", "run.root": "there", **NEEDED},
    ),
    Rule(
        name="metric-without-goal",
        paths=("evaluate.metric",),
        applies=_unknown_goal,
        message="whether {evaluate.metric} should grow or shrink is not known",
        remedy="set evaluate.goal to max or min",
        failing={"evaluate.metric": "dev/spread", **NEEDED},
    ),
    *(replace(rule, failing={**rule.failing, **NEEDED}) for rule in SHARED_RULES if rule.name != "metric-without-goal"),
)
