"""Pairs: one trunk reads both sequences, each under masks of its own, and the head sees a, b, a * b and a - b."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quincunx.data.batch import Batch
from quincunx.engine.step import Step
from quincunx.nn.attention import KINDS
from quincunx.nn.rows import attach_rows
from quincunx.recipes.long_range.config import LongRangeConfig
from quincunx.recipes.long_range.data import Examples
from quincunx.recipes.long_range.model import SECOND, LongRangeClassifier
from quincunx.recipes.long_range.objective import Classification, classify
from quincunx.recipes.long_range.recipe import RECIPE
from quincunx.recipes.long_range.source import SequenceSource, collate
from reference import classifier as reference
from toys import cpu, plan

SMALL: dict[str, Any] = {
    "embedding_dim": 12,
    "hidden_dim": 20,
    "head_dim": 4,
    "num_heads": 2,
    "num_layers": 2,
    "max_seq_len": 40,
    "dropout": 0.2,
    "attention_dropout": 0.3,
}
LENGTHS = ((9, 3), (4, 4), (1, 7), (6, 2), (9, 9), (5, 1), (2, 8), (3, 3))


def pairs(lengths: tuple[tuple[int, int], ...] = LENGTHS, seed: int = 2) -> Batch:
    draw = np.random.default_rng(seed)
    texts = [draw.integers(0, 256, length, np.uint8).tobytes() for pair in lengths for length in pair]
    source = SequenceSource(Examples.of(texts, [i % 2 for i in range(len(lengths))], first_id=1, parts=2), 40)
    ids = list(range(len(source)))
    return collate([source[i] for i in ids], ids, ids, 0)


def classifier(kind: str = "softmax", options: dict[str, Any] | None = None, **encoder: Any) -> LongRangeClassifier:
    settings = {
        "task": "retrieval",
        "encoder": SMALL | encoder,
        "attention": {"kind": kind, "options": {kind: options or {}} if kind != "none" else {}},
    }
    torch.manual_seed(0)
    model = LongRangeClassifier(RECIPE.decide(LongRangeConfig.model_validate(settings))[0])
    with torch.no_grad():
        for parameter in model.parameters():  # starting values of zero and one would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.double()


def seen_by_the_head(model: LongRangeClassifier, batch: Batch) -> Tensor:
    """What the classifier gets of each pair, `[B, 4 D]`."""
    seen: list[Tensor] = []
    hook = model.classifier.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0].detach()))
    with torch.no_grad():
        classify(model, batch)
    hook.remove()
    return seen[0]


def swapped(batch: Batch) -> Batch:
    names = {"tokens": "second_tokens", "second_tokens": "tokens"}
    names |= {"lengths": "second_lengths", "second_lengths": "lengths"}
    tensors = {names.get(name, name): tensor for name, tensor in batch.tensors.items()}
    return Batch(tensors, batch.rows, batch.ids, batch.lengths, batch.padded)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "none"])
def test_logits_are_those_of_the_plain_reference(kind, tied, pooling):
    model = classifier(kind, tied_weights=tied, pooling=pooling).eval()
    batch = pairs()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    logits = classify(model, batch).detach()
    assert logits.shape == (8, 2)
    for row, (first, second) in enumerate(LENGTHS):
        expected = reference.pair_logits(
            weights,
            batch["tokens"][row, :first].tolist(),
            batch["second_tokens"][row, :second].tolist(),
            kind=kind,
            heads=2,
            head_dim=4,
            layers=2,
            tied=tied,
            learned=True,
            cls=pooling == "cls",
        )
        assert (logits[row] - torch.from_numpy(expected)).abs().max() <= 1e-10


def test_swapping_the_two_turns_their_difference_round():
    model, batch = classifier().eval(), pairs()
    a, b, product, difference = seen_by_the_head(model, batch).chunk(4, dim=1)
    other = seen_by_the_head(model, swapped(batch)).chunk(4, dim=1)
    for found, wanted in zip(other, (b, a, product, -difference), strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)
    assert (difference.abs().amax(1) > 1e-3).all()
    assert torch.allclose(product, a * b)
    assert torch.allclose(difference, a - b)
    assert (classify(model, batch) - classify(model, swapped(batch))).abs().max() > 1e-3


def same_twice() -> Batch:
    batch = pairs()
    tensors = {"tokens": batch["tokens"], "lengths": batch["lengths"], "labels": batch["labels"]}
    tensors |= {"second_tokens": batch["tokens"], "second_lengths": batch["lengths"]}
    return Batch(tensors, batch.rows, batch.ids, batch["lengths"], batch.padded)


@pytest.mark.parametrize(
    "places",
    [{"dropout": 0.5, "attention_dropout": 0.0}, {"dropout": 0.0, "attention_dropout": 0.5}, "weights"],
    ids=["dropout", "attention dropout", "weight dropout"],
)
def test_the_same_sequence_twice_gets_two_masks(places):
    """In evaluation they are one; in training each side has masks of its own, and the same ones again."""
    options = {"weight_dropout": 0.5} if places == "weights" else {}
    none = {"dropout": 0.0, "attention_dropout": 0.0}
    model = classifier("softmax", options, **(none if places == "weights" else places))
    batch = same_twice()
    a, b, _, _ = seen_by_the_head(model.eval(), batch).chunk(4, dim=1)
    assert torch.equal(a, b)
    context = attach_rows(model)
    assert context is not None
    model.train()
    context.set(7, batch.rows)
    first = seen_by_the_head(model, batch)
    a, b, _, _ = first.chunk(4, dim=1)
    assert ((a - b).abs().amax(1) > 1e-3)[batch["lengths"] > 3].all()
    context.set(7, batch.rows)
    assert torch.equal(seen_by_the_head(model, batch), first)
    context.set(8, batch.rows)
    assert not torch.equal(seen_by_the_head(model, batch), first)


def test_both_sides_masks_differ_at_every_place_of_dropout():
    """Not only in sum: the input of each dropout is made one, and its outputs compared."""
    model, batch = classifier(tied_weights=True), same_twice()
    context = attach_rows(model)
    assert context is not None
    context.set(3, batch.rows)
    masks: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if type(module).__name__ == "CounterDropout":
            module.register_forward_pre_hook(lambda _m, arguments: (torch.ones_like(arguments[0]), *arguments[1:]))
            module.register_forward_hook(lambda _m, _x, y, name=name: masks.setdefault(name, []).append(y))
    classify(model.train(), batch)
    assert len(masks) == 5
    for name, found in masks.items():
        # tied weights: two passes a side through each block, one through the embeddings
        assert len(found) == (2 if name == "embedding_dropout" else 4)
        for place, mask in enumerate(found):
            assert mask.min() == 0
            for other in found[:place]:
                assert 0.1 < float((mask != other).double().mean()) < 0.6, name


def test_the_second_side_has_room_for_every_layer():
    assert SECOND > 10_000, "the number of a pass is added to it"


def gradient(model: nn.Module, batch: Batch, size: int | None) -> Tensor:
    model.zero_grad()
    Step(model, Classification(), cpu(), plan(chunk_samples=size), seed=5).gradient(2, [batch])
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_chunks_of_any_size_give_the_same_gradient_under_dropout(pooling):
    model, batch = classifier("softmax", {"weight_dropout": 0.2}, pooling=pooling), pairs()
    model.train()
    whole = gradient(model, batch, None)
    for size in (1, 3, 7, 8):
        assert (gradient(model, batch, size) - whole).norm() <= 1e-12 * whole.norm(), size
    model.eval()
    assert (gradient(model, batch, None) - whole).norm() > 1e-2 * whole.norm(), "dropout was off"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("softmax", "none")])
def test_chunks_of_any_size_give_the_same_gradient_under_every_kind(kind):
    model, batch = classifier(kind).train(), pairs()
    whole = gradient(model, batch, None)
    for size in (1, 3):
        assert (gradient(model, batch, size) - whole).norm() <= 1e-12 * whole.norm(), size


def test_chunks_of_any_size_give_the_same_logits_under_dropout():
    model, batch = classifier(), pairs()
    context = attach_rows(model)
    assert context is not None
    context.set(3, batch.rows)
    whole = classify(model.train(), batch).detach()
    order = batch.lengths.argsort(descending=True)  # pyright: ignore[reportOptionalMemberAccess]
    for size in (1, 3, 7):
        logits = torch.zeros_like(whole)
        for rows in order.split(size):
            context.set(3, batch.rows[rows])
            logits[rows] = classify(model, batch.select(rows)).detach()
        assert (logits - whole).abs().max() <= 1e-12


def test_further_padding_of_either_side_changes_nothing():
    model, batch = classifier().eval(), pairs()
    wide = {
        name: nn.functional.pad(tensor, (0, 6)) if name in batch.padded else tensor
        for name, tensor in batch.tensors.items()
    }
    padded = Batch(wide, batch.rows, batch.ids, batch.lengths, batch.padded)
    assert (classify(model, padded) - classify(model, batch)).abs().max() <= 1e-12


def test_the_head_of_pairs_is_four_times_as_wide():
    assert classifier().classifier[0].in_features == 4 * 12
    config = RECIPE.decide(LongRangeConfig.model_validate({"encoder": SMALL}))[0]
    assert LongRangeClassifier(config).classifier[0].in_features == 12
