"""Causal language models, loaded and built, and what is refused."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import UsageError
from quincunx.nn.pretrained.causal import build_causal, load_causal, token_logits, windows
from small_encoders import tokenizer

BASE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = {
    "llama": {"intermediate_size": 24},
    "gpt2": {},
    "mistral": {"intermediate_size": 24, "sliding_window": 3},
    "qwen2": {"intermediate_size": 24, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "gpt_neox": {"intermediate_size": 24},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "granite": {"intermediate_size": 24, "logits_scaling": 4.0},
    "cohere": {"intermediate_size": 24, "logit_scale": 0.25},
}


def built(architecture="llama", **options):
    torch.manual_seed(0)
    sizes = {**BASE, **SIZES.get(architecture, {}), **options.pop("sizes", {})}
    return build_causal({"architecture": architecture, **sizes}, tokenizer(), **options)


@pytest.mark.parametrize("architecture", SIZES)
def test_architectures_are_built_and_their_heads_known(architecture):
    model = built(architecture).eval()
    assert model.config.vocab_size == len(tokenizer()) and model.config._attn_implementation == "sdpa"
    tokens = torch.tensor([[5, 9, 80]])
    found = token_logits(model, model.base_model(input_ids=tokens, use_cache=False).last_hidden_state)
    assert torch.allclose(found, model(input_ids=tokens, use_cache=False).logits, atol=1e-6)


def test_capped_logits_are_capped_as_the_model_does():
    sizes = {"head_dim": 8, "intermediate_size": 24, "final_logit_softcapping": 0.1, "initializer_range": 1.0}
    model = built("gemma2", sizes=sizes, attn_implementation="eager").eval()
    tokens = torch.tensor([[5, 9, 80]])
    found = token_logits(model, model.base_model(input_ids=tokens, use_cache=False).last_hidden_state)
    assert torch.allclose(found, model(input_ids=tokens, use_cache=False).logits, atol=1e-6)
    assert float(found.detach().abs().max()) < 0.1001


def test_windows_of_layers():
    assert windows(built("llama")) == {"full_attention": None}
    assert windows(built("mistral")) == {"sliding_attention": 3}
    assert windows(built("qwen2")) == {"full_attention": None, "sliding_attention": 5}


def test_heads_of_keys_follow_those_of_queries_and_dropout_has_the_architectures_names():
    assert built("qwen3", sizes={"head_dim": 8, "intermediate_size": 24}).config.num_key_value_heads == 2
    assert built("llama", sizes={"num_key_value_heads": 1}).config.num_key_value_heads == 1
    model = built("gpt2", dropout=0.2, attention_dropout=0.4)
    assert (model.config.resid_pdrop, model.config.attn_pdrop) == (0.2, 0.4) and model.training


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_comes_back_whole(tmp_path, tied):
    model = built("llama", sizes={"tie_word_embeddings": tied})
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    again, words = load_causal(tmp_path)
    assert words.get_vocab() == tokenizer().get_vocab()
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    one = again.get_input_embeddings().weight is again.get_output_embeddings().weight
    assert one == tied


def test_weights_have_the_type_asked_for_or_the_saved_one(tmp_path):
    built("llama", dtype="bfloat16").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    for word, dtype in (("float32", torch.float32), ("float16", torch.float16), ("auto", torch.bfloat16)):
        model, _ = load_causal(tmp_path, dtype=word)
        assert {each.dtype for each in model.parameters()} == {dtype}
    assert built("llama", dtype="auto").dtype == torch.float32
    with pytest.raises(UsageError, match="unknown dtype 'float64': choose float32, bfloat16, float16 or auto"):
        built("llama", dtype="float64")


def test_lacking_weights_are_named(tmp_path):
    from safetensors.torch import load_file, save_file

    built("llama").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({name: each for name, each in weights.items() if "layers.1.mlp.up" not in name}, file, {"format": "pt"})
    with pytest.raises(UsageError, match=r"lack 1 that a llama model has \(model.layers.1.mlp.up_proj.weight\)"):
        load_causal(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "sizes", "said"),
    [
        ("bert", {}, r"tokens see those after them\. Choose a decoder"),
        ("bart", {}, "is no plain decoder"),
        ("t5", {}, "is no plain decoder"),
        ("distilbert", {}, "has no causal language model in transformers"),
        ("lama", {}, "unknown architecture 'lama'; did you mean llama"),
        ("llama", {"hiden_size": 16}, "llama has no size 'hiden_size'; did you mean hidden_size"),
        ("llama", {"vocab_size": 20}, "vocab_size is 20, but the tokenizer has"),
        ("bloom", {}, "no bloom model with sdpa attention can be built"),
        ("gpt2", {"hidden_size": 15}, "no gpt2 model with sdpa attention can be built"),
    ],
)
def test_what_cannot_be_is_refused(architecture, sizes, said):
    with pytest.raises(UsageError, match=said):
        build_causal({"architecture": architecture, **BASE, **sizes}, tokenizer())


def test_layers_without_attention_are_refused():
    sizes = {"num_hidden_layers": 4, "intermediate_size": 24, "layer_types": ["linear_attention", "full_attention"] * 2}
    with pytest.raises(UsageError, match="layers of linear_attention, and only attention can be masked and kept"):
        build_causal({"architecture": "qwen3_next", **BASE, **sizes}, tokenizer())
