"""The joint encoder: equal to formulas by hand, blind to padding, and the stock encoder where nothing is seen."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.model.joint import JointEncoder, JointOptions
from quincunx.recipes.vision_language.model.rows import make_rows
from reference import joint_bart, joint_t5
from tiny_models import inputs_for, output_of
from vision_language_models import BACKBONES, ROWS, VISUAL, WIDTH, WORDS, alone, batch, model_of, wider

T5 = [("t5", JointOptions()), ("t5", JointOptions(bias="relative")), ("mt5", JointOptions())]
BART = [
    (name, JointOptions(positions=positions, norm=norm))
    for name in ("bart", "mbart")
    for positions in ("none", "learned")
    for norm in ("own", "shared")
]
STOCK = [("pegasus", JointOptions())]
each = pytest.mark.parametrize(("name", "options"), [*T5, *BART, *STOCK], ids=str)


def seen(model: Any, inputs: Any) -> Any:
    names = ("boxes", "visual_mask", "image_ids", "object_ids")
    return model.see(make_rows(inputs["features"], *(inputs[name] for name in names)))


def by_hand(model: Any, name: str, options: JointOptions, inputs: Any) -> torch.Tensor:
    """Return the states of one example without padding."""
    encoder = model.language_model.get_encoder()
    words = encoder.get_input_embeddings()(inputs["input_ids"])[0]
    visual = seen(model, inputs).features[0]
    if name in ("t5", "mt5"):
        tokens = torch.cat([words, visual])
        return by_hand_t5(encoder, tokens, len(words) if options.bias == "zero" else len(tokens))
    if name == "pegasus":
        return encoder(inputs_embeds=torch.cat([words, visual])[None]).last_hidden_state[0]
    return joint_bart.encode(
        encoder,
        words,
        visual,
        positions=options.positions,
        shared=options.norm == "shared",
        before=name == "mbart",
    )


def by_hand_t5(encoder: Any, tokens: torch.Tensor, words: int) -> torch.Tensor:
    if encoder.config.is_gated_act:  # mT5: the same but for its feedforward
        plain = joint_t5.biases(encoder.block[0].layer[0].SelfAttention, len(tokens), words)
        x = tokens
        for block in encoder.block:
            x, *_ = block(x[None], None, plain[None])
            x = x[0]
        return encoder.final_layer_norm(x)
    return joint_t5.encode(encoder, tokens, words)


@each
def test_it_is_what_the_formulas_say_for_every_example_alone(name: str, options: JointOptions) -> None:
    model, inputs = model_of(name, joint=options), batch()
    reads = {key: value for key, value in inputs.items() if key != "labels"}
    with torch.no_grad():
        found = model.encode(**reads)
        for row in range(ROWS):
            expected = by_hand(model, name, options, alone(inputs, row))
            own = found.states[row, found.mask[row].bool()]
            torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)
            assert len(own) == WORDS[row] + VISUAL[row]


@each
def test_padding_changes_nothing(name: str, options: JointOptions) -> None:
    model, inputs = model_of(name, joint=options), batch()
    with torch.no_grad():
        expected = model(**inputs)
        assert expected.isfinite().all()
        torch.testing.assert_close(model(**wider(inputs)), expected, rtol=1e-5, atol=1e-5)


KINDS = [("bart", JointOptions()), ("bart", JointOptions(positions="learned")), ("t5", JointOptions()),
         ("t5", JointOptions(bias="relative")), ("pegasus", JointOptions())]  # fmt: skip


@cache
def kept(name: str, options: JointOptions) -> Any:
    return model_of(name, joint=options)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    words=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    rows=st.lists(st.integers(0, 6), min_size=3, max_size=3),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_whatever_stands_beside_it_an_example_is_what_it_is_alone(
    kind: tuple[str, JointOptions], words: list[int], rows: list[int], padding: tuple[int, int]
) -> None:
    model, count = kept(*kind), len(words)
    rows = rows[:count]
    generator = torch.Generator().manual_seed(0)
    length, wide = max(words) + padding[0], max(rows) + padding[1]
    reads = {
        "input_ids": torch.randint(4, 40, (count, length), generator=generator),
        "attention_mask": (torch.arange(length) < torch.tensor(words)[:, None]).long(),
        "features": torch.randn(count, wide, 6, generator=generator),
        "visual_mask": torch.arange(wide) < torch.tensor(rows)[:, None],
    }
    with torch.no_grad():
        found = model.encode(**reads)
        for place in range(count):
            sizes = {"features": rows[place], "visual_mask": rows[place]}
            own = {name: each[place : place + 1, : sizes.get(name, words[place])] for name, each in reads.items()}
            expected = model.encode(**own).states[0]
            torch.testing.assert_close(found.states[place, found.mask[place].bool()], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_without_pictures_the_backbone_is_as_it_was_and_its_weights_keep_their_names(name: str) -> None:
    plain, changed = BACKBONES[name](), BACKBONES[name]()
    JointEncoder(changed)
    inputs = inputs_for(BACKBONES["bart"]())
    with torch.no_grad():
        assert torch.equal(output_of(changed, inputs), output_of(plain, inputs))
    ours, theirs = changed.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert dict(changed.named_parameters()).keys() == dict(plain.named_parameters()).keys()


def test_options_change_what_they_should() -> None:
    inputs = batch()

    def look(name: str, **options: Any) -> torch.Tensor:
        with torch.no_grad():
            return model_of(name, joint=JointOptions(**options))(**inputs)

    for name, changes in (("bart", ({"positions": "learned"}, {"norm": "shared"})), ("t5", ({"bias": "relative"},))):
        for change in changes:
            differs = (look(name) - look(name, **change)).abs().amax((1, 2)) > 1e-4
            assert differs.tolist() == [bool(count) for count in VISUAL]  # an example without a picture is as it was


def test_an_encoder_that_is_left_as_it_is_says_so() -> None:
    [note] = JointEncoder(BACKBONES["pegasus"]()).notes
    assert "pegasus" in note and "positions like words" in note
    assert JointEncoder(BACKBONES["bart"]()).notes == JointEncoder(BACKBONES["t5"]()).notes == ()


@pytest.mark.parametrize("name", ["bart", "t5"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_layers_may_be_computed_twice_even_if_another_batch_came_between(name: str, reentrant: bool) -> None:
    def gradients(checkpointed: bool) -> dict[str, torch.Tensor]:
        model, inputs = model_of(name), batch()
        first = {key: value[:2] for key, value in inputs.items()}
        second = {key: value[:1] if key in ("input_ids", "attention_mask", "labels") else value[:1, :4]
                  for key, value in inputs.items()}  # fmt: skip
        if checkpointed:
            model.train()
            model.language_model.activation_checkpointing_enable({"use_reentrant": reentrant})
            assert model.language_model.is_activation_checkpointing
        weights = torch.linspace(-1, 1, 40)
        loss = (model(**first) * weights).sum()
        (loss + (model(**second) * weights).sum()).backward()
        return {key: value.grad for key, value in model.named_parameters() if value.grad is not None}

    expected, found = gradients(False), gradients(True)
    assert found.keys() == expected.keys() and len(found) > 20
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4 * float(value.abs().max()) + 1e-6)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_a_copy_is_a_model_of_its_own(name: str) -> None:
    model, inputs = model_of(name), batch()
    with torch.no_grad():
        expected = model(**inputs)
        other = copy.deepcopy(model)
        assert torch.equal(other(**inputs), expected)
        for parameter in other.parameters():
            parameter.add_(0.3)
        assert torch.equal(model(**inputs), expected)
        assert not torch.allclose(other(**inputs), expected)


def test_a_copied_norm_knows_visual_tokens_too() -> None:
    """Libraries for adapters train copies of single modules."""
    model, inputs = model_of("bart"), batch()
    encoder = model.language_model.get_encoder()
    with torch.no_grad():
        expected = model(**inputs)
        encoder.layernorm_embedding = copy.deepcopy(encoder.layernorm_embedding)
        encoder.embed_positions = copy.deepcopy(encoder.embed_positions)
        assert torch.equal(model(**inputs), expected)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_it_compiles(name: str) -> None:
    model, inputs = model_of(name), batch()
    reads = {key: value for key, value in inputs.items() if key != "labels"}
    with torch.no_grad():
        expected = model.encode(**reads).states
        torch.compiler.reset()
        compiled: Any = torch.compile(lambda given: model.encode(**given).states, backend="eager")
        torch.testing.assert_close(compiled(reads), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("t5", {"positions": "learned"}, "positions=learned .* BART"),
        ("t5", {"norm": "shared"}, "norm=shared .* BART"),
        ("bart", {"bias": "relative"}, "bias=relative .* T5"),
        ("pegasus", {"norm": "shared"}, "pegasus has not"),
        ("bart", {"positions": "sine"}, "positions must be none or learned, found 'sine'"),
    ],
)
def test_options_without_a_meaning_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        JointEncoder(BACKBONES[name](), JointOptions(**options))


def test_other_models_and_prepared_ones_are_refused() -> None:
    from tiny_models import bert

    with pytest.raises(UsageError, match="BertForMaskedLM is no encoder-decoder"):
        JointEncoder(bert())
    for name in ("bart", "t5"):
        backbone = BACKBONES[name]()
        JointEncoder(backbone)
        with pytest.raises(UsageError, match="joint encoder already"):
            JointEncoder(backbone)


def test_more_tokens_than_positions_are_refused_where_visual_ones_have_positions() -> None:
    many = make_rows(torch.randn(1, 28, WIDTH))
    ids = torch.full((1, 7), 5)
    JointEncoder(BACKBONES["bart"]())(ids, None, many)  # 32 positions
    with pytest.raises(DataError, match="35 words and visual tokens, and the encoder 32"):
        JointEncoder(BACKBONES["bart"](), JointOptions(positions="learned"))(ids, None, many)
    with pytest.raises(DataError, match="33 words, and the encoder 32"):
        JointEncoder(BACKBONES["bart"]())(torch.full((1, 33), 5))
