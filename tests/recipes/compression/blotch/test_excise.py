"""Targets, ranks, excision; and that a model cannot tell a masked text from one that was cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from quincunx.recipes.compression.blotch import choose, excise, ranks, spans, targets
from quincunx.recipes.compression.blotch.picture import picture
from reference import blotching as plain

IDS = {"bos_token_id": None, "eos_token_id": None}


def keep_of(*rows: str) -> torch.Tensor:
    return torch.tensor([[symbol == "#" for symbol in row] for row in rows])


def test_targets_and_ranks_against_a_golden_drawn_by_hand():
    tokens = torch.tensor([[10, 11, 12, 13, 14, 15, 16], [20, 21, 22, 23, 24, 0, 0], [30, 31, 0, 0, 0, 0, 0]])
    keep = keep_of("##..###", "###..xx", ".......")
    lengths = torch.tensor([7, 5, 2])
    assert targets(tokens, keep, lengths).tolist() == [
        [11, 14, -100, -100, 15, 16, -100],  # 11 stands before the hole: it is asked for 14
        [21, 22, -100, -100, -100, -100, -100],
        [-100] * 7,
    ]
    assert targets(tokens, keep, lengths, start=True)[:, 0].tolist() == [10, 20, -100]
    assert torch.equal(targets(tokens, keep, lengths, start=True)[:, 1:], targets(tokens, keep, lengths))
    assert ranks(keep).tolist() == [[0, 1, 1, 1, 2, 3, 4], [0, 1, 2, 2, 2, 2, 2], [0] * 7]
    holes = excise(keep)
    assert holes.take(tokens).tolist() == [[10, 11, 14, 15, 16], [20, 21, 22, 0, 0], [0, 0, 0, 0, 0]]
    assert holes.lengths.tolist() == [5, 3, 0]
    assert holes.columns.tolist() == [[0, 1, 4, 5, 6], [0, 1, 2, 0, 0], [0] * 5]


def test_padding_is_no_target_even_where_it_is_said_to_be_kept():
    tokens = torch.tensor([[5, 6, 7, 8]])
    assert targets(tokens, keep_of("####"), torch.tensor([2])).tolist() == [[6, -100, -100, -100]]


def test_nothing_left_out_gives_the_ordinary_targets():
    tokens = torch.arange(12).view(2, 6)
    wanted = targets(tokens, keep_of("######", "######"), torch.tensor([6, 6]))
    assert torch.equal(wanted[:, :-1], tokens[:, 1:]) and wanted[:, -1].tolist() == [-100, -100]


rows_of_keep = st.integers(1, 9).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=4)
)


@given(rows_of_keep)
def test_targets_are_those_of_the_reference_and_of_the_excised_text(rows):
    keep = torch.tensor(rows)
    batch, longest = keep.shape
    tokens = torch.arange(batch * longest).view(batch, longest) + 100
    lengths = torch.full((batch,), longest)
    wanted = targets(tokens, keep, lengths)
    for row in range(batch):
        assert wanted[row].tolist() == plain.targets(tokens[row].tolist(), rows[row])
    # re-targeting a masked text is excising it first
    holes = excise(keep)
    short = holes.take(tokens)
    compact = targets(short, holes.inside, holes.lengths)
    assert torch.equal(holes.take(wanted, fill=-100), compact)
    assert torch.equal(holes.put_back(compact, longest, fill=-100), wanted)
    assert torch.equal(holes.put_back(short, longest), tokens * keep)
    assert torch.equal(holes.take(ranks(keep)), torch.arange(short.shape[1]) * holes.inside)


def test_values_with_further_dimensions_move_as_tokens_do():
    keep = keep_of("#.#.", ".###")
    values = torch.randn(2, 4, 3, 2)
    holes = excise(keep)
    taken = holes.take(values)
    assert torch.equal(taken[0, :2], values[0, [0, 2]]) and not taken[0, 2].any()
    back = holes.put_back(taken, 4)
    assert torch.equal(back, values * keep[:, :, None, None])


def tiny(name: str, attention: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if name == "gpt2":
        config = GPT2Config(vocab_size=31, n_positions=64, n_embd=16, n_layer=2, n_head=2, **IDS)
        config._attn_implementation = attention
        return GPT2LMHeadModel(config).double().eval()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=31, max_position_embeddings=64, **sizes, **IDS)
    config._attn_implementation = attention
    return LlamaForCausalLM(config).double().eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_masked_and_excised_texts_have_the_same_logits_losses_and_gradients(name, attention):
    model = tiny(name, attention)
    lengths = torch.tensor([24, 17, 24, 5])
    tokens = torch.randint(1, 31, (4, 24), generator=torch.Generator().manual_seed(3))
    tokens = tokens.masked_fill(torch.arange(24) >= lengths[:, None], 0)
    keep = choose(spans(lengths, 24, 3), torch.tensor([0.5, 0.5, 1.0, 0.5]), keys=torch.arange(4), token_p=0.1)
    assert 0 < int(keep[0].sum()) < 24
    wanted = targets(tokens, keep, lengths)
    holes = excise(keep)

    hidden = torch.finfo(torch.float64).min
    seen = keep[:, None, :] & torch.ones(24, 24, dtype=torch.bool).tril()
    mask = torch.zeros(4, 1, 24, 24, dtype=torch.float64).masked_fill(~seen[:, None], hidden)
    short_seen = holes.inside[:, None, :] & torch.ones(holes.inside.shape[1], holes.inside.shape[1]).tril().bool()
    short_mask = torch.zeros(4, 1, *short_seen.shape[1:], dtype=torch.float64).masked_fill(~short_seen[:, None], hidden)

    def run(ids: torch.Tensor, places: torch.Tensor, additive: torch.Tensor, labels: torch.Tensor):
        model.zero_grad()
        logits = model(ids, position_ids=places, attention_mask=additive).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        loss.backward()
        return logits.detach(), loss.detach(), [each.grad.clone() for each in model.parameters()]

    masked, masked_loss, masked_gradients = run(tokens, ranks(keep), mask, wanted)
    short = torch.arange(holes.inside.shape[1]).expand_as(holes.columns)
    excised, excised_loss, gradients = run(holes.take(tokens), short, short_mask, holes.take(wanted, fill=-100))
    # eager attention of the library takes its softmax in single precision
    within = 1e-6 if attention == "eager" else 1e-10
    torch.testing.assert_close(holes.take(masked), excised * holes.inside[:, :, None], rtol=0, atol=within)
    torch.testing.assert_close(masked_loss, excised_loss, rtol=within, atol=0)
    for one, other in zip(masked_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=10 * within)
    # and that it is not so without renumbering, which is what the test is there to notice
    unnumbered = run(tokens, torch.arange(24).expand(4, 24), mask, wanted)[0]
    assert float((unnumbered - masked)[0, -1].abs().max()) > 1e-5


def test_a_picture_shows_units_holes_and_jumps():
    symbols = list("12+3=3+12=6=8")
    names = ["x", *"0123456789+="]
    ids = torch.tensor([names.index(symbol) for symbol in symbols])
    numbers = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3])
    keep = keep_of("#####.....#.#")[0]
    wanted = targets(ids[None], keep[None], torch.tensor([13]))[0]
    assert picture(symbols, numbers, keep, wanted, names) == (
        "  0  kept       12+3=   = -> 6\n  1  dropped    3+12=\n  2  1/2 kept   6=   6 -> 8\n  3  kept       8"
    )
