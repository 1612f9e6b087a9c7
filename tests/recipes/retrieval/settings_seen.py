"""What is seen of a config: its batches, model, first losses and evaluations, or the folder of a whole small run."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from quincunx.cli import run as command
from quincunx.engine.loop import evaluate
from quincunx.engine.step import Step
from quincunx.metrics.record import Evaluation
from quincunx.nn.pretrained import build_backbone, train_tokenizer
from quincunx.recipes.retrieval.data.batch import RetrievalBatch
from quincunx.recipes.retrieval.data.cross_source import pairs_of
from quincunx.seeds import address
from settings_looked_at import LookedAt, no_pictures, tree_of
from toys import cpu

MODES = {"b": "bi-encoder", "p": "poly-encoder", "c": "cross-encoder"}
QUERIES = 20
WORDS = [
    "Sun", "moon", "tide", "reef", "kelp", "crab", "gull", "sand", "foam", "wind", "rain", "salt", "wave", "fish",
    "boat", "rope", "mast", "sail", "deck", "port", "storm", "cloud", "pearl", "whale", "squid", "cliff", "dune",
    "cove", "isle", "bay", "coral", "otter", "drift"
]  # fmt: skip
SMALL: dict[str, Any] = {
    "seed": 3,
    "data.dev_share": 0.2,
    "encoder.build.num_layers": 1,
    "encoder.build.width": 16,
    "encoder.build.num_heads": 2,
    "encoder.build.hidden": 16,
    "encoder.build.positions": 40,
    "encoder.build.options": {"initializer_range": 0.3},
    "encoder.tokenizer.vocabulary": 200,
    "encoder.dropout": 0.0,
    "encoder.attention_dropout": 0.0,
    "poly.codes": 3,
    "update.batch_size": 8,
    "budget.updates": 2,
    "chunking.tokens": None,
    "evaluate.measures": ["recip_rank", "map"],
    "compute.device": "cpu",
    "compute.threads": 1,
    "compute.precision": "float32",
}
"""Of every config here; what acts in some modes alone is left out where a config is only judged."""


def write_sets(folder: Path) -> dict[str, Any]:
    """Write the same queries and documents in several forms and return where each is, by name."""
    # documents that begin with one word are the same text where only that is kept
    texts = [
        " ".join([WORDS[n % 12], *(WORDS[(n * k + k) % len(WORDS)] for k in range(2, 3 + n % 7))]) for n in range(30)
    ]
    texts[7] = texts[3]  # two documents of one text
    asked = [" ".join(WORDS[(n + k) % len(WORDS)] for k in range(1 + n % 3)) + f" {n}" for n in range(QUERIES)]
    judged = [(n, (n + 3 * k) % len(texts), grade) for n in range(QUERIES) for k, grade in enumerate((1, 2, 3, 0))]
    parts = {"train": range(14), "test": range(14, QUERIES)}
    sets = {"beir": _beir(folder / "beir", texts, asked, judged, parts)}
    sets["three"] = _beir(
        folder / "three", texts, asked, judged, {**parts, "test": range(15, 20), "dev": range(14, 17)}
    )
    sets["both"] = _beir(folder / "both", texts, asked, judged, parts)
    rows = {"collection": enumerate(texts), "queries": enumerate(asked)}
    lines = {name: "".join(f"{n}\t{text}\n" for n, text in found) for name, found in rows.items()}
    lines["qrels"] = "".join(f"{q}\t0\t{d}\t{grade}\n" for q, d, grade in judged)
    for name, text in lines.items():
        (folder / "both" / f"{name}.tsv").write_text(text)
        (folder / f"{name}.tsv").write_text(text)
        (folder / f"other-{name}.tsv").write_text("".join(text.splitlines(keepends=True)[::-1]))
        sets[name], sets[f"other-{name}"] = str(folder / f"{name}.tsv"), str(folder / f"other-{name}.tsv")
    taught = [
        {"query": asked[n], "positive": texts[n], "negative": [texts[n + 3 + k] for k in range(4)],
         "score": [5.0, 1.0, 2.0, 0.5, n / 9]}
        for n in range(14)
    ]  # fmt: skip
    for name, bad in (("triplets", []), ("bad", [{"query": "no more"}] * 4)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*taught, *bad]))
        sets[name] = str(folder / f"{name}.jsonl")
    tokenizer = train_tokenizer([*texts, *asked, "query: document: "], vocabulary=300, max_length=32)
    for name, width in (("encoder", 16), ("wider", 24)):
        sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        torch.manual_seed(1)
        build_backbone({"architecture": "bert", **sizes}, tokenizer).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        sets[name] = str(folder / name)
    return sets


def _beir(folder: Path, texts: list[str], asked: list[str], judged: list[Any], splits: Mapping[str, range]) -> str:
    (folder / "qrels").mkdir(parents=True)
    for name, found in (("corpus", texts), ("queries", asked)):
        rows = [{"_id": str(n), "text": text} for n, text in enumerate(found)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, numbers in splits.items():
        rows = [f"{q}\t{d}\t{grade}\n" for q, d, grade in judged if q in numbers]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return str(folder)


class Seen(LookedAt):
    """What is seen of settings; each thing is computed when it is first looked at."""

    recipe = "retrieval"

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        super().__init__({"data.cache": str(folder / "cache"), **settings}, folder)

    def batches(self, update: int) -> list[Any]:
        """Return an update's logical batches."""
        return [
            self.experiment.collate(numbers.tolist(), numbers.tolist(), range(len(numbers)), address(7, update))
            for numbers in self.order.update(update)
        ]

    @cached_property
    def tokens(self) -> list[list[int]]:
        """What the encoder reads of the first logical batch: queries, then documents; or pairs."""
        batch = self.batches(0)[0]
        if isinstance(batch, RetrievalBatch):
            sides = [batch.sides[name] for name in ("query", "document")]
            rows = [(row, n) for side in sides for row, n in zip(side["tokens"], side["lengths"], strict=True)]
        else:
            pairs = pairs_of(batch, 0)
            rows = list(zip(pairs.tokens, pairs.lengths, strict=True))
        return [row[: int(n)].tolist() for row, n in rows]

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text, or pair, of the first logical batch."""
        return max(map(len, self.tokens))

    def learn(self, updates: int, rate: float = 0.0) -> list[dict[str, float]]:
        """Return the terms of some updates' losses, plain gradient steps of a rate between them; of a copy."""
        model, objective = copy.deepcopy((self.model, self.objective))
        with _Watched(model) as self.shapes:
            return self.descend(Step(model.train(), objective.train(), cpu(), self.plan, seed=5), updates, rate)

    @cached_property
    def terms(self) -> dict[str, float]:
        """The terms of the first update's loss."""
        return self.learn(1)[0]

    @cached_property
    def loss(self) -> dict[str, float]:
        """Those that are learnt from."""
        factors = self.objective.coefficients
        return {term: value for term, value in self.terms.items() if factors.get(term, 1.0)}

    @property
    def forwards(self) -> list[tuple[int, ...]]:
        """Texts and tokens of each forward pass of the first update."""
        self.learn(1)
        return self.shapes

    def evaluated(self, *splits: str) -> dict[str, Evaluation]:
        """Return the evaluations of splits, one after another."""
        every = {**self.experiment.evaluators, **self.experiment.final_evaluators}
        return {split: evaluate(self.model, every[split], cpu(), self.plan) for split in splits}

    @cached_property
    def dev(self) -> Evaluation:
        """The evaluation on the development set."""
        with _Watched(self.model) as self.evaluation_shapes:
            return self.evaluated("dev")["dev"]

    @property
    def at_once(self) -> list[tuple[int, ...]]:
        """Texts and tokens of each forward pass of that evaluation."""
        self.dev
        return self.evaluation_shapes

    @cached_property
    def encoded(self) -> int:
        """Texts that evaluations on both sets encode."""
        with _Watched(self.model) as shapes:
            self.evaluated("dev", "test")
        return sum(shape[0] for shape in shapes)

    @cached_property
    def cached(self) -> list[str]:
        """Files that building left in the folder of prepared data."""
        self.experiment
        folder = self.folder / "cache"
        return sorted(path.name.partition("-")[0] for path in folder.rglob("*") if path.is_file())

    def given_to_run(self) -> Mapping[str, Any]:
        given = {"run.dir": str(self.folder / "run"), "evaluate.every": 1, "checkpoint.every": 1, **self.settings}
        if given.get("run.root") or given["run.dir"] is None:
            del given["run.dir"]
        return given

    @cached_property
    def printed(self) -> str:
        """What the command line prints of the run."""
        file = self.folder / "config.json"
        file.write_text(json.dumps(tree_of(self.recipe, {**self.settings, "run.dir": str(self.folder / "printed")})))
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out), no_pictures():
            code = command(["train", str(file)])
        assert code == 0, out.getvalue()
        return out.getvalue()

    @property
    def files(self) -> list[str]:
        """Files and folders of the run's folder and of its checkpoints."""
        path = self.run.path
        return sorted(str(file.relative_to(path)) for pattern in ("*", "checkpoints/*") for file in path.glob(pattern))

    @property
    def weights(self) -> torch.Tensor:
        """All weights that the run ended with."""
        return torch.cat([value.flatten() for value in self.run.model("last").state_dict().values()])


class _Watched:
    """Collects the shapes of what a model's encoders read, before padding is taken out of it."""

    def __init__(self, model: Any) -> None:
        sides = [getattr(model, name) for name in ("query", "document") if hasattr(model, name)]
        named = [(side, "read") for side in {id(side): side for side in sides}.values()]
        self._watched = named or [(model, "forward")]
        self.shapes: list[tuple[int, ...]] = []

    def __enter__(self) -> list[tuple[int, ...]]:
        for module, name in self._watched:
            setattr(module, name, self._watching(getattr(module, name)))
        return self.shapes

    def _watching(self, function: Any) -> Any:
        def watching(tokens: torch.Tensor, *rest: Any) -> Any:
            self.shapes.append(tuple(tokens.shape))
            return function(tokens, *rest)

        return watching

    def __exit__(self, *exception: object) -> None:
        for module, name in self._watched:
            delattr(module, name)
