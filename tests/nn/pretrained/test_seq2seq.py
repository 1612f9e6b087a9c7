"""Encoder-decoders are built of sizes, loaded from folders, and read again in the form that a run keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx.errors import UsageError
from quincunx.nn.pretrained.kept import files_of
from quincunx.nn.pretrained.seq2seq import build_seq2seq, load_seq2seq, read_seq2seq
from quincunx.nn.pretrained.train_tokenizer import train_tokenizer

SIZES = {"width": 16, "hidden": 24, "num_layers": 2, "num_heads": 2}
TEXTS = ["a red cube", "two blue balls", "is there a red ball"]


def tokenizer() -> Any:
    return train_tokenizer(TEXTS, vocabulary=60)


def built(architecture: str = "t5", **more: Any) -> Any:
    torch.manual_seed(0)
    return build_seq2seq(architecture, SIZES, tokenizer(), **more)


@pytest.mark.parametrize("architecture", ["t5", "bart", "mbart", "pegasus", "mt5", "blenderbot"])
def test_a_built_model_reads_writes_and_stops(architecture: str) -> None:
    words = tokenizer()
    model = built(architecture, dropout=0.0)
    inputs = words(TEXTS, return_tensors="pt", padding=True)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    found = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels)
    assert torch.isfinite(found.loss)
    said = model.eval().generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_length=6)
    assert said[0, 0] == model.config.decoder_start_token_id
    assert model.config.eos_token_id == words.sep_token_id
    assert model.config.pad_token_id == words.pad_token_id


def test_dropout_is_everywhere_or_nowhere() -> None:
    own = {"dropout", "attention_dropout", "activation_dropout"}
    config = built("bart", dropout=0.3).config
    assert {name: getattr(config, name) for name in own} == dict.fromkeys(own, 0.3)
    assert built("t5", dropout=0.3).config.dropout_rate == 0.3


def test_options_win_over_sizes() -> None:
    config = built("t5", options={"num_decoder_layers": 1, "d_ff": 10}).config
    assert (config.num_layers, config.num_decoder_layers, config.d_ff, config.d_kv) == (2, 1, 10, 8)


def test_what_is_saved_is_loaded_and_its_form_read_again(tmp_path: Path) -> None:
    model, words = built("bart"), tokenizer()
    model.save_pretrained(tmp_path / "m")
    words.save_pretrained(tmp_path / "m")
    loaded, _ = load_seq2seq(tmp_path / "m", dropout=0.0)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)
    (tmp_path / "k").mkdir()
    for name, text in files_of(model, words).items():
        (tmp_path / "k" / name).write_text(text)
    again = read_seq2seq(tmp_path / "k")
    assert {n: w.shape for n, w in again.state_dict().items()} == {n: w.shape for n, w in model.state_dict().items()}


def test_what_writes_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no encoder-decoder"):
        built("bert", options={"hidden_size": 16})
    with pytest.raises(UsageError, match="unknown architecture 'tfive'"):
        built("tfive")
    with pytest.raises(UsageError, match="no size 'd_mdel'"):
        built("t5", options={"d_mdel": 3})
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(UsageError):
        load_seq2seq(tmp_path)
