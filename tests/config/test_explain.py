"""The explanations in every form: complete, found under any name, and in step with what is read."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from guide_files import LISTOPS
from quincunx.config.explain import as_json, entries, explain_text, json_schema, markdown
from quincunx.config.read import read_text
from quincunx.config.schema import RecipeSchema, Section
from quincunx.errors import UsageError
from quincunx.recipes import schema_of, schemas
from reference.json_schema import accepts

SCHEMA = schema_of("long_range")


class Toy(Section):
    recipe: Literal["toy"] = "toy"
    """Recipe."""
    memory: int = 0
    """Memory."""


TOY = RecipeSchema("toy", "toy", Toy)
ENTRIES = {entry.path: entry for entry in entries(SCHEMA)}


def test_an_entry_says_everything() -> None:
    entry = ENTRIES["schedule.final_div_factor"]
    assert (entry.type, entry.default, entry.matters_when) == ("float >= 1", 100.0, "schedule.kind is linear or cos")
    assert entry.guide_keys == ("004:training.final_div_factor",)
    assert entry.aliases == ("training.final_div_factor",)
    assert "learning_rate / final_div_factor" in entry.doc


def test_every_documented_key_of_the_guide_appears_where_it_is_served() -> None:
    guide = read_text(LISTOPS, "lra.py", "python")
    documented = {".".join(map(str, path[1:])) for path, _ in guide.leaves()}
    served = {key.removeprefix("004:") for entry in ENTRIES.values() for key in entry.guide_keys}
    assert served == documented


def test_rows_of_the_guide_are_written_out() -> None:
    assert ENTRIES["chunking.samples_by_kind.hrr-bundled"].guide_keys == ("004:gpu_memory.hrr-bundled",)
    assert ENTRIES["chunking.samples_by_kind.none"].guide_keys == ()
    assert ENTRIES["chunking.samples_by_kind.none"].aliases == ("gpu_memory.none",)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("update.batch_size", "int >= 1"),
        ("encoder.pooling", "one of mean, cls"),
        ("encoder.dropout", "float >= 0 and < 1"),
        ("log.trackers", "list of one of jsonl, tensorboard"),
        ("optimizer.betas", "list of 2: float >= 0 and < 1"),
        ("update.clip_norm", "float > 0, or null"),
        ("encoder.tied_weights", "true or false"),
        ("optimizer", "section, or a `_target_` node"),
        ("optimizer._target_", "string (required)"),
        ("optimizer._args_", "list of any value"),
    ],
)
def test_types_in_words(path: str, words: str) -> None:
    assert ENTRIES[path].type == words


def test_json_holds_plain_values() -> None:
    found = json.loads(json.dumps(as_json(schemas())))
    row = next(each for each in found if each["path"] == "optimizer.betas")
    assert row == {
        "recipe": "long_range",
        "path": "optimizer.betas",
        "type": "list of 2: float >= 0 and < 1",
        "default": [0.9, 0.999],
        "doc": "Decay rates of the two running moments.",
        "aliases": [],
        "guide_keys": [],
        "matters_when": "",
    }


def test_a_setting_in_full() -> None:
    text = explain_text(SCHEMA, "training.final_div_factor")
    assert text.splitlines() == [
        "training.final_div_factor is an older name of schedule.final_div_factor",
        "",
        "schedule.final_div_factor",
        "  The last update's rate is learning_rate / final_div_factor.",
        "",
        "  type     float >= 1",
        "  default  100.0",
        "  acts     when schedule.kind is linear or cos",
        "  names    training.final_div_factor (guide 004)",
        "  set it   schedule.final_div_factor=VALUE on the command line",
    ]


def test_a_section_lists_its_settings_one_a_line() -> None:
    lines = explain_text(SCHEMA, "update").splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["batch_size", "accumulation", "clip_norm", "no_decay"]
    assert all(len(line) <= 110 for line in lines)


def test_the_recipe_lists_its_sections() -> None:
    text = explain_text(SCHEMA)
    assert all(f"\n  {section}" in text for section in ("encoder", "attention", "update", "seed"))


def test_a_block_of_the_guide_leads_to_its_settings() -> None:
    text = explain_text(SCHEMA, "training")
    assert ["training.num_epochs", "budget.epochs"] in [line.split() for line in text.splitlines()]
    assert explain_text(SCHEMA, "gpu_memory").startswith("gpu_memory is an older name of chunking.samples_by_kind")


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("training.lr_schedular", "did you mean `lr_scheduler`?"),
        ("num_layers", "`num_layers` belongs under `encoder`"),
        ("lr", "did you mean `optimizer.learning_rate` or `pretraining.learning_rate`?"),
        ("qqqqq", "lists the sections"),
        ("a..b", "write a setting as in"),
    ],
)
def test_an_unknown_path_is_a_usage_error_with_a_suggestion(path: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=r"no setting|no path") as caught:
        explain_text(SCHEMA, path)
    assert remedy in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_page_holds_every_setting_and_every_name_of_the_guide() -> None:
    page = markdown(schemas())
    for entry in ENTRIES.values():
        assert f"`{entry.path}`" in page
        assert all(f"`{alias}`" in page for alias in entry.aliases)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in rows)
    assert "quincunx explain --markdown" in page


def test_editors_are_told_every_meaning() -> None:
    schema = json_schema(schemas())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    described = schema["$defs"]["long_range.Encoder"]["properties"]["num_heads"]
    assert described == {"type": "integer", "minimum": 1, "default": 8, "description": "Attention heads."}
    for name, part in schema["$defs"].items():
        assert part["additionalProperties"] is name.endswith("Target")
        assert all(each["description"] for each in part["properties"].values()), name


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (SCHEMA.starter, True),
        ("{}", True),
        ("base: other.yaml", True),
        ("base: [a.yaml, b.yaml]\nseed: 3", True),
        ("optimizer: {_target_: torch.optim.SGD, lr: 0.1, nested: {a: 1}}", True),
        ("optimizer: {learning_rate: 1, betas: [0.9, 0.99]}", True),
        ("evaluate: {every: 0.5}\ncheckpoint: {every: epoch}", True),
        ("attention: {options: {hrr-bundled: {grad_checkpointing: true}}}", True),
        ("compute: {device: cuda:1}", True),
        ("optimizer: {lr: 1}", False),
        ("optimizer: {betas: [0.9]}", False),
        ("encoder: {num_head: 3}", False),
        ("encoder: {num_heads: 0}", False),
        ("encoder: {num_heads: '3'}", False),
        ("encoder: {dropout: 1.0}", False),
        ("evaluate: {every: sometimes}", False),
        ("compute: {device: gpu}", False),
        ("attention: {kind: softmaxx}", False),
        ("seed: true", False),
        ("recipe: other", False),
        ("training: {batch_size: 3}", False),
    ],
)
@pytest.mark.parametrize("others", [[], [TOY]], ids=["alone", "beside another recipe"])
def test_editors_accept_and_refuse_what_the_reader_does(text: str, valid: bool, others: list[RecipeSchema]) -> None:
    value = read_text(text, "f.yaml", "yaml").tree
    assert accepts(json_schema([SCHEMA, *others]), value) is valid


def test_the_recipe_chooses_the_schema_of_editors() -> None:
    schema = json_schema([SCHEMA, TOY])
    assert accepts(schema, {"recipe": "toy", "memory": 3})
    assert accepts(schema, {"memory": 3})
    assert not accepts(schema, {"recipe": "long_range", "memory": 3})
    assert not accepts(schema, {"recipe": "toy", "encoder": {}})
    assert not accepts(schema, {"memory": 3, "encoder": {}})
