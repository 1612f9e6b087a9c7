"""Pretrained encoders from folders: whole, safe, or refused with what to do; folders of sentence-transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import UsageError
from quincunx.nn.pretrained import Tokens, find_folder, load_backbone, load_scorer, read_layout
from small_encoders import backbone, tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT and its tokenizer; not to be changed."""
    folder = tmp_path_factory.mktemp("bert")
    backbone().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_what_was_saved_is_what_is_loaded(saved):
    model, made = load_backbone(saved)
    expected = backbone().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert model.training and Tokens(made).fingerprint == Tokens(tokenizer()).fingerprint


def test_weights_are_single_precision_whatever_they_were_saved_in(folder):
    backbone().to(torch.bfloat16).save_pretrained(folder)
    assert {parameter.dtype for parameter in load_backbone(folder)[0].parameters()} == {torch.float32}


def test_special_tokens_are_added_and_the_embeddings_grow(saved):
    model, made = load_backbone(saved, special_tokens=["<code>", "<text>"])
    old = backbone().get_input_embeddings().weight
    new = model.get_input_embeddings().weight
    assert len(made) == len(new) == len(old) + 2 and torch.equal(new[:-2], old)
    ids = made("a <code> fox")["input_ids"]
    assert len(old) in ids and made.convert_ids_to_tokens(len(old)) == "<code>"
    assert model.config.vocab_size == len(new)
    again, same = load_backbone(saved, special_tokens=["[MASK]"])  # known already
    assert len(same) == len(old) == again.get_input_embeddings().num_embeddings


def test_dropout_is_overridden(saved):
    model, _ = load_backbone(saved, dropout=0.25, attention_dropout=0.5)
    of_weights = {module.p for name, module in model.named_modules() if name.endswith("self.dropout")}
    others = {getattr(m, "p", None) for name, m in model.named_modules() if not name.endswith("self.dropout")}
    assert (of_weights, others) == ({0.5}, {0.25, None})


def test_the_form_of_attention_is_chosen(saved):
    assert load_backbone(saved, attn_implementation="eager")[0].config._attn_implementation == "eager"
    with pytest.raises(UsageError, match="could not be loaded"):
        load_backbone(saved, attn_implementation="fastest")


def test_a_lacking_weight_is_an_error_not_a_random_number(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"lack 1 that a bert model has \(encoder.layer.0.output.dense.weight\)"):
        load_backbone(folder)


def test_pickled_weights_are_named_and_not_read(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"pytorch_model.bin, a pickle, which is never read.*Convert it once"):
        load_backbone(folder)


def test_code_of_a_folder_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    with pytest.raises(UsageError, match="the config in"):
        load_backbone(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("path", ["./missing", "/no/such/folder", "a/b/c", ""])
def test_a_path_that_leads_nowhere_is_no_hub_name(path):
    with pytest.raises(UsageError, match="no folder of a pretrained model"):
        find_folder(path)


def test_a_file_or_an_empty_folder_is_no_model(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no folder"):
        find_folder(tmp_path / "file")
    with pytest.raises(UsageError, match=r"has no config\.json"):
        load_backbone(tmp_path)
    with pytest.raises(UsageError, match="has no revision"):
        find_folder(tmp_path, "main")


def test_offline_a_hub_name_is_looked_for_in_the_cache_alone(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert huggingface_hub.is_offline_mode()
    with pytest.raises(UsageError, match=r"'nobody/nothing' is no folder here.*give sizes to build a model from"):
        find_folder("nobody/nothing")


def test_a_reranker_comes_whole_and_an_encoder_gets_a_new_head(saved, tmp_path):
    model, _, fresh = load_scorer(saved)
    assert fresh and all("classifier" in name or "pooler" in name for name in fresh)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    again, _, fresh = load_scorer(tmp_path)
    assert fresh == [] and torch.equal(again.classifier.weight, model.classifier.weight)
    model.config.num_labels = 3
    model.config.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="classifies into 3 labels"):
        load_scorer(tmp_path)


def sentence_folder(folder: Path, *modules: tuple[str, str, dict[str, object]]) -> Path:
    """Make a folder of sentence-transformers of one of transformers."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, (kind, place, config) in enumerate(modules, 1):
        listed.append(
            {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.models.{kind}"}
        )
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


DENSE = {"in_features": 16, "out_features": 4, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
POOLING = ("Pooling", "1_Pooling", {"pooling_mode": "cls"})


def test_the_layout_of_a_sentence_transformers_folder_is_read(folder):
    sentence_folder(folder, POOLING, ("Dense", "2_Dense", DENSE), ("Normalize", "3_Normalize", {}))
    weights = {"linear.weight": torch.randn(4, 16), "linear.bias": torch.randn(4)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": False}))
    general = {"prompts": {"query": "query: ", "document": ""}, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(general))
    layout = read_layout(folder)
    assert (layout.pooling, layout.normalize, layout.max_length, layout.similarity) == ("cls", True, 20, "cosine")
    assert layout.prompts == {"query": "query: "} and layout.transformer == folder
    (dense,) = layout.dense
    assert dense.activation == "tanh" and torch.equal(dense.weight, weights["linear.weight"])
    assert torch.equal(dense.bias, weights["linear.bias"])
    assert load_backbone(folder)[0].config.hidden_size == 16


def test_a_plain_folder_has_no_layout(saved):
    assert read_layout(saved) is None


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([("Pooling", "1_Pooling", {"pooling_mode_max_tokens": True})], "pooling pooling_mode_max_tokens cannot"),
        ([("Pooling", "1_Pooling", {"pooling_mode": ["cls", "mean"]})], "pooling cls, mean cannot"),
        ([("Pooling", "1_Pooling", {"pooling_mode": "mean", "include_prompt": False})], "include_prompt=false"),
        ([POOLING, ("LSTM", "2_LSTM", {})], "models.LSTM' at its place cannot be represented"),
        ([POOLING, ("Dense", "2_Dense", {**DENSE, "activation_function": "mine.Swish"})], "activation_function="),
        ([POOLING, ("Dense", "2_Dense", {**DENSE, "use_residual": True})], "use_residual=True"),
        ([POOLING, ("Dense", "2_Dense", DENSE)], "no safetensors file with the Dense layer's weights"),
        ([POOLING, ("Normalize", "2_Normalize", {}), ("Dense", "3_Dense", DENSE)], "models.Dense' at its place"),
        ([], "names no Pooling"),
    ],
)
def test_modules_that_we_have_not_are_named(folder, modules, said):
    with pytest.raises(UsageError, match=said):
        read_layout(sentence_folder(folder, *modules))


def test_settings_that_we_have_not_are_named(folder):
    sentence_folder(folder, POOLING)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    with pytest.raises(UsageError, match="do_lower_case"):
        read_layout(folder)
    (folder / "sentence_bert_config.json").unlink()
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "euclidean"}))
    with pytest.raises(UsageError, match="similarity 'euclidean'"):
        read_layout(folder)
