"""Texts laid behind one another: the same states and gradients as with padding, whatever the lengths."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="the transformers library is not installed")

from transformers import AutoConfig, AutoModel

from quincunx.config.sections.peft import Peft
from quincunx.engine.addressing import attach_dropout
from quincunx.nn.pretrained.packed import NAME, PACKABLE, Packing, attention, packs, run_packed, use
from quincunx.recipes.retrieval.model.text_encoder import Pooling, TextEncoder
from quincunx.tuners import attach

CPU = torch.device("cpu")
LENGTHS = torch.tensor([3, 17, 17, 5, 0, 30, 3, 3])


def encoder(kind: str, **changes: Any) -> nn.Module:
    """A small encoder of an architecture, the same for each call."""
    sizes: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 40,
    }  # fmt: skip
    if kind == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "dropout": 0.0, "attention_dropout": 0.0}
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=300, **{**sizes, **changes}))


def tokens() -> torch.Tensor:
    return torch.randint(5, 300, (len(LENGTHS), 30), generator=torch.Generator().manual_seed(1))


def learnt(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of the texts, and the gradient of some function of them."""
    vectors = TextEncoder(model.double().train(), "mean")(tokens(), LENGTHS)  # type: ignore[arg-type]
    (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
    found = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return vectors.detach(), torch.cat(found)


@pytest.mark.parametrize("kind", sorted(PACKABLE))
def test_vectors_and_gradients_are_those_of_padded_texts(kind: str) -> None:
    padded, packed = encoder(kind), encoder(kind)
    use(packed)  # type: ignore[arg-type]
    assert packs(packed, CPU)
    assert not packs(padded, CPU)
    for ours, theirs in zip(learnt(packed), learnt(padded), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_padding_is_not_computed() -> None:
    model = encoder("bert")
    use(model)  # type: ignore[arg-type]
    seen: list[torch.Size] = []
    model.encoder.layer[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    run_packed(model, tokens(), LENGTHS).padded()
    assert seen == [torch.Size([1, int(LENGTHS.sum()), 32])]


def test_what_is_padding_is_zero_and_the_rest_stands_in_its_place() -> None:
    model = encoder("bert").eval()
    use(model)  # type: ignore[arg-type]
    with torch.no_grad():
        states = run_packed(model, tokens(), LENGTHS).padded()
        for row, length in enumerate(LENGTHS.tolist()):
            assert not states[row, length:].any()
            if length:
                alone = model(input_ids=tokens()[row : row + 1, :length]).last_hidden_state[0]
                torch.testing.assert_close(states[row, :length], alone, rtol=1e-5, atol=1e-6)


def test_texts_of_equal_length_lie_together() -> None:
    packing = Packing.of(torch.tensor([2, 3, 0, 2]), 4)
    assert packing.groups == [(2, 2), (1, 3)]
    assert packing.places.tolist() == [0, 1, 12, 13, 4, 5, 6]
    assert packing.positions.tolist() == [0, 1, 0, 1, 0, 1, 2]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", sorted(PACKABLE))
def test_masks_depend_on_row_and_token_alone(kind: str, checkpointing: bool) -> None:
    """With dropout on: packed, padded, one text at a time, and with layers computed again give one gradient."""
    sizes = {"dropout": 0.3, "attention_dropout": 0.2}
    if kind != "distilbert":
        sizes = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
    whole, alone = encoder(kind, **sizes), encoder(kind, **sizes)
    rows = torch.arange(len(LENGTHS))
    weights = torch.linspace(-1, 1, len(LENGTHS) * 32, dtype=torch.float64).view(-1, 32)
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for model, parts in ((whole, [rows]), (alone, rows.split(1)), (alone, rows.flip(0).split(3))):
        use(model)  # type: ignore[arg-type]
        texts = TextEncoder(model.double().train(), "mean", gradient_checkpointing=checkpointing)  # type: ignore[arg-type]
        context = attach_dropout(texts)
        assert context is not None
        vectors = torch.zeros(len(LENGTHS), 32, dtype=torch.float64)
        loss = torch.zeros((), dtype=torch.float64)
        for part in parts:
            context.set(3, part)
            made = texts(tokens()[part], LENGTHS[part])
            vectors[part] = made.detach()
            loss = loss + (made * weights[part]).sum()
        context.set(99, rows[:1])  # what is computed again in the backward pass goes back to its own rows
        model.zero_grad()
        loss.backward()
        found.append((vectors, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    for vectors, gradient in found[1:]:
        torch.testing.assert_close(vectors, found[0][0], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-11, atol=1e-12)


def test_dropout_is_at_work_in_training_alone() -> None:
    model = encoder("bert", hidden_dropout_prob=0.3)
    use(model)  # type: ignore[arg-type]
    texts = TextEncoder(model, "mean")  # type: ignore[arg-type]
    context = attach_dropout(texts)
    assert context is not None
    vectors = []
    for key in (1, 2):
        context.set(key, torch.arange(len(LENGTHS)))
        vectors.append(texts.train()(tokens(), LENGTHS))
        vectors.append(texts.eval()(tokens(), LENGTHS))
    assert (vectors[0] != vectors[2]).any() and torch.equal(vectors[1], vectors[3])
    assert not [module for module in model.modules() if type(module) is nn.Dropout and module.p > 0]


@pytest.mark.parametrize("pooling", ["cls", "mean", "last", "attention"])
def test_every_pooling_takes_from_packed_texts_what_it_takes_from_padded_ones(pooling: Pooling) -> None:
    model = encoder("bert").double()
    use(model)  # type: ignore[arg-type]
    texts = TextEncoder(model, pooling)  # type: ignore[arg-type]
    vectors = texts(tokens(), LENGTHS)
    states, valid = texts.masked_states(tokens(), LENGTHS)
    torch.testing.assert_close(vectors, texts.pooled(states, valid), rtol=1e-12, atol=1e-13)
    assert not vectors[4].any() and vectors[:4].any(dim=1).all()


def test_half_precision_attends_in_float32() -> None:
    """Packed or padded, what comes out is the rounded value of what float32 gives for the same inputs."""
    generator = torch.Generator().manual_seed(0)
    packing = Packing.of(torch.tensor([5, 9, 9, 14]), 14)
    query, key, value = (torch.randn(1, 4, 37, 8, generator=generator).bfloat16() for _ in range(3))
    module = nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    for options in ({"packing": packing}, {}):
        exact, _ = attention(module, query.float(), key.float(), value.float(), None, **options)
        with torch.autocast("cpu", torch.bfloat16):
            found, _ = attention(module, query, key, value, None, **options)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, exact.bfloat16())


def test_an_attention_that_somebody_chose_stays() -> None:
    model = encoder("bert", attn_implementation="eager")
    use(model)  # type: ignore[arg-type]
    assert model.config._attn_implementation == "eager"
    assert not packs(model, CPU)


def test_other_devices_and_compiled_models_pad() -> None:
    model = encoder("bert")
    use(model)  # type: ignore[arg-type]
    assert not packs(model, torch.device("cuda"))
    model.compile()
    assert not packs(model, CPU)


def test_the_saved_config_does_not_name_it() -> None:
    model = encoder("bert")
    use(model)  # type: ignore[arg-type]
    assert NAME not in json.dumps(model.config.to_dict())


@pytest.mark.parametrize(
    ("method", "options", "packed"),
    [
        ("prompt_tuning", {"num_virtual_tokens": 3}, False),
        ("prefix_tuning", {"num_virtual_tokens": 3}, False),
        ("lora", {"target_modules": ["query"]}, True),
    ],
)
def test_adapters_that_put_something_before_each_text_are_given_padded_texts(
    method: str, options: dict[str, Any], packed: bool
) -> None:
    pytest.importorskip("peft", reason="the peft library is not installed")
    model = encoder("bert")
    use(model)  # type: ignore[arg-type]
    adapted = attach(model, Peft(method=method, options=options)).model
    assert packs(adapted, CPU) is packed
    vectors, gradient = learnt(adapted)
    assert torch.isfinite(vectors).all() and gradient.abs().sum() > 0
