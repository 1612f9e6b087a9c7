"""`quincunx params`: a model's parameters, counted without weights and without data, as a run of it has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Said
from quincunx.config.load import load
from quincunx.engine.footprint import count_parameters
from quincunx.preview import count
from quincunx.recipes import recipe_of, schemas

TRUNK = {"embedding_dim": 16, "hidden_dim": 32, "head_dim": 8, "num_heads": 2, "num_layers": 2, "max_seq_len": 40}
LISTOPS: dict[str, Any] = {"recipe": "long_range", "task": "listops", "encoder": TRUNK}
BY_RULE: dict[str, Any] = {
    "recipe": "compression",
    "data": {"source": "tasks"},
    "tasks": {"name": "bucket_sort", "train": 20, "dev": 5},
    "model": {"build": {"width": 16, "num_layers": 1, "num_heads": 2}},
}


def counted(config: dict[str, Any], *changes: str) -> Any:
    return count(load(config, changes, schemas=schemas()))[0]


def test_a_trunk_and_its_parts_by_hand() -> None:
    found = counted(LISTOPS, "encoder.num_layers=1")
    block = 4 * (16 * 16 + 16) + (16 * 32 + 32 + 32 * 16 + 16) + 2 * 2 * 16
    assert found.groups["encoder.blocks"] == (block, block)
    assert found.groups["encoder.norm"] == (32, 32)
    assert found.trainable == found.total == sum(total for _, total in found.groups.values())
    assert found.percent == 100


def test_adapters_are_a_group_and_the_rest_is_frozen() -> None:
    pytest.importorskip("peft")
    found = counted(LISTOPS, "init_from=anywhere", "peft.method=bottleneck", "peft.options.reduction_factor=4")
    assert found.groups["adapters"] == (4 * (16 * 4 * 2 + 4 + 16),) * 2
    assert found.groups["encoder.blocks"][0] == 0 < found.groups["encoder.blocks"][1]
    assert found.groups["classifier"][0] == found.groups["classifier"][1]
    assert found.trainable == found.groups["adapters"][0] + found.groups["classifier"][0]


@pytest.mark.parametrize("config", [LISTOPS, BY_RULE], ids=["long_range", "compression"])
def test_it_counts_what_a_run_has(config: dict[str, Any]) -> None:
    loaded = load(config, schemas=schemas())
    recipe = recipe_of(loaded.schema.name)
    decided, _ = recipe.decide(loaded.config)
    made = count_parameters(recipe.parts(decided))
    found, _ = count(loaded)
    assert {"trainable": found.trainable, "total": found.total} == made


def test_an_encoder_s_weights_need_not_be_there(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from quincunx.nn.pretrained.placeholder import placeholder_tokenizer

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    form = transformers.BertConfig(**sizes, intermediate_size=32, vocab_size=60, max_position_embeddings=24)
    form.save_pretrained(tmp_path)
    placeholder_tokenizer(60).save_pretrained(tmp_path)
    config = {"recipe": "retrieval", "data": {"path": "nowhere"}, "encoder": {"path": str(tmp_path)}}
    found = counted(config)
    model = transformers.BertModel(form, add_pooling_layer=False)
    assert found.total == sum(parameter.numel() for parameter in model.parameters())
    adapted = counted(config, "peft.method=lora", "peft.options={r: 2, target_modules: [query]}")
    assert (adapted.trainable, adapted.total) == (2 * 2 * 16, found.total + 2 * 2 * 16)


def test_on_the_command_line(cli: Callable[..., Said], work: Path) -> None:
    path = work / "trunk.json"
    path.write_text(json.dumps(LISTOPS), encoding="utf-8")
    shown = cli("params", str(path), "--json")
    found = json.loads(shown.out)
    assert shown.code == 0 and found.keys() == {"trainable", "total", "percent", "groups"}
    assert found["total"] == counted(LISTOPS).total == sum(group["total"] for group in found["groups"].values())
    text = cli("params", str(path)).out
    assert f"{found['total']:,}" in text and "100 % of the parameters are trained" in text
    wrong = cli("params", str(path), "encoder.num_layer=3")
    assert wrong.code == 2 and "did you mean" in wrong.err
