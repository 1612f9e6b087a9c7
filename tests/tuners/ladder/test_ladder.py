"""The ladder side network: what it computes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")

from quincunx.errors import UsageError
from quincunx.nn.attention import attention_core
from quincunx.nn.attention.layer import AttentionLayer
from quincunx.nn.encoder import Encoder
from quincunx.tuners.adapter import inject
from quincunx.tuners.bottleneck.config import BottleneckConfig
from quincunx.tuners.bottleneck.model import place as place_bottleneck
from quincunx.tuners.ladder.config import LadderConfig
from quincunx.tuners.ladder.layer import Rung
from quincunx.tuners.ladder.model import find_stacks, modules_of, place, runs_before
from quincunx.tuners.ladder.side import SideNetwork
from reference.tuners_ladder import change, parameters, side_states
from tiny_models import MODELS, inputs_for, output_of


def ladder(model: nn.Module, scatter: float = 0.3, **options: Any) -> Any:
    """Put a ladder into a copy of a model, its weights random."""
    made = copy.deepcopy(model)
    torch.manual_seed(4)
    inject(made, place(made, LadderConfig(**{"reduction_factor": 4, **options})))
    generator = torch.Generator().manual_seed(5)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += scatter * torch.randn(parameter.shape, generator=generator)
    return made


def sides(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return the weights of a model's side networks by the path of their stack."""
    return {
        module.climb.path: {name: tensor.detach() for name, tensor in module.side.named_parameters()}
        for module in model.modules()
        if isinstance(module, Rung) and module.side is not None
    }


def seen(model: nn.Module, stacks: dict[str, list[str]], call: Callable[[], object]) -> dict[str, list[Tensor]]:
    """Return what goes into a stack's first layer, and what each layer gives, of the first row `[S, D]`."""
    found: dict[str, list[Tensor]] = {stack: [] for stack in stacks}

    def note(stack: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not found[stack]:
                found[stack].append((args[0] if args else kwargs["hidden_states"])[0])
            found[stack].append((output[0] if isinstance(output, tuple) else output)[0])

        return hook

    handles = [
        model.get_submodule(path).register_forward_hook(note(stack), with_kwargs=True)
        for stack, paths in stacks.items()
        for path in paths
    ]
    with torch.no_grad():
        call()
    for handle in handles:
        handle.remove()
    return found


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("options", [{}, {"num_heads": 2, "temperature": 0.7, "every": 2}, {"leave_out": [-2]}])
def test_an_encoder_is_what_the_formulas_say_of_each_text_alone(options: dict[str, Any]) -> None:
    base = MODELS["bert"]()
    model, inputs = ladder(base, **options), inputs_for(base)
    with torch.no_grad():
        found = model.bert(**inputs).last_hidden_state
    weights = sides(model)["bert.encoder"]
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = {"input_ids": inputs["input_ids"][row : row + 1, :length]}
        layers = {"e": [f"bert.encoder.layer.{n}" for n in range(2)]}
        entry, *states = seen(base, layers, lambda alone=alone: base(**alone))["e"]
        beside = states if not options or options.get("leave_out") == [] else states[1:]
        side = side_states(
            weights, entry, beside, heads=options.get("num_heads", 1), temperature=options.get("temperature", 0.1)
        )
        near(found[row, :length], states[-1] + change(weights, side))


@pytest.mark.parametrize("where", ["both", "decoder", "encoder"])
def test_an_encoder_and_a_decoder_are_what_the_formulas_say(where: str) -> None:
    base: Any = MODELS["bart"]()
    model, inputs = ladder(base, sides=where), inputs_for(base)
    with torch.no_grad():
        found = output_of(model, inputs)
    weights = sides(model)
    layers = {side: [f"model.{side}.layers.{n}" for n in range(2)] for side in ("encoder", "decoder")}
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = {
            "input_ids": inputs["input_ids"][row : row + 1, :length],
            "decoder_input_ids": inputs["decoder_input_ids"][row : row + 1],
        }
        states = seen(base, layers, lambda alone=alone: base(**alone))
        if where == "encoder":
            own = weights["model.encoder"]
            entry, *rest = states["encoder"]
            last = rest[-1] + change(own, side_states(own, entry, rest))
            with torch.no_grad():
                expected = base(encoder_outputs=(last[None],), decoder_input_ids=alone["decoder_input_ids"]).logits[0]
            near(found[row], expected)
            continue
        own = weights["model.decoder"]
        if where == "both":
            memory = side_states(weights["model.encoder"], states["encoder"][0], states["encoder"][1:])
        else:
            memory = states["encoder"][-1] @ own["memory_down.weight"].T + own["memory_down.bias"]
        entry, *rest = states["decoder"]
        last = rest[-1] + change(own, side_states(own, entry, rest, causal=True, memory=memory))
        near(found[row], base.lm_head(last).detach() + base.final_logits_bias[0])


def test_a_decoder_alone_is_what_the_formulas_say() -> None:
    base: Any = MODELS["llama"]()
    model, inputs = ladder(base), inputs_for(base)
    with torch.no_grad():
        found = output_of(model, inputs)
    weights = sides(model)["model"]
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        tokens = inputs["input_ids"][row : row + 1, :length]
        layers = {"m": [f"model.layers.{n}" for n in range(2)]}
        entry, *states = seen(base, layers, lambda tokens=tokens: base(input_ids=tokens))["m"]
        last = states[-1] + change(weights, side_states(weights, entry, states, causal=True))
        near(found[row, :length], base.lm_head(base.model.norm(last)).detach())


def test_padding_before_a_text_is_not_seen() -> None:
    model, inputs = ladder(MODELS["llama"]()), inputs_for(MODELS["llama"]())
    tokens, length = inputs["input_ids"][1:2, :5], 5
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        right = model(input_ids=tokens).logits
        left = model(
            input_ids=torch.cat([torch.ones(1, 2, dtype=torch.long), tokens], 1), attention_mask=mask
        ).logits  # rotary positions are relative: the same text two places on
    near(left[:, -length:], right)
    assert left.isfinite().all()


@pytest.mark.parametrize("name", ["bart", "t5", "llama"])
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_a_cache_is_generation_without(name: str, beams: int) -> None:
    base = MODELS[name]()
    model, inputs = ladder(base, scatter=0.6), inputs_for(base)
    inputs.pop("decoder_input_ids", None)
    options: dict[str, Any] = {
        "num_beams": beams, "min_new_tokens": 7, "max_new_tokens": 7, "do_sample": False, "pad_token_id": 1,
        "output_scores": True, "return_dict_in_generate": True,
    }  # fmt: skip
    cached, plain = (model.generate(**inputs, **options, use_cache=use) for use in (True, False))
    assert torch.equal(cached.sequences, plain.sequences)
    for one, other in zip(cached.scores, plain.scores, strict=True):
        near(one, other)
    without = base.generate(**inputs, **options)
    assert not torch.allclose(without.scores[0], cached.scores[0], atol=1e-2)


def test_a_cache_that_it_cannot_keep_its_past_in_is_refused() -> None:
    from transformers import StaticCache

    base: Any = MODELS["llama"]()
    model, inputs = ladder(base), inputs_for(base)
    with pytest.raises(UsageError, match=r"StaticLayer.*use_cache=False"):
        model(**inputs, past_key_values=StaticCache(config=base.config, max_cache_len=16), use_cache=True)
    with torch.no_grad():
        begun = base(**inputs, use_cache=True).past_key_values
    with pytest.raises(UsageError, match="hold 7 tokens before these 1, the ladder has seen 0"):
        model(input_ids=inputs["input_ids"][:, :1], past_key_values=begun, use_cache=True)


def test_a_decoder_takes_the_side_states_of_its_own_encoder_only() -> None:
    model, inputs = ladder(MODELS["bart"]()), inputs_for(MODELS["bart"]())
    with torch.no_grad():
        expected = output_of(model, inputs)
        given = model.get_encoder()(inputs["input_ids"], attention_mask=inputs["attention_mask"])
        rest = {name: inputs[name] for name in ("attention_mask", "decoder_input_ids")}
        assert torch.equal(model(encoder_outputs=given, **rest).logits, expected)
        given.last_hidden_state = given.last_hidden_state.repeat_interleave(2, dim=0)
        twice = {name: tensor.repeat_interleave(2, dim=0) for name, tensor in rest.items()}
        near(model(encoder_outputs=given, **twice).logits[::2], expected)
        given.last_hidden_state = given.last_hidden_state.flip(0)
        with pytest.raises(UsageError, match="not those of its last pass"):
            model(encoder_outputs=given, **twice)
        with pytest.raises(UsageError, match="run the encoder first"):
            copy.deepcopy(model)(encoder_outputs=given, **twice)


@pytest.mark.parametrize("name", ["bart", "t5", "bert", "llama", "clip"])
def test_no_activation_of_a_layer_is_held_for_the_backward_pass(name: str) -> None:
    base = MODELS[name]()

    def held(model: nn.Module) -> int:
        """Return how many tensors as wide as the layers' feedforward (24) are held."""
        count = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.shape[-1:] == (24,) and tensor.ndim > 2
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output_of(model, inputs_for(base)).sum().backward()
        return count

    made = copy.deepcopy(base)
    inject(made, place_bottleneck(made, BottleneckConfig(reduction_factor=4)))
    assert held(made) > 0
    model = ladder(base).train()
    assert held(model) == 0
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("name", ["bart", "t5", "bert", "llama"])
def test_frozen_layers_have_no_dropout_in_training(name: str) -> None:
    base: Any = MODELS[name]()
    for module in base.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.5
    inputs = inputs_for(base)
    assert not torch.equal(output_of(base.train(), inputs), output_of(base, inputs)) or name == "llama"
    model = ladder(base.eval())
    expected = output_of(model, inputs)
    assert torch.equal(output_of(model.train(), inputs), expected)
    noisy = ladder(base, dropout=0.5)
    assert torch.equal(output_of(noisy.eval(), inputs), expected)
    assert not torch.equal(output_of(noisy.train(), inputs), expected)


def test_a_part_that_is_trained_inside_a_layer_is_refused() -> None:
    base = MODELS["bert"]()
    model = ladder(base)
    model.get_parameter("bert.encoder.base_layer.layer.0.base_layer.output.dense.bias").requires_grad_(True)
    with pytest.raises(UsageError, match=r"layer 0 of bert\.encoder is trained.*no gradient"):
        model(**inputs_for(base))
    with torch.no_grad():
        model(**inputs_for(base))


def test_gradients_reach_what_comes_before_and_after_the_layers() -> None:
    """A connector before the layers is trained through the first states; a head behind them as ever."""
    base: Any = MODELS["t5"]()
    model, inputs = ladder(base), inputs_for(base)
    model.decoder.final_layer_norm.weight.requires_grad_(True)
    tokens = inputs.pop("input_ids")
    embeds = model.shared(tokens).detach().requires_grad_(True)
    model(inputs_embeds=embeds, **inputs).logits.square().sum().backward()
    assert embeds.grad is not None and embeds.grad[0].abs().min() > 0
    assert model.decoder.final_layer_norm.weight.grad.abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_keeps_its_type(dtype: torch.dtype) -> None:
    base = MODELS["llama"]().to(dtype)
    made = copy.deepcopy(base)
    inject(made, place(made, LadderConfig(reduction_factor=4)))  # its own weights stay float32
    inputs = inputs_for(base)
    with torch.no_grad():
        assert torch.equal(output_of(made, inputs), output_of(base, inputs))
        assert output_of(ladder(base), inputs).dtype == dtype


def test_under_autocast_it_begins_as_the_model_and_learns() -> None:
    base = MODELS["bart"]().requires_grad_(False)
    made = copy.deepcopy(base)
    inject(made, place(made, LadderConfig(reduction_factor=4)))
    inputs = inputs_for(base)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(output_of(made, inputs), output_of(base, inputs))
        output = output_of(ladder(base), inputs)
    exact = output_of(ladder(base), inputs)
    torch.testing.assert_close(output.float(), exact, rtol=0.1, atol=0.15)


def own_encoder(**options: Any) -> nn.Module:
    """Return an encoder of this package inside a model, as recipes have it."""
    torch.manual_seed(0)

    def attention() -> AttentionLayer:
        return AttentionLayer(16, attention_core("softmax", 2, 8, {}))

    encoder = Encoder(16, 24, 2, attention, dropout=0.5, **options)
    return nn.ModuleDict({"encoder": encoder})


def test_it_stands_beside_an_encoder_of_this_package() -> None:
    base = own_encoder().requires_grad_(False)
    model = ladder(base).train()  # its dropout would ask for rows, which nobody has set
    x, valid = torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found = model["encoder"](x, valid)
    near(model["encoder"](x[1:, :3], None)[0], found[1, :3])
    near(found[0], model["encoder"](x[:1], None)[0])
    assert not torch.allclose(found, base.eval()["encoder"](x, valid), atol=1e-2)
    with pytest.raises(UsageError, match="1 layers 2 times"):
        ladder(own_encoder(tied_weights=True))


def test_texts_that_lie_behind_one_another_see_themselves_alone() -> None:
    from quincunx.nn.pretrained.packed import run_packed, use

    base: Any = MODELS["bert"]().bert
    use(base)
    model, inputs = ladder(base), inputs_for(base)
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
        found = run_packed(model, inputs["input_ids"], inputs["attention_mask"].sum(1)).padded()
    real = inputs["attention_mask"].bool()
    near(found[real], expected[real])


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (
            {},
            parameters(768, 6, 8, cross=False, ends=False) + parameters(768, 6, 8, cross=True, ends=True),
        ),
        ({"sides": "encoder"}, parameters(768, 6, 8, cross=False, ends=True)),
        ({"sides": "decoder"}, parameters(768, 6, 8, cross=True, ends=True, own_memory=True)),
        ({"sides": "encoder", "every": 2}, parameters(768, 3, 8, cross=False, ends=True)),
    ],
)
def test_counts_for_bart_base(options: dict[str, Any], count: int) -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    with torch.device("meta"):
        model = BartForConditionalGeneration(BartConfig(encoder_layers=6, decoder_layers=6, d_model=768))
        placement = place(model, LadderConfig(**options))
    assert sum(p.numel() for part in placement.adapters.values() for p in part.parameters()) == count


def test_the_count_for_bart_base_as_a_number() -> None:
    assert parameters(768, 6, 8, cross=False, ends=False) + parameters(768, 6, 8, cross=True, ends=True) == 2_673_420


def test_where_it_goes() -> None:
    model = MODELS["t5"]()
    placement = place(model, LadderConfig(reduction_factor=4, every=2, leave_out=["decoder.block.0"]))
    assert [*placement.adapters] == [
        "encoder", "encoder.block.0", "encoder.block.1", "decoder", "decoder.block.0", "decoder.block.1",
    ]  # fmt: skip
    assert placement.notes == ("1 blocks beside encoder", "1 blocks beside decoder")
    encoder = place(model, LadderConfig(reduction_factor=4, target_modules=["enc*"]))
    assert [*encoder.adapters] == ["encoder", "encoder.block.0", "encoder.block.1"]
    assert "sides: both" in encoder.notes[1]
    whole = place(MODELS["bert"]().bert.encoder, LadderConfig(reduction_factor=4))  # pyright: ignore
    assert [*whole.adapters] == ["layer.0", "layer.1"]


def test_what_runs_before_a_stack() -> None:
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        pictures: Any = CLIPModel(CLIPConfig())
    modules, stacks = modules_of(pictures), find_stacks(pictures)
    assert [stack.path for stack in stacks] == ["text_model.encoder", "vision_model.encoder"]
    found = runs_before(modules, stacks[1], stacks)
    assert "vision_model.embeddings.patch_embedding" in found and "vision_model.pre_layrnorm" in found
    assert "vision_model.post_layernorm" not in found and not any(path.startswith("text_model") for path in found)
    model = MODELS["bart"]()
    stacks = find_stacks(model)
    decoder = runs_before(modules_of(model), stacks[1], stacks)
    assert "model.shared" in decoder and "model.encoder.layers.1.fc2" in decoder and "lm_head" not in decoder
    assert not any(path.startswith("model.decoder") for path in runs_before(modules_of(model), stacks[0], stacks))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "bert",
            {"sides": "decoder"},
            "no stack is left for sides: decoder; .* BertForMaskedLM are bert.encoder",
        ),
        ("bert", {"target_modules": ["encoder"]}, "target_modules names encoder, and the stacks .* are bert.encoder"),
        ("bert", {"reduction_factor": 17}, "16 wide: a reduction factor of 17 leaves nothing"),
        ("bert", {"reduction_factor": 4, "num_heads": 3}, "4 wide cannot have 3 heads"),
        ("bert", {"leave_out": [0, 1]}, "leave no layer of bert.encoder"),
        ("resnet", {}, "ResNetForImageClassification has no stack of layers with attention"),
    ],
)
def test_what_does_not_suit_a_model_is_said(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        place(MODELS[name](), LadderConfig(**options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sides": "left"}, "sides must be one of encoder, decoder, both, found 'left'"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"sites": ["attention"]}, "name stacks in target_modules"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"every": 0}, "every must be at least 1"),
        ({"num_heads": 0}, "num_heads must be at least 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"cache_dtype": "float16"}, "name a folder in cache"),
        ({"cache_limit": 1.0}, "name a folder in cache"),
        ({"cache": "x", "cache_limit": 0.0}, "cache_limit must be above 0"),
        ({"cache": "x", "cache_dtype": "int8"}, "cache_dtype must be one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LadderConfig(**options)


def test_options_of_the_network() -> None:
    plain, wide, heads = (
        SideNetwork(512, 1, LadderConfig(**options), cross=False, memory_width=None, ends=True)
        for options in ({}, {"feedforward_factor": 1.5, "activation": "relu"}, {"num_heads": 8})
    )
    assert [made.blocks[0].within.num_heads for made in (plain, wide, heads)] == [2, 2, 8]
    assert [made.blocks[0].widen.out_features for made in (plain, wide, heads)] == [256, 96, 256]
    x = torch.randn(1, 3, 64)
    assert torch.equal(wide.blocks[0]._activation(x), x.relu())
