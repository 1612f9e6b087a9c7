"""Dropout of other people's modules becomes ours: by row and token, whatever the chunk and the kind of attention."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.config.sections.peft import Peft
from quincunx.engine.addressing import attach_dropout
from quincunx.nn.foreign import AdoptedDropout, attention_weights, recomputing
from quincunx.nn.rows import Columns, RowContext
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from quincunx.tuners import attach
from small_encoders import backbone, batch

LENGTHS = (7, 5, 6, 3)
CUTS: tuple[list[list[int]], ...] = ([[0, 1, 2, 3]], [[3], [1], [0, 2]], [[2, 1], [3, 0]])


def tokens() -> Tensor:
    found = torch.randint(1, 40, (4, 7), generator=torch.Generator().manual_seed(1))
    return found.masked_fill(torch.arange(7) >= torch.tensor(LENGTHS)[:, None], 0)


def t5(p: float) -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes: Any = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 40}
    return T5ForConditionalGeneration(T5Config(**sizes, dropout_rate=p, decoder_start_token_id=0))


def bart(p: float) -> nn.Module:
    from transformers import BartConfig, BartForConditionalGeneration

    sizes: Any = {
        "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 40,
    }  # fmt: skip
    return BartForConditionalGeneration(BartConfig(**sizes, dropout=p, attention_dropout=p, activation_dropout=p))


def gpt2(p: float) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: Any = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "bos_token_id": 1, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=p, embd_pdrop=p, attn_pdrop=p))


def opt(p: float) -> nn.Module:
    from transformers import OPTConfig, OPTForCausalLM

    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24, "vocab_size": 40}
    return OPTForCausalLM(OPTConfig(**sizes, word_embed_proj_dim=16, dropout=p, attention_dropout=p))


def llama(p: float) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=24, vocab_size=40, attention_dropout=p))


MODELS: Mapping[str, Callable[[float], nn.Module]] = {"t5": t5, "bart": bart, "gpt2": gpt2, "opt": opt, "llama": llama}


def made(kind: str, *, attention: str = "sdpa", again: bool = False, p: float = 0.3) -> Any:
    """Return a model of two layers in float64, the same each time, that writes texts."""
    torch.manual_seed(0)
    model: Any = MODELS[kind](p)
    model.set_attn_implementation(attention)
    if again:
        model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": partial(recomputing, model)})
    return model.double().train()


def gradient(model: Any, parts: Sequence[list[int]] = CUTS[0], key: int = 3) -> Tensor:
    """Return the gradient of the loss over all texts, computed part by part, each padded to its own longest."""
    context = attach_dropout(model) or RowContext()  # where nothing is dropped nobody asks
    model.zero_grad(set_to_none=True)
    for part in parts:
        read = tokens()[part][:, : max(LENGTHS[row] for row in part)]
        inputs = {"input_ids": read, "attention_mask": (read != 0).long(), "use_cache": False}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = read
        context.set(key, torch.tensor(part))
        logits = model(**inputs).logits
        targets = read.masked_fill(read == 0, -100)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        context.set(99, torch.tensor(part))  # what is computed again goes back to its own rows
        loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("again", [False, True], ids=["", "again"])
@pytest.mark.parametrize("kind", MODELS)
def test_neither_chunks_nor_layers_computed_again_change_what_is_dropped(kind: str, again: bool) -> None:
    whole = gradient(made(kind))
    for parts in CUTS:
        assert apart(gradient(made(kind, again=again), parts), whole) <= 1e-12
    assert apart(gradient(made(kind), key=4), whole) > 1e-2


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_attention_drops_the_same(kind: str) -> None:
    # the library's eager attention has its softmax in float32 in places
    assert apart(gradient(made(kind, attention="eager")), gradient(made(kind))) <= 1e-6


@pytest.mark.parametrize("kind", MODELS)
def test_without_effect_nothing_is_changed(kind: str) -> None:
    plain, adopted = made(kind).eval(), made(kind)
    expected = gradient(made(kind, p=0.0))
    assert apart(gradient(adopted.eval()), expected) <= 1e-12
    assert apart(gradient(adopted.train()), expected) > 1e-2
    assert plain.state_dict().keys() == adopted.state_dict().keys()


ENCODERS = ("bert", "roberta", "mpnet", "distilbert", "modernbert", "t5", "gpt2")


@pytest.mark.parametrize("adapters", [{}, {"method": "bottleneck", "options": {"dropout": 0.4}}], ids=["", "adapters"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_of_texts(kind: str, adapters: dict[str, Any]) -> None:
    """Those that lay texts behind one another, and those that pad."""
    model = backbone(kind, dropout=0.3)
    if adapters:
        attach(model, Peft(**adapters))
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    texts = TextEncoder(model.double().train(), "mean")
    context = attach_dropout(texts)
    assert context is not None
    lengths = [3, 12, 12, 5, 20]
    weights = torch.linspace(-1, 1, 5 * 16, dtype=torch.float64).view(5, 16)
    found: list[Tensor] = []
    for parts in ([[0, 1, 2, 3, 4]], [[4], [0, 3], [2, 1]]):
        texts.zero_grad(set_to_none=True)
        for part in parts:
            size = max(lengths[row] for row in part)
            read, sizes = batch(lengths)
            context.set(3, torch.tensor(part))
            (texts(read[part][:, :size], sizes[part]) * weights[part]).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in texts.parameters() if p.grad is not None]))
    assert apart(found[1], found[0]) <= (1e-6 if kind == "modernbert" else 1e-11)


class Twice(nn.Module):
    """Drops by one module twice, and by a function twice."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(p)
        self.dropout = p

    def forward(self, x: Tensor, fail: bool = False) -> list[Tensor]:
        if fail:
            raise KeyError("on purpose")
        return [
            self.drop(x), self.drop(x),
            functional.dropout(x, self.dropout, self.training), functional.dropout(x, p=self.dropout),
        ]  # fmt: skip


def adopted(p: float = 0.5) -> tuple[Twice, RowContext]:
    module = Twice(p)
    context = attach_dropout(module)
    assert context is not None
    context.set(1, torch.arange(3))
    return module, context


def test_each_call_has_a_mask_of_its_own_and_the_next_pass_the_same_ones() -> None:
    module, _ = adopted()
    x = torch.ones(3, 5, 64)
    first, second = module(x), module(x)
    for number, mask in enumerate(first):
        assert torch.equal(mask, second[number])
        for other in first[number + 1 :]:
            assert 0.4 < float((mask != other).float().mean()) < 0.6


def test_a_share_is_dropped_and_the_rest_made_larger() -> None:
    for mask in adopted(0.25)[0](torch.ones(3, 50, 400)):
        assert float((mask == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
        assert mask.unique().tolist() == pytest.approx([0, 4 / 3])


def test_functions_are_caught_in_their_module_alone() -> None:
    module, _ = adopted()
    with pytest.raises(KeyError):
        module(torch.ones(3, 5, 8), fail=True)
    torch.manual_seed(0)
    first = functional.dropout(torch.ones(1000))
    assert not torch.equal(first, functional.dropout(torch.ones(1000)))  # drawn again, as ever
    module.eval()
    assert torch.equal(module(torch.ones(3, 5, 8))[0], torch.ones(3, 5, 8))


def test_adopting_twice_and_copying_change_nothing() -> None:
    module = adopted()[0]
    x = torch.ones(3, 5, 64)
    expected = module(x)
    assert isinstance(module.drop, AdoptedDropout) and isinstance(module.drop, nn.Dropout)
    again = attach_dropout(module)
    assert again is not None
    again.set(1, torch.arange(3))
    other = copy.deepcopy(module)
    of_other = attach_dropout(other)
    assert of_other is not None
    of_other.set(1, torch.arange(3))
    again.set(2, torch.arange(3))  # the copy has rows of its own
    assert all(map(torch.equal, other(x), expected))
    assert not any(map(torch.equal, module(x), expected))


def test_numbered_columns_keep_their_masks_wherever_they_stand() -> None:
    module, context = adopted()
    x = torch.ones(3, 9, 64)
    with context.numbered(Columns(torch.tensor([0, 1, 2, 3, 4, 70, 71, 72, 73]))):
        wide = module(x)
    with context.numbered(Columns(torch.tensor([0, 1, 70, 71, 72, 73]))):
        narrow = module(x[:, :6])
    for a, b in zip(wide, narrow, strict=True):
        assert torch.equal(a[:, [0, 1, 5, 6, 7, 8]], b)
        assert not torch.equal(a[:, :6], b)


def test_members_of_a_row_are_told_apart_and_other_rows_refused() -> None:
    module, context = adopted()
    found = module(torch.ones(6, 5, 64))[0]
    assert len({tuple(row.flatten().tolist()) for row in found}) == 6
    context.set(1, torch.tensor([1]))
    assert torch.equal(module(torch.ones(2, 5, 64))[0], found[2:4])
    context.set(1, torch.arange(3))
    with pytest.raises(RuntimeError, match="rows were set for 3 examples, the module got 4"):
        module(torch.ones(4, 5, 8))


@pytest.mark.parametrize("kind", ["none", "causal", "bool", "added", "grouped"])
def test_attention_weights_are_those_of_the_fused_kernel(kind: str) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 6, 8, dtype=torch.float64) for heads in (4, 2, 2))
    options: dict[str, Any] = {"enable_gqa": True}
    if kind != "grouped":
        key, value, options = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), {}
    seen = (torch.rand(2, 1, 6, 6) < 0.6) | torch.eye(6, dtype=torch.bool)
    mask = {"bool": seen, "added": torch.where(seen, 0.3, -1e9).double()}.get(kind)
    expected = functional.scaled_dot_product_attention(
        query, key, value, mask, is_causal=kind == "causal", scale=0.4, **options
    )
    weights = attention_weights(query, key, mask, kind == "causal", 0.4, kind == "grouped")
    values = value.repeat_interleave(2, 1) if kind == "grouped" else value
    torch.testing.assert_close(weights @ values, expected, rtol=1e-12, atol=1e-13)


def test_a_query_that_sees_nothing_has_a_gradient_without_gaps() -> None:
    query = torch.randn(1, 1, 2, 4, requires_grad=True)
    mask = torch.tensor([[True, True], [False, False]])[None, None]
    attention_weights(query, torch.randn(1, 1, 2, 4), mask)[..., 0, :].sum().backward()
    assert query.grad is not None and query.grad.isfinite().all()
