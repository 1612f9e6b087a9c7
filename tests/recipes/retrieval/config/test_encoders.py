"""Encoders and objectives as settings ask for them, where another place could have swallowed the setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx.nn.pretrained import build_backbone
from quincunx.recipes.retrieval.assemble import make_model, make_objective
from quincunx.recipes.retrieval.encoders import longest, make_encoders, room
from retrieval_guides import loaded
from small_encoders import SENTENCES, SIZES, tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    build_backbone(
        {"architecture": "bert", **SIZES["bert"], "max_position_embeddings": 64}, tokenizer()
    ).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def config(*overrides: str, **settings: Any) -> Any:
    build = {"num_layers": 1, "width": 16, "num_heads": 2, "hidden": 16, "positions": 8}
    return loaded(
        {"recipe": "retrieval", "data": {"path": "d"}, "encoder": {"build": build}, **settings}, *overrides
    ).config


def made(*overrides: str) -> Any:
    return make_encoders(config(*overrides), lambda: SENTENCES)


def test_special_tokens_join_a_tokenizer_that_is_loaded_for_a_built_encoder(folder: Path):
    plain = made(f"encoder.tokenizer.path={folder}")
    found = made(f"encoder.tokenizer.path={folder}", "encoder.special_tokens=['[ASK]']")
    assert len(found.query_tokenizer) == len(plain.query_tokenizer) + 1
    assert found.query.get_input_embeddings().num_embeddings == len(found.query_tokenizer)
    assert found.query_tokenizer.tokenize("[ASK] fox")[0] == "[ASK]"


def test_sizes_of_an_encoder_to_build_do_not_limit_one_that_is_loaded(folder: Path):
    assert room("query", made(f"encoder.tokenizer.path={folder}")) == 8
    assert room("query", made(f"encoder.path={folder}", f"encoder.tokenizer.path={folder}")) == 24
    limited = config(f"encoder.path={folder}", "query.max_length=5")
    assert longest(limited, "query", make_encoders(limited)) == 5


@pytest.mark.parametrize("built", [True, False], ids=["built", "loaded"])
def test_a_frozen_cross_encoder_trains_its_head(folder: Path, built: bool):
    chosen = () if built else (f"encoder.path={folder}",)
    encoders = made("mode=cross-encoder", "encoder.freeze=backbone", *chosen)
    trained = {name for name, parameter in encoders.query.named_parameters() if parameter.requires_grad}
    assert {"classifier.weight", "classifier.bias"} <= trained
    assert not any("encoder.layer" in name or "embeddings" in name for name in trained)
    assert built or "bert.pooler.dense.weight" in trained, "which is new, and would stay at random"


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], ("listwise", 1.0, 1.0, None)),
        (["cross.loss=pairwise"], ("pairwise", 1.0, 1.0, None)),
        (["cross.loss=pairwise", "cross.margin=0.3"], ("hinge", 0.3, 1.0, None)),
        (["cross.loss=pointwise", "cross.positive_weight=4"], ("pointwise", 1.0, 4.0, None)),
        (["cross.loss=pointwise", "cross.highest_grade=3"], ("pointwise", 1.0, 1.0, 3.0)),
    ],
)
def test_the_loss_of_a_cross_encoder(overrides: list[str], wanted: tuple[Any, ...]):
    objective: Any = make_objective(config("mode=cross-encoder", *overrides), None)
    assert (objective.kind, objective.margin, objective.positive_weight, objective.highest_grade) == wanted


def test_a_poly_encoder_whose_weights_are_all_frozen_is_told(folder: Path):
    from quincunx.config.document import ConfigError

    frozen = (f"encoder.path={folder}", "mode=poly-encoder", "encoder.freeze=backbone")
    found = make_encoders(config(*frozen))
    assert sum(p.numel() for p in make_model(config(*frozen), found).parameters() if p.requires_grad) == 64 * 16
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        config(*frozen, "poly.kind=all")
