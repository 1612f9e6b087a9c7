"""Which recipe a file describes and which of its tasks, told from its keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guide_files import LISTOPS, SERVED
from quincunx.config.document import Document, Problem
from quincunx.config.read import read_text
from quincunx.config.recognise import infer_recipe, unwrap_task
from quincunx.config.schema import Name, RecipeSchema, Section
from quincunx.config.sections.training import Update
from quincunx.recipes import schema_of

LONG_RANGE = schema_of("long_range")


class Other(Section):
    memory: int = 0
    """Its own."""
    update: Update = Update()
    """Shared."""


OTHER = RecipeSchema(
    "other", "another", Other, names=(Name("xbm.size", "memory", guide="000"),), guide_roots=frozenset({"xbm"})
)
SCHEMAS = (LONG_RANGE, OTHER)
TWO_TASKS = replace(LONG_RANGE, tasks=("listops", "text"))


def document(text: str, name: str = "f.yaml") -> Document:
    return read_text(text, name, "yaml")


def guide(text: str = LISTOPS) -> Document:
    return read_text(text, "lra.py", "python")


def inferred(*texts: str) -> str:
    found = infer_recipe([document(text) for text in texts], SCHEMAS)
    return found if isinstance(found, str) else f"{found.mark}: {found.message}; {found.remedy}"


@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("recipe: other\nencoder: {num_heads: 3}", "other"),
        ("encoder: {num_heads: 3}", "long_range"),
        ("training: {batch_size: 3}", "long_range"),
        ("memory: 4", "other"),
        ("xbm: {size: 4}", "other"),
        ("xbm: {sizz: 4}", "other"),
        ("update: {batch_size: 3}\nmodel: {num_head: 3}", "long_range"),
    ],
)
def test_the_keys_tell_the_recipe(text: str, recipe: str) -> None:
    assert inferred(text) == recipe


def test_blocks_of_tasks_count_as_their_contents() -> None:
    assert infer_recipe([guide()], SCHEMAS) == "long_range"


def test_the_last_layer_that_names_a_recipe_decides() -> None:
    assert inferred("recipe: other", "recipe: long_range", "memory: 3") == "long_range"


def test_what_cannot_be_told_is_asked_for() -> None:
    assert inferred("foo: 3") == (
        "f.yaml:1:1: no recipe is named, and none is known by the keys found; "
        "add `recipe:` with one of long_range, other"
    )
    assert inferred("update: {batch_size: 3}").startswith("f.yaml:1:1: several recipes have these keys")
    assert inferred("").endswith("long_range, other")


def test_an_unknown_recipe_is_placed_with_a_suggestion() -> None:
    assert inferred("recipe: long-rang") == "f.yaml:1:9: there is no recipe `long-rang`; did you mean `long_range`?"
    assert inferred("recipe: 3") == "f.yaml:1:9: there is no recipe `3`; choose one of long_range, other"


def test_the_only_task_is_taken_and_said() -> None:
    found = guide()
    assert unwrap_task(found, LONG_RANGE, None) == "task listops, the only one in the file"
    assert found.tree["task"] == "listops"
    assert found.tree["training"]["batch_size"] == SERVED["update"]["batch_size"]
    assert str(found.mark(("training", "batch_size"))) == "lra.py:24:13"
    assert str(found.mark(("task",))) == "lra.py:1:1"


def test_settings_beside_the_block_are_kept() -> None:
    found = document("attention: {kind: none}\nlistops: {model: {num_head: 3}}\n")
    unwrap_task(found, LONG_RANGE, None)
    assert found.tree == {"attention": {"kind": "none"}, "model": {"num_head": 3}, "task": "listops"}


def test_a_flat_file_is_left_alone() -> None:
    found = document("model: {num_head: 3}\nencoder: {num_layers: 2}\n")
    assert unwrap_task(found, LONG_RANGE, "listops") is None
    assert found.tree == {"model": {"num_head": 3}, "encoder": {"num_layers": 2}}


TWO = "listops: {model: {num_head: 3}}\ntext: {model: {num_head: 5}}\n"


def test_one_of_several_tasks_is_chosen_by_name() -> None:
    for task, heads in (("listops", 3), ("TEXT", 5)):
        found = document(TWO)
        assert unwrap_task(found, TWO_TASKS, task) == f"task {task.lower()}, one of listops, text in the file"
        assert found.tree["model"] == {"num_head": heads}


def refused(text: str, task: str | None, schema: RecipeSchema = TWO_TASKS) -> str:
    found = unwrap_task(document(text), schema, task)
    assert isinstance(found, Problem)
    return f"{found.mark}: {found.message}; {found.remedy}"


def test_refusals() -> None:
    assert refused(TWO, None) == (
        "f.yaml:1:1: the file holds several tasks: listops, text; choose one, for example task=listops"
    )
    assert refused(
        TWO, "image"
    ) == "f.yaml:1:1: the file has no task `image`, it holds listops, text; choose one of " + ("listops, text")
    assert refused(TWO.replace("text", "speech"), "speech", LONG_RANGE) == (
        "f.yaml:2:1: `speech` is not a task of recipe long_range; known: listops, text, retrieval, image, pathfinder"
    )
    assert refused("listop: {model: {num_head: 3}}", None, LONG_RANGE).endswith(
        "did you mean `listops`? known: listops, text, retrieval, image, pathfinder"
    )


def test_an_unknown_task_does_not_disturb_the_chosen_one() -> None:
    assert unwrap_task(document(TWO), LONG_RANGE, "listops") == "task listops, one of listops, text in the file"


def test_two_ways_of_naming_the_task_must_agree() -> None:
    assert refused(f"task: text\n{TWO}", "listops").startswith("f.yaml:1:7: `task` is text, but task listops")
    assert refused("listops: {task: text, model: {num_head: 3}}", None).startswith(
        "f.yaml:1:17: `listops.task` is text"
    )
    assert unwrap_task(document(f"task: text\n{TWO}"), TWO_TASKS, None) == "task text, one of listops, text in the file"


def test_a_setting_both_inside_and_beside_the_block_is_refused() -> None:
    text = "update: {batch_size: 3}\nlistops:\n  model: {num_head: 3}\n  update: {batch_size: 4}\n"
    assert "`listops.update.batch_size` is also given as `update.batch_size` (f.yaml:1:10)" in refused(text, None)
