"""The classifier: against a plain reference, and indifferent to padding, chunks, recomputation and compilation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from quincunx.errors import DataError
from quincunx.nn.attention.layer import AttentionLayer
from quincunx.nn.dropout import CounterDropout
from quincunx.nn.rows import attach_rows
from quincunx.recipes.long_range.config import Encoder, LongRangeConfig
from quincunx.recipes.long_range.model import LongRangeClassifier
from quincunx.recipes.long_range.recipe import RECIPE
from reference import classifier as reference

SMALL: dict[str, Any] = {
    "embedding_dim": 12,
    "hidden_dim": 20,
    "head_dim": 4,
    "num_heads": 2,
    "num_layers": 2,
    "vocab_size": 18,
    "max_seq_len": 64,
    "dropout": 0.2,
    "attention_dropout": 0.3,
}
LENGTHS = torch.tensor([9, 3, 1, 7, 9, 5, 2, 8])


def decided(settings: dict[str, Any]) -> LongRangeConfig:
    return RECIPE.decide(LongRangeConfig.model_validate(settings))[0]


def classifier(kind: str | None = "softmax", options: dict[str, Any] | None = None, **encoder: Any):
    config = decided({"encoder": SMALL | encoder, "attention": {"kind": kind, "options": {"softmax": options or {}}}})
    torch.manual_seed(0)
    model = LongRangeClassifier(config)
    context = attach_rows(model)
    assert context is not None
    return model, context


def batch(lengths: Tensor = LENGTHS, padding: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    size = (len(lengths), int(lengths.max()))
    tokens = torch.randint(1, 17, size, generator=generator)
    tokens = tokens * (torch.arange(size[1]) < lengths[:, None])
    return torch.nn.functional.pad(tokens, (0, padding)), lengths


def loss(logits: Tensor) -> Tensor:
    targets = torch.arange(len(logits)) % 10
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")


def gradient(model: LongRangeClassifier) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("positions", ["learned", "fixed"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "none"])
def test_logits_are_those_of_the_plain_reference(kind, tied, positions, pooling):
    model, _ = classifier(kind, tied_weights=tied, positions=positions, pooling=pooling)
    with torch.no_grad():
        for parameter in model.parameters():  # starting values of zero and one would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.double().eval()
    tokens, lengths = batch()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    logits = model(tokens, lengths).detach()
    for row, length in enumerate(lengths.tolist()):
        expected = reference.logits(
            weights,
            tokens[row, :length].tolist(),
            kind=kind,
            heads=2,
            head_dim=4,
            layers=2,
            tied=tied,
            learned=positions == "learned",
            cls=pooling == "cls",
        )
        assert (logits[row] - torch.from_numpy(expected)).abs().max() < 1e-10


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("padding", [1, 7, 50])
def test_further_padding_changes_nothing(padding, pooling):
    model, context = classifier(options={"weight_dropout": 0.2}, pooling=pooling)
    model.eval()
    assert (model(*batch(padding=padding)) - model(*batch())).abs().max() < 1e-6
    model.double().train()
    context.set(5, torch.arange(8))
    results = []
    for columns in (0, padding):
        model.zero_grad()
        logits = model(*batch(padding=columns))
        loss(logits).backward()
        results.append((logits.detach(), gradient(model)))
    (short, short_gradient), (long, long_gradient) = results
    assert (long - short).abs().max() < 1e-12
    assert (long_gradient - short_gradient).norm() < 1e-12 * short_gradient.norm()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("tied", [False, True])
def test_chunks_of_any_size_give_the_same_logits_and_gradients_under_dropout(tied, pooling):
    model, context = classifier(options={"weight_dropout": 0.2}, tied_weights=tied, pooling=pooling)
    for dtype, logit_bound, bound in ((torch.float64, 1e-12, 1e-12), (torch.float32, 1e-5, 2e-5)):
        model.to(dtype)
        tokens, lengths = batch()
        targets = torch.arange(8) % 10
        order = lengths.argsort(descending=True)
        results = []
        for size in (8, 1, 3, 7):
            model.zero_grad()
            logits = torch.zeros(8, 10, dtype=dtype)
            for rows in order.split(size):
                context.set(3, rows)
                cut = tokens[rows, : int(lengths[rows].max())]
                part = model(cut, lengths[rows])
                torch.nn.functional.cross_entropy(part, targets[rows], reduction="sum").backward()
                logits[rows] = part.detach()
            results.append((logits, gradient(model)))
        whole, whole_gradient = results[0]
        for logits, chunked in results[1:]:
            assert (logits - whole).abs().max() < logit_bound
            assert (chunked - whole_gradient).norm() < bound * whole_gradient.norm()
        context.set(4, order)
        assert (model(tokens[order], lengths[order]).detach() - whole[order]).abs().max() > 1e-3, "dropout was off"


@pytest.mark.parametrize("tied", [False, True])
def test_checkpointing_changes_nothing(tied):
    results = []
    for grad_checkpointing in (False, True):
        options = {"weight_dropout": 0.2, "grad_checkpointing": grad_checkpointing}
        model, context = classifier(options=options, tied_weights=tied)
        layers = [module for module in model.modules() if isinstance(module, AttentionLayer)]
        assert len(layers) == (1 if tied else 2)
        assert all(layer.grad_checkpointing is grad_checkpointing for layer in layers)
        context.set(5, torch.arange(8))
        logits = model(*batch())
        loss(logits).backward()
        results.append((logits, gradient(model)))
    assert all(torch.equal(plain, recomputed) for plain, recomputed in zip(*results, strict=True))


def test_checkpointing_note_is_the_kinds():
    assert "fused" in (classifier(options={"grad_checkpointing": True})[0].checkpointing_note() or "")
    assert classifier()[0].checkpointing_note() is None
    assert classifier("none", options={"grad_checkpointing": True})[0].checkpointing_note() is None


OTHER: dict[str, Any] = {
    "embedding_dim": 16,
    "hidden_dim": 24,
    "head_dim": 5,
    "num_heads": 3,
    "num_layers": 3,
    "tied_weights": True,
    "positions": "fixed",
    "position_sampling": "integer",
    "position_range": 70,
    "vocab_size": 20,
    "max_seq_len": 70,
    "dropout": 0.4,
    "attention_dropout": 0.5,
    "pooling": "cls",
    "num_classes": 11,
}


NEEDED: dict[str, dict[str, Any]] = {"position_range": {"position_sampling": "integer"}}
"""What a setting has to stand beside, to act."""


# how positions are numbered at evaluation is no part of the model: see test_positions.py
@pytest.mark.parametrize("name", [name for name in Encoder.model_fields if name != "position_evaluation"])
def test_every_encoder_setting_changes_something(name):
    observed = []
    for change in ({}, {name: OTHER[name]}):
        model, context = classifier(**NEEDED.get(name, {}), **change)
        context.set(5, torch.arange(8))
        shapes = [tuple(parameter.shape) for parameter in model.parameters()]
        observed.append((shapes, model(*batch()).tolist()))
    assert observed[0] != observed[1]


def test_every_softmax_option_acts_and_an_unset_kind_is_softmax():
    plain, dropped = classifier(None)[0], classifier(options={"weight_dropout": 0.3})[0]
    assert plain.encoder.blocks[0].attention.core.dropout is None
    assert dropped.encoder.blocks[0].attention.core.dropout.p == 0.3


def test_dropout_is_at_its_documented_places_and_nowhere_else():
    model, context = classifier(num_layers=1)
    context.set(0, torch.arange(8))
    called: list[tuple[str, float]] = []
    for name, module in model.named_modules():
        if isinstance(module, CounterDropout):
            module.register_forward_hook(lambda module, _x, _y, name=name: called.append((name, module.p)))
        else:
            assert not isinstance(module, torch.nn.Dropout)
    model(*batch())
    assert called == [
        ("embedding_dropout", 0.2),
        ("encoder.blocks.0.attention.dropout", 0.3),
        ("encoder.blocks.0.attention_branch_dropout", 0.2),
        ("encoder.blocks.0.feedforward.hidden_dropout", 0.2),
        ("encoder.blocks.0.feedforward.output_dropout", 0.2),
    ]


def test_the_cls_token_is_the_last_id_at_position_zero():
    model, _ = classifier(pooling="cls")
    model.eval()
    tokens, lengths = batch()
    before = model(tokens, lengths)
    assert model.positions.table.shape[0] == SMALL["max_seq_len"] + 1
    loss(before).backward()
    assert model.embedding.weight.grad[17].any(), "the cls token's embedding takes part"
    assert model.positions.table.grad[:10].any(1).all() and not model.positions.table.grad[10:].any()
    full = torch.ones(1, SMALL["max_seq_len"], dtype=torch.int64)
    assert model(full, torch.tensor([SMALL["max_seq_len"]])).isfinite().all()


def test_padding_has_a_zero_embedding_without_gradient_and_an_empty_sequence_stays_finite():
    model, context = classifier()
    lengths = torch.tensor([5, 0])
    context.set(0, torch.arange(2))
    logits = model(*batch(lengths))
    assert logits.isfinite().all()
    loss(logits).backward()
    assert gradient(model).isfinite().all()
    assert not model.embedding.weight[0].any() and not model.embedding.weight.grad[0].any()


def test_a_promise_of_no_padding_only_saves_the_mask():
    model, _ = classifier()
    model.double().eval()
    seen: list[Tensor | None] = []
    model.encoder.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[1]))
    tokens, lengths = batch(torch.full((8,), 6))
    logits = [model(tokens, lengths, padded=padded) for padded in (True, False, None)]
    assert [valid is None for valid in seen] == [False, True, True]
    assert (logits[0] - logits[1]).abs().max() < 1e-12 and torch.equal(logits[1], logits[2])
    model(*batch())
    assert seen[-1] is not None, "lengths on the CPU show that there is padding"


def test_a_sequence_beyond_the_table_is_refused():
    model, _ = classifier(max_seq_len=8)
    with pytest.raises(DataError, match="9 tokens, the position table 8 rows"):
        model.eval()(*batch())


@pytest.mark.parametrize("positions", ["learned", "fixed"])
def test_positions_let_it_tell_orders_apart(positions):
    model, _ = classifier(positions=positions)
    model.eval()
    one, other = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[6, 5, 4, 3]])
    assert (model(one, torch.tensor([4])) - model(other, torch.tensor([4]))).abs().max() > 1e-4


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.slow, id="fused"), {"weight_dropout": 0.2, "grad_checkpointing": True}],
)
def test_compiled_it_is_the_same_and_new_lengths_do_not_compile_again(options):
    compilations = []

    def backend(graph, _inputs):
        compilations.append(graph)
        return graph.forward

    model, context = classifier(options=options, tied_weights=True)
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for step, rows in enumerate((8, 8, 5, 7, 3, 8, 4)):
        lengths = LENGTHS[:rows] + step
        context.set(step, torch.arange(rows) + step)
        results = []
        for run in (model, compiled):
            model.zero_grad()
            logits = run(*batch(lengths))
            loss(logits).backward()
            results.append((logits, gradient(model)))
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*results, strict=True))
    assert len(compilations) <= 3  # for fixed sizes, for any length, for any length and batch
