"""The encoder: order of its parts, places of dropout, tied weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from quincunx.nn.attention.layer import AttentionLayer
from quincunx.nn.attention.softmax import SoftmaxAttention
from quincunx.nn.dropout import CounterDropout
from quincunx.nn.encoder import Encoder
from quincunx.nn.rows import RowContext, attach_rows

WIDTH, HIDDEN = 6, 10


def encoder(
    layers: int, *, tied: bool = False, attention: bool = True, dropout: float = 0.0, attention_dropout: float = 0.0
) -> tuple[Encoder, RowContext]:
    def layer() -> AttentionLayer | None:
        return AttentionLayer(WIDTH, SoftmaxAttention(2, 4), attention_dropout) if attention else None

    torch.manual_seed(3)
    model = Encoder(WIDTH, HIDDEN, layers, layer, dropout=dropout, tied_weights=tied).double()
    context = attach_rows(model)
    assert context is not None
    context.set(1, torch.arange(3))
    return model, context


def states() -> Tensor:
    return torch.randn(3, 7, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_order_of_norms_branches_and_dropouts():
    model, _ = encoder(1, dropout=0.3, attention_dropout=0.6)
    block, x = model.blocks[0], states()
    # Written out from the parts; every dropout is called at its place, so one left out or put elsewhere shows.
    attended = block.attention.output(
        block.attention.core(
            *(
                part(block.attention_norm(x)).view(3, 7, 2, 4).transpose(1, 2)
                for part in (block.attention.query, block.attention.key, block.attention.value)
            ),
            None,
        )
        .transpose(1, 2)
        .reshape(3, 7, 8)
    )
    y = x + block.attention_branch_dropout(block.attention.dropout(attended))
    hidden = block.feedforward.hidden_dropout(functional.gelu(block.feedforward.widen(block.feedforward_norm(y))))
    y = y + block.feedforward.output_dropout(block.feedforward.narrow(hidden))
    assert torch.allclose(model(x, None), functional.layer_norm(y, (WIDTH,)), atol=1e-12)
    chances = {name: module.p for name, module in model.named_modules() if isinstance(module, CounterDropout)}
    assert chances == {
        "blocks.0.attention.dropout": 0.6,
        "blocks.0.attention_branch_dropout": 0.3,
        "blocks.0.feedforward.hidden_dropout": 0.3,
        "blocks.0.feedforward.output_dropout": 0.3,
    }


def test_tied_weights_do_not_grow_with_depth():
    assert count(encoder(1)[0]) == count(encoder(4, tied=True)[0]) < count(encoder(2)[0])


def test_tied_gradients_are_the_sum_over_the_passes():
    tied, _ = encoder(3, tied=True)
    untied, _ = encoder(3)
    for block in untied.blocks:
        block.load_state_dict(tied.blocks[0].state_dict())
    valid = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    outputs = [model(states(), valid) for model in (tied, untied)]
    assert torch.equal(*outputs)
    for output in outputs:
        output[valid].square().sum().backward()
    for name, parameter in tied.blocks[0].named_parameters():
        passes = [dict(block.named_parameters())[name].grad for block in untied.blocks]
        assert all(passed.abs().max() > 0 for passed in passes) or name == "attention.key.bias"
        assert torch.allclose(parameter.grad, sum(passes), rtol=1e-12, atol=1e-13)


def test_each_pass_through_tied_weights_has_masks_of_its_own_and_replays_them():
    model, context = encoder(3, tied=True, dropout=0.5, attention_dropout=0.5)
    masks: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, CounterDropout):
            seen = masks.setdefault(name, [])
            module.register_forward_hook(
                lambda module, inputs, _y, seen=seen: seen.append(module.forward(torch.ones_like(x), *inputs[1:]))
            )
    x = states()
    first = model(x, None)
    assert len(masks) == 4
    for name, (one, two, three) in masks.items():
        assert not torch.equal(one, two) and not torch.equal(two, three) and not torch.equal(one, three), name
    assert torch.equal(model(x, None), first)
    context.set(2, torch.arange(3))
    assert not torch.equal(model(x, None), first)


def test_without_attention_there_is_no_branch_and_no_token_sees_another():
    model, _ = encoder(2, attention=False)
    assert not any("attention" in name for name, _ in model.named_parameters())
    x = states()
    changed = x.clone()
    changed[:, 2] += 1
    difference = (model(x, None) - model(changed, None)).abs().amax(dim=(0, 2))
    assert difference[2] > 0 and not difference[[0, 1, 3, 4, 5, 6]].any()


def test_silenced_attention_equals_no_attention():
    silent, _ = encoder(2)
    for block in silent.blocks:
        torch.nn.init.zeros_(block.attention.output.weight)
    plain, _ = encoder(2, attention=False)
    plain.load_state_dict(silent.state_dict(), strict=False)
    assert torch.equal(silent(states(), None), plain(states(), None))


def test_starting_values():
    model = Encoder(64, 128, 1, lambda: AttentionLayer(64, SoftmaxAttention(2, 32)))
    for name, parameter in model.state_dict().items():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name:
            assert (parameter == 1).all()
        else:
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert float(parameter.abs().max()) == pytest.approx(bound, rel=0.02)
            assert float(parameter.std()) == pytest.approx(bound / 3**0.5, rel=0.05)
