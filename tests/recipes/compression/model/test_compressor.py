"""One pass and two, by parts and by masks, by the library's own means: the same states, the same gradients."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint

pytest.importorskip("transformers", reason="the transformers library is not installed")

from compression_toys import SIZES, backbone, batch, compressor, rows_of
from quincunx.errors import UsageError
from quincunx.nn.positions import PositionTable
from quincunx.recipes.compression.config_model import Compress
from quincunx.recipes.compression.model import parts
from quincunx.recipes.compression.model.compressor import Compressor
from reference import compression as reference

BRANCHES = ["forward", "reconstruction", "without", "full", "plain"]
SHAPES = [
    ({}, {}),
    ({"separator": True, "mutual": False}, {"separator": True}),
    ({}, {"style": "uniform"}),
    ({"causal": False}, {}),
    ({"segments": 2}, {"segments": 2}),
    ({"segments": 2, "join": "recurrent", "separator": True}, {"segments": 2, "separator": True}),
    ({"segments": 3, "join": "concatenate"}, {"segments": 3}),
]
TWO_PASSES = [
    {"readout": "kv"},
    {"readout": "tokens", "layer": "half", "projection": "linear"},
    {"readout": "tokens", "layer": "output"},
    {"readout": "tokens", "layer": -1, "separator": True, "projection": "mlp"},
    {"readout": "mean_pool", "layer": 0},
    {"readout": "mean_pool", "layer": "half"},
]


def seen(found, tensors):
    """Return the states of tokens that are there, as one list of vectors for each branch."""
    kept = {}
    for name, states in found.items():
        there = tensors[f"{name}_seen"]
        if states.shape[1] > there.shape[1]:
            there = torch.cat([there.new_ones(len(there), 1), there], 1)
        kept[name] = states[there]
    return kept


def assert_same(found, expected, limit=1e-10):
    assert found.keys() == expected.keys()
    for name, states in found.items():
        assert states.isfinite().all() and float(states.detach().abs().max()) > 0.1
        assert float((states - expected[name]).detach().abs().max()) <= limit, name


def gradients(model, tensors, plan, branches=BRANCHES):
    model.zero_grad()
    states = seen(model.states(tensors, branches, plan), tensors)
    weights = torch.linspace(-1, 2, next(iter(states.values())).shape[1], dtype=torch.float64)
    sum((each * weights).sin().sum() for each in states.values()).backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("architecture", SIZES)
@pytest.mark.parametrize(("options", "shape"), SHAPES)
def test_one_pass_and_two_give_the_same_states_and_gradients(architecture, options, shape):
    model, tensors = compressor(architecture, **options), batch(**shape)
    one, two = (seen(model.states(tensors, BRANCHES, plan), tensors) for plan in ("one_pass", "two_pass"))
    assert_same(one, two)
    first, second = (gradients(model, tensors, plan) for plan in ("one_pass", "two_pass"))
    assert first.keys() == second.keys() and {"new.slots", "new.starts"} <= first.keys()
    for name, gradient in first.items():
        scale = max(1.0, float(gradient.abs().max()))
        # llama's norms compute in float32 whatever their input
        assert float((gradient - second[name]).abs().max()) <= (1e-10 if architecture == "gpt2" else 1e-6) * scale, name


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("separator", [False, True])
def test_states_are_those_of_the_librarys_own_masks_and_cache(architecture, separator):
    model, tensors = compressor(architecture, separator=separator), batch(separator=separator)
    found = model.states(tensors, BRANCHES, "one_pass")
    with torch.no_grad():
        for row in range(3):
            alone = rows_of(tensors, row)
            for name in BRANCHES:
                expected = reference.branch_states(model, alone, name)[0]
                assert float((found[name][row, : len(expected)] - expected).abs().max()) < 1e-6


def test_the_plain_branch_and_its_logits_are_the_librarys_own():
    for architecture in SIZES:
        model, tensors = compressor(architecture), batch()
        found = model.logits(model.states(tensors, ["plain"])["plain"])
        mask = tensors["plain_seen"].long()
        expected = model.backbone(input_ids=tensors["plain_tokens"], attention_mask=mask, use_cache=False).logits
        assert float((found - expected)[tensors["plain_seen"]].detach().abs().max()) < 1e-6


@pytest.mark.parametrize("architecture", SIZES)
@pytest.mark.parametrize(("options", "shape"), [SHAPES[1], SHAPES[5]])
def test_eager_attention_under_one_mask_gives_the_same(architecture, options, shape):
    tensors = batch(**shape)
    found = seen(compressor(architecture, **options).states(tensors, BRANCHES), tensors)
    eager = compressor(architecture, attention="eager", **options)
    assert not eager._by_parts
    # the library's eager attention takes softmax in float32
    assert_same(seen(eager.states(tensors, BRANCHES), tensors), found, 2e-6)


def test_by_parts_and_under_one_mask_states_and_gradients_are_the_same():
    model, tensors = compressor("gpt2", segments=2, separator=True), batch(segments=2, separator=True)
    assert model._by_parts and model._last is not None
    states, found = model.states(tensors, BRANCHES), gradients(model, tensors, "one_pass")
    model._by_parts, model._last = False, None
    assert_same(seen(model.states(tensors, BRANCHES), tensors), seen(states, tensors))
    expected = gradients(model, tensors, "one_pass")
    for name, gradient in found.items():
        assert float((gradient - expected[name]).abs().max()) <= 1e-10 * max(1.0, float(gradient.abs().max()))


def test_attention_meets_only_what_a_part_sees(monkeypatch):
    model, tensors = compressor("gpt2"), batch(lengths=[6, 6], forward=[4, 4])
    met = []
    plain = parts.packed.attention

    def spy(module, query, key, value, mask, **options):
        met.append((query.shape[2], key.shape[2], mask is None))
        return plain(module, query, key, value, mask, **options)

    monkeypatch.setattr(parts.packed, "attention", spy)
    model.states(tensors, ["forward"])
    # context 6 and slots 3, plainly causal; start and 4 tokens, with the slots; the last layer without the context
    assert met == [(9, 9, True), (5, 8, False), (3, 3, True), (5, 8, False)]


@pytest.mark.parametrize("options", TWO_PASSES)
def test_padding_and_other_rows_change_nothing(options):
    model = compressor("gpt2", **options)
    shape = {"separator": bool(options.get("separator"))}
    narrow, wide = batch(**shape), batch(wider=3, **shape)
    expected = model.states(narrow, BRANCHES)
    assert_same(seen(model.states(wide, BRANCHES), wide), seen(expected, narrow))
    for row in range(3):
        alone = rows_of(narrow, row)
        for name, states in model.states(alone, BRANCHES).items():
            length = states.shape[1]
            assert float((states[0] - expected[name][row, :length]).detach().abs().max()) <= 1e-10, name


@pytest.mark.parametrize("options", TWO_PASSES)
def test_every_branch_depends_on_what_it_sees_and_on_nothing_else(options):
    model, tensors = compressor("gpt2", **options), batch(separator=bool(options.get("separator")))
    before = model.states(tensors, BRANCHES)
    changed = {**tensors, "context": tensors["context"].roll(1, 0).where(tensors["context_seen"], tensors["context"])}
    after = model.states(changed, BRANCHES)
    moved = {name: float((after[name] - before[name]).detach().abs().max()) > 1e-6 for name in BRANCHES}
    assert moved == {"forward": True, "reconstruction": True, "without": False, "full": True, "plain": False}
    other = {**tensors, "reconstruction_tokens": tensors["reconstruction_tokens"].flip(1)}
    assert torch.equal(model.states(other, BRANCHES)["forward"], before["forward"])


def test_a_trained_slot_gets_a_gradient_through_every_readout():
    for options in TWO_PASSES[:4]:
        model, tensors = compressor("gpt2", **options), batch(separator=bool(options.get("separator")))
        found = gradients(model, tensors, None, ["forward"])
        assert float(found["new.slots"].abs().amax(1).min()) > 0
        trained = [name for name in found if name.startswith("projection")]
        assert len(trained) == {"none": 0, "linear": 2, "mlp": 4}[options.get("projection", "none")]
        assert ("new.separator" in found) == bool(options.get("separator"))


def test_fewer_slots_are_the_first_of_more():
    tensors = batch(slots=2)
    small, large = compressor("gpt2", slots=2), compressor("gpt2", slots=5)
    with torch.no_grad():
        small.new.slots.copy_(large.new.slots[:2])
        small.new.starts.copy_(large.new.starts)
    assert_same(seen(large.states(tensors, BRANCHES), tensors), seen(small.states(tensors, BRANCHES), tensors))
    # slots see those before them alone, so what the first keep does not depend on how many follow
    two, five = large.compress(tensors), large.compress(batch(slots=5))
    for (keys, _), (more, _) in zip(two.layers, five.layers, strict=True):
        assert float((keys - more[:, :, :2]).detach().abs().max()) <= 1e-10
    with pytest.raises(ValueError, match="6 slots are asked for, the table has 5"):
        large.states(batch(slots=6), ["forward"])


def test_only_what_a_branch_sees_is_computed(monkeypatch):
    model, tensors = compressor("gpt2"), batch()
    lengths = []
    plain = parts.split
    monkeypatch.setattr(parts, "split", lambda tokens, *rest: lengths.append(len(tokens)) or plain(tokens, *rest))
    model.states(tensors, ["plain"], "one_pass")
    model.states(tensors, ["full"], "one_pass")
    assert lengths == [tensors["plain_tokens"].shape[1], 6 + 1 + 5]


def table(kind, **options):
    torch.manual_seed(3)
    return PositionTable(kind, 64, 16, scale=0.3, **options).double()


@pytest.mark.parametrize("kind", ["sinusoidal", "random", "alibi", "none"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_positions_of_our_own_are_the_same_in_one_pass_and_two(kind, architecture):
    own = table(kind, learnable=True) if kind in ("sinusoidal", "random") else None
    model, tensors = compressor(architecture, positions=kind, table=own), batch()
    one, two = (seen(model.states(tensors, BRANCHES, plan), tensors) for plan in ("one_pass", "two_pass"))
    assert_same(one, two)
    moved = {name: t * 2 if name.endswith("_positions") else t for name, t in tensors.items()}
    far = seen(model.states(moved, BRANCHES), tensors)
    change = float((far["forward"] - one["forward"]).detach().abs().max())
    assert change == 0 if kind == "none" else change > 1e-3
    if own is not None:
        one["forward"].sum().backward()
        assert float(own.table.grad.abs().max()) > 0


def test_positions_between_whole_ones_are_for_rotations_and_formulas():
    tensors = {name: t.double() + 0.25 if name.endswith("_positions") else t for name, t in batch().items()}
    rotary = compressor("llama")
    shifted = seen(rotary.states(tensors, BRANCHES), tensors)
    assert_same(shifted, seen(rotary.states(batch(), BRANCHES), tensors), 1e-4)  # rotations see differences alone
    with pytest.raises(UsageError, match="gpt2 has a table of whole positions"):
        compressor("gpt2").states(tensors, ["forward"])


@pytest.mark.parametrize(
    ("every", "reached"), [(None, [True] * 4), (1, [False, False, False, True]), (2, [False, False, True, True])]
)
def test_gradients_stop_between_segments_after_every_so_many(every, reached):
    options = {"segments": 4, "join": "recurrent", "readout": "tokens", "layer": -1}
    tensors = batch(segments=4, lengths=[8, 8, 8])
    model = compressor("gpt2", stop_gradient=every, **options)
    expected = compressor("gpt2", **options).states(tensors, ["forward"])
    assert_same(model.states(tensors, ["forward"]), expected)
    embedded = []
    real = model.embed

    def embed(words):
        embedded.append(real(words).detach().requires_grad_())
        return embedded[-1]

    model.embed = embed
    model.states(tensors, ["forward"])["forward"].square().sum().backward()
    found = [each.grad is not None and float(each.grad.abs().max()) > 0 for each in embedded[:4]]
    assert found == reached
    with pytest.raises(UsageError, match="cuts between passes"):
        compressor(segments=2, stop_gradient=1).states(tensors, ["forward"], "one_pass")


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradient_checkpointing_passes_through(architecture):
    model, tensors = compressor(architecture), batch()
    expected = gradients(model, tensors, "one_pass")
    model.train()
    for module in model.backbone.modules():  # the library's own switch, which it renames from version to version
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    found = gradients(model, tensors, "one_pass")
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-9 * max(1.0, float(gradient.abs().max())), name
    with pytest.raises(UsageError, match="gradient_checkpointing does not keep the keys and values"):
        model.states(tensors, ["forward"], "two_pass")
    model.eval()
    assert model.states(tensors, ["forward"], "two_pass")["forward"].isfinite().all()


def test_new_tokens_begin_near_the_vocabularys_mean_and_apart():
    model = compressor("llama", slots=50)
    words = model.backbone.get_input_embeddings().weight.detach()
    distance = (model.new.slots.detach() - words.mean(0)).norm(dim=1) / (words - words.mean(0)).norm(dim=1).mean()
    assert 0.3 < float(distance.mean()) < 0.7
    assert float(torch.pdist(model.new.slots.detach()).min()) > 0.1


@pytest.mark.parametrize(
    ("options", "own", "said"),
    [
        ({"readout": "tokens", "plan": "one_pass"}, {}, "needs compress.plan two_pass"),
        ({"positions": "restart"}, {}, "restart moves slots between passes"),
        ({"layer": 3, "readout": "tokens"}, {}, r"layer is 3, and the model has layers 0 \(embeddings\) to 2"),
        ({}, {"positions": "random"}, "positions of the kind random need a table"),
        ({}, {"table": "sinusoidal"}, "positions of the kind model have no table"),
    ],
)
def test_what_does_not_go_together_is_refused(options, own, said):
    if "table" in own:
        own = {"table": table(own["table"])}
    with pytest.raises(UsageError, match=said):
        Compressor(backbone(), Compress(**options), slots=2, **own)


def test_unknown_branches_plans_and_missing_tensors_are_named():
    model, tensors = compressor(readout="tokens"), batch()
    with pytest.raises(UsageError, match="unknown branch 'forwards': there are forward, reconstruction"):
        model.states(tensors, ["forwards"])
    with pytest.raises(UsageError, match="feeds one pass with what another has found"):
        model.states(tensors, ["forward"], "one_pass")
    with pytest.raises(UsageError, match="the batch has no forward_seen"):
        model.states({name: t for name, t in tensors.items() if name != "forward_seen"}, ["forward"])
