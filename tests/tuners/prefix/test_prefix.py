"""Key-value prefixes against attention by hand and against peft; masks, caches, other attentions; where they go."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bart_base import added
from quincunx.errors import UsageError
from quincunx.nn.attention.layer import AttentionLayer
from quincunx.nn.attention.softmax import SoftmaxAttention
from quincunx.nn.encoder import Encoder
from quincunx.nn.pretrained import packed
from quincunx.nn.routing import routed
from quincunx.tuners.adapter import inject
from quincunx.tuners.prefix.config import PrefixConfig
from quincunx.tuners.prefix.layer import NAME
from quincunx.tuners.prefix.model import place
from reference import tuners_prefix as reference
from reference.tuners_prompts import allowed
from tiny_models import MODELS, inputs_for, output_of

TASKS = ["a", "b", "c"]
WHICH = [2, 0, 1, 2]
STEPS = 4


def tuned(model: nn.Module, config: PrefixConfig) -> tuple[Any, Any, nn.ModuleDict]:
    """Return the model as it is, one with a prefix, its numbers far from nought, and what the parts share."""
    torch.manual_seed(4)
    base = copy.deepcopy(model)
    placement = place(model, config)
    shared = inject(model, placement)
    for part in [*placement.adapters.values(), shared]:
        for parameter in part.parameters():
            parameter.data += 0.7 * torch.randn(parameter.shape)
    return base, model.eval(), shared


def stored(part: Any, trunk: Any, task: int, head: int) -> tuple[Tensor, Tensor]:
    """Return keys and values `[G, P, E]` of one task from the weights as they are stored."""
    if trunk is None:
        vectors = part.vectors.vectors[task]
    else:
        down, up = trunk.down, part.vectors.up
        own = down.weight.ndim == 3
        maps = [each[task] if own else each for each in (down.weight, down.bias, up.weight, up.bias)]
        vectors = torch.tanh(trunk.vectors[task] @ maps[0].T + maps[1]) @ maps[2].T + maps[3]
    keys, values = vectors.chunk(2, -1)
    return tuple(torch.stack(each.split(head, -1)) for each in (keys, values))  # pyright: ignore[reportReturnType]


def by_hand(
    site: Any, shared: nn.ModuleDict, tasks: list[int], q: Tensor, k: Tensor, v: Tensor, seen: Tensor,
    scaling: float, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return attention `[B, S, H * E]` with the prefix of a site."""
    part = site.quincunx_tuned
    trunk = next(iter(shared.values())) if len(shared) else None
    both = [stored(part, trunk, task, q.shape[-1]) for task in tasks]
    prefix = torch.stack([keys for keys, _ in both]), torch.stack([values for _, values in both])
    gate = None if part.gate is None else part.gate[[task if len(part.gate) > 1 else 0 for task in tasks]]
    return reference.attention(q, k, v, seen, scaling, prefix, gate, bias).flatten(2)


def heads(x: Tensor, width: int) -> Tensor:
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


forms = pytest.mark.parametrize("form", ["gated", "joint"])
attentions = pytest.mark.parametrize("attention", ["eager", "sdpa"])


@forms
@pytest.mark.parametrize(
    ("attention", "kind"),  # eager attention adds its mask, so that it has no bool
    [("sdpa", "bool"), ("sdpa", "additive"), ("sdpa", "none"), ("eager", "additive"), ("eager", "none")],
)
@torch.no_grad()
def test_barts_attention_is_what_it_is_by_hand(form: Any, attention: str, kind: str) -> None:
    _, model, shared = tuned(
        MODELS["bart"](), PrefixConfig(prefix_len=3, form=form, mid_dim=5, tasks=TASKS, target_modules=["*encoder*"])
    )
    model.set_attn_implementation(attention)
    site = model.model.encoder.layers[1].self_attn
    x, mask = torch.randn(4, 6, 16), inputs_for(model)["attention_mask"][:, :6]
    seen = mask[:, None, :].bool().expand(-1, 6, -1) if kind != "none" else torch.ones(4, 6, 6, dtype=torch.bool)
    masks = {"bool": seen[:, None], "additive": allowed(mask, 6, causal=False), "none": None}
    q, k, v = (heads(each(x), 8) for each in (site.q_proj, site.k_proj, site.v_proj))
    expected = site.out_proj(by_hand(site, shared, WHICH, q, k, v, seen, site.scaling))
    with routed(model, WHICH):
        found = site(x, attention_mask=masks[kind])[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@forms
@attentions
@torch.no_grad()
def test_llamas_attention_with_fewer_heads_of_keys(form: Any, attention: str) -> None:
    """Causal without a mask where the kernel may know that by itself; a prefix is seen by all."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    _, model, shared = tuned(MODELS["llama"](), PrefixConfig(prefix_len=3, form=form))
    model.set_attn_implementation(attention)
    site, x = model.model.layers[0].self_attn, torch.randn(2, 6, 16)
    turn = model.model.rotary_emb(x, torch.arange(6)[None])
    q, k, v = (heads(each(x), 4) for each in (site.q_proj, site.k_proj, site.v_proj))
    q, k = apply_rotary_pos_emb(q, k, *turn)
    seen = torch.ones(6, 6, dtype=torch.bool).tril().expand(2, -1, -1)
    expected = site.o_proj(by_hand(site, shared, [0, 0], q, k, v, seen, site.scaling))
    mask = None if attention == "sdpa" else allowed(torch.ones(2, 6), 6, causal=True)
    found = site(x, position_embeddings=turn, attention_mask=mask)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@forms
@attentions
@torch.no_grad()
def test_t5s_relative_positions_do_not_count_a_prefix(form: Any, attention: str) -> None:
    base, model, shared = tuned(
        MODELS["t5"](), PrefixConfig(prefix_len=3, form=form, target_modules=["encoder.*", "*EncDecAttention"])
    )
    model.set_attn_implementation(attention)
    plain, x = base.encoder.block[0].layer[0].SelfAttention, torch.randn(2, 6, 16)
    site = model.encoder.block[0].layer[0].SelfAttention
    q, k, v = (heads(each(x), 8) for each in (plain.q, plain.k, plain.v))
    bias, seen = plain.compute_bias(6, 6)[0], torch.ones(2, 6, 6, dtype=torch.bool)
    expected = plain.o(by_hand(site, shared, [0, 0], q, k, v, seen, 1.0, bias))
    found, given_on, _ = site(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(given_on[0], bias)  # the layers after it get the text's own


@pytest.mark.parametrize("name", ["bart", "t5"])
@forms
@torch.no_grad()
def test_cross_attention_sees_a_prefix(name: str, form: Any) -> None:
    _, model, shared = tuned(
        MODELS[name](), PrefixConfig(prefix_len=2, form=form, sites=["cross_attention"], tasks=TASKS)
    )
    site = model.model.decoder.layers[0].encoder_attn if name == "bart" else (
        model.decoder.block[0].layer[1].EncDecAttention
    )  # fmt: skip
    maps = (
        (site.q_proj, site.k_proj, site.v_proj, site.out_proj) if name == "bart" else (site.q, site.k, site.v, site.o)
    )
    x, states = torch.randn(4, 5, 16), torch.randn(4, 7, 16)
    q, k, v = (heads(each(y), 8) for each, y in zip(maps[:3], (x, states, states), strict=True))
    expected = maps[3](by_hand(site, shared, WHICH, q, k, v, torch.ones(4, 5, 7, dtype=torch.bool), site.scaling))
    with routed(model, WHICH):
        torch.testing.assert_close(site(x, key_value_states=states)[0], expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    length=st.integers(1, 4),
    form=st.sampled_from(["gated", "joint"]),
    mid=st.sampled_from([None, 3]),
    by_task=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_bert_with_any_prefix(length: int, form: Any, mid: int | None, by_task: bool, seed: int) -> None:
    config = PrefixConfig(prefix_len=length, form=form, mid_dim=mid, tasks=TASKS if by_task else [])
    _, model, shared = tuned(MODELS["bert"](), config)
    torch.manual_seed(seed)
    site = model.bert.encoder.layer[0].attention.self
    x, mask = torch.randn(4, 7, 16), inputs_for(model)["attention_mask"]
    q, k, v = (heads(each(x), 8) for each in (site.query, site.key, site.value))
    which = WHICH if by_task else [0] * 4
    expected = by_hand(site, shared, which, q, k, v, mask[:, None].bool().expand(-1, 7, -1), site.scaling)
    with routed(model, which if by_task else None):
        found = site(x, attention_mask=mask[:, None, None].bool())[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("mid", [None, 6])
@torch.no_grad()
def test_jointly_it_is_prefix_tuning_of_peft(name: str, mid: int | None) -> None:
    """With peft a prefix lies in the cache, so that the text stands P later there; told so, we give the same."""
    peft = pytest.importorskip("peft")
    base, model, shared = tuned(made(name), PrefixConfig(prefix_len=3, form="joint", mid_dim=mid))
    projected = {} if mid is None else {"prefix_projection": True, "encoder_hidden_size": mid}
    theirs: Any = peft.get_peft_model(
        base, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, **projected)
    ).eval()
    layers = model.model.layers if name == "llama" else model.transformer.h
    parts = [(layer.self_attn if name == "llama" else layer.attn).quincunx_tuned for layer in layers]
    encoder = theirs.prompt_encoder["default"]
    if mid is None:
        encoder.embedding.weight.copy_(torch.cat([part.vectors.vectors[0] for part in parts], -1))
    else:
        trunk: Any = next(iter(shared.children()))
        width = encoder.embedding.weight.shape[1]  # keys are narrower than states where heads share them
        encoder.embedding.weight.copy_(trunk.vectors[0, :, :width])
        encoder.transform[0].weight.copy_(trunk.down.weight[:, :width])
        trunk.vectors[0, :, width:] = 0
        encoder.transform[0].bias.copy_(trunk.down.bias)
        encoder.transform[2].weight.copy_(torch.cat([part.vectors.up.weight for part in parts]))
        encoder.transform[2].bias.copy_(torch.cat([part.vectors.up.bias for part in parts]))
    tokens = inputs_for(MODELS["llama"]())["input_ids"]
    mask = inputs_for(MODELS["llama"]())["attention_mask"]
    positions = torch.arange(3, 3 + tokens.shape[1])[None].expand(4, -1)
    found = model(input_ids=tokens, attention_mask=mask, position_ids=positions).logits
    expected = theirs(input_ids=tokens, attention_mask=mask).logits
    shown = mask.bool()
    torch.testing.assert_close(found[shown], expected[shown], rtol=1e-4, atol=1e-4)


def made(name: str) -> Any:
    """Return a tiny model, of those that all tests of tuners share or another."""
    import transformers

    if name in MODELS:
        return MODELS[name]()
    torch.manual_seed(3)
    if name == "gpt2":
        config: Any = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=32)
        return transformers.GPT2LMHeadModel(config).eval()
    if name == "distilbert":
        sizes: Any = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "vocab_size": 40}
        return transformers.DistilBertForMaskedLM(transformers.DistilBertConfig(**sizes)).eval()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=32, patch_size=8)).eval()


@forms
@pytest.mark.parametrize("name", ["gpt2", "distilbert", "vit"])
@torch.no_grad()
def test_other_families_give_the_same_by_either_attention(name: str, form: Any) -> None:
    base, model, _ = tuned(made(name), PrefixConfig(prefix_len=3, form=form))
    inputs = inputs_for(MODELS["clip" if name == "vit" else "bert"]())
    found: list[Tensor] = []
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        found.append(output_of(model, inputs))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], output_of(base, inputs), atol=1e-3)


@forms
@pytest.mark.parametrize("name", ["bart", "t5", "llama"])
@torch.no_grad()
def test_generation_with_a_cache_is_that_without(name: str, form: Any) -> None:
    sites = ["attention"] if name == "llama" else ["attention", "cross_attention"]
    config = PrefixConfig(prefix_len=3, form=form, tasks=TASKS, sites=sites)
    _, model, _ = tuned(MODELS[name](), config)
    inputs = {key: inputs_for(model)[key].flip(1) for key in ("input_ids", "attention_mask")}
    limits: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False, "eos_token_id": -1}
    limits |= {"pad_token_id": 1, "forced_eos_token_id": None}
    with routed(model, WHICH):
        for width in (1, 3):
            slow = model.generate(**inputs, use_cache=False, num_beams=width, **limits)
            fast = model.generate(**inputs, num_beams=width, return_dict_in_generate=True, **limits)
            assert torch.equal(fast.sequences, slow)
        cache = fast.past_key_values
        text = inputs["input_ids"].shape[1] - 1 if name == "llama" else 0
        assert cache.get_seq_length() == text + STEPS  # of the text alone
        if name == "llama":
            still = model.generate(**inputs, cache_implementation="static", **limits)
            assert torch.equal(still, model.generate(**inputs, **limits))
            fused = model.generate(
                inputs_embeds=model.model.embed_tokens(inputs["input_ids"]),
                attention_mask=inputs["attention_mask"], **limits,
            )  # fmt: skip
            assert torch.equal(fused, still[:, inputs["input_ids"].shape[1] :])


@torch.no_grad()
def test_two_prefixes_in_one_module_are_one_longer() -> None:
    base = MODELS["llama"]()
    models = [copy.deepcopy(base) for _ in range(2)]
    configs = [PrefixConfig(prefix_len=length, form="joint") for length in (2, 3, 5)]
    short, more, long = (place(models[n // 2], config) for n, config in enumerate(configs))
    inject(models[0], short)
    inject(models[0], more)
    inject(models[1], long)
    for path, part in long.adapters.items():
        both: list[Any] = [short.adapters[path], more.adapters[path]]
        whole: Any = part
        whole.vectors.vectors.data = torch.cat([each.vectors.vectors for each in both], 1)
    inputs = inputs_for(base)
    expected = output_of(models[1], inputs)
    torch.testing.assert_close(output_of(models[0], inputs), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, output_of(base, inputs), atol=1e-3)


def test_a_modules_config_is_its_own_again_whatever_happens() -> None:
    _, model, _ = tuned(MODELS["bart"](), PrefixConfig(prefix_len=2))
    site = model.model.encoder.layers[0].self_attn
    config = site.base_layer.config
    seen: list[str] = []
    site.base_layer.register_forward_pre_hook(lambda module, _: seen.append(module.config._attn_implementation))
    site(torch.randn(1, 3, 16))
    assert seen == [NAME] and site.base_layer.config is config and config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError):
        site(torch.randn(1, 3, 15))
    assert site.base_layer.config is config


@torch.no_grad()
def test_texts_that_lie_behind_one_another() -> None:
    """Where a bi-encoder on a CPU leaves padding out, a gated prefix still gives the same; a joint one says why not."""
    for form in ("gated", "joint"):
        _, model, _ = tuned(MODELS["bert"](), PrefixConfig(prefix_len=3, form=form))
        inputs = inputs_for(model)
        expected = model.bert(**inputs).last_hidden_state
        packed.use(model)
        torch.testing.assert_close(model.bert(**inputs).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
        tokens, mask = inputs["input_ids"], inputs["attention_mask"]
        if form == "joint":
            with pytest.raises(UsageError, match=r"attention quincunx takes its keys from elsewhere.*form gated"):
                packed.run_packed(model.bert, tokens, mask.sum(1))
        else:
            found = packed.run_packed(model.bert, tokens, mask.sum(1)).padded()
            torch.testing.assert_close(found, expected * mask[..., None], rtol=1e-4, atol=1e-5)


@forms
@torch.no_grad()
def test_half_precision(form: Any) -> None:
    _, model, _ = tuned(MODELS["llama"](), PrefixConfig(prefix_len=2, form=form, mid_dim=4))
    inputs = inputs_for(model)
    expected = output_of(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(output_of(model, inputs).float(), expected, rtol=0.1, atol=0.15)


def test_a_gate_is_left_first_and_the_prefix_after_it() -> None:
    model = MODELS["bart"]()
    placement = place(model, PrefixConfig(prefix_len=2))
    inject(model, placement)
    output_of(model, inputs_for(model)).square().sum().backward()
    for part in placement.adapters.values():
        own: Any = part
        assert bool(own.gate.grad.all()) and not bool(own.vectors.vectors.grad.any())


def test_a_mask_that_nothing_can_be_put_before() -> None:
    _, model, _ = tuned(MODELS["bart"](), PrefixConfig(prefix_len=2, form="joint"))
    with pytest.raises(UsageError, match=r"has its mask as list.*form gated"):
        model.model.encoder.layers[0].self_attn(torch.randn(1, 3, 16), attention_mask=[1])


def test_where_it_goes() -> None:
    def paths(name: str, **options: Any) -> list[str]:
        return [*place(MODELS[name](), PrefixConfig(**options)).adapters]

    assert paths("llama") == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    assert paths("llama", leave_out=[-1]) == ["model.layers.0.self_attn"]
    assert paths("bert") == [f"bert.encoder.layer.{n}.attention.self" for n in (0, 1)]
    assert len(paths("bart")) == 4 and len(paths("bart", sites=["attention", "cross_attention"])) == 6
    assert paths("bart", sites=["cross_attention"], leave_out=["*.0.encoder_attn"]) == [
        "model.decoder.layers.1.encoder_attn"
    ]
    # T5's sub-layers are layers of its blocks: a layer is a block
    assert paths("t5", leave_out=[0]) == [f"{s}.block.1.layer.0.SelfAttention" for s in ("encoder", "decoder")]
    assert paths("t5", target_modules=["decoder.block.0.layer.?.*"]) == [
        "decoder.block.0.layer.0.SelfAttention", "decoder.block.0.layer.1.EncDecAttention",
    ]  # fmt: skip


def test_the_first_map_is_one_for_a_stack() -> None:
    placement = place(MODELS["t5"](), PrefixConfig(mid_dim=6, sites=["attention", "cross_attention"]))
    assert [*placement.shared] == [
        "encoder_block_attention", "decoder_block_attention", "decoder_block_cross_attention",
    ]  # fmt: skip
    assert not len(place(MODELS["t5"](), PrefixConfig()).shared)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("llama", {"sites": ["cross_attention"]}, "known as cross_attention"),
        ("bart", {"target_modules": ["model.encodr.layers.0.self_attn"]}, "no attention model.encodr.*there is model"),
        ("bart", {"leave_out": ["nothing"]}, "leave_out: BartForConditionalGeneration has no attention nothing"),
        ("bart", {"leave_out": ["*"]}, "leaves no attention for a prefix"),
        ("resnet", {}, "no module that is known as attention"),
    ],
)
def test_what_cannot_be_placed_says_why(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        place(MODELS[name](), PrefixConfig(**options))


def test_an_attention_of_its_own_kind_is_refused() -> None:
    encoder = Encoder(16, 16, 1, lambda: AttentionLayer(16, SoftmaxAttention(2, 8)))
    with pytest.raises(UsageError, match=r"blocks\.0\.attention .AttentionLayer. computes attention in its own way"):
        place(encoder, PrefixConfig())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "both"}, "form must be gated or joint, found 'both'"),
        ({"prefix_len": 0}, "prefix_len must be above 0"),
        ({"sites": ["feedforward"]}, "a prefix stands in attention or cross_attention.*found 'feedforward'"),
        ({"sites": []}, "found none"),
        ({"sites": ["attention"], "target_modules": ["*"]}, "leave one of them out"),
        ({"mid_dim": -1}, "mid_dim must be above 0"),
        ({"std": -1.0}, "std must be above 0"),
        ({"tasks": ["a", "a"]}, "tasks names one twice"),
    ],
)
def test_options_that_cannot_be_had(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PrefixConfig(**options)


@pytest.mark.parametrize("tasks", [0, 4])
def test_how_many_parameters_it_has_on_bart_base(tasks: int) -> None:
    names, many = [f"task {n}" for n in range(tasks)], max(tasks, 1)
    length, width, mid, layers, stacks, gates = 20, 768, 800, 12, 2, 12
    gated, joint = (PrefixConfig(prefix_len=length, form=form, tasks=names) for form in ("gated", "joint"))
    assert added(place, joint) == many * layers * length * 2 * width
    assert added(place, gated) == many * layers * (length * 2 * width + gates)
    maps = PrefixConfig(prefix_len=length, form="joint", mid_dim=mid, tasks=names)
    trunk, up = length * width + width * mid + mid, mid * 2 * width + 2 * width
    assert added(place, maps) == many * (stacks * trunk + layers * up)
