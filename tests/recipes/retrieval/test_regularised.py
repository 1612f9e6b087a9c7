"""The z-regulariser in bi-encoders: texts behind one another or padded, both sides, with a memory, in chunks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("peft")

from quincunx import Run, evaluate, train
from quincunx.config.sections.peft import Peft
from quincunx.data.batch import Batch
from quincunx.engine.experiment import Parts
from quincunx.engine.objective import Part
from quincunx.engine.regularised import regularised
from quincunx.engine.step import Outcome, Step
from quincunx.errors import UsageError
from quincunx.nn.pretrained import build_backbone, packed
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.cross_encoder import CrossEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from quincunx.recipes.retrieval.objective.cross import CrossEncoding
from quincunx.recipes.retrieval.objective.drift import DriftMonitor
from quincunx.recipes.retrieval.objective.keys import KeyEncoder
from quincunx.recipes.retrieval.objective.memory import Memory
from quincunx.tuners import attach
from quincunx.tuners.positions import packed_rows
from recipes.retrieval.collections_made import config_of, write_collection
from recipes.retrieval.objective.test_cross import lists
from retrieval_toys import drawn
from small_encoders import SIZES, backbone, tokenizer
from toys import cpu, plan

SECTION = Peft(
    method="bottleneck",
    options={"reduction_factor": 4.0, "sites": ["attention", "feedforward", "query"]},
    z_weight=3.0,
    track_z=True,
)


def towers(architecture: str, share: str, **options: Any) -> BiEncoder:
    """Return a bi-encoder with adapters that hold something."""
    model = backbone(architecture)
    attach(model, SECTION)
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn_like(parameter)
    other = copy.deepcopy(model) if share == "nothing" else model
    sides = [TextEncoder(each, "mean", **options) for each in (model, other)]
    made = BiEncoder(sides[0], None if share == "all" else sides[1])
    return made.double().train()


def stepped(parts: Parts, size: int | None, update: int = 3, **more: Any) -> tuple[Outcome, Tensor]:
    for module in (parts.model, parts.objective):
        module.zero_grad(set_to_none=True)
    step = Step(parts.model, parts.objective.train(), cpu(), plan(chunk_samples=size, **more), seed=5)
    outcome = step.gradient(update, [drawn(6), drawn(4, 1)])
    return outcome, torch.cat([p.grad.flatten() for p in step.parameters if p.grad is not None])


def assert_same(parts: Parts, **more: Any) -> Outcome:
    """Compare chunks of one, two and three texts with the whole."""
    whole, expected = stepped(parts, None, graphs="keep")
    for size in (1, 2, 3):
        outcome, found = stepped(parts, size, **more)
        assert (found - expected).norm() <= 1e-12 * expected.norm(), size
        for term, value in whole.sums.items():
            assert abs(float(outcome.sums[term] - value)) <= 1e-12 * abs(float(value)), (size, term)
    return whole


@pytest.mark.parametrize("share", ["all", "backbone", "nothing"])
@pytest.mark.parametrize("architecture", ["bert", "modernbert"], ids=["packed", "padded"])
def test_chunks_of_any_size_give_the_same(architecture: str, share: str) -> None:
    model = towers(architecture, share)
    assert model.pads(torch.device("cpu")) == (architecture == "modernbert")
    parts = regularised(Parts(model, Contrastive(one_pass=model.one_pass)), SECTION)
    whole = assert_same(parts, graphs="replay")
    names = [term for term in whole.sums if term.startswith("z/")]
    assert len(names) == {"bert": 3, "modernbert": 2}[architecture] * (2 if share == "nothing" else 1)


def test_layers_that_are_computed_twice_change_nothing() -> None:
    kept, again = (
        stepped(regularised(Parts(towers("bert", "all", **options), Contrastive(one_pass=True)), SECTION), 2)
        for options in ({}, {"gradient_checkpointing": True})
    )
    assert (kept[1] - again[1]).norm() <= 1e-12 * kept[1].norm()
    assert float(again[0].sums["z"]) == pytest.approx(float(kept[0].sums["z"]), rel=1e-12)


def test_texts_behind_one_another_count_as_padded_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> Outcome:
        return stepped(regularised(Parts(towers("bert", "all"), Contrastive(one_pass=True)), SECTION), 2)[0]

    first = seen()
    monkeypatch.setattr("quincunx.recipes.retrieval.model.text_encoder.packs", lambda *_: False)
    second = seen()
    for term, value in first.sums.items():
        assert float(second.sums[term]) == pytest.approx(float(value), rel=1e-10), term


@pytest.mark.parametrize("follows", [False, True], ids=["own-vectors", "key-encoder"])
def test_what_a_memory_has_encoded_does_not_count(follows: bool) -> None:
    def made(remembers: bool) -> Parts:
        model = towers("bert", "all")
        keys = KeyEncoder(model, 0.9) if follows else None
        drift = DriftMonitor(40, every=1, threshold=-1.0, sample=8, longest=8)
        memory = Memory(size=40, width=16, smallest={"document": 4}, keys=keys, drift=drift) if remembers else None
        known = torch.zeros(0, 2, dtype=torch.int64)
        objective = Contrastive(one_pass=True, memory=memory, known_pairs=known if remembers else None)
        return regularised(Parts(model, objective.double()), SECTION)

    parts = made(True)
    roles: list[str] = []
    inner: Any = parts.objective
    for update in range(2):
        stepped(parts, None, update)
        parts.objective.after_update()
        roles = [part.role for part in inner.parts(drawn(6))]
    assert "probe" in roles and ("key_document" in roles) == follows
    whole = assert_same(parts)
    plain, _ = stepped(made(False), None)
    assert float(whole.sums["z"]) == pytest.approx(float(plain.sums["z"]), rel=1e-10)


@pytest.mark.parametrize("kind", ["listwise", "pointwise"])
def test_every_pair_of_a_cross_encoder_counts_alike(kind: str) -> None:
    torch.manual_seed(0)
    sizes = {"architecture": "bert", **SIZES["bert"]}
    scorer = build_backbone(sizes, tokenizer(), dropout=0.0, attention_dropout=0.0, scorer=True)
    attach(scorer, SECTION)
    for parameter in scorer.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    parts = regularised(Parts(CrossEncoder(scorer).double().train(), CrossEncoding(kind=kind)), SECTION)
    rows = lists([[1, 0, 0, 0], [1, 2, 0], [1, 0], [3, 0], [1, 1]])

    def stepped(size: int | None) -> tuple[Outcome, Tensor]:
        parts.model.zero_grad(set_to_none=True)
        outcome = Step(parts.model, parts.objective, cpu(), plan(chunk_samples=size), seed=5).gradient(1, [rows])
        return outcome, torch.cat([p.grad.flatten() for p in parts.model.parameters() if p.grad is not None])

    whole, expected = stepped(None)
    assert whole.weights["z"] == 13
    for size in (1, 2, 3):
        outcome, found = stepped(size)
        assert (found - expected).norm() <= 1e-12 * expected.norm(), size
        for term, value in whole.sums.items():
            assert abs(float(outcome.sums[term] - value)) <= 1e-12 * abs(float(value)), (size, term)


def test_a_text_without_tokens_is_refused() -> None:
    model = towers("bert", "all")
    parts = regularised(Parts(model, Contrastive(one_pass=True)), SECTION)
    objective: Any = parts.objective
    tokens, lengths = torch.ones(3, 4, dtype=torch.int64), torch.tensor([4, 0, 2])
    rows = Batch({"tokens": tokens, "lengths": lengths}, torch.arange(3), ["a", "b", "c"], lengths.clamp(min=1))
    with pytest.raises(UsageError, match=r"passed with 2 texts \(empty ones left out\) for 3 rows of a batch"):
        objective.represent(model, Part("text", rows))


def test_the_order_of_texts_behind_one_another_is_theirs() -> None:
    lengths = torch.tensor([3, 0, 1, 3, 2])
    packing = packed.Packing.of(lengths, 4)
    rows, texts = packed_rows(packing, torch.device("cpu"))
    assert texts == 4
    expected = {0: 0, 2: 1, 3: 2, 4: 3}
    assert [expected[int(place) // 4] for place in packing.places] == rows.tolist()


def test_a_run_logs_it_and_is_read_back_without_it(tmp_path: Path) -> None:
    data = write_collection(tmp_path / "data")
    start = train(config_of(data, tmp_path / "start", tmp_path / "cache", budget__epochs=1))
    changes: dict[str, Any] = {"init_from": str(start.path), "budget__epochs": 1}
    section = {"method": "bottleneck", "options": {"reduction_factor": 4}, "z_weight": 0.5, "track_z": True}
    frozen = {**section, "frozen_statistics": ["layer_norms", "batch_norms"]}
    run = train(config_of(data, tmp_path / "run", tmp_path / "cache", peft=frozen, **changes))
    assert [value for _, value in run.metrics("train/z")]
    text = (run.path / "metrics.jsonl").read_text(encoding="utf-8")
    assert '"z/query.backbone.encoder.layer.0.output.dense"' in text
    found = [value for _, value in run.metrics("test/recip_rank")]
    assert evaluate(run).scalars["recip_rank"] == found[-1]
    model: Any = Run(run.path).model("last")
    assert not any(getattr(module, "z", None) is not None and module.z.watcher for module in model.modules())
