"""What the programs behind guide 000 did wrong, tried on files in its own form: data, models and config as they were.

The page `docs/retrieval_guides.md` lists every such fault with its test, those elsewhere included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from quincunx import Run, load, train
from quincunx.engine.checkpoint import Checkpoints
from quincunx.engine.experiment import Experiment
from quincunx.engine.step import Step
from quincunx.metrics.ranking import score
from quincunx.recipes import recipe_of
from quincunx.recipes.retrieval.data.texts import TokenTexts
from quincunx.recipes.retrieval.data.tokenised import tokenised
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from quincunx.recipes.retrieval.objective.masks import Identity
from quincunx.recipes.retrieval.objective.queue import Queue
from reference import retrieval as reference
from retrieval_sets import Letters
from retrieval_toys import make
from small_encoders import backbone, tokenizer
from toys import cpu, plan

datasets = pytest.importorskip("datasets")
CLS, SEP = tokenizer().cls_token_id, tokenizer().sep_token_id


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder with its tokenizer, and a data set of token ids with one to three queries a document."""
    folder = tmp_path_factory.mktemp("guide")
    backbone().save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    draw = np.random.default_rng(0)

    def tokens() -> list[int]:
        return [CLS, *draw.integers(10, 100, draw.integers(2, 9)).tolist(), SEP]

    def rows(count: int) -> Any:
        queries = [[tokens() for _ in range(1 + n % 3)] for n in range(count)]
        return datasets.Dataset.from_dict({"input_ids": [tokens() for _ in range(count)], "pos_input_ids": queries})

    datasets.DatasetDict({"train": rows(21), "test": rows(11)}).save_to_disk(str(folder / "data"))
    return folder


def form(home: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a file of the guide; changes are section__key."""
    tree: dict[str, Any] = {
        "paths": {"dataset_path": str(home / "data"), "save_path": str(folder)},
        "Q_model": {"path": str(home / "model")},
        "Training": {"batch_size": 8, "num_pos": 3, "epochs": 2, "lr": 1e-3, "mode": "bi-encoder"},
        "Evaluation": {"eval_freq": "epoch", "eval_accumulation": 50, "batch_size": 5, "faiss_device": "cpu"},
        "Logging": {"print_freq": 1},
        "CrossBatchMemory": {"use": False},
        "compute": {"device": "cpu", "threads": 1, "precision": "float32"},
        "seed": 5,
    }
    for dotted, value in changes.items():
        section, key = dotted.split("__")
        tree.setdefault(section, {})[key] = value
    return tree


def built(tree: dict[str, Any], *overrides: str) -> Experiment:
    recipe = recipe_of("retrieval")
    config, _ = recipe.decide(load(tree, *overrides).config)
    torch.manual_seed(0)
    return recipe.build(config)


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The guide's bi-encoder, without the keys that nobody needs to write."""
    return train(form(home, tmp_path_factory.mktemp("runs") / "run"))


def test_a_file_without_empty_lists_trains(run: Run):
    """`special_tokens` and the whole of D_model left out; fewer anchors than a pool of 250 are measured as well."""
    assert run.summary["state"] == "finished"
    model: Any = run.model()
    assert model.query is model.document
    [(update, _), *_] = run.metrics("dev/ndcg_cut_10")
    assert update == 3, "21 documents by 8: three updates an epoch"


def test_the_best_checkpoint_is_chosen_by_a_measure_and_old_ones_go(run: Run):
    values = dict(run.metrics("dev/ndcg_cut_10"))
    best = max(values, key=lambda update: values[update])
    assert run.checkpoint("best").name == f"update-{best:08d}"
    assert (run.summary["best"] or {})["metric"] == "dev/ndcg_cut_10"
    assert len(list(run.folder.checkpoints.glob("update-*"))) <= 3


def test_what_is_saved_is_enough_to_encode_with(run: Run):
    """Tokenizer and config are in the run's folder, not in the guide's two folders of weights alone."""
    answer = run.predict([{"text": "the quick brown fox"}])[0]["embedding"]
    tokens = torch.tensor([tokenizer()("the quick brown fox")["input_ids"]])
    vector = run.model().encode(tokens, torch.tensor([tokens.shape[1]]), "document")[0]  # pyright: ignore
    expected = torch.nn.functional.normalize(vector, dim=0)
    assert torch.allclose(torch.tensor(answer), expected, atol=1e-5)


def test_training_batches_are_shuffled_anew_in_every_epoch(home, tmp_path, monkeypatch):
    seen: list[list[int]] = []
    original = Contrastive.weights

    def weights(self: Contrastive, batch: Any) -> dict[str, float]:
        seen.append(batch.links["document_keys"].tolist())
        return original(self, batch)

    monkeypatch.setattr(Contrastive, "weights", weights)
    train(form(home, tmp_path / "run", Evaluation__eval_freq=100))
    first, second = ([key for batch in seen[start : start + 3] for key in batch] for start in (0, 3))
    assert sorted(first) == sorted(second) == list(range(21)), "each document once an epoch"
    assert first != second != sorted(second) != first


@pytest.mark.parametrize("share", ["shared", "separate"])
def test_tokens_of_the_documents_join_the_tokenizer_with_new_rows(home, tmp_path, share):
    """Rows that were there stay as they were pretrained; the new ones are there for whoever uses the tokenizer."""
    separate = {"D_model__path": str(home / "model")} if share == "separate" else {}
    found = built(form(home, tmp_path / "run", D_model__special_tokens=["Heading:"], **separate))
    model: Any = found.parts.model
    old = backbone().get_input_embeddings().weight
    tables = [side.backbone.get_input_embeddings().weight for side in (model.query, model.document)]
    assert len(tables[1]) == len(old) + 1
    assert len(tables[0]) == len(old) + (share == "shared")
    assert all(torch.equal(table[: len(old)], old) for table in tables)


def test_tokens_of_another_tokenizer_are_said():
    """The data does not tell what made it: texts without the encoder's special tokens show that it was another."""
    letters = Letters()
    good = TokenTexts.of(["a", "b"], [[1, 5, 2], [1, 2]])
    assert tokenised(good, letters, name="queries")[1] == []
    bad = TokenTexts.of(["a", "b", "c", "d", "e"], [[1, 5, 2], [5, 6], [1, 5, 6], [9], [7, 5, 2]])
    [note] = tokenised(bad, letters, name="queries")[1]
    assert note.startswith("queries: 4 of 5 texts given as token ids do not begin and end with the encoder's special")
    assert "(ids 1, 2)" in note


@pytest.mark.parametrize("count", [8, 5, 1])
def test_a_short_last_batch_of_a_poly_encoder_is_paired_rightly(home, tmp_path, count):
    """The pairs of a batch are those of what is in it, and not of a batch of the usual size."""
    tree = form(home, tmp_path / "run", Training__mode="poly-encoder", Q_model__model_args={"num_poly_codes": 3})
    found = built(tree)
    batch: Any = found.collate(list(range(count)), list(range(count)), range(count), 0)
    model: Any = found.parts.model.eval()
    assert len(batch.links["positives"]) == sum(1 + n % 3 for n in range(count))
    with torch.no_grad():
        codes, mask = model.encode_query(batch.sides["query"]["tokens"], batch.sides["query"]["lengths"])
        documents = model.encode_document(batch.sides["document"]["tokens"], batch.sides["document"]["lengths"])
        scores = model.score(codes, mask, documents).T  # documents look for queries
        world = reference.World(batch.links)
        total = 0.0
        for query, document in batch.links["positives"].tolist():
            others = world.negatives("document_to_query", document)
            total += float(scores[document, [query, *others]].logsumexp(0) - scores[document, query])
        parts = {part.role: found.parts.objective.represent(model, part) for part in found.parts.objective.parts(batch)}
        sums = found.parts.objective.loss(model, parts, batch)
    assert float(sums["document_to_query"]) == pytest.approx(total, rel=1e-5, abs=1e-5)


def test_a_memory_behind_a_projection_is_as_wide_as_that(home, tmp_path):
    """The guide's was as wide as the encoder, and could not follow a projection."""
    memory = {"CrossBatchMemory__use": True, "CrossBatchMemory__buffer_size": 24, "CrossBatchMemory__warmup": 1}
    tree = form(home, tmp_path / "run", **memory)
    run = train(tree, "encoder.projection=6", "evaluate.every=null")
    kept = Checkpoints(run.folder.checkpoints).load(run.checkpoint("last")).weights["objective"]
    assert kept["memory.queues.query.vectors"].shape == (24, 6)
    assert int(kept["memory.queues.query.filled"]) == 24
    assert dict(run.metrics("train/memory_entries"))[1] == 0


def test_the_first_label_being_0_does_not_make_a_memory_look_empty():
    """How full it is is counted, and never told from what the entries hold."""
    queue = Queue(4, 2)
    nobody = torch.zeros(1, dtype=torch.int64)
    for stamp in range(4):
        queue.add(torch.zeros(1, 2), Identity(nobody, nobody), stamp)
        assert len(queue.entries()[0]) == len(queue) == stamp + 1


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, Tensor):
                self.size = max(self.size, one.numel())
        return found


def test_the_loss_makes_nothing_larger_than_its_matrix_of_scores():
    """pytorch-metric-learning's NTXent makes a row of all negatives for every pair: pairs squared times texts."""
    count, width = 64, 8
    keys = list(range(count))
    batch = make(keys, keys, [(row, row) for row in keys])
    vectors = [torch.randn(count, width, requires_grad=True) for _ in range(2)]
    objective = Contrastive(temperature=0.07, directions=["document_to_query"])
    with Largest() as largest:
        given = {name: {"vector": one} for name, one in zip(("query", "document"), vectors, strict=True)}
        objective.loss(torch.nn.Identity(), given, batch)["document_to_query"].backward()
    assert all(one.grad is not None and one.grad.any() for one in vectors)
    assert largest.size == count * count
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    labels = torch.arange(count)
    with Largest() as theirs:
        losses.NTXentLoss(temperature=0.07)(vectors[1], labels, ref_emb=vectors[0], ref_labels=labels.clone())
    assert theirs.size >= count * count * (count - 1), "the oracle shows what is avoided"


def test_a_measure_that_is_0_everywhere_is_there(home, tmp_path):
    """The guide's sums lost whatever was not above 0; here every pool of 4, 4 and 3 documents has only wrong firsts."""
    tree = form(home, tmp_path / "run", Evaluation__eval_accumulation=1, Evaluation__batch_size=4)
    found = built(tree, "evaluate.measures=[P_1, recall_1]", "evaluate.ties=pessimistic")
    for parameter in found.parts.model.parameters():
        torch.nn.init.zeros_(parameter)
    scalars = found.evaluators["dev"](found.parts.model.eval(), cpu(), plan()).scalars
    assert scalars["P_1"] == scalars["recall_1"] == 0.0


@pytest.mark.parametrize("measure", ["recip_rank", "map_at_R", "Rprec", "P_1", "first_rank"])
def test_any_measure_may_be_asked_for_alone(measure):
    """pytorch-metric-learning's calculator fails when only the reciprocal rank is wanted."""
    qrels, run = {"q": {"a": 1}, "r": {"b": 1}}, {"q": {"b": 2.0, "a": 1.0}, "r": {"b": 1.0, "a": 0.0}}
    wanted = {"recip_rank": 0.75, "map_at_R": 0.5, "Rprec": 0.5, "P_1": 0.5, "first_rank": 1.5}[measure]
    assert score(qrels, run, [measure]).mean == {measure: wanted}


def test_several_positives_are_several_terms_with_common_negatives(home, tmp_path):
    """As the guide trains: documents are anchors; a query is told from those of other documents, not from its own."""
    found = built(form(home, tmp_path / "run"))
    batch: Any = found.collate([0, 1, 2], [0, 1, 2], range(3), 0)
    step = Step(found.parts.model.eval(), found.parts.objective.train(), cpu(), plan(), seed=1)
    outcome = step.gradient(0, [batch])
    assert outcome.weights["document_to_query"] == 6
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    model: Any = found.parts.model
    queries, documents = (
        model.encode(batch.sides[side]["tokens"], batch.sides[side]["lengths"], side) for side in ("query", "document")
    )
    labels = torch.tensor([int(document) for _, document in sorted(batch.links["positives"].tolist())])
    wanted = losses.NTXentLoss(temperature=0.07)(documents, torch.arange(3), ref_emb=queries, ref_labels=labels)
    assert float(outcome.sums["document_to_query"]) / 6 == pytest.approx(float(wanted), rel=1e-5)
