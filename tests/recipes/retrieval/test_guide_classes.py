"""The classes of guide 001's template and of its two packages, seen from a run that its own kind of file describes.

The page `docs/retrieval_guides.md` maps each class to what serves it, and names the test that shows it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from quincunx import Run, evaluate, load, train
from quincunx.index.exact import search
from quincunx.recipes import recipe_of
from quincunx.recipes.retrieval.collections import read_collections
from quincunx.recipes.retrieval.data.tokenizing import TextTokenizer
from quincunx.recipes.retrieval.evaluate import ranker as ranking
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from small_encoders import SENTENCES, backbone, tokenizer

ARGS = """
from dataclasses import dataclass, field
from typing import List, Optional


@dataclass
class DataArguments:
    batch_size: int = 5
    val_batch_size: int = 3
    num_workers: int = 0
    cache_dir: str = "{folder}/cache"
    collection_path: str = "{folder}/collection.tsv"
    query_path: str = "{folder}/queries.tsv"
    qrels_path: str = "{folder}/qrels.tsv"
    val_collection_path: str = "{folder}/val_collection.tsv"
    val_query_path: str = "{folder}/val_queries.tsv"
    val_qrels_path: str = "{folder}/val_qrels.tsv"
    lazy_tokenize: bool = True
    query_max_length: int = 6
    passage_max_length: int = 11


@dataclass
class ModelArguments:
    tokenizer_name_or_path: str = "{folder}/tokenizer"
    model_name_or_path: str = "{folder}/model"
    embedding_dim: int = 16
    load_checkpoint_path: Optional[str] = None


@dataclass
class Optimizer:
    _target_: str = "torch.optim.SGD"
    lr: float = 0.1
    momentum: float = 0.5


@dataclass
class LinearScheduler:
    _target_: str = "transformers.get_linear_schedule_with_warmup"
    num_warmup_steps: int = 2
    num_training_steps: int = 8


@dataclass
class TrainingArguments:
    name_prefix: str = "Dense"
    version: str = "1"
    save_dir: str = "{folder}/checkpoints"
    notes: str = "a note"
    tags: List[str] = field(default_factory=lambda: ["dense"])
    steps_between_save: int = 3
    steps_between_val: int = 4
    save_checkpoints: bool = True
    log: bool = False
    optimizer: Optimizer = Optimizer(lr=0.05)
    lr_scheduler: Optional[LinearScheduler] = LinearScheduler()
    verbose: bool = False
    max_epochs: int = 4
    gradient_accumulation_steps: int = 2
    gradient_clipping: Optional[float] = 1.0
    run_val_check: bool = True
"""
"""20 queries by 5, by 2 of them: two updates an epoch."""


def text(number: int, longest: int) -> str:
    draw = np.random.default_rng(number)
    words = " ".join(SENTENCES).split()
    return " ".join(draw.choice(words, draw.integers(2, longest)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder, a tokenizer elsewhere, and the six files."""
    folder = tmp_path_factory.mktemp("template")
    backbone().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "tokenizer")
    for prefix, count, shift in (("", 20, 0), ("val_", 9, 100)):
        documents = [f"p{n}\t{text(shift + n, 20)}\n" for n in range(count + 4)]
        queries = [f"{n}_q\t{text(shift + 50 + n, 8)}\n" for n in range(count)]
        qrels = [f"{n}_q\t0\tp{n}\t{1 + n % 2}\n" for n in range(count)] + ["0_q\t0\tp3\t0\n", "1_q\t0\tp4\t2\n"]
        for name, lines in (("collection", documents), ("queries", queries), ("qrels", qrels)):
            (folder / f"{prefix}{name}.tsv").write_text("".join(lines), encoding="utf-8")
    (folder / "args.py").write_text(ARGS.replace("{folder}", str(folder)), encoding="utf-8")
    return folder


STILL = ("compute.device=cpu", "compute.threads=1", "compute.precision=float32", "seed=3")


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    """What the file of dataclasses describes, trained."""
    return train(home / "args.py", *STILL, "log.every=1")


def test_the_templates_file_trains_into_the_folder_that_it_names(run, home):
    """The loop of its `train.py`: steps, validation before the first and every 4, checkpoints every 3."""
    assert run.path == home / "checkpoints/Dense_1"
    assert run.summary["state"] == "finished"
    assert [update for update, _ in run.metrics("train/loss")] == list(range(1, 9))
    assert [update for update, _ in run.metrics("dev/ndcg_cut_10")] == [0, 4, 8]
    assert run.checkpoint("update-00000006").is_dir()


def test_optimizer_and_schedule_are_those_of_the_file(home, tmp_path, monkeypatch):
    """`_target_`s with their arguments, built round the parameters: a linear schedule's rates, clipped steps."""
    rates: list[float] = []
    norms: list[float] = []
    original = torch.optim.SGD.step

    def step(self: torch.optim.SGD, closure: None = None) -> None:
        [group] = self.param_groups
        rates.append(group["lr"])
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in group["params"] if p.grad is not None])))
        assert group["momentum"] == 0.5
        original(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    clip = ["train_args.gradient_clipping=0.01", "train_args.run_val_check=false", "train_args.steps_between_val=8"]
    train(home / "args.py", *STILL, *clip, f"train_args.save_dir={tmp_path}")
    assert rates == pytest.approx([0.05 * (n / 2 if n < 2 else (8 - n) / 6) for n in range(8)])
    assert norms == pytest.approx([0.01] * 8, rel=1e-4)


def test_the_model_gives_the_state_of_the_first_token(run):
    """`EmbeddingModel`: what transformers' own model has at CLS, for queries and passages alike."""
    model: Any = run.model()
    assert model.query is model.document
    tokens = torch.tensor([tokenizer()("the quick brown fox")["input_ids"]])
    with torch.no_grad():
        expected = model.query.backbone(input_ids=tokens).last_hidden_state[:, 0]
        for side in ("query", "document"):
            torch.testing.assert_close(model.encode(tokens, torch.tensor([tokens.shape[1]]), side), expected)


def tokens_of(run: Run, side: str) -> TextTokenizer:
    longest = {"query": 6, "document": 11}[side]
    return TextTokenizer(tokenizer(), longest)


def test_the_validator_measures_what_its_files_hold(run):
    """By hand: every passage of the validation's own collection, inner products of what the model gives."""
    held = read_collections(run.config).evaluated["dev"]
    assert len(held.documents) == 13
    model: Any = run.model("last")

    def vectors(texts: Any, side: str) -> torch.Tensor:
        found = tokens_of(run, side)([texts.text(n) for n in range(len(texts))])
        rows = [torch.from_numpy(one.astype(np.int64))[None] for one in found]
        with torch.no_grad():
            return torch.cat([model.encode(row, torch.tensor([row.shape[1]]), side) for row in rows])

    scores = vectors(held.queries, "query") @ vectors(held.documents, "document").T
    gains: list[float] = []
    firsts: list[float] = []
    for query in range(9):
        grades = dict(
            zip(held.relevant.of(query).tolist(), held.relevant.grades[held.relevant.span(query)], strict=True)
        )
        ranked = scores[query].argsort(descending=True).tolist()
        best = sorted((max(int(grade), 0) for grade in grades.values()), reverse=True)[:10]
        found = [max(int(grades.get(document, 0)), 0) for document in ranked]
        ideal = sum(grade / math.log2(place + 2) for place, grade in enumerate(best))
        gains.append(sum(grade / math.log2(place + 2) for place, grade in enumerate(found[:10])) / ideal)
        firsts.append(1 / (1 + next(place for place, grade in enumerate(found) if grade > 0)))
    last = {name: dict(run.metrics(f"dev/{name}"))[8] for name in ("ndcg_cut_10", "recip_rank")}
    assert last["ndcg_cut_10"] == pytest.approx(np.mean(gains), abs=1e-6)
    assert last["recip_rank"] == pytest.approx(np.mean(firsts), abs=1e-6)


def test_each_side_is_cut_to_its_own_length(home, tmp_path, monkeypatch):
    """The template's validation had the two lengths the wrong way round; it has those of training here."""
    trained: dict[str, int] = {"query": 0, "document": 0}
    validated: dict[int, int] = {}
    original, post = BiEncoder.encode, ranking.POST_PROCESSING["default"]

    def encode(self: BiEncoder, tokens: torch.Tensor, lengths: torch.Tensor, side: str) -> torch.Tensor:
        trained[side] = max(trained[side], tokens.shape[1])
        return original(self, tokens, lengths, side)

    def watched(encoder: Any, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        validated[id(encoder)] = max(validated.get(id(encoder), 0), tokens.shape[1])
        return post(encoder, tokens, lengths)

    monkeypatch.setattr(BiEncoder, "encode", encode)
    monkeypatch.setitem(ranking.POST_PROCESSING, "default", watched)
    overrides = [f"train_args.save_dir={tmp_path}", "budget.stop_at=1", "encoder.share=nothing"]
    train(home / "args.py", *STILL, *overrides)
    assert trained == {"query": 6, "document": 11}
    assert sorted(validated.values()) == [6, 11], "of the encoder of queries and that of documents"


def test_samples_show_what_was_found(run):
    """`display_search_results`: texts of queries, and of what was found for them, marked right or wrong."""
    samples = evaluate(run, split="dev").samples
    assert samples
    held = read_collections(run.config).evaluated["dev"]
    queries = {" ".join(held.queries.text(n).split()) for n in range(9)}
    documents = {" ".join(held.documents.text(n).split()) for n in range(13)}
    for sample in samples:
        assert sample["query"] in queries
        assert len(sample["found"]) == 3
        for line in sample["found"]:
            assert line[0] in "+-"
            assert line[2:] in documents


def test_the_tokenizer_may_come_from_another_folder(run, home):
    """`load_tokenizer`: the model's folder has none; the run keeps it, so that nothing else is needed later."""
    assert not (home / "model/tokenizer.json").exists()
    assert (run.path / "encoder/tokenizer.json").is_file()
    answer = run.predict([{"text": SENTENCES[0]}])[0]["embedding"]
    tokens = torch.from_numpy(tokens_of(run, "document")([SENTENCES[0]])[0].astype(np.int64))[None]
    vector: Any = run.model().encode(tokens, torch.tensor([tokens.shape[1]]), "document")  # pyright: ignore
    assert torch.allclose(torch.tensor(answer), functional.normalize(vector[0].detach(), dim=0), atol=1e-5)


def test_lengths_of_triplets_are_those_asked_for(home, tmp_path):
    """The package cut triplets to 32 and 128 whatever was asked."""
    lines = [f"{n}_q\tp{n}\tp{(n + 1) % 20}" for n in range(20)]
    (tmp_path / "triplets.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    loaded = load(
        home / "args.py",
        *STILL,
        f"data.train.path={tmp_path / 'triplets.tsv'}",
        "data.train.format=triplets",
        "~data.train.qrels",
    )
    recipe = recipe_of("retrieval")
    built = recipe.build(recipe.decide(loaded.config)[0])
    sides = built.collate(list(range(20)), list(range(20)), range(20), 0).sides
    assert (int(sides["query"]["lengths"].max()), int(sides["document"]["lengths"].max())) == (6, 11)
    assert built.collate([0], [0], [0], 0).links["negatives"].tolist() == [[0, 1]]


def test_searching_leaves_the_callers_vectors_as_they_are():
    """The package's index brought the caller's own queries to length 1."""
    queries, documents = torch.randn(4, 8) * 3, torch.randn(6, 8) * 3
    before = queries.clone(), documents.clone()
    found = search(queries, documents, 6)
    assert torch.equal(queries, before[0])
    assert torch.equal(documents, before[1])
    wanted = (queries @ documents.T).sort(descending=True).values
    np.testing.assert_allclose(found.scores, wanted.numpy(), rtol=1e-5)


def test_one_query_and_document_have_one_score(run):
    """The package added the hits of a document up; here it is found once, with its own score."""
    rows = [{"query": "the quick fox", "documents": [SENTENCES[0], SENTENCES[0], SENTENCES[1]]}]
    scores = run.predict(rows)[0]["scores"]
    assert scores[0] == scores[1] != scores[2]
    found = search(torch.ones(1, 2), torch.tensor([[1.0, 0.0], [0.0, 3.0]]), 5)
    assert found.documents[0, :2].tolist() == [1, 0]
    assert sorted(found.documents[0, 2:].tolist()) == [-1, -1, -1], "and what is not there is no document"
