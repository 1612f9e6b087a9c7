"""Generation: with and without the cache, in batches and alone, as the library and teacher forcing have it."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from compression_toys import SIZES, batch, compressor, rows_of
from quincunx.errors import UsageError
from quincunx.nn.positions import PositionTable
from quincunx.recipes.compression.answers.generate import Sampling, chances, choose, generate

PROMPT = torch.tensor([[9, 40, 77, 61], [33, 12, 0, 0], [101, 0, 0, 0]])
PROMPT_SEEN = PROMPT > 0
KEYS = torch.tensor([11, 7, 400])
DRAWN = Sampling(temperature=0.9, top_k=30, top_p=0.9)


@pytest.mark.parametrize("architecture", SIZES)
@pytest.mark.parametrize("readout", ["kv", "tokens", "mean_pool"])
@pytest.mark.parametrize("prompted", [False, True])
def test_with_and_without_cache_and_alone_the_same_tokens_come_out(architecture, readout, prompted):
    model = compressor(architecture, readout=readout)
    compressed = model.compress(batch())
    prompt, seen = (PROMPT, PROMPT_SEEN) if prompted else (None, None)
    for sampling in (None, DRAWN):
        options = {"most": 6, "sampling": sampling}
        found = generate(model, compressed, prompt=prompt, prompt_seen=seen, keys=KEYS, **options)
        again = generate(model, compressed, prompt=prompt, prompt_seen=seen, keys=KEYS, cached=False, **options)
        assert torch.equal(found.tokens, again.tokens)
        for row in range(3):
            own = None if prompt is None else prompt[row : row + 1, : int(seen[row].sum())]
            alone = generate(model, compressed.select([row]), prompt=own, keys=KEYS[row : row + 1], **options)
            assert torch.equal(alone.tokens[0], found.tokens[row])


def test_greedy_tokens_are_those_that_teacher_forcing_finds_likeliest():
    for options in ({}, {"readout": "tokens"}, {"segments": 2}):
        model = compressor("gpt2", **options)
        tensors = batch(segments=options.get("segments", 1))
        found = generate(model, model.compress(tensors), most=5).tokens
        forced = {
            **tensors,
            "forward_tokens": found,
            "forward_seen": torch.ones_like(found, dtype=torch.bool),
            "forward_positions": tensors["forward_positions"][:, :1] + torch.arange(6),
        }
        likeliest = model.logits(model.states(forced, ["forward"])["forward"]).argmax(-1)
        assert torch.equal(likeliest[:, :-1], found)


def test_plain_text_goes_on_as_the_library_has_it():
    for architecture in SIZES:
        model = compressor(architecture)
        found = generate(model, most=6, prompt=PROMPT[:1])
        expected = model.backbone.generate(
            input_ids=PROMPT[:1], max_new_tokens=6, do_sample=False, use_cache=False, eos_token_id=None
        )
        assert torch.equal(found.tokens, expected[:, 4:])


def test_a_context_that_was_read_whole_goes_on_as_the_full_branch_does():
    model, tensors = compressor("gpt2"), batch()
    following = tensors["full_positions"][:, :1] + torch.arange(6)
    found = generate(model, model.read(tensors, following=following), most=5, branch="full").tokens
    forced = {
        **tensors,
        "full_tokens": found,
        "full_seen": torch.ones_like(found, dtype=torch.bool),
        "full_positions": following,
    }
    assert torch.equal(model.logits(model.states(forced, ["full"])["full"]).argmax(-1)[:, :-1], found)
    assert not torch.equal(generate(model, model.compress(tensors), most=5).tokens, found)


@pytest.mark.parametrize("kind", ["sinusoidal", "random", "alibi"])
def test_drawn_positions_are_used_with_and_without_cache(kind):
    torch.manual_seed(2)
    table = None if kind == "alibi" else PositionTable(kind, 90, 16, scale=0.5).double()
    model, tensors = compressor(positions=kind, table=table), batch()
    following = torch.tensor([[9, 13, 14, 30, 31, 50, 80]] * 3)
    compressed = model.compress(tensors, following=following)
    found = generate(model, compressed, most=5)
    assert torch.equal(generate(model, compressed, most=5, cached=False).tokens, found.tokens)
    forced = {
        **tensors,
        "forward_tokens": found.tokens,
        "forward_seen": torch.ones_like(found.tokens, dtype=torch.bool),
        "forward_positions": following[:, :6],
    }
    assert torch.equal(model.logits(model.states(forced, ["forward"])["forward"]).argmax(-1)[:, :-1], found.tokens)


def test_rows_end_on_their_own_and_are_filled_up():
    model, compressed = compressor("gpt2"), None
    compressed = model.compress(batch())
    free = generate(model, compressed, most=8).tokens
    end = int(free[1, 2])
    found = generate(model, compressed, most=8, end=end, padding=1)
    for row in range(3):
        words = free[row].tolist()
        length = words.index(end) if end in words else 8
        assert int(found.lengths[row]) == length and bool(found.ended[row]) == (length < 8)
        width = found.tokens.shape[1]
        assert found.tokens[row].tolist() == (words[:length] + [1] * 8)[:width]
    alone = generate(model, compressed.select([1]), most=8, end=end)
    assert alone.tokens.shape[1] == int(alone.lengths[0]) + 1  # it stops when all rows have ended


def test_the_model_is_left_as_it_was():
    model = compressor("gpt2").train()
    generate(model, model.compress(batch()), most=2)
    assert model.training and model.backbone.training


def test_the_likeliest_few_share_the_probability():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(4000, 1)
    chance = (torch.arange(4000) + 0.5) / 4000

    def shares(**options):
        return (torch.bincount(choose(logits, Sampling(**options), chance.double()), minlength=4) / 4000).tolist()

    expected = logits[0].softmax(-1).tolist()
    assert shares(temperature=1.0) == pytest.approx(expected, abs=1e-3)
    assert shares(temperature=0.5) == pytest.approx((logits[0] * 2).softmax(-1).tolist(), abs=1e-3)
    two = sum(expected[:2])
    assert shares(temperature=1.0, top_k=2) == pytest.approx([expected[0] / two, expected[1] / two, 0, 0], abs=1e-3)
    # 0.64 does not reach 0.7, 0.64 + 0.24 does
    assert shares(temperature=1.0, top_p=0.7) == pytest.approx([expected[0] / two, expected[1] / two, 0, 0], abs=1e-3)
    assert shares(temperature=1.0, top_p=0.5) == [1, 0, 0, 0]
    assert shares() == [1, 0, 0, 0]


def test_chance_is_uniform_and_addressed():
    keys = torch.arange(5000)
    found = chances(keys, 3)
    assert torch.equal(found[17:18], chances(keys[17:18], 3)) and not torch.equal(found, chances(keys, 4))
    assert float(found.min()) >= 0 and float(found.max()) < 1
    counts = torch.histc(found, 10, 0, 1)
    assert float((counts - 500).abs().max()) < 110  # five standard deviations


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"branch": "plain"}, "the branch plain needs no context"),
        ({"branch": "ahead"}, "unknown branch 'ahead'"),
        ({"most": 0}, "at least one token"),
        ({"sampling": DRAWN}, "needs keys"),
        ({"prompt": PROMPT[:2]}, "3 contexts and 2 prompts"),
        ({"prompt": PROMPT, "prompt_seen": PROMPT_SEEN.flip(1)}, "on the left of their rows"),
        ({"positions": torch.zeros(3, 4)}, "5 positions are needed .* found 4"),
    ],
)
def test_what_cannot_be_generated_is_said(options, said):
    model = compressor("gpt2")
    with pytest.raises(UsageError, match=said):
        generate(model, model.compress(batch()), **{"most": 4, **options})


def test_plain_texts_need_a_prompt_and_a_direction():
    with pytest.raises(UsageError, match="no start token"):
        generate(compressor(), most=3, keys=KEYS)
    with pytest.raises(UsageError, match="the branch forward needs a context"):
        generate(compressor(), most=3, branch="forward")
    with pytest.raises(UsageError, match="read both ways"):
        generate(compressor(causal=False), most=3, prompt=PROMPT)
    for wrong in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Sampling(**wrong)


def test_a_row_without_its_padding_is_the_same_row():
    model, tensors = compressor("gpt2"), batch()
    whole = generate(model, model.compress(tensors), most=4).tokens
    for row in range(3):
        assert torch.equal(generate(model, model.compress(rows_of(tensors, row)), most=4).tokens[0], whole[row])
