"""The z-regulariser in a trunk: sequences and pairs of many lengths, chunked, checkpointed, trained and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quincunx import train
from quincunx.config.document import ConfigError
from quincunx.config.load import load
from quincunx.config.sections.peft import Peft
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.regularised import regularised
from quincunx.engine.step import Outcome, Step
from quincunx.errors import UsageError
from quincunx.preview import measure
from quincunx.recipes import schemas
from quincunx.recipes.long_range.adapt import adapt
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.model import LongRangeClassifier
from quincunx.recipes.long_range.objective import Classification
from quincunx.recipes.long_range.recipe import RECIPE
from quincunx.recipes.long_range.source import SequenceSource, collate
from runner import tiny
from toys import cpu, plan

pytest.importorskip("peft")

SMALL: dict[str, Any] = {
    "embedding_dim": 12,
    "hidden_dim": 20,
    "head_dim": 4,
    "num_heads": 2,
    "num_layers": 2,
    "max_seq_len": 40,
    "dropout": 0.2,
}
LENGTHS = ((9, 3), (4, 4), (1, 7), (6, 2), (9, 9), (5, 1))
SITES = ["attention", "feedforward", "query"]


def made(parts: int, options: dict[str, Any] | None = None, **encoder: Any) -> Parts:
    settings = {
        "task": "retrieval" if parts == 2 else "text",
        "encoder": SMALL | encoder,
        "attention": {"kind": "softmax", "options": {"softmax": options or {}}},
    }
    torch.manual_seed(0)
    model = LongRangeClassifier(RECIPE.decide(LongRangeConfig.model_validate(settings))[0])
    section = Peft(method="bottleneck", options={"reduction_factor": 4.0, "sites": SITES}, z_weight=3.0, track_z=True)
    adapt(model, section)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return regularised(Parts(model.double().train(), Classification()), section)


def batch(parts: int) -> Batch:
    draw = np.random.default_rng(2)
    texts = [draw.integers(0, 256, n, np.uint8).tobytes() for pair in LENGTHS for n in pair[:parts]]
    labels = [row % 2 for row in range(len(LENGTHS))]
    source = SequenceSource(Examples.of(texts, labels, first_id=1, parts=parts), 40)
    ids = list(range(len(source)))
    return collate([source[i] for i in ids], ids, ids, 0)


def stepped(parts: Parts, rows: Batch, size: int | None) -> tuple[Outcome, Tensor]:
    parts.model.zero_grad()
    outcome = Step(parts.model, parts.objective, cpu(), plan(chunk_samples=size), seed=5).gradient(2, [rows])
    return outcome, torch.cat([p.grad.flatten() for p in parts.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("parts", [1, 2], ids=["sequences", "pairs"])
@pytest.mark.parametrize(
    ("options", "encoder"),
    [({}, {}), ({}, {"pooling": "cls", "tied_weights": True}), ({"grad_checkpointing": True}, {})],
    ids=["mean", "cls-tied", "checkpointed"],
)
def test_chunks_of_any_size_give_the_same(parts: int, options: dict[str, Any], encoder: dict[str, Any]) -> None:
    trunk, rows = made(parts, options, **encoder), batch(parts)
    whole, expected = stepped(trunk, rows, None)
    assert len([term for term in whole.sums if term.startswith("z/")]) == 3 * (1 if encoder else 2)
    for size in (1, 2, 3):
        outcome, found = stepped(trunk, rows, size)
        assert (found - expected).norm() <= 1e-12 * expected.norm(), size
        for term, value in whole.sums.items():
            near = 1e-6 if term == "loss" else 1e-12  # cross-entropies are in float32
            assert abs(float(outcome.sums[term] - value)) <= near * abs(float(value)), (size, term)


def test_both_texts_of_a_pair_and_every_pass_of_a_tied_layer_count() -> None:
    trunk, rows = made(2, tied_weights=True, dropout=0.0), batch(2)
    seen: dict[str, list[Tensor]] = {}
    for path, module in trunk.model.named_modules():
        if path.endswith("default.dropout"):
            module.register_forward_pre_hook(lambda _, args, path=path: seen.setdefault(path, []).append(args[0]))
    outcome, _ = stepped(trunk, rows, None)
    for path, passes in seen.items():
        assert len(passes) == 4  # two layers, two texts
        total = torch.zeros((), dtype=torch.float64)
        for row, pair in enumerate(LENGTHS):
            # the first text passes all layers before the second does
            places = [z[row, :length] for z, length in zip(passes, (pair[0], pair[0], pair[1], pair[1]), strict=True)]
            total += torch.cat(places).square().mean().detach()
        name = path.replace(".quincunx_tuned", "").removesuffix(".default.dropout")
        torch.testing.assert_close(outcome.sums[f"z/{name}"], total, rtol=1e-10, atol=0)


def logged(run: Path) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        found.setdefault(entry["split"], {}).setdefault(entry["name"], []).append(entry["value"])
    return found


def test_a_run_logs_it_and_its_evaluations_do_not(tmp_path: Path) -> None:
    section = {"method": "bottleneck", "options": {"reduction_factor": 4}, "z_weight": 2.0, "track_z": True}
    changes = {"budget.epochs": 1, "checkpoint.every": 2, "peft": section, "init_from": None}
    start = train(tiny({"run.dir": str(tmp_path / "start"), "budget.epochs": 1})).path
    changes["init_from"] = str(start)
    whole = train(tiny({"run.dir": str(tmp_path / "whole"), **changes})).path
    train(tiny({"run.dir": str(tmp_path / "cut"), **changes, "budget.stop_at": 4}))
    cut = train(tiny({"run.dir": str(tmp_path / "cut"), **changes}), resume=True).path
    assert (whole / "metrics.jsonl").read_bytes() == (cut / "metrics.jsonl").read_bytes()
    found = logged(whole)
    assert not any(name.startswith("z") for split in ("dev", "test") for name in found[split])
    paths = [name for name in found["train"] if name.startswith("z/")]
    assert paths and len(found["train"]["z"]) == len(found["train"]["loss"])
    means = np.mean([found["train"][path] for path in paths], axis=0)
    assert found["train"]["z"] == pytest.approx(means, rel=1e-5)
    plain = {**changes, "peft": {"method": "bottleneck", "options": {"reduction_factor": 4}}}
    without = logged(train(tiny({"run.dir": str(tmp_path / "without"), **plain})).path)
    assert without["train"]["loss"][0] < found["train"]["loss"][0]
    assert not any(name.startswith("z") for name in without["train"])


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"method": "task_lora", "z_weight": 0.1},
            r"peft\.z_weight: it looks into the bottlenecks .* method task_lora",
        ),
        ({"method": "task_lora", "track_z": True}, r"peft\.track_z: (.|\n)* leave it out, or take bottleneck"),
        ({"method": "bottleneck", "z_weight": -1.0}, "z_weight"),
        ({"method": "bottleneck", "frozen_statistics": ["norms"]}, "frozen_statistics"),
    ],
)
def test_what_cannot_act_is_refused_at_its_place(section: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        train(tiny({"run.dir": str(tmp_path / "run"), "init_from": "anywhere", "peft": section}))
    assert not (tmp_path / "run").exists()


def test_a_compiled_model_is_refused_before_it_is_trained_or_timed(tmp_path: Path) -> None:
    section = {"method": "bottleneck", "options": {"reduction_factor": 4}, "z_weight": 0.1}
    config = tiny({"run.dir": str(tmp_path / "run"), "init_from": "anywhere", "peft": section, "compute.compile": True})
    for act in (train, lambda given: measure(load(given, schemas=schemas()))):
        with pytest.raises(UsageError, match=r"peft\.z_weight .* set compute\.compile=false"):
            act(config)
    assert not (tmp_path / "run").exists()


def test_a_step_is_timed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    section = {"method": "bottleneck", "options": {"reduction_factor": 4}, "z_weight": 0.1}
    seen: list[tuple[str, ...]] = []
    gradient = Step.gradient

    def noted(step: Step, update: int, batches: Any) -> Outcome:
        seen.append(step.objective.terms)
        return gradient(step, update, batches)

    monkeypatch.setattr(Step, "gradient", noted)
    measure(load(tiny({"init_from": "anywhere", "peft": section}), schemas=schemas()))
    assert {*seen} == {("loss", "z")}
