"""A cross-encoder as the folder of a sequence classifier, which transformers and sentence-transformers both read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from quincunx.errors import UsageError
from quincunx.nn.pretrained import load_scorer
from quincunx.recipes.retrieval.backends.quiet import quiet
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data.tokenizing import PairSide, PairTokenizer
from quincunx.recipes.retrieval.export.opened import SIDES, Opened, limited, scores_of
from quincunx.recipes.retrieval.export.sentence_transformers import save_backbone
from quincunx.recipes.retrieval.model.cross_encoder import CrossEncoder
from quincunx.recipes.retrieval.written import check_near, write_json


def write_cross_encoder(folder: Path, opened: Opened) -> list[str]:
    """Write the folder, read it back, and compare its scores of a few pairs with the run's.

    Its scores are the model's own numbers, as the run's are: no sigmoid follows.

    Args:
        folder: Exists and is empty.
        opened: A cross-encoder.

    Returns:
        Sentences on what was compared.

    Raises:
        UsageError: Something that is done to a text of a pair before they are put together, which a folder cannot say.
        ExportError: What was written gives other scores.
    """
    pairs = opened.pairs
    assert pairs is not None
    _check(opened.config, pairs.max_length)
    tokenizer = limited(opened.tokenizer, pairs.max_length, opened.config.query.truncate)
    save_backbone(folder, opened.model.model, tokenizer)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    write_json(folder / "config.json", config)
    wanted, texts = opened.samples.vectors["score"], opened.samples.texts
    again, tokenizer, _ = load_scorer(folder)
    model = CrossEncoder(again.eval())
    side = PairSide(truncate=opened.config.query.truncate)
    reader = PairTokenizer(tokenizer, pairs.max_length, query=side, document=side)
    found = scores_of(model, reader, texts["query"], texts["document"])
    notes = [f"read back here: scores lie within {check_near(found, wanted, 'pairs read back'):.1e} of the run's"]
    try:
        import sentence_transformers
    except ImportError:
        return [*notes, "sentence-transformers is not installed here: its own reading of the folder was not tried"]
    rows = list(zip(texts["query"], texts["document"], strict=True))
    with quiet():
        theirs: Any = sentence_transformers.CrossEncoder(str(folder), device="cpu", local_files_only=True)
        scores = torch.as_tensor(theirs.predict(rows, show_progress_bar=False)).float()
    worst = check_near(scores, wanted, "pairs in sentence-transformers")
    version = sentence_transformers.__version__
    return [*notes, f"read by sentence-transformers {version}: scores lie within {worst:.1e} of the run's"]


def _check(config: RetrievalConfig, longest: int) -> None:
    for name in SIDES:
        side: Any = getattr(config, name)
        reason = None
        if side.prompt:
            reason = f"{name}.prompt {side.prompt!r}"
        elif side.max_length is not None and side.max_length < longest:
            reason = f"{name}.max_length {side.max_length}, while the pair has room for {longest}"
        if reason:
            raise UsageError(
                f"{reason}: a folder of sentence-transformers cannot say what is done to one text of a pair; use the "
                "run itself, or train without it"
            )
    if config.query.truncate != config.document.truncate:
        raise UsageError(
            f"queries are cut on the {config.query.truncate}, documents on the {config.document.truncate}: a folder of "
            "sentence-transformers names one side for both; use the run itself, or train without it"
        )
