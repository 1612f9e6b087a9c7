"""Denoising: the loss over masked tokens, whatever the chunks, and what its evaluation counts."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quincunx import evaluate as evaluate_run
from quincunx import train
from quincunx.data.batch import Batch
from quincunx.engine.loop import evaluate
from quincunx.engine.step import Step
from quincunx.errors import UsageError
from quincunx.metrics.record import Evaluation
from quincunx.nn.rows import attach_rows
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.evaluate import DenoisingEvaluator
from quincunx.recipes.long_range.measured import DENOISING
from quincunx.recipes.long_range.model import LongRangeDenoiser
from quincunx.recipes.long_range.objective import Denoising
from quincunx.recipes.long_range.recipe import RECIPE
from quincunx.recipes.long_range.source import UNMASKED, Masking, SingleSource
from quincunx.recipes.long_range.tasks import mask_token
from quincunx.seeds import address
from reference import classifier as reference
from runner import tiny
from toys import cpu, plan

LENGTHS = (9, 3, 1, 7, 12, 5, 2, 8, 20, 4)


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quincunx.report.to_png", lambda chart: b"")


def examples(lengths: tuple[int, ...] = LENGTHS, parts: int = 1) -> Examples:
    draw = np.random.default_rng(4)
    # a few symbols, unevenly: one is the commonest
    texts = [np.minimum(draw.geometric(0.4, length), 15).astype(np.uint8).tobytes() for length in lengths]
    return Examples.of(texts, [0] * (len(lengths) // parts), parts=parts)


def denoiser(pooling: str = "mean", **encoder: Any) -> tuple[LongRangeDenoiser, Masking]:
    sizes = {"embedding_dim": 12, "hidden_dim": 20, "head_dim": 4, "num_heads": 2, "max_seq_len": 20, "dropout": 0.2}
    settings = {"objective": "denoising", "encoder": sizes | {"pooling": pooling} | encoder}
    config, _ = RECIPE.decide(LongRangeConfig.model_validate(settings))
    torch.manual_seed(0)
    model = LongRangeDenoiser(config)
    with torch.no_grad():
        for parameter in model.parameters():  # starting values of zero and one would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.double(), Masking(0.3, mask_token(config))


def masked(masking: Masking, seed: int = 5) -> Batch:
    source = SingleSource(examples(), 20)
    ids = range(len(source))
    return masking([source[i] for i in ids], list(ids), ids, seed)


def restored(model: LongRangeDenoiser, batch: Batch, pooling: str) -> list[tuple[np.ndarray, int]]:
    """Return for every masked token the reference's logits and what it was, row after row."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    found = []
    for row, length in enumerate(batch["lengths"].tolist()):
        for place in range(length):
            if int(batch["targets"][row, place]) != UNMASKED:
                tokens = batch["tokens"][row, :length].tolist()
                logits = reference.restored(
                    weights,
                    tokens,
                    place,
                    kind="softmax",
                    heads=2,
                    head_dim=4,
                    layers=1,
                    tied=False,
                    learned=True,
                    cls=pooling == "cls",
                )
                found.append((logits, int(batch["targets"][row, place])))
    return found


def surprise(logits: np.ndarray, target: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(value - top) for value in logits)) - float(logits[target])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_logits_loss_and_weight_are_those_of_the_plain_reference(pooling):
    """With a cls token in front, the states of the sequence's own tokens are the ones that are read."""
    model, masking = denoiser(pooling)
    model.eval()
    batch = masked(masking)
    wanted = restored(model, batch, pooling)
    assert len(wanted) == sum(max(1, round(0.3 * length)) for length in LENGTHS)
    chosen = batch["targets"] != UNMASKED
    with torch.no_grad():
        logits = model(batch["tokens"], batch["lengths"], chosen)
        loss = Denoising().loss(model, batch)["loss"]
    assert logits.shape == (len(wanted), 18 + (pooling == "cls")), "17 tokens, the mask, cls"
    assert np.abs(logits.numpy() - np.stack([row for row, _ in wanted])).max() <= 1e-10
    assert Denoising().weights(batch) == {"loss": float(len(wanted))}
    assert float(loss) == pytest.approx(sum(surprise(*row) for row in wanted), rel=1e-6)  # cross-entropy in float32


def test_the_mask_is_an_id_of_its_own():
    for pooling, mask, cls in (("mean", 17, None), ("cls", 17, 18)):
        model, masking = denoiser(pooling)
        assert masking.mask_token == mask
        assert model.cls_token == cls
        assert model.restore.out_features == model.embedding.num_embeddings == 18 + (cls is not None)
    model, masking = denoiser("cls", vocab_size=30)
    assert (masking.mask_token, model.cls_token) == (28, 29)


class Exactly(Denoising):
    """The same loss in the precision of the logits, where Denoising rounds to single."""

    def loss(self, model: nn.Module, chunk: Batch) -> dict[str, Tensor]:
        chosen = chunk["targets"] != UNMASKED
        logits = model(chunk["tokens"], chunk["lengths"], chosen)
        return {"loss": nn.functional.cross_entropy(logits, chunk["targets"][chosen], reduction="sum")}


def gradient(model: nn.Module, batch: Batch, objective: Denoising, update: int = 2, **cut: int | None) -> Tensor:
    model.zero_grad()
    outcome = Step(model, objective, cpu(), plan(**cut), seed=5).gradient(update, [batch])
    assert outcome.weights == {"loss": float((batch["targets"] != UNMASKED).sum())}
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_chunks_of_any_size_give_the_same_gradient_under_dropout(pooling):
    model, masking = denoiser(pooling)
    model.train()
    batch = masked(masking)
    for objective, bound in ((Exactly(), 1e-12), (Denoising(), 2e-5)):
        whole = gradient(model, batch, objective)
        for cut in (*({"chunk_samples": size} for size in (1, 3, 7, len(batch))), {"chunk_tokens": 12}):
            assert (gradient(model, batch, objective, **cut) - whole).norm() <= bound * whole.norm(), cut
        assert (gradient(model, batch, objective, update=3) - whole).norm() > 1e-2 * whole.norm(), "dropout was off"
    assert (gradient(model, batch, Denoising()) - gradient(model, batch, Exactly())).norm() <= 1e-5 * whole.norm()


def counted(pooling: str = "mean", limit: int | None = None) -> dict[str, float]:
    """Return what the evaluation must find, by counting one masked token after another."""
    model, masking = denoiser(pooling)
    batch = masked(masking, address(0, "dev"))
    if limit is not None:
        batch = batch.select(range(limit))
    rows = restored(model, batch, pooling)
    right = [int(np.argmax(logits)) == target for logits, target in rows]
    share = sum(right) / len(right)
    return {
        "loss": sum(surprise(*row) for row in rows) / len(rows),
        "accuracy": share,
        "accuracy_se": math.sqrt(share * (1 - share) / len(right)),
        "commonest_token": Counter(target for _, target in rows).most_common(1)[0][1] / len(rows),
    }


def evaluated(pooling: str = "mean", split: str = "dev", **changes: Any) -> Evaluation:
    model, masking = denoiser(pooling)
    if context := attach_rows(model):
        context.set(3, torch.arange(2))  # as training left it
    evaluator = DenoisingEvaluator(split, SingleSource(examples(), 20), masking)
    return evaluate(model, evaluator, cpu(), plan(**changes))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_evaluation_is_what_counting_gives(pooling):
    evaluation = evaluated(pooling, evaluation_batch=4)
    wanted = counted(pooling)
    assert 0 < wanted["commonest_token"] < 1
    assert evaluation.scalars.keys() == set(DENOISING)
    assert evaluation.scalars == pytest.approx(wanted, rel=1e-6)
    total = sum(max(1, round(0.3 * length)) for length in LENGTHS)
    assert f"of {total} masked tokens restored" in evaluation.notes[0]


def test_the_same_tokens_are_masked_at_every_evaluation_and_batch_size():
    whole = evaluated(evaluation_batch=10).scalars
    assert evaluated(evaluation_batch=10).scalars == whole
    for size in (1, 3, 7):
        found = evaluated(evaluation_batch=size).scalars
        assert found.pop("loss") == pytest.approx(whole["loss"], rel=1e-6)
        assert found == {name: value for name, value in whole.items() if name != "loss"}
    assert evaluated(split="test").scalars["loss"] != whole["loss"], "every split has masks of its own"


@pytest.mark.parametrize("limit", [1, 4, 9])
def test_only_the_first_so_many_development_examples_are_evaluated(limit):
    found = evaluated(evaluation_limit=limit, evaluation_batch=3)
    assert found.scalars == pytest.approx(counted(limit=limit), rel=1e-6)
    whole = evaluated("mean", "test").scalars
    assert evaluated("mean", "test", evaluation_limit=limit).scalars == whole, "the test split is always whole"


def test_a_denoising_run_of_its_own(work):
    run = train(tiny({"objective": "denoising", "budget.epochs": 2, "encoder.vocab_size": None, "run.dir": "r"}))
    assert run.config.encoder.vocab_size == 18
    assert run.summary["best"]["metric"] == "dev/loss"
    losses = [value for _, value in run.metrics("dev/loss")]
    assert run.summary["best"]["value"] == min(losses)
    assert losses[-1] < losses[0]
    assert {line["name"] for line in run.metrics() if line["split"] == "test"} == set(DENOISING)
    again = evaluate_run(run, "test").scalars
    assert again == {line["name"]: line["value"] for line in run.metrics() if line["split"] == "test"}
    with pytest.raises(UsageError, match="objective classification"):
        run.predict([{"source": "[MAX 1 2 ]"}])


def test_pairs_are_learnt_from_and_evaluated_one_sequence_at_a_time(work):
    for name, count in (("train", 10), ("eval", 4), ("test", 3)):
        rows = "".join(f"{n % 2}\t{n}\t{n + 1}\tfirst {n}\tsecond one {n}\n" for n in range(count))
        (work / f"new_aan_pairs.{name}.tsv").write_text(rows)
    changes = {"objective": "denoising", "task": "retrieval", "data": {"path": str(work)}, "update.batch_size": 4}
    changes |= {"encoder.vocab_size": None, "run.dir": "r", "budget.epochs": 2, "evaluate.max_batches": 1}
    changes |= {"evaluate.every": "epoch"}
    run = train(tiny(changes))
    plan = json.loads((run.path / "plan.json").read_text())
    assert (plan["train_examples"], plan["updates_per_epoch"]) == (20, 5)
    assert plan["sizes"]["evaluation"] == {"dev": 8, "test": 6}
    masked_tokens = [
        sum(max(1, round(0.15 * len(f"{text} {n}"))) for n in range(count) for text in ("first", "second one"))
        for count in (2, 3)
    ]
    for split, count in zip(("dev-00000005", "test-00000010"), masked_tokens, strict=True):
        assert f"of {count} masked tokens" in (run.path / f"evaluations/{split}.json").read_text()


def test_mask_share_acts(work):
    found = []
    for share in (0.1, 0.5):
        changes = {"objective": "denoising", "budget.epochs": 1, "encoder.vocab_size": None, "run.dir": f"r{share}"}
        run = train(tiny({**changes, "pretraining.mask_share": share}))
        notes = (run.path / "evaluations").glob("test-*.json")
        found.append((run.metrics("train/loss"), next(notes).read_text().split("masked tokens")[0].split()[-1]))
    assert found[0][0] != found[1][0]
    assert int(found[1][1]) > 3 * int(found[0][1])
