"""Soft prompts against models run by hand and against peft; masks, positions, caches, generation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quincunx.errors import UsageError
from quincunx.nn.routing import routed
from quincunx.tuners.adapter import Chain, Placement, SiteAdapter, inject
from quincunx.tuners.prompts.config import PromptsConfig
from quincunx.tuners.prompts.layer import UnmovedPositions
from quincunx.tuners.prompts.model import place
from reference.tuners_prompts import bart_decoder, bart_encoder, beams, greedy, vectors
from tiny_models import MODELS, inputs_for, output_of

TASKS = ["a", "b", "c"]
WHICH = [2, 0, 1, 2]
STEPS = 5


def tuned(model: nn.Module, config: PromptsConfig) -> tuple[Any, Any]:
    """Return the model as it is, and one with prompts, their numbers far from nought."""
    torch.manual_seed(4)
    base = copy.deepcopy(model)
    placement = place(model, config)
    inject(model, placement)
    for part in placement.adapters.values():
        for parameter in part.parameters():
            parameter.data += 0.5 * torch.randn(parameter.shape)
    return base, model.eval()


def prompts_of(part: Any, tasks: list[int]) -> Tensor:
    return torch.stack([vectors(part.prompt, task) for task in tasks])


def longer(mask: Tensor, length: int) -> Tensor:
    return torch.cat([torch.ones(len(mask), length), mask], 1)


class BartByHand:
    """BART with prompts from the weights of its parts."""

    def __init__(self, base: Any, model: Any, inputs: dict[str, Tensor], tasks: list[int]) -> None:
        self.base = base
        encoder, decoder = model.model.encoder.quincunx_tuned, model.model.decoder.quincunx_tuned
        mask = inputs["attention_mask"]
        before = prompts_of(encoder, tasks)
        embeddings = base.model.shared(inputs["input_ids"])
        self.states = bart_encoder(base.model.encoder, embeddings, mask, before)
        self.mask = longer(mask, before.shape[1])
        self.prompt = None if decoder.prompt is None else prompts_of(decoder, tasks)

    def logits(self, tokens: Tensor, rows: slice = slice(None), own: Tensor | None = None) -> Tensor:
        prompt = None if self.prompt is None else self.prompt[rows]
        found = bart_decoder(self.base.model.decoder, tokens, prompt, self.states[rows], self.mask[rows], own)
        return self.base.lm_head(found) + self.base.final_logits_bias


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "config",
    [
        PromptsConfig(encoder_prompt_len=3, decoder_prompt_len=2, mid_dim=5),
        PromptsConfig(encoder_prompt_len=2, decoder_prompt_len=3, tasks=TASKS),
        PromptsConfig(encoder_prompt_len=2, mid_dim=4, tasks=TASKS),
    ],
    ids=["maps", "tasks", "tasks-maps-encoder"],
)
@torch.no_grad()
def test_bart_is_what_it_is_by_hand(config: PromptsConfig, attention: str) -> None:
    base, model = tuned(MODELS["bart"](), config)
    model.set_attn_implementation(attention)
    inputs = inputs_for(base)
    which = WHICH if config.tasks else [0] * 4
    expected = BartByHand(base, model, inputs, which).logits(inputs["decoder_input_ids"])
    with routed(model, which if config.tasks else None):
        torch.testing.assert_close(output_of(model, inputs), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_of_the_decoder_is_not_seen() -> None:
    base, model = tuned(MODELS["bart"](), PromptsConfig(encoder_prompt_len=1, decoder_prompt_len=2))
    inputs = inputs_for(base)
    own = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    found = output_of(model, {**inputs, "decoder_attention_mask": own})
    expected = BartByHand(base, model, inputs, [0] * 4).logits(inputs["decoder_input_ids"], own=own)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("embedded", [True, False])
@torch.no_grad()
def test_bart_generates_what_it_does_by_hand(cache: bool, embedded: bool) -> None:
    config = PromptsConfig(encoder_prompt_len=3, decoder_prompt_len=2, tasks=TASKS)
    base, model = tuned(MODELS["bart"](), config)
    inputs = inputs_for(base)
    hand = BartByHand(base, model, inputs, WHICH)
    start = torch.full((4, 1), base.config.decoder_start_token_id)
    given: dict[str, Any] = {"attention_mask": inputs["attention_mask"], "use_cache": cache, "do_sample": False}
    given |= {"min_new_tokens": STEPS, "max_new_tokens": STEPS, "forced_eos_token_id": None, "eos_token_id": -1}
    if embedded:
        given["inputs_embeds"] = base.model.shared(inputs["input_ids"])
    else:
        given["input_ids"] = inputs["input_ids"]
    with routed(model, WHICH):
        found = model.generate(**given)
        wide = model.generate(**given, num_beams=3, length_penalty=0.0)
    assert torch.equal(found, greedy(lambda tokens: hand.logits(tokens)[:, -1], start, STEPS))
    searched = beams(lambda tokens, row: hand.logits(tokens, slice(row, row + 1))[:, -1], start, STEPS, 3)
    assert torch.equal(wide, searched)


@torch.no_grad()
def test_a_cache_holds_the_prompt_once() -> None:
    _, model = tuned(MODELS["bart"](), PromptsConfig(encoder_prompt_len=3, decoder_prompt_len=2))
    inputs = inputs_for(model)
    found = model.generate(**{name: inputs[name] for name in ("input_ids", "attention_mask")}, min_new_tokens=STEPS,
                           max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True)  # fmt: skip
    assert found.past_key_values.self_attention_cache.get_seq_length() == 2 + STEPS
    assert found.past_key_values.cross_attention_cache.get_seq_length() == 3 + inputs["input_ids"].shape[1]


def llama_by_hand(base: Any, prompt: Tensor, embeddings: Tensor, mask: Tensor) -> Tensor:
    """Return the logits of a text that stands behind a prompt and, where it is shorter, behind padding."""
    length = prompt.shape[1]
    positions = torch.cat([torch.arange(length).expand(len(mask), -1), length + (mask.cumsum(1) - 1).clamp(min=0)], 1)
    whole = torch.cat([prompt, embeddings], 1)
    found = base.model(
        inputs_embeds=whole, attention_mask=longer(mask, length).long(), position_ids=positions, use_cache=False
    )
    return base.lm_head(found.last_hidden_state)[:, length:]


@pytest.mark.parametrize(
    ("cache", "embedded"),
    [(True, False), (False, False), (True, True)],  # from embeddings, transformers goes on by a cache alone
    ids=["cache", "no-cache", "embedded"],
)
@torch.no_grad()
def test_llama_generates_what_it_does_by_hand(cache: bool, embedded: bool) -> None:
    base, model = tuned(MODELS["llama"](), PromptsConfig(decoder_prompt_len=3, mid_dim=5, tasks=TASKS))
    prompt = prompts_of(model.model.quincunx_tuned, WHICH)
    mask = inputs_for(base)["attention_mask"].flip(1)
    tokens = inputs_for(base)["input_ids"].flip(1)
    embed = base.model.embed_tokens

    def logits(whole: Tensor, rows: slice = slice(None)) -> Tensor:
        grown = torch.cat([mask[rows], torch.ones_like(whole[:, mask.shape[1] :])], 1)
        return llama_by_hand(base, prompt[rows], embed(whole), grown)[:, -1]

    given: dict[str, Any] = {"attention_mask": mask, "use_cache": cache, "do_sample": False, "max_new_tokens": STEPS}
    given |= {"inputs_embeds": embed(tokens)} if embedded else {"input_ids": tokens}
    given |= {"eos_token_id": -1, "pad_token_id": 1}
    with routed(model, WHICH):
        found = model.generate(**given)
        wide = model.generate(**given, num_beams=3, length_penalty=0.0)
    first = tokens.shape[1] if embedded else 0  # what was embedded is not given back
    assert torch.equal(found, greedy(logits, tokens, STEPS)[:, first:])
    searched = beams(lambda whole, row: logits(whole, slice(row, row + 1)), tokens, STEPS, 3)
    assert torch.equal(wide, searched[:, first:])


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [("t5", "SEQ_2_SEQ_LM", "encoder_prompt_len"), ("llama", "CAUSAL_LM", "decoder_prompt_len")],
)
@torch.no_grad()
def test_it_is_prompt_tuning_of_peft_where_that_has_the_same_positions(name: str, kind: str, key: str) -> None:
    peft = pytest.importorskip("peft")
    lengths: dict[str, Any] = {key: 3}
    base, model = tuned(MODELS[name](), PromptsConfig(**lengths))
    stack = model.encoder if name == "t5" else model.model
    options: dict[str, Any] = {"task_type": kind, "num_virtual_tokens": 3}
    if name == "t5":
        options["num_transformer_submodules"] = 1
    theirs = peft.get_peft_model(base, peft.PromptTuningConfig(**options)).eval()
    theirs.prompt_encoder["default"].embedding.weight.copy_(vectors(stack.quincunx_tuned.prompt, 0))
    inputs = inputs_for(model)
    labels = inputs["decoder_input_ids"] if name == "t5" else inputs["input_ids"]
    given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "labels": labels}
    ours, expected = model(**given), theirs(**given)
    text = expected.logits if name == "t5" else expected.logits[:, 3:]
    torch.testing.assert_close(ours.logits, text, rtol=1e-4, atol=1e-5)
    if name == "t5":  # before a decoder, peft's loss has the step from prompt to text too; ours is the text's alone
        torch.testing.assert_close(ours.loss, expected.loss)


@pytest.mark.parametrize("cache", [True, False])
@torch.no_grad()
def test_t5_generates_what_it_does_by_hand(cache: bool) -> None:
    config = PromptsConfig(encoder_prompt_len=2, decoder_prompt_len=3, tasks=TASKS)
    base, model = tuned(MODELS["t5"](), config)
    inputs = inputs_for(base)
    before, own = (prompts_of(stack.quincunx_tuned, WHICH) for stack in (model.encoder, model.decoder))
    mask = longer(inputs["attention_mask"], 2)
    states = base.encoder(inputs_embeds=torch.cat([before, base.shared(inputs["input_ids"])], 1), attention_mask=mask)

    def logits(tokens: Tensor, rows: slice = slice(None)) -> Tensor:
        whole = torch.cat([own[rows], base.shared(tokens)], 1)
        seen = {"encoder_hidden_states": states.last_hidden_state[rows], "encoder_attention_mask": mask[rows]}
        found = base.decoder(inputs_embeds=whole, use_cache=False, **seen).last_hidden_state[:, -1]
        return base.lm_head(found * scale_of(base))

    given: dict[str, Any] = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    given |= {"use_cache": cache, "do_sample": False, "max_new_tokens": STEPS, "eos_token_id": -1}
    start = torch.zeros(4, 1, dtype=torch.int64)
    with routed(model, WHICH):
        found = model.generate(**given)
        wide = model.generate(**given, num_beams=3, length_penalty=0.0)
    assert torch.equal(found, greedy(logits, start, STEPS))
    searched = beams(lambda tokens, row: logits(tokens, slice(row, row + 1)), start, STEPS, 3)
    assert torch.equal(wide, searched)


def scale_of(model: Any) -> float:
    """Return what T5 multiplies its last states by before the head."""
    return model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0


@torch.no_grad()
def test_t5_runs_a_decoders_prompt_first() -> None:
    base, model = tuned(MODELS["t5"](), PromptsConfig(encoder_prompt_len=2, decoder_prompt_len=3, mid_dim=4))
    inputs = inputs_for(base)
    before, own = (prompts_of(stack.quincunx_tuned, [0] * 4) for stack in (model.encoder, model.decoder))
    mask = longer(inputs["attention_mask"], 2)
    states = base.encoder(inputs_embeds=torch.cat([before, base.shared(inputs["input_ids"])], 1), attention_mask=mask)
    seen: dict[str, Any] = {"encoder_hidden_states": states.last_hidden_state, "encoder_attention_mask": mask}
    first = base.decoder(inputs_embeds=own, use_cache=True, **seen)
    text = base.decoder(
        input_ids=inputs["decoder_input_ids"], past_key_values=first.past_key_values, use_cache=True, **seen
    )
    expected = base.lm_head(text.last_hidden_state * scale_of(base))
    torch.testing.assert_close(output_of(model, inputs), expected, rtol=1e-4, atol=1e-4)


def small(name: str) -> Any:
    """Return an encoder and decoder with positions of another kind than BART's."""
    import transformers

    sizes: dict[str, Any] = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 40}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32}
    sizes |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "dropout": 0.0, "pad_token_id": 1}
    torch.manual_seed(5)
    config = getattr(transformers, f"{name}Config")(**sizes)
    kind = "MarianMTModel" if name == "Marian" else f"{name}ForConditionalGeneration"
    return getattr(transformers, kind)(config).eval()


@pytest.mark.parametrize(("name", "offset"), [("MBart", 2), ("Pegasus", 0), ("Marian", 0), ("Blenderbot", 0)])
@torch.no_grad()
def test_a_text_stands_where_it_stood_without_a_prompt(name: str, offset: int) -> None:
    base, model = tuned(small(name), PromptsConfig(encoder_prompt_len=3))
    generator = torch.Generator().manual_seed(1)
    tokens, mask = torch.randint(4, 40, (2, 6), generator=generator), torch.ones(2, 6, dtype=torch.int64)
    mask[1, 4:] = 0
    encoder = base.model.encoder
    words = encoder.embed_tokens(tokens) * getattr(encoder, "embed_scale", 1.0)
    expected = bart_encoder(encoder, words, mask, prompts_of(model.model.encoder.quincunx_tuned, [0, 0]), offset)
    states = model.model.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)


def test_positions_by_the_shape_of_a_sequence() -> None:
    found = UnmovedPositions(2)(
        lambda shape, past=0: torch.arange(1, 1 + shape[1]).float()[:, None], torch.Size([3, 5])
    )
    assert found.flatten().tolist() == [0, 0, 1, 2, 3]


@torch.no_grad()
def test_an_encoder_without_a_decoder_gives_the_states_of_the_text() -> None:
    from transformers import T5EncoderModel

    whole: Any = MODELS["t5"]()
    alone: Any = T5EncoderModel(whole.config).eval()
    base, model = tuned(alone, PromptsConfig(encoder_prompt_len=3))
    inputs = inputs_for(whole)
    mask, before = inputs["attention_mask"], prompts_of(model.encoder.quincunx_tuned, [0] * 4)
    joined = torch.cat([before, base.shared(inputs["input_ids"])], 1)
    expected = base.encoder(inputs_embeds=joined, attention_mask=longer(mask, 3), output_hidden_states=True)
    found = model(input_ids=inputs["input_ids"], attention_mask=mask, output_hidden_states=True)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state[:, 3:])
    assert len(found.hidden_states) == len(expected.hidden_states) == 3
    for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(one, other[:, 3:])


@torch.no_grad()
def test_an_encoder_with_rotary_positions() -> None:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(8)
    tokens_of: Any = {"vocab_size": 40, "pad_token_id": 1, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3}
    config = ModernBertConfig(**sizes, **tokens_of, eos_token_id=3)
    base, model = tuned(ModernBertForMaskedLM(config).eval(), PromptsConfig(encoder_prompt_len=3))
    inputs = inputs_for(MODELS["bert"]())
    before = prompts_of(model.model.quincunx_tuned, [0] * 4)
    joined = torch.cat([before, base.model.get_input_embeddings()(inputs["input_ids"])], 1)
    expected = base(inputs_embeds=joined, attention_mask=longer(inputs["attention_mask"], 3).long()).logits[:, 3:]
    torch.testing.assert_close(output_of(model, inputs), expected, rtol=1e-4, atol=1e-5)
    placed = output_of(model, {**inputs, "position_ids": torch.arange(7)[None]})
    torch.testing.assert_close(placed, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_attention_maps_are_those_of_the_text_with_columns_for_the_prompt() -> None:
    _, model = tuned(MODELS["llama"](), PromptsConfig(decoder_prompt_len=2))
    model.set_attn_implementation("eager")
    inputs = inputs_for(model)
    found = model(**inputs, output_attentions=True).attentions
    length = inputs["input_ids"].shape[1]
    assert all(each.shape == (4, 4, length, length + 2) for each in found)
    torch.testing.assert_close(found[0].sum(-1), torch.ones(4, 4, length))
    assert bool((found[0][..., :2] > 0).all())


@torch.no_grad()
def test_the_language_model_of_a_model_of_images_gets_the_prompt() -> None:
    """Behind an image: words and visual tokens come to the language model fused, as embeddings."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    vision = CLIPVisionConfig(**sizes, image_size=16, patch_size=8)
    language = LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=40)
    torch.manual_seed(6)
    parts: Any = {"vision_config": vision, "text_config": language, "image_token_index": 39, "image_seq_length": 4}
    config = LlavaConfig(**parts)
    base, model = tuned(LlavaForConditionalGeneration(config).eval(), PromptsConfig(decoder_prompt_len=3))
    tokens = torch.tensor([[5, 39, 39, 39, 39, 6, 7], [8, 39, 39, 39, 39, 9, 9]])
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    fused: list[Tensor] = []
    hook = base.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: fused.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    base(input_ids=tokens, pixel_values=pixels)
    hook.remove()
    prompt = prompts_of(model.model.language_model.quincunx_tuned, [0, 0])

    def logits(whole: Tensor) -> Tensor:
        words = torch.cat([fused[0], base.model.language_model.embed_tokens(whole[:, 7:])], 1)
        found = base.model.language_model(inputs_embeds=torch.cat([prompt, words], 1), use_cache=False)
        return base.lm_head(found.last_hidden_state)[:, -1]

    given: dict[str, Any] = {"input_ids": tokens, "pixel_values": pixels, "attention_mask": torch.ones_like(tokens)}
    found = model.generate(**given, max_new_tokens=3, do_sample=False, eos_token_id=-1, pad_token_id=1)
    assert torch.equal(found, greedy(logits, tokens, 3))


@torch.no_grad()
def test_types_of_tokens_are_lengthened() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(7)
    base, model = tuned(
        GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=32)).eval(),
        PromptsConfig(decoder_prompt_len=2),
    )
    tokens, types = torch.randint(4, 40, (2, 5)), torch.tensor([[3, 3, 3, 6, 6]]).expand(2, -1)
    prompt = prompts_of(model.transformer.quincunx_tuned, [0, 0])
    joined = torch.cat([prompt, base.transformer.wte(tokens)], 1)
    expected = base(inputs_embeds=joined, token_type_ids=torch.cat([torch.zeros(2, 2).long(), types], 1)).logits[:, 2:]
    torch.testing.assert_close(model(input_ids=tokens, token_type_ids=types).logits, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_arguments_may_come_by_their_places_and_outputs_as_tuples() -> None:
    _, model = tuned(MODELS["llama"](), PromptsConfig(decoder_prompt_len=2))
    inputs = inputs_for(model)
    expected = model.model(**inputs).last_hidden_state
    found = model.model(inputs["input_ids"], inputs["attention_mask"], return_dict=False)
    assert isinstance(found, tuple) and torch.equal(found[0], expected)


@torch.no_grad()
def test_half_precision() -> None:
    _, model = tuned(MODELS["bart"](), PromptsConfig(encoder_prompt_len=2, decoder_prompt_len=2, mid_dim=4))
    inputs = inputs_for(model)
    expected = output_of(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(output_of(model, inputs).float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ["bart", "llama"])
@torch.no_grad()
def test_two_prompts_before_one_text_are_one_longer(name: str) -> None:
    both: tuple[Any, Any] = (MODELS[name](), MODELS[name]())
    keys = ["decoder_prompt_len"] if name == "llama" else ["encoder_prompt_len", "decoder_prompt_len"]
    lengths: list[Any] = [dict.fromkeys(keys, length) for length in (2, 3, 5)]
    short, more, long = (PromptsConfig(**each) for each in lengths)
    placements = [place(both[0], short), place(both[0], more)]
    chains: dict[str, SiteAdapter] = {
        path: Chain({str(n): each.adapters[path] for n, each in enumerate(placements)})
        for path in placements[0].adapters
    }
    inject(both[0], Placement(chains))
    whole = place(both[1], long)
    inject(both[1], whole)
    for path, part in whole.adapters.items():
        own: Any = part
        if hasattr(own, "prompt"):
            parts: list[Any] = [each.adapters[path] for each in placements]
            own.prompt.vectors.vectors.data = torch.cat([each.prompt.vectors.vectors for each in parts], 1)
    inputs = inputs_for(both[0])
    torch.testing.assert_close(output_of(both[0], inputs), output_of(both[1], inputs), rtol=1e-4, atol=1e-4)
    given = {key: inputs[key].flip(1) for key in ("input_ids", "attention_mask")}
    found = [model.generate(**given, max_new_tokens=STEPS, do_sample=False, eos_token_id=-1) for model in both]
    assert torch.equal(found[0], found[1])


@torch.no_grad()
def test_calls_that_cannot_be_had() -> None:
    from transformers import DynamicCache, StaticCache

    base, model = tuned(MODELS["llama"](), PromptsConfig(decoder_prompt_len=2))
    tokens = inputs_for(model)["input_ids"]
    with pytest.raises(UsageError, match="one of them, and not both"):
        model.model(input_ids=tokens, inputs_embeds=base.model.embed_tokens(tokens))
    with pytest.raises(UsageError, match=r"found one of shape \(4, 1, 7, 7\).*prefix"):
        model(input_ids=tokens, attention_mask=torch.ones(4, 1, 7, 7, dtype=torch.bool))
    with pytest.raises(UsageError, match="found one as dict"):
        model.model(input_ids=tokens, attention_mask={"full_attention": None})
    with pytest.raises(UsageError, match="fixed size has no room"):
        model(input_ids=tokens, past_key_values=StaticCache(model.config, max_cache_len=16))
    filled = DynamicCache(config=model.config)
    base(input_ids=tokens, past_key_values=filled)
    with pytest.raises(UsageError, match="a prompt of 2 is missing"):
        model(input_ids=tokens[:, :1], past_key_values=filled, attention_mask=torch.ones(4, 8))
