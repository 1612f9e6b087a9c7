"""One contrastive training job and those who train it: our engine, and sentence-transformers as its pages show.

All start from one folder with a BERT encoder of MiniLM's shape and random weights, whose tokenizer knows words alone,
so that a text's words are its tokens.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Seconds, Watch

VOCABULARY, WIDTH, LAYERS, HEADS, LONGEST = 30_522, 384, 6, 12, 358
"""Of MiniLM-L6; longest passage in tokens, special tokens included."""
BATCH = 64
RATE = 1e-4
SCALE = 20.0
"""Cosines times this are the logits: temperature 0.05."""
WARM = 1
"""Updates before the clock starts."""


@dataclass(frozen=True)
class Job:
    """What everybody trains: one epoch over pairs, batches of 64 in whatever order the trainer shuffles them."""

    encoder: Path
    """Folder of sentence-transformers; also read by ours."""
    pairs: Path
    """Folder with train.jsonl: query and document."""
    count: int
    """Pairs."""

    @property
    def updates(self) -> int:
        return self.count // BATCH


@dataclass(frozen=True)
class Trained:
    """What came of it."""

    took: Seconds
    """By an update, without the first."""
    losses: list[float]
    """Of every update."""
    weights: Mapping[str, torch.Tensor]
    """Of the encoder, afterwards."""


def make(folder: Path, count: int, seed: int = 0, dropout: float = 0.0) -> Job:
    """Write encoder and pairs into a folder and return the job; passages have 106 tokens in the mean, queries 14."""
    encoder = _encoder(folder / "encoder", dropout)
    generator = np.random.default_rng(seed)
    pairs = folder / "pairs"
    pairs.mkdir()
    sizes = {
        "query": _lengths(generator, 14, 0.4, 40, count),
        "document": _lengths(generator, 106, 0.6, LONGEST, count),
    }
    with (pairs / "train.jsonl").open("w") as file:
        for row in range(count):
            texts = {
                side: " ".join(f"w{n}" for n in generator.integers(0, VOCABULARY - 5, size[row] - 2))
                for side, size in sizes.items()
            }
            file.write(json.dumps(texts) + "\n")
    return Job(encoder, pairs, count)


def _lengths(generator: np.random.Generator, mean: float, spread: float, most: int, count: int) -> np.ndarray:
    """Return log-normal lengths [count] in tokens, two of them special."""
    found = np.exp(generator.normal(np.log(mean) - spread**2 / 2, spread, count))
    return np.clip(np.rint(found), 4, most).astype(int)


def _encoder(folder: Path, dropout: float) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(f"w{n}" for n in range(VOCABULARY - len(special)))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {
            "hidden_size": WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "intermediate_size": 4 * WIDTH,
        }
        noise = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        config = BertConfig(vocab_size=VOCABULARY, **noise, **sizes)
        model = BertModel(config)
    plain = folder / "plain"
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    body = Transformer(str(plain), max_seq_length=LONGEST)
    SentenceTransformer(modules=[body, Pooling(WIDTH, "mean")], device="cpu").save(str(folder / "sentence"))
    return folder / "sentence"


def ours(job: Job, folder: Path, *, sgd: bool = False, **settings: Any) -> Trained:
    """Return what our engine makes of the job with all that a run has: folder, checkpoint, journal."""
    from quincunx import train
    from quincunx.engine.events import Callback, Progress

    watch, times, losses = Watch(), list[Seconds](), list[float]()

    class Observer(Callback):
        def update(self, update: int) -> None:
            times.append(watch.read())

        def log(self, progress: Progress) -> None:
            losses.append(progress.values["loss"])

    tree: dict[str, Any] = {
        "recipe": "retrieval",
        "seed": 1,
        "data": {"path": str(job.pairs), "cache": str(folder / "cache"), "dev_share": 0},
        "encoder": {"path": str(job.encoder)},
        "document": {"max_length": LONGEST},
        "query": {"max_length": LONGEST},
        "objective": {"temperature": 1 / SCALE, "similarity": "cosine"},
        "update": {"batch_size": BATCH, "clip_norm": None if sgd else 1.0},
        "budget": {"epochs": 1},
        "optimizer": {"learning_rate": RATE, "weight_decay": 0.0},
        "log": {"every": 1, "console": False},
        "compute": {"device": "cpu", "threads": torch.get_num_threads()},
        "run": {"dir": str(folder / "run")},
    }
    if sgd:
        tree["optimizer"] = {"_target_": "torch.optim.SGD", "lr": 1.0}
    changes = [f"{name}={value}" for name, value in settings.items()]
    run = train(tree, *changes, callbacks=[Observer()])
    from safetensors.torch import load_file

    found = load_file(run.checkpoint("last") / "model.safetensors")
    prefix = "query.backbone."
    weights = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    return Trained(_by_update(times), losses, weights)


def sentence_transformers(
    job: Job, folder: Path, *, cached: bool = False, sgd: bool = False, **options: Any
) -> Trained:
    """Return what the trainer of sentence-transformers makes of it with MultipleNegativesRankingLoss."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from transformers import TrainerCallback

    watch, times = Watch(), list[Seconds]()

    class Observer(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(watch.read())

    model = SentenceTransformer(str(job.encoder), device="cpu")
    rows = [json.loads(line) for line in (job.pairs / "train.jsonl").read_text().splitlines()]
    data = Dataset.from_dict({"anchor": [row["query"] for row in rows], "positive": [row["document"] for row in rows]})
    loss: Any = MultipleNegativesRankingLoss(model, scale=SCALE)
    if cached:
        loss = CachedMultipleNegativesRankingLoss(model, scale=SCALE, **options)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "st"),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=0.0 if sgd else 1.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    given = (torch.optim.SGD(model.parameters(), lr=1.0), None) if sgd else (None, None)
    trainer = SentenceTransformerTrainer(model, arguments, data, loss=loss, callbacks=[Observer()], optimizers=given)
    with redirect_stdout(io.StringIO()):  # it prints every line of its log
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = {
        name.split("auto_model.")[-1].removeprefix("0.model."): value.detach()
        for name, value in model.state_dict().items()
    }
    return Trained(_by_update(times), losses, weights)


def _by_update(times: list[Seconds]) -> Seconds:
    """Return what an update took after the first `WARM`; nan where there are no more."""
    first, last, count = times[WARM - 1], times[-1], len(times) - WARM
    if count < 1:
        return Seconds(math.nan, math.nan)
    return Seconds(last.wall - first.wall, last.cpu - first.cpu) / count


Contestant = Callable[[Job, Path], Trained]
